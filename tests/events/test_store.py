from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from inprod.errors import Invalid, Missing, TooMuch, Unavailable
from inprod.events.edge.engine import Limits
from inprod.events.edge.store import EventStore
from inprod.events.event import Event
from inprod.events.query import Calculate, Calculation, Filter, Having, Order, Query
from inprod.events.sql import Statement
from inprod.operators import Op
from support.clickhouse_shim import clickhouse
from support.event_store import fresh_store, fresh_url

NOW = time.time_ns() // 1_000_000_000 * 1_000_000_000


@pytest.fixture(scope="module")
def store() -> Iterator[EventStore]:
    with fresh_store() as store:
        store.append(
            Event(
                time_ns=NOW - i * 1_000_000_000,
                dataset="shop",
                name="GET /" if i % 2 else "POST /buy",
                duration_ns=(i + 1) * 1_000_000,
                error=i % 10 == 0,
                sample_rate=2,
                strings={"user.id": f"u{i % 7}", "odd": "a'b"},
                numbers={"http.response.status_code": 500.0 if i % 10 == 0 else 200.0},
            )
            for i in range(100)
        )
        yield store


def test_count_is_weighted_by_the_sample_rate(store: EventStore) -> None:
    answer = store.answer(Query())
    assert answer.results == [{"COUNT": 200}]
    assert answer.rows_read == 100
    assert sum(row["COUNT"] for row in answer.series) == 200


def test_a_query_with_everything_answers_under_canonical_names(store: EventStore) -> None:
    query = Query(
        calculations=(
            Calculation(op=Calculate.COUNT),
            Calculation(op=Calculate.P99, column="duration_ms"),
            Calculation(op=Calculate.COUNT_DISTINCT, column="user.id"),
            Calculation(op=Calculate.HEATMAP, column="duration_ms"),
            Calculation(op=Calculate.RATE_SUM, column="duration_ms"),
        ),
        breakdowns=("http.response.status_code", "name"),
        filters=(Filter(column="odd", op=Op.EQUAL, value="a'b"),),
        orders=(Order(column="http.response.status_code", order="ascending"),),
    )
    answer = store.answer(query)
    first = answer.results[0]
    assert first["http.response.status_code"] == 200
    assert first["COUNT_DISTINCT(user.id)"] == 7
    cells = sum(cell[2] for row in answer.results for cell in row["HEATMAP(duration_ms)"])
    assert cells == 200
    assert {"time", "COUNT", "P99(duration_ms)", "name"} <= set(answer.series[0])


def test_an_unknown_column_is_refused_with_the_nearest_name(store: EventStore) -> None:
    query = Query(filters=(Filter(column="user.idd", op=Op.EQUAL, value="x"),))
    with pytest.raises(Invalid) as refusal:
        store.answer(query)
    assert refusal.value.hint == "Did you mean `user.id`?"
    assert refusal.value.where == "$.filters[0].column"


def test_an_unknown_dataset_is_missing_with_the_nearest_name(store: EventStore) -> None:
    with pytest.raises(Missing) as refusal:
        store.answer(Query(dataset="shopp"))
    assert refusal.value.hint == "Did you mean `shop`?"


def test_groups_are_kept_ordered_and_limited(store: EventStore) -> None:
    count = Calculation(op=Calculate.COUNT)
    query = Query(
        calculations=(count,),
        breakdowns=("user.id",),
        havings=(Having(calculate_op=Calculate.COUNT, op=Op.GREATER, value=28),),
        orders=(Order(op=Calculate.COUNT), Order(column="user.id", order="descending")),
        limit=1,
        disable_series=True,
    )
    answer = store.answer(query)
    assert answer.results == [{"user.id": "u1", "COUNT": 30}]
    assert answer.series == []


def test_averages_and_quantiles_are_weighted_and_empty_ones_are_null() -> None:
    with fresh_store() as fresh:
        fresh.append(
            Event(time_ns=NOW, dataset="d", sample_rate=rate, numbers={"x": value})
            for rate, value in ((1, 0.0), (99, 10.0))
        )
        ops = (Calculate.AVG, Calculate.SUM, Calculate.P50, Calculate.MIN, Calculate.MAX)
        query = Query(
            calculations=(
                *(Calculation(op=op, column="x") for op in ops),
                Calculation(op=Calculate.AVG, column="duration_ms"),
                Calculation(op=Calculate.P99, column="duration_ms"),
            ),
            end_time=NOW / 1e9 + 1,
        )
        row = fresh.answer(query).results[0]
    assert row["AVG(x)"] == pytest.approx(9.9)
    assert row["SUM(x)"] == 990
    assert row["P50(x)"] == pytest.approx(10, rel=0.05)
    assert (row["MIN(x)"], row["MAX(x)"]) == (0, 10)
    assert row["AVG(duration_ms)"] is None
    assert row["P99(duration_ms)"] is None


def test_a_rate_is_the_change_from_point_to_point() -> None:
    start = NOW // (60 * 10**9) * 60 * 10**9
    with fresh_store() as fresh:
        fresh.append(
            Event(time_ns=start + i * 60 * 10**9, dataset="d", numbers={"x": value})
            for i, value in enumerate((5.0, 8.0, 7.0))
        )
        answer = fresh.answer(
            Query(
                calculations=(Calculation(op=Calculate.RATE_MAX, column="x"),),
                granularity=60.0,
                start_time=start / 1e9,
                end_time=start / 1e9 + 180,
            )
        )
    assert [row["RATE_MAX(x)"] for row in answer.series] == [None, 3.0, -1.0]
    assert answer.results == [{"RATE_MAX(x)": 2.0}]


def test_promoting_a_column_changes_no_answer_before_or_after(store: EventStore) -> None:
    query = Query(breakdowns=("odd",), filters=(Filter(column="odd", op=Op.CONTAINS, value="'"),))
    before = store.answer(query).results
    assert store.promote("odd") is True
    assert store.promote("odd") is True
    assert store.promote("flag.new.rule") is True
    assert "odd" in store.promoted
    assert store.answer(query).results == before
    store.append([Event(time_ns=NOW, dataset="later", strings={"odd": "it's"})])
    assert {"odd": "it's", "COUNT": 1} in store.answer(query).results
    reopened = EventStore.open(store.name)
    assert "odd" in reopened.promoted
    assert reopened.answer(Query(dataset="later")).results == [{"COUNT": 1}]
    reopened.close()


def test_reads_are_limited_in_time_memory_and_rows_and_cannot_write(store: EventStore) -> None:
    slow = Statement(
        text="SELECT count() FROM numbers(100000000000) WHERE NOT ignore(sipHash64(number))"
    )
    with pytest.raises(TooMuch) as refusal:
        store.read(slow, Limits(seconds=0.2))
    assert refusal.value.code == "query_too_long"
    wide = Statement(text="SELECT groupArray(number) FROM numbers(50000000)")
    with pytest.raises(TooMuch):
        store.read(wide, Limits(memory_bytes=50_000_000))
    many = Statement(text="SELECT number FROM numbers(100000)")
    with pytest.raises(TooMuch) as refusal:
        store.read(many, Limits(rows=1000))
    assert refusal.value.code == "answer_too_large"
    before = store.answer(Query()).results
    with pytest.raises(AssertionError):
        store.read(Statement(text="ALTER TABLE events DELETE WHERE true"))
    with pytest.raises(Unavailable):
        store.read(Statement(text="SELECT * FROM file('/etc/hostname', 'LineAsString')"))
    assert store.answer(Query()).results == before


def test_a_row_is_visible_once_its_stamp_is_settled() -> None:
    clock = [NOW]
    with fresh_store(now_ns=lambda: clock[0]) as fresh:
        assert fresh.settled_ns() == NOW
        fresh.append([Event(time_ns=NOW, dataset="d")])
        clock[0] += 5_000_000
        settled_ns = fresh.settled_ns()
        assert settled_ns == NOW + 5_000_000
        stamp = Statement(
            text="SELECT count() FROM events WHERE toUnixTimestamp64Milli(ingested) < {t:Int64}",
            parameters={"t": settled_ns // 1_000_000},
        )
        assert fresh.read(stamp) == [(1,)]


def test_an_insert_is_tried_again_under_one_token_so_it_is_never_stored_twice() -> None:
    with fresh_store(), clickhouse() as (url, handler):
        remote = EventStore.open(f"{url}/{fresh_url().rpartition('=')[2]}", readers=1)
        remote.append([Event(time_ns=NOW, dataset="d", strings={"a": "first"})])
        handler.failures = 2
        remote.append([Event(time_ns=NOW, dataset="d", strings={"a": "refused twice"})])
        handler.lost_answers = 2
        remote.append([Event(time_ns=NOW, dataset="d", strings={"a": "answer lost"})])
        assert handler.refused == 4
        assert remote.answer(Query(dataset="d")).results == [{"COUNT": 3}]
        handler.failures = 100
        with pytest.raises(Unavailable):
            remote.append([Event(time_ns=NOW, dataset="d")])
        stuck_ns = remote.settled_ns()
        assert remote.settled_ns() == stuck_ns, "rows in doubt hold the settled time"
        handler.failures = 0
        assert remote.answer(Query(dataset="d")).results == [{"COUNT": 3}]
        remote.close()


def test_an_address_that_is_no_store_is_refused() -> None:
    with pytest.raises(Invalid) as refusal:
        EventStore.open("postgres://x/y")
    assert refusal.value.code == "unknown_store"
    with pytest.raises(Unavailable):
        EventStore.open("http://127.0.0.1:1/x")
