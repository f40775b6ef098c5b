"""The composition root: every store, API, loop and page, made and joined by name.

state -> audit -> environments, levers, keys -> flags -> events -> rollouts -> apply -> routes
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import anyio
from sqlalchemy import Engine, select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from inprod.errors import InprodError
from inprod.events.edge import api as events_api
from inprod.events.edge import pages as event_pages
from inprod.events.edge import wire
from inprod.events.edge.pages import EventPages
from inprod.events.edge.store import EventStore
from inprod.events.edge.writer import Writer
from inprod.events.sql import Statement
from inprod.flags.edge import api as flags_api
from inprod.flags.edge import ofrep
from inprod.flags.edge import pages as flag_pages
from inprod.flags.edge.pages import FlagPages
from inprod.flags.edge.store import FlagStore
from inprod.flags.flag import Flag
from inprod.guards.edge.collect import Collector
from inprod.live import Live
from inprod.rollouts.edge import api as rollouts_api
from inprod.rollouts.edge import pages as rollout_pages
from inprod.rollouts.edge.api import RolloutApi
from inprod.rollouts.edge.dials import FlagDials, check, flag_key
from inprod.rollouts.edge.pages import RolloutPages
from inprod.rollouts.edge.runner import Runner
from inprod.rollouts.edge.store import RolloutStore
from inprod.rollouts.rollout import Plan
from inprod.safety.edge import api as safety_api
from inprod.safety.edge.store import AuditLog, EnvironmentStore, LeverStore
from inprod.sdk.outbox import EXPOSURES_DATASET
from inprod.server import api as server_api
from inprod.server import pages as home_pages
from inprod.server.answers import Render
from inprod.server.api import Check
from inprod.server.apply import Apply, RolloutSide
from inprod.server.auth import Gate, host_name
from inprod.server.dispatch import Dispatch, Mounted, Served, Streams, join
from inprod.server.keys import KeyStore
from inprod.server.loop import Loop
from inprod.server.pages import HomePages, Sightings
from inprod.server.render import Pages, Static
from inprod.server.settings import Settings
from inprod.server.state import Leadership, open_state
from inprod.server.teller import Teller
from inprod.server.telling import failure_event, is_told, request_event
from inprod.server.words import filters

EXPOSED_FLAG = "flag"  # the attribute of an exposure event that names the flag


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A server ready to run: the ASGI app, what starting and stopping needs, its URL.

    `local_url` is the URL on this machine, the same unless `public_url` is set.
    """

    app: Starlette
    keys: KeyStore
    streams: Streams
    url: str
    local_url: str
    close: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Everything that keeps something, opened."""

    engine: Engine
    live: Live
    audit: AuditLog
    environments: EnvironmentStore
    levers: LeverStore
    keys: KeyStore
    flags: FlagStore
    events: EventStore
    writer: Writer
    rollouts: RolloutStore
    runner: Runner


def build(settings: Settings, *, port: int) -> Built:
    """Open everything and return the server; raises InprodError when something cannot be opened.

    What was opened is closed again when a later part fails.
    """
    with ExitStack() as opened:
        stores = _open(settings, opened)
        return _wire(settings, stores, port, opened.pop_all())


def _open(settings: Settings, opened: ExitStack) -> Stores:
    engine = open_state(settings.state_address)
    opened.callback(engine.dispose)
    live = Live()
    audit = AuditLog(engine)
    environments = EnvironmentStore(engine, audit.record)
    events = EventStore.open(settings.events_address, retain_days=settings.retain_days)
    opened.callback(events.close)
    writer = Writer(events)
    opened.callback(writer.close)
    levers = LeverStore(engine, audit.record, live=live)
    flags = FlagStore(
        engine, record=audit.record, environments=environments.names, now_ns=time.time_ns,
        live=live,
    )  # fmt: skip
    rollouts = RolloutStore(engine, record=audit.record, now_ns=time.time_ns)
    dials = FlagDials(flags=flags, promote=partial(events.promote, backfill=False))
    return Stores(
        engine=engine,
        live=live,
        audit=audit,
        environments=environments,
        levers=levers,
        keys=KeyStore(
            engine, record=audit.record, environments=environments.names, now_ns=time.time_ns
        ),
        flags=flags,
        events=events,
        writer=writer,
        rollouts=rollouts,
        runner=Runner(
            store=rollouts, collector=Collector(events), dials=dials, levers=levers.pulled,
            live=live,
        ),
    )  # fmt: skip


def _wire(settings: Settings, stores: Stores, port: int, opened: ExitStack) -> Built:
    url, cookie = settings.public_url.rstrip("/") or local_url(settings, port), f"inprod_{port}"
    static = Static()
    streams = Streams(settings.streams_max)
    teller = Teller(stores.writer)
    leadership = Leadership(stores.engine)

    def served(one: Served) -> None:
        if is_told(one):
            teller.tell(request_event(one))

    def told(name: str, message: str) -> None:
        teller.tell(failure_event(time_ns=time.time_ns(), name=name, message=message))

    pages = Pages(filters=filters(time.time_ns), static=static.url)
    dispatch = Dispatch(
        gate=Gate(
            stores.keys, names=own_names(settings), loopback=settings.is_loopback, cookie=cookie
        ),
        keys=stores.keys,
        render=pages.render,
        streams=streams,
        served=served,
    )
    loop = Loop(
        stores.runner.tick, obey_levers=stores.runner.obey_levers, live=stores.live,
        leadership=leadership, tick_s=settings.tick_s, told=told,
    )  # fmt: skip
    opened.callback(leadership.resign)
    mounted: list[Mounted] = []
    own = server_api.ServerApi(
        keys=stores.keys,
        apply=Apply(environments=stores.environments, flags=stores.flags, rollouts=_side(stores)),
        static=static,
        checks=(
            Check(name="state", probe=lambda: _probe(stores.engine)),
            Check(name="events", probe=lambda: stores.events.read(Statement(text="SELECT 1"))),
            Check(name="loop", probe=loop.probe),
        ),
        endpoints=lambda: [one.endpoint for one in mounted],
        public_url=lambda: url,
        cookie=cookie,
        login_s=settings.login_s,
        session_s=settings.session_s,
    )
    mounted += join(server_api.ENDPOINTS, own)
    mounted += _apis(stores)
    mounted += _pages(stores, pages.render)
    lifespan = _lifespan(teller, [teller.run, loop.run], opened)
    app = Starlette(routes=dispatch.routes(mounted), lifespan=lifespan)
    app.router.redirect_slashes = False
    app.router.default = dispatch.unknown
    return Built(
        app=app,
        keys=stores.keys,
        streams=streams,
        url=url,
        local_url=local_url(settings, port),
        close=opened.close,
    )


def _apis(stores: Stores) -> list[Mounted]:
    """Join the slices' tables of routes with their handlers."""
    known = stores.environments.names
    event_api = events_api.EventApi(store=stores.events, writer=stores.writer, environments=known)
    flag_api = flags_api.FlagApi(
        store=stores.flags, live=stores.live, environments=known, turned=_turned(stores.rollouts)
    )
    safety = safety_api.SafetyApi(
        environments=stores.environments, levers=stores.levers, audit=stores.audit,
        dials=lambda: [f"flag/{stored.flag.key}" for stored in stores.flags.list()],
    )  # fmt: skip
    rollout_api = RolloutApi(
        store=stores.rollouts, runner=stores.runner, live=stores.live, environments=known
    )
    otlp = [one for one in events_api.ENDPOINTS if one.path.startswith("/v1/")]
    rest = [one for one in events_api.ENDPOINTS if one not in otlp]
    return [
        *join(safety_api.ENDPOINTS, safety),
        *join(flags_api.ENDPOINTS, flag_api),
        *join(ofrep.ENDPOINTS, ofrep.OfrepApi(store=stores.flags, environments=known)),
        *join(otlp, event_api, refuse=_otlp_refusal),
        *join(rest, event_api),
        *join(rollouts_api.ENDPOINTS, rollout_api),
    ]


def _pages(stores: Stores, render: Render) -> list[Mounted]:
    """Join the tables of pages with their handlers."""
    known = stores.environments.names
    rollouts = RolloutPages(store=stores.rollouts, command=stores.runner.command, render=render)
    sightings = Sightings(
        stores.events, dataset=EXPOSURES_DATASET, column=EXPOSED_FLAG, now_ns=time.time_ns
    )
    flags = FlagPages(
        store=stores.flags, environments=known, last_evaluated=sightings.last_evaluated,
        rollouts=rollouts.turning, turned=_turned(stores.rollouts), render=render,
    )  # fmt: skip
    home = HomePages(
        flags=stores.flags, rollouts=rollouts.views, levers=stores.levers,
        environments=stores.environments, audit=stores.audit, sightings=sightings,
        live=stores.live, render=render,
    )  # fmt: skip
    events = EventPages(store=stores.events, environments=known, render=render)
    return [
        *join(home_pages.PAGES, home),
        *join(flag_pages.PAGES, flags),
        *join(event_pages.PAGES, events),
        *join(rollout_pages.PAGES, rollouts),
    ]


def _turned(rollouts: RolloutStore) -> Callable[[str], frozenset[tuple[str, str]]]:
    """Return how to ask which (environment, rule) of a flag active rollouts turn."""

    def turned(key: str) -> frozenset[tuple[str, str]]:
        return frozenset(
            (one.plan.environment, one.arms.rule)
            for one in rollouts.turning()
            if flag_key(one.plan) == key
        )

    return turned


def _side(stores: Stores) -> RolloutSide:
    """Return what apply needs of rollouts."""

    def checked(plan: Plan, flag: Flag | None, environments: Sequence[str]) -> None:
        check(plan, flag, environments)
        stores.runner.check_free(plan)

    return RolloutSide(
        find=stores.rollouts.find,
        check=checked,
        start=stores.runner.start,
        turned=_turned(stores.rollouts),
    )


def _otlp_refusal(request: Request, error: InprodError) -> Response:
    return wire.failure(wire.media_type(request), error)


def _probe(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(select(1))


def _lifespan(
    teller: Teller, tasks: list[Callable[[], Coroutine[None, None, None]]], opened: ExitStack
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """Run the loops while the server runs; then drain the writer and close everything."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        del app
        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(task)
            yield
            group.cancel_scope.cancel()
        teller.flush()
        await anyio.to_thread.run_sync(opened.close)

    return lifespan


def local_url(settings: Settings, port: int) -> str:
    """Return the URL under which this machine reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def own_names(settings: Settings) -> frozenset[str]:
    """Return the names that a Host header may have, besides addresses and localhost."""
    named = [part.strip().lower() for part in settings.hosts.split(",")]
    public = urlsplit(settings.public_url).hostname or ""
    return frozenset({*named, host_name(settings.host), public} - {""})
