"""What a clumsy or hostile caller sends: each a clear error of ours, and never a bug."""

from __future__ import annotations

import gzip
import time
from collections.abc import Generator

import httpx
import pytest

from support.server import Server, running

JSON = {"content-type": "application/json"}
PROTOBUF_GZIP = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
DEEP = b"[" * 1000 + b"]" * 1000  # as deep as orjson reads
FLAG = {
    "key": "checkout", "kind": "boolean", "variants": {"on": True, "off": False},
    "default": "off", "off": "off",
}  # fmt: skip
SPLIT = {"control": "off", "treatments": [{"variant": "on"}], "percent": 0}
STATE = {"rules": [{"id": "released", "split": SPLIT}]}
HEATMAP = {"op": "HEATMAP", "column": "duration_ms"}
COUNTED = {"rate_per_s": 100, "share_percent": 5, "base_percent": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    with running(tmp_path_factory.mktemp("hostile") / "data") as server:
        server.remote.post("/api/environments", {"name": "production"})
        server.remote.post("/api/environments", {"name": "staging"})
        server.remote.post("/api/flags", {**FLAG, "environments": {"production": STATE}})
        server.remote.post("/api/events", [{"name": "visit", "duration_ms": 5, "dataset": "shop"}])
        yield server


@pytest.fixture
def http(server: Server) -> Generator[httpx.Client]:
    key = {"authorization": f"Bearer {server.key}"}
    with httpx.Client(base_url=server.url, headers=key, timeout=20) as client:
        yield client


def code_of(response: httpx.Response, status: int = 400) -> str:
    assert response.status_code == status, response.text[:300]
    error = response.json()["error"]
    assert error["message"]
    assert error["hint"]
    return error["code"]


@pytest.mark.parametrize(
    "path",
    ["/api/flags", "/api/flags/checkout/changes", "/api/flags/checkout/evaluate", "/api/rollouts",
     "/api/query", "/api/keys", "/api/levers", "/api/environments", "/api/forecast"],
)  # fmt: skip
def test_a_body_as_deep_as_json_goes_is_of_the_wrong_type(http: httpx.Client, path: str) -> None:
    assert code_of(http.post(path, content=DEEP, headers=JSON)) == "wrong_type"


@pytest.mark.parametrize("depth", [300, 1000])
def test_an_event_with_a_value_too_deep_is_refused_alone(http: httpx.Client, depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    body = b'[{"name": "kept"}, {"odd": ' + nested + b"}]"
    answer = http.post("/api/events", content=body, headers=JSON).json()
    assert (answer["accepted"], answer["rejected"]) == (1, 1)
    assert answer["errors"][0]["code"] == "too_deep"


def test_ofrep_refuses_a_context_too_deep_in_its_own_shape(http: httpx.Client) -> None:
    body = b'{"context": {"odd": ' + b"[" * 900 + b"]" * 900 + b"}}"
    path = "/ofrep/v1/evaluate/flags?environment=production"
    answer = http.post(path, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "INVALID_CONTEXT")


def test_a_body_of_countless_gzip_members_is_refused_at_once(http: httpx.Client) -> None:
    body = gzip.compress(b"") * 100_000
    began = time.monotonic()
    assert http.post("/v1/traces", content=body, headers=PROTOBUF_GZIP).status_code == 413
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("text", ["²", "9" * 5000, "-1", ""])
def test_an_odd_number_in_a_query_string_is_refused(http: httpx.Client, text: str) -> None:
    for path in ("/api/rollouts?limit=", "/api/audit?limit=", "/api/audit?before="):
        assert code_of(http.get(path + text)) == "bad_number"


@pytest.mark.parametrize("text", ["²", "9" * 5000])
def test_explore_shows_an_odd_limit_as_an_error_in_its_form(http: httpx.Client, text: str) -> None:
    answer = http.get(f"/explore?dataset=shop&limit={text}", headers={"accept": "text/html"})
    assert answer.status_code == 200
    assert "is not a limit" in answer.text


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("deadline_s", 1e300, "$.deadline_s"), ("settle_s", 1e300, "$.settle_s"),
        ("stale_s", 1e300, "$.stale_s"), ("alpha", 1e-320, "$.alpha"),
        ("steps", [{"level": 5, "bake_s": 1e300}], "$.steps[0].bake_s"),
        ("caps", {"duration_s": 1e300}, "$.caps.duration_s"),
    ],
)  # fmt: skip
def test_a_plan_the_loop_could_not_carry_out_never_starts(
    http: httpx.Client, field: str, value: object, where: str
) -> None:
    plan = {
        "name": "endless", "environment": "production", "dial": "flag/checkout",
        "steps": [{"level": 5}], field: value,
    }  # fmt: skip
    answer = http.post("/api/rollouts", json=plan)
    code_of(answer)
    assert answer.json()["error"]["where"] == where
    code_of(http.get("/api/rollouts/endless"), 404)


@pytest.mark.parametrize(
    ("field", "value"),
    [("abort_ratio", 0), ("promote_ratio", 0), ("promote_ratio", 1e308), ("alpha", 0),
     ("alpha", 5e-324), ("beta", 0), ("beta", 1)],
)  # fmt: skip
def test_a_forecast_of_what_cannot_be_is_refused(
    http: httpx.Client, field: str, value: float
) -> None:
    answer = http.post("/api/forecast", json={**COUNTED, field: value})
    assert code_of(answer) == "out_of_range"


@pytest.mark.parametrize("granularity", [1e308, 1e12])
def test_a_granularity_beyond_all_time_is_refused(http: httpx.Client, granularity: float) -> None:
    answer = http.post("/api/query", json={"granularity": granularity})
    assert code_of(answer) == "granularity_out_of_range"


def test_a_query_of_too_many_different_values_is_refused(http: httpx.Client) -> None:
    filters = [
        {"column": "duration_ms", "op": "in", "value": [n + one / 1000 for one in range(1, 1000)]}
        for n in range(8)
    ]
    assert code_of(http.post("/api/query", json={"filters": filters})) == "too_many_values"


def test_a_heatmap_asked_for_twice_is_answered_once(http: httpx.Client) -> None:
    once = http.post("/api/query", json={"calculations": [HEATMAP], "dataset": "shop"}).json()
    twice = http.post(
        "/api/query", json={"calculations": [HEATMAP, HEATMAP], "dataset": "shop"}
    ).json()
    name = "HEATMAP(duration_ms)"
    assert [cell[2] for cell in twice["results"][0][name]] == [1]
    assert len(once["results"][0][name]) == 1


@pytest.mark.parametrize("op", ["SUM", "AVG", "MIN", "MAX", "P99", "RATE_SUM"])
@pytest.mark.parametrize("column", ["name", "kind", "trace.trace_id"])
def test_a_column_that_holds_no_numbers_adds_up_to_nothing(
    http: httpx.Client, op: str, column: str
) -> None:
    answer = http.post(
        "/api/query", json={"calculations": [{"op": op, "column": column}], "dataset": "shop"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"] == [{f"{op}({column})": None}]


def test_a_query_of_an_environment_that_the_key_does_not_reach_is_denied(server: Server) -> None:
    key = server.add_key("staging-reader", "read", ["staging"])
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {key}"}) as http:
        answer = http.post("/api/query", json={"environment": "production"})
    assert code_of(answer, 403) == "wrong_environment"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/levers", {"scope": "environment", "environment": "produdction"}),
        ("/api/rollouts", {"name": "one", "environment": "produdction", "dial": "flag/checkout",
                           "steps": [{"level": 5}]}),
    ],
)  # fmt: skip
def test_an_unknown_environment_says_in_which_field(
    http: httpx.Client, path: str, body: dict[str, object]
) -> None:
    answer = http.post(path, json=body)
    assert code_of(answer, 404) == "unknown_environment"
    assert answer.json()["error"]["where"] == "$.environment"


def test_a_flag_document_without_a_type_is_told_to_add_one(http: httpx.Client) -> None:
    document = {"kind": "flag", **{key: one for key, one in FLAG.items() if key != "kind"}}
    answer = http.post("/api/apply", json=[document])
    assert code_of(answer) == "missing_field"
    assert "`type`" in answer.json()["error"]["hint"]


def test_nothing_of_all_this_was_a_bug(http: httpx.Client, server: Server) -> None:
    assert http.get("/readyz").status_code == 200
    assert "Traceback" not in server.log()
