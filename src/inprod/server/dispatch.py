"""From a request to its handler: the joined table of routes, and what stands before each of them.

Host -> path -> method -> key, Origin, role -> environment -> body limit -> handler -> errors
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import anyio
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inprod.endpoint import Endpoint
from inprod.errors import InprodError, Invalid, Missing, TooMuch, Unavailable, nearest
from inprod.server.answers import Bug, Render, error_answer, wants_page
from inprod.server.auth import SECURITY_HEADERS, Caller, Gate
from inprod.server.keys import KeyStore
from inprod.web import too_large

Handler = Callable[[Request], Awaitable[Response]]
Refuse = Callable[[Request, InprodError], Response]
log = logging.getLogger("inprod.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """An endpoint joined with its handler; `refuse` answers errors in the protocol's own shape."""

    endpoint: Endpoint
    handler: Handler
    refuse: Refuse | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the access event says about one answered request; durations in nanoseconds."""

    time_ns: int
    duration_ns: int
    method: str
    endpoint: Endpoint | None
    path: str
    status: int
    actor: str
    origin: str
    error_code: str


class MethodNotAllowed(Invalid):
    """The path exists, not with this method; `allow` lists those that do."""

    status = 405

    def __init__(self, method: str, path: str, allow: str) -> None:
        super().__init__(
            "method_not_allowed", f"`{method}` is not a method of `{path}`", hint=f"Use {allow}."
        )
        self.allow = allow


def join(
    endpoints: Iterable[Endpoint], handlers: object, refuse: Refuse | None = None
) -> list[Mounted]:
    """Return each endpoint with the method of `handlers` that it names."""
    return [
        Mounted(
            endpoint=one, handler=cast("Handler", getattr(handlers, one.handler)), refuse=refuse
        )
        for one in endpoints
    ]


class Streams:
    """Counts open streams, and ends them all when the server stops."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[anyio.CancelScope] = set()
        self._closing = False

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run a streaming response until it ends or the server stops; then end it cleanly."""
        started = finished = False

        async def watch(message: Message) -> None:
            nonlocal started, finished
            started = started or message["type"] == "http.response.start"
            finished = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        if self._closing or len(self._open) >= self._limit:
            raise TooMuch(
                "too_many_streams", f"`{self._limit}` streams are open, or the server is stopping",
                hint="Try again later.", retry_after_s=5,
            )  # fmt: skip
        with anyio.CancelScope() as cancel:
            self._open.add(cancel)
            try:
                await app(scope, receive, watch)
            finally:
                self._open.discard(cancel)
        if cancel.cancelled_caught and started and not finished:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def close(self) -> None:
        """End every stream, and refuse new ones."""
        self._closing = True
        for cancel in tuple(self._open):
            cancel.cancel()


class Dispatch:
    """Builds the routes of the server and runs one request through the checks."""

    def __init__(
        self, *, gate: Gate, keys: KeyStore, render: Render, streams: Streams,
        served: Callable[[Served], None],
    ) -> None:  # fmt: skip
        self._gate = gate
        self._keys = keys
        self._render = render
        self._streams = streams
        self._served = served
        self._paths: tuple[str, ...] = ()
        self._pages: tuple[str, ...] = ()

    def routes(self, mounted: Iterable[Mounted]) -> list[Route]:
        """Return one route per path, exact paths before those with parameters."""
        by_path: dict[str, dict[str, Mounted]] = {}
        for one in mounted:
            methods = by_path.setdefault(one.endpoint.path, {})
            assert one.endpoint.method not in methods, f"{one.endpoint} is there twice"
            methods[one.endpoint.method] = one
        self._paths = tuple(sorted(by_path))
        self._pages = tuple(
            path for path, methods in sorted(by_path.items())
            if "{" not in path and "GET" in methods and methods["GET"].endpoint.kind == "page"
        )  # fmt: skip
        ordered = sorted(
            by_path, key=lambda path: [part.startswith("{") for part in path.split("/")]
        )
        return [Route(path, _Path(self, path, by_path[path])) for path in ordered]

    async def unknown(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a path that is not in the table; a person is shown pages only."""
        path = scope["path"]
        known = self._pages if wants_page(Request(scope)) else self._paths
        error = Missing("unknown_path", f"`{path[:200]}` is not a path", hint=nearest(path, known))
        await self.run(scope, receive, send, path, None, error)

    async def run(
        self, scope: Scope, receive: Receive, send: Send, path: str, one: Mounted | None,
        failure: InprodError | None = None,
    ) -> None:  # fmt: skip
        """Check the request and answer it; whatever goes wrong becomes an answer too."""
        time_ns, began = time.time_ns(), time.perf_counter_ns()
        request = Request(scope, receive, send)
        caller: Caller | None = None
        code, started, status = "", False, 0

        async def watch(message: Message) -> None:
            nonlocal started, status
            if message["type"] == "http.response.start":
                started, status = True, message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_SECURITY]}
            await send(message)

        try:
            self._gate.check_host(request.headers.get("host", ""))
            if failure is not None or one is None:
                assert failure is not None
                raise failure
            caller = await self._admit(request, one.endpoint)
            await self._answer(request, one, receive, watch)
        except InprodError as error:
            code = error.code
            if started:
                raise
            response = self._refusal(request, one, error)
            await response(scope, receive, watch)
        except ClientDisconnect:
            code = "client_left"  # nobody is there to be answered
        except Exception as error:  # the edge of the request loop: logged, counted, answered
            told = _told(error)
            code = told.code
            log.exception("a request failed", extra={"path": path, "code": code})
            if started:
                raise
            response = self._refusal(request, one, told)
            await response(scope, receive, watch)
        finally:
            actor = caller.actor if caller else None
            self._served(
                Served(
                    time_ns=time_ns, duration_ns=time.perf_counter_ns() - began,
                    method=request.method, endpoint=one.endpoint if one else None, path=path,
                    status=status, actor=actor.name if actor else "",
                    origin=actor.origin if actor else "", error_code=code,
                )
            )  # fmt: skip

    async def _admit(self, request: Request, endpoint: Endpoint) -> Caller:
        if self._keys.is_stale:
            await anyio.to_thread.run_sync(self._keys.refresh)
        client = request.client.host if request.client else ""
        caller = self._gate.admit(
            endpoint, method=request.method, headers=request.headers, cookies=request.cookies,
            client=client,
        )  # fmt: skip
        if caller.grant is not None:
            caller.grant.require_all(request.query_params.getlist("environment"))
        request.state.actor = caller.actor
        request.state.grant = caller.grant
        request.state.session = caller.session
        return caller

    async def _answer(self, request: Request, one: Mounted, receive: Receive, send: Send) -> None:
        limited = Request(
            request.scope, _limited(request.headers, receive, one.endpoint.body_bytes_max), send
        )
        response = await one.handler(limited)
        if one.endpoint.kind == "stream":
            await self._streams.run(response, request.scope, receive, send)
        else:
            await response(request.scope, receive, send)

    def _refusal(self, request: Request, one: Mounted | None, error: InprodError) -> Response:
        if one is not None and one.refuse is not None:
            return one.refuse(request, error)
        return error_answer(request, error, self._render)


class _Path:
    """The methods of one path."""

    def __init__(self, dispatch: Dispatch, path: str, methods: dict[str, Mounted]) -> None:
        self._dispatch = dispatch
        self._path = path
        self._methods = methods
        self._has_head = "GET" in methods and methods["GET"].endpoint.kind != "stream"
        allowed = {*methods, "HEAD"} if self._has_head else set(methods)
        self._allow = ", ".join(sorted(allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        one = self._methods.get(scope["method"])
        if one is None and scope["method"] == "HEAD" and self._has_head:
            one = self._methods["GET"]
        failure = None
        if one is None:
            failure = MethodNotAllowed(scope["method"][:20], self._path, self._allow)
        await self._dispatch.run(scope, receive, send, self._path, one, failure)


def _told(error: Exception) -> InprodError:
    """Return what the caller is told of an error that is not ours."""
    if isinstance(error, DataError):  # such as the character NUL, which PostgreSQL cannot hold
        return Invalid("bad_value", "a value cannot be stored", hint="Leave out odd characters.")
    if isinstance(error, (OperationalError, InterfaceError)):
        return Unavailable(
            "state_unavailable", "the state's database does not answer, or cannot write",
            hint="Check that it runs and has room on its disk, and try again.",
        )  # fmt: skip
    return Bug()


_SECURITY = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS]


def _limited(headers: Mapping[str, str], receive: Receive, bytes_max: int) -> Receive:
    """Return `receive` that raises TooMuch over `bytes_max` bytes, announced or come."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > bytes_max:
            raise too_large(bytes_max)
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > bytes_max:
            raise too_large(bytes_max)
        return message

    return limited
