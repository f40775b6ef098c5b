"""Caps: what may never happen, whatever a plan says; checked before and while a dial turns."""

from __future__ import annotations

from dataclasses import dataclass

from inprod.units import Percent, Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Limits of one rollout; None means no limit of that sort.

    `level` the highest level; `step` the largest rise in one turn (points of the dial's unit);
    `duration_s` how long it may be above safe before it is promoted; `users` how many units may
    have seen the treatment before it is promoted (checked at each tick: held, not lowered).
    """

    level: Percent | None = None
    step: Percent | None = None
    duration_s: Seconds | None = None
    users: int | None = None
