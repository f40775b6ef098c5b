"""The event routes on a real uvicorn server in a thread, mounted as the product mounts them."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Collection, Generator
from contextlib import contextmanager
from threading import Thread

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from inprod.audit import Actor
from inprod.endpoint import Role
from inprod.errors import InprodError, TooMuch
from inprod.events.edge.api import ENDPOINTS, EventApi
from inprod.grant import Grant

START_S = 10.0


class _Granting:
    def __init__(self, app: ASGIApp, grant: Grant) -> None:
        self._app = app
        self._grant = grant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            state = scope.setdefault("state", {})
            state["grant"] = self._grant
            state["actor"] = Actor(name=self._grant.name)
        await self._app(scope, receive, send)


def application(api: EventApi, *, environments: Collection[str] | None = None) -> ASGIApp:
    """Return the ASGI application; `environments` limits the caller's key."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, InprodError)
        headers = {}
        if isinstance(error, TooMuch) and error.retry_after_s is not None:
            headers["Retry-After"] = str(math.ceil(error.retry_after_s))
        return JSONResponse({"error": error.document()}, error.status, headers)

    routes = [Route(one.path, getattr(api, one.handler), methods=[one.method]) for one in ENDPOINTS]
    inner = Starlette(routes=routes, exception_handlers={InprodError: refused})
    limited = None if environments is None else tuple(environments)
    return _Granting(inner, Grant(name="test", role=Role.ADMIN, environments=limited))


@contextmanager
def serving(app: ASGIApp) -> Generator[str]:
    """Yield the URL of a server for `app` on a free loopback port."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_S
        while not server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_S)
        listening.close()
