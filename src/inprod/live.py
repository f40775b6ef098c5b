"""Fan-out of changes to whoever listens now: SSE streams of SDKs and pages.

In memory, one process. A listener that falls `QUEUE_MAX` messages behind is told to start over
(`Lagged`), it never holds up the publisher nor grows without bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from threading import Lock

QUEUE_MAX = 1000
LISTENERS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One change: `topic` (`flags`, `rollouts` ...), `event`, `payload` (what JSON can hold)."""

    topic: str
    event: str
    payload: object


class Lagged(Exception):
    """The listener fell behind; it must read the whole state again."""


class Listener:
    """One queue of messages of the chosen topics, bound to the event loop that made it."""

    def __init__(self, topics: Iterable[str]) -> None:
        self.topics = frozenset(topics)
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Message] = asyncio.Queue(QUEUE_MAX)
        self._lagged = False

    def offer(self, message: Message) -> None:
        """Hand over a message, from any thread."""
        if message.topic in self.topics and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, message)

    def _put(self, message: Message) -> None:
        if self._queue.full():
            self._lagged = True
        else:
            self._queue.put_nowait(message)

    async def next(self, timeout_s: float) -> Message | None:
        """Return the next message, or None after `timeout_s` without one.

        Raises Lagged once when messages were lost; what was queued is dropped with them.
        """
        if self._lagged:
            self._lagged = False
            while not self._queue.empty():
                self._queue.get_nowait()
            raise Lagged
        try:
            async with asyncio.timeout(timeout_s):
                return await self._queue.get()
        except TimeoutError:
            return None


class Live:
    """Publishes to all current listeners."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._listeners: set[Listener] = set()

    def publish(self, message: Message) -> None:
        """Hand `message` to every listener of its topic; callable from any thread, never blocks."""
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener.offer(message)

    @asynccontextmanager
    async def listen(self, *topics: str) -> AsyncGenerator[Listener]:
        """Yield a Listener that is registered for the length of the block."""
        listener = Listener(topics)
        with self._lock:
            assert len(self._listeners) < LISTENERS_MAX, "the server refuses streams before this"
            self._listeners.add(listener)
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners.discard(listener)

    @property
    def listeners(self) -> int:
        """How many are listening now."""
        return len(self._listeners)
