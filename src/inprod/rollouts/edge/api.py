"""HTTP of rollouts: plans in, where they are, their journal, replay and evidence, and orders."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import asdict, dataclass

import orjson
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from inprod import document, web
from inprod.audit import Actor
from inprod.endpoint import Endpoint, Role
from inprod.guards.forecast import forecast_plan
from inprod.live import Lagged, Live
from inprod.rollouts.edge import show
from inprod.rollouts.edge.runner import Runner
from inprod.rollouts.edge.store import RolloutStore, Standing
from inprod.rollouts.rollout import Plan
from inprod.rollouts.state import Command, Verb
from inprod.safety.edge.api import whole
from inprod.safety.environment import require
from inprod.units import Percent, PerSecond
from inprod.web import grant_of

PING_S = 5.0


def _order(verb: Verb, sentence: str) -> Endpoint:
    return Endpoint(
        method="POST", path=f"/api/rollouts/{{name}}/{verb}", handler=verb.value,
        role=Role.OPERATE, sentence=sentence,
        takes='{"reason": "why"' + (', "keep": false}' if verb is Verb.STOP else "}"),
        gives="the rollout", raises=("Denied", "Missing", "Conflict"),
    )  # fmt: skip


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        method="GET", path="/api/rollouts", handler="rollouts", role=Role.READ,
        sentence="List the rollouts, the active ones first.", gives='{"rollouts": [rollout, ...]}',
    ),
    Endpoint(
        method="POST", path="/api/rollouts", handler="create", role=Role.OPERATE,
        sentence="Start a rollout.", takes="a plan", gives="the rollout",
        raises=("Invalid", "Denied", "Missing", "Conflict", "TooMuch"),
    ),
    Endpoint(
        method="GET", path="/api/rollouts/{name}", handler="rollout", role=Role.READ,
        sentence="Show where one rollout is, and its evidence now.", gives="the rollout",
        raises=("Denied", "Missing"),
    ),
    Endpoint(
        method="GET", path="/api/rollouts/{name}/journal", handler="journal", role=Role.READ,
        sentence="Show every decision with why, by whom and on what evidence.",
        gives='{"entries": [...]}', raises=("Denied", "Missing"),
    ),
    Endpoint(
        method="GET", path="/api/rollouts/{name}/replay", handler="replay", role=Role.READ,
        sentence="Recompute every decision from the journal, and say whether each is equal.",
        gives='{"equal": true, "sentence", "entries": [...]}', raises=("Denied", "Missing"),
    ),
    Endpoint(
        method="GET", path="/api/rollouts/{name}/evidence", handler="evidence", role=Role.READ,
        sentence="Show per guard its evidence over time.",
        gives='{"time": [...], "guards": [{"guard", "log_e_abort": [...], ...}]}',
        raises=("Denied", "Missing"),
    ),
    _order(Verb.PAUSE, "Hold it at its level until someone resumes it."),
    _order(Verb.RESUME, "Let a held rollout go on."),
    _order(Verb.ADVANCE, "Go to the next step now, or promote at the last one."),
    _order(Verb.ROLLBACK, "Put the dial back to safe and end it."),
    _order(Verb.STOP, "End it: the dial goes to safe, or stays with `keep`."),
    Endpoint(
        method="GET", path="/api/rollouts/{name}/stream", handler="stream", role=Role.READ,
        sentence="Follow one rollout: an event `rollout` now and at each change.",
        gives="server-sent events", raises=("Denied", "Missing"), kind="stream",
    ),
    Endpoint(
        method="POST", path="/api/forecast", handler="forecast", role=Role.READ,
        sentence="Say how long a guard would take at a traffic, a share and a base rate.",
        takes='{"rate_per_s", "share_percent", "base_percent", "effect", ...}',
        gives='{"abort_s", "promote_s", "sentence", ...}', raises=("Invalid",),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The body of an order."""

    reason: str = ""
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The body of a forecast; see `guards.forecast.forecast_plan`."""

    rate_per_s: PerSecond
    share_percent: Percent
    base_percent: Percent
    effect: float = 2.0
    abort_ratio: float = 1.1
    promote_ratio: float = 1.5
    alpha: float = 0.01
    beta: float = 0.05
    weight: float = 1.0


class RolloutApi:
    """One method per row of ENDPOINTS."""

    def __init__(
        self, *, store: RolloutStore, runner: Runner, live: Live,
        environments: Callable[[], Collection[str]],
    ) -> None:  # fmt: skip
        self._store = store
        self._runner = runner
        self._live = live
        self._environments = environments

    async def rollouts(self, request: Request) -> Response:
        """Answer all rollouts that the key may see."""
        limit = whole(request, "limit", 200, low=1, high=1000)
        found = await to_thread.run_sync(lambda: self._store.list(limit=limit))
        seen = [one for one in found if grant_of(request).reaches(one.plan.environment)]
        return web.answer({"rollouts": [show.rollout(one) for one in seen]})

    async def create(self, request: Request) -> Response:
        """Start one."""
        plan = document.read(Plan, await web.json_of(request))
        grant_of(request).require(plan.environment)
        actor: Actor = request.state.actor

        def start() -> Standing:
            require(plan.environment, self._environments(), where="$.environment")
            return self._runner.start(plan, actor)

        return web.answer(show.rollout(await to_thread.run_sync(start)), 201)

    async def rollout(self, request: Request) -> Response:
        """Answer one."""
        return web.answer(show.rollout(await self._standing(request)))

    async def journal(self, request: Request) -> Response:
        """Answer its journal."""
        standing = await self._standing(request)
        entries = await to_thread.run_sync(self._store.journal, standing.name)
        return web.answer({"entries": [show.entry(one) for one in entries]})

    async def replay(self, request: Request) -> Response:
        """Answer its replay."""
        standing = await self._standing(request)
        return web.answer(asdict(await to_thread.run_sync(self._runner.replay, standing.name)))

    async def evidence(self, request: Request) -> Response:
        """Answer its evidence over time."""
        standing = await self._standing(request)
        batches = await to_thread.run_sync(self._store.evidence, standing.name)
        return web.answer(show.evidence(standing.plan, batches))

    async def pause(self, request: Request) -> Response:
        """Hold it."""
        return await self._order(request, Verb.PAUSE)

    async def resume(self, request: Request) -> Response:
        """Let it go on."""
        return await self._order(request, Verb.RESUME)

    async def advance(self, request: Request) -> Response:
        """Go to the next step."""
        return await self._order(request, Verb.ADVANCE)

    async def rollback(self, request: Request) -> Response:
        """Put it back."""
        return await self._order(request, Verb.ROLLBACK)

    async def stop(self, request: Request) -> Response:
        """End it."""
        return await self._order(request, Verb.STOP)

    async def stream(self, request: Request) -> Response:
        """Follow one."""
        standing = await self._standing(request)
        return StreamingResponse(
            self._events(standing.name), media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )  # fmt: skip

    async def forecast(self, request: Request) -> Response:
        """Answer how long it would take."""
        question = document.read(Question, await web.json_of(request, bytes_max=10_000))
        return web.answer(asdict(forecast_plan(**asdict(question))))

    async def _standing(self, request: Request) -> Standing:
        standing = await to_thread.run_sync(self._store.get, request.path_params["name"])
        grant_of(request).require(standing.plan.environment)
        return standing

    async def _order(self, request: Request, verb: Verb) -> Response:
        standing = await self._standing(request)
        has_body = request.headers.get("content-length", "0") != "0"
        body = Order()
        if has_body or "transfer-encoding" in request.headers:
            body = document.read(Order, await web.json_of(request, bytes_max=10_000))
        actor: Actor = request.state.actor
        command = Command(verb=verb, actor=actor.name, reason=body.reason, keep=body.keep)
        return web.answer(show.rollout(await self._runner.command(standing.name, command, actor)))

    async def _events(self, name: str) -> AsyncGenerator[bytes]:
        async with self._live.listen("rollouts") as listener:
            yield await self._now(name)
            while True:
                try:
                    message = await listener.next(PING_S)
                except Lagged:
                    return  # the browser connects again and reads the whole state
                if message is None:
                    yield b"event: ping\ndata: {}\n\n"
                    continue
                payload = message.payload
                if isinstance(payload, dict) and payload.get("name") == name:  # pyright: ignore[reportUnknownMemberType]  # we published it
                    yield _sse(payload)  # pyright: ignore[reportUnknownArgumentType]

    async def _now(self, name: str) -> bytes:
        return _sse(show.rollout(await to_thread.run_sync(self._store.get, name)))


def _sse(payload: object) -> bytes:
    text = orjson.dumps(document.write(payload), option=orjson.OPT_NON_STR_KEYS)
    return b"event: rollout\ndata: " + text + b"\n\n"
