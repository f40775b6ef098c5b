"""Attributes as the bytes of a KeyValue into texts and numbers, remembered: most come again.

    b"\\n\\x06region\\x12\\x06\\n\\x04eu-1"  ->  ("region", "eu-1")

What comes out is what `attributes.take_protobuf` gives for the same KeyValues as messages. Texts
under 16 kB, small integers, doubles and booleans are read here; everything else, and all that looks
odd, goes the long way over protobuf itself, which alone says what is malformed.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from struct import Struct
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from inprod.errors import Invalid
from inprod.events.attributes import take_protobuf

# When there is no room all are forgotten: what is common is learned again at once.
REMEMBERED_MAX = 32_768
REMEMBERED_BYTES_MAX = 4_000_000  # as encoded; with all else 13 MB, 28 at worst
# Names and texts of a short attribute are within the limits of an event, whatever they are: an
# unrolled name is shorter than its encoding, JSON and base64 at most six times as long.
SHORT_BYTES = 500
_KEY, _VALUE = 0x0A, 0x12
_STRING, _BOOL, _INT, _DOUBLE = 0x0A, 0x10, 0x18, 0x21
_ONE_BYTE = 0x80  # a length or number under this is one byte; lengths may have two
_INT_BYTES_MAX = 7  # 49 bits: exact as a float, and never negative
_DOUBLE_BYTES = 8
_BOOLS = {0: "false", 1: "true"}
_double = Struct("<d").unpack_from

Several: TypeAlias = "tuple[tuple[str, str | float], ...]"
Pair: TypeAlias = "tuple[str, str | float | Several]"


class _Memory(dict[bytes, Pair]):
    """The pair of each encoded attribute, learned when asked for; raises Invalid for a malformed.

    An attribute that is none, several (an object) or not short has the key `""` and a tuple.
    Shared by all threads without a lock: a pair depends on the bytes alone and every operation on
    the dictionary is atomic, so threads can at worst do the same work twice, go over the bound by
    an entry each, or miscount the bytes of one, until all are forgotten.
    """

    __slots__ = ("size_bytes",)

    def __init__(self) -> None:
        super().__init__()
        self.size_bytes = 0

    def __missing__(self, data: bytes) -> Pair:
        pair = _quick(data) or _slow(data)
        value = pair[1]
        if len(data) > SHORT_BYTES:
            return pair if isinstance(value, tuple) else ("", ((pair[0], value),))
        if not isinstance(value, float) or value.is_integer():  # fractions do not come again
            if len(self) >= REMEMBERED_MAX or self.size_bytes >= REMEMBERED_BYTES_MAX:
                self.clear()
                self.size_bytes = 0
            self.size_bytes += len(data)
            self[data] = pair
        return pair


_pair_of = _Memory().__getitem__


def take_encoded(
    attributes: Collection[bytes], strings: dict[str, str], numbers: dict[str, float]
) -> bool:
    """Put encoded attributes into the dictionaries; raises Invalid when one is malformed.

    Says whether all are known to be short, so that no limit on a name or a text is exceeded.
    """
    is_short = True
    key: str
    value: Any  # a Pair's; the checker cannot narrow by class, which is what is fast
    for key, value in map(_pair_of, attributes):
        if value.__class__ is str:
            strings[key] = value
        elif value.__class__ is float:
            numbers[key] = value
        else:
            is_short = False
            for one, inner in value:
                if inner.__class__ is str:
                    strings[one] = inner
                else:
                    numbers[one] = inner
    if not strings.keys().isdisjoint(numbers.keys()):
        _keep_last(attributes, strings, numbers)
    return is_short


def _keep_last(
    attributes: Collection[bytes], strings: dict[str, str], numbers: dict[str, float]
) -> None:
    """Of a name given both as text and as number, keep what came last."""
    last: dict[str, str | float] = {}
    for key, value in map(_pair_of, attributes):
        last.update(value if isinstance(value, tuple) else ((key, value),))
    for key in strings.keys() & numbers.keys() & last.keys():
        if isinstance(last[key], str):
            del numbers[key]
        else:
            del strings[key]


def _quick(data: bytes) -> Pair | None:
    """Return the pair of a simple attribute as every SDK writes it, None for any other."""
    try:
        middle = data[1] + 2  # where the value's field begins
        if data[0] != _KEY or data[1] >= _ONE_BYTE or data[middle] != _VALUE:
            return None
        size = len(data)
        begin, left = middle + 2, data[middle + 1]  # the AnyValue
        if left >= _ONE_BYTE:
            if data[begin] >= _ONE_BYTE:  # three bytes or more
                return None
            begin, left = begin + 1, left - _ONE_BYTE + data[begin] * _ONE_BYTE
        if begin + left != size:
            return None
        value: str | float | None
        if data[begin] == _STRING:
            start, left = begin + 2, data[begin + 1]  # the text
            if left >= _ONE_BYTE:  # two bytes: the text is in an AnyValue under 16 kB
                start, left = start + 1, left - _ONE_BYTE + data[start] * _ONE_BYTE
            if start + left != size:
                return None
            value = data[start:].decode()
        else:
            value = _quick_scalar(data, begin, left - 1)
        return None if value is None else (sys.intern(data[2:middle].decode()), value)
    except (IndexError, UnicodeDecodeError):
        return None


def _quick_scalar(data: bytes, begin: int, left: int) -> str | float | None:
    tag = data[begin]
    if tag == _INT:
        if left <= _INT_BYTES_MAX:
            return _unsigned(data, begin + 1)
    elif tag == _DOUBLE:
        if left == _DOUBLE_BYTES:
            number = _double(data, begin + 1)[0]
            return number if number - number == 0.0 else None  # NaN and infinity are texts
    elif tag == _BOOL and left == 1:
        return _BOOLS.get(data[begin + 1])
    return None


def _unsigned(data: bytes, begin: int) -> float | None:
    """Return the variable-length number that is the rest of the data, None when there is more."""
    number = shift = 0
    for position in range(begin, len(data)):
        byte = data[position]
        number |= (byte & 0x7F) << shift
        if byte < _ONE_BYTE:
            return float(number) if position == len(data) - 1 else None
        shift += 7
    return None


def _slow(data: bytes) -> Pair:
    strings: dict[str, str] = {}
    numbers: dict[str, float] = {}
    try:
        take_protobuf((KeyValue.FromString(data),), strings, numbers)
    except DecodeError:
        raise malformed_protobuf() from None
    pairs: Several = (*strings.items(), *numbers.items())
    return pairs[0] if len(pairs) == 1 else ("", pairs)


def malformed_protobuf() -> Invalid:
    """Return the error for a body that protobuf cannot read."""
    return Invalid(
        "malformed_otlp", "the body is not an OTLP request in protobuf",
        hint="Send it whole, with the Content-Type it is written in.",
    )  # fmt: skip
