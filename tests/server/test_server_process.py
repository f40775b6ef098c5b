"""The process: one per data folder and port, stopped cleanly, killed without loss, bounded."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from inprod.errors import Unavailable
from inprod.server.state import connect_state
from support.postgres import cluster
from support.server import Server, run_cli, running, start

BODY_BYTES = 200_000_000
GROWTH_BYTES_MAX = 48_000_000
FLAG = {
    "kind": "flag", "key": "checkout", "type": "boolean", "default": "off", "off": "off",
    "variants": {"on": True, "off": False},
    "environments": {
        "production": {"rules": [{"id": "all", "split": {"control": "off", "treatments": ["on"]}}]}
    },
}  # fmt: skip
ROLLOUT = {
    "kind": "rollout", "name": "checkout-1", "environment": "production", "dial": "flag/checkout",
    "steps": [{"level": 10, "bake": "1h"}, {"level": 100}],
}  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    with running(tmp_path / "data") as server:
        yield server


def resident_bytes(pid: int) -> int:
    line = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line
    )
    return int(line.split()[1]) * 1024


def until(claim: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def test_a_second_server_on_the_same_data_is_refused_and_the_first_goes_on(server: Server) -> None:
    second = run_cli("up", "--data", str(server.data), "--port", "0", "--json")
    assert second.returncode == 5
    told = json.loads(second.stderr)["error"]
    assert told["code"] == "data_in_use"
    assert str(server.process.pid) in told["message"]
    assert "Traceback" not in second.stderr
    assert server.remote.get("/healthz") == {"status": "ok"}
    assert json.loads((server.data / "server.json").read_text())["url"] == server.url


def test_a_port_that_is_taken_is_a_conflict(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_cli("up", "--data", str(tmp_path / "data"), "--port", str(port))
    assert done.returncode == 5
    assert "cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data" / "server.json").exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "told", "code"),
    [
        (("--prot", "1"), {}, "No such option", 2),
        ((), {"INPROD_PROT": "1"}, "Did you mean `INPROD_PORT`?", 2),
        (("--host", "nowhere.invalid"), {}, "is not an address", 2),
        (("--state-url", "mysql://x"), {}, "is not a state URL", 2),
        (("--state-url", "postgresql://127.0.0.1:1/x"), {}, "does not answer", 7),
        (("--events-url", "ftp://x"), {}, "ftp://x", 2),
        (("--events-url", "http://127.0.0.1:1/x"), {}, "inprod:", 7),
        (("--config", "/nowhere.toml"), {}, "is not there", 4),
    ],
)
def test_a_server_that_cannot_start_says_why_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], told: str, code: int
) -> None:
    done = run_cli("up", "--data", str(tmp_path / "data"), "--port", "0", *arguments, **environment)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert told in done.stderr
    assert done.stdout == ""


def test_a_data_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_cli("up", "--data", str(tmp_path / "file" / "data"), "--port", "0")
    assert done.returncode == 2
    assert "cannot be the data folder" in done.stderr


def test_stopping_ends_open_streams_at_once_and_exits_with_zero(server: Server) -> None:
    server.remote.post("/api/environments", {"name": "production"})
    began = threading.Event()
    ended = threading.Event()

    def listen() -> None:
        for _ in server.remote.stream("/api/sdk/stream", environment="production"):
            began.set()
        ended.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert began.wait(10)
    before = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - before < 8
    assert ended.wait(5)
    assert not (server.data / "server.json").exists()
    assert "Traceback" not in server.log()
    assert "ERROR" not in server.log()


def test_a_restart_keeps_keys_sessions_and_flags_and_makes_no_second_admin(tmp_path: Path) -> None:
    with running(tmp_path / "data") as first:
        app = first.add_key("app", "read")
        first.remote.post("/api/environments", {"name": "production"})
        first.remote.post("/api/apply", [FLAG])
        port = int(first.url.rpartition(":")[2])
    again = start(tmp_path / "data", port=port)
    try:
        assert again.key == first.key
        assert [key["name"] for key in again.remote.get("/api/keys")["keys"]] == ["admin", "app"]
        assert again.remote_with(app).get("/api/flags")["flags"][0]["flag"]["key"] == "checkout"
        assert again.login != first.login
    finally:
        again.stop()


@pytest.mark.parametrize("left", [None, b"", b"\xff\xfe\x00"])
def test_a_lost_key_file_is_answered_by_a_new_admin_key(tmp_path: Path, left: bytes | None) -> None:
    with running(tmp_path / "data"):
        pass
    key_file = tmp_path / "data" / "admin.key"
    key_file.unlink()
    if left is not None:
        key_file.write_bytes(left)
    with running(tmp_path / "data") as again:
        names = [key["name"] for key in again.remote.get("/api/keys")["keys"]]
        assert names == ["admin", "admin-2"]
        assert again.remote.get("/api/me")["name"] == "admin-2"


def test_a_killed_server_comes_back_with_its_rollout_and_its_events(tmp_path: Path) -> None:
    first = start(tmp_path / "data")
    remote = first.remote
    remote.post("/api/environments", {"name": "production"})
    remote.post("/api/apply", [FLAG, ROLLOUT])
    until(lambda: remote.get("/api/rollouts/checkout-1")["phase"] == "baking")
    sent = 0
    for _ in range(20):
        events = [{"dataset": "shop", "name": "buy", "n": n} for n in range(50)]
        remote.post("/api/events", events)
        sent += len(events)
    first.kill()
    assert (tmp_path / "data" / "server.json").exists()
    with running(tmp_path / "data") as again:
        found = again.remote.get("/api/rollouts/checkout-1")
        assert (found["phase"], found["level"]) == ("baking", 10)
        assert again.remote.get("/api/rollouts/checkout-1/replay")["equal"]
        query = {"dataset": "shop", "time_range": 3600, "disable_series": True}
        assert again.remote.post("/api/query", query)["results"] == [{"COUNT": sent}]
        assert again.remote.get("/api/audit", verify=1)["verified"]["broken_at"] is None


def test_a_stale_server_file_of_a_killed_server_is_told_as_nobody_answering(tmp_path: Path) -> None:
    server = start(tmp_path / "data")
    server.kill()
    done = server.cli("flags", "list")
    assert done.returncode == Unavailable.exit_code
    assert "nothing answers" in done.stderr


def test_a_body_of_200_mb_is_refused_without_growing(server: Server) -> None:
    server.remote.get("/readyz")
    port = int(server.url.rpartition(":")[2])
    before = resident_bytes(server.process.pid)
    chunk = b"x" * 1_000_000
    highest = before
    for head in (
        f"Content-Length: {BODY_BYTES}\r\n",
        "Transfer-Encoding: chunked\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(
                f"POST /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}"
                "Content-Type: application/json\r\n\r\n".encode()
            )
            for _ in range(BODY_BYTES // len(chunk)):
                part = chunk if "Length" in head else b"f4240\r\n" + chunk + b"\r\n"
                try:
                    connection.sendall(part)
                except (BrokenPipeError, ConnectionResetError):
                    break
                highest = max(highest, resident_bytes(server.process.pid))
            answer = connection.recv(65536)
            assert b" 413 " in answer, answer[:200]
            assert b"body_too_large" in answer
    assert highest - before < GROWTH_BYTES_MAX, f"grew by {highest - before}"
    assert server.remote.get("/healthz") == {"status": "ok"}


def test_small_limits_hold_for_small_routes(server: Server) -> None:
    with httpx.Client(base_url=server.url, headers={"x-api-key": server.key}) as http:
        answer = http.post("/api/environments", content=b"x" * 2_000_000)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_large"
        assert http.post("/api/apply", content=b"{").json()["error"]["code"] == "not_json"
        assert http.post("/api/apply", json={}).json()["error"]["code"] == "not_a_list"
        many = [{"kind": "environment", "name": f"e{n}"} for n in range(501)]
        assert http.post("/api/apply", json=many).json()["error"]["code"] == "too_many_documents"


def test_streams_are_limited(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--streams-max", "2") as server:
        url = f"{server.url}/live?topics=flags"
        headers = {"x-api-key": server.key}
        with (
            httpx.Client(headers=headers) as http,
            http.stream("GET", url) as one,
            http.stream("GET", url) as two,
        ):
            assert (one.status_code, two.status_code) == (200, 200)
            refused = http.get(url)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) > 0


def test_what_people_do_is_told_as_events_of_inprod(server: Server) -> None:
    server.remote.post("/api/environments", {"name": "production"})
    query = {
        "dataset": "inprod", "breakdowns": ["http.route", "inprod.actor"], "disable_series": True,
    }  # fmt: skip

    def told() -> bool:
        try:
            found = server.remote.post("/api/query", query)["results"]
        except Exception:  # noqa: BLE001  # the dataset is unknown until the first event
            return False
        return any(row["http.route"] == "/api/environments" for row in found)

    until(told)
    row = server.remote.post("/api/query", query)["results"][0]
    assert row["inprod.actor"] == "admin"


def test_the_server_runs_on_postgresql(tmp_path: Path) -> None:
    with cluster() as url, running(tmp_path / "data", "--state-url", url) as server:
        server.remote.post("/api/environments", {"name": "production"})
        done = server.remote.post("/api/apply", [FLAG, ROLLOUT])
        assert [one["action"] for one in done["documents"]] == ["create", "create"]
        remote = server.remote
        until(lambda: remote.get("/api/rollouts/checkout-1")["phase"] == "baking")
        assert server.remote.get("/api/rollouts/checkout-1/replay")["equal"]
        assert server.remote.get("/api/audit", verify=1)["verified"]["broken_at"] is None
        assert not (server.data / "state.db").exists()
        with httpx.Client(base_url=server.url, headers={"x-api-key": server.key}) as http:
            assert http.get("/api/flags/%00").status_code in (400, 404)
            change = {"changes": [{"change": "set_about", "owner": "a"}], "reason": "nul \0"}
            refused = http.post("/api/flags/checkout/changes", json=change)
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_value")
            assert http.get("/readyz").status_code == 200


def test_bound_to_the_world_nobody_ingests_without_a_key(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--host", "0.0.0.0", "--hosts", "inprod.example") as server:
        assert server.url.startswith("http://127.0.0.1:")
        with httpx.Client(base_url=server.url) as http:
            assert http.post("/api/events", json={"a": 1}).status_code == 401
            assert http.get("/healthz", headers={"host": "inprod.example"}).status_code == 200
            assert http.get("/healthz", headers={"host": "other.example"}).status_code == 403


def test_the_login_link_and_the_cookie_follow_the_public_url(tmp_path: Path) -> None:
    public = "https://inprod.example"
    with running(tmp_path / "data", "--public-url", public) as server:
        assert server.login.startswith(public + "/login?token=")
        local = json.loads((server.data / "server.json").read_text())
        assert local["pid"] == server.process.pid
        assert local["url"].startswith("http://127.0.0.1:")
        assert server.json("env", "list") == {"environments": []}
        with httpx.Client(base_url=local["url"], headers={"host": "inprod.example"}) as http:
            path = server.login.removeprefix(public)
            assert "secure" in http.get(path).headers["set-cookie"].lower()


def test_a_database_that_goes_away_is_unavailable_and_comes_back(tmp_path: Path) -> None:
    with cluster() as url, running(tmp_path / "data", "--state-url", url) as server:
        server.remote.post("/api/environments", {"name": "production"})
        engine = connect_state(url)
        ending = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                      "WHERE pid <> pg_backend_pid() AND datname = 'inprod'")  # fmt: skip
        for _ in range(3):
            with engine.connect() as connection:
                connection.execute(ending)
            assert server.remote.get("/api/environments")["environments"] == ["production"]
        engine.dispose()
        until(lambda: server.remote.get("/readyz")["status"] == "ok")


def test_odd_requests_are_answered_and_nothing_breaks(server: Server) -> None:
    port = int(server.url.rpartition(":")[2])
    requests = (
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /%00%ff%2e%2e/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/flags/%00?environment=%00%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://evil.example/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    )
    for request in requests:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            try:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(65536)
            except OSError:
                continue
            assert b" 500 " not in answer[:20], request[:80]
            assert b" 200 " not in answer[:20], request[:80]
    assert server.remote.get("/healthz") == {"status": "ok"}
    assert "Traceback" not in server.log()
