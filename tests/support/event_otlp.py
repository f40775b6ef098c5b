"""One description of spans, written as OTLP protobuf and as OTLP/JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

NOW_NS = 1_800_000_000_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanSpec:
    """A span as plain values; times are Unix nanoseconds."""

    name: str = "GET /"
    trace_id: bytes = b"\x01" * 16
    span_id: bytes = b"\x02" * 8
    parent_id: bytes = b""
    kind: int = 2
    start_ns: int = NOW_NS
    end_ns: int = NOW_NS + 5_000_000
    status: int = 0
    message: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[tuple[str, Mapping[str, Any]]] = ()


def protobuf(
    spans: Sequence[SpanSpec],
    *,
    resource: Mapping[str, Any] | None = None,
    scope: Mapping[str, Any] | None = None,
) -> bytes:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(_pairs(resource or {}))
    scoped = group.scope_spans.add()
    scoped.scope.name = "lib"
    scoped.scope.attributes.extend(_pairs(scope or {}))
    for spec in spans:
        span = scoped.spans.add(
            trace_id=spec.trace_id,
            span_id=spec.span_id,
            parent_span_id=spec.parent_id,
            name=spec.name,
            kind=spec.kind,
            start_time_unix_nano=spec.start_ns,
            end_time_unix_nano=spec.end_ns,
            attributes=_pairs(spec.attributes),
        )
        span.status.code = spec.status
        span.status.message = spec.message
        for name, attributes in spec.events:
            span.events.add(name=name, attributes=_pairs(attributes))
    return request.SerializeToString()


def json(
    spans: Sequence[SpanSpec],
    *,
    resource: Mapping[str, Any] | None = None,
    scope: Mapping[str, Any] | None = None,
) -> bytes:
    return orjson.dumps(
        {
            "resourceSpans": [
                {
                    "resource": {"attributes": _json_pairs(resource or {})},
                    "scopeSpans": [
                        {
                            "scope": {"name": "lib", "attributes": _json_pairs(scope or {})},
                            "spans": [_json_span(spec) for spec in spans],
                        }
                    ],
                }
            ]
        }
    )


def _json_span(spec: SpanSpec) -> dict[str, Any]:
    return {
        "traceId": spec.trace_id.hex(),
        "spanId": spec.span_id.hex(),
        "parentSpanId": spec.parent_id.hex(),
        "name": spec.name,
        "kind": spec.kind,
        "startTimeUnixNano": str(spec.start_ns),
        "endTimeUnixNano": str(spec.end_ns),
        "attributes": _json_pairs(spec.attributes),
        "status": {"code": spec.status, "message": spec.message},
        "events": [
            {"name": name, "timeUnixNano": "1", "attributes": _json_pairs(attributes)}
            for name, attributes in spec.events
        ],
        "unknownField": {"is": "ignored"},
    }


def _pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def any_value(value: Any) -> AnyValue:
    result = AnyValue()
    if isinstance(value, bool):
        result.bool_value = value
    elif isinstance(value, str):
        result.string_value = value
    elif isinstance(value, int):
        result.int_value = value
    elif isinstance(value, float):
        result.double_value = value
    elif isinstance(value, bytes):
        result.bytes_value = value
    elif isinstance(value, list):
        result.array_value.SetInParent()
        result.array_value.values.extend(any_value(one) for one in value)
    elif isinstance(value, dict):
        result.kvlist_value.SetInParent()
        result.kvlist_value.values.extend(_pairs(value))
    return result


def _json_pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _json_value(value)} for key, value in attributes.items()]


def _json_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        if math.isfinite(value):
            return {"doubleValue": value}
        return {
            "doubleValue": "NaN" if math.isnan(value) else f"{value}".replace("inf", "Infinity")
        }
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_json_value(one) for one in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": _json_pairs(value)}}
    return {}
