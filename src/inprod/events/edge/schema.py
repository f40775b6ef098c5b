"""The events table and the catalogue of keys, as DDL that can be run again at every start."""

from __future__ import annotations

from inprod.events.columns import PROMOTED_FIRST
from inprod.events.sql import TABLE, number_from_maps, promoted_name, text_from_maps

CATALOGUE = "event_columns"
_BUCKETED = (
    ", map_serialization_version='with_buckets', map_buckets_strategy='constant', "
    "max_buckets_in_map=8, map_buckets_min_avg_size=8"
)

# Columns of the table in the order of an insert; retain_days is stamped by the store, like
# `ingested`, so that a changed setting needs no rewriting of the past.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("time", "DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1))"),
    ("dataset", "LowCardinality(String)"),
    ("signal", "LowCardinality(String)"),
    ("name", "LowCardinality(String)"),
    ("kind", "LowCardinality(String)"),
    ("trace_id", "String CODEC(ZSTD(1))"),
    ("span_id", "String CODEC(ZSTD(1))"),
    ("parent_id", "String CODEC(ZSTD(1))"),
    ("duration_ns", "Nullable(UInt64) CODEC(ZSTD(1))"),
    ("error", "Bool"),
    ("status_code", "UInt16"),
    ("sample_rate", "UInt32 DEFAULT 1 CODEC(ZSTD(1))"),
    ("sattrs", "Map(LowCardinality(String), String) CODEC(ZSTD(1))"),
    ("nattrs", "Map(LowCardinality(String), Float64) CODEC(ZSTD(1))"),
    ("ingested", "DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))"),
    ("retain_days", "UInt16 DEFAULT 30"),
)


# Under this many bytes a part is one file, not one per column: a flush of 10,000 spans costs half
# the CPU and far fewer syncs; merges make the big parts columnar.
_COMPACT_BYTES = 64 << 20
# So many parts at least are merged at once: each row is rewritten less often, for half the CPU of
# the engine's own choice at a flush per second, and reads see a few parts more.
_MERGE_PARTS = 8


def create_events(*, bucketed: bool) -> str:
    """Return the DDL of the events table; `bucketed` where the engine knows bucketed maps."""
    wanted = [*COLUMNS, *(pair for one in PROMOTED_FIRST for pair in promoted(one))]
    columns = ",\n  ".join(f"{name} {sql_type}" for name, sql_type in wanted)
    return (
        f"CREATE TABLE IF NOT EXISTS {TABLE} (\n  {columns},\n"
        "  INDEX ix_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,\n"
        "  INDEX ix_ingested ingested TYPE minmax GRANULARITY 1,\n"
        "  INDEX ix_skeys mapKeys(sattrs) TYPE bloom_filter(0.01) GRANULARITY 4\n"
        ") ENGINE = MergeTree PARTITION BY toDate(time) ORDER BY (dataset, time)\n"
        "TTL toDateTime(time) + toIntervalDay(retain_days)\n"
        "SETTINGS ttl_only_drop_parts=1, non_replicated_deduplication_window=1000, "
        f"fsync_after_insert=1, fsync_part_directory=1, min_bytes_for_wide_part={_COMPACT_BYTES}, "
        f"min_parts_to_merge_at_once={_MERGE_PARTS}" + (_BUCKETED if bucketed else "")
    )


def create_catalogue() -> str:
    """Return the DDL of the catalogue: which keys each dataset has, and of which types."""
    return (
        f"CREATE TABLE IF NOT EXISTS {CATALOGUE} (\n"
        "  dataset String, key String, type LowCardinality(String),\n"
        "  first_seen DateTime64(3, 'UTC')\n"
        ") ENGINE = ReplacingMergeTree ORDER BY (dataset, key, type)\n"
        "SETTINGS fsync_after_insert=1, fsync_part_directory=1"
    )


def add_column(name: str, sql_type: str) -> str:
    """Return the DDL that adds a column an older table lacks."""
    return f"ALTER TABLE {TABLE} ADD COLUMN IF NOT EXISTS {name} {sql_type}"


def promoted(column: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the quoted names and types of an attribute's own text and number columns.

    `column` has passed PROMOTABLE: letters, digits, `_`, `.` and `-` only, so it is a safe literal.
    """
    literal = f"'{column}'"
    return (
        (
            promoted_name("t", column),
            f"Nullable(String) MATERIALIZED {text_from_maps(literal)} CODEC(ZSTD(1))",
        ),
        (
            promoted_name("n", column),
            f"Nullable(Float64) MATERIALIZED {number_from_maps(literal)} CODEC(ZSTD(1))",
        ),
    )


def backfill(name: str) -> str:
    """Return the DDL that computes a promoted column for the rows that came before it."""
    return f"ALTER TABLE {TABLE} MATERIALIZE COLUMN {name}"
