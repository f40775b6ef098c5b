"""Our provider through the stock OpenFeature SDK and the stock OpenTelemetry SDK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openfeature import api
from openfeature.contrib.hook.opentelemetry import TracingHook
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ProviderNotReadyError
from openfeature.flag_evaluation import FlagEvaluationOptions, Reason
from openfeature.provider import ProviderStatus
from openfeature.track import TrackingEventDetails
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from inprod.sdk.openfeature import InprodProvider
from support.flag_server import Book, book_in, flag_of, serving, typed_flags, until

USER = EvaluationContext("user-1", {"country": "US"})


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = book_in(tmp_path)
    made.commit(flag_of())
    for flag in typed_flags():
        made.commit(flag)
    with serving(made):
        yield made
    api.clear_providers()


def provider_of(book: Book, **options: object) -> InprodProvider:
    return InprodProvider(
        url=book.url, environment="production", service="shop", cache_dir="", **options
    )


@pytest.fixture
def client(book: Book) -> Iterator[object]:
    provider = provider_of(book)
    api.set_provider_and_wait(provider, "ours")
    yield api.get_client("ours")
    provider.shutdown()


def test_every_type_comes_with_its_details(client) -> None:
    assert client.get_boolean_value("a-boolean", False) is True
    assert client.get_string_value("a-string", "") == "blue"
    assert client.get_integer_value("a-integer", 0) == 7
    number = client.get_float_value("a-float", 0.5)
    assert (number, type(number)) == (2.0, float)
    found = client.get_object_details("a-object", {})
    assert found.value == {"limits": [1, 2], "name": "x"}
    assert (found.variant, found.reason, found.error_code) == ("value", Reason.STATIC, None)
    found.value["limits"].append(3)  # the caller's own copy
    assert client.get_object_value("a-object", {})["limits"] == [1, 2]
    assert client.get_float_value("a-integer", 0.5) == 7.0


def test_a_split_tells_its_variant_and_rule(client) -> None:
    found = client.get_boolean_details("new-checkout", True, USER)
    assert (found.value, found.variant, found.reason) == (False, "off", Reason.SPLIT)
    assert found.flag_metadata["rule"] == "beta"
    elsewhere = client.get_boolean_details("new-checkout", True, EvaluationContext("u", {}))
    assert elsewhere.reason == Reason.DEFAULT


@pytest.mark.parametrize(
    ("ask", "key", "default", "code"),
    [
        ("boolean", "nope", True, "FLAG_NOT_FOUND"),
        ("boolean", "a-string", True, "TYPE_MISMATCH"),
        ("string", "a-boolean", "x", "TYPE_MISMATCH"),
        ("integer", "a-boolean", 3, "TYPE_MISMATCH"),
        ("integer", "a-float", 3, "TYPE_MISMATCH"),
        ("float", "a-boolean", 0.5, "TYPE_MISMATCH"),
        ("object", "a-string", {}, "TYPE_MISMATCH"),
    ],
)
def test_errors_are_typed_and_give_the_default(
    client, ask: str, key: str, default: object, code: str
) -> None:
    found = getattr(client, f"get_{ask}_details")(key, default, USER)
    assert (found.value, found.reason, found.error_code) == (default, Reason.ERROR, code)


def test_a_missing_unit_is_a_typed_error(client) -> None:
    found = client.get_boolean_details(
        "new-checkout", True, EvaluationContext(None, {"country": "US"})
    )
    assert (found.value, found.error_code) == (True, "TARGETING_KEY_MISSING")


def test_the_recording_span_carries_the_flag_its_rule_and_the_stock_hook_agrees(client) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("shop")
    options = FlagEvaluationOptions(hooks=[TracingHook()])
    with tracer.start_as_current_span("GET /checkout"):
        client.get_boolean_value("new-checkout", False, USER, options)
        client.get_string_value("a-string", "", USER)
    client.get_boolean_value("new-checkout", False, USER)  # no span: nothing to set, nothing said
    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes) == {
        "flag.new-checkout": "off",
        "flag.new-checkout.rule": "beta",
        "flag.a-string": "value",
    }
    (event,) = span.events
    assert event.name == "feature_flag.evaluation"
    assert event.attributes["feature_flag.result.variant"] == "off"
    assert event.attributes["feature_flag.provider.name"] == "inprod"
    provider.shutdown()


def test_a_change_is_told_with_the_keys_that_changed(book: Book, client) -> None:
    told: list[EventDetails] = []
    client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, told.append)
    book.percent(100)
    assert until(lambda: told)
    assert told[0].flags_changed == ["new-checkout"]
    assert client.get_boolean_value("new-checkout", False, USER) is True


def test_the_status_follows_the_server(tmp_path: Path) -> None:
    book = book_in(tmp_path)
    book.commit(flag_of())
    told: list[str] = []
    with serving(book) as url:
        provider = provider_of(book)
        api.set_provider_and_wait(provider, "status")
        client = api.get_client("status")
        client.add_handler(ProviderEvent.PROVIDER_STALE, lambda _: told.append("stale"))
        client.add_handler(ProviderEvent.PROVIDER_READY, lambda _: told.append("ready"))
        assert client.get_provider_status() is ProviderStatus.READY
    assert until(lambda: client.get_provider_status() is ProviderStatus.STALE, 30)
    assert client.get_boolean_details("new-checkout", True, USER).reason == Reason.SPLIT
    with serving(book, int(url.rpartition(":")[2])):
        assert until(lambda: client.get_provider_status() is ProviderStatus.READY, 30)
    assert told == ["ready", "stale", "ready"]
    provider.shutdown()
    api.clear_providers()


def test_a_provider_without_a_server_is_in_error_until_there_is_one(tmp_path: Path) -> None:
    book = book_in(tmp_path)
    book.commit(flag_of())
    with serving(book) as url:
        pass
    provider = provider_of(book, wait_s=0.2)
    with pytest.raises(ProviderNotReadyError):
        api.set_provider_and_wait(provider, "late")
    client = api.get_client("late")
    found = client.get_boolean_details("new-checkout", True, USER)
    assert (found.value, found.reason) == (True, Reason.ERROR)
    with serving(book, int(url.rpartition(":")[2])):
        assert until(lambda: client.get_provider_status() is ProviderStatus.READY, 30)
        assert client.get_boolean_details("new-checkout", True, USER).reason == Reason.SPLIT
    provider.shutdown()
    api.clear_providers()


def test_tracking_records_an_event(book: Book) -> None:
    provider = provider_of(book)
    api.set_provider_and_wait(provider, "track")
    details = TrackingEventDetails(99.5, {"currency": "EUR"})
    api.get_client("track").track("order", USER, details)
    provider.shutdown()
    (event,) = [event for event in book.events if event["name"] == "order"]
    assert event["user.id"] == "user-1"
    assert (event["value"], event["currency"], event["country"]) == (99.5, "EUR", "US")
