from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event as Signal
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from inprod.errors import Unavailable
from inprod.events.arrow import Batch
from inprod.events.edge.api import BODY_BYTES_MAX, EventApi
from inprod.events.edge.store import EventStore
from inprod.events.edge.writer import Bounds, Writer
from inprod.events.query import Query
from support.event_otlp import SpanSpec, protobuf
from support.event_otlp import json as otlp_json
from support.event_server import application, serving
from support.event_store import fresh_store

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Running:
    http: httpx.Client
    store: EventStore
    api: EventApi


@pytest.fixture
def running() -> Iterator[Running]:
    with fresh_store() as store:
        writer = Writer(store, bounds=Bounds(flush_s=0.01))
        api = EventApi(store=store, writer=writer, environments=lambda: ("production", "staging"))
        with serving(application(api)) as url, httpx.Client(base_url=url, timeout=30) as http:
            yield Running(http, store, api)
        writer.close()


def now(**fields: Any) -> SpanSpec:
    return SpanSpec(start_ns=time.time_ns(), end_ns=time.time_ns() + 10**6, **fields)


def count(running: Running) -> int:
    return running.store.answer(Query()).results[0]["COUNT"]


def test_refused_spans_are_told_as_partial_success_and_the_others_stored(running: Running) -> None:
    body = protobuf([now(), SpanSpec(trace_id=b"x"), now()])
    answer = running.http.post("/v1/traces", content=body, headers=PROTOBUF)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-protobuf"
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_spans == 1
    assert "trace or span id" in partial.error_message
    assert count(running) == 2
    body = otlp_json([now(), SpanSpec(trace_id=b"x")])
    answer = running.http.post("/v1/traces", content=body, headers=JSON)
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert count(running) == 3


def test_a_body_that_cannot_be_read_answers_a_status_in_its_own_encoding(running: Running) -> None:
    answer = running.http.post("/v1/traces", content=b"\xff\xff", headers=PROTOBUF)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert answer.content.startswith(b"\x08\x03\x12")
    assert b"not an OTLP request" in answer.content
    answer = running.http.post("/v1/traces", content=b"{", headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["code"] == 3
    assert running.http.post("/v1/logs", content=b"[]", headers=JSON).status_code == 400


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs", "/api/events"])
def test_another_content_type_is_refused(running: Running, path: str) -> None:
    answer = running.http.post(path, content=b"x", headers={"Content-Type": "text/xml"})
    assert answer.status_code == 415


@pytest.mark.parametrize("path", ["/v1/traces", "/api/events"])
def test_too_large_a_body_is_refused_packed_or_not(running: Running, path: str) -> None:
    declared = running.http.post(path, content=b"x" * (BODY_BYTES_MAX + 1), headers=JSON)
    assert declared.status_code == 413
    bomb = gzip.compress(b" " * (BODY_BYTES_MAX * 4))
    headers = {**JSON, "Content-Encoding": "gzip"}
    assert running.http.post(path, content=bomb, headers=headers).status_code == 413
    assert running.http.post(path, content=bomb[:50], headers=headers).status_code == 400


def test_json_events_of_every_shape_are_stored_and_counted(running: Running) -> None:
    stamp = time.time()
    one = {
        "time": stamp, "dataset": "shop", "name": "buy", "duration_ms": 12.5, "sample_rate": 3,
        "error": True, "user": {"id": "u1", "deep": {"a": {"b": {"c": {"d": {"e": 1}}}}}},
        "flag.new": "on", "ok": False, "list": [1, "a"], "nothing": None,
    }  # fmt: skip
    post = running.http.post
    assert post("/api/events", json=one).json() == {"accepted": 1, "rejected": 0, "errors": []}
    assert post("/api/events", json=[one, one]).json()["accepted"] == 2
    lines = "\n".join([json.dumps(one), "", json.dumps({"service.name": "web"})])
    answer = post("/api/events", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert answer.json()["accepted"] == 2
    asked = {
        "breakdowns": ["dataset", "name", "error", "user.id", "flag.new", "ok", "list",
                       "user.deep.a.b.c.d"],
        "calculations": [{"op": "COUNT"}, {"op": "MAX", "column": "duration_ms"}],
        "time_range": "1h",
    }  # fmt: skip
    answer = post("/api/query", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0] == {
        "dataset": "shop", "name": "buy", "error": True, "user.id": "u1", "flag.new": "on",
        "ok": "false", "list": '[1,"a"]', "user.deep.a.b.c.d": '{"e":1}', "COUNT": 12,
        "MAX(duration_ms)": 12.5,
    }  # fmt: skip
    assert set(answer.json()) == {"results", "series", "query", "elapsed_ms", "rows_read"}
    assert post("/api/query", json={}).json()["rows_read"] == 5


def test_a_wrong_event_is_refused_alone_and_a_broken_body_whole(running: Running) -> None:
    post = running.http.post
    mixed = [{"name": "a"}, {"name": 1}, 5, {"time": "yesterday"}, {"time": 1}]
    answer = post("/api/events", json=mixed).json()
    assert (answer["accepted"], answer["rejected"]) == (1, 4)
    assert [one["index"] for one in answer["errors"]] == [1, 2, 3, 4]
    assert count(running) == 1
    lines = {"Content-Type": "application/x-ndjson"}
    broken = post("/api/events", content=b'{"name":"a"}\n{"name":', headers=lines)
    assert broken.status_code == 400
    assert broken.json()["error"]["where"] == "line 2"
    assert post("/api/events", content=b'[{"name":"a"},', headers=JSON).status_code == 400
    assert post("/api/events", json=[{"name": 7}]).json()["error"]["where"] == "$[0].name"
    assert count(running) == 1


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ({"filters": [{"column": "user.idd", "op": "=", "value": 1}]}, "unknown_column", "user.id"),
        ({"breakdowns": ["x' OR 1=1 --"]}, "unknown_column", ""),
        ({"granularity": 1, "time_range": 31_536_000}, "too_many_points", "at least 31536 s"),
        ({"time_range": "2000d"}, "time_range_out_of_range", "400 days"),
        ({"start_time": 2, "end_time": 1}, "time_range_out_of_range", ""),
        ({"calculations": [{"op": "P98", "column": "a"}]}, "unknown_value", "P99"),
        ({"calculations": [{"op": "SUM"}]}, "column_missing", "SUM(duration_ms)"),
        ({"filter": []}, "unknown_field", "filters"),
        ({"filters": [{"column": "name", "op": "in", "value": 1}]}, "wrong_value", "a list"),
        ({"limit": 0}, "limit_out_of_range", "1 to 1000"),
        ({"environment": "produdction"}, "unknown_environment", "production"),
        ({"dataset": "shopp"}, "unknown_dataset", "shop"),
        ({"orders": [{"column": "zz"}]}, "unknown_order", ""),
        ({"havings": [{"calculate_op": "HEATMAP", "op": ">", "value": 1}]}, "not_sortable", ""),
    ],
)
def test_a_query_that_cannot_be_is_refused_with_what_to_do(
    running: Running, asked: dict[str, Any], code: str, words: str
) -> None:
    running.http.post("/api/events", json={"dataset": "shop", "name": "a"})
    answer = running.http.post("/api/query", json=asked)
    assert answer.status_code in (400, 404), answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert words in error["hint"]
    assert error["where"].startswith("$")


def test_hostile_names_and_values_are_only_names_and_values(running: Running) -> None:
    hostile = [
        "a'b", 'a"b', "a`b", "a\\b", "a;DROP TABLE events", "{p0:String}", "%(x)s", "é\u2603",
        "a\nb\tc", "$x$", "a\x00b", "' OR 1=1 --", "toString(1)",
    ]  # fmt: skip
    running.http.post("/api/events", json={"name": "h", **{name: name for name in hostile}})
    running.http.post("/api/events", json={"name": "other"})
    for name in hostile:
        asked = {
            "filters": [{"column": name, "op": "=", "value": name}],
            "breakdowns": [name],
            "calculations": [{"op": "COUNT"}, {"op": "COUNT_DISTINCT", "column": name},
                             {"op": "HEATMAP", "column": name}],
            "havings": [{"calculate_op": "COUNT_DISTINCT", "column": name, "op": "=", "value": 1}],
            "orders": [{"column": name}, {"op": "COUNT_DISTINCT", "column": name}],
        }  # fmt: skip
        answer = running.http.post("/api/query", json=asked)
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"] == [
            {name: name, "COUNT": 1, f"COUNT_DISTINCT({name})": 1, f"HEATMAP({name})": []}
        ]
        assert running.store.promote(name) is False


def test_a_limited_key_reads_and_writes_its_own_environment_only(running: Running) -> None:
    for name in ("production", "staging"):
        event = {"deployment.environment.name": name, "name": name}
        assert running.http.post("/api/events", json=event).status_code == 200
    limited = application(running.api, environments=["staging"])
    with serving(limited) as url, httpx.Client(base_url=url) as http:
        seen = http.post("/api/query", json={"breakdowns": ["name"]}).json()["results"]
        assert [row["name"] for row in seen] == ["staging"]
        refused = http.post("/api/events", json={"deployment.environment.name": "production"})
        assert refused.json()["error"]["code"] == "environment_denied"
        assert http.post("/api/events", json={"name": "stamped"}).json()["accepted"] == 1
        seen = http.post("/api/query", json={"breakdowns": ["name"]}).json()["results"]
        assert {row["name"] for row in seen} == {"staging", "stamped"}


WRONG = "`produdction` is not an environment. Did you mean `production`?"


@pytest.mark.parametrize("name", ["deployment.environment.name", "deployment.environment"])
@pytest.mark.parametrize("place", ["span", "resource"])
def test_spans_of_an_undeclared_environment_are_refused_with_the_nearest_name(
    running: Running, name: str, place: str
) -> None:
    if place == "span":
        specs, resource = [now(attributes={name: "produdction"}), now(), now()], {}
        specs.append(now(attributes={name: "production"}))
    else:
        specs, resource = [now(), now(attributes={name: "production"})], {name: "produdction"}
    body = protobuf(specs, resource=resource)
    answer = running.http.post("/v1/traces", content=body, headers=PROTOBUF)
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (partial.rejected_spans, partial.error_message) == (1, WRONG)
    assert count(running) == len(specs) - 1
    body = otlp_json(specs, resource=resource)
    told = running.http.post("/v1/traces", content=body, headers=JSON).json()["partialSuccess"]
    assert told == {"rejectedSpans": "1", "errorMessage": WRONG}


def test_log_records_of_an_undeclared_environment_are_refused(running: Running) -> None:
    pair = {"key": "deployment.environment.name", "value": {"stringValue": "produdction"}}
    records = [{"timeUnixNano": str(time.time_ns()), "attributes": [pair]}] * 2
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    told = running.http.post("/v1/logs", json=body).json()["partialSuccess"]
    assert told == {"rejectedLogRecords": "2", "errorMessage": WRONG}
    assert count(running) == 0


def test_json_events_of_an_undeclared_environment_are_refused_one_by_one(running: Running) -> None:
    post = running.http.post
    named = [{}, {"deployment.environment.name": "produdction"}, {"deployment": {"environment": 5}},
             {"deployment.environment.name": ""}, {"deployment": {"environment": "staging"}},
             {"deployment.environment.name": 5}]  # fmt: skip
    answer = post("/api/events", json=named).json()
    assert (answer["accepted"], answer["rejected"]) == (4, 2)
    error = answer["errors"][0]
    assert (error["index"], error["code"]) == (1, "unknown_environment")
    assert f"{error['message']}. {error['hint']}" == WRONG
    assert answer["errors"][1]["message"] == "`5` is not an environment"
    refused = post("/api/events", json=named[1:2])
    assert refused.status_code == 400
    assert refused.json()["error"]["where"] == "$[0].deployment.environment.name"
    assert count(running) == 4


def test_a_limited_key_is_told_only_of_its_own_environments(running: Running) -> None:
    limited = application(running.api, environments=["staging"])
    with serving(limited) as url, httpx.Client(base_url=url) as http:
        event = {"deployment.environment.name": "produdction"}
        error = http.post("/api/events", json=event).json()["error"]
        assert (error["code"], error["hint"]) == ("unknown_environment", "Use one of `staging`.")


def test_columns_and_datasets_are_listed_with_their_types(running: Running) -> None:
    running.http.post("/api/events", json={"dataset": "shop", "a": 1, "b": "x"})
    running.http.post("/api/events", json={"dataset": "web", "a": "one"})
    assert running.http.get("/api/datasets").json() == {
        "datasets": [{"name": "shop"}, {"name": "web"}]
    }
    listed = running.http.get("/api/columns", params={"dataset": "shop"}).json()["columns"]
    types = {one["name"]: one["types"] for one in listed}
    assert types["a"] == ["number"]
    assert types["b"] == ["text"]
    assert types["duration_ms"] == ["number"]
    everywhere = running.http.get("/api/columns").json()["columns"]
    assert {one["name"]: one["types"] for one in everywhere}["a"] == ["number", "text"]
    unknown = running.http.get("/api/columns", params={"dataset": "shopp"})
    assert unknown.status_code == 404
    assert unknown.json()["error"]["hint"] == "Did you mean `shop`?"


def test_a_limited_key_is_shown_the_datasets_and_columns_of_its_own_environments_only(
    running: Running,
) -> None:
    for dataset, name in (("shop", "production"), ("web", "staging")):
        event = {"dataset": dataset, "deployment.environment.name": name, f"{dataset}.only": 1}
        assert running.http.post("/api/events", json=event).status_code == 200
    assert len(running.http.get("/api/datasets").json()["datasets"]) == 2
    limited = application(running.api, environments=["staging"])
    with serving(limited) as url, httpx.Client(base_url=url) as http:
        assert http.get("/api/datasets").json() == {"datasets": [{"name": "web"}]}
        listed = {one["name"] for one in http.get("/api/columns").json()["columns"]}
        assert "web.only" in listed
        assert "shop.only" not in listed
        assert http.get("/api/columns", params={"dataset": "web"}).status_code == 200
        refused = http.get("/api/columns", params={"dataset": "shop"})
        assert refused.status_code == 404
        assert refused.json()["error"]["hint"] == "Use one of `web`."


class Stuck:
    """A store whose flush never ends until the test says how."""

    def __init__(self) -> None:
        self.entered, self.go_on = Signal(), Signal()

    def insert(self, batches: Sequence[Batch]) -> None:
        self.entered.set()
        assert self.go_on.wait(10)
        raise Unavailable("down", "the store is down", hint="Send it again.")


def test_back_pressure_is_429_with_retry_after_and_a_failed_flush_is_503() -> None:
    with fresh_store() as store:
        stuck = Stuck()
        writer = Writer(stuck, bounds=Bounds(flush_s=0.01, queue_rows=1))
        api = EventApi(store=store, writer=writer, environments=tuple)
        with serving(application(api)) as url, httpx.Client(base_url=url, timeout=30) as http:
            waiting = writer.submit(_one())
            assert stuck.entered.wait(5)
            for path, body, headers in (
                ("/v1/traces", protobuf([now()]), PROTOBUF),
                ("/api/events", b'{"name":"a"}', JSON),
            ):
                answer = http.post(path, content=body, headers=headers)
                assert answer.status_code == 429
                assert int(answer.headers["Retry-After"]) >= 1
            stuck.go_on.set()
            assert waiting.exception(5) is not None
            answer = http.post("/v1/traces", content=protobuf([now()]), headers=PROTOBUF)
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "1"
            assert answer.content.startswith(b"\x08\x0e")
        writer.close()


def _one() -> Batch:
    from inprod.events.arrow import batch_of
    from inprod.events.event import Event
    from inprod.events.rows import Rows

    return batch_of(Rows.of([Event(time_ns=time.time_ns(), dataset="d")]))
