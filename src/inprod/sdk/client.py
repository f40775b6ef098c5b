"""The SDK's client: flags evaluated in this process, events sent from it.

It never raises into the app, never blocks it, and counts every loss (`status`). One daemon thread
does all I/O (`agent`); a forked child gets its own. What does I/O is imported by `connect`, in the
caller's thread: `import inprod` stays cheap, and no fork meets an import half done.
"""

from __future__ import annotations

import atexit
import copy
import os
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, TypeVar, cast

from inprod.errors import Invalid
from inprod.flags.evaluate import Evaluation, Problem, failed
from inprod.sdk.outbox import Outbox
from inprod.sdk.snapshot import Exposures, Served, Snapshot
from inprod.sdk.wide import WideEvent, current

if TYPE_CHECKING:
    from inprod.sdk.agent import Agent, News, Wiring
    from inprod.sdk.wire import Target

URL = "http://127.0.0.1:4318"
QUEUE_MAX = 10_000
TIMEOUT_S = 5.0
T = TypeVar("T")
Attributes = Mapping[str, object]
_EMPTY: Attributes = {}
_current = current.get


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How the SDK is doing. Losses: `dropped`, `rejected`, `evaluation_errors`.

    `revision` is the server's number of the flags in use, -1 for none; `silence_s` for how long
    nothing was heard; `events_sent` and `events_rejected` count exposure records too.
    """

    is_ready: bool
    is_connected: bool
    revision: int
    silence_s: float
    events_recorded: int
    events_sent: int
    events_dropped: int
    events_rejected: int
    evaluation_errors: int
    connects: int
    failed_connects: int
    failed_posts: int
    failed_saves: int
    bad_messages: int
    crashes: int


class Client:
    """One connection to one environment. Without a target it works from its snapshot alone."""

    def __init__(
        self,
        *,
        target: Target | None = None,
        service: str = "",
        cache: Path | None = None,
        offline: Path | None = None,
        environment: str = "",
        queue_max: int = QUEUE_MAX,
    ) -> None:
        self._exposures = Exposures()
        self._outbox = Outbox(queue_max)
        self._service = service
        self._ready = Event()
        self._listeners: tuple[Callable[[News], None], ...] = ()
        environment = target.environment if target is not None else environment
        self._snapshot, is_confirmed = self._first(cache, offline, environment)
        self.flags = self._snapshot.flags
        """The closures in force, by key; replaced whole, never changed."""
        if self._snapshot.is_ready:
            self._ready.set()
        self._is_closed = False
        self._agent: Agent | None = None
        self._wiring: Wiring | None = None
        if target is None:
            return
        from inprod.sdk.agent import Agent, Wiring

        common: dict[str, object] = {"service.name": service} if service else {}
        if environment:
            common["deployment.environment.name"] = environment
        self._wiring = Wiring(
            target=target, exposures=self._exposures, outbox=self._outbox, common=common,
            cache=cache, publish=self._publish, tell=self._tell,
        )  # fmt: skip
        self._agent = Agent(self._wiring, self._snapshot, is_confirmed=is_confirmed)
        self._agent.start()
        _living.add(self)

    def _first(
        self, cache: Path | None, offline: Path | None, environment: str
    ) -> tuple[Snapshot, bool]:
        """Return the snapshot to start with, and whether it counts as just confirmed.

        A cached one is of unknown age: its leases have ended until the server is heard.
        """
        for path, silence_s in ((offline, 0.0), (cache, float("inf"))):
            if path is None:
                continue
            from inprod.sdk import disk

            try:
                found = Snapshot.read(
                    disk.load(path), self._exposures, environment=environment,
                    silence_s=silence_s,
                )  # fmt: skip
            except (OSError, ValueError, Invalid):  # as if it were not there
                continue
            return found, path is offline
        return Snapshot(exposures=self._exposures), False

    def flag(self, key: str, default: T, context: Attributes | None = None, /, **more: object) -> T:
        """Return the value of a flag for `context`; `default` when there is none of its type.

        `more` are further attributes; `__` in their names stands for a dot.
        """
        try:
            if more:
                context = merged(context, more)
            served = self.flags[key](context or _EMPTY, None)
            if served.kind is type(default):
                served.tick()
                flags = _current()
                if flags is not None:
                    flags[key] = served
                return cast("T", served.value)
            return cast("T", self._resolved(key, default, served).value)
        except Exception as error:  # noqa: BLE001  # the app's edge: nothing may reach it
            return cast("T", self._broken(key, default, error).value)

    def details(
        self, key: str, default: object, context: Attributes | None = None, /, **more: object
    ) -> Evaluation:
        """Return the value with its variant, reason, rule and error."""
        try:
            if more:
                context = merged(context, more)
            served = self.flags[key](context or _EMPTY, None)
            if served.kind is type(default):
                self.count(served)
                return served.evaluation
            return self._resolved(key, default, served)
        except Exception as error:  # noqa: BLE001  # the app's edge: nothing may reach it
            return self._broken(key, default, error)

    def count(self, served: Served) -> None:
        """Count an exposure and attach it to the wide event in force."""
        served.tick()
        flags = _current()
        if flags is not None:
            flags[served.key] = served

    def _resolved(self, key: str, default: object, served: Served) -> Evaluation:
        """Return what is not simply a value of the default's own type."""
        evaluation = served.evaluation
        if evaluation.error is not None:
            served.tick()
            return replace(evaluation, value=default)
        value = evaluation.value
        if fits(value, default):
            self.count(served)
            if isinstance(default, float) and isinstance(value, int):
                value = float(value)
            return replace(evaluation, value=copy.deepcopy(value))
        text = f"`{key}` is `{type(value).__name__}`, the default `{type(default).__name__}`"
        return self._no_value(key, default, failed(Problem.TYPE_MISMATCH, text))

    def _broken(self, key: str, default: object, error: Exception) -> Evaluation:
        text = f"the context cannot be used: {type(error).__name__}"
        return self._no_value(str(key), default, failed(Problem.GENERAL, text))

    def _no_value(self, key: str, default: object, evaluation: Evaluation) -> Evaluation:
        name = key if key in self._snapshot.plain else "unknown"
        self._exposures.served(name, evaluation).tick()
        return replace(evaluation, value=default)

    def event(self, name: str, /, *, dataset: str = "", **attributes: object) -> WideEvent:
        """Return the context manager of one wide event; `__` in names stands for a dot."""
        return WideEvent(
            name, dataset or self._service or "app", merged(None, attributes), self._record
        )

    def _record(self, event: dict[str, object]) -> None:
        agent, outbox = self._agent, self._outbox
        if agent is None:
            return
        if self._is_closed:
            outbox.dropped.tick()
        elif outbox.put(event) and len(outbox) * 2 == outbox.queue_max:
            agent.wake()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait for the first flags; return whether there are any."""
        return self._ready.wait(timeout_s)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Send what waits; return whether all went out in time."""
        return self._agent is None or self._agent.flush(timeout_s)

    def close(self, timeout_s: float = 2.0) -> None:
        """Send what waits, then stop; flags keep their last values."""
        was_closed, self._is_closed = self._is_closed, True
        _living.discard(self)
        if self._agent is not None and not was_closed:
            self._agent.flush(timeout_s)
            self._agent.close(timeout_s)

    def listen(self, listener: Callable[[News], None]) -> None:
        """Call `listener` from the SDK's thread at every happening."""
        self._listeners = (*self._listeners, listener)

    @property
    def is_ready(self) -> bool:
        """Whether there are flags to evaluate."""
        return self._ready.is_set()

    def status(self) -> Status:
        """Return how the SDK is doing."""
        agent = self._agent
        losses = agent.losses if agent is not None else None
        return Status(
            is_ready=self.is_ready,
            is_connected=agent is not None and agent.is_connected,
            revision=self._snapshot.revision,
            silence_s=0.0 if agent is None else time.monotonic() - agent.heard_s,
            events_recorded=self._outbox.recorded.total(),
            events_sent=losses.sent if losses else 0,
            events_dropped=self._outbox.dropped.total(),
            events_rejected=losses.rejected if losses else 0,
            evaluation_errors=self._exposures.errors(),
            connects=losses.connects if losses else 0,
            failed_connects=losses.failed_connects if losses else 0,
            failed_posts=losses.failed_posts if losses else 0,
            failed_saves=losses.failed_saves if losses else 0,
            bad_messages=losses.bad_messages if losses else 0,
            crashes=losses.crashes if losses else 0,
        )

    def _publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.flags = snapshot.flags  # the one reference that evaluations read
        self._ready.set()

    def _tell(self, news: News) -> None:
        for listener in self._listeners:
            try:
                listener(news)
            except Exception:  # noqa: BLE001  # a listener's own trouble
                self._exposures.served(
                    "listener", failed(Problem.GENERAL, "a listener failed")
                ).tick()

    def revive(self) -> None:
        """Start over in a forked child: events and counts so far are the parent's to send."""
        if self._agent is None or self._wiring is None:
            return
        from inprod.sdk.agent import Agent

        self._agent.abandon()
        self._outbox.clear()
        for _ in self._exposures.take():
            pass
        is_ready, self._ready = self._ready.is_set(), Event()
        if is_ready:
            self._ready.set()
        self._agent = Agent(self._wiring, self._snapshot, is_confirmed=is_ready)
        self._agent.start()


def fits(value: object, default: object) -> bool:
    """Return whether a flag's value may stand for a default of another exact type."""
    if default is None:
        return True
    if isinstance(value, bool) or isinstance(default, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(value, (int, float)):
        return isinstance(default, (int, float))
    if isinstance(value, str):
        return isinstance(default, str)
    return isinstance(default, (Mapping, list, tuple))


def merged(context: Attributes | None, more: Attributes) -> dict[str, object]:
    """Return the attributes together; `user__id` is `user.id`."""
    attributes = dict(context or {})
    for name, value in more.items():
        attributes[name.replace("__", ".")] = value
    return attributes


def connect(
    *,
    url: str | None = None,
    key: str | None = None,
    environment: str | None = None,
    service: str | None = None,
    offline_file: str | os.PathLike[str] | None = None,
    cache_dir: str | None = None,
    queue_max: int = QUEUE_MAX,
    timeout_s: float = TIMEOUT_S,
) -> Client:
    """Return a client; what is not given comes from INPROD_URL, INPROD_KEY, INPROD_ENVIRONMENT.

    With an `offline_file` and no URL it never connects. `cache_dir=""` keeps nothing on disk.
    """
    url = url or os.environ.get("INPROD_URL") or ("" if offline_file else URL)
    key = key or os.environ.get("INPROD_KEY", "")
    environment = environment or os.environ.get("INPROD_ENVIRONMENT", "")
    service = service or os.environ.get("OTEL_SERVICE_NAME", "")
    offline = Path(offline_file) if offline_file else None
    if not url:
        return Client(service=service, offline=offline, environment=environment)
    from inprod.sdk import disk
    from inprod.sdk.wire import Target

    target = Target(url=url, key=key, environment=environment, timeout_s=timeout_s)
    cache = disk.place(cache_dir, url, environment)
    return Client(target=target, service=service, cache=cache, offline=offline, queue_max=queue_max)


_living: weakref.WeakSet[Client] = weakref.WeakSet()


def _revive_all() -> None:
    for client in list(_living):
        client.revive()


def _close_all() -> None:
    for client in list(_living):
        client.close(1.0)


os.register_at_fork(after_in_child=_revive_all)
atexit.register(_close_all)
