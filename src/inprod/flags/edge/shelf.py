"""The flags now in force, held in memory and compiled: what snapshots and OFREP answer from.

Level-triggered: a read compares what is held with the store's newest revision, at once for commits
of this process and at least every `CHECK_S` for those of another.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Generic, TypeVar

import orjson
from anyio import to_thread
from starlette.requests import Request

from inprod import document
from inprod.errors import Denied, Invalid, Missing, nearest
from inprod.flags.edge.store import FlagStore, Stored
from inprod.flags.evaluate import Evaluate, Evaluation, compile_with
from inprod.flags.flag import Flag

CHECK_S = 1.0
ENVIRONMENT_HEADER = "x-inprod-environment"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All flags of one environment as SDKs get them: JSON `body`, and its quoted `etag`."""

    revision: int
    body: bytes
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Generic[T]):
    """The flags at one global revision. The dictionaries are caches, filled on demand."""

    revision: int
    flags: Mapping[str, Stored]
    environments: frozenset[str]
    closures: dict[tuple[str, str], tuple[int, Evaluate[T]]] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]  # typed by the annotation
    snapshots: dict[str, Snapshot] = field(default_factory=dict[str, Snapshot])


class Shelf(Generic[T]):
    """Holds what the store has; `wrap` makes of each (flag key, Evaluation) what is answered."""

    def __init__(
        self,
        store: FlagStore,
        environments: Callable[[], Collection[str]],
        wrap: Callable[[Stored, Evaluation], T],
    ) -> None:
        self._store = store
        self._environments = environments
        self._wrap = wrap
        self._lock = Lock()
        self._held: Held[T] | None = None
        self._checked_s = 0.0

    async def now(self) -> Held[T]:
        """Return what is in force now."""
        held = self._held
        if (
            held is not None
            and held.revision >= self._store.latest
            and time.monotonic() - self._checked_s < CHECK_S
        ):
            return held
        return await to_thread.run_sync(self._refresh)

    def _refresh(self) -> Held[T]:
        with self._lock:
            checked_s = time.monotonic()
            revision = self._store.revision()  # read first: the flags may only be newer
            environments = frozenset(self._environments())
            held = self._held
            if held is None or held.revision != revision:
                flags = {stored.flag.key: stored for stored in self._store.list()}
                old = {} if held is None else dict(held.closures)
                closures = {name: one for name, one in old.items() if name[1] in flags}
                held = Held(
                    revision=revision, flags=flags, environments=environments, closures=closures
                )
            elif held.environments != environments:
                held = replace(held, environments=environments)
            self._held, self._checked_s = held, checked_s
            return held

    def closure(self, held: Held[T], environment: str, key: str) -> Evaluate[T] | None:
        """Return how to evaluate a flag, None when there is no such flag."""
        stored = held.flags.get(key)
        if stored is None:
            return None
        known = held.closures.get((environment, key))
        if known is not None and known[0] == stored.revision:
            return known[1]
        closure = compile_with(stored.flag, environment, lambda found: self._wrap(stored, found))
        held.closures[environment, key] = (stored.revision, closure)
        return closure

    async def environment_of(self, request: Request, held: Held[T]) -> str:
        """Return the environment a request is about.

        `?environment=` or the header `x-inprod-environment`, else the only one of its key. Raises
        Invalid when it does not say, Missing when it is unknown, Denied when the key may not.
        """
        allowed: Collection[str] | None = request.state.grant.environments
        asked = request.query_params.get("environment", "")
        asked = asked or request.headers.get(ENVIRONMENT_HEADER, "")
        if not asked and allowed is not None and len(allowed) == 1:
            return next(iter(allowed))
        if not asked:
            raise Invalid(
                "no_environment", "the request does not say which environment it is about",
                where="environment", hint="Add `?environment=production`.",
            )  # fmt: skip
        if asked not in held.environments:
            self._checked_s = 0.0  # it may have been added a moment ago
            held = await self.now()
        known = held.environments if allowed is None else held.environments & set(allowed)
        if asked not in held.environments:
            raise Missing(
                "unknown_environment", f"`{asked[:120]}` is not an environment",
                where="environment", hint=nearest(asked, known),
            )  # fmt: skip
        if asked not in known:
            raise Denied(
                "wrong_environment", f"this key may not use `{asked}`", where="environment",
                hint=nearest(asked, known),
            )  # fmt: skip
        return asked

    def snapshot(self, held: Held[T], environment: str) -> Snapshot:
        """Return all flags of one environment as SDKs get them."""
        known = held.snapshots.get(environment)
        if known is None:
            known = held.snapshots[environment] = _snapshot(held, environment)
        return known


def trimmed(flag: Flag, environment: str) -> object:
    """Return the flag's document with the state of one environment only."""
    states = flag.environments
    kept = {environment: states[environment]} if environment in states else {}
    return document.write(replace(flag, environments=kept, description="", owner="", tags=()))


def _snapshot(held: Held[T], environment: str) -> Snapshot:
    flags = {key: trimmed(stored.flag, environment) for key, stored in held.flags.items()}
    revisions = {key: stored.revision for key, stored in held.flags.items()}
    body = orjson.dumps(
        {
            "environment": environment,
            "revision": held.revision,
            "flags": flags,
            "revisions": revisions,
        }
    )
    return Snapshot(revision=held.revision, body=body, etag=etag_of(body))


def etag_of(*parts: bytes) -> str:
    """Return a strong ETag, in its quotes, over the parts."""
    return f'"{hashlib.blake2b(b"|".join(parts), digest_size=12).hexdigest()}"'


def is_known(request: Request, etag: str) -> bool:
    """Return whether the caller's `If-None-Match` names `etag`, so that 304 is the answer."""
    named = request.headers.get("if-none-match", "")
    return named.strip() == "*" or etag in (
        one.strip().removeprefix("W/") for one in named.split(",")
    )
