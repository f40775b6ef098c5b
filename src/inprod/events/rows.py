"""Rows on their way into the store, as columns of plain lists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from inprod.events.event import Event


@dataclass(slots=True)
class Rows:
    """Events as columns, in the order of `Event`'s fields; all lists are of one length."""

    time_ns: list[int] = field(default_factory=list[int])
    dataset: list[str] = field(default_factory=list[str])
    signal: list[str] = field(default_factory=list[str])
    name: list[str] = field(default_factory=list[str])
    kind: list[str] = field(default_factory=list[str])
    trace_id: list[str] = field(default_factory=list[str])
    span_id: list[str] = field(default_factory=list[str])
    parent_id: list[str] = field(default_factory=list[str])
    duration_ns: list[int | None] = field(default_factory=list[int | None])
    error: list[bool] = field(default_factory=list[bool])
    status_code: list[int] = field(default_factory=list[int])
    sample_rate: list[int] = field(default_factory=list[int])
    strings: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    numbers: list[dict[str, float]] = field(default_factory=list[dict[str, float]])

    def __len__(self) -> int:
        return len(self.time_ns)

    @classmethod
    def of(cls, events: Iterable[Event]) -> Rows:
        """Return the events as columns."""
        rows = cls()
        for event in events:
            rows.append(event)
        return rows

    def append(self, event: Event) -> None:
        """Add one event."""
        self.time_ns.append(event.time_ns)
        self.dataset.append(event.dataset)
        self.signal.append(event.signal)
        self.name.append(event.name)
        self.kind.append(event.kind)
        self.trace_id.append(event.trace_id)
        self.span_id.append(event.span_id)
        self.parent_id.append(event.parent_id)
        self.duration_ns.append(event.duration_ns)
        self.error.append(event.error)
        self.status_code.append(event.status_code)
        self.sample_rate.append(event.sample_rate)
        self.strings.append(event.strings)
        self.numbers.append(event.numbers)

    def events(self) -> list[Event]:
        """Return the rows as events again."""
        return [
            Event(
                time_ns=self.time_ns[i], dataset=self.dataset[i], name=self.name[i],
                signal=self.signal[i], kind=self.kind[i], trace_id=self.trace_id[i],
                span_id=self.span_id[i], parent_id=self.parent_id[i],
                duration_ns=self.duration_ns[i], error=self.error[i],
                status_code=self.status_code[i], sample_rate=self.sample_rate[i],
                strings=self.strings[i], numbers=self.numbers[i],
            )
            for i in range(len(self))
        ]  # fmt: skip

    def keys(self) -> dict[str, tuple[set[str], set[str]]]:
        """Return, per dataset, the attribute names seen as text and as numbers."""
        seen: dict[str, tuple[set[str], set[str]]] = {}
        for dataset, strings, numbers in zip(self.dataset, self.strings, self.numbers, strict=True):
            pair = seen.get(dataset)
            if pair is None:
                pair = seen[dataset] = (set(), set())
            pair[0].update(strings)
            pair[1].update(numbers)
        return seen
