"""The writer: one thread that gathers batches from all requests and stores them together.

    submit ---> |queue, bounded in rows and bytes| ---> flush ---> futures are done
                 full: TooMuch, 429                      at 10k rows, 16 MB or 250 ms

Small flushes cost three to five times the CPU per row, so when flushes are slow the writer waits
longer, up to four times as long: it flushes about a quarter of the time.

A batch is acknowledged (its future has a result) only after the flush that holds it is synced.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition, Thread
from time import monotonic
from typing import Protocol

from inprod.errors import InprodError, TooMuch, Unavailable
from inprod.events.arrow import Batch

FLUSH_ROWS = 10_000
FLUSH_BYTES = 16_000_000  # as Arrow in memory: about 10,000 wide spans
FLUSH_S = 0.25
PATIENCE = 3.0  # times the length of the last flush
STRETCH_MAX = 4.0  # times FLUSH_S
QUEUE_ROWS_MAX = 200_000
QUEUE_BYTES_MAX = 128_000_000
RETRY_AFTER_S = 1.0
CLOSE_S = 30.0

_log = logging.getLogger(__name__)


class Stores(Protocol):
    """What the writer needs of a store."""

    def insert(self, batches: Sequence[Batch]) -> None:
        """Store the batches together, or raise."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """When to flush, and how much may wait."""

    flush_rows: int = FLUSH_ROWS
    flush_bytes: int = FLUSH_BYTES
    flush_s: float = FLUSH_S
    queue_rows: int = QUEUE_ROWS_MAX
    queue_bytes: int = QUEUE_BYTES_MAX


class Writer:
    """Gathers and flushes. `close` stores what waits and ends the thread."""

    def __init__(self, store: Stores, *, bounds: Bounds | None = None) -> None:
        self._store = store
        self._bounds = bounds or Bounds()
        self._changed = Condition()
        self._waiting: deque[tuple[Batch, Future[None], float]] = deque()
        self._rows = 0
        self._bytes = 0
        self._is_closed = False
        self._wait_s = self._bounds.flush_s
        self._thread = Thread(target=self._run, name="inprod-event-writer", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch) -> Future[None]:
        """Queue a batch; the future is done once it is stored, or has the error that prevented it.

        Raises TooMuch (429) when the queue is full, Unavailable when the writer is closed.
        """
        bounds = self._bounds
        with self._changed:
            if self._is_closed:
                raise Unavailable("writer_closed", "the server is stopping", hint="Send it again.")
            is_full = (
                self._rows + batch.rows > bounds.queue_rows
                or self._bytes + batch.size_bytes > bounds.queue_bytes
            )
            if is_full and self._rows:  # one batch alone always fits: bodies are bounded before
                raise full()
            future: Future[None] = Future()
            self._rows += batch.rows
            self._bytes += batch.size_bytes
            self._waiting.append((batch, future, monotonic()))
            self._changed.notify_all()
        return future

    def check_room(self) -> None:
        """Raise TooMuch (429) when the queue is full, before a body is decoded for nothing."""
        with self._changed:
            if self._rows >= self._bounds.queue_rows or self._bytes >= self._bounds.queue_bytes:
                raise full()

    @property
    def waiting_rows(self) -> int:
        """How many rows are queued or being flushed."""
        return self._rows

    def close(self) -> None:
        """Flush what waits, then stop; further batches are refused."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while True:
            taken = self._take()
            if not taken:
                return
            batches = [batch for batch, _, _ in taken]
            began = monotonic()
            error = self._flush(batches)
            longest_s = STRETCH_MAX * self._bounds.flush_s
            patient_s = PATIENCE * (monotonic() - began)
            self._wait_s = min(max(self._bounds.flush_s, patient_s), longest_s)
            with self._changed:
                self._rows -= sum(batch.rows for batch in batches)
                self._bytes -= sum(batch.size_bytes for batch in batches)
                self._changed.notify_all()
            for _, future, _ in taken:
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

    def _take(self) -> list[tuple[Batch, Future[None], float]]:
        """Wait for a flush's worth of batches and return them; none means closed."""
        bounds = self._bounds
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            while self._waiting and not self._is_closed and not self._has_enough():
                left_s = self._waiting[0][2] + self._wait_s - monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            taken: list[tuple[Batch, Future[None], float]] = []
            rows = size_bytes = 0
            while self._waiting:
                batch = self._waiting[0][0]
                rows += batch.rows
                size_bytes += batch.size_bytes
                if taken and (rows > 2 * bounds.flush_rows or size_bytes > 2 * bounds.flush_bytes):
                    break
                entry = self._waiting.popleft()
                if entry[1].set_running_or_notify_cancel():
                    taken.append(entry)
                else:  # the request went away before its turn
                    rows -= batch.rows
                    self._rows -= batch.rows
                    self._bytes -= batch.size_bytes
            if not taken and not self._is_closed:
                return self._take()
            return taken

    def _has_enough(self) -> bool:
        bounds = self._bounds
        return self._rows >= bounds.flush_rows or self._bytes >= bounds.flush_bytes

    def _flush(self, batches: Sequence[Batch]) -> Exception | None:
        try:
            self._store.insert(batches)
        except InprodError as error:
            _log.warning("events were not stored", extra={"reason": error.message})
            return error
        except Exception as error:  # noqa: BLE001  # the loop's edge: one batch must not end it
            _log.exception("events were not stored")
            return error
        return None


def full() -> TooMuch:
    """Return the error for a queue without room."""
    return TooMuch(
        "too_many_events", "events come in faster than they can be stored",
        hint="Send them again later.", retry_after_s=RETRY_AFTER_S,
    )  # fmt: skip
