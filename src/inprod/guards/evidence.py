"""Evidence: what the store counted, bucket by bucket, and what the judge made of it.

A `Cell` is one count from the collector. Cells of closed buckets never change, so the list of them
replays to the same judgement; that list is what the journal keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inprod.guards.guard import Verdict

# Latency bins: k = floor(log(value) / log(LATENCY_BIN_RATIO)), value in the column's own unit,
# values below LATENCY_FLOOR count as it. Mean bins: k = round(clipped / clip * MEAN_BINS).
LATENCY_BIN_RATIO = 1.05
LATENCY_FLOOR = 1e-3
MEAN_BINS = 200


class What(StrEnum):
    """What a cell counts, per guard."""

    EXPOSED = "n"  # units (or events) that entered; bin is the value's bin for latency, mean
    BAD = "bad"  # of those, the ones that turned bad or matched (for a unit: its first time)
    VALUE = "value"  # threshold: `value` is the aggregate of the last `over_s`, `n` its events;
    # guard -1: `n` events came in, whatever they say: a judge that gets these tells silence


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """`n` units or events of one guard, bucket, stage, stratum, arm and bin.

    `guard` is the guard's index in the plan, -1 for the rollout's own exposures (one per unit and
    stage); `bucket` counts `batch_s` periods since the epoch, by arrival time; `stage` is the
    number of the dial's turn in force at the bucket's start; `stratum` is 0 for units first seen in
    this stage, 1 + j for units last seen as control in the earlier stage j (their chance of being
    treated now differs: `Stage.shares`); `arm` is 1 treated, 0 control.
    """

    guard: int
    what: What
    bucket: int
    stage: int
    stratum: int
    arm: int
    bin: int = 0
    n: int = 0
    value: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One turn of the dial: from `start_bucket` on, a `share` (0..1) of the units is treated.

    `fresh_share` is the share of the treated among units that were control just before:
    (share - previous) / (1 - previous). `shares`, when given, has one share for each stratum:
    `shares[0]` is `share`, `shares[1 + j]` is for units last seen as control in stage `j`.
    """

    number: int
    start_bucket: int
    share: float
    fresh_share: float
    shares: tuple[float, ...] = ()

    def share_of(self, stratum: int) -> float:
        """Return the designed share of the treated among the units of a stratum."""
        if self.shares:
            return self.shares[stratum]
        return self.fresh_share if stratum else self.share


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardEvidence:
    """What one guard knows now.

    e-values are natural logarithms; `estimate`, `low`, `high` are the compared quantity with its
    interval (valid at every look, level 1 - alpha; asymptotic for means): a risk ratio, a ratio of
    slow shares, a difference of means, a threshold's value or the treated share; None: unbounded or
    unknown; `margin_abort`, `margin_promote` in the same quantity. `treated_n` and `control_n` are
    exposures, `treated_bad`, `control_bad` the bad (latency: slow) among them. `eta_s` forecasts
    the time until it holds if it is harmless, at the present traffic; None when unknown.
    """

    guard: str
    kind: str
    verdict: Verdict
    sentence: str
    log_e_abort: float = 0.0
    log_e_promote: float = 0.0
    log_e_abort_needed: float = 0.0
    log_e_promote_needed: float = 0.0
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    margin_abort: float | None = None
    margin_promote: float | None = None
    treated_n: int = 0
    control_n: int = 0
    treated_bad: int = 0
    control_bad: int = 0
    eta_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """All guards together, at the end of `bucket`.

    `verdict`: BROKEN when the weighted mean of the abort e-values reached 1/alpha or a threshold
    broke (`culprit` names it, or `combined evidence`); HOLDS when every required guard holds;
    `suspect` is set while the sample ratio or completeness is off: hold, do not promote.
    """

    bucket: int
    verdict: Verdict
    sentence: str
    guards: tuple[GuardEvidence, ...]
    culprit: str = ""
    suspect: str = ""
    log_e_abort: float = 0.0
    treated_units: int = 0
    control_units: int = 0
