"""Counting without locks: exposures per answer, and losses.

`next(itertools.count())` is one call into C, so under the interpreter lock no increment is ever
lost between threads (free-threaded builds make it atomic themselves), and its `repr` tells where
it stands without moving it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count


class Counter:
    """A number that any thread may raise with `tick()` and read with `total()`."""

    __slots__ = ("_count", "_taken", "tick")

    def __init__(self) -> None:
        self._count = count()
        self._taken = 0
        self.tick: Callable[[], int] = self._count.__next__

    def total(self) -> int:
        """Return how often it was raised."""
        return int(repr(self._count)[6:-1])  # "count(17)"

    def take(self) -> int:
        """Return how often it was raised since the last take; for one reading thread."""
        total = self.total()
        fresh, self._taken = total - self._taken, total
        return fresh
