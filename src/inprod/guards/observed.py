"""Guards that look at one number: a threshold, and the sample ratio.

Neither takes part in the rollout's alpha: a threshold is a hard floor without statistics, and a
sample ratio that is off makes the rollout hold, for its evidence can then not be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from inprod.events.query import Calculate
from inprod.guards import sentence
from inprod.guards.evidence import Cell, GuardEvidence, Stage, What
from inprod.guards.guard import Guard, Kind, Verdict
from inprod.guards.watch import SAMPLE_RATIO_ALPHA, Scene, Stratum, standing
from inprod.stats import srm
from inprod.stats.combine import log_needed
from inprod.units import render_s

# These can only grow while the window fills, so they may break before it is full.
_GROWING = frozenset({
    Calculate.COUNT, Calculate.SUM, Calculate.MAX, Calculate.COUNT_DISTINCT, Calculate.RATE_SUM,
    Calculate.RATE_MAX,
})  # fmt: skip
_ZERO_WHEN_NOTHING = frozenset({Calculate.COUNT, Calculate.SUM, Calculate.RATE_SUM})


class ThresholdWatch:
    """Compares the aggregate of the last `over_s` with the ceiling, bucket by bucket.

    An aggregate that may fall again is judged once the window is full, so that no single early
    event breaks it. Once broken it stays so.
    """

    def __init__(self, guard: Guard, *, batch_s: float) -> None:
        assert guard.calculate is not None
        assert guard.ceiling is not None
        self.guard = guard
        self.calculate, self.ceiling = guard.calculate, guard.ceiling
        self._length = max(1, math.ceil(guard.over_s / batch_s))
        self._first: int | None = None
        self._last: Cell | None = None
        self._worst: float | None = None

    def turn(self, stage: Stage) -> None:
        """The ceiling is the same in every stage."""

    def add(self, bucket: int, cells: Sequence[Cell]) -> None:
        """Compare the window that ends with this bucket."""
        self._first = bucket if self._first is None else self._first
        self._last = next((cell for cell in cells if cell.what is What.VALUE), self._last)
        if self._last is None or self._last.bucket != bucket:
            return
        value = self._last.value
        may_break = self.calculate in _GROWING or self._is_full(bucket)
        if self._worst is None and value > self.ceiling and may_break:
            self._worst = value

    def log_e_abort(self) -> float:
        """Return zero: no statistics here."""
        return 0.0

    def evidence(self, scene: Scene) -> GuardEvidence:
        """Return the value in the window and whether it is, or once was, over the ceiling."""
        value, count = self._value(scene.bucket)
        verdict = self._verdict(scene, value)
        shown = value if self._worst is None else self._worst
        what = f"{self.calculate}({self.guard.column})" if self.guard.column else self.calculate
        seen = "nothing" if shown is None else sentence.number(shown)
        words = f"{what} over {render_s(self.guard.over_s)} is {seen}, ceiling"
        if self._worst is not None:
            words = f"{what} over {render_s(self.guard.over_s)} was {seen}, over the ceiling of"
        return GuardEvidence(
            guard=self.guard.name, kind=self.guard.kind, verdict=verdict,
            sentence=f"{self.guard.name}: {words} {sentence.number(self.ceiling)}."
            f" {sentence.ending(verdict, None)}",
            estimate=shown, margin_abort=self.ceiling, margin_promote=self.ceiling,
            treated_n=count,
        )  # fmt: skip

    def _verdict(self, scene: Scene, value: float | None) -> Verdict:
        if self._worst is not None:
            return Verdict.BROKEN
        if scene.is_stale:
            return Verdict.STALE
        if not self._is_full(scene.bucket):
            return Verdict.UNDECIDED
        if value is None:
            return Verdict.NO_OUTCOMES
        return Verdict.HOLDS if value <= self.ceiling else Verdict.UNDECIDED

    def _is_full(self, bucket: int) -> bool:
        return self._first is not None and bucket - self._first + 1 >= self._length

    def _value(self, bucket: int) -> tuple[float | None, int]:
        """Return the last value that is not older than the window, and its events."""
        if self._last is not None and bucket - self._last.bucket < self._length:
            return self._last.value, self._last.n
        return (0.0 if self.calculate in _ZERO_WHEN_NOTHING else None), 0


class ShareWatch:
    """Tests whether units fall into the arms as designed, stage by stage and stratum by stratum.

    Each stage is a fresh randomisation: new units are treated with the stage's share, units that
    were control before with the share that their stratum has (`Stage.share_of`). The e-values of
    all of them multiply.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.has_cells = False
        self._stages: dict[int, Stage] = {}
        self._counts: dict[Stratum, list[int]] = {}
        self._log_e: dict[Stratum, float] = {}
        self._log_e_max = 0.0

    @property
    def is_off(self) -> bool:
        """Whether the mismatch was shown, at a level of one percent over the whole rollout."""
        return self._log_e_max >= log_needed(SAMPLE_RATIO_ALPHA)

    def turn(self, stage: Stage) -> None:
        """Know the shares of the new stage."""
        self._stages[stage.number] = stage

    def add(self, bucket: int, cells: Sequence[Cell]) -> None:
        """Count one bucket's units; those of an unknown stage or of one without a split do not."""
        del bucket
        touched: set[Stratum] = set()
        for cell in cells:
            share = self._share((cell.stage, cell.stratum))
            if cell.what is What.EXPOSED and 0 < share < 1:
                stratum = (cell.stage, cell.stratum)
                self._counts.setdefault(stratum, [0, 0])[cell.arm] += cell.n
                touched.add(stratum)
        for stratum in touched:
            share = self._share(stratum)
            self._log_e[stratum] = srm.log_e(self._counts[stratum], (1 - share, share))
        self.has_cells = self.has_cells or bool(touched)
        self._log_e_max = max(self._log_e_max, self._total())

    def log_e_abort(self) -> float:
        """Return zero: a mismatch never rolls back."""
        return 0.0

    def evidence(self, scene: Scene) -> GuardEvidence:
        """Return the treated share of the last stage with its interval and the designed one."""
        return self.evidence_as(self.name, scene)

    def evidence_as(self, name: str, scene: Scene) -> GuardEvidence:
        """Return the evidence under another guard's name."""
        stratum = max(self._counts, key=lambda key: (key[0], -key[1]), default=None)
        treated = sum(pair[1] for pair in self._counts.values())
        control = sum(pair[0] for pair in self._counts.values())
        expected = sum(sum(pair) * self._share(stratum) for stratum, pair in self._counts.items())
        verdict = standing(
            scene, treated_n=treated, control_n=control, is_broken=self.is_off, holds=True
        )
        estimate = low = high = None
        if stratum is not None:
            pair, share = self._counts[stratum], self._share(stratum)
            low, high = srm.arm_interval(1, pair, (1 - share, share), SAMPLE_RATIO_ALPHA)
            estimate = pair[1] / max(sum(pair), 1)
        total = max(treated + control, 1)
        end = "As designed." if verdict is Verdict.HOLDS else sentence.ending(verdict, None)
        if verdict is Verdict.BROKEN:
            end = "The split is off, so the comparison cannot be trusted."
        return GuardEvidence(
            guard=name, kind=Kind.SAMPLE_RATIO, verdict=verdict,
            sentence=f"{name}: {treated:,} of {treated + control:,} units are treated"
            f" over all steps, {sentence.number(100 * treated / total)} % where"
            f" {sentence.number(100 * expected / total)} % were meant. {end}",
            log_e_abort=self._total(), log_e_abort_needed=log_needed(SAMPLE_RATIO_ALPHA),
            estimate=estimate, low=low, high=high, treated_n=treated, control_n=control,
        )  # fmt: skip

    def _share(self, stratum: Stratum) -> float:
        stage = self._stages.get(stratum[0])
        if stage is None:
            return 0.0
        return stage.share_of(stratum[1])

    def _total(self) -> float:
        return math.fsum(self._log_e[stratum] for stratum in sorted(self._log_e))
