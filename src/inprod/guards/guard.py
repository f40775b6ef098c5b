"""The guard: a promise that must hold, written down.

A guard that compares (errors, rate, latency, mean, completeness, sample_ratio) looks at the treated
arm and the concurrent control arm of one attribute; `threshold` looks at one number and a ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from inprod.events.query import Calculate, Filter
from inprod.units import Seconds

GUARDS_MAX = 50


class Kind(StrEnum):
    """What is promised."""

    ERRORS = "errors"  # bad units (or events) are not more frequent
    RATE = "rate"  # matching events per exposure are not more frequent
    LATENCY = "latency"  # the distribution of `column` has not moved up
    MEAN = "mean"  # the mean of `column`, clipped to [0, clip], is not larger
    THRESHOLD = "threshold"  # `calculate(column)` over `over_s` stays at or under `ceiling`
    SAMPLE_RATIO = "sample_ratio"  # units fall into the arms as the split says
    COMPLETENESS = "completeness"  # exposed units produce their outcome event within `timeout_s`


class Unit(StrEnum):
    """What is counted once: the split's own unit, or every event (independent requests)."""

    SPLIT = "split"
    EVENT = "event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """One promise.

    `where` selects the events it looks at (all must hold), within `dataset` when given;
    `bad` says which of those are bad (errors, rate; default: the event's `error` is true);
    `column` is the number compared (latency: default `duration_ms`; mean, threshold);
    `abort_ratio`/`promote_ratio`: the risk ratios (for latency of the share above the control's
    `quantile` times `slower`; for mean in units of the clipped mean's difference `margin`) beyond
    which it breaks, and under which it holds;
    `weight` is its part of the rollout's alpha; `required` False: watched, never decides.
    """

    name: str
    kind: Kind
    dataset: str | None = None
    where: tuple[Filter, ...] = ()
    bad: tuple[Filter, ...] = ()
    column: str | None = None
    unit: Unit = Unit.SPLIT
    abort_ratio: float = 1.1
    promote_ratio: float = 1.5
    quantile: float = 0.99
    slower: float = 1.2
    clip: float | None = None
    margin: float | None = None
    calculate: Calculate | None = None
    ceiling: float | None = None
    arm: Literal["treated", "control", "all"] = "treated"
    over_s: Seconds = 60.0
    outcome: tuple[Filter, ...] = ()
    timeout_s: Seconds = 30.0
    weight: float = 1.0
    required: bool = True


class Verdict(StrEnum):
    """What the evidence says, now."""

    HOLDS = "holds"  # non-inferiority shown: e-value for promotion >= 1/beta
    BROKEN = "broken"  # e-value for abort >= 1/alpha (threshold: over its ceiling)
    UNDECIDED = "undecided"  # evidence is coming in; see the forecast
    NO_EXPOSURES = "no_exposures"  # control has units, the treated arm none
    NO_OUTCOMES = "no_outcomes"  # exposed, but nothing to judge was seen
    STALE = "stale"  # no event at all for too long
