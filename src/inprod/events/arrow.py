"""Rows as Arrow, the form in which the engine takes them fastest."""

# pyarrow ships no types, so nothing of it is known to the checker; all of it stays in this module.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from inprod.events.catalogue import Key
from inprod.events.rows import Rows

_TIMESTAMP_NS: Any = pa.timestamp("ns", "UTC")
_TIMESTAMP_MS: Any = pa.timestamp("ms", "UTC")


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows ready to insert: the Arrow columns without the stamps, and the keys they bring."""

    arrow: Any
    keys: dict[str, tuple[set[str], set[str]]]

    @property
    def rows(self) -> int:
        """How many events."""
        return self.arrow.num_rows

    @property
    def size_bytes(self) -> int:
        """How much memory the columns take."""
        return self.arrow.nbytes


def batch_of(rows: Rows) -> Batch:
    """Return the rows as an Arrow batch, maps flattened, in the order of the table's columns."""
    columns = {
        "time": pa.array(rows.time_ns, pa.int64()).cast(_TIMESTAMP_NS),
        "dataset": pa.array(rows.dataset, pa.string()),
        "signal": pa.array(rows.signal, pa.string()),
        "name": pa.array(rows.name, pa.string()),
        "kind": pa.array(rows.kind, pa.string()),
        "trace_id": pa.array(rows.trace_id, pa.string()),
        "span_id": pa.array(rows.span_id, pa.string()),
        "parent_id": pa.array(rows.parent_id, pa.string()),
        "duration_ns": pa.array(rows.duration_ns, pa.uint64()),
        "error": pa.array(rows.error, pa.bool_()),
        "status_code": pa.array(rows.status_code, pa.uint16()),
        "sample_rate": pa.array(rows.sample_rate, pa.uint32()),
        "sattrs": _map(rows.strings, pa.string()),
        "nattrs": _map(rows.numbers, pa.float64()),
    }
    return Batch(pa.record_batch(columns), rows.keys())


def stamped(batches: Iterable[Batch], *, ingested_ms: int, retain_days: int) -> bytes:
    """Return one Arrow IPC stream of all batches, every row stamped alike."""
    sink: Any = pa.BufferOutputStream()
    writer: Any = None
    for batch in batches:
        count = batch.rows
        arrow = batch.arrow
        columns = [
            *arrow.columns,
            pa.repeat(pa.scalar(ingested_ms, pa.int64()), count).cast(_TIMESTAMP_MS),
            pa.repeat(pa.scalar(retain_days, pa.uint16()), count),
        ]
        whole = pa.record_batch(columns, names=[*arrow.schema.names, "ingested", "retain_days"])
        if writer is None:
            writer = pa.ipc.new_stream(sink, whole.schema)
        writer.write_batch(whole)
    assert writer is not None, "nobody inserts nothing"
    writer.close()
    return sink.getvalue().to_pybytes()


def keys_stream(keys: Iterable[Key], *, first_seen_ms: int) -> bytes:
    """Return an Arrow IPC stream of rows for the catalogue's table."""
    datasets, names, types = zip(*sorted(keys), strict=True)
    table: Any = pa.record_batch(
        {
            "dataset": pa.array(datasets, pa.string()),
            "key": pa.array(names, pa.string()),
            "type": pa.array(types, pa.string()),
            "first_seen": pa.repeat(pa.scalar(first_seen_ms, pa.int64()), len(names)).cast(
                _TIMESTAMP_MS
            ),
        }
    )
    sink: Any = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    return sink.getvalue().to_pybytes()


def _map(dicts: list[dict[str, str]] | list[dict[str, float]], item: Any) -> Any:
    keys: list[str] = []
    values: list[str | float] = []
    offsets = [0]
    for one in dicts:
        keys.extend(one)
        values.extend(one.values())
        offsets.append(len(keys))
    return pa.MapArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(keys, pa.string()), pa.array(values, item)
    )
