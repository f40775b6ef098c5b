"""The event store: appends batches whole or not at all, answers reads within limits.

Every row is stamped with its time of arrival when its batch is flushed; `settled_ns` says up to
which stamp nothing more will appear, which is what lets a guard count a bucket once.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from threading import Lock
from typing import Any

from inprod.errors import InprodError, Unavailable
from inprod.events.answer import ask
from inprod.events.arrow import Batch, batch_of, keys_stream, stamped
from inprod.events.catalogue import Catalogue, Key
from inprod.events.columns import PROMOTED_MAX
from inprod.events.edge import schema
from inprod.events.edge.engine import Engine, Limits, address_of
from inprod.events.event import Event
from inprod.events.query import LIMIT_MAX, Answer, Query
from inprod.events.rows import Rows
from inprod.events.sql import PROMOTABLE, TABLE, Binder, Statement
from inprod.events.stamps import Stamps

RETAIN_DAYS_DEFAULT = 30
RETAIN_DAYS_MAX = 400
DOUBT_NS = 60 * 1_000_000_000  # an HTTP insert that timed out may still land for this long
RETRIES_S = (0.05, 0.25, 1.0)
PARTITIONS_MAX = 500


class EventStore:
    """One events table. Plain blocking calls, from any thread."""

    def __init__(
        self, engine: Engine, *, now_ns: Callable[[], int], retain_days: int, name: str = ""
    ) -> None:
        self.name = name
        self._engine = engine
        self._now_ns = now_ns
        self.retain_days = retain_days
        self._lock = Lock()
        self._stamps = Stamps()
        self._texts: frozenset[str] = frozenset()
        self._numbers: frozenset[str] = frozenset()
        self._migrate()
        self.catalogue = Catalogue(self._known_keys())

    @classmethod
    def open(
        cls,
        url: str,
        *,
        database: str | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        retain_days: int = RETAIN_DAYS_DEFAULT,
        readers: int = 4,
    ) -> EventStore:
        """Open `chdb:///folder` or `http://host:port/database`, making or mending its tables.

        Raises Invalid for another kind of address, Unavailable when it cannot be opened: another
        process has the folder, or no server answers.
        """
        assert 1 <= retain_days <= RETAIN_DAYS_MAX, "the settings table limits it"
        engine = Engine(address_of(url, database=database), readers=readers)
        return cls(engine, now_ns=now_ns, retain_days=retain_days, name=url)

    def close(self) -> None:
        """Release the folder or the connections."""
        self._engine.close()

    # Writing

    def append(self, events: Iterable[Event]) -> None:
        """Store the events now, in one batch; returns once they are synced and visible."""
        rows = Rows.of(events)
        if len(rows):
            self.insert([batch_of(rows)])

    def insert(self, batches: Sequence[Batch]) -> None:
        """Store the batches together, stamped alike; returns once they are synced and visible.

        Tries again a few times under one deduplication token, then raises Unavailable: the caller
        must not acknowledge.
        """
        self._learn(batches)
        with self._lock:
            flush, stamp_ms = self._stamps.begin(self._now_ns())
        is_certain = False
        try:
            stream = stamped(batches, ingested_ms=stamp_ms, retain_days=self.retain_days)
            self._insert_retrying(TABLE, stream)
            is_certain = True
        finally:
            with self._lock:
                if is_certain or self._engine.address.embedded:
                    self._stamps.end(flush)
                else:
                    self._stamps.doubt(flush, self._now_ns() + DOUBT_NS)

    def _insert_retrying(self, table: str, stream: bytes) -> None:
        settings = {
            "insert_deduplication_token": uuid.uuid4().hex,
            "max_partitions_per_insert_block": str(PARTITIONS_MAX),
            "async_insert": "0",
        }
        for pause_s in RETRIES_S:
            try:
                self._engine.insert(table, stream, settings)
            except Unavailable:
                time.sleep(pause_s)
            else:
                return
        self._engine.insert(table, stream, settings)

    def settled_ns(self) -> int:
        """Return the time such that every row that will ever be stamped before it is visible.

        Holds for the rows of this process; a second server on one ClickHouse needs a margin.
        """
        with self._lock:
            return self._stamps.settled_ns(self._now_ns())

    # Reading

    def binder(self) -> Binder:
        """Return a fresh binder that knows the promoted columns."""
        return Binder(texts=self._texts, numbers=self._numbers)

    def read(
        self,
        statement: Statement,
        limits: Limits = Limits(),  # noqa: B008  # it is frozen
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a read-only statement; raises TooMuch over a limit."""
        return self._engine.read(statement, limits)

    def answer(self, query: Query, *, environments: Collection[str] | None = None) -> Answer:
        """Return the answer to a query; `environments` narrows what may be seen (None: all).

        Raises Invalid for a column or Missing for a dataset nobody has sent, with the nearest
        name; TooMuch over a limit.
        """
        if not self._knows_all(query):
            self.catalogue = Catalogue(self._known_keys())  # another process may have learned it
        began = time.perf_counter()
        return ask(
            query,
            read=self.read,
            binder=self.binder,
            catalogue=self.catalogue,
            now_ns=self._now_ns(),
            environments=environments,
            elapsed_ms=lambda: (time.perf_counter() - began) * 1e3,
        )

    def _knows_all(self, query: Query) -> bool:
        is_known = query.dataset is None or query.dataset in self.catalogue.datasets()
        return is_known and all(self.catalogue.knows(column) for column in query.columns())

    # Columns

    def datasets(self, environments: Collection[str] | None = None) -> list[str]:
        """Return the names of the datasets, or of those with events in the environments."""
        if environments is None:
            return self.catalogue.datasets()
        every = Query(
            breakdowns=("dataset",), time_range=self.retain_days * 86_400.0, limit=LIMIT_MAX,
            disable_series=True,
        )  # fmt: skip
        found = self.answer(every, environments=environments).results
        return sorted(str(row["dataset"]) for row in found if row["dataset"] is not None)

    def columns(
        self, dataset: str | None, environments: Collection[str] | None = None
    ) -> dict[str, list[str]]:
        """Return attribute name -> types, of one dataset or of all that `datasets` gives.

        Which names a dataset has is known of it whole, not of each environment.
        """
        if environments is None:
            return self.catalogue.columns(dataset)
        merged: dict[str, set[str]] = {}
        for one in self.datasets(environments):
            if dataset in (None, one):
                for name, types in self.catalogue.columns(one).items():
                    merged.setdefault(name, set()).update(types)
        return {name: sorted(merged[name]) for name in sorted(merged)}

    @property
    def promoted(self) -> frozenset[str]:
        """The attributes that have columns of their own."""
        return self._texts

    def promote(self, column: str, *, backfill: bool = True) -> bool:
        """Give an attribute a column of its own, for speed; say whether it has one now.

        False when it cannot be one (an odd name) or there are `PROMOTED_MAX` already; queries are
        right either way. Without `backfill` only events from now on are read faster, and nothing
        that is stored is rewritten.
        """
        if column in self._texts:
            return True
        if not PROMOTABLE.fullmatch(column) or len(self._texts) >= PROMOTED_MAX:
            return False
        for name, sql_type in schema.promoted(column):
            self._engine.command(schema.add_column(name, sql_type))
            if backfill:
                self._engine.command(schema.backfill(name))
        self._texts |= {column}
        self._numbers |= {column}
        return True

    def _migrate(self) -> None:
        try:
            self._engine.command(schema.create_events(bucketed=True))
        except InprodError:  # before 26.3 there are no bucketed maps: slower reads, the same SQL
            self._engine.command(schema.create_events(bucketed=False))
        self._engine.command(schema.create_catalogue())
        present = {
            str(row[0])
            for row in self.read(
                Statement(
                    text="SELECT name FROM system.columns "
                    "WHERE database = currentDatabase() AND table = {t:String}",
                    parameters={"t": TABLE},
                )
            )
        }
        for name, sql_type in schema.COLUMNS:
            if name not in present:
                self._engine.command(schema.add_column(name, sql_type))
        self._texts = frozenset(name[2:] for name in present if name.startswith("t_"))
        self._numbers = frozenset(name[2:] for name in present if name.startswith("n_"))

    def _known_keys(self) -> list[Key]:
        rows = self.read(
            Statement(text=f"SELECT DISTINCT dataset, key, type FROM {schema.CATALOGUE}"),  # noqa: S608
        )
        return [Key(str(dataset), str(key), str(type_)) for dataset, key, type_ in rows]

    def _learn(self, batches: Sequence[Batch]) -> None:
        with self._lock:
            new = {key for batch in batches for key in self.catalogue.news(batch.keys)}
        if not new:
            return
        stream = keys_stream(new, first_seen_ms=self._now_ns() // 1_000_000)
        self._insert_retrying(schema.CATALOGUE, stream)
        with self._lock:
            for key in new:
                self.catalogue.learn(key)
