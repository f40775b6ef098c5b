from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from inprod.errors import Invalid
from inprod.events import encoded
from inprod.events.attributes import take_protobuf
from inprod.events.encoded import REMEMBERED_MAX, SHORT_BYTES, take_encoded
from inprod.events.intake import Terms
from inprod.events.otlp import traces_from_protobuf
from support.event_otlp import NOW_NS, SpanSpec, any_value, protobuf

TERMS = Terms.at(NOW_NS, retain_days=30)
Taken = tuple[dict[str, str], dict[str, float]]

names = st.sampled_from(["", "a", "b", "a.b", "k" * 127, "k" * 128, "é", "k" * 501])
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=140),
    st.sampled_from(["", "x" * 127, "x" * 128, "é" * 64, "x" * 600, "\x00"]),
)
integers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1, 127, 128, 2**49 - 1, 2**49, 2**53, 2**53 + 1, -1, -(2**53), 2**63 - 1]),
)
scalars = st.one_of(
    texts,
    st.booleans(),
    integers,
    st.floats(allow_nan=True, allow_infinity=True),
    st.binary(max_size=6),
    st.none(),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)


def key_value(key: str, value: Any) -> bytes:
    return KeyValue(key=key, value=any_value(value)).SerializeToString()


def field(number: int, wire: int, content: bytes) -> bytes:
    return bytes([number << 3 | wire]) + content


def lengthy(number: int, content: bytes) -> bytes:
    return field(number, 2, varint(len(content)) + content)


def varint(number: int, size: int = 0) -> bytes:
    """Return the number as a varint, of `size` bytes at least."""
    out = bytearray()
    while number > 0x7F or len(out) + 1 < size:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


# Encodings no SDK writes but protobuf reads, or must not: odd tags, lengths, orders, repetitions.
odd_varints = st.builds(varint, st.integers(0, 2**64 - 1), st.integers(0, 11))
odd_fields = st.one_of(
    st.builds(lengthy, st.integers(1, 9), st.binary(max_size=8) | texts.map(str.encode)),
    st.builds(field, st.integers(1, 9), st.just(0), odd_varints | st.binary(max_size=3)),
    st.builds(field, st.integers(1, 9), st.just(1), st.binary(max_size=9)),
    st.floats().map(lambda number: field(4, 1, struct.pack("<d", number))),
    st.integers(0, 2).map(lambda number: field(2, 0, varint(number))),
    odd_varints.map(lambda number: field(3, 0, number)),
)
odd_values = st.lists(odd_fields, max_size=2).map(b"".join)
odd_pairs = st.lists(
    st.one_of(
        st.binary(max_size=4).map(lambda key: lengthy(1, key)),
        odd_values.map(lambda value: lengthy(2, value)),
        odd_fields,
    ),
    max_size=3,
).map(b"".join)
plain = st.builds(key_value, st.sampled_from(["", "a", "k" * 127, "é"]), scalars)


def damaged(data: bytes, at: int, change: str, byte: int) -> bytes:
    """Return the data with one byte changed, added or taken, or cut off."""
    at %= max(len(data), 1)
    match change:
        case "set":
            return data[:at] + bytes([byte]) + data[at + 1 :]
        case "add":
            return data[:at] + bytes([byte]) + data[at:]
        case "take":
            return data[:at] + data[at + 1 :]
        case _:
            return data[:at]


near = st.builds(
    damaged,
    plain,
    st.integers(0, 5) | st.integers(0, 300),
    st.sampled_from(["set", "add", "take", "cut"]),
    st.integers(0, 255) | st.sampled_from([0, 1, 2, 0x0A, 0x10, 0x12, 0x18, 0x21, 0x7F, 0x80]),
)
pairs = st.one_of(st.builds(key_value, names, values), plain, odd_pairs, near, near)


def by_messages(attributes: list[bytes]) -> Taken | None:
    """Return what the attributes give as protobuf's own messages, None when it refuses one."""
    strings, numbers = {"a": "nearer wins", "r": "kept"}, {"b": 1.0, "s": 2.0}
    try:
        messages = [KeyValue.FromString(data) for data in attributes]
    except DecodeError:
        return None
    take_protobuf(messages, strings, numbers)
    return strings, numbers


def by_bytes(attributes: list[bytes]) -> Taken | None:
    strings, numbers = {"a": "nearer wins", "r": "kept"}, {"b": 1.0, "s": 2.0}
    try:
        is_short = take_encoded(attributes, strings, numbers)
    except Invalid as error:
        assert error.code == "malformed_otlp"
        return None
    if is_short:
        assert all(len(key) <= SHORT_BYTES for key in strings.keys() | numbers.keys())
        assert all(len(text) <= 6 * SHORT_BYTES for text in strings.values())
    return strings, numbers


@given(st.lists(pairs, max_size=6))
@example([lengthy(1, b"k") + lengthy(2, lengthy(1, b"\xff"))])
@example([lengthy(1, b"\xed\xa0\x80") + lengthy(2, lengthy(1, b"x"))])
@example([lengthy(1, b"k") + lengthy(2, lengthy(1, b"a") + field(3, 0, b"\x05"))])
@example([lengthy(1, b"k") + lengthy(2, field(3, 0, varint(5, 7)))])
@example([lengthy(1, b"k") + lengthy(2, field(3, 0, b"\x80"))])
@example([lengthy(1, b"k") + lengthy(2, field(4, 1, struct.pack("<d", -0.0)))])
@example([key_value("k", float("nan"))])
@example([key_value("k", "x" * length) for length in (124, 125, 126, 127, 128, 129, 255, 256)])
@example([key_value("k", "x" * length) for length in (16_379, 16_380, 16_383, 16_384, 40_000)])
@example([lengthy(1, b"k") + lengthy(2, b"\x0a\xc9\x01" + b"x" * 200)])
@example([lengthy(1, b"k") + b"\x12\x80\x80\x0a\xfd\x7f" + b"x" * 16_381])
@example([lengthy(1, b"k") + b"\x12\xcc\x81\x00\x0a\xc9\x01" + b"x" * 201])
@example([lengthy(1, b"k") + lengthy(2, b"\x0a\xc9\x81\x00" + b"x" * 201)])
@example([lengthy(1, b"k") + lengthy(2, lengthy(1, b"x" * 200)) + lengthy(1, b"last")])
@example([key_value("k", float("-inf"))])
@example([lengthy(1, b"k") + lengthy(2, field(3, 0, b"\x05") + field(2, 0, b"\x01"))])
@example([lengthy(1, b"k") + lengthy(2, field(2, 0, b"\x01") + field(3, 0, b"\x05"))])
@example([lengthy(1, b"k") + lengthy(2, field(2, 0, b"\x02"))])
@example([lengthy(1, b"k") + lengthy(2, field(3, 0, b"\x05")) + lengthy(1, b"last")])
@example([lengthy(1, b"k") + lengthy(2, lengthy(1, b"x")) + lengthy(1, b"last")])
@example([lengthy(1, b"k") + lengthy(2, b"\x0a\x81\x00x")])
@example([lengthy(1, b"k") + b"\x12\x83\x00\x0a\x01x"])
@example([lengthy(1, b"k") + lengthy(3, lengthy(1, b"x"))])
@example([lengthy(3, b"k") + lengthy(2, lengthy(1, b"x"))])
@example([b"\x0a\x81\x00k" + lengthy(2, lengthy(1, b"x"))])
@example([key_value("a", 1), key_value("a", "x"), key_value("b", "y"), key_value("b", 2)])
@settings(max_examples=1000, deadline=None)
def test_encoded_attributes_give_what_their_messages_give_whatever_the_bytes(
    attributes: list[bytes],
) -> None:
    expected = by_messages(attributes)
    for _ in range(2):  # the second time from memory
        found = by_bytes(attributes)
        assert found == expected
        if found is not None and expected is not None:
            assert repr(sorted(found[1].items())) == repr(sorted(expected[1].items()))  # -0.0


@given(st.lists(st.tuples(names, values), max_size=5), st.lists(st.tuples(names, values)))
@settings(max_examples=100, deadline=None)
def test_a_request_gives_the_rows_that_the_published_messages_give(
    own: list[tuple[str, Any]], resource: list[tuple[str, Any]]
) -> None:
    request = ExportTraceServiceRequest.FromString(protobuf([SpanSpec()]))
    group = request.resource_spans[0]
    span = group.scope_spans[0].spans[0]
    for key, value in resource:
        group.resource.attributes.append(KeyValue(key=key, value=any_value(value)))
    for key, value in own:
        span.attributes.append(KeyValue(key=key, value=any_value(value)))
    strings: dict[str, str] = {}
    numbers: dict[str, float] = {}
    take_protobuf(group.resource.attributes, strings, numbers)
    strings["library.name"] = "lib"
    take_protobuf(span.attributes, strings, numbers)
    intake = traces_from_protobuf(request.SerializeToString(), TERMS)
    if any(len(key) > 500 for key in strings.keys() | numbers.keys()):
        assert intake.errors[0][1].code == "text_too_long"
    else:
        assert intake.rows.strings == [strings]
        assert intake.rows.numbers == [numbers]


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff",
        lengthy(1, b"k") + lengthy(2, lengthy(1, b"\xff")),
        lengthy(1, b"\xed\xa0\x80") + lengthy(2, lengthy(1, b"x")),
        lengthy(1, b"k") + lengthy(2, b"\x0a\x05ab"),
        lengthy(1, b"k") + lengthy(2, b"\x18"),
    ],
)
@pytest.mark.parametrize("place", ["span", "resource", "scope", "event", "link"])
def test_one_malformed_attribute_refuses_the_whole_body(bad: bytes, place: str) -> None:
    span = lengthy(1, b"\x01" * 16) + lengthy(2, b"\x02" * 8)
    inside = {"span": 9, "event": 3, "link": 4}
    if place == "span":
        span += lengthy(9, bad)
    elif place == "event":
        span += lengthy(11, lengthy(inside[place], bad))
    elif place == "link":
        span += lengthy(13, lengthy(inside[place], bad))
    scope = lengthy(1, lengthy(3, bad)) if place == "scope" else b""
    resource = lengthy(1, lengthy(1, bad)) if place == "resource" else b""
    whole = protobuf([SpanSpec()])  # comes first, and is not kept either
    body = whole + lengthy(1, resource + lengthy(2, scope + lengthy(2, span)))
    with pytest.raises(DecodeError):
        ExportTraceServiceRequest.FromString(body)
    with pytest.raises(Invalid, match="not an OTLP request"):
        traces_from_protobuf(body, TERMS)


def test_what_is_remembered_is_bounded_in_entries_and_bytes() -> None:
    memory = encoded._pair_of.__self__
    for number in range(REMEMBERED_MAX + 100):
        take_encoded([key_value("n", number)], {}, {})
    assert len(memory) <= REMEMBERED_MAX
    for number in range(20_000):
        take_encoded([key_value("n", f"{number:0400}")], {}, {})
        assert memory.size_bytes <= encoded.REMEMBERED_BYTES_MAX + SHORT_BYTES
    before = len(memory)
    long = AnyValue(string_value="x" * SHORT_BYTES)
    assert not take_encoded([KeyValue(key="n", value=long).SerializeToString()], {}, {})
    take_encoded([key_value("n", 0.1)], {}, {})
    assert len(memory) == before


def test_threads_that_decode_at_once_get_the_same_rows() -> None:
    bodies = [
        protobuf([SpanSpec(attributes={f"k{i}": f"{i} {n}", "n": i + n}) for i in range(200)])
        for n in range(24)
    ]
    alone = [traces_from_protobuf(body, TERMS).rows for body in bodies]
    encoded._pair_of.__self__.clear()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda body: traces_from_protobuf(body, TERMS).rows, bodies))
    assert together == alone
