"""A clock that moves only when told, for everything that takes `now_ns`."""

from __future__ import annotations

NS = 1_000_000_000
EPOCH_NS = 1_900_000_000 * NS  # far enough ahead that no retention deletes it


class Clock:
    """Time as an argument: `now_ns` is handed over, `advance` is the test's."""

    def __init__(self, start_ns: int = EPOCH_NS) -> None:
        self.time_ns = start_ns

    def now_ns(self) -> int:
        """Return the time, in Unix nanoseconds."""
        return self.time_ns

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        assert seconds >= 0, "time does not go back"
        self.time_ns += round(seconds * NS)
