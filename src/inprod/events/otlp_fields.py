"""Fields of OTLP/JSON objects, read as OTLP's JSON encoding defines them; anything else is refused.

Field names are camelCase, ids are hex, 64-bit integers are numbers or decimal text, enums are
numbers (names are understood too), unknown fields are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from inprod.errors import Invalid


def objects(value: object, name: str) -> list[dict[str, Any]]:
    """Return a JSON list of objects, empty when it is absent; raises Invalid for anything else."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(
        isinstance(one, dict) for one in cast("list[Any]", value)
    ):
        raise malformed(name)
    return cast("list[dict[str, Any]]", value)


def text_in(fields: Mapping[str, Any], name: str) -> str:
    """Return a text field, empty when it is absent; raises Invalid for another type."""
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise malformed(name)
    return value


def integer_in(fields: Mapping[str, Any], name: str) -> int:
    """Return an integer field (a number or decimal text), 0 when it is absent."""
    value = fields.get(name)
    if value is None:
        return 0
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and len(value) <= 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**64:
        raise malformed(name)
    return value


def unsigned_in(fields: Mapping[str, Any], name: str) -> int:
    """Return an integer field that cannot be negative, 0 when it is absent."""
    value = integer_in(fields, name)
    if value < 0:
        raise malformed(name)
    return value


def id_in(fields: Mapping[str, Any], name: str) -> bytes:
    """Return a trace or span id as bytes, empty when it is absent; raises Invalid unless hex."""
    try:
        return bytes.fromhex(text_in(fields, name))
    except ValueError:
        raise malformed(name) from None


def enum_in(fields: Mapping[str, Any], name: str, prefix: str, members: Sequence[str]) -> int:
    """Return an enum field as its number; `members` are the names without `prefix`, in order."""
    value = fields.get(name)
    if isinstance(value, str) and value.removeprefix(prefix) in members:
        return list(members).index(value.removeprefix(prefix))
    return integer_in(fields, name)


def object_in(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object field, empty when it is absent; raises Invalid for another type."""
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise malformed(name)
    return cast("dict[str, Any]", value)


def malformed(name: str) -> Invalid:
    """Return the error for a field that OTLP/JSON does not allow."""
    return Invalid(
        "malformed_otlp", f"`{name}` is malformed", where=f"$..{name}",
        hint="Send OTLP in its JSON encoding.",
    )  # fmt: skip
