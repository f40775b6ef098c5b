"""Attribute values as they come (protobuf, OTLP/JSON, plain JSON) into texts and numbers.

    string            text                      bytes   text, base64
    true, false       text `true`, `false`      list    text, JSON
    integer, double   number                    object  unrolled by dots, 5 deep; deeper as JSON
    |integer| > 2**53, NaN, infinity: text      null    left out

A name is in one of the two only; the last one given wins.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from typing import Any, cast

import orjson
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from inprod.errors import Invalid
from inprod.events.otlp_fields import integer_in, malformed, objects, text_in

DEPTH_MAX = 5
NESTING_MAX = 100
EXACT_MAX = 2**53


def take_protobuf(
    attributes: Iterable[KeyValue], strings: dict[str, str], numbers: dict[str, float]
) -> None:
    """Put protobuf attributes into the dictionaries."""
    for pair in attributes:
        key = pair.key
        value = pair.value
        text = value.string_value  # most are texts; an empty one takes the longest way
        if text:
            strings[key] = text
            numbers.pop(key, None)
            continue
        kind = value.WhichOneof("value")
        if kind == "int_value":
            number = value.int_value
            if not -EXACT_MAX <= number <= EXACT_MAX:
                put(key, number, strings, numbers)
                continue
        elif kind == "double_value":
            number = value.double_value
            if number - number != 0.0:  # NaN or infinite
                put(key, number, strings, numbers)
                continue
        elif kind == "bool_value":
            strings[key] = "true" if value.bool_value else "false"
            numbers.pop(key, None)
            continue
        else:
            put(key, plain_protobuf(value), strings, numbers)
            continue
        numbers[key] = float(number)
        strings.pop(key, None)


def take_json(attributes: object, strings: dict[str, str], numbers: dict[str, float]) -> None:
    """Put OTLP/JSON attributes into the dictionaries; raises Invalid when they are malformed."""
    for pair in objects(attributes, "attributes"):
        put(text_in(pair, "key"), from_otlp_json(pair.get("value")), strings, numbers)


def put(key: str, value: Any, strings: dict[str, str], numbers: dict[str, float]) -> None:
    """Put one value (None, text, bool, int, float, list, dict) under its key, or keys.

    Raises Invalid for one that is too deep.
    """
    if isinstance(value, str):
        strings[key] = value
        numbers.pop(key, None)
    elif isinstance(value, bool):
        strings[key] = "true" if value else "false"
        numbers.pop(key, None)
    elif isinstance(value, (int, float)):
        if -EXACT_MAX <= value <= EXACT_MAX or (isinstance(value, float) and math.isfinite(value)):
            numbers[key] = float(value)
            strings.pop(key, None)
        else:
            strings[key] = str(value)
            numbers.pop(key, None)
    elif isinstance(value, dict):
        _unroll(key, cast("dict[str, Any]", value), strings, numbers, 1)
    elif isinstance(value, list):
        strings[key] = _json(cast("list[Any]", value))
        numbers.pop(key, None)


def _unroll(
    prefix: str,
    value: dict[str, Any],
    strings: dict[str, str],
    numbers: dict[str, float],
    depth: int,
) -> None:
    for name, item in value.items():
        key = f"{prefix}.{name}"
        if isinstance(item, dict) and depth < DEPTH_MAX:
            _unroll(key, cast("dict[str, Any]", item), strings, numbers, depth + 1)
        elif isinstance(item, dict):
            put(key, _json(cast("dict[str, Any]", item)), strings, numbers)
        else:
            put(key, item, strings, numbers)


def _json(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in cast("list[Any]", value)):
        return orjson.dumps(value).decode()
    return orjson.dumps(_without_odd_numbers(value, 0)).decode()


def _without_odd_numbers(value: Any, depth: int) -> Any:
    """Return the value with what JSON or orjson cannot hold (huge integers, NaN) as text.

    Raises Invalid when it is nested over `NESTING_MAX` levels.
    """
    if depth > NESTING_MAX:
        raise Invalid(
            "too_deep", f"an attribute is nested over `{NESTING_MAX}` levels",
            hint="Make it flatter.",
        )  # fmt: skip
    if isinstance(value, list):
        return [_without_odd_numbers(one, depth + 1) for one in cast("list[Any]", value)]
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        return {key: _without_odd_numbers(one, depth + 1) for key, one in pairs.items()}
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    return value if math.isfinite(value) else str(value)


def plain_protobuf(value: AnyValue) -> Any:
    """Return an AnyValue as plain Python; deeper than protobuf itself allows cannot come here."""
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return None
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "array_value":
            return [plain_protobuf(one) for one in value.array_value.values]
        case "kvlist_value":
            return {pair.key: plain_protobuf(pair.value) for pair in value.kvlist_value.values}
        case _:
            return getattr(value, kind, None)


def from_otlp_json(value: object, depth: int = 0) -> Any:
    """Return an OTLP/JSON AnyValue as plain Python; raises Invalid when it is malformed."""
    if value is None:
        return None
    if not isinstance(value, dict) or depth > NESTING_MAX:
        raise malformed("value")
    pairs = cast("dict[str, Any]", value)
    for kind, item in pairs.items():
        if item is None:
            continue
        match kind:
            case "stringValue":
                return text_in(pairs, kind)
            case "boolValue":
                if isinstance(item, bool):
                    return item
                raise malformed(kind)
            case "intValue":
                return integer_in(pairs, kind)
            case "doubleValue":
                return _double(item)
            case "bytesValue":
                return _base64(text_in(pairs, kind))
            case "arrayValue":
                values = objects(_object(item, kind).get("values"), kind)
                return [from_otlp_json(one, depth + 1) for one in values]
            case "kvlistValue":
                return {
                    text_in(one, "key"): from_otlp_json(one.get("value"), depth + 1)
                    for one in objects(_object(item, kind).get("values"), kind)
                }
            case _:
                continue
    return None


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise malformed(name)
    return cast("dict[str, Any]", value)


def _double(value: object) -> float:
    if isinstance(value, str):
        try:
            return float(value.replace("Infinity", "inf"))
        except ValueError:
            raise malformed("doubleValue") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise malformed("doubleValue")
    return float(value)


def _base64(text: str) -> str:
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode()
    except ValueError:
        raise malformed("bytesValue") from None
