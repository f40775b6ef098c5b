"""Guards that count what went bad: errors, rate and completeness.

    unit: split                                    unit: event; completeness
    at risk = entered so far - already bad         at risk = the events of this bucket; the units
    (kept per stage and stratum)                   whose outcome was due in it

Cells of a bucket name the stage and stratum in which their unit *entered*, and each stratum has one
share, so its batch is compared with its own share and the log-likelihoods add up. Exposed units are
counted into the risk before the bucket's bad ones, since both may happen within it. Units at risk
entered at many times and fail mostly soon after, so their counted share is held against the
stage's by design (`RatioTest.add`).

With `margin`, an errors guard holds when its ratio or its difference is shown to be small enough:
the null is then that both are too large, for which the mean of the two promote e-values is an
e-value. Per unit the difference test counts a unit as good once it is `timeout_s` old, its treated
bad events at once and its control ones only after as long, so that neither arm is praised early.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from inprod.guards import sentence
from inprod.guards.evidence import Cell, GuardEvidence, Stage, What
from inprod.guards.guard import Guard, Kind, Unit, Verdict
from inprod.guards.watch import (
    SAMPLE_RATIO_ALPHA,
    Recent,
    Scene,
    Stratum,
    remaining_s,
    standing,
)
from inprod.stats import forecast
from inprod.stats.combine import log_add, log_needed
from inprod.stats.difference import DifferenceTest
from inprod.stats.ratio import Interval, RatioTest
from inprod.units import render_s

Pair = list[float]  # control, treated
_GOOD_BAD = np.array([0.0, 1.0])
_ALL_MISSING = 0.98


class CountWatch:
    """Judges an errors, rate or completeness guard by its bad counts."""

    def __init__(self, guard: Guard, *, batch_s: float) -> None:
        self.guard = guard
        self.batch_s = batch_s
        self._test = RatioTest(abort_ratio=guard.abort_ratio, promote_ratio=guard.promote_ratio)
        self._apart = None if guard.margin is None else DifferenceTest(margin=guard.margin)
        self._stages: dict[int, Stage] = {}
        self._risk: dict[Stratum, Pair] = {}
        self._entered: Pair = [0.0, 0.0]
        self._bad: Pair = [0.0, 0.0]
        self._recent_bad, self._recent_treated = Recent(), Recent()
        self._waiting: deque[tuple[int, Stratum, Pair, Pair]] = deque()
        self._matured: dict[Stratum, Pair] = {}
        self._log_e_abort = 0.0

    def turn(self, stage: Stage) -> None:
        """A new stage may bring new trouble: bet anew from here."""
        self._stages[stage.number] = stage
        self._test.restart()

    def add(self, bucket: int, cells: Sequence[Cell]) -> None:
        """Add one bucket: its strata one by one, then close the look."""
        entered: dict[Stratum, Pair] = {}
        bad: dict[Stratum, Pair] = {}
        for cell in cells:
            counts = entered if cell.what is What.EXPOSED else bad
            counts.setdefault((cell.stage, cell.stratum), [0.0, 0.0])[cell.arm] += cell.n
        risk = self._at_risk(entered)
        for stratum in sorted(bad):
            self._compare(stratum, risk.setdefault(stratum, [0.0, 0.0]), bad[stratum])
        if self._apart is not None:
            self._measure(self._apart, bucket, entered, bad)
        for pair in entered.values():
            self._entered = [self._entered[0] + pair[0], self._entered[1] + pair[1]]
        for pair in bad.values():
            self._bad = [self._bad[0] + pair[0], self._bad[1] + pair[1]]
        self._recent_bad.add(sum(map(sum, bad.values())))
        self._recent_treated.add(sum(pair[1] for pair in entered.values()))
        if any(pair[0] and pair[1] for pair in risk.values()):
            self._test.close_look()
        self._log_e_abort = float(self._test.log_e_abort())

    def log_e_abort(self) -> float:
        """Return the log e-value against a ratio of at most `abort_ratio`."""
        return self._log_e_abort

    def evidence(self, scene: Scene) -> GuardEvidence:
        """Return the counts, the risk ratio with its interval, the verdict and the forecast."""
        guard, is_gate = self.guard, self.guard.kind is Kind.COMPLETENESS
        needed = log_needed(SAMPLE_RATIO_ALPHA if is_gate else scene.level)
        promote, promote_needed = self._log_e_promote(), log_needed(scene.beta)
        is_broken = float(self._test.log_e_abort_max) >= needed
        verdict = standing(
            scene, treated_n=self._entered[1], control_n=self._entered[0], is_broken=is_broken,
            holds=is_gate or promote >= promote_needed,
        )  # fmt: skip
        if is_gate and verdict is Verdict.HOLDS and self._nothing_came():
            verdict = Verdict.NO_OUTCOMES
        interval = self._test.interval(scene.alpha)
        eta_s = None if verdict is not Verdict.UNDECIDED else self._eta_s(scene, promote)
        return GuardEvidence(
            guard=guard.name, kind=guard.kind, verdict=verdict,
            sentence=self._sentence(verdict, eta_s, interval),
            log_e_abort=self._log_e_abort, log_e_promote=promote,
            log_e_abort_needed=needed, log_e_promote_needed=promote_needed,
            estimate=interval.estimate, low=interval.low, high=interval.high,
            margin_abort=guard.abort_ratio, margin_promote=None if is_gate else guard.promote_ratio,
            treated_n=round(self._entered[1]), control_n=round(self._entered[0]),
            treated_bad=round(self._bad[1]), control_bad=round(self._bad[0]), eta_s=eta_s,
        )  # fmt: skip

    def _at_risk(self, entered: dict[Stratum, Pair]) -> dict[Stratum, Pair]:
        if self.guard.unit is Unit.EVENT or self.guard.kind is Kind.COMPLETENESS:
            return {stratum: list(pair) for stratum, pair in entered.items()}
        for stratum, pair in entered.items():
            held = self._risk.setdefault(stratum, [0.0, 0.0])
            held[0] += pair[0]
            held[1] += pair[1]
        return self._risk

    def _compare(self, stratum: Stratum, risk: Pair, bad: Pair) -> None:
        """Add one stratum's batch; a unit that turned bad is no longer at risk."""
        control_n, treated_n = max(risk[0], bad[0]), max(risk[1], bad[1])
        if control_n and treated_n:
            self._test.add(
                treated_n=treated_n, control_n=control_n, treated_bad=bad[1], control_bad=bad[0],
                design=self._design_share(stratum),
            )  # fmt: skip
        risk[0], risk[1] = control_n - bad[0], treated_n - bad[1]

    def _design_share(self, stratum: Stratum) -> float | None:
        """Return the share by design of units at risk, None for a batch that is counted whole."""
        stage = self._stages.get(stratum[0])
        if stage is None or self.guard.unit is Unit.EVENT or self.guard.kind is Kind.COMPLETENESS:
            return None
        share = stage.share_of(stratum[1])
        return share if 0 < share < 1 else None

    def _measure(
        self,
        test: DifferenceTest,
        bucket: int,
        entered: dict[Stratum, Pair],
        bad: dict[Stratum, Pair],
    ) -> None:
        """Feed the difference test: events as they are, units when they are old enough."""
        if self.guard.unit is Unit.EVENT:
            for stratum in sorted(entered):
                _add_difference(test, entered[stratum], bad.get(stratum, [0.0, 0.0]), None)
            return
        age = math.ceil(self.guard.timeout_s / self.batch_s)
        for stratum in sorted(entered):
            self._waiting.append((bucket + age, stratum, entered[stratum], [0.0, 0.0]))
        for stratum in sorted(bad):
            control_bad, treated_bad = bad[stratum]
            if self._matured:
                _add_difference(test, [0.0, 0.0], [0.0, treated_bad], self._odds(stratum))
                treated_bad = 0.0
            # Before anything is old enough the test would not count them: none is lost.
            self._waiting.append((bucket + age, stratum, [0.0, 0.0], [control_bad, treated_bad]))
        while self._waiting and self._waiting[0][0] <= bucket:
            _, stratum, pair, old_bad = self._waiting.popleft()
            held = self._matured.setdefault(stratum, [0.0, 0.0])
            held[0] += pair[0]
            held[1] += pair[1]
            _add_difference(test, pair, old_bad, self._odds(stratum))

    def _odds(self, stratum: Stratum) -> float:
        control_n, treated_n = self._matured.get(stratum, (0.0, 0.0))
        return (treated_n + 0.5) / (control_n + 0.5)

    def _log_e_promote(self) -> float:
        ratio = float(self._test.log_e_promote())
        if self._apart is None:
            return ratio
        return log_add(ratio, float(self._apart.log_e_promote())) - math.log(2)

    def _nothing_came(self) -> bool:
        return self._bad[0] >= max(_ALL_MISSING * self._entered[0], 7)

    def _eta_s(self, scene: Scene, promote: float) -> float | None:
        """Return the time until it would hold if the treated arm were as good as control."""
        if not 0 < scene.share < 1:
            return None
        bad_per_s = self._recent_bad.mean() / self.batch_s
        growth = bad_per_s * forecast.growth_per_bad(scene.share, 1.0, self.guard.promote_ratio)
        if self.guard.margin is not None and self._entered[0]:
            treated_per_s = self._recent_treated.mean() / self.batch_s
            base = min(self._bad[0] / self._entered[0], 0.999 - self.guard.margin)
            odds = scene.share / (1 - scene.share)
            alone = forecast.difference_growth(max(base, 0.0), self.guard.margin, odds)
            growth = max(growth, alone * treated_per_s)
        return remaining_s(log_needed(scene.beta), promote, growth)

    def _sentence(self, verdict: Verdict, eta_s: float | None, interval: Interval) -> str:
        guard = self.guard
        noun = "units" if guard.unit is Unit.SPLIT else "events"
        (control_n, treated_n), (control_bad, treated_bad) = self._entered, self._bad
        end = sentence.ending(verdict, eta_s)
        if guard.kind is Kind.RATE:
            counts = (
                f"{treated_bad:,.0f} of {treated_n:,.0f} treated against"
                f" {control_bad:,.0f} of {control_n:,.0f} control {noun} matched"
            )
        else:
            what = (
                f"gave no outcome within {render_s(guard.timeout_s)}"
                if guard.kind is Kind.COMPLETENESS
                else "failed"
            )
            counts = (
                f"{treated_bad:,.0f} of {treated_n:,.0f} treated against"
                f" {control_bad:,.0f} of {control_n:,.0f} control {noun} {what}"
            )
        if not control_bad and not treated_bad:
            return f"{guard.name}: {counts}. {end}"
        limit = f"limit {guard.abort_ratio:g}"
        if verdict is not Verdict.BROKEN and guard.kind is not Kind.COMPLETENESS:
            limit = f"margin {guard.promote_ratio:g}"
            if guard.margin is not None:
                limit += f" or {100 * guard.margin:g} points"
        compared = sentence.times(interval)
        return f"{guard.name}: {counts}: {compared}, {limit}. {end}"


def _add_difference(test: DifferenceTest, exposed: Pair, bad: Pair, odds: float | None) -> None:
    counts = np.array([[exposed[0] - bad[0], bad[0]], [exposed[1] - bad[1], bad[1]]])
    test.add(_GOOD_BAD, counts[1], counts[0], odds)
