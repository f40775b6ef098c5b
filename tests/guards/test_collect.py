"""The one statement counts exactly what the slow, obvious collector counts."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inprod.events.edge.store import EventStore
from inprod.events.event import Event
from inprod.events.query import Calculate, Filter
from inprod.guards.arms import Arms, Window
from inprod.guards.cells import EXPOSURES, Count
from inprod.guards.edge.collect import BUCKETS_MAX, Collector
from inprod.guards.evidence import Cell, What
from inprod.guards.guard import Guard, Kind, Unit
from inprod.operators import Op
from inprod.testing.clock import EPOCH_NS, NS, Clock
from inprod.testing.collector import SlowCollector
from support.event_store import fresh_store

DONE = (Filter(column="name", op=Op.EQUAL, value="done"),)
GUARDS = (
    Guard(name="errors", kind=Kind.ERRORS),
    Guard(
        name="checkout", kind=Kind.ERRORS, dataset="shop",
        where=(Filter(column="http.route", op=Op.EQUAL, value="/checkout"),),
        bad=(Filter(column="status", op=Op.EQUAL, value=500),),
    ),
    Guard(name="rate", kind=Kind.RATE),
    Guard(name="latency", kind=Kind.LATENCY),
    Guard(name="mean", kind=Kind.MEAN, column="items", clip=50.0, margin=1.0),
    Guard(name="complete", kind=Kind.COMPLETENESS, outcome=DONE, timeout_s=1.5),
    Guard(name="events", kind=Kind.ERRORS, unit=Unit.EVENT),
    Guard(name="event-rate", kind=Kind.RATE, unit=Unit.EVENT),
    Guard(name="event-latency", kind=Kind.LATENCY, unit=Unit.EVENT),
    Guard(
        name="ceiling", kind=Kind.THRESHOLD, calculate=Calculate.MAX, column="items", ceiling=9.0,
        over_s=2.0,
    ),
    Guard(
        name="count", kind=Kind.THRESHOLD, calculate=Calculate.COUNT, ceiling=9.0, over_s=3.0,
        arm="all",
    ),
    Guard(name="split", kind=Kind.SAMPLE_RATIO),
)  # fmt: skip
ARMS = Arms(
    attribute="flag.x", treated="on", control="off", rule_attribute="flag.x.rule", rule="everyone"
)
WINDOWS = (
    (),
    (Window(stage=0, start=0),),
    (Window(stage=0, start=0, end=2), Window(stage=1, start=3)),
    (
        Window(stage=0, start=0, end=1),
        Window(stage=1, start=2, end=3),
        Window(stage=1, start=4, end=5),
        Window(stage=2, start=5),
    ),
)
_environments = itertools.count()


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def store(clock: Clock) -> Generator[EventStore]:
    with fresh_store(now_ns=clock.now_ns) as opened:
        yield opened


def event(
    *, unit: str = "u1", arm: str | None = "off", rule: str = "everyone", failed: bool = False,
    took_ms: float | None = 5.0, route: str = "/checkout", status: int = 200,
    items: float | None = 3.0, name: str = "GET", is_test: bool = False, dataset: str = "shop",
    environment: str = "production",
) -> Event:  # fmt: skip
    strings = {"deployment.environment.name": environment, "http.route": route}
    if unit:
        strings["user.id"] = unit
    if arm is not None:
        strings |= {"flag.x": arm, "flag.x.rule": rule}
    if is_test:
        strings["inprod.test"] = "run-1"
    numbers = {"status": float(status)}
    if items is not None:
        numbers["items"] = items
    return Event(
        time_ns=EPOCH_NS, dataset=dataset, name=name, error=failed,
        duration_ns=None if took_ms is None else round(took_ms * 1e6),
        strings=strings, numbers=numbers,
    )  # fmt: skip


EVENTS = st.builds(
    event,
    unit=st.sampled_from(["", "u1", "u2", "u3", "u4"]),
    arm=st.sampled_from([None, "off", "on", "other"]),
    rule=st.sampled_from(["everyone", "everyone", "everyone", "beta"]),
    failed=st.booleans(),
    took_ms=st.sampled_from([None, 0.0, 0.7, 5.3, 5.4, 812.0]),
    route=st.sampled_from(["/checkout", "/cart"]),
    status=st.sampled_from([200, 500]),
    items=st.sampled_from([None, -1.0, 3.0, 49.9, 70.0]),
    name=st.sampled_from(["GET", "done"]),
    is_test=st.sampled_from([False, False, False, True]),
    dataset=st.sampled_from(["shop", "other"]),
    environment=st.sampled_from(["here", "here", "here", "elsewhere"]),
)
STREAMS = st.lists(st.lists(EVENTS, max_size=8), min_size=1, max_size=7)


def filled(
    store: EventStore, clock: Clock, stream: list[list[Event]], windows: tuple[Window, ...]
) -> tuple[SlowCollector, Count]:
    """Put a stream, one batch a second, into both stores; return the slow one and what to count.

    The examples share one engine: each has its own environment, and begins when the last ended,
    since stamps of arrival never go back. `windows` are in seconds from the beginning.
    """
    environment = f"e{next(_environments)}"
    slow = SlowCollector(now_ns=clock.now_ns)
    start = clock.time_ns // NS
    for batch in stream:
        named = [
            replace(
                one,
                strings=one.strings
                | (
                    {"deployment.environment.name": environment}
                    if one.strings["deployment.environment.name"] == "here"
                    else {}
                ),
            )
            for one in batch
        ]
        store.append(named)
        slow.append(named)
        clock.advance(1)
    shifted = tuple(
        replace(one, start=start + one.start, end=None if one.end is None else start + one.end)
        for one in windows
    )
    count = Count(
        environment=environment, arms=ARMS, guards=GUARDS, windows=shifted, batch_ms=1000,
        start=start, last=start - 1, closed=start + len(stream) - 1,
    )  # fmt: skip
    return slow, count


@settings(
    max_examples=40, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(stream=STREAMS, windows=st.sampled_from(WINDOWS), full=st.sampled_from([None, 1]))
def test_the_statement_counts_what_plain_loops_count(
    store: EventStore, clock: Clock, stream: list[list[Event]], windows: tuple[Window, ...],
    full: int | None,
) -> None:  # fmt: skip
    slow, count = filled(store, clock, stream, windows)
    count = replace(count, full_stage=full, include_test_traffic=full is None)
    assert Collector(store).collect(count) == slow.collect(count)


@settings(
    max_examples=25, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(stream=STREAMS, windows=st.sampled_from(WINDOWS[1:]))
def test_counting_bucket_by_bucket_adds_up_to_counting_at_once(
    store: EventStore, clock: Clock, stream: list[list[Event]], windows: tuple[Window, ...]
) -> None:
    slow, whole = filled(store, clock, stream, windows)
    collector = Collector(store)
    cells: list[Cell] = []
    users = 0
    for closed in range(whole.start, whole.closed + 1):
        part = collector.collect(replace(whole, last=closed - 1, closed=closed))
        cells += part.cells
        users += part.users_exposed
    at_once = collector.collect(whole)
    assert (tuple(cells), users) == (at_once.cells, at_once.users_exposed)
    assert at_once == slow.collect(whole)


def test_a_unit_is_fresh_in_each_stage_as_control_and_once_as_treated(
    store: EventStore, clock: Clock
) -> None:
    here = "here"
    stream = [
        [event(unit="a", environment=here), event(unit="b", environment=here)],
        [],
        [],
        [
            event(unit="a", arm="on", environment=here),
            event(unit="b", environment=here),
            event(unit="c", arm="on", environment=here),
        ],
        [event(unit="a", arm="on", environment=here)],
    ]
    _, count = filled(store, clock, stream, WINDOWS[2])
    count = replace(count, guards=())
    found = Collector(store).collect(count)
    entered = [
        (c.bucket - count.start, c.stage, c.stratum, c.arm, c.n)
        for c in found.cells
        if c.guard == EXPOSURES and c.what is What.EXPOSED
    ]
    assert entered == [(0, 0, 0, 0, 2), (3, 1, 0, 1, 1), (3, 1, 1, 0, 1), (3, 1, 1, 1, 1)]
    assert found.users_exposed == 2


def test_a_store_that_is_silent_gives_no_cells_and_no_last_event(
    store: EventStore, clock: Clock
) -> None:
    _, count = filled(store, clock, [[], [], []], WINDOWS[1])
    found = Collector(store).collect(count)
    assert (found.cells, found.last_event, found.users_exposed) == ((), None, 0)
    assert found.closed == count.closed


def test_one_call_takes_a_bounded_number_of_buckets(store: EventStore, clock: Clock) -> None:
    _, count = filled(store, clock, [[]], ())
    count = replace(count, closed=count.start + 10 * BUCKETS_MAX)
    assert Collector(store).collect(count).closed == count.last + BUCKETS_MAX


def test_names_that_look_like_sql_are_only_names(store: EventStore, clock: Clock) -> None:
    _, count = filled(store, clock, [[event(environment="here")]], WINDOWS[1])
    hostile = "x'] OR 1=1; DROP TABLE events --"
    arms = replace(ARMS, attribute=hostile, treated=hostile, control=hostile, rule=hostile)
    guards = (Guard(name="g", kind=Kind.LATENCY, column=hostile, dataset=hostile),)
    count = replace(count, arms=arms, guards=guards)
    found = Collector(store).collect(count)
    assert [c.what for c in found.cells] == [What.VALUE]
