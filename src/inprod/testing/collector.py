"""The slow, obvious collector: the same cells as the one statement, by plain loops over a list.

It is the reference that the statement is compared with, and the store of simulations in virtual
time. Conditions are the few that need no engine: equality, inequality, and `error`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from inprod.events.event import Event
from inprod.events.query import Calculate, Filter
from inprod.guards.arms import stage_of
from inprod.guards.cells import EXPOSURES, Count, due_after
from inprod.guards.edge.collect import BUCKETS_MAX, Collected
from inprod.guards.evidence import (
    LATENCY_BIN_RATIO,
    LATENCY_FLOOR,
    MEAN_BINS,
    Cell,
    What,
)
from inprod.guards.guard import Guard, Kind, Unit
from inprod.operators import Op

MS = 1_000_000
ENVIRONMENT = "deployment.environment.name"
Key = tuple[int, What, int, int, int, int, int]  # guard what bucket stage stratum arm bin


@dataclass(frozen=True, slots=True)
class Arrived:
    """An event and when it arrived."""

    ingested_ms: int
    event: Event


@dataclass(slots=True)
class SlowCollector:
    """Events in memory, in the order of arrival; `delay_ms` is how far the store lags behind."""

    now_ns: Callable[[], int]
    delay_ms: int = 0
    events: list[Arrived] = field(default_factory=list[Arrived])

    def append(self, events: Iterable[Event]) -> None:
        """Store events, stamped with the time of now."""
        stamp = self.now_ns() // MS
        assert not self.events or self.events[-1].ingested_ms <= stamp, "time does not go back"
        self.events.extend(Arrived(stamp, event) for event in events)

    def closed(self, batch_ms: int) -> int:
        """Return the last bucket of which every event can be seen."""
        return (self.now_ns() // MS - self.delay_ms) // batch_ms - 1

    def collect(self, count: Count) -> Collected:
        """Return the cells of the buckets after `count.last` up to `count.closed`."""
        closed = min(count.closed, count.last + BUCKETS_MAX)
        if closed <= count.last:
            return Collected(closed=count.last)
        found = _Counting(count, closed)
        first = bisect_left(
            self.events, count.start * count.batch_ms, key=lambda one: one.ingested_ms
        )
        past = bisect_left(
            self.events, (closed + 1) * count.batch_ms, key=lambda one: one.ingested_ms
        )
        for one in self.events[first:past]:
            found.see(one)
        cells = [
            Cell(
                guard=guard, what=what, bucket=bucket, stage=stage, stratum=stratum, arm=arm,
                bin=bin_, n=n,
            )
            for (guard, what, bucket, stage, stratum, arm, bin_), n in found.cells().items()
        ]  # fmt: skip
        cells += found.thresholds(self.events)
        traffic = [c.bucket for c in cells if c.guard == EXPOSURES and c.what is What.VALUE]
        cells.sort(key=lambda c: (c.bucket, c.guard, c.what, c.stage, c.stratum, c.arm, c.bin))
        return Collected(
            closed=closed, cells=tuple(cells), users_exposed=found.users(),
            last_event=max(traffic, default=None),
        )  # fmt: skip


class _Counting:
    """One call's loop over the events."""

    def __init__(self, count: Count, closed: int) -> None:
        self.count = count
        self.closed = closed
        self.by_unit: dict[str, list[tuple[int, int | None, int | None, Arrived]]] = (
            defaultdict(list)
        )  # fmt: skip
        self.counted: Counter[Key] = Counter()

    def see(self, one: Arrived) -> None:
        """Look at one event, in order of arrival."""
        count, event = self.count, one.event
        if not _is_here(count, event):
            return
        bucket = one.ingested_ms // count.batch_ms
        self._add((EXPOSURES, What.VALUE, bucket, 0, 0, 0, 0))
        arm, stage = _arm(count, event), stage_of(count.windows, bucket)
        unit = event.strings.get(count.arms.unit, "")
        if unit:
            self.by_unit[unit].append((bucket, stage, arm, one))
        is_left_over = arm == 0 and stage is not None and stage == count.full_stage
        if arm is None or stage is None or is_left_over:
            return
        for number, guard in enumerate(count.guards):
            if guard.unit is Unit.EVENT:
                for what, bin_ in _event_counts(guard, event):
                    self._add((number, what, bucket, stage, 0, arm, bin_))

    def users(self) -> int:
        """Return the units first seen treated in the new buckets."""
        firsts = (
            min((bucket for bucket, _, arm, _ in seen if arm == 1), default=None)
            for seen in self.by_unit.values()
        )
        return sum(first is not None and first > self.count.last for first in firsts)

    def cells(self) -> Counter[Key]:
        """Return all counts but those of thresholds."""
        for seen in self.by_unit.values():
            self._unit(seen)
        return self.counted

    def _unit(self, seen: Sequence[tuple[int, int | None, int | None, Arrived]]) -> None:
        entries: dict[tuple[int, int], list[tuple[int, Arrived]]] = defaultdict(list)
        for bucket, stage, arm, one in seen:
            if stage is not None and arm is not None:
                entries[arm, stage].append((bucket, one))
        first_treated = min((stage for arm, stage in entries if arm == 1), default=None)
        for (arm, stage), events in entries.items():
            if arm == 1 and stage != first_treated:
                continue
            if arm == 0 and stage == self.count.full_stage:
                continue
            earlier = [other for side, other in entries if side == 0 and other < stage]
            place = (stage, 1 + max(earlier, default=-1), arm)
            self._add((EXPOSURES, What.EXPOSED, events[0][0], *place, 0))
            for number, guard in enumerate(self.count.guards):
                self._guard(number, guard, place, events, seen)

    def _guard(
        self, number: int, guard: Guard, place: tuple[int, int, int],
        arrived: Sequence[tuple[int, Arrived]],
        seen: Sequence[tuple[int, int | None, int | None, Arrived]],
    ) -> None:  # fmt: skip
        looked = [
            (bucket, one) for bucket, one in arrived
            if _looks(guard, one.event) and _measures(guard, one.event)
        ]  # fmt: skip
        if guard.kind is Kind.COMPLETENESS:
            if looked:
                first, due = looked[0][0], looked[0][0] + due_after(guard, self.count.batch_ms)
                met = any(
                    first <= bucket <= due and _all(guard.outcome, one.event)
                    for bucket, _, _, one in seen
                )
                self._add((number, What.EXPOSED, due, *place, 0))
                if not met:
                    self._add((number, What.BAD, due, *place, 0))
            return
        if guard.unit is Unit.EVENT or guard.kind not in (
            Kind.ERRORS, Kind.RATE, Kind.LATENCY, Kind.MEAN,
        ):  # fmt: skip
            return
        bad = [bucket for bucket, one in looked if _is_bad(guard, one.event)]
        if guard.kind is Kind.RATE:
            self._add((number, What.EXPOSED, arrived[0][0], *place, 0))
            for bucket in bad[:1]:
                self._add((number, What.BAD, bucket, *place, 0))
        elif looked:
            bin_ = 0 if guard.kind is Kind.ERRORS else _first_bin(guard, [one for _, one in looked])
            self._add((number, What.EXPOSED, looked[0][0], *place, bin_))
            if guard.kind is Kind.ERRORS and bad:
                self._add((number, What.BAD, bad[0], *place, 0))

    def thresholds(self, events: Sequence[Arrived]) -> list[Cell]:
        """Return the aggregate of each threshold for each new bucket with events in reach."""
        cells: list[Cell] = []
        for number, guard in enumerate(self.count.guards):
            if guard.kind is not Kind.THRESHOLD:
                continue
            reach = math.ceil(guard.over_s * 1000 / self.count.batch_ms)
            arm = {"treated": 1, "control": 0, "all": None}[guard.arm]
            for bucket in range(self.count.last + 1, self.closed + 1):
                begun = [w.stage for w in self.count.windows if w.start <= bucket]
                inside = [
                    one.event
                    for one in events
                    if bucket - reach < one.ingested_ms // self.count.batch_ms <= bucket
                    and _is_here(self.count, one.event)
                    and _looks(guard, one.event)
                    and (arm is None or _arm(self.count, one.event) == arm)
                ]
                if begun and inside:
                    cells.append(
                        Cell(
                            guard=number, what=What.VALUE, bucket=bucket, stage=begun[-1],
                            stratum=0, arm=1 if arm is None else arm, n=len(inside),
                            value=_aggregate(guard, inside),
                        )
                    )  # fmt: skip
        return cells

    def _add(self, key: Key) -> None:
        if self.count.last < key[2] <= self.closed:
            self.counted[key] += 1


def _is_here(count: Count, event: Event) -> bool:
    is_test = "inprod.test" in event.strings
    is_wanted = count.include_test_traffic or not is_test
    return event.strings.get(ENVIRONMENT) == count.environment and is_wanted


def _arm(count: Count, event: Event) -> int | None:
    arms = count.arms
    if arms.rule and event.strings.get(arms.rule_attribute) != arms.rule:
        return None
    return {arms.treated: 1, arms.control: 0}.get(event.strings.get(arms.attribute, ""))


def _event_counts(guard: Guard, event: Event) -> list[tuple[What, int]]:
    found: list[tuple[What, int]] = []
    is_looked = _looks(guard, event) and _measures(guard, event)
    if guard.kind in (Kind.LATENCY, Kind.MEAN):
        return [(What.EXPOSED, _bin(guard, event))] if is_looked else []
    if guard.kind not in (Kind.ERRORS, Kind.RATE):
        return []
    if is_looked or guard.kind is Kind.RATE:
        found.append((What.EXPOSED, 0))
    if is_looked and _is_bad(guard, event):
        found.append((What.BAD, 0))
    return found


def _looks(guard: Guard, event: Event) -> bool:
    is_there = guard.dataset is None or guard.dataset == event.dataset
    return is_there and _all(guard.where, event)


def _measures(guard: Guard, event: Event) -> bool:
    if guard.kind not in (Kind.LATENCY, Kind.MEAN):
        return True
    return _number(guard.column or "duration_ms", event) is not None


def _is_bad(guard: Guard, event: Event) -> bool:
    return _all(guard.bad, event) if guard.bad else event.error


def _all(filters: Sequence[Filter], event: Event) -> bool:
    return all(_claim(one, event) for one in filters)


def _claim(one: Filter, event: Event) -> bool:
    if one.column == "error":
        is_equal = event.error is one.value
    elif one.column == "name":
        is_equal = event.name == one.value
    elif isinstance(one.value, str):
        is_equal = event.strings.get(one.column) == one.value
    else:
        is_equal = _number(one.column, event) == one.value
    assert one.op in (Op.EQUAL, Op.NOT_EQUAL), "the slow collector knows no more"
    return is_equal is (one.op is Op.EQUAL)


def _number(column: str, event: Event) -> float | None:
    if column == "duration_ms":
        return None if event.duration_ns is None else event.duration_ns / 1e6
    return event.numbers.get(column)


def _first_bin(guard: Guard, looked: Sequence[Arrived]) -> int:
    """Return the bin of the first value; of values at the same time, the smallest."""
    first = min((one.ingested_ms, one.event.time_ns) for one in looked)
    return min(
        _bin(guard, one.event) for one in looked if (one.ingested_ms, one.event.time_ns) == first
    )


def _bin(guard: Guard, event: Event) -> int:
    value = _number(guard.column or "duration_ms", event)
    assert value is not None, "only events with a value are looked at"
    if guard.kind is Kind.LATENCY:
        return math.floor(math.log(max(value, LATENCY_FLOOR)) / math.log(LATENCY_BIN_RATIO))
    assert guard.clip is not None, "the guard checked itself"
    return round(min(max(value, 0.0), guard.clip) / guard.clip * MEAN_BINS)


def _aggregate(guard: Guard, events: Sequence[Event]) -> float:
    values = [
        (value, event.sample_rate)
        for event in events
        if (value := _number(guard.column or "", event)) is not None
    ]
    match guard.calculate:
        case Calculate.COUNT:
            return float(sum(event.sample_rate for event in events))
        case Calculate.SUM:
            return sum(value * weight for value, weight in values)
        case Calculate.AVG:
            total = sum(weight for _, weight in values)
            return sum(value * weight for value, weight in values) / total if total else 0.0
        case Calculate.MAX:
            return max((value for value, _ in values), default=0.0)
        case Calculate.MIN:
            return min((value for value, _ in values), default=0.0)
        case _:
            raise AssertionError(f"the slow collector cannot {guard.calculate}")
