"""Routes of rollouts and safety over HTTP, with the world in memory behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from inprod import web
from inprod.endpoint import Endpoint, Role
from inprod.errors import InprodError
from inprod.grant import Grant
from inprod.rollouts.edge import api as rollouts_api
from inprod.rollouts.edge.api import RolloutApi
from inprod.safety.edge import api as safety_api
from inprod.safety.edge.api import SafetyApi
from inprod.safety.edge.store import EnvironmentStore
from support.rollout_world import ANA, Traffic, World

PLAN = {
    "name": "release", "environment": "production", "dial": "flag/checkout",
    "steps": [{"level": "10%", "bake_s": "10s"}, {"level": "50%", "bake_s": "10s"}],
    "guards": [{"name": "errors", "kind": "errors"}],
}  # fmt: skip


EVERYWHERE = Grant(name="ana", role=Role.ADMIN)
STAGING = Grant(name="ana", role=Role.ADMIN, environments=("staging",))


class Server:
    """The two APIs as a server mounts them, without keys."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder=folder, traffic=Traffic(users_per_s=10, base=0.2))
        self.grant = EVERYWHERE
        environments = EnvironmentStore(
            self.world.engine, self.world.audit.record, self.world.clock.now_ns
        )
        environments.add("production", ANA)
        safety = SafetyApi(
            environments=environments, levers=self.world.levers, audit=self.world.audit,
            dials=lambda: ["flag/checkout"],
        )  # fmt: skip
        rollouts = RolloutApi(
            store=self.world.store, runner=self.world.runner, live=self.world.live,
            environments=environments.names,
        )  # fmt: skip
        routes = [
            Route(one.path, _endpoint(getattr(owner, one.handler)), methods=[one.method])
            for table, owner in ((safety_api.ENDPOINTS, safety), (rollouts_api.ENDPOINTS, rollouts))
            for one in table
        ]
        self._app = Starlette(routes=routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {}).update(actor=ANA, grant=self.grant)
        await self._app(scope, receive, send)

    def ask(self, method: str, path: str, json: object = None) -> tuple[int, Any]:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                return await client.request(method, path, json=json)

        answer = asyncio.run(ask())
        return answer.status_code, answer.json()


def _endpoint(handler: Any) -> Any:
    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except InprodError as error:
            return web.answer({"error": error.document()}, error.status)

    return handle


@contextmanager
def _served(folder: Path) -> Generator[Server]:
    made = Server(folder)
    try:
        yield made
    finally:
        made.world.close()


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    with _served(tmp_path) as made:
        yield made


def test_every_row_of_the_tables_has_a_method_and_a_sentence() -> None:
    tables: list[tuple[tuple[Endpoint, ...], type]] = [
        (safety_api.ENDPOINTS, SafetyApi), (rollouts_api.ENDPOINTS, RolloutApi),
    ]  # fmt: skip
    for table, owner in tables:
        assert all(hasattr(owner, one.handler) and one.sentence.endswith(".") for one in table)


def test_environments_are_declared_and_listed(server: Server) -> None:
    assert server.ask("POST", "/api/environments", {"name": "staging"})[0] == 201
    assert server.ask("GET", "/api/environments")[1] == {"environments": ["production", "staging"]}
    status, body = server.ask("POST", "/api/environments", {"name": "staging"})
    assert (status, body["error"]["code"]) == (409, "environment_exists")
    status, body = server.ask("POST", "/api/environments", {"nam": "x"})
    assert (status, body["error"]["where"]) == (400, "$.nam")


def test_a_lever_is_pulled_listed_and_released_and_audited(server: Server) -> None:
    lever = {"scope": "environment", "environment": "production", "reason": "smoke"}
    assert server.ask("POST", "/api/levers", lever)[0] == 200
    assert [one["name"] for one in server.ask("GET", "/api/levers")[1]["levers"]] == ["production"]
    assert server.ask("DELETE", "/api/levers", lever)[0] == 200
    assert server.ask("DELETE", "/api/levers", lever)[0] == 404
    status, body = server.ask(
        "POST", "/api/levers", {"scope": "environment", "environment": "produdction"}
    )
    assert (status, body["error"]["hint"]) == (404, "Did you mean `production`?")
    audit = server.ask("GET", "/api/audit?verify=1&limit=2")[1]
    assert [one["what"] for one in audit["entries"]] == ["lever.release", "lever.pull"]
    assert audit["verified"]["broken_at"] is None
    assert server.ask("GET", "/api/audit?limit=0")[0] == 400


def test_a_key_of_one_environment_cannot_touch_another(server: Server) -> None:
    server.grant = STAGING
    everything = {"scope": "everything"}
    assert server.ask("POST", "/api/levers", everything)[0] == 403
    assert server.ask("POST", "/api/rollouts", PLAN)[0] == 403
    server.grant = EVERYWHERE
    assert server.ask("POST", "/api/rollouts", PLAN)[0] == 201
    server.grant = STAGING
    assert server.ask("GET", "/api/rollouts/release")[0] == 403
    assert server.ask("GET", "/api/rollouts")[1] == {"rollouts": []}


def test_a_rollout_is_started_followed_ordered_and_replayed(server: Server) -> None:
    status, made = server.ask("POST", "/api/rollouts", PLAN)
    assert (status, made["phase"], made["level"]) == (201, "planned", 0.0)
    server.world.tick()
    server.world.run("release", seconds=60)
    found = server.ask("GET", "/api/rollouts/release")[1]
    assert found["phase"] == "baking"
    assert found["judgement"]["guards"][0]["guard"] == "errors"
    assert found["users_exposed"] > 0
    assert server.ask("POST", "/api/rollouts/release/pause", {"reason": "lunch"})[0] == 200
    status, body = server.ask("POST", "/api/rollouts/release/pause")
    assert (status, body["error"]["code"]) == (409, "held_already")
    status, body = server.ask("POST", "/api/rollouts/release/rollback", {"reason": "enough"})
    assert (status, body["phase"], body["level"]) == (200, "rolled_back", 0.0)
    entries = server.ask("GET", "/api/rollouts/release/journal")[1]["entries"]
    assert [one["action"] for one in entries] == ["start", "arrive", "hold", "roll_back"]
    assert entries[-1]["actor"] == "ana"
    assert "enough" in entries[-1]["sentence"]
    assert server.ask("GET", "/api/rollouts/release/replay")[1]["equal"] is True
    evidence = server.ask("GET", "/api/rollouts/release/evidence")[1]
    guard = evidence["guards"][0]
    assert len(evidence["time"]) == len(guard["log_e_abort"]) == len(guard["low"]) > 3


@pytest.mark.parametrize(
    ("change", "status", "where"),
    [
        ({"environment": "produdction"}, 404, "$.environment"),
        ({"steps": [{"level": "101%"}]}, 400, "$.steps[0].level"),
        ({"stepps": []}, 400, "$.stepps"),
        ({"guards": [{"name": "e", "kind": "erors"}]}, 400, "$.guards[0].kind"),
    ],
)
def test_a_plan_that_cannot_be_stores_nothing(
    server: Server, change: dict[str, object], status: int, where: str
) -> None:
    code, body = server.ask("POST", "/api/rollouts", {**PLAN, **change})
    assert (code, body["error"]["where"]) == (status, where)
    assert server.ask("GET", "/api/rollouts")[1] == {"rollouts": []}


def test_a_forecast_is_a_sentence_before_anything_is_started(server: Server) -> None:
    body = {"rate_per_s": "2/s", "share_percent": "1%", "base_percent": "1%"}
    status, found = server.ask("POST", "/api/forecast", body)
    assert status == 200
    assert found["abort_s"] > 3600
    assert "With" in found["sentence"]


def test_a_stream_begins_with_the_rollout_and_goes_on_with_each_change(server: Server) -> None:
    server.ask("POST", "/api/rollouts", PLAN)

    async def follow() -> list[bytes]:
        world = server.world
        api = RolloutApi(
            store=world.store, runner=world.runner, live=world.live,
            environments=lambda: ("production",),
        )  # fmt: skip
        events = api._events("release")
        first = await anext(events)
        await world.runner.tick()
        rest = [await anext(events) for _ in range(2)]
        await events.aclose()
        return [first, *rest]

    told = asyncio.run(follow())
    assert b'"phase":"planned"' in told[0]
    assert b'"phase":"running"' in told[1]
    assert b'"phase":"baking"' in told[2]
