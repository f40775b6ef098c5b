"""The HTTP API of flags: documents, named changes, history, the playground, and what SDKs read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import cast

import orjson
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from inprod import document
from inprod.endpoint import Endpoint, Role
from inprod.errors import Conflict, Invalid, Missing, nearest
from inprod.flags.change import apply, diff, read_change, touches
from inprod.flags.edge.shelf import Held, Shelf, is_known, trimmed
from inprod.flags.edge.store import TOPIC, FlagStore, Stored
from inprod.flags.evaluate import Evaluation, explain
from inprod.flags.flag import Flag
from inprod.flags.turned import Turned, refuse_disturbing
from inprod.live import Lagged, Live, Message
from inprod.web import JSON_TYPE, answer, grant_of, json_of

PING_S = 2.0
CHANGES_MAX = 100
TRIES_MAX = 5
CREATED, NO_CONTENT, NOT_MODIFIED = 201, 204, 304

ENDPOINTS = (
    Endpoint(
        method="GET", path="/api/flags", handler="list", role=Role.READ,
        sentence="Lists all flags.", gives="`{flags: [{flag, revision}], revision}`",
    ),
    Endpoint(
        method="POST", path="/api/flags", handler="create", role=Role.OPERATE,
        sentence="Creates a flag.", takes="a flag document; `?reason=`",
        gives="201 `{flag, revision}`", raises=("Invalid", "Missing", "Conflict", "Denied"),
    ),
    Endpoint(
        method="GET", path="/api/flags/{key}", handler="get", role=Role.READ,
        sentence="Returns one flag.", gives="`{flag, revision}`", raises=("Missing",),
    ),
    Endpoint(
        method="PUT", path="/api/flags/{key}", handler="put", role=Role.OPERATE,
        sentence="Replaces a flag's document.",
        takes="a flag document; `?revision=` it was read at; `?reason=`",
        gives="`{flag, revision}`", raises=("Invalid", "Missing", "Conflict", "Denied"),
    ),
    Endpoint(
        method="DELETE", path="/api/flags/{key}", handler="archive", role=Role.OPERATE,
        sentence="Archives a flag; its history stays.",
        takes="`?revision=` it was read at; `?reason=`", gives="204",
        raises=("Invalid", "Missing", "Conflict", "Denied"),
    ),
    Endpoint(
        method="GET", path="/api/flags/{key}/history", handler="history", role=Role.READ,
        sentence="Returns the commits of one flag, the last first.",
        gives="`{history: [{revision, time_ns, actor, origin, reason, sentences, flag}]}`",
        raises=("Missing",),
    ),
    Endpoint(
        method="POST", path="/api/flags/{key}/changes", handler="change", role=Role.OPERATE,
        sentence="Makes named changes, all or none.",
        takes="`{changes: [{change: set_percent, ...}], expected_revision?, reason?}`",
        gives="`{flag, revision, sentences}`",
        raises=("Invalid", "Missing", "Conflict", "Denied"),
    ),
    Endpoint(
        method="POST", path="/api/flags/{key}/evaluate", handler="evaluate", role=Role.READ,
        sentence="Says what a flag answers to a context, and why (the playground).",
        takes="`{environment, context}`", gives="`{evaluation, path, sentence}`",
        raises=("Invalid", "Missing"),
    ),
    Endpoint(
        method="GET", path="/api/sdk/flags", handler="snapshot", role=Role.SDK,
        sentence="Returns all flags of one environment, for local evaluation.",
        takes="`?environment=`, `If-None-Match`",
        gives="`{environment, revision, flags, revisions}`, `ETag`; 304 when unchanged",
        raises=("Invalid", "Missing", "Denied"),
    ),
    Endpoint(
        method="GET", path="/api/sdk/stream", handler="stream", role=Role.SDK, kind="stream",
        sentence="Streams the flags of one environment: all at first, then each change.",
        takes="`?environment=`",
        gives="server-sent events `put` (a snapshot), `patch` (`{key, revision, flag}`), `ping`",
        raises=("Invalid", "Missing", "Denied"),
    ),
)  # fmt: skip


class FlagApi:
    """Handles ENDPOINTS."""

    def __init__(
        self, *, store: FlagStore, live: Live, environments: Callable[[], Collection[str]],
        turned: Callable[[str], Turned],
    ) -> None:  # fmt: skip
        self._store = store
        self._turned = turned
        self._live = live
        self._patches: dict[str, tuple[int, bytes]] = {}
        self._shelf: Shelf[Evaluation] = Shelf(store, environments, lambda _stored, found: found)

    async def list(self, _request: Request) -> Response:
        """Answer all flags."""
        held = await self._shelf.now()
        flags = [document.write(stored) for stored in held.flags.values()]
        return answer({"flags": flags, "revision": held.revision})

    async def get(self, request: Request) -> Response:
        """Answer one flag."""
        return answer(await to_thread.run_sync(self._store.get, request.path_params["key"]))

    async def create(self, request: Request) -> Response:
        """Store a new flag."""
        flag = document.read(Flag, await json_of(request))
        grant_of(request).require_all(touches(None, flag))
        return answer(await self._commit(request, flag, None), CREATED)

    async def put(self, request: Request) -> Response:
        """Replace a flag."""
        flag = document.read(Flag, await json_of(request))
        key = str(request.path_params["key"])
        if flag.key != key:
            raise Invalid(
                "wrong_key", f"the document's key is `{flag.key}`, not `{key}`", where="$.key",
                hint="Send it to its own path; a key is never renamed.",
            )  # fmt: skip
        revision = _revision(request)
        old = await to_thread.run_sync(self._store.get, key)
        grant_of(request).require_all(touches(old.flag, flag))
        refuse_disturbing(old.flag, flag, await to_thread.run_sync(self._turned, key))
        return answer(await self._commit(request, flag, revision))

    async def archive(self, request: Request) -> Response:
        """Archive a flag."""
        key, revision = str(request.path_params["key"]), _revision(request)
        grant_of(request).require_all(None)
        old = await to_thread.run_sync(self._store.get, key)
        refuse_disturbing(old.flag, None, await to_thread.run_sync(self._turned, key))
        await to_thread.run_sync(
            lambda: self._store.archive(
                key, expected_revision=revision, actor=request.state.actor,
                reason=request.query_params.get("reason", ""),
            )
        )  # fmt: skip
        return Response(status_code=NO_CONTENT)

    async def history(self, request: Request) -> Response:
        """Answer the commits of a flag."""
        key = str(request.path_params["key"])
        past = await to_thread.run_sync(self._store.history, key)
        if not past:
            await to_thread.run_sync(self._store.get, key)  # raises Missing with the nearest key
        return answer({"history": past})

    async def change(self, request: Request) -> Response:
        """Make changes by name; without an expected revision, on whatever is there."""
        plain = await json_of(request)
        body = document.read(ChangesAsked, plain)
        changes = [
            read_change(one, where=f"$.changes[{index}]") for index, one in enumerate(body.changes)
        ]
        key = str(request.path_params["key"])

        def make() -> tuple[Stored, tuple[str, ...]]:
            for last in range(TRIES_MAX, 0, -1):
                old = self._store.get(key)
                expected = body.expected_revision
                flag = old.flag
                for one in changes:
                    flag = apply(flag, one)
                grant_of(request).require_all(touches(old.flag, flag))
                refuse_disturbing(old.flag, flag, self._turned(key))
                try:
                    stored = self._store.commit(
                        flag, actor=request.state.actor, reason=body.reason,
                        expected_revision=old.revision if expected is None else expected,
                    )  # fmt: skip
                    return stored, diff(old.flag, stored.flag)
                except Conflict:
                    if expected is not None or last == 1:
                        raise
            raise AssertionError("the loop returns or raises")

        stored, sentences = await to_thread.run_sync(make)
        plain = {"flag": document.write(stored.flag), "revision": stored.revision}
        return answer({**plain, "sentences": sentences})

    async def evaluate(self, request: Request) -> Response:
        """Answer what a flag says to a context, and the path taken."""
        body = document.read(EvaluationAsked, await json_of(request))
        stored = await to_thread.run_sync(self._store.get, request.path_params["key"])
        held = await self._shelf.now()
        if body.environment not in held.environments:
            raise Missing(
                "unknown_environment", f"`{body.environment}` is not an environment",
                where="$.environment", hint=nearest(body.environment, held.environments),
            )  # fmt: skip
        found = explain(stored.flag, body.environment, body.context)
        evaluation = {
            "value": found.evaluation.value,
            "variant": found.evaluation.variant,
            "reason": found.evaluation.reason.value,
            "rule": found.evaluation.rule,
            "error": found.evaluation.error,
            "message": found.evaluation.message,
        }
        return answer({"evaluation": evaluation, "path": found.path, "sentence": found.sentence})

    async def snapshot(self, request: Request) -> Response:
        """Answer all flags of one environment."""
        held = await self._shelf.now()
        environment = await self._shelf.environment_of(request, held)
        snapshot = self._shelf.snapshot(held, environment)
        headers = {"ETag": snapshot.etag, "Cache-Control": "private, no-cache"}
        if is_known(request, snapshot.etag):
            return Response(status_code=NOT_MODIFIED, headers=headers)
        return Response(snapshot.body, media_type=JSON_TYPE, headers=headers)

    async def stream(self, request: Request) -> Response:
        """Stream the flags of one environment."""
        held = await self._shelf.now()
        environment = await self._shelf.environment_of(request, held)
        return StreamingResponse(
            self._events(environment), media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )  # fmt: skip

    async def _events(self, environment: str) -> AsyncIterator[bytes]:
        """Yield the stream; it ends when the listener lagged, and the SDK comes back."""
        async with self._live.listen(TOPIC) as listener:
            held = await self._shelf.now()
            yield self._put(held, environment)
            sent = held.revision
            while True:
                try:
                    message = await listener.next(PING_S)
                except Lagged:
                    return
                revision = sent if message is None else _revision_in(message)
                if message is not None and revision == sent + 1:
                    yield self._patch(message, environment)
                    sent = revision
                    continue
                if message is not None and revision <= sent:
                    continue
                held = await self._shelf.now()  # another process may have committed, too
                if held.revision > sent:
                    yield self._put(held, environment)
                    sent = held.revision
                else:
                    yield b"event: ping\ndata: {}\n\n"

    def _put(self, held: Held[Evaluation], environment: str) -> bytes:
        return b"event: put\ndata: " + self._shelf.snapshot(held, environment).body + b"\n\n"

    def _patch(self, message: Message, environment: str) -> bytes:
        """Return a patch, written once for all listeners of an environment."""
        revision = _revision_in(message)
        known = self._patches.get(environment)
        if known is None or known[0] != revision:
            known = self._patches[environment] = (revision, _patch(message, environment))
        return known[1]

    async def _commit(self, request: Request, flag: Flag, revision: int | None) -> Stored:
        return await to_thread.run_sync(
            lambda: self._store.commit(
                flag, expected_revision=revision, actor=request.state.actor,
                reason=request.query_params.get("reason", ""),
            )
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesAsked:
    """The body of a request for changes; each one is read by `read_change`."""

    changes: tuple[object, ...]
    expected_revision: int | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.changes) <= CHANGES_MAX:
            raise Invalid(
                "bad_length", f"there are `{len(self.changes)}` changes", where="changes",
                hint=f"Send 1 to {CHANGES_MAX}.",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationAsked:
    """The body of a request to the playground."""

    environment: str
    context: dict[str, object] = field(default_factory=dict[str, object])


def _revision(request: Request) -> int:
    text = request.query_params.get("revision", "")
    if not text.isdecimal() or len(text) > 18:
        raise Invalid(
            "no_revision", f"`{text[:40]}` is not a revision", where="revision",
            hint="Add `?revision=` with the number the flag was read at.",
        )  # fmt: skip
    return int(text)


def _revision_in(message: Message) -> int:
    return cast("int", cast("Mapping[str, object]", message.payload)["revision"])


def _patch(message: Message, environment: str) -> bytes:
    payload = cast("Mapping[str, object]", message.payload)
    plain = payload["flag"]
    flag = None if plain is None else trimmed(document.read(Flag, plain), environment)
    data = {"key": payload["key"], "revision": payload["revision"], "flag": flag}
    return b"event: patch\ndata: " + orjson.dumps(data) + b"\n\n"
