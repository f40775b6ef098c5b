"""Feed a Judge: each closed bucket once, in order, with the stages that begin on the way.

The same windows and cells in the same order give the same judgement; so a judge can be rebuilt from
what the journal keeps, after a restart or to check a past decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inprod.guards.arms import Arms, Window, stages_of
from inprod.guards.evidence import Cell, Judgement
from inprod.guards.judge import Judge
from inprod.rollouts.rollout import Plan


class Judging:
    """One rollout's judge, and how far it has been fed (`bucket`, None before the first window)."""

    def __init__(self, plan: Plan, arms: Arms) -> None:
        self._plan = plan
        self._weight = arms.weight
        self._judge = Judge(
            plan.guards, alpha=plan.alpha, beta=plan.beta, batch_s=plan.batch_s,
            stale_s=plan.stale_s,
        )  # fmt: skip
        self._staged: set[int] = set()
        self.bucket: int | None = None

    def feed(
        self, windows: Sequence[Window], cells: Mapping[int, Sequence[Cell]], *, last: int, to: int
    ) -> None:
        """Feed the buckets after `last` up to `to`; those before the first window are skipped."""
        if not windows:
            return
        stages = stages_of(windows, [step.level for step in self._plan.steps], self._weight)
        first = max(last + 1, stages[0].start_bucket)
        for bucket in range(first, to + 1):
            for stage in stages:
                if stage.start_bucket <= bucket and stage.number not in self._staged:
                    self._staged.add(stage.number)
                    self._judge.stage(stage)
            self._judge.add(bucket, tuple(cells.get(bucket, ())))
            self.bucket = bucket

    def judgement(self) -> Judgement | None:
        """Return the judgement at the end of the last fed bucket, None before there is one."""
        return None if self.bucket is None else self._judge.judgement(self.bucket)
