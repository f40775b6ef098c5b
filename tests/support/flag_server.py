"""The real flag routes on a small Starlette app under uvicorn in a thread, for SDK and OFREP."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import orjson
import uvicorn
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from inprod import document
from inprod.audit import Actor, Entry
from inprod.endpoint import Role
from inprod.errors import Conflict, InprodError
from inprod.flags.change import Change, SetPercent, apply
from inprod.flags.edge import api, ofrep
from inprod.flags.edge.store import TABLES, FlagStore, Stored
from inprod.flags.flag import Flag
from inprod.grant import Grant
from inprod.live import Live

START_S = 10.0
ACTOR = Actor(name="tester")
RULE = {
    "id": "beta",
    "when": [{"attribute": "country", "op": "in", "value": ["US", "CA", "GB"]}],
    "split": {"control": "off", "treatments": [{"variant": "on"}], "salt": "s1", "percent": 30},
}
CHECKOUT = {
    "key": "new-checkout",
    "kind": "boolean",
    "variants": {"on": True, "off": False},
    "default": "off",
    "off": "off",
    "environments": {"production": {"rules": [RULE]}, "staging": {"enabled": False}},
}


def flag_of(**fields: object) -> Flag:
    """Return CHECKOUT as a flag, with some fields replaced."""
    return document.read(Flag, {**CHECKOUT, **fields})


def typed_flags() -> list[Flag]:
    """Return one flag of each kind that serves one value to all in production."""
    values = {
        "boolean": True,
        "string": "blue",
        "integer": 7,
        "float": 2.0,
        "object": {"limits": [1, 2], "name": "x"},
    }
    return [
        document.read(
            Flag,
            {
                "key": f"a-{kind}",
                "kind": kind,
                "variants": {"value": value},
                "default": "value",
                "off": "value",
                "environments": {"production": {}},
            },
        )
        for kind, value in values.items()
    ]


class Granted:
    """The middleware that stands in for the server's own: `Bearer <environment>` limits the key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            state = scope.setdefault("state", {})
            headers = dict(scope["headers"])
            only = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
            state["actor"] = ACTOR
            state["grant"] = Grant(
                name="test", role=Role.ADMIN, environments=(only,) if only else None
            )
        await self._app(scope, receive, send)


@dataclass(slots=True, kw_only=True)
class Book:
    """What a running harness holds: the store, the audit's entries, the events it was sent."""

    store: FlagStore
    live: Live
    app: ASGIApp
    environments: set[str]
    entries: list[Entry] = field(default_factory=list)
    events: list[dict[str, object]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    turned: set[tuple[str, str]] = field(default_factory=set)
    url: str = ""

    def commit(self, flag: Flag) -> Stored:
        """Store a flag, new or not."""
        return commit(self.store, flag)

    def change(self, key: str, change: Change) -> Stored:
        """Make a change on what is stored."""
        for _ in range(50):
            stored = self.store.get(key)
            try:
                return self.store.commit(
                    apply(stored.flag, change),
                    expected_revision=stored.revision,
                    actor=ACTOR,
                    reason="a test",
                )
            except Conflict:
                continue
        raise AssertionError("others always came first")

    def percent(self, percent: float, **more: object) -> Stored:
        """Turn CHECKOUT's split in production."""
        turned = SetPercent(environment="production", rule="beta", percent=percent, **more)
        return self.change("new-checkout", turned)


def commit(store: FlagStore, flag: Flag) -> Stored:
    """Store a flag, new or not."""
    known = {stored.flag.key: stored.revision for stored in store.list()}
    return store.commit(flag, expected_revision=known.get(flag.key), actor=ACTOR, reason="a test")


def book_in(folder: Path) -> Book:
    """Return a store in `folder` and the app that serves it."""
    url = f"sqlite:///{folder / 'state.db'}"
    engine = create_engine(url, connect_args={"timeout": 30}, poolclass=NullPool)
    TABLES.create_all(engine)
    live = Live()
    entries: list[Entry] = []
    environments = {"production", "staging"}
    store = FlagStore(
        engine,
        record=lambda _connection, entry: entries.append(entry),
        environments=lambda: environments,
        now_ns=time.time_ns,
        live=live,
    )
    book = Book(store=store, live=live, app=Starlette(), environments=environments, entries=entries)
    book.app = _application(book)
    return book


def _application(book: Book) -> ASGIApp:
    environments: Callable[[], Collection[str]] = lambda: book.environments  # noqa: E731
    flag_api = api.FlagApi(
        store=book.store, live=book.live, environments=environments, turned=lambda _key: book.turned
    )
    ofrep_api = ofrep.OfrepApi(store=book.store, environments=environments)

    async def events(request: Request) -> Response:
        body = orjson.loads(await request.body())
        if book.answers:
            return JSONResponse({}, book.answers.pop(0), {"Retry-After": "1"})
        book.events.extend(body)
        return JSONResponse({"accepted": len(body)})

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, InprodError)
        return JSONResponse({"error": error.document()}, error.status)

    routes = [
        Route(one.path, getattr(owner, one.handler), methods=[one.method])
        for owner, table in ((flag_api, api.ENDPOINTS), (ofrep_api, ofrep.ENDPOINTS))
        for one in table
    ]
    routes.append(Route("/api/events", events, methods=["POST"]))
    return Granted(Starlette(routes=routes, exception_handlers={InprodError: refused}))


@contextmanager
def serving(book: Book, port: int = 0) -> Iterator[str]:
    """Yield the URL of a real server for the book, on a free port unless one is given."""
    listening = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(
        book.app, log_level="critical", lifespan="off", timeout_graceful_shutdown=0
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        assert until(lambda: server.started), "the server did not start"
        book.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        yield book.url
    finally:
        server.should_exit = True
        thread.join(START_S)
        listening.close()


def until(claim: Callable[[], object], timeout_s: float = START_S) -> bool:
    """Return whether `claim` came true before the deadline."""
    deadline = time.monotonic() + timeout_s
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
