"""What the promise of alpha stands on: who is counted, and against which share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from inprod.events.event import Event
from inprod.guards.arms import Arms, Window
from inprod.guards.cells import Count
from inprod.guards.evidence import Cell, What
from inprod.guards.guard import Guard, Kind, Verdict
from inprod.testing.clock import NS, Clock
from inprod.testing.collector import SlowCollector
from support.guards_cells import STAGE, after, cell, counts, judge

ERRORS = Guard(name="checkout-errors", kind=Kind.ERRORS)
RETRIES = Guard(name="retries", kind=Kind.RATE)


def event(user: int, *, is_treated: bool) -> Event:
    return Event(
        time_ns=0, dataset="shop", name="GET", error=True,
        strings={
            "deployment.environment.name": "production", "user.id": f"u{user}",
            "flag.x": "on" if is_treated else "off",
        },
    )  # fmt: skip


def test_one_user_who_matches_for_ever_is_one_match() -> None:
    """A single treated user with a broken browser is no evidence, however often it retries."""
    clock = Clock()
    collector = SlowCollector(now_ns=clock.now_ns)
    first = clock.now_ns() // NS
    for second in range(30):
        users = [event(20 * second + i, is_treated=i == 0) for i in range(20)]
        collector.append(users + [event(0, is_treated=True)] * 20)
        clock.advance(1)
    count = Count(
        environment="production", arms=Arms(attribute="flag.x", treated="on", control="off"),
        guards=(RETRIES,), windows=(Window(stage=0, start=first),), batch_ms=1000, start=first,
        last=first - 1, closed=first + 29,
    )  # fmt: skip
    rows: list[list[Cell]] = [[] for _ in range(30)]
    for one in collector.collect(count).cells:
        rows[one.bucket - first].append(one)
    assert sum(c.n for row in rows for c in row if c.what is What.BAD) == 600
    judgement = after(judge(RETRIES, alpha=0.05), rows)
    assert judgement.verdict is not Verdict.BROKEN
    assert judgement.guards[0].log_e_abort < 0.1
    assert "30 of 30 treated against 570 of 570 control units matched" in judgement.sentence


def test_units_that_fail_at_once_are_not_compared_with_the_luck_of_earlier_ones() -> None:
    """Of the first thousand too few were treated; those who come later fail by the split."""
    rows = [counts(0, (20, 0), (980, 0))] + [counts(b, (1, 1), (19, 19)) for b in range(1, 60)]
    judgement = after(judge(ERRORS, alpha=0.05, stage=STAGE), rows)
    assert judgement.verdict is not Verdict.BROKEN
    assert judgement.guards[0].log_e_abort < 0.1


def test_a_lucky_draw_of_the_treated_does_not_promote() -> None:
    """Of the first thousand too many were treated; those who come later fail 1.5 times as often."""
    rows = [counts(0, (200, 0), (800, 0))]
    rows += [counts(b, (10, 9), (190, 114)) for b in range(1, 20)]
    assert after(judge(ERRORS), rows).guards[0].log_e_promote < 0.1


def test_a_tolerance_between_two_steps_lets_everything_within_it_pass() -> None:
    """7 % slower is within a tolerance of 7 %, though bins are 5 % wide."""
    guard = Guard(name="search", kind=Kind.LATENCY, abort_slower=1.07)
    found = judge(guard, alpha=0.05, stage=replace(STAGE, share=0.5, fresh_share=0.5))
    rng = np.random.default_rng(3)
    for bucket in range(40):
        values = np.exp(rng.normal(0, 0.1, 1000)) * 100
        cells: list[Cell] = []
        for arm in (0, 1):
            some = values[arm::2] * (1.069 if arm else 1)
            bins, n = np.unique(
                np.floor(np.log(some) / np.log(1.05)).astype(int), return_counts=True
            )
            cells += [
                cell(bucket, What.EXPOSED, arm, int(k), bin_=int(place))
                for place, k in zip(bins, n, strict=True)
            ]
        found.add(bucket, cells)
    assert found.judgement(39).verdict is not Verdict.BROKEN
