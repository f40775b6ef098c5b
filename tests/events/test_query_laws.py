from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inprod.events.edge.store import EventStore
from inprod.events.event import Event
from inprod.events.heatmap import index_of, low_of
from inprod.events.query import Calculate, Calculation, Filter, Query
from inprod.operators import Op
from support.clickhouse_shim import clickhouse
from support.event_store import fresh_store

NOW_NS = 1_800_000_000_000_000_000
COLUMNS = ("a", "b'`\\", "c; DROP TABLE events", "d.e", "user.id")
SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_datasets = itertools.count()


@pytest.fixture(scope="module", params=["chdb", "http"])
def store(request: pytest.FixtureRequest) -> Iterator[EventStore]:
    with fresh_store(now_ns=lambda: NOW_NS) as local:
        local.append([event({column: "x"}, {}) for column in COLUMNS])
        if request.param == "chdb":
            yield local
            return
        with clickhouse() as (url, _):
            remote = EventStore.open(
                f"{url}/remote_laws_{id(local)}", now_ns=lambda: NOW_NS, readers=1
            )
            remote.append([event({column: "x"}, {}) for column in COLUMNS])
            yield remote
            remote.close()


def event(strings: dict[str, str], numbers: dict[str, float], **fields: Any) -> Event:
    given = {"time_ns": NOW_NS - 10**9, "dataset": "first", **fields}
    return Event(strings=strings, numbers=numbers, **given)


words = st.sampled_from(["", "a", "b", "ab", "5", "500", "true", "'", "\\", "\x00", "é;--", "0.5"])
numbers = st.sampled_from([0.0, 1.0, -1.0, 5.0, 500.0, 0.5, -0.25, 1e300, 2.0**53, 1e16])
columns = st.sampled_from(COLUMNS)


@st.composite
def events(draw: st.DrawFn) -> Event:
    strings = draw(st.dictionaries(columns, words, max_size=3))
    values = draw(st.dictionaries(columns, numbers, max_size=3))
    return event(
        strings,
        {key: value for key, value in values.items() if key not in strings},
        sample_rate=draw(st.integers(1, 9)),
        duration_ns=draw(st.none() | st.integers(0, 10**12)),
        error=draw(st.booleans()),
        name=draw(words),
    )


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    column = draw(columns | st.sampled_from(["duration_ms", "error", "name", "sample_rate"]))
    op = draw(st.sampled_from(list(Op)))
    scalar = st.one_of(words, numbers, st.booleans(), st.integers(-3, 600))
    match op:
        case Op.EXISTS | Op.DOES_NOT_EXIST:
            value = None
        case Op.IN | Op.NOT_IN:
            value = tuple(draw(st.lists(scalar, max_size=4)))
        case Op.GREATER | Op.GREATER_OR_EQUAL | Op.LESS | Op.LESS_OR_EQUAL:
            value = draw(st.one_of(words, numbers))
        case _:
            value = draw(scalar)
    return Filter(column=column, op=op, value=value)


def value_of(one: Event, column: str) -> str | float | None:
    match column:
        case "duration_ms":
            return None if one.duration_ns is None else one.duration_ns / 1e6
        case "error":
            return "true" if one.error else "false"
        case "name":
            return one.name or None
        case "sample_rate":
            return float(one.sample_rate)
        case _:
            return one.strings.get(column, one.numbers.get(column))


def as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
        return repr(value).replace("e+", "e")
    return str(value)


def equal(have: str | float, want: Any) -> bool:
    is_number = isinstance(want, (int, float)) and not isinstance(want, bool)
    if is_number and isinstance(have, float):
        return have == want
    return as_text(have) == as_text(want)


COMPARED = (Op.EQUAL, Op.GREATER, Op.GREATER_OR_EQUAL, Op.LESS, Op.LESS_OR_EQUAL)


def number_of(one: Event, column: str) -> str | float | None:
    """The value beside a number: `error` is 1 or 0 there."""
    return float(one.error) if column == "error" else value_of(one, column)


def holds(one: Event, claim: Filter) -> bool:
    negative = {
        Op.NOT_EQUAL: Op.EQUAL, Op.DOES_NOT_CONTAIN: Op.CONTAINS, Op.NOT_IN: Op.IN,
        Op.DOES_NOT_START_WITH: Op.STARTS_WITH, Op.DOES_NOT_END_WITH: Op.ENDS_WITH,
        Op.DOES_NOT_EXIST: Op.EXISTS,
    }  # fmt: skip
    if claim.op in negative:
        positive = Filter.__new__(Filter)
        object.__setattr__(positive, "column", claim.column)
        object.__setattr__(positive, "op", negative[claim.op])
        object.__setattr__(positive, "value", claim.value)
        return not holds(one, positive)
    have, want = value_of(one, claim.column), claim.value
    if isinstance(want, (int, float)) and not isinstance(want, bool) and claim.op in COMPARED:
        have = number_of(one, claim.column)
    if have is None:
        return False
    match claim.op:
        case Op.EXISTS:
            return True
        case Op.IN:
            assert isinstance(want, tuple)
            return any(
                holds(one, Filter(column=claim.column, op=Op.EQUAL, value=item)) for item in want
            )
        case Op.EQUAL:
            return equal(have, want)
        case Op.STARTS_WITH:
            return as_text(have).startswith(as_text(want))
        case Op.ENDS_WITH:
            return as_text(have).endswith(as_text(want))
        case Op.CONTAINS:
            return as_text(want) in as_text(have)
    if isinstance(want, str):
        left, right = as_text(have).encode(), want.encode()
    elif isinstance(have, str):
        return False
    else:
        left, right = have, want
    return {
        Op.GREATER: left > right, Op.GREATER_OR_EQUAL: left >= right,
        Op.LESS: left < right, Op.LESS_OR_EQUAL: left <= right,
    }[claim.op]  # fmt: skip


def stored(store: EventStore, drawn: list[Event]) -> str:
    dataset = f"d{next(_datasets)}"
    kept = [
        Event(**{f: getattr(one, f) for f in Event.__slots__} | {"dataset": dataset})
        for one in drawn
    ]
    store.append(kept)
    return dataset


@given(
    drawn=st.lists(events(), min_size=1, max_size=12),
    claims=st.lists(filters(), min_size=1, max_size=3),
    combination=st.sampled_from(["AND", "OR"]),
)
@SETTINGS
def test_filters_agree_with_their_evaluation_in_python(
    store: EventStore, drawn: list[Event], claims: list[Filter], combination: Any
) -> None:
    dataset = stored(store, drawn)
    fold = all if combination == "AND" else any
    expected = sum(one.sample_rate for one in drawn if fold(holds(one, claim) for claim in claims))
    answer = store.answer(
        Query(
            dataset=dataset,
            filters=tuple(claims),
            filter_combination=combination,
            disable_series=True,
        )
    )
    assert answer.results == [{"COUNT": expected}], claims


@given(drawn=st.lists(events(), min_size=1, max_size=20))
@SETTINGS
def test_heatmap_cells_groups_and_points_sum_to_the_count(
    store: EventStore, drawn: list[Event]
) -> None:
    dataset = stored(store, drawn)
    answer = store.answer(
        Query(
            dataset=dataset,
            calculations=(
                Calculation(op=Calculate.COUNT),
                Calculation(op=Calculate.HEATMAP, column="a"),
                Calculation(op=Calculate.MIN, column="a"),
                Calculation(op=Calculate.SUM, column="a"),
            ),
            breakdowns=("user.id",),
        )
    )
    total = sum(one.sample_rate for one in drawn)
    assert sum(row["COUNT"] for row in answer.results) == total
    assert sum(row["COUNT"] for row in answer.series) == total
    for row in answer.results:
        members = [
            one
            for one in drawn
            if value_of(one, "user.id") == row["user.id"] and isinstance(value_of(one, "a"), float)
        ]
        cells = row["HEATMAP(a)"]
        assert sum(cell[2] for cell in cells) == sum(one.sample_rate for one in members)
        values = [one.numbers["a"] for one in members]
        assert row["MIN(a)"] == (min(values) if values else None)
        assert {cell[1] for cell in cells} == {low_of(index_of(value)) for value in values}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_value_lies_in_its_heatmap_row(value: float) -> None:
    index = index_of(value)
    low, high = low_of(index), low_of(index + 1) if index else 0.0
    assert low <= value * (1 + 1e-9 if value > 0 else 1 - 1e-9) or low == value == 0
    if index > 0 and abs(value) > 1e-300:
        assert value <= high * (1 + 1e-9)


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_heatmap_rows_sort_as_their_values(left: float, right: float) -> None:
    if left <= right:
        assert index_of(left) <= index_of(right)
