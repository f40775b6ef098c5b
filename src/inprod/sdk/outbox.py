"""What waits to be sent: one bounded queue of events, and how a batch of them is written.

    app threads --append--> | queue, at most queue_max | --take--> SDK thread --POST--> server

Appending never blocks: what does not fit is dropped, and counted.
"""

from __future__ import annotations

import json
from collections import deque
from itertools import islice

from inprod.sdk.counter import Counter
from inprod.sdk.snapshot import Exposures

EXPOSURES_DATASET = "inprod.exposures"
BATCH_EVENTS_MAX = 1_000


class Outbox:
    """The queue. `deque.append` and `popleft` are atomic; threads may overshoot by one each."""

    def __init__(self, queue_max: int) -> None:
        self.queue_max = queue_max
        self.recorded = Counter()
        self.dropped = Counter()
        self._queue: deque[dict[str, object]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, event: dict[str, object]) -> bool:
        """Append an event, or drop it when the queue is full; return whether it was kept."""
        if len(self._queue) >= self.queue_max:
            self.dropped.tick()
            return False
        self.recorded.tick()
        self._queue.append(event)
        return True

    def take(self) -> list[dict[str, object]]:
        """Return the oldest events, BATCH_EVENTS_MAX at most, and forget them."""
        events: list[dict[str, object]] = []
        while self._queue and len(events) < BATCH_EVENTS_MAX:
            events.append(self._queue.popleft())
        return events

    def give_back(self, events: list[dict[str, object]]) -> None:
        """Put events that were taken back in front."""
        self._queue.extendleft(reversed(events))

    def clear(self) -> None:
        """Forget everything: in a forked child the events are the parent's to send."""
        self._queue.clear()


def exposure_events(exposures: Exposures, *, time_ns: int) -> list[dict[str, object]]:
    """Return one event per answer that was given since the last time, with its `count`.

    At most BATCH_EVENTS_MAX; the counts of further answers stay for the next time.
    """
    events: list[dict[str, object]] = []
    for (flag, variant, rule, reason, error), count in islice(exposures.take(), BATCH_EVENTS_MAX):
        attributes: dict[str, object] = {
            "flag": flag,
            "variant": variant,
            "rule": rule,
            "reason": reason,
            "count": count,
        }
        if error:
            attributes["error.type"] = error
        event = {"time_ns": time_ns, "name": "exposure", "dataset": EXPOSURES_DATASET}
        events.append({**event, "attributes": attributes})
    return events


def encode(events: list[dict[str, object]], common: dict[str, object]) -> bytes:
    """Return the body of `POST /api/events`: a JSON list of flat objects.

    `common` attributes are on every event that does not have its own.
    """
    return json.dumps(
        [_flat(event, common) for event in events], separators=(",", ":"), default=str,
        skipkeys=True,
    ).encode("utf-8", "replace")  # fmt: skip


def _flat(event: dict[str, object], common: dict[str, object]) -> dict[str, object]:
    flat = dict(common)
    attributes = event.get("attributes")
    if isinstance(attributes, dict):
        flat.update(attributes)  # pyright: ignore[reportUnknownArgumentType]  # any JSON
    flat["time"] = event["time_ns"]
    flat["name"] = event["name"]
    flat["dataset"] = event["dataset"]
    duration_ns = event.get("duration_ns")
    if isinstance(duration_ns, int):
        flat["duration_ms"] = duration_ns / 1e6
    if event.get("error"):
        flat["error"] = True
    return flat
