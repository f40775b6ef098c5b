from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from inprod.guards.evidence import Cell, What
from inprod.guards.guard import Guard, Kind, Verdict
from support.guards_cells import STAGE, after, cell, judge


def latency_rows(seed: int, *, slower: float, looks: int, unit: int = 200) -> list[list[Cell]]:
    rng = np.random.default_rng(seed)
    rows: list[list[Cell]] = []
    for bucket in range(looks):
        cells: list[Cell] = []
        for arm, n in ((1, unit // 10), (0, unit - unit // 10)):
            values = np.exp(rng.normal(0, 0.6, n)) * (100 * (slower if arm else 1))
            bins = np.floor(np.log(values) / np.log(1.05)).astype(int)
            found = zip(*np.unique(bins, return_counts=True), strict=True)
            cells += [cell(bucket, What.EXPOSED, arm, int(k), bin_=int(v)) for v, k in found]
        rows.append(cells)
    return rows


def test_a_slower_distribution_is_broken_and_an_equal_one_holds_its_quantile() -> None:
    guard = Guard(name="search", kind=Kind.LATENCY, quantile=0.9, slower=1.3)
    stage = replace(STAGE, share=0.1, fresh_share=0.1)
    slow = after(judge(guard, stage=stage), latency_rows(1, slower=1.5, looks=40))
    assert slow.verdict is Verdict.BROKEN
    assert "treated units took over" in slow.sentence
    assert "search: the distribution, judged as a whole, moved up by over 5 %. " in slow.sentence
    same = after(judge(guard, stage=stage), latency_rows(2, slower=1.0, looks=60))
    assert same.verdict is Verdict.HOLDS
    evidence = same.guards[0]
    assert evidence.high is not None
    assert evidence.high < 1
    assert evidence.margin_promote == 1


def test_small_batches_of_units_use_the_design_share_and_stay_silent_in_aa() -> None:
    guard = Guard(name="search", kind=Kind.LATENCY, quantile=0.9, slower=1.3)
    stage = replace(STAGE, share=0.1, fresh_share=0.1)
    rng = np.random.default_rng(4)
    found = judge(guard, stage=stage)
    for bucket in range(600):
        cells: list[Cell] = []
        arms = rng.random(8) < 0.1
        for arm in arms:
            bin_ = int(np.floor(rng.normal(4.6, 0.6) / np.log(1.05)))
            cells.append(cell(bucket, What.EXPOSED, int(arm), 1, bin_=bin_))
        found.add(bucket, cells)
    assert found.judgement(599).guards[0].log_e_abort < math.log(20)


def test_a_mean_is_shown_in_its_own_unit() -> None:
    guard = Guard(name="items", kind=Kind.MEAN, column="items", clip=10.0, margin=1.0)
    rng = np.random.default_rng(6)

    def rows(more: float) -> list[list[Cell]]:
        return [
            [
                cell(bucket, What.EXPOSED, arm, 1, bin_=int(value))
                for arm, n in ((1, 20), (0, 180))
                for value in np.clip(rng.normal(60 + (more if arm else 0), 20, n), 0, 200)
            ]
            for bucket in range(60)
        ]

    same = after(judge(guard), rows(0))
    assert same.verdict is Verdict.HOLDS
    assert same.guards[0].estimate == pytest.approx(0, abs=0.15)
    assert "margin 1. Holds." in same.guards[0].sentence
    worse = after(judge(guard), rows(50))
    assert worse.verdict is Verdict.BROKEN
    assert worse.guards[0].estimate == pytest.approx(2.5, abs=0.2)
