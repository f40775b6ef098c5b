"""OTLP's messages as published, except that the attributes of spans stay undecoded bytes.

A message and bytes look alike on the wire, so requests parse as before; but the parser makes no
objects for attributes, which `encoded.py` then reads faster. It holds for the attributes of spans,
log records and resources; those of scopes, span events and links are messages as ever.
"""

from __future__ import annotations

from typing import TypeVar, cast

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

# Each after those that it imports.
_FILES = (
    common_pb2, resource_pb2, trace_pb2, logs_pb2, trace_service_pb2, logs_service_pb2,
)  # fmt: skip
_Request = TypeVar("_Request", bound=Message)
_ENCODED = frozenset({"Resource", "Span", "LogRecord"})


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for module in _FILES:
        file = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for message in file.message_type:
            if message.name not in _ENCODED:
                continue
            for field in message.field:
                if field.name == "attributes":
                    field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
                    field.ClearField("type_name")
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _pool()


def _like(official: type[_Request]) -> type[_Request]:
    name = official.DESCRIPTOR.full_name
    found = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))
    return cast("type[_Request]", found)


TraceRequest = _like(ExportTraceServiceRequest)
LogsRequest = _like(ExportLogsServiceRequest)
