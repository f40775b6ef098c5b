"""Guards that measure a value of each unit: latency (its distribution) and mean (clipped).

Values arrive as binned counts, one value per unit (its first of the stage) or per event. What is
learned of the control's values, its quantile and its mean, serves later buckets only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from inprod.guards import sentence
from inprod.guards.evidence import LATENCY_BIN_RATIO, MEAN_BINS, Cell, GuardEvidence, Stage, What
from inprod.guards.guard import Guard, Unit, Verdict
from inprod.guards.watch import Recent, Scene, Stratum, remaining_s, standing
from inprod.stats import forecast
from inprod.stats.combine import FloatArray, log_needed
from inprod.stats.difference import DifferenceTest, MeanSums
from inprod.stats.histogram import BIN_RATIO, HistogramTest, IntArray
from inprod.stats.ratio import Interval, RatioTest

assert BIN_RATIO == LATENCY_BIN_RATIO
SMALL_BATCH = 100  # below, the design share says more than the counted one
TAIL_VALUES = 5.0  # control values that must lie above a quantile before it is used


class _Binned:
    """One bucket's values of one stratum: the bins seen, and how often in each arm."""

    def __init__(self, counts: dict[int, list[float]]) -> None:
        self.bins: IntArray = np.array(sorted(counts), dtype=np.int64)
        both: FloatArray = np.array([counts[place] for place in sorted(counts)], dtype=float)
        self.control: FloatArray = both[:, 0]
        self.treated: FloatArray = both[:, 1]
        self.control_n = float(self.control.sum())
        self.treated_n = float(self.treated.sum())


def _by_stratum(cells: Sequence[Cell]) -> dict[Stratum, _Binned]:
    found: dict[Stratum, dict[int, list[float]]] = {}
    for cell in cells:
        if cell.what is What.EXPOSED:
            bins = found.setdefault((cell.stage, cell.stratum), {})
            bins.setdefault(cell.bin, [0.0, 0.0])[cell.arm] += cell.n
    return {stratum: _Binned(found[stratum]) for stratum in sorted(found)}


class LatencyWatch:
    """Aborts by the whole distribution, promotes by the quantile.

    Promote: a value counts as slow over tau, the quantile of earlier control values, in the control
    arm, and over `slower` * tau in the treated one. The ratio of those shares under one means that
    the treated quantile is under `slower` times the control's; it and its interval are shown.
    """

    def __init__(self, guard: Guard, *, batch_s: float) -> None:
        self.guard = guard
        self.batch_s = batch_s
        step = math.log(BIN_RATIO)
        self._slower_bins = max(1, round(math.log(guard.slower) / step))
        # Rounded up: what the tolerance lets pass must lie within it.
        self._tolerance_bins = math.ceil(math.log(guard.abort_slower) / step - 1e-6)
        self._moved = HistogramTest(tolerance_bins=self._tolerance_bins)
        self._slow = RatioTest(abort_ratio=1.0, promote_ratio=1.0)
        self._tau: int | None = None
        self._builds = 0
        self._stages: dict[int, Stage] = {}
        self._n = [0.0, 0.0]
        self._slow_n = [0.0, 0.0]
        self._recent = Recent()
        self._log_e_abort = 0.0

    def turn(self, stage: Stage) -> None:
        """Know the share of the new stage, and bet anew from here."""
        self._stages[stage.number] = stage
        self._moved.restart()

    def add(self, bucket: int, cells: Sequence[Cell]) -> None:
        """Add one bucket, then let later ones know its control values."""
        del bucket
        strata = _by_stratum(cells)
        for stratum, batch in strata.items():
            self._moved.add(
                treated_bins=batch.bins, treated=batch.treated,
                control_bins=batch.bins, control=batch.control,
                share=self._design_share(stratum, batch),
            )  # fmt: skip
            self._count_slow(batch)
            self._n = [self._n[0] + batch.control_n, self._n[1] + batch.treated_n]
        for batch in strata.values():
            self._moved.learn(batch.bins, batch.control)
        self._recent.add(sum(batch.treated_n for batch in strata.values()))
        if strata:
            self._moved.close_look()
            self._slow.close_look()
            self._log_e_abort = self._moved.log_e_abort()
        enough = self._moved.learned_n * (1 - self.guard.quantile) >= TAIL_VALUES
        if self._moved.builds > self._builds and (enough or self._tau is not None):
            self._builds = self._moved.builds
            self._tau = self._moved.quantile_bin(self.guard.quantile)

    def log_e_abort(self) -> float:
        """Return the log e-value against "not slower by more than `abort_slower`"."""
        return self._log_e_abort

    def evidence(self, scene: Scene) -> GuardEvidence:
        """Return the ratio of slow shares with its interval, the verdict and the forecast."""
        guard = self.guard
        promote, promote_needed = float(self._slow.log_e_promote()), log_needed(scene.beta)
        needed = log_needed(scene.level)
        verdict = standing(
            scene, treated_n=self._n[1], control_n=self._n[0],
            is_broken=self._moved.log_e_abort_max >= needed, holds=promote >= promote_needed,
        )  # fmt: skip
        interval = self._slow.interval(scene.alpha)
        eta_s = self._eta_s(scene, promote) if verdict is Verdict.UNDECIDED else None
        return GuardEvidence(
            guard=guard.name, kind=guard.kind, verdict=verdict,
            sentence=self._sentence(verdict, eta_s, interval),
            log_e_abort=self._log_e_abort, log_e_promote=promote,
            log_e_abort_needed=needed, log_e_promote_needed=promote_needed,
            estimate=interval.estimate, low=interval.low, high=interval.high,
            margin_promote=1.0, treated_n=round(self._n[1]), control_n=round(self._n[0]),
            treated_bad=round(self._slow_n[1]), control_bad=round(self._slow_n[0]), eta_s=eta_s,
        )  # fmt: skip

    def _design_share(self, stratum: Stratum, batch: _Binned) -> float | None:
        """Return the share by design for a small batch of units, None where counting is better."""
        stage = self._stages.get(stratum[0])
        small = batch.treated_n + batch.control_n < SMALL_BATCH
        if stage is None or not small or self.guard.unit is Unit.EVENT:
            return None
        share = stage.share_of(stratum[1])
        return share if 0 < share < 1 else None

    def _count_slow(self, batch: _Binned) -> None:
        if self._tau is None:
            return
        slow_control = float(batch.control[batch.bins > self._tau].sum())
        slow_treated = float(batch.treated[batch.bins > self._tau + self._slower_bins].sum())
        if batch.treated_n and batch.control_n:
            self._slow.add(
                treated_n=batch.treated_n, control_n=batch.control_n,
                treated_bad=slow_treated, control_bad=slow_control,
            )  # fmt: skip
        self._slow_n = [self._slow_n[0] + slow_control, self._slow_n[1] + slow_treated]

    def _eta_s(self, scene: Scene, promote: float) -> float | None:
        if self._tau is None or not 0 < scene.share < 1:
            return None
        base = self._moved.share_above(self._tau)
        ratio = self._moved.share_above(self._tau + self._slower_bins) / base if base else 1.0
        growth = forecast.growth_per_treated(base, scene.share, ratio, 1.0)
        treated_per_s = self._recent.mean() / self.batch_s
        return remaining_s(log_needed(scene.beta), promote, growth * treated_per_s)

    def _sentence(self, verdict: Verdict, eta_s: float | None, interval: Interval) -> str:
        guard, end = self.guard, sentence.ending(verdict, eta_s)
        noun = "units" if guard.unit is Unit.SPLIT else "events"
        name = f"p{100 * guard.quantile:g}"
        if self._tau is None:
            return (
                f"{guard.name}: {self._n[1]:,.0f} treated and {self._n[0]:,.0f} control {noun}"
                f" measured, too few for the {name}. {end}"
            )
        unit = " ms" if guard.column is None or guard.column.endswith("_ms") else ""
        tau = BIN_RATIO ** (self._tau + 1)
        slow = BIN_RATIO ** (self._tau + 1 + self._slower_bins)
        slower = f"{BIN_RATIO**self._slower_bins:.3g}"
        moved = ""
        if verdict is Verdict.BROKEN:
            over = f"{100 * (BIN_RATIO**self._tolerance_bins - 1):.3g} %"
            moved = f"the distribution, judged as a whole, moved up by over {over}. "
        return (
            f"{guard.name}: {moved}"
            f"{self._slow_n[1]:,.0f} of {self._n[1]:,.0f} treated {noun} took over"
            f" {sentence.number(slow)}{unit} ({slower} times the control's {name}), against"
            f" {self._slow_n[0]:,.0f} of {self._n[0]:,.0f} control {noun} over"
            f" {sentence.number(tau)}{unit}: {sentence.times(interval)},"
            f" margin 1. {end}"
        )


class MeanWatch:
    """Aborts and promotes by the difference of means of the clipped value."""

    def __init__(self, guard: Guard, *, batch_s: float) -> None:
        assert guard.margin is not None
        assert guard.clip is not None
        self.guard = guard
        self.batch_s = batch_s
        self.clip, self.margin = guard.clip, guard.margin
        self._test = DifferenceTest(margin=guard.margin / guard.clip)
        self._sums = MeanSums()
        self._n = [0.0, 0.0]
        self._recent = Recent()
        self._log_e_abort = 0.0

    def turn(self, stage: Stage) -> None:
        """A new stage may bring new trouble: bet anew from here."""
        del stage
        self._test.restart()

    def add(self, bucket: int, cells: Sequence[Cell]) -> None:
        """Add one bucket, stratum by stratum."""
        del bucket
        treated = 0.0
        for stratum, batch in _by_stratum(cells).items():
            values = np.minimum(np.maximum(batch.bins / MEAN_BINS, 0.0), 1.0)
            self._test.add(values, batch.treated, batch.control)
            self._sums.add(stratum, values, batch.treated, batch.control)
            self._n = [self._n[0] + batch.control_n, self._n[1] + batch.treated_n]
            treated += batch.treated_n
        self._recent.add(treated)
        if cells:
            self._test.close_look()
            self._log_e_abort = float(self._test.log_e_abort())

    def log_e_abort(self) -> float:
        """Return the log e-value against a difference of at most `margin`."""
        return self._log_e_abort

    def evidence(self, scene: Scene) -> GuardEvidence:
        """Return the difference of means with its (asymptotic) interval, verdict and forecast."""
        guard = self.guard
        promote, promote_needed = float(self._test.log_e_promote()), log_needed(scene.beta)
        needed = log_needed(scene.level)
        verdict = standing(
            scene, treated_n=self._n[1], control_n=self._n[0],
            is_broken=float(self._test.log_e_abort_max) >= needed, holds=promote >= promote_needed,
        )  # fmt: skip
        interval = self._sums.interval(scene.alpha)
        estimate, low, high = (
            None if one is None else one * self.clip
            for one in (interval.estimate, interval.low, interval.high)
        )
        eta_s = self._eta_s(scene, promote) if verdict is Verdict.UNDECIDED else None
        treated, control = (mean * self.clip for mean in self._sums.means())
        noun = "units" if guard.unit is Unit.SPLIT else "events"
        words = f"{guard.name}: {self._n[1]:,.0f} treated and {self._n[0]:,.0f} control {noun}"
        if estimate is not None and low is not None and high is not None:
            words += (
                f" average {sentence.number(treated)} and {sentence.number(control)}:"
                f" {estimate:+.3g} ({low:+.3g} to {high:+.3g}), margin {self.margin:g}"
            )
        return GuardEvidence(
            guard=guard.name, kind=guard.kind, verdict=verdict,
            sentence=f"{words}. {sentence.ending(verdict, eta_s)}",
            log_e_abort=self._log_e_abort, log_e_promote=promote,
            log_e_abort_needed=needed, log_e_promote_needed=promote_needed,
            estimate=estimate, low=low, high=high,
            margin_abort=self.margin, margin_promote=self.margin,
            treated_n=round(self._n[1]), control_n=round(self._n[0]), eta_s=eta_s,
        )  # fmt: skip

    def _eta_s(self, scene: Scene, promote: float) -> float | None:
        """Return the time by the growth so far; at first by that of the most spread values."""
        control = self._sums.means()[1]
        if not 0 < scene.share < 1 or math.isnan(control):
            return None
        base = min(max(control, 1e-3), 0.999 - self.margin / self.clip)
        odds = scene.share / (1 - scene.share)
        growth = forecast.difference_growth(max(base, 1e-3), self.margin / self.clip, odds)
        if promote > 1 and self._n[1]:
            growth = promote / self._n[1]
        treated_per_s = self._recent.mean() / self.batch_s
        return remaining_s(log_needed(scene.beta), promote, growth * treated_per_s)
