"""Ask the event store for a rollout's new cells: one bounded statement per call."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Protocol

from inprod.events.edge.engine import Limits
from inprod.events.sql import Binder, Statement
from inprod.guards.cells import EXPOSURES, USERS, WHATS, Count, counted
from inprod.guards.evidence import Cell, What

BUCKETS_MAX = 600  # new buckets of one call; what is left comes with the next
LIMITS = Limits(seconds=20.0, rows=500_000)
# Counting may take this part of the time: what takes longer than CHEAP_S is done less often.
COLLECT_PART, CHEAP_S, REST_S_MAX = 0.25, 1.0, 30.0


class Store(Protocol):
    """The part of the event store that collecting needs."""

    def binder(self) -> Binder:
        """Return a fresh binder that knows the promoted columns."""
        ...

    def read(self, statement: Statement, limits: Limits = ...) -> list[tuple[object, ...]]:
        """Return the rows of a read-only statement."""
        ...

    def settled_ns(self) -> int:
        """Return the time before which nothing more will appear."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What arrived in the buckets up to `closed`: `cells` in a fixed order, by bucket first.

    `users_exposed` are units that saw the treatment for the first time; `last_event` is the last
    bucket in which any event of the environment arrived, None when none did.
    """

    closed: int
    cells: tuple[Cell, ...] = ()
    users_exposed: int = 0
    last_event: int | None = None


class Counts(Protocol):
    """What the runner asks for cells: the Collector, or the slow one of `testing`."""

    def closed(self, batch_ms: int) -> int:
        """Return the last bucket of which every event can be seen."""
        ...

    def collect(self, count: Count) -> Collected:
        """Return the cells of the buckets after `count.last` up to `count.closed`."""
        ...


class Collector:
    """Counts in the event store; a count that took over `cheap_s` is followed by a rest."""

    def __init__(self, store: Store, *, cheap_s: float = CHEAP_S) -> None:
        self._store = store
        self._cheap_s = cheap_s
        self._rest_until_s: dict[tuple[str, str], float] = {}

    def closed(self, batch_ms: int) -> int:
        """Return the last bucket of which every event can be seen."""
        return self._store.settled_ns() // 1_000_000 // batch_ms - 1

    def collect(self, count: Count) -> Collected:
        """Return the cells of the buckets after `count.last` up to `count.closed`.

        At most BUCKETS_MAX of them, none while it rests. Raises TooMuch over a limit, Unavailable
        without a store.
        """
        closed = min(count.closed, count.last + BUCKETS_MAX)
        key = (count.environment, count.arms.attribute)
        began_s = time.monotonic()
        if closed <= count.last or began_s < self._rest_until_s.get(key, 0.0):
            return Collected(closed=count.last)
        try:
            return self._collect(replace(count, closed=closed))
        finally:
            took_s = time.monotonic() - began_s
            if took_s > self._cheap_s:
                rest_s = min(took_s * (1 / COLLECT_PART - 1), REST_S_MAX)
                self._rest_until_s[key] = time.monotonic() + rest_s

    def _collect(self, count: Count) -> Collected:
        statement = counted(count, self._store.binder())
        cells: list[Cell] = []
        users = 0
        for row in self._store.read(statement, LIMITS):
            guard, what, bucket, stage, stratum, arm, bin_, n, value = row
            number = int(guard)  # pyright: ignore[reportArgumentType]  # the statement says so
            if number == USERS:
                users += int(n)  # pyright: ignore[reportArgumentType]
            else:
                cells.append(_cell(number, what, bucket, stage, stratum, arm, bin_, n, value))
        cells.sort(key=_order)
        traffic = [c.bucket for c in cells if c.guard == EXPOSURES and c.what is What.VALUE]
        return Collected(
            closed=count.closed, cells=tuple(cells), users_exposed=users,
            last_event=max(traffic, default=None),
        )  # fmt: skip


def _cell(number: int, *rest: object) -> Cell:
    what, bucket, stage, stratum, arm, bin_, n, value = rest
    integers = [int(one) for one in (what, bucket, stage, stratum, arm, bin_, n)]  # pyright: ignore[reportArgumentType]
    return Cell(
        guard=number, what=WHATS[integers[0]], bucket=integers[1], stage=integers[2],
        stratum=integers[3], arm=integers[4], bin=integers[5], n=integers[6],
        value=float(value),  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def _order(cell: Cell) -> tuple[int | str, ...]:
    return (cell.bucket, cell.guard, cell.what.value, cell.stage, cell.stratum, cell.arm, cell.bin)
