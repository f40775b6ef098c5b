from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from inprod.errors import Invalid
from inprod.events.event import ATTRIBUTES_MAX, TEXT_BYTES_MAX, Event
from inprod.events.intake import Terms
from inprod.events.otlp import (
    logs_from_json,
    logs_from_protobuf,
    traces_from_json,
    traces_from_protobuf,
)
from support.event_otlp import NOW_NS, SpanSpec, any_value, json, protobuf

TERMS = Terms.at(NOW_NS, retain_days=30)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=True, allow_infinity=True),
    st.binary(max_size=6),
    st.none(),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=12,
)
names = st.one_of(texts, st.sampled_from(["user.id", "name", "error", "sample_rate", "time"]))
attributes = st.dictionaries(names, values, max_size=6)
spans = st.builds(
    SpanSpec,
    name=texts,
    trace_id=st.binary(min_size=14, max_size=16),
    span_id=st.binary(min_size=7, max_size=8),
    parent_id=st.one_of(st.just(b""), st.binary(min_size=8, max_size=8)),
    kind=st.integers(0, 7),
    start_ns=st.integers(0, 2**64 - 1) | st.integers(NOW_NS - 10**15, NOW_NS),
    end_ns=st.integers(0, 2**64 - 1) | st.integers(NOW_NS, NOW_NS + 10**15),
    status=st.integers(0, 2),
    message=texts,
    attributes=attributes,
    events=st.lists(
        st.tuples(st.sampled_from(["feature_flag", "exception", "x"]), attributes), max_size=2
    ),
)


@given(st.lists(spans, max_size=3), attributes, attributes)
@settings(max_examples=150, deadline=None)
def test_json_and_protobuf_of_the_same_spans_decode_to_equal_rows(
    specs: list[SpanSpec], resource: dict[str, Any], scope: dict[str, Any]
) -> None:
    ours = traces_from_protobuf(protobuf(specs, resource=resource, scope=scope), TERMS)
    theirs = traces_from_json(json(specs, resource=resource, scope=scope), TERMS)
    assert ours.rows == theirs.rows
    assert ours.rejected == theirs.rejected
    assert ours.seen == len(specs)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_garbage_is_refused_or_empty_and_nothing_else(body: bytes) -> None:
    for decode in (traces_from_protobuf, traces_from_json, logs_from_protobuf, logs_from_json):
        try:
            intake = decode(body, TERMS)
        except Invalid:
            continue
        assert len(intake.rows) == 0


@given(st.lists(spans, min_size=1, max_size=2), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_a_truncated_body_never_escapes_as_another_error(specs: list[SpanSpec], cut: int) -> None:
    for decode, body in ((traces_from_protobuf, protobuf(specs)), (traces_from_json, json(specs))):
        try:
            decode(body[:-cut], TERMS)
        except Invalid as error:
            assert error.hint


def one(spec: SpanSpec, **resource: Any) -> Event:
    intake = traces_from_protobuf(protobuf([spec], resource=resource), TERMS)
    assert intake.rejected == 0, intake.errors
    return intake.rows.events()[0]


def test_the_nearer_attribute_wins_span_then_scope_then_resource() -> None:
    body = protobuf(
        [SpanSpec(attributes={"a": "span"})],
        resource={"a": "resource", "b": 1, "c": "resource"},
        scope={"a": "scope", "b": "scope"},
    )
    event = traces_from_protobuf(body, TERMS).rows.events()[0]
    assert event.strings == {"a": "span", "b": "scope", "c": "resource", "library.name": "lib"}
    assert event.numbers == {}


def test_types_become_texts_and_numbers_by_the_rules() -> None:
    event = one(
        SpanSpec(
            attributes={
                "bool": True, "int": 2**53, "big": 2**53 + 1, "float": 0.5, "nan": float("nan"),
                "bytes": b"\x00\xff", "list": ["a", 1, b"\x01"], "empty": "", "none": None,
                "map": {"x": {"y": 1, "z": "t"}},
            }
        )
    )  # fmt: skip
    assert event.numbers == {"int": float(2**53), "float": 0.5, "map.x.y": 1.0}
    assert {key: event.strings[key] for key in event.strings if key != "library.name"} == {
        "bool": "true", "big": str(2**53 + 1), "nan": "nan", "bytes": "AP8=",
        "list": '["a",1,"AQ=="]', "empty": "", "map.x.z": "t",
    }  # fmt: skip


def test_objects_deeper_than_five_levels_stay_as_json_text() -> None:
    deep = {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}
    event = one(SpanSpec(attributes={"a": deep}))
    assert event.strings["a.b.c.d.e.f"] == '{"g":1}'


@pytest.mark.parametrize("name", ["feature_flag.evaluation", "feature_flag"])
@pytest.mark.parametrize("variant", ["feature_flag.result.variant", "feature_flag.variant"])
def test_a_flag_evaluation_is_lifted_to_its_span(name: str, variant: str) -> None:
    evaluation = {
        "feature_flag.key": "new", variant: "on", "feature_flag.context.id": "u1",
        "feature_flag.flag.metadata.rule": "rollout",
    }  # fmt: skip
    event = one(SpanSpec(events=[(name, evaluation)]))
    assert event.strings["flag.new"] == "on"
    assert event.strings["flag.new.rule"] == "rollout"
    assert event.strings["user.id"] == "u1"


def test_the_last_evaluation_counts_and_an_attribute_of_the_span_wins_over_all() -> None:
    events = [
        ("feature_flag", {"feature_flag.key": "new", "feature_flag.variant": variant})
        for variant in ("off", "on")
    ]
    assert one(SpanSpec(events=events)).strings["flag.new"] == "on"
    given = one(SpanSpec(events=events, attributes={"flag.new": "mine"}))
    assert given.strings["flag.new"] == "mine"


def test_an_evaluation_without_a_variant_shows_no_side() -> None:
    event = one(SpanSpec(events=[("feature_flag", {"feature_flag.key": "new"})]))
    assert "flag.new" not in event.strings


def test_synthetic_test_traffic_is_marked() -> None:
    event = one(SpanSpec(attributes={"user_agent.synthetic.type": "test"}))
    assert event.strings["inprod.test"] == "synthetic"


def test_attributes_with_the_name_of_a_fixed_column_are_kept_under_another() -> None:
    event = one(SpanSpec(attributes={"name": "x", "sample_rate": 20, "error": True, "time": 3}))
    assert event.strings["attribute.name"] == "x"
    assert event.numbers["attribute.time"] == 3.0
    assert event.sample_rate == 20
    assert event.error is True


@pytest.mark.parametrize(
    ("service", "dataset"),
    [("shop", "shop"), ("unknown_service:python", "unknown_service"), (None, "unknown_service")],
)
def test_the_dataset_is_the_service(service: str | None, dataset: str) -> None:
    resource = {} if service is None else {"service.name": service}
    assert one(SpanSpec(), **resource).dataset == dataset


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (SpanSpec(trace_id=b"1"), "bad_id"),
        (SpanSpec(span_id=b""), "bad_id"),
        (SpanSpec(parent_id=b"123"), "bad_id"),
        (SpanSpec(start_ns=1), "time_out_of_range"),
        (SpanSpec(start_ns=NOW_NS + 2 * 86_400 * 10**9), "time_out_of_range"),
        (
            SpanSpec(attributes={f"k{i}": i for i in range(ATTRIBUTES_MAX + 1)}),
            "too_many_attributes",
        ),
        (SpanSpec(attributes={"long": "x" * (TEXT_BYTES_MAX + 1)}), "text_too_long"),
        (SpanSpec(attributes={"k" * 501: 1}), "text_too_long"),
    ],
)
def test_a_span_that_cannot_be_is_refused_alone(spec: SpanSpec, code: str) -> None:
    intake = traces_from_protobuf(protobuf([SpanSpec(), spec, SpanSpec()]), TERMS)
    assert len(intake.rows) == 2
    assert intake.rejected == 1
    assert intake.errors[0][0] == 1
    assert intake.errors[0][1].code == code


def test_a_key_for_one_environment_stamps_it_and_refuses_others() -> None:
    terms = Terms.at(NOW_NS, retain_days=30, environments={"staging"})
    specs = [
        SpanSpec(),
        SpanSpec(attributes={"deployment.environment.name": "staging"}),
        SpanSpec(attributes={"deployment.environment.name": "production"}),
    ]
    intake = traces_from_protobuf(protobuf(specs), terms)
    found = [event.strings["deployment.environment.name"] for event in intake.rows.events()]
    assert found == ["staging", "staging"]
    assert intake.errors[0][1].code == "environment_denied"


@pytest.mark.parametrize(
    "body",
    [
        {"resourceSpans": {}},
        {"resourceSpans": [1]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz"}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "-1"}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"key": 1}]}]}]}]},
        {"resourceSpans": [{"resource": {"attributes": [{"key": "a", "value": 1}]}}]},
        [],
        3,
    ],
)
def test_malformed_json_is_refused_whole(body: Any) -> None:
    with pytest.raises(Invalid):
        traces_from_json(orjson.dumps(body), TERMS)


def test_a_log_record_keeps_body_severity_and_trace() -> None:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(
        time_unix_nano=NOW_NS, severity_number=17, severity_text="ERROR",
        trace_id=b"\x01" * 16, span_id=b"\x02" * 8, body=any_value({"why": "declined", "n": 2}),
    )  # fmt: skip
    assert record.HasField("body")
    event = logs_from_protobuf(request.SerializeToString(), TERMS).rows.events()[0]
    assert event.signal == "log"
    assert event.kind == "error"
    assert event.trace_id == "01" * 16
    assert event.strings["body.why"] == "declined"
    assert event.numbers == {"body.n": 2.0, "severity_number": 17.0}
