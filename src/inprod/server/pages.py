"""Home, the levers, the patterns and the stream that tells open pages that something changed."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from inprod.audit import Actor
from inprod.endpoint import Endpoint, Role
from inprod.errors import InprodError, Invalid, nearest
from inprod.events.edge.store import EventStore
from inprod.events.query import Calculate, Calculation, Filter, Query
from inprod.flags.edge.store import FlagStore
from inprod.grant import Grant
from inprod.live import Lagged, Live
from inprod.operators import Op
from inprod.rollouts.edge.view import RolloutView
from inprod.rollouts.rollout import Phase
from inprod.safety.edge.store import AuditLog, EnvironmentStore, LeverStore
from inprod.safety.environment import require
from inprod.safety.lever import Lever, Scope
from inprod.server.patterns import patterns
from inprod.web import form_of, grant_of

Render = Callable[[Request, str, Mapping[str, object]], Response]
TOPICS = ("flags", "rollouts", "levers")
PING_S = 15.0
SECOND_NS = 1_000_000_000
OWN = "inprod"  # what inprod says about itself is not traffic
TRAFFIC_S = 600.0
TRAFFIC_STEP_S = 10.0
RATE_STEPS = 6
FRESH_S = 60.0
EVALUATED_S = 30 * 86_400.0
CACHE_S = 4.0
RECENT_SHOWN = 3
CHANGES_SHOWN = 8
CHANGES_READ = 60
QUIET = ("session.", "login.", "rollout.arrive")
ECHO = ("flag.change", OWN)  # a rollout's own turn, told by the rollout's entry
SEE_OTHER = 303
PAGES: tuple[Endpoint, ...] = (
    Endpoint(
        method="GET", path="/", handler="home", role=Role.READ, kind="page",
        sentence="Show what is turned up now, who is watching it, and the lever.",
    ),
    Endpoint(
        method="POST", path="/levers/pull", handler="pull", role=Role.OPERATE, kind="page",
        sentence="Pull the lever of everything, or of one environment.",
        takes="form: environment, reason", raises=("Denied", "Missing"),
    ),
    Endpoint(
        method="POST", path="/levers/release", handler="release", role=Role.OPERATE, kind="page",
        sentence="Release a lever; nothing resumes by itself.",
        takes="form: scope, environment, dial, reason", raises=("Denied", "Missing"),
    ),
    Endpoint(
        method="GET", path="/patterns", handler="patterns", role=Role.READ, kind="page",
        sentence="Show every element of the pages, in both schemes.",
    ),
    Endpoint(
        method="GET", path="/live", handler="live", role=Role.READ, kind="stream",
        sentence="Tell an open page which topics changed, so that it reads itself again.",
        takes="query: topics", gives="server-sent events `change` with the topic",
        raises=("Invalid",),
    ),
)  # fmt: skip
FIRST_STEPS = (
    {"why": "Say which environment is real, so that a typo is never one.",
     "command": "inprod env add production"},
    {"why": "Write a flag down, look at what would change, then apply it.",
     "command": "inprod apply -f flag.yaml --dry-run && inprod apply -f flag.yaml"},
    {"why": "Release it by degrees, with guards that turn it back.",
     "command": "inprod apply -f rollout.yaml"},
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DialRow:
    """One dial above its safe level."""

    name: str
    environment: str
    level: float
    unit: str
    safe: float
    href: str
    rollout: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """How much one dataset sent lately."""

    name: str
    events: int
    last_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Whether events arrive; `points` are events per second, oldest first."""

    datasets: tuple[Dataset, ...] = ()
    points: tuple[float, ...] = ()
    per_second: float = 0.0
    highest: float = 0.0
    is_fresh: bool = False
    error: str = ""


class Sightings:
    """What the event store says about flags and traffic; the former remembered for CACHE_S.

    `dataset` holds the exposures that SDKs count, `column` names the flag in them.
    """

    def __init__(
        self, events: EventStore, *, dataset: str, column: str, now_ns: Callable[[], int]
    ) -> None:
        self._events = events
        self._dataset = dataset
        self._column = column
        self._now_ns = now_ns
        self._evaluated: dict[str, int] = {}
        self._until_s = 0.0

    def last_evaluated(self) -> Mapping[str, int]:
        """Return flag key -> Unix ns of its last evaluation that an SDK has counted."""
        if time.monotonic() < self._until_s:
            return self._evaluated
        if self._dataset in self._events.catalogue.datasets():
            query = Query(
                calculations=(Calculation(op=Calculate.MAX, column="time"),),
                breakdowns=(self._column,), dataset=self._dataset, time_range=EVALUATED_S,
                limit=1000, disable_series=True,
            )  # fmt: skip
            try:
                rows = self._events.answer(query).results
            except InprodError:  # the page is worth more than this column
                rows = []
            self._evaluated = {
                str(row[self._column]): int(row["MAX(time)"] * SECOND_NS)
                for row in rows
                if row.get(self._column) is not None and row.get("MAX(time)") is not None
            }
        self._until_s = time.monotonic() + CACHE_S
        return self._evaluated

    def traffic(self, reach: Collection[str] | None) -> Traffic:
        """Return what arrived in the last ten minutes, by dataset."""
        if not self._events.catalogue.datasets():
            return Traffic()
        query = Query(
            calculations=(
                Calculation(op=Calculate.COUNT), Calculation(op=Calculate.MAX, column="time"),
            ),
            filters=(Filter(column="dataset", op=Op.DOES_NOT_START_WITH, value=OWN),),
            breakdowns=("dataset",), time_range=TRAFFIC_S, granularity=TRAFFIC_STEP_S, limit=50,
        )  # fmt: skip
        try:
            answer = self._events.answer(query, environments=reach)
        except InprodError as error:
            return Traffic(error=str(error))
        datasets = tuple(
            Dataset(
                name=str(row["dataset"]), events=int(row["COUNT"]),
                last_ns=int((row["MAX(time)"] or 0) * SECOND_NS),
            )
            for row in answer.results
        )  # fmt: skip
        points = _points(answer.series, answer.query["start_time"], answer.query["end_time"])
        last_ns = max((one.last_ns for one in datasets), default=0)
        points = points[1:-1]  # the first and the last step are cut off by the range
        recent = points[-RATE_STEPS:]
        return Traffic(
            datasets=datasets,
            points=points,
            per_second=round(sum(recent) / len(recent), 1) if recent else 0.0,
            highest=round(max(points, default=0.0), 1),
            is_fresh=self._now_ns() - last_ns < FRESH_S * SECOND_NS,
        )


class HomePages:
    """One method per row of PAGES."""

    def __init__(
        self,
        *,
        flags: FlagStore,
        rollouts: Callable[[], Sequence[RolloutView]],
        levers: LeverStore,
        environments: EnvironmentStore,
        audit: AuditLog,
        sightings: Sightings,
        live: Live,
        render: Render,
    ) -> None:
        self._flags = flags
        self._rollouts = rollouts
        self._levers = levers
        self._environments = environments
        self._audit = audit
        self._sightings = sightings
        self._live = live
        self._render = render

    async def home(self, request: Request) -> Response:
        """Show Home."""
        grant = grant_of(request)
        context = await to_thread.run_sync(self._home, grant)
        base_url = str(request.base_url).rstrip("/")
        return self._render(request, "home.html", {**context, "base_url": base_url})

    async def pull(self, request: Request) -> Response:
        """Pull a lever."""
        form = await form_of(request)
        environment = form.get("environment", "")
        grant_of(request).require(environment)
        scope = Scope.ENVIRONMENT if environment else Scope.EVERYTHING
        lever = Lever(scope=scope, environment=environment)
        actor: Actor = request.state.actor
        reason = form.get("reason", "").strip() or "pulled from the page"

        def pull() -> None:
            if environment:
                require(environment, self._environments.names())
            self._levers.pull(lever, actor=actor, reason=reason)

        await to_thread.run_sync(pull)
        return RedirectResponse("/#lever", status_code=SEE_OTHER)

    async def release(self, request: Request) -> Response:
        """Release a lever."""
        form = await form_of(request)
        grant_of(request).require(form.get("environment", ""))
        named = form.get("scope", "")
        if named not in list(Scope):
            raise Invalid("bad_lever", f"`{named[:40]}` is not a scope", hint=nearest(named, Scope))
        lever = Lever(
            scope=Scope(named), environment=form.get("environment", ""), dial=form.get("dial", "")
        )
        actor: Actor = request.state.actor
        reason = form.get("reason", "").strip() or "released from the page"
        await to_thread.run_sync(lambda: self._levers.release(lever, actor=actor, reason=reason))
        return RedirectResponse("/#lever", status_code=SEE_OTHER)

    async def patterns(self, request: Request) -> Response:
        """Show the patterns."""
        return self._render(request, "patterns.html", patterns())

    async def live(self, request: Request) -> Response:
        """Stream the names of the topics that change."""
        wanted = tuple(filter(None, request.query_params.get("topics", "").split(",")))
        for topic in wanted:
            if topic not in TOPICS:
                raise Invalid(
                    "unknown_topic", f"`{topic[:40]}` is not a topic", where="?topics",
                    hint=nearest(topic, TOPICS),
                )  # fmt: skip
        return StreamingResponse(
            self._changes(wanted or TOPICS), media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )  # fmt: skip

    async def _changes(self, topics: tuple[str, ...]) -> AsyncGenerator[bytes]:
        """Yield a change per message; a page that lagged is told that everything changed."""
        yield b": open\n\n"
        while True:
            try:
                async with self._live.listen(*topics) as listener:
                    while True:
                        message = await listener.next(PING_S)
                        yield _change(message.topic) if message else b": ping\n\n"
            except Lagged:
                for topic in topics:
                    yield _change(topic)

    def _home(self, grant: Grant) -> dict[str, object]:
        reach = grant.environments
        views = [one for one in self._rollouts() if reach is None or one.plan.environment in reach]
        active = [one for one in views if not one.has_ended]
        dials = self._dials(_turned_by(views))
        traffic = self._sightings.traffic(grant.environments)
        names = self._environments.names()
        return {
            "pulled": self._levers.pulled(),
            "rollouts": active or views[:RECENT_SHOWN],
            "active": len(active),
            "dials": dials,
            "traffic": traffic,
            "changes": [
                one
                for one in self._audit.entries(CHANGES_READ)
                if not one.entry.what.startswith(QUIET)
                and (one.entry.what, one.entry.actor) != ECHO
            ][:CHANGES_SHOWN],
            "environments": [
                name for name in names if grant.environments is None or name in grant.environments
            ],
            "may_operate": grant.allows(Role.OPERATE),
            "is_new": not (dials or views or self._flags.list()),
            "first_steps": FIRST_STEPS[1:] if names else FIRST_STEPS,
        }

    def _dials(self, turned_by: Mapping[tuple[str, str], str]) -> list[DialRow]:
        rows: list[DialRow] = []
        for stored in self._flags.list():
            flag = stored.flag
            for environment, state in flag.environments.items():
                if not state.enabled:
                    continue
                for rule in state.rules:
                    if rule.split is None or rule.split.percent <= 0:
                        continue
                    name = f"flag/{flag.key}"
                    query = urlencode({"environment": environment})
                    rows.append(
                        DialRow(
                            name=name, environment=environment, level=rule.split.percent,
                            unit="%", safe=0.0, href=f"/flags/{quote(flag.key)}?{query}",
                            rollout=turned_by.get((name, environment), ""),
                            detail=f"rule {rule.id}" if len(state.rules) > 1 else "",
                        )
                    )  # fmt: skip
        return rows


def _turned_by(views: Sequence[RolloutView]) -> dict[tuple[str, str], str]:
    """Return (dial, environment) -> the rollout that brought it there, active or promoted."""
    found: dict[tuple[str, str], str] = {}
    for one in views:
        if not one.has_ended or one.phase == Phase.PROMOTED:
            found.setdefault((one.plan.dial, one.plan.environment), one.name)
    return found


def _change(topic: str) -> bytes:
    return f"event: change\ndata: {topic}\n\n".encode()


def _points(series: Sequence[Mapping[str, float]], start: float, end: float) -> tuple[float, ...]:
    """Return events per second in every step of the range; steps without events are 0."""
    first, last = math.floor(start / TRAFFIC_STEP_S), math.ceil(end / TRAFFIC_STEP_S)
    counts = dict.fromkeys(range(first, last), 0.0)
    for row in series:
        number = round(row["time"] / TRAFFIC_STEP_S)
        if number in counts:
            counts[number] += row["COUNT"]
    return tuple(count / TRAFFIC_STEP_S for count in counts.values())
