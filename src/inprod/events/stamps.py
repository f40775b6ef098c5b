"""The stamp of arrival, and up to where every stamp is already visible.

    time ->   ...flushed...|stamp of the oldest flush in flight|...      now
                           ^ settled                                     ^ settled when idle

Rule: no row is ever stamped earlier than a `settled` that was given out. Stamps are whole
milliseconds, so `settled` is too.
"""

from __future__ import annotations

NS_PER_MS = 1_000_000


class Stamps:
    """Gives out stamps and remembers which are in flight or in doubt; not locked by itself."""

    def __init__(self) -> None:
        self._floor_ms = 0
        self._next_id = 0
        self._flying: dict[int, int] = {}
        self._doubted: dict[int, tuple[int, int]] = {}

    def begin(self, now_ns: int) -> tuple[int, int]:
        """Return the id of a flush that begins now, and the stamp of its rows in milliseconds."""
        stamp_ms = self._floor_ms = max(now_ns // NS_PER_MS, self._floor_ms)
        self._next_id += 1
        self._flying[self._next_id] = stamp_ms
        return self._next_id, stamp_ms

    def end(self, flush: int) -> None:
        """The flush is visible, or certainly will never be."""
        del self._flying[flush]

    def doubt(self, flush: int, until_ns: int) -> None:
        """The flush failed, but its rows may still turn up until `until_ns`."""
        self._doubted[flush] = (self._flying.pop(flush), until_ns)

    def settled_ns(self, now_ns: int) -> int:
        """Return the time below which no further row will be stamped; monotone while `now` is."""
        for flush, (_, until_ns) in tuple(self._doubted.items()):
            if now_ns >= until_ns:
                del self._doubted[flush]
        pending = [*self._flying.values(), *(stamp for stamp, _ in self._doubted.values())]
        if pending:
            return min(pending) * NS_PER_MS
        self._floor_ms = max(now_ns // NS_PER_MS, self._floor_ms)
        return self._floor_ms * NS_PER_MS
