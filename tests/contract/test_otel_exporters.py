from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from openfeature import api as openfeature
from openfeature.contrib.hook.opentelemetry import TracingHook
from openfeature.evaluation_context import EvaluationContext
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from inprod.events.edge.api import EventApi
from inprod.events.edge.store import EventStore
from inprod.events.edge.writer import Bounds, Writer
from inprod.events.query import Calculate, Calculation, Filter, Query
from inprod.operators import Op
from support.event_server import application, serving
from support.event_store import fresh_store

RESOURCE = Resource.create(
    {
        "service.name": "shop",
        "service.version": "1.2.3",
        "deployment.environment.name": "production",
    }
)


@dataclass(frozen=True, slots=True)
class Running:
    url: str
    store: EventStore


@pytest.fixture
def running() -> Iterator[Running]:
    with fresh_store() as store:
        writer = Writer(store, bounds=Bounds(flush_s=0.02))
        api = EventApi(store=store, writer=writer, environments=lambda: ("production",))
        with serving(application(api)) as url:
            yield Running(url, store)
        writer.close()


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_spans_of_the_stock_exporter_become_events_under_semantic_names(
    running: Running, compression: Compression
) -> None:
    exporter = OTLPSpanExporter(endpoint=f"{running.url}/v1/traces", compression=compression)
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("shop.web", "0.1")
    with tracer.start_as_current_span("GET /cart", kind=SpanKind.SERVER) as span:
        span.set_attribute("user.id", "u1")
        span.set_attribute("http.response.status_code", 500)
        span.set_attribute("tags", ["a", "b"])
        with tracer.start_as_current_span("query"):
            pass
        span.set_status(StatusCode.ERROR, "boom")
    assert provider.force_flush(5000)
    provider.shutdown()

    answer = running.store.answer(
        Query(
            breakdowns=(
                "name", "kind", "error", "user.id", "http.response.status_code", "tags",
                "service.version", "library.name", "status_message", "dataset",
            ),
            filters=(Filter(column="trace.parent_id", op=Op.DOES_NOT_EXIST),),
        )
    )  # fmt: skip
    assert answer.results == [
        {
            "name": "GET /cart", "kind": "server", "error": True, "user.id": "u1",
            "http.response.status_code": 500, "tags": '["a","b"]', "service.version": "1.2.3",
            "library.name": "shop.web", "status_message": "boom", "dataset": "shop", "COUNT": 1,
        }
    ]  # fmt: skip
    both = running.store.answer(
        Query(calculations=(Calculation(op=Calculate.COUNT_DISTINCT, column="trace.trace_id"),))
    )
    assert both.results == [{"COUNT_DISTINCT(trace.trace_id)": 1}]
    assert both.rows_read == 2


def test_log_records_of_the_stock_exporter_become_events_with_their_trace(
    running: Running,
) -> None:
    provider = LoggerProvider(resource=RESOURCE)
    exporter = OTLPLogExporter(endpoint=f"{running.url}/v1/logs")
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    context = trace.set_span_in_context(
        trace.NonRecordingSpan(
            trace.SpanContext(0xA1, 0xB2, is_remote=False, trace_flags=trace.TraceFlags(1))
        )
    )
    provider.get_logger("shop").emit(
        LogRecord(
            timestamp=1,
            observed_timestamp=1,
            context=context,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body="too old to be kept",
        )
    )
    provider.get_logger("shop").emit(
        LogRecord(
            context=context,
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            body="card declined",
            event_name="feature_flag.evaluation",
            attributes={
                "feature_flag.key": "new-checkout",
                "feature_flag.result.variant": "on",
                "feature_flag.context.id": "u7",
            },
        )
    )
    provider.shutdown()
    answer = running.store.answer(
        Query(
            breakdowns=("body", "kind", "trace.trace_id", "trace.span_id", "signal",
                        "flag.new-checkout", "user.id")
        )
    )  # fmt: skip
    assert answer.results == [
        {
            "body": "card declined", "kind": "info", "signal": "log",
            "trace.trace_id": f"{0xA1:032x}", "trace.span_id": f"{0xB2:016x}",
            "flag.new-checkout": "on", "user.id": "u7", "COUNT": 1,
        }
    ]  # fmt: skip


def test_the_openfeature_tracing_hook_puts_the_variant_on_its_own_span(running: Running) -> None:
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{running.url}/v1/traces"))
    )
    flags = InMemoryProvider({"new-checkout": InMemoryFlag("on", {"on": True, "off": False})})
    openfeature.set_provider(flags, "events-contract")
    client = openfeature.get_client("events-contract")
    client.add_hooks([TracingHook()])
    with provider.get_tracer("shop").start_as_current_span("checkout"):
        client.get_boolean_value("new-checkout", False, EvaluationContext("u9"))
    provider.force_flush(5000)
    provider.shutdown()
    openfeature.clear_providers()
    answer = running.store.answer(Query(breakdowns=("name", "flag.new-checkout", "user.id")))
    assert answer.results == [
        {"name": "checkout", "flag.new-checkout": "on", "user.id": "u9", "COUNT": 1}
    ]
