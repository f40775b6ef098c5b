"""Arms and windows: which events are treated or control, and which buckets belong to which stage.

    time   ----|turn|~~settle~~[========= stage 0 =========)|turn|~~settle~~[==== stage 1 ...
    buckets     not counted     counted                      not counted     counted

What arrives between a turn and the start of its window may tell of the level before; it is left
out, in both arms alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inprod.guards.evidence import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """How an event tells its arm: `attribute` = `treated` or `control`, and `rule` as named.

    `unit` is the attribute that was hashed; `weight` (0..1) is the treated variant's part of all
    treatments; `rule_attribute` and `rule` may be empty when any rule counts.
    """

    attribute: str
    treated: str
    control: str
    unit: str = "user.id"
    rule_attribute: str = ""
    rule: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Buckets `start <= b < end` belong to `stage`; `end` None while the level is in force."""

    stage: int
    start: int
    end: int | None = None

    def holds(self, bucket: int) -> bool:
        """Return whether the bucket is counted here."""
        return self.start <= bucket and (self.end is None or bucket < self.end)


def stage_of(windows: Iterable[Window], bucket: int) -> int | None:
    """Return the stage a bucket is counted in, None for one that is not counted."""
    return next((window.stage for window in windows if window.holds(bucket)), None)


def share_at(percent: float, weight: float) -> float:
    """Return the part (0..1) of treated among treated and control at a percent of exposure."""
    treated = percent / 100 * weight
    control = 1 - percent / 100
    return treated / (treated + control) if treated + control > 0 else 0.0


def stages_of(windows: Sequence[Window], levels: Sequence[float], weight: float) -> list[Stage]:
    """Return each stage once, in the order of their first buckets; `levels` by stage, in percent.

    A unit last seen as control at percent `q` is treated at percent `p` with the chance that its
    place, which is above `q`, is below `p`.
    """
    found: list[Stage] = []
    for window in windows:
        number = window.stage
        if any(stage.number == number for stage in found):
            continue
        percent = levels[number]
        fresh = [_fresh(levels[earlier], percent, weight) for earlier in range(number)]
        share = share_at(percent, weight)
        found.append(
            Stage(
                number=number, start_bucket=window.start, share=share,
                fresh_share=fresh[found[-1].number] if found else share,
                shares=(share, *fresh),
            )
        )  # fmt: skip
    return found


def _fresh(before: float, percent: float, weight: float) -> float:
    if before >= 100:
        return 0.0
    return share_at((percent - before) / (100 - before) * 100, weight)
