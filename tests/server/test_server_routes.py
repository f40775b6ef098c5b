"""Every route of the table against a real server: who may, what is refused, in which shape."""

from __future__ import annotations

import re
from collections.abc import Generator

import httpx
import pytest

from inprod.endpoint import INCLUDES, Endpoint, Role
from inprod.events.edge import api as events_api
from inprod.events.edge import pages as events_pages
from inprod.flags.edge import api as flags_api
from inprod.flags.edge import ofrep
from inprod.flags.edge import pages as flags_pages
from inprod.rollouts.edge import api as rollouts_api
from inprod.rollouts.edge import pages as rollouts_pages
from inprod.safety.edge import api as safety_api
from inprod.server import api as server_api
from inprod.server import pages as server_pages
from support.server import Server, running

TABLE: tuple[Endpoint, ...] = (
    *server_api.ENDPOINTS, *safety_api.ENDPOINTS, *flags_api.ENDPOINTS, *ofrep.ENDPOINTS,
    *events_api.ENDPOINTS, *rollouts_api.ENDPOINTS, *server_pages.PAGES, *flags_pages.PAGES,
    *events_pages.PAGES, *rollouts_pages.PAGES,
)  # fmt: skip
PULLS = {"/levers/pull", "/api/levers"}  # an empty form pulls everything: asked last, by nobody


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    with running(tmp_path_factory.mktemp("routes") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def keys(server: Server) -> dict[Role, str]:
    return {role: server.add_key(f"t-{role}", role.value) for role in Role}


@pytest.fixture
def http(server: Server) -> Generator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client


def path_of(endpoint: Endpoint) -> str:
    return re.sub(r"{[^}]+}", "nobody", endpoint.path)


def ask(http: httpx.Client, endpoint: Endpoint, headers: dict[str, str]) -> tuple[int, str]:
    """Return status and error code; streams are left at their headers."""
    with http.stream(endpoint.method, path_of(endpoint), headers=headers) as response:
        if "text/event-stream" in response.headers.get("content-type", ""):
            return response.status_code, ""
        response.read()
        try:
            return response.status_code, response.json()["error"]["code"]
        except (ValueError, KeyError, TypeError):
            return response.status_code, ""


@pytest.mark.parametrize("held", list(Role))
def test_each_route_is_open_to_the_roles_that_include_its_own(
    http: httpx.Client, keys: dict[Role, str], held: Role
) -> None:
    headers = {"authorization": f"Bearer {keys[held]}"}
    for endpoint in TABLE:
        if endpoint.path in PULLS and endpoint.method == "POST":
            continue
        status, code = ask(http, endpoint, headers)
        may = endpoint.role is None or endpoint.role in INCLUDES[held]
        told = f"{endpoint.method} {endpoint.path} as {held}: {status} {code}"
        assert status != 500, told
        if endpoint.path == "/login":
            assert status == 403, told
        elif may:
            assert status != 401, told
            assert code != "wrong_role", told
        elif endpoint.path.startswith("/v1/"):
            assert status == 403, told
        else:
            assert (status, code) == (403, "wrong_role"), told


def test_without_a_key_only_open_routes_and_loopback_ingest_answer(http: httpx.Client) -> None:
    for endpoint in TABLE:
        status, code = ask(http, endpoint, {})
        told = f"{endpoint.method} {endpoint.path}: {status} {code}"
        if endpoint.role is None or endpoint.role is Role.INGEST:
            assert status not in (401, 500), told
        else:
            assert (status, code) == (401, "no_key"), told


def test_a_wrong_key_is_unauthorized_and_says_how_to_authenticate(http: httpx.Client) -> None:
    answer = http.get("/api/flags", headers={"authorization": "Bearer inprod_wrong"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert set(answer.json()["error"]) == {"code", "message", "where", "hint"}


def test_a_forged_host_is_refused_on_every_route(http: httpx.Client, server: Server) -> None:
    headers = {"host": "evil.example", "authorization": f"Bearer {server.key}"}
    for endpoint in TABLE:
        status, code = ask(http, endpoint, headers)
        assert status == 403, endpoint
        assert code == "unknown_host" or endpoint.path.startswith("/v1/"), endpoint
    assert http.get("/nope", headers=headers).json()["error"]["code"] == "unknown_host"


def test_every_answer_carries_the_security_headers(http: httpx.Client, server: Server) -> None:
    for path in ("/", "/healthz", "/nope", "/api/flags", "/static/inprod.css"):
        answer = http.get(path, headers={"accept": "text/html"})
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers


def test_an_unknown_path_suggests_the_nearest_and_a_wrong_method_lists_those_that_are(
    http: httpx.Client,
) -> None:
    answer = http.get("/api/flgs")
    assert answer.status_code == 404
    assert answer.json()["error"]["hint"] == "Did you mean `/api/flags`?"
    page = http.get("/nope", headers={"accept": "text/html,*/*"})
    assert page.status_code == 404
    assert b"/explore" in page.content
    assert b"/api/" not in page.content
    answer = http.patch("/api/flags")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert http.head("/healthz").status_code == 200
    assert http.request("BREW", "/healthz").status_code in (400, 405)


def test_a_person_gets_errors_as_pages_and_a_program_as_json(http: httpx.Client) -> None:
    page = http.get("/flags", headers={"accept": "text/html,*/*"})
    assert page.status_code == 401
    assert page.headers["content-type"].startswith("text/html")
    assert "inprod login" in page.text
    program = http.get("/flags", headers={"accept": "*/*"})
    assert program.json()["error"]["code"] == "no_key"
    assert http.get("/api/x", headers={"accept": "text/html"}).json()["error"]


def test_an_injected_path_is_shown_escaped(http: httpx.Client) -> None:
    page = http.get("/<script>alert(1)</script>", headers={"accept": "text/html"})
    assert page.status_code == 404
    assert "<script>alert" not in page.text


def test_otlp_gets_its_errors_in_its_own_shape(http: httpx.Client) -> None:
    headers = {"authorization": "Bearer wrong", "content-type": "application/x-protobuf"}
    answer = http.post("/v1/traces", headers=headers, content=b"")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert b"unknown or revoked" in answer.content


def test_the_login_link_works_once_and_the_cookie_is_closed_to_scripts(
    server: Server, http: httpx.Client
) -> None:
    link = server.remote.post("/api/logins")["url"]
    first = http.get(link)
    assert first.status_code == 303
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert http.get("/api/me").json()["name"] == "admin"
    http.cookies.clear()
    again = http.get(link)
    assert (again.status_code, again.json()["error"]["code"]) == (403, "bad_login")
    assert http.get("/login").json()["error"]["code"] == "no_login"
    assert http.get("/api/me").json()["name"] is None


def test_a_cookie_changes_nothing_without_the_origin_and_logging_out_ends_it(
    server: Server, http: httpx.Client
) -> None:
    http.get(server.remote.post("/api/logins")["url"])
    body = {"name": "from-a-page"}
    assert http.post("/api/environments", json=body).json()["error"]["code"] == "no_origin"
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        refused = http.post("/api/environments", json=body, headers={"origin": origin})
        assert refused.json()["error"]["code"] == "wrong_origin"
    assert "from-a-page" not in server.remote.get("/api/environments")["environments"]
    own = {"origin": server.url}
    assert http.post("/api/environments", json=body, headers=own).status_code == 201
    kept = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
    assert http.post("/logout", headers=own).status_code == 303
    assert http.get("/api/flags", headers={"cookie": kept}).status_code == 401


def test_a_key_for_one_environment_does_not_reach_another(server: Server) -> None:
    for name in ("reach-a", "reach-b"):
        server.remote.post("/api/environments", {"name": name})
    narrow = server.add_key("narrow", "operate", ["reach-a"])
    assert server.remote_with(narrow).get("/api/flags", environment="reach-a")
    with httpx.Client(base_url=server.url, headers={"x-api-key": narrow}) as http:
        answer = http.get("/api/flags?environment=reach-b")
        assert answer.json()["error"]["code"] == "wrong_environment"
        wider = {"name": "wider", "role": "operate"}
        assert http.post("/api/keys", json=wider).status_code == 403


def test_an_admin_key_of_one_environment_makes_no_key_that_reaches_further(server: Server) -> None:
    server.remote.post("/api/environments", {"name": "walled"})
    walled = server.add_key("walled-admin", "admin", ["walled"])
    with httpx.Client(base_url=server.url, headers={"x-api-key": walled}) as http:
        for wanted in (None, ["walled", "reach-a"]):
            body = {"name": "out", "role": "read", "environments": wanted}
            assert http.post("/api/keys", json=body).json()["error"]["code"] in (
                "wrong_environment", "unknown_environment",
            )  # fmt: skip
        inside = {"name": "in", "role": "read", "environments": ["walled"]}
        assert http.post("/api/keys", json=inside).status_code == 201


def test_an_unknown_environment_is_refused_everywhere_with_the_nearest(server: Server) -> None:
    server.remote.post("/api/environments", {"name": "production"})
    wrong = "produdction"
    document = {
        "key": "f", "variants": {"a": True, "b": False}, "default": "a",
        "off": "b",
    }  # fmt: skip
    asked = [
        ("GET", f"/api/sdk/flags?environment={wrong}", None),
        ("GET", f"/api/sdk/stream?environment={wrong}", None),
        ("POST", f"/ofrep/v1/evaluate/flags/f?environment={wrong}", {"context": {}}),
        ("POST", "/api/flags", {**document, "kind": "boolean", "environments": {wrong: {}}}),
        ("POST", "/api/apply",
         [{**document, "kind": "flag", "type": "boolean", "environments": {wrong: {}}}]),
        ("POST", "/api/query", {"environment": wrong}),
        ("POST", "/api/keys", {"name": "k", "role": "sdk", "environments": [wrong]}),
        ("POST", "/api/levers", {"scope": "environment", "environment": wrong}),
        ("POST", "/api/rollouts",
         {"name": "r", "environment": wrong, "dial": "flag/f", "steps": [{"level": 1}]}),
    ]  # fmt: skip
    with httpx.Client(base_url=server.url, headers={"x-api-key": server.key}) as http:
        for method, path, body in asked:
            answer = http.request(method, path, json=body)
            told = f"{method} {path}: {answer.status_code} {answer.text}"
            assert answer.status_code == 404 or path.startswith("/ofrep"), told
            assert "produdction` is not an environment" in answer.text, told
            if not path.startswith("/ofrep"):
                assert "Did you mean `production`?" in answer.text, told
        assert wrong not in http.get("/api/environments").json()["environments"]


def test_the_description_of_the_api_holds_every_route_of_the_tables(http: httpx.Client) -> None:
    described = http.get("/api/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    operations = {
        (method.upper(), path) for path, methods in described["paths"].items() for method in methods
    }
    expected = {
        (one.method, re.sub(r":\w+}", "}", one.path)) for one in TABLE if one.kind != "page"
    }
    assert operations == expected
    ids = [one["operationId"] for path in described["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids))


def test_assets_are_revalidated_or_kept_forever_by_their_hash(http: httpx.Client) -> None:
    plain = http.get("/static/inprod.css")
    assert plain.headers["cache-control"] == "no-cache"
    tag = {"if-none-match": plain.headers["etag"]}
    assert http.get("/static/inprod.css", headers=tag).status_code == 304
    page = http.get("/flags", headers={"accept": "text/html"})
    hashed = re.search(r'"(/static/@[0-9a-f]+/inprod.css)"', page.text)
    assert hashed
    assert "immutable" in http.get(hashed[1]).headers["cache-control"]
    stale = http.get("/static/@0123456789abcdef/inprod.css")
    assert stale.headers["cache-control"] == "no-cache"
    assert stale.content == plain.content
    for wrong in ("/static/inprod.cs", "/static/../api.py", "/static/%2e%2e/api.py"):
        assert http.get(wrong).status_code in (404, 405)


def test_health_and_readiness_say_what_works(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json()["checks"] == {"state": "ok", "events": "ok", "loop": "ok"}


def test_nothing_of_all_this_was_a_bug_in_the_log(server: Server) -> None:
    assert "Traceback" not in server.log()
