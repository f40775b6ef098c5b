"""The judge: cells in, judgement out, the same for the same cells.

    turn of the dial -> stage()        closed bucket -> add()        any time -> judgement()

All e-processes run from the first bucket to the last, through all stages; nothing is ever reset.
Whatever can break latches while buckets are added, so it does not matter how often somebody asks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never

from inprod.guards.counted import CountWatch
from inprod.guards.evidence import Cell, GuardEvidence, Judgement, Stage, What
from inprod.guards.guard import Guard, Kind, Verdict
from inprod.guards.measured import LatencyWatch, MeanWatch
from inprod.guards.observed import ShareWatch, ThresholdWatch
from inprod.guards.watch import Scene, Watch
from inprod.stats.combine import log_needed, log_weighted_mean, shares
from inprod.units import roughly

ROLLOUT = -1  # the guard index of the rollout's own exposures
COMBINED = "combined evidence"
SAMPLE_RATIO = "sample ratio"
COMPARED = frozenset({Kind.ERRORS, Kind.RATE, Kind.LATENCY, Kind.MEAN})
GATES = frozenset({Kind.SAMPLE_RATIO, Kind.COMPLETENESS})
_WORST_FIRST = (
    Verdict.STALE, Verdict.NO_EXPOSURES, Verdict.NO_OUTCOMES, Verdict.UNDECIDED,
)  # fmt: skip


class Judge:
    """Judges all guards of one rollout.

    `alpha`: the chance of a false rollback over the whole rollout, shared by weight among the
    required guards that compare; `beta`: of a false promotion. `stale_s`: silence that is too long.
    """

    def __init__(
        self,
        guards: Sequence[Guard],
        *,
        alpha: float,
        beta: float,
        batch_s: float,
        stale_s: float,
    ) -> None:
        self.guards = tuple(guards)
        self.alpha, self.beta = alpha, beta
        self.batch_s, self.stale_s = batch_s, stale_s
        self._watches: list[Watch] = [_watch(guard, batch_s) for guard in self.guards]
        self._split = ShareWatch(SAMPLE_RATIO)
        self._weights = shares(
            [g.weight if g.required and g.kind in COMPARED else 0.0 for g in self.guards]
        )
        self._stage: Stage | None = None
        self._treated_units = 0
        self._control_units = 0
        self._bucket: int | None = None
        self._alive: int | None = None  # the last bucket in which traffic was seen
        self._hears_traffic = False  # whether the collector tells of traffic itself
        self._heard_anything = False
        self._log_e_abort_max = 0.0
        self._log_e_at_break: tuple[float, ...] = ()

    def stage(self, stage: Stage) -> None:
        """Know that the dial was turned; call it before the stage's first bucket is added."""
        self._stage = stage
        for watch in self._watches:
            watch.turn(stage)
        self._split.turn(stage)
        if self._alive is None:
            self._alive = stage.start_bucket

    def add(self, bucket: int, cells: Sequence[Cell]) -> None:
        """Count the cells of one closed bucket; a bucket added before is not counted again."""
        if self._bucket is not None and bucket <= self._bucket:
            return
        self._bucket = bucket
        by_guard: dict[int, list[Cell]] = {}
        for cell in cells:
            by_guard.setdefault(cell.guard, []).append(cell)
        for index, watch in enumerate(self._watches):
            watch.add(bucket, by_guard.get(index, ()))
        own = by_guard.get(ROLLOUT, [])
        self._split.add(bucket, own)
        self._count_units(own)
        self._note_life(bucket, cells, own)
        log_es = [watch.log_e_abort() for watch in self._watches]
        combined = log_weighted_mean(log_es, self._weights)
        if combined >= -math.log(self.alpha) and not self._log_e_at_break:
            self._log_e_at_break = tuple(log_es)
        self._log_e_abort_max = max(self._log_e_abort_max, combined)

    def judgement(self, bucket: int) -> Judgement:
        """Return what all guards say at the end of `bucket`."""
        evidence = tuple(self._evidence(index, bucket) for index in range(len(self.guards)))
        culprit = self._culprit(evidence)
        suspect = self._suspect(evidence)
        verdict = self._verdict(evidence, culprit, suspect)
        return Judgement(
            bucket=bucket,
            verdict=verdict,
            sentence=self._sentence(evidence, verdict, culprit, suspect),
            guards=evidence,
            culprit=culprit,
            suspect=suspect,
            log_e_abort=log_weighted_mean(
                [watch.log_e_abort() for watch in self._watches], self._weights
            ),
            treated_units=self._treated_units,
            control_units=self._control_units,
        )

    def _count_units(self, own: Sequence[Cell]) -> None:
        """Count each unit once: treated in its first stage, control when never seen before."""
        for cell in own:
            if cell.what is What.EXPOSED:
                if cell.arm:
                    self._treated_units += cell.n
                elif not cell.stratum:
                    self._control_units += cell.n

    def _note_life(self, bucket: int, cells: Sequence[Cell], own: Sequence[Cell]) -> None:
        """Remember when traffic was last seen.

        Units enter once, so the lack of other cells says nothing: without traffic cells, only a
        rollout that never saw any cell is silent.
        """
        traffic = any(cell.what is What.VALUE and cell.n for cell in own)
        self._hears_traffic = self._hears_traffic or traffic
        self._heard_anything = self._heard_anything or bool(cells)
        if self._alive is None or traffic or (self._heard_anything and not self._hears_traffic):
            self._alive = bucket

    def _scene(self, index: int, bucket: int) -> Scene:
        alive = bucket if self._alive is None else self._alive
        return Scene(
            bucket=bucket,
            alpha=self.alpha,
            beta=self.beta,
            level=self.alpha * (self._weights[index] or 1.0),
            batch_s=self.batch_s,
            is_stale=(bucket - alive) * self.batch_s >= self.stale_s,
            treated_units=self._treated_units,
            control_units=self._control_units,
            share=self._stage.share if self._stage else 0.0,
        )

    def _evidence(self, index: int, bucket: int) -> GuardEvidence:
        watch = self._watches[index]
        scene = self._scene(index, bucket)
        if isinstance(watch, ShareWatch) and not watch.has_cells:
            return self._split.evidence_as(watch.name, scene)
        return watch.evidence(scene)

    def _culprit(self, evidence: Sequence[GuardEvidence]) -> str:
        """Return the broken threshold, the guard whose evidence suffices, or the combination."""
        for guard, one in zip(self.guards, evidence, strict=True):
            hard = guard.kind is Kind.THRESHOLD and guard.required
            if hard and one.verdict is Verdict.BROKEN:
                return guard.name
        if self._log_e_abort_max < -math.log(self.alpha):
            return ""
        strongest = max(
            (log_e - log_needed(self.alpha, weight), -index)
            for index, (log_e, weight) in enumerate(
                zip(self._log_e_at_break, self._weights, strict=True)
            )
            if weight > 0
        )
        return self.guards[-strongest[1]].name if strongest[0] >= 0 else COMBINED

    def _suspect(self, evidence: Sequence[GuardEvidence]) -> str:
        """Return why the comparison cannot be trusted, empty when it can."""
        for guard, one in zip(self.guards, evidence, strict=True):
            off = guard.kind in GATES and guard.required and one.verdict is Verdict.BROKEN
            if off:
                return one.sentence
        named = any(guard.kind is Kind.SAMPLE_RATIO for guard in self.guards)
        if not named and self._split.is_off:
            scene = self._scene(0, self._bucket or 0) if self.guards else None
            return self._split.evidence(scene).sentence if scene else SAMPLE_RATIO
        return ""

    def _verdict(self, evidence: Sequence[GuardEvidence], culprit: str, suspect: str) -> Verdict:
        if culprit:
            return Verdict.BROKEN
        seen = {
            one.verdict for guard, one in zip(self.guards, evidence, strict=True) if guard.required
        }
        for verdict in _WORST_FIRST:
            if verdict in seen:
                return verdict
        # Only a gate that is off can be broken here; then, as when suspect, nothing is decided.
        return Verdict.UNDECIDED if suspect or Verdict.BROKEN in seen else Verdict.HOLDS

    def _sentence(
        self, evidence: Sequence[GuardEvidence], verdict: Verdict, culprit: str, suspect: str
    ) -> str:
        by_name = {one.guard: one for one in evidence}
        doubt = f" Suspect: {suspect}" if suspect else ""
        if culprit == COMBINED:
            names = ", ".join(g.name for g, w in zip(self.guards, self._weights, strict=True) if w)
            return f"No guard alone, but {names} together speak against it. Broken.{doubt}"
        if culprit:
            return by_name[culprit].sentence + doubt
        if suspect:
            return f"Suspect: {suspect}"
        asked = [by_name[guard.name] for guard in self.guards if guard.required]
        holding = sum(one.verdict is Verdict.HOLDS for one in asked)
        units = f"{self._treated_units:,} treated and {self._control_units:,} control units"
        if verdict is Verdict.HOLDS:
            return f"All {holding} guards hold: {units}."
        waiting = next(one for one in asked if one.verdict is verdict)
        etas = [one.eta_s for one in asked if one.eta_s is not None]
        more = f" About {roughly(max(etas))} more at this traffic." if etas else ""
        if verdict is Verdict.UNDECIDED and len(asked) > 1:
            names = ", ".join(one.guard for one in asked if one.verdict is verdict)
            return f"{holding} of {len(asked)} guards hold; undecided: {names}. {units}.{more}"
        return waiting.sentence


def _watch(guard: Guard, batch_s: float) -> Watch:
    match guard.kind:
        case Kind.ERRORS | Kind.RATE | Kind.COMPLETENESS:
            return CountWatch(guard, batch_s=batch_s)
        case Kind.LATENCY:
            return LatencyWatch(guard, batch_s=batch_s)
        case Kind.MEAN:
            return MeanWatch(guard, batch_s=batch_s)
        case Kind.THRESHOLD:
            return ThresholdWatch(guard, batch_s=batch_s)
        case Kind.SAMPLE_RATIO:
            return ShareWatch(guard.name)
        case _:
            assert_never(guard.kind)
