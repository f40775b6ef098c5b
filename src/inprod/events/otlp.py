"""OTLP bodies into rows: traces and logs, protobuf and JSON, by the same rules.

A span becomes one event with the attributes of its resource, its scope and itself (the nearer one
wins). A body that cannot be read raises Invalid and nothing of it is kept; a span that cannot be
is refused alone, as partial success.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import orjson
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from inprod.errors import Invalid
from inprod.events import lift
from inprod.events.attributes import (
    from_otlp_json,
    plain_protobuf,
    put,
    take_json,
    take_protobuf,
)
from inprod.events.encoded import SHORT_BYTES, malformed_protobuf, take_encoded
from inprod.events.intake import DURATION_NS_MAX, Intake, Terms, dataset_of
from inprod.events.otlp_fields import (
    enum_in,
    id_in,
    integer_in,
    malformed,
    object_in,
    objects,
    text_in,
    unsigned_in,
)
from inprod.events.otlp_messages import LogsRequest, TraceRequest

SPAN_KINDS = ("", "internal", "server", "client", "producer", "consumer")
_SPAN_KIND_NAMES = ("UNSPECIFIED", *(kind.upper() for kind in SPAN_KINDS[1:]))
STATUS_ERROR = 2
TRACE_ID_BYTES, SPAN_ID_BYTES = 16, 8


class _Base:
    """What the spans of one scope share."""

    __slots__ = ("dataset", "is_short", "numbers", "strings")

    def __init__(
        self, strings: dict[str, str], numbers: dict[str, float], *, is_short: bool = False
    ) -> None:
        self.strings = strings
        self.numbers = numbers
        self.is_short = is_short  # no name or text can be over a limit
        self.dataset = dataset_of(strings.get("service.name"))

    def scope(self, name: str, version: str) -> _Base:
        """Return a copy with the scope's name and version."""
        strings = self.strings.copy()
        if name:
            strings["library.name"] = name
        if version:
            strings["library.version"] = version
        is_short = self.is_short and len(name) + len(version) <= SHORT_BYTES
        return _Base(strings, self.numbers.copy(), is_short=is_short)


def traces_from_protobuf(body: bytes, terms: Terms) -> Intake:
    """Return the spans of an ExportTraceServiceRequest; raises Invalid when it is not one."""
    request = TraceRequest()
    _parse(request, body)
    intake = Intake(terms)
    for group in request.resource_spans:
        resource = _resource(group.resource)
        for scoped in group.scope_spans:
            base = _scope(scoped.scope, resource)
            for span in scoped.spans:
                _span(span, base, intake)
    return intake


def traces_from_json(body: bytes, terms: Terms) -> Intake:
    """Return the spans of an OTLP/JSON trace request; raises Invalid when it is not one."""
    intake = Intake(terms)
    for group in objects(_json(body).get("resourceSpans"), "resourceSpans"):
        resource = _resource_json(group)
        for scoped in objects(group.get("scopeSpans"), "scopeSpans"):
            base = _scope_json(scoped, resource)
            for span in objects(scoped.get("spans"), "spans"):
                _span_json(span, base, intake)
    return intake


def logs_from_protobuf(body: bytes, terms: Terms) -> Intake:
    """Return the records of an ExportLogsServiceRequest; raises Invalid when it is not one."""
    request = LogsRequest()
    _parse(request, body)
    intake = Intake(terms)
    for group in request.resource_logs:
        resource = _resource(group.resource)
        for scoped in group.scope_logs:
            base = _scope(scoped.scope, resource)
            for record in scoped.log_records:
                _record(record, base, intake)
    return intake


def logs_from_json(body: bytes, terms: Terms) -> Intake:
    """Return the records of an OTLP/JSON logs request; raises Invalid when it is not one."""
    intake = Intake(terms)
    for group in objects(_json(body).get("resourceLogs"), "resourceLogs"):
        resource = _resource_json(group)
        for scoped in objects(group.get("scopeLogs"), "scopeLogs"):
            base = _scope_json(scoped, resource)
            for record in objects(scoped.get("logRecords"), "logRecords"):
                _record_json(record, base, intake)
    return intake


def _parse(request: Message, body: bytes) -> None:
    try:
        request.ParseFromString(body)
    except DecodeError:
        raise malformed_protobuf() from None


def _json(body: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(
            "not_json", f"the body is not JSON: {error}", hint="Send a JSON document."
        ) from None
    if not isinstance(request, dict):
        raise malformed("request")
    return cast("dict[str, Any]", request)


def _span(span: Span, base: _Base, intake: Intake) -> None:
    strings, numbers = base.strings.copy(), base.numbers.copy()
    is_short = take_encoded(span.attributes, strings, numbers)  # pyright: ignore[reportArgumentType]  # bytes in our copy of the schema
    events, status_message = span.events, span.status.message
    evaluations: list[dict[str, str]] = []
    for event in events:
        name = event.name
        if name in lift.NAMES:
            evaluations.append(_texts(event.attributes))
        elif name == "exception":
            _add_missing(_texts(event.attributes), strings)
    _add_span(
        intake,
        base,
        strings,
        numbers,
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_span_id,
        name=span.name,
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status_code=span.status.code,
        status_message=status_message,
        counts=(len(events), len(span.links)),
        evaluations=evaluations,
        is_short=is_short and base.is_short and not events and not status_message,
    )


def _span_json(span: dict[str, Any], base: _Base, intake: Intake) -> None:
    strings, numbers = base.strings.copy(), base.numbers.copy()
    take_json(span.get("attributes"), strings, numbers)
    evaluations: list[dict[str, str]] = []
    events = objects(span.get("events"), "events")
    for event in events:
        name = text_in(event, "name")
        texts: dict[str, str] = {}
        take_json(event.get("attributes"), texts, {})
        if name in lift.NAMES:
            evaluations.append(texts)
        elif name == "exception":
            _add_missing(texts, strings)
    status = object_in(span, "status")
    _add_span(
        intake,
        base,
        strings,
        numbers,
        trace_id=id_in(span, "traceId"),
        span_id=id_in(span, "spanId"),
        parent_id=id_in(span, "parentSpanId"),
        name=text_in(span, "name"),
        kind=enum_in(span, "kind", "SPAN_KIND_", _SPAN_KIND_NAMES),
        start_ns=unsigned_in(span, "startTimeUnixNano"),
        end_ns=unsigned_in(span, "endTimeUnixNano"),
        status_code=enum_in(status, "code", "STATUS_CODE_", ("UNSET", "OK", "ERROR")),
        status_message=text_in(status, "message"),
        counts=(len(events), len(objects(span.get("links"), "links"))),
        evaluations=evaluations,
    )


def _add_span(
    intake: Intake,
    base: _Base,
    strings: dict[str, str],
    numbers: dict[str, float],
    *,
    trace_id: bytes,
    span_id: bytes,
    parent_id: bytes,
    name: str,
    kind: int,
    start_ns: int,
    end_ns: int,
    status_code: int,
    status_message: str,
    counts: tuple[int, int],
    evaluations: list[dict[str, str]],
    is_short: bool = False,
) -> None:
    if len(trace_id) != TRACE_ID_BYTES or len(span_id) != SPAN_ID_BYTES:
        intake.refuse(_bad_id("trace or span", trace_id + span_id))
        return
    if parent_id and len(parent_id) != SPAN_ID_BYTES:
        intake.refuse(_bad_id("parent span", parent_id))
        return
    for evaluation in reversed(evaluations):  # the last evaluation of a flag counts
        lift.lift(evaluation, strings)
    if status_message:
        strings["status_message"] = status_message
    if counts[0]:
        numbers["span.num_events"] = float(counts[0])
    if counts[1]:
        numbers["span.num_links"] = float(counts[1])
    intake.add(
        signal="trace",
        time_ns=start_ns,
        dataset=base.dataset,
        name=name,
        kind=SPAN_KINDS[kind] if 0 <= kind < len(SPAN_KINDS) else "",
        trace_id=trace_id.hex(),
        span_id=span_id.hex(),
        parent_id=parent_id.hex(),
        duration_ns=min(max(end_ns - start_ns, 0), DURATION_NS_MAX) if end_ns else None,
        error=status_code == STATUS_ERROR,
        status_code=status_code if 0 <= status_code <= STATUS_ERROR else 0,
        strings=strings,
        numbers=numbers,
        is_short=is_short,
    )


def _record(record: LogRecord, base: _Base, intake: Intake) -> None:
    strings, numbers = base.strings.copy(), base.numbers.copy()
    take_encoded(record.attributes, strings, numbers)  # pyright: ignore[reportArgumentType]  # as above
    put("body", plain_protobuf(record.body), strings, numbers)
    _add_record(
        intake,
        base,
        strings,
        numbers,
        trace_id=record.trace_id,
        span_id=record.span_id,
        event_name=record.event_name,
        severity=(record.severity_number, record.severity_text),
        time_ns=record.time_unix_nano or record.observed_time_unix_nano,
    )


def _record_json(record: dict[str, Any], base: _Base, intake: Intake) -> None:
    strings, numbers = base.strings.copy(), base.numbers.copy()
    take_json(record.get("attributes"), strings, numbers)
    put("body", from_otlp_json(record.get("body")), strings, numbers)
    _add_record(
        intake,
        base,
        strings,
        numbers,
        trace_id=id_in(record, "traceId"),
        span_id=id_in(record, "spanId"),
        event_name=text_in(record, "eventName"),
        severity=(integer_in(record, "severityNumber"), text_in(record, "severityText")),
        time_ns=unsigned_in(record, "timeUnixNano") or unsigned_in(record, "observedTimeUnixNano"),
    )


def _add_record(
    intake: Intake,
    base: _Base,
    strings: dict[str, str],
    numbers: dict[str, float],
    *,
    trace_id: bytes,
    span_id: bytes,
    event_name: str,
    severity: tuple[int, str],
    time_ns: int,
) -> None:
    if len(trace_id) not in (0, TRACE_ID_BYTES) or len(span_id) not in (0, SPAN_ID_BYTES):
        intake.refuse(_bad_id("trace or span", trace_id + span_id))
        return
    name = event_name or strings.pop("event.name", "")
    if name in lift.NAMES:
        lift.lift(dict(strings), strings)
    if severity[0]:
        numbers["severity_number"] = float(severity[0])
    intake.add(
        signal="log",
        time_ns=time_ns,
        dataset=base.dataset,
        name=name,
        kind=severity[1].lower(),
        trace_id=trace_id.hex(),
        span_id=span_id.hex(),
        parent_id="",
        duration_ns=None,
        error=False,
        status_code=0,
        strings=strings,
        numbers=numbers,
    )


def _resource(resource: Resource) -> _Base:
    strings: dict[str, str] = {}
    numbers: dict[str, float] = {}
    is_short = take_encoded(resource.attributes, strings, numbers)  # pyright: ignore[reportArgumentType]  # as above
    return _Base(strings, numbers, is_short=is_short)


def _scope(scope: InstrumentationScope, resource: _Base) -> _Base:
    base = resource.scope(scope.name, scope.version)
    if scope.attributes:
        take_protobuf(scope.attributes, base.strings, base.numbers)
        base.is_short = False
    return base


def _resource_json(group: dict[str, Any]) -> _Base:
    strings: dict[str, str] = {}
    numbers: dict[str, float] = {}
    take_json(object_in(group, "resource").get("attributes"), strings, numbers)
    return _Base(strings, numbers)


def _scope_json(scoped: dict[str, Any], resource: _Base) -> _Base:
    scope = object_in(scoped, "scope")
    base = resource.scope(text_in(scope, "name"), text_in(scope, "version"))
    take_json(scope.get("attributes"), base.strings, base.numbers)
    return base


def _texts(attributes: Iterable[KeyValue]) -> dict[str, str]:
    texts: dict[str, str] = {}
    take_protobuf(attributes, texts, {})
    return texts


def _add_missing(texts: dict[str, str], strings: dict[str, str]) -> None:
    for key, text in texts.items():
        strings.setdefault(key, text)


def _bad_id(what: str, value: bytes) -> Invalid:
    return Invalid(
        "bad_id", f"the {what} id `{value.hex()[:80]}` has a wrong length",
        hint="Send 16 bytes for a trace, 8 for a span, not all zero.",
    )  # fmt: skip
