from __future__ import annotations

from collections.abc import Sequence
from threading import Event as Signal

import pytest

from inprod.errors import TooMuch, Unavailable
from inprod.events.arrow import Batch, batch_of
from inprod.events.edge.writer import Bounds, Writer
from inprod.events.event import Event
from inprod.events.rows import Rows


class Gate:
    """A store in memory whose inserts wait until the test lets them go on, or fail."""

    def __init__(self) -> None:
        self.open = Signal()
        self.entered = Signal()
        self.flushes: list[int] = []
        self.error: Exception | None = None

    def insert(self, batches: Sequence[Batch]) -> None:
        self.entered.set()
        assert self.open.wait(5)
        if self.error is not None:
            raise self.error
        self.flushes.append(sum(batch.rows for batch in batches))


def rows(count: int) -> Batch:
    return batch_of(Rows.of(Event(time_ns=10**18, dataset="d") for _ in range(count)))


def test_a_batch_is_acknowledged_only_after_its_flush() -> None:
    store = Gate()
    writer = Writer(store, bounds=Bounds(flush_s=0.01))
    future = writer.submit(rows(3))
    assert store.entered.wait(5)
    assert not future.done()
    store.open.set()
    assert future.result(5) is None
    writer.close()
    assert store.flushes == [3]


def test_batches_of_many_requests_are_stored_together() -> None:
    store = Gate()
    store.open.set()
    writer = Writer(store, bounds=Bounds(flush_rows=30, flush_s=60))
    futures = [writer.submit(rows(10)) for _ in range(3)]
    for future in futures:
        future.result(5)
    assert store.flushes == [30]
    writer.close()


def test_a_full_queue_refuses_with_the_time_to_wait() -> None:
    store = Gate()
    writer = Writer(store, bounds=Bounds(flush_s=0.01, queue_rows=10))
    first = writer.submit(rows(8))
    with pytest.raises(TooMuch) as refusal:
        writer.submit(rows(3))
    assert refusal.value.status == 429
    assert refusal.value.retry_after_s == 1.0
    second = writer.submit(rows(2))
    with pytest.raises(TooMuch):
        writer.check_room()
    store.open.set()
    assert first.result(5) is None
    assert second.result(5) is None
    writer.check_room()
    writer.close()


def test_a_failed_flush_is_told_to_everyone_in_it_and_the_writer_lives_on() -> None:
    store = Gate()
    store.open.set()
    store.error = Unavailable("down", "the store is down")
    writer = Writer(store, bounds=Bounds(flush_s=0.01))
    with pytest.raises(Unavailable):
        writer.submit(rows(1)).result(5)
    store.error = None
    assert writer.submit(rows(1)).result(5) is None
    writer.close()


def test_closing_stores_what_waits_and_refuses_the_rest() -> None:
    store = Gate()
    store.open.set()
    writer = Writer(store, bounds=Bounds(flush_s=60))
    future = writer.submit(rows(4))
    writer.close()
    assert future.result(0) is None
    with pytest.raises(Unavailable):
        writer.submit(rows(1))
