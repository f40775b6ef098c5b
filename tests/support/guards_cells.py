"""Cells by hand, and a judge to feed them to."""

from __future__ import annotations

from collections.abc import Sequence

from inprod.guards.evidence import Cell, Judgement, Stage, What
from inprod.guards.guard import Guard
from inprod.guards.judge import Judge

STAGE = Stage(number=0, start_bucket=0, share=0.05, fresh_share=0.05)


def judge(*guards: Guard, alpha: float = 0.01, stage: Stage = STAGE) -> Judge:
    found = Judge(guards, alpha=alpha, beta=0.05, batch_s=5.0, stale_s=60.0)
    found.stage(stage)
    return found


def cell(
    bucket: int, what: What, arm: int, n: int, *, guard: int = 0, stratum: int = 0, stage: int = 0,
    bin_: int = 0, value: float = 0.0,
) -> Cell:  # fmt: skip
    return Cell(
        guard=guard, what=what, bucket=bucket, stage=stage, stratum=stratum, arm=arm, bin=bin_,
        n=n, value=value,
    )  # fmt: skip


def counts(
    bucket: int, treated: tuple[int, int], control: tuple[int, int], *, guard: int = 0,
    stratum: int = 0, stage: int = 0,
) -> list[Cell]:  # fmt: skip
    return [
        cell(bucket, what, arm, n, guard=guard, stratum=stratum, stage=stage)
        for arm, pair in ((1, treated), (0, control))
        for what, n in zip((What.EXPOSED, What.BAD), pair, strict=True)
        if n
    ]


def exposures(bucket: int, treated: int, control: int, **where: int) -> list[Cell]:
    return counts(bucket, (treated, 0), (control, 0), guard=-1, **where)


def after(found: Judge, rows: Sequence[Sequence[Cell]]) -> Judgement:
    for bucket, cells in enumerate(rows):
        found.add(bucket, cells)
    return found.judgement(len(rows) - 1)
