"""Made-up cells for a judge of twenty guards, from a seed."""

from __future__ import annotations

import numpy as np

from inprod.guards.evidence import Cell, Judgement, Stage, What
from inprod.guards.guard import Guard, Kind
from inprod.guards.judge import Judge


class TwentyGuards:
    """12 errors, 4 latency, 3 means and a sample ratio; 200 new units a bucket, 5 % treated."""

    def __init__(self, seed: int, *, treated_bad: float = 0.01) -> None:
        self.rng = np.random.default_rng(seed)
        self.treated_bad = treated_bad
        self.guards = (
            *(Guard(name=f"errors-{i}", kind=Kind.ERRORS) for i in range(12)),
            *(Guard(name=f"latency-{i}", kind=Kind.LATENCY) for i in range(4)),
            *(
                Guard(name=f"mean-{i}", kind=Kind.MEAN, column="items", clip=10.0, margin=0.5)
                for i in range(3)
            ),
            Guard(name="split", kind=Kind.SAMPLE_RATIO),
        )

    def judge(self) -> Judge:
        judge = Judge(self.guards, alpha=0.01, beta=0.05, batch_s=5.0, stale_s=120.0)
        judge.stage(Stage(number=0, start_bucket=0, share=0.05, fresh_share=0.05))
        return judge

    def cells(self, bucket: int) -> list[Cell]:
        treated = int(self.rng.binomial(200, 0.05))
        counts = (200 - treated, treated)
        cells: list[Cell] = []

        def add(guard: int, what: What, arm: int, n: int, bin_: int = 0) -> None:
            if n:
                cells.append(
                    Cell(
                        guard=guard, what=what, bucket=bucket, stage=0, stratum=0, arm=arm,
                        bin=bin_, n=n,
                    )
                )  # fmt: skip

        for arm, n in enumerate(counts):
            add(-1, What.EXPOSED, arm, n)
            add(19, What.EXPOSED, arm, n)
            for guard in range(12):
                chance = self.treated_bad if arm else 0.01
                add(guard, What.EXPOSED, arm, n)
                add(guard, What.BAD, arm, int(self.rng.binomial(n, chance)))
            for guard in range(12, 19):
                if guard < 16:
                    values = np.floor(self.rng.normal(4.6, 0.6, n) / np.log(1.05)).astype(int)
                else:
                    values = (self.rng.beta(2, 5, n) * 200).round().astype(int)
                for value, count in zip(*np.unique(values, return_counts=True), strict=True):
                    add(guard, What.EXPOSED, arm, int(count), int(value))
        return cells


def ramp_judge(seed: int, *, alpha: float) -> Judgement:
    """Judge an A/A of units that come again, by three guards, at 5, 20 and 50 %.

    4000 users, 200 of them in each bucket; each stage looks anew at those seen as control.
    """
    rng = np.random.default_rng(seed)
    guards = (
        Guard(name="errors", kind=Kind.ERRORS, abort_ratio=1.0),
        Guard(name="latency", kind=Kind.LATENCY, abort_slower=1.0, quantile=0.9, slower=1.5),
        Guard(name="mean", kind=Kind.MEAN, column="items", clip=10.0, margin=1.0),
    )
    judge = Judge(guards, alpha=alpha, beta=0.05, batch_s=5.0, stale_s=120.0)
    users = 4000
    place = rng.random(users)
    tendency = rng.beta(0.3, 6, users)
    speed = np.exp(rng.normal(0, 0.3, users))
    was_treated = np.zeros(users, dtype=bool)
    last_control = np.full(users, -1)
    levels = (0.05, 0.2, 0.5)
    buckets = 40
    for number, level in enumerate(levels):
        shares = (level, *((level - levels[j]) / (1 - levels[j]) for j in range(number)))
        judge.stage(
            Stage(
                number=number, start_bucket=number * buckets, share=level,
                fresh_share=shares[-1], shares=shares,
            )
        )  # fmt: skip
        entered = np.zeros(users, dtype=bool)
        failed = np.zeros(users, dtype=bool)
        strata = 1 + last_control
        for bucket in range(number * buckets, (number + 1) * buckets):
            seen = rng.choice(users, 200, replace=False)
            counts: dict[tuple[int, What, int, int, int], int] = {}

            def count(guard: int, what: What, user: int, bin_: int = 0) -> None:
                key = (guard, what, int(strata[user]), int(place[user] < level), bin_)  # noqa: B023
                counts[key] = counts.get(key, 0) + 1  # noqa: B023

            for user in seen:
                treated = place[user] < level
                if not entered[user] and not (treated and was_treated[user]):
                    entered[user] = True
                    was_treated[user] |= treated
                    for guard in (-1, 0):
                        count(guard, What.EXPOSED, user)
                    slow = 100 * speed[user] * np.exp(rng.normal(0, 0.4))
                    count(1, What.EXPOSED, user, int(np.floor(np.log(slow) / np.log(1.05))))
                    count(2, What.EXPOSED, user, int(rng.integers(0, 201)))
                if entered[user] and not failed[user] and rng.random() < tendency[user]:
                    failed[user] = True
                    count(0, What.BAD, user)
            judge.add(
                bucket,
                [
                    Cell(
                        guard=guard, what=what, bucket=bucket, stage=number, stratum=stratum,
                        arm=arm, bin=bin_, n=n,
                    )
                    for (guard, what, stratum, arm, bin_), n in sorted(counts.items())
                ],
            )  # fmt: skip
        last_control[entered & (place >= level)] = number
    return judge.judgement(len(levels) * buckets - 1)
