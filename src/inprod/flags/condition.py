"""Conditions compiled to closures: `holds(context, targeting_key) -> bool`, which never raise.

Types are strict: `5` is not `"5"`, `true` is not `1`. A value of another type than the condition's
fails every positive claim; each negative claim is the exact opposite of its positive one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from inprod.flags.flag import Condition
from inprod.operators import Op, Scalar

Context = Mapping[str, object]
Holds = Callable[[Context, str | None], bool]
Find = Callable[[Context, str | None], object]

TARGETING_KEY = "targetingKey"
USER = "user.id"
_NEGATIVE = {
    Op.NOT_EQUAL: Op.EQUAL,
    Op.NOT_IN: Op.IN,
    Op.DOES_NOT_START_WITH: Op.STARTS_WITH,
    Op.DOES_NOT_END_WITH: Op.ENDS_WITH,
    Op.DOES_NOT_CONTAIN: Op.CONTAINS,
    Op.DOES_NOT_EXIST: Op.EXISTS,
}


def elsewhere(attribute: str) -> Find:
    """Return how to find an attribute that is not in the context under its full name.

    `user.id` and `targetingKey` stand for each other; `a.b` is looked for inside `a`.
    """

    def user(context: Context, key: str | None) -> object:
        if key:
            return key
        other = TARGETING_KEY if attribute == USER else USER
        found = context.get(other)
        return _inside(context, USER) if found is None else found

    def inside(context: Context, _key: str | None) -> object:
        return _inside(context, attribute)

    def nowhere(_context: Context, _key: str | None) -> object:
        return None

    if attribute in (USER, TARGETING_KEY):
        return user
    return inside if "." in attribute else nowhere


def find(context: Context, key: str | None, attribute: str) -> object:
    """Return the attribute's value, None when it is absent."""
    found = context.get(attribute)
    return elsewhere(attribute)(context, key) if found is None else found


def _inside(context: Context, path: str) -> object:
    """Return the value at a dotted path, where each dot may be part of a name or a step down."""
    position = path.find(".")
    while position > 0:
        inner = context.get(path[:position])
        if isinstance(inner, Mapping):
            nested = cast("Context", inner)
            rest = path[position + 1 :]
            found = nested.get(rest)
            return _inside(nested, rest) if found is None else found
        position = path.find(".", position + 1)
    return None


def compile_condition(condition: Condition) -> Holds:
    """Return the closure that says whether the condition holds."""
    positive = _NEGATIVE.get(condition.op)
    op = positive or condition.op
    name = condition.attribute
    other = elsewhere(name)
    if op is Op.IN:
        values = cast("tuple[Scalar, ...]", condition.value)
        if positive is None and all(isinstance(value, str) for value in values):
            return _in_texts(name, other, frozenset(cast("tuple[str, ...]", values)))
    test = _claim(op, condition.value)
    if positive is None:

        def holds(context: Context, key: str | None) -> bool:
            value = context.get(name)
            if value is None:
                value = other(context, key)
            return value is not None and test(value)

        return holds

    def fails(context: Context, key: str | None) -> bool:
        value = context.get(name)
        if value is None:
            value = other(context, key)
        return value is None or not test(value)

    return fails


def _in_texts(name: str, other: Find, texts: frozenset[str]) -> Holds:
    """The commonest condition, without a second call."""

    def holds(context: Context, key: str | None) -> bool:
        value = context.get(name)
        if value is None:
            value = other(context, key)
        return isinstance(value, str) and value in texts

    return holds


def _claim(op: Op, operand: Scalar | tuple[Scalar, ...] | None) -> Callable[[object], bool]:
    """Return the positive claim on a value that is there."""
    if op is Op.EXISTS:
        return lambda _value: True
    if op is Op.IN:
        wanted = frozenset(_typed(value) for value in cast("tuple[Scalar, ...]", operand))
        return lambda value: isinstance(value, (str, bool, int, float)) and _typed(value) in wanted
    if op is Op.EQUAL:
        one = _typed(cast("Scalar", operand))
        return lambda value: isinstance(value, (str, bool, int, float)) and _typed(value) == one
    if isinstance(operand, str):
        return _claim_on_text(op, operand)
    limit = cast("float", operand)
    match op:
        case Op.GREATER:
            return lambda value: _is_number(value) and cast("float", value) > limit
        case Op.GREATER_OR_EQUAL:
            return lambda value: _is_number(value) and cast("float", value) >= limit
        case Op.LESS:
            return lambda value: _is_number(value) and cast("float", value) < limit
        case _:
            assert op is Op.LESS_OR_EQUAL, op
            return lambda value: _is_number(value) and cast("float", value) <= limit


def _claim_on_text(op: Op, text: str) -> Callable[[object], bool]:
    match op:
        case Op.STARTS_WITH:
            return lambda value: isinstance(value, str) and value.startswith(text)
        case Op.ENDS_WITH:
            return lambda value: isinstance(value, str) and value.endswith(text)
        case Op.CONTAINS:
            return lambda value: isinstance(value, str) and text in value
        case Op.GREATER:
            return lambda value: isinstance(value, str) and value > text
        case Op.GREATER_OR_EQUAL:
            return lambda value: isinstance(value, str) and value >= text
        case Op.LESS:
            return lambda value: isinstance(value, str) and value < text
        case _:
            assert op is Op.LESS_OR_EQUAL, op
            return lambda value: isinstance(value, str) and value <= text


def _typed(value: Scalar) -> tuple[str, Scalar]:
    """Keep `true` apart from `1`, and `1` together with `1.0`."""
    if isinstance(value, bool):
        return "b", value
    return ("s", value) if isinstance(value, str) else ("n", value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
