"""The event: one wide, immutable record of something observed.

Attribute names follow OpenTelemetry's semantic conventions; inprod reserves `flag.<key>`,
`flag.<key>.rule`, `inprod.*` and `sample_rate` (see docs/reference/events.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field

ATTRIBUTES_MAX = 2000
TEXT_BYTES_MAX = 64 * 1024
EVENT_BYTES_MAX = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event.

    `time_ns` is Unix time of the start in nanoseconds; `duration_ns` None when it has no length;
    `signal` is `trace`, `log` or `event`; `sample_rate` says how many events this one stands for;
    `strings` and `numbers` are its attributes (booleans are the strings `true` and `false`,
    integers beyond 2**53 are strings, lists are JSON text, objects are unrolled by dots).
    """

    time_ns: int
    dataset: str
    name: str = ""
    signal: str = "event"
    kind: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_id: str = ""
    duration_ns: int | None = None
    error: bool = False
    status_code: int = 0
    sample_rate: int = 1
    strings: dict[str, str] = field(default_factory=dict[str, str])
    numbers: dict[str, float] = field(default_factory=dict[str, float])
