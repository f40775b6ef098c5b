"""OTLP's answers: partial success, and google.rpc.Status in the request's own encoding."""

from __future__ import annotations

import math
from typing import Literal

import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.requests import Request
from starlette.responses import Response

from inprod.errors import Denied, InprodError, Invalid, TooMuch, Unavailable
from inprod.events.intake import Intake

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
_PROTOBUFS = frozenset({PROTOBUF, "application/protobuf"})
Signal = Literal["traces", "logs"]
# google.rpc.Code, by our error's class.
_CODES: tuple[tuple[type[InprodError], int], ...] = (
    (Invalid, 3), (Denied, 7), (TooMuch, 8), (Unavailable, 14),
)  # fmt: skip
_CODE_UNKNOWN = 2


def media_type(request: Request) -> str:
    """Return the body's type without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_protobuf(media: str) -> bool:
    """Say whether it is one of protobuf's two names."""
    return media in _PROTOBUFS


def success(media: str, signal: Signal, intake: Intake) -> Response:
    """Return 200, with how many were refused and why the first of them was."""
    first = intake.errors[0][1] if intake.errors else None
    message = f"{first.message}. {first.hint}" if first else ""
    if not is_protobuf(media):
        body: dict[str, object] = {}
        if intake.rejected:
            counted = "rejectedSpans" if signal == "traces" else "rejectedLogRecords"
            body["partialSuccess"] = {counted: str(intake.rejected), "errorMessage": message}
        return Response(orjson.dumps(body), media_type=JSON)
    if signal == "traces":
        traces = ExportTraceServiceResponse()
        if intake.rejected:
            traces.partial_success.rejected_spans = intake.rejected
            traces.partial_success.error_message = message
        return Response(traces.SerializeToString(), media_type=PROTOBUF)
    logs = ExportLogsServiceResponse()
    if intake.rejected:
        logs.partial_success.rejected_log_records = intake.rejected
        logs.partial_success.error_message = message
    return Response(logs.SerializeToString(), media_type=PROTOBUF)


def failure(media: str, error: InprodError) -> Response:
    """Return the error as google.rpc.Status, with Retry-After when waiting helps."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), _CODE_UNKNOWN)
    headers: dict[str, str] = {}
    wait_s = error.retry_after_s if isinstance(error, TooMuch) else None
    if isinstance(error, Unavailable):
        wait_s = 1.0
    if wait_s is not None:
        headers["Retry-After"] = str(max(math.ceil(wait_s), 1))
    return _status(media, error.status, code, str(error), headers)


def unsupported(media: str) -> Response:
    """Return 415 for a content type that is not OTLP's."""
    message = f"`{media}` is not a type we read. Send {PROTOBUF} or {JSON}."
    return _status(media, 415, 3, message, {})


def _status(media: str, status: int, code: int, message: str, headers: dict[str, str]) -> Response:
    if is_protobuf(media):
        text = message.encode()
        body = b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text
        return Response(body, status_code=status, media_type=PROTOBUF, headers=headers)
    document = orjson.dumps({"code": code, "message": message})
    return Response(document, status_code=status, media_type=JSON, headers=headers)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
