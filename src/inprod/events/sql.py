"""SQL expressions over the events table, with every value that a person gave as a bound parameter.

A column that was promoted is read from its own column, any other attribute from the two maps:

    text:   t_<name>, else strings[name], else numbers[name] as text, else NULL
    number: n_<name>, else numbers[name], else NULL
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from inprod.errors import Invalid
from inprod.events.columns import FIXED
from inprod.events.query import Filter
from inprod.operators import Op, Scalar

TABLE = "events"
PARAMETERS_MAX = 5000
# NULL for every row, and no literal: the engine refuses `sum(NULL * x)` of one.
NO_NUMBER = "nullIf(toFloat64(sample_rate), toFloat64(sample_rate))"
PROMOTABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,119}")
_EXACT_AS_TEXT = 1e15  # below it a whole Float64 prints as its digits, in Python and in the engine

NEGATIVE: Mapping[Op, Op] = {
    Op.NOT_EQUAL: Op.EQUAL,
    Op.DOES_NOT_START_WITH: Op.STARTS_WITH,
    Op.DOES_NOT_END_WITH: Op.ENDS_WITH,
    Op.DOES_NOT_CONTAIN: Op.CONTAINS,
    Op.DOES_NOT_EXIST: Op.EXISTS,
    Op.NOT_IN: Op.IN,
}
_COMPARISONS = (Op.GREATER, Op.GREATER_OR_EQUAL, Op.LESS, Op.LESS_OR_EQUAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement and the values bound to its `{name:Type}` places."""

    text: str
    parameters: Mapping[str, object] = field(default_factory=dict[str, object])


class Binder:
    """Collects the values of one statement; the same value and type share one place.

    `texts` and `numbers` are the promoted columns, as `EventStore.binder()` knows them; without
    them the statement is as right and slower.
    """

    def __init__(self, *, texts: Collection[str] = (), numbers: Collection[str] = ()) -> None:
        self.texts = frozenset(texts)
        self.numbers = frozenset(numbers)
        self.parameters: dict[str, object] = {}
        self._places: dict[tuple[str, str], str] = {}

    def bind(self, value: object, sql_type: str) -> str:
        """Return the place (`{p3:String}`) that stands for `value`; `sql_type` is never input."""
        key = (sql_type, repr(value))
        place = self._places.get(key)
        if place is None:
            name = f"p{len(self.parameters)}"
            if len(self.parameters) >= PARAMETERS_MAX:
                raise Invalid(
                    "too_many_values", f"the query has over `{PARAMETERS_MAX}` different values",
                    where="$.filters", hint="Use fewer values.",
                )  # fmt: skip
            self.parameters[name] = value
            place = self._places[key] = f"{{{name}:{sql_type}}}"
        return place

    def text(self, value: str) -> str:
        """Return the place for a String."""
        return self.bind(value, "String")

    def number(self, value: float) -> str:
        """Return the place for a Float64."""
        return self.bind(float(value), "Float64")

    def integer(self, value: int) -> str:
        """Return the place for an Int64."""
        return self.bind(int(value), "Int64")

    def statement(self, text: str) -> Statement:
        """Return `text` with everything bound so far."""
        return Statement(text=text, parameters=dict(self.parameters))


def text_of(column: str, binder: Binder) -> str:
    """Return SQL of type Nullable(String) for a column: NULL when the event has none."""
    fixed = FIXED.get(column)
    if fixed is not None:
        return fixed.text
    if column in binder.texts:
        return promoted_name("t", column)
    return text_from_maps(binder.text(column))


def number_of(column: str, binder: Binder) -> str:
    """Return SQL of type Nullable(Float64): NULL when the event has none, or it is no number."""
    fixed = FIXED.get(column)
    if fixed is not None:
        return fixed.number or NO_NUMBER
    if column in binder.numbers:
        return promoted_name("n", column)
    return number_from_maps(binder.text(column))


def exists(column: str, binder: Binder) -> str:
    """Return SQL that is true when the event has the column, as text or as a number."""
    fixed = FIXED.get(column)
    if fixed is not None:
        return fixed.exists
    if column in binder.texts:
        return f"isNotNull({promoted_name('t', column)})"
    key = binder.text(column)
    return f"(mapContains(sattrs, {key}) OR mapContains(nattrs, {key}))"


def promoted_name(prefix: Literal["t", "n"], column: str) -> str:
    """Return the quoted name of a promoted column; only for names that PROMOTABLE matches."""
    assert PROMOTABLE.fullmatch(column), "promotion refuses other names"
    return f"`{prefix}_{column}`"


def text_from_maps(key: str) -> str:
    """Return the text expression for a key that is already SQL (a place or a safe literal)."""
    return (
        f"if(sattrs[{key}] != '', sattrs[{key}], multiIf(mapContains(sattrs, {key}), '', "
        f"mapContains(nattrs, {key}), toString(nattrs[{key}]), NULL))"
    )


def number_from_maps(key: str) -> str:
    """Return the number expression for a key that is already SQL."""
    return f"if(mapContains(nattrs, {key}), nattrs[{key}], NULL)"


def predicate(filters: Sequence[Filter], combination: Literal["AND", "OR"], binder: Binder) -> str:
    """Return SQL that is true or false, never NULL, for the filters; `true` for none."""
    claims = [claim(one, binder) for one in filters]
    if not claims:
        return "true"
    return "(" + f" {combination} ".join(claims) + ")"


def claim(one: Filter, binder: Binder) -> str:
    """Return SQL that is true when the event fulfils the filter.

    A missing column fails every operator but the negative ones. Raises Invalid when the value does
    not fit the operator.
    """
    positive = NEGATIVE.get(one.op)
    if positive is not None:
        return f"NOT {_positive(positive, one, binder)}"
    return _positive(one.op, one, binder)


def _positive(op: Op, one: Filter, binder: Binder) -> str:
    if op is Op.EXISTS:
        return exists(one.column, binder)
    if op is Op.IN:
        if not isinstance(one.value, tuple):
            raise _misfit(one, "a list")
        return _among(one.column, one.value, binder)
    if one.value is None or isinstance(one.value, tuple):
        raise _misfit(one, "one text, number, true or false")
    if op is Op.EQUAL:
        return _among(one.column, (one.value,), binder)
    if op in _COMPARISONS:
        return _compare(op, one, one.value, binder)
    text = text_of(one.column, binder)
    place = binder.text(canonical(one.value))
    match op:
        case Op.STARTS_WITH:
            return f"ifNull(startsWith({text}, {place}), false)"
        case Op.ENDS_WITH:
            return f"ifNull(endsWith({text}, {place}), false)"
        case Op.CONTAINS:
            return f"ifNull(position({text}, {place}) > 0, false)"
        case _:
            raise AssertionError(op)


def _compare(op: Op, one: Filter, value: Scalar, binder: Binder) -> str:
    if isinstance(value, bool):
        raise _misfit(one, "a number or a text")
    if isinstance(value, str):
        return f"ifNull({text_of(one.column, binder)} {op} {binder.text(value)}, false)"
    return f"ifNull({number_of(one.column, binder)} {op} {binder.number(value)}, false)"


def _among(column: str, values: Sequence[Scalar], binder: Binder) -> str:
    texts = [canonical(value) for value in values]
    numbers = [
        float(value)
        for value in values
        if isinstance(value, (int, float))
        and not isinstance(value, bool)
        and not (float(value).is_integer() and abs(value) < _EXACT_AS_TEXT)
    ]
    parts: list[str] = []
    if len(texts) == 1:
        parts.append(f"{text_of(column, binder)} = {binder.text(texts[0])}")
    elif texts:
        parts.append(f"{text_of(column, binder)} IN {binder.bind(texts, 'Array(String)')}")
    parts.extend(f"{number_of(column, binder)} = {binder.number(number)}" for number in numbers)
    if not parts:
        return "false"
    return "(" + " OR ".join(f"ifNull({part}, false)" for part in parts) + ")"


def canonical(value: Scalar) -> str:
    """Return a value as the store writes it as text: `true`, `500`, `0.25`, or the text itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return str(value)


def _misfit(one: Filter, wanted: str) -> Invalid:
    return Invalid(
        "wrong_value", f"`{one.op}` on `{one.column}` cannot take `{one.value}`", where="$.value",
        hint=f"Give {wanted} as the value.",
    )  # fmt: skip
