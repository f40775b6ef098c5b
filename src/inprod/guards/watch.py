"""What every watch of one guard shares: the scene it is judged in, and which verdict follows.

A watch is told of each turn of the dial and given each closed bucket's cells once, in order.
Nothing it does with a bucket may depend on that bucket's outcomes; what it learns serves later
buckets.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from inprod.guards.evidence import Cell, GuardEvidence, Stage
from inprod.guards.guard import Verdict

# The chance to see none where 7 were expected is one in a thousand.
EXPECTED_ENOUGH = 7.0
SAMPLE_RATIO_ALPHA = 0.01
RECENT_BUCKETS = 60
Stratum = tuple[int, int]  # stage number and stratum


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The rollout around a guard at the end of `bucket`.

    `level` is the guard's own part of alpha; `treated_units`, `control_units` are the rollout's.
    """

    bucket: int
    alpha: float
    beta: float
    level: float
    batch_s: float
    is_stale: bool
    treated_units: int
    control_units: int
    share: float


class Watch(Protocol):
    """One guard being judged."""

    def turn(self, stage: Stage) -> None:
        """Know of a turn of the dial, before the first bucket in which it is in force."""
        ...

    def add(self, bucket: int, cells: Sequence[Cell]) -> None:
        """Count the cells of one closed bucket; called once for every bucket, cells or not."""
        ...

    def log_e_abort(self) -> float:
        """Return the log e-value for abort now; zero for a kind that has none."""
        ...

    def evidence(self, scene: Scene) -> GuardEvidence:
        """Return what the guard knows now."""
        ...


class Recent:
    """The mean of a count over the last RECENT_BUCKETS buckets."""

    def __init__(self) -> None:
        self._counts: deque[float] = deque()
        self._total = 0.0

    def add(self, count: float) -> None:
        """Count one more bucket."""
        self._counts.append(count)
        self._total += count
        if len(self._counts) > RECENT_BUCKETS:
            self._total -= self._counts.popleft()

    def mean(self) -> float:
        """Return the count per bucket, zero before there is one."""
        return self._total / len(self._counts) if self._counts else 0.0


def standing(
    scene: Scene, *, treated_n: float, control_n: float, is_broken: bool, holds: bool
) -> Verdict:
    """Return the verdict: broken first, then what is missing, then whether it holds."""
    if is_broken:
        return Verdict.BROKEN
    if scene.is_stale:
        return Verdict.STALE
    if not treated_n and not control_n:
        units = scene.treated_units + scene.control_units
        return Verdict.NO_OUTCOMES if units >= EXPECTED_ENOUGH else Verdict.UNDECIDED
    if not treated_n:
        odds = scene.share / (1 - scene.share) if scene.share < 1 else 1.0
        if control_n * odds < EXPECTED_ENOUGH:
            return Verdict.UNDECIDED
        return Verdict.NO_OUTCOMES if scene.treated_units else Verdict.NO_EXPOSURES
    return Verdict.HOLDS if holds else Verdict.UNDECIDED


def remaining_s(needed: float, now: float, growth_per_s: float) -> float | None:
    """Return the forecast of the time until log evidence `now` reaches `needed`; None: unknown."""
    if growth_per_s <= 0:
        return None
    left = max(needed - now, 0.0) + 1.0
    return left / growth_per_s if math.isfinite(left) else None
