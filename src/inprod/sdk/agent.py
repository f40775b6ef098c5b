"""The SDK's one thread: follows the flag stream, sends events, ends leases, keeps the cache.

Level-triggered: each round looks at what is due (connect, give up a silent stream, end a lease,
save, send) and then sleeps until a socket is readable or the next deadline comes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import random
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Event, Thread

from inprod.errors import Invalid
from inprod.sdk import disk
from inprod.sdk.outbox import Outbox, encode, exposure_events
from inprod.sdk.snapshot import Exposures, Snapshot
from inprod.sdk.wire import Post, Refused, Sse, Stream, Target, retryable

log = logging.getLogger("inprod")
EVENTS_PATH = "/api/events"
FLUSH_S = 0.25
EXPOSURES_S = 5.0
SILENCE_S = 10.0  # the server pings every 2 s
STALE_S = 10.0
SAVE_S = 1.0
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.1, 10.0
POST_S_MAX = 10.0
TOO_LARGE = 413
NETWORK = (OSError, http.client.HTTPException, EOFError, ValueError)


class Happening(StrEnum):
    """What the SDK tells whoever asked, from its own thread."""

    READY = "ready"
    CHANGED = "changed"
    STALE = "stale"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One happening: the flags that changed, or words about the trouble."""

    happening: Happening
    flags: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What the agent works with and for."""

    target: Target
    exposures: Exposures
    outbox: Outbox
    common: dict[str, object]
    cache: Path | None
    publish: Callable[[Snapshot], None]
    tell: Callable[[News], None]


@dataclass(slots=True)
class Losses:
    """What was counted, by name; read by `inprod.status()`."""

    sent: int = 0
    rejected: int = 0
    failed_posts: int = 0
    connects: int = 0
    failed_connects: int = 0
    bad_messages: int = 0
    failed_saves: int = 0
    crashes: int = 0


class Agent:
    """One thread and its sockets; made anew in a forked child."""

    def __init__(self, wiring: Wiring, snapshot: Snapshot, *, is_confirmed: bool) -> None:
        self._wiring = wiring
        self.snapshot = snapshot
        self.losses = Losses()
        self.is_connected = False
        now = time.monotonic()
        self.heard_s = now if is_confirmed else 0.0
        self._stream: Stream | None = None
        self._connect_at = now
        self._backoff_s = BACKOFF_S_MIN
        self._is_stale = False
        self._post = Post(wiring.target, EVENTS_PATH)
        self._posting: list[dict[str, object]] = []
        self._post_until = 0.0
        self._post_at = now
        self._retry_at = now
        self._exposures_at = now + EXPOSURES_S
        self._save_at: float | None = None
        self._flushes: deque[Event] = deque()
        self._leases: tuple[float, ...] = ()
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._is_closing = False
        self._thread = Thread(target=self._run, name="inprod", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._leases = _sorted_leases(self.snapshot)
        self._thread.start()

    def wake(self) -> None:
        """Make the thread look now; from any thread, without blocking."""
        with contextlib.suppress(OSError):
            self._wake_in.send(b"!")

    def flush(self, timeout_s: float) -> bool:
        """Send everything now; return whether it all went out in time."""
        if not self._thread.is_alive():
            return False
        done = Event()
        self._flushes.append(done)
        self.wake()
        return done.wait(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Stop the thread."""
        self._is_closing = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def abandon(self) -> None:
        """Close this process's copies of the sockets: in a child, the thread is the parent's."""
        if self._stream is not None:
            self._stream.close()
        self._post.close()
        self._wake_in.close()
        self._wake_out.close()

    def _run(self) -> None:
        while not self._is_closing:
            try:
                self._round()
            except Exception:
                self.losses.crashes += 1
                log.exception("The inprod thread failed; it goes on in a second.")
                self._drop_stream()
                self._post.close()
                time.sleep(1.0)
        self.abandon()

    def _round(self) -> None:
        now = time.monotonic()
        if self._stream is None and now >= self._connect_at:
            self._connect()
        elif self._stream is not None and now - self.heard_s > SILENCE_S:
            self._lost("the stream is silent")
        self._end_leases(now)
        if not self._is_stale and self._stream is None and now - self.heard_s > STALE_S:
            self._is_stale = True
            self._wiring.tell(News(happening=Happening.STALE, message="out of touch"))
        if self._save_at is not None and now >= self._save_at:
            self._save()
        self._send(now)
        self._wait()

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self._wake_out, select.POLLIN)
        stream = post = -1
        if self._stream is not None:
            stream = self._stream.fileno()
            poller.register(stream, select.POLLIN)
        if self._post.is_open:
            post = self._post.fileno()
            poller.register(post, select.POLLIN)
        ready = {descriptor for descriptor, _ in poller.poll(FLUSH_S * 1000)}
        if self._wake_out.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._wake_out.recv(4096)
        if stream in ready:
            self._read()
        if post in ready:
            self._finish()

    def _connect(self) -> None:
        try:
            self._stream = Stream(self._wiring.target)
        except Refused as error:
            self.losses.failed_connects += 1
            self._wiring.tell(News(happening=Happening.ERROR, message=str(error)))
            self._back_off(error.retry_after_s)
        except NETWORK as error:
            self.losses.failed_connects += 1
            log.debug("Cannot connect", extra={"error": str(error)})
            self._back_off(None)
        else:
            self.losses.connects += 1
            self.heard_s = time.monotonic() if self.snapshot.is_ready else self.heard_s
            self._read()  # the snapshot is on its way

    def _back_off(self, retry_after_s: float | None) -> None:
        wait_s = max(self._backoff_s, min(retry_after_s or 0.0, 300.0))
        self._connect_at = time.monotonic() + wait_s * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_S_MAX)

    def _lost(self, why: str) -> None:
        log.debug("The flag stream is lost", extra={"why": why})
        self._drop_stream()
        self._back_off(None)

    def _drop_stream(self) -> None:
        self.is_connected = False
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _read(self) -> None:
        assert self._stream is not None, "there is a stream to read"
        try:
            messages = self._stream.read()
        except NETWORK as error:
            self._lost(str(error))
            return
        self.heard_s = time.monotonic()
        for message in messages:
            try:
                self._take(message)
            except (Invalid, ValueError, KeyError, TypeError) as error:
                self.losses.bad_messages += 1
                log.warning("A message of the flag stream is broken", extra={"error": str(error)})

    def _take(self, message: Sse) -> None:
        old = self.snapshot
        match message.event:
            case "put":
                body = json.loads(message.data)
                fresh = Snapshot.read(body, self._wiring.exposures)
                self._backoff_s = BACKOFF_S_MIN
                self.is_connected = True
            case "patch":
                body = json.loads(message.data)
                fresh = old.patched(str(body["key"]), int(body["revision"]), body["flag"])
            case _:
                fresh = old.silenced(0.0) if old.silence_s else old
        if fresh is old:
            return
        changed = fresh.changed_since(old)
        self._replace(fresh)
        if changed or not old.is_ready:
            self._save_at = self._save_at or time.monotonic() + SAVE_S
        if not old.is_ready or self._is_stale or message.event == "put":
            self._is_stale = False
            self._wiring.tell(News(happening=Happening.READY))
        if changed and old.is_ready:
            self._wiring.tell(News(happening=Happening.CHANGED, flags=tuple(changed)))

    def _replace(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._leases = _sorted_leases(snapshot)
        self._wiring.publish(snapshot)

    def _end_leases(self, now: float) -> None:
        """Swap in a snapshot without the splits whose lease ended, when another one did."""
        silence_s = now - self.heard_s
        if any(self.snapshot.silence_s < lease <= silence_s for lease in self._leases):
            self._replace(self.snapshot.silenced(silence_s))

    def _save(self) -> None:
        self._save_at = None
        if self._wiring.cache is None:
            return
        try:
            disk.save(self._wiring.cache, self.snapshot.body())
        except OSError as error:
            self.losses.failed_saves += 1
            log.debug("Cannot keep the flags on disk", extra={"error": str(error)})

    def _send(self, now: float) -> None:
        if self._post.is_open:
            if now > self._post_until:
                self._post_failed("no answer in time", None)
            return
        is_due = now >= self._post_at or bool(self._flushes)
        if now < self._retry_at or not is_due:
            return
        if not self._posting:
            self._posting = [*self._due_exposures(now), *self._wiring.outbox.take()]
        if not self._posting:
            while self._flushes:
                self._flushes.popleft().set()
            self._post_at = now + FLUSH_S
            return
        try:
            self._post.send(encode(self._posting, self._wiring.common))
            self._post_until = now + POST_S_MAX
        except NETWORK as error:
            self._post_failed(str(error), None)

    def _due_exposures(self, now: float) -> list[dict[str, object]]:
        """Return the counts, when it is their time; until they can be sent they only add up."""
        if now < self._exposures_at and not self._flushes:
            return []
        self._exposures_at = now + EXPOSURES_S
        return exposure_events(self._wiring.exposures, time_ns=time.time_ns())

    def _finish(self) -> None:
        try:
            self._post.finish()
        except Refused as error:
            half = len(self._posting) // 2
            if error.status == TOO_LARGE and half:
                self._wiring.outbox.give_back(self._posting[half:])
                self._posting = self._posting[:half]
            elif retryable(error):
                self._post_failed(str(error), error.retry_after_s)
            else:
                self.losses.rejected += len(self._posting)
                self._posting = []
                log.warning("Events were rejected", extra={"answer": str(error)})
        except NETWORK as error:
            self._post_failed(str(error), None)
        else:
            self.losses.sent += len(self._posting)
            self._posting = []
            self._post_at = time.monotonic() + (0 if len(self._wiring.outbox) else FLUSH_S)

    def _post_failed(self, why: str, retry_after_s: float | None) -> None:
        """Keep the batch for later; what comes meanwhile queues up, and is dropped when full."""
        self.losses.failed_posts += 1
        log.debug("Events cannot be sent now", extra={"why": why})
        self._post.close()
        wait_s = min(max(retry_after_s or 0.0, 1.0), 60.0)
        self._retry_at = time.monotonic() + wait_s * random.uniform(0.5, 1.0)  # noqa: S311  # jitter


def _sorted_leases(snapshot: Snapshot) -> tuple[float, ...]:
    return tuple(sorted({lease for leases in snapshot.leases().values() for lease in leases}))
