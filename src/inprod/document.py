"""Documents that people write, turned into frozen dataclasses and back, with errors that help.

The standard library only, because the SDK reads flag documents too. Unknown keys are refused with
the nearest name (`unknown="refuse"`) or left out (`unknown="ignore"`, for an SDK older than its
server). Numbers annotated with a unit (`units.Seconds`, `units.Percent` ...) accept text: `5%`.

A dataclass checks itself in `__post_init__` by raising `Invalid` with a `where` relative to itself
(`rules[0].percent`); `read` puts the path of the object in front.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Protocol,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from inprod.errors import Invalid, nearest, shown
from inprod.units import Unit, parse

_TYPE_NAMES = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
DEPTH_MAX = 32


class DataclassInstance(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


T = TypeVar("T", bound=DataclassInstance)


class _Shape(NamedTuple):
    hints: dict[str, Any]
    required: tuple[str, ...]


def read(kind: type[T], plain: object, *, where: str = "$", unknown: str = "refuse") -> T:
    """Return `plain` (mappings, lists, scalars) as a `kind`.

    Raises Invalid with the JSON path of what is wrong: a missing or unknown field, a wrong type,
    or whatever the dataclass itself refuses.
    """
    return cast("T", _object(kind, plain, where, unknown, 0))


def write(value: object) -> Any:
    """Return `value` as mappings, lists and scalars; fields that equal their default are left out.

    `read(type(value), write(value)) == value`.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: write(getattr(value, field.name))
            for field in fields(value)
            if not _is_default(field, getattr(value, field.name))
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): write(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [write(item) for item in cast("list[Any]", value)]
    return value


def _is_default(field: Field[Any], value: object) -> bool:
    if field.default is not MISSING:
        return value == field.default
    if field.default_factory is not MISSING:
        return value == field.default_factory()
    return False


@functools.cache
def _shape(kind: type) -> _Shape:
    hints = get_type_hints(kind, include_extras=True)
    names = {field.name: hints[field.name] for field in fields(kind) if field.init}
    required = tuple(
        field.name
        for field in fields(kind)
        if field.init and field.default is MISSING and field.default_factory is MISSING
    )
    return _Shape(names, required)


def _object(kind: type, plain: object, where: str, unknown: str, depth: int) -> object:
    if depth > DEPTH_MAX:
        raise Invalid(
            "too_deep", f"the document is nested over {DEPTH_MAX} levels", where=where,
            hint="Make it flatter.",
        )  # fmt: skip
    if not isinstance(plain, Mapping):
        raise _wrong(plain, "an object", where)
    given = cast("Mapping[object, object]", plain)
    shape = _shape(kind)
    values: dict[str, object] = {}
    for key, item in given.items():
        hint = shape.hints.get(key) if isinstance(key, str) else None
        if hint is not None:
            values[str(key)] = _value(hint, item, f"{where}.{key}", unknown, depth + 1)
        elif unknown == "refuse":
            raise Invalid(
                "unknown_field", f"`{shown(key)}` is not a field here",
                where=f"{where}.{shown(key)}", hint=nearest(shown(key), shape.hints),
            )  # fmt: skip
    for name in shape.required:
        if name not in values:
            raise Invalid(
                "missing_field", f"`{name}` is missing", where=where, hint=f"Add `{name}`."
            )
    try:
        return kind(**values)
    except Invalid as error:
        inner = error.where.removeprefix("$").removeprefix(".")
        joint = "" if not inner or inner.startswith("[") else "."
        error.where = f"{where}{joint}{inner}"
        raise


def _value(hint: Any, plain: object, where: str, unknown: str, depth: int) -> object:
    unit = None
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        unit = next((extra for extra in extras if isinstance(extra, Unit)), None)
    if unit is not None:
        try:
            number = parse(cast("str", plain), unit)
        except Invalid as error:
            error.where = where
            raise
        return int(number) if hint is int else number
    origin = get_origin(hint)
    if origin is Union or origin is types.UnionType:
        return _union(get_args(hint), plain, where, unknown, depth)
    if origin is tuple:
        if not isinstance(plain, (list, tuple)):
            raise _wrong(plain, "a list", where)
        item_hint = get_args(hint)[0]
        items = cast("list[object]", plain)
        return tuple(
            _value(item_hint, item, f"{where}[{index}]", unknown, depth + 1)
            for index, item in enumerate(items)
        )
    if origin is dict or origin is Mapping:
        if not isinstance(plain, Mapping):
            raise _wrong(plain, "an object", where)
        item_hint = get_args(hint)[1]
        pairs = cast("Mapping[object, object]", plain)
        return {
            str(key): _value(item_hint, item, f"{where}.{key}", unknown, depth + 1)
            for key, item in pairs.items()
        }
    if origin is Literal:
        choices = get_args(hint)
        if plain in choices:
            return plain
        raise _not_a_choice(plain, [str(choice) for choice in choices], where)
    return _scalar(hint, plain, where, unknown, depth)


def _union(choices: tuple[Any, ...], plain: object, where: str, unknown: str, depth: int) -> object:
    if plain is None and type(None) in choices:
        return None
    others = [choice for choice in choices if choice is not type(None)]
    if len(others) == 1:
        return _value(others[0], plain, where, unknown, depth)
    for choice in others:  # exact scalar types first, so that True is never read as 1
        if choice in (bool, int, float, str) and type(plain) is choice:
            return plain
    failure: Invalid | None = None
    for choice in others:
        try:
            return _value(choice, plain, where, unknown, depth)
        except Invalid as error:
            if failure is None or len(error.where) > len(failure.where):
                failure = error
    assert failure is not None
    raise failure


def _scalar(hint: Any, plain: object, where: str, unknown: str, depth: int) -> object:
    if hint is Any or hint is object:
        return plain
    if isinstance(hint, type):
        if is_dataclass(hint):
            return _object(hint, plain, where, unknown, depth)
        if issubclass(hint, Enum):
            try:
                return hint(plain)
            except ValueError:
                raise _not_a_choice(plain, [str(one.value) for one in hint], where) from None
        if hint is float and isinstance(plain, int) and not isinstance(plain, bool):
            return float(plain)
        if hint in (str, int, float, bool) and type(plain) is hint:
            return plain
    wanted = _TYPE_NAMES.get(cast("type", hint), "a value of the documented type")
    raise _wrong(plain, wanted, where)


def _wrong(plain: object, wanted: str, where: str) -> Invalid:
    return Invalid(
        "wrong_type", f"`{shown(plain)}` is not {wanted}", where=where, hint=f"Write {wanted} here."
    )


def _not_a_choice(plain: object, choices: list[str], where: str) -> Invalid:
    return Invalid(
        "unknown_value", f"`{shown(plain)}` is not known here", where=where,
        hint=nearest(shown(plain), choices),
    )  # fmt: skip
