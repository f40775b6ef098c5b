from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inprod.events.query import Calculate, Filter
from inprod.guards.evidence import Stage, What
from inprod.guards.guard import Guard, Kind, Unit, Verdict
from inprod.guards.judge import COMBINED
from inprod.operators import Op
from support.guards_cells import STAGE, after, cell, counts, exposures, judge
from support.guards_traffic import TwentyGuards

ERRORS = Guard(name="checkout-errors", kind=Kind.ERRORS)
EVENTS = replace(ERRORS, unit=Unit.EVENT)


def test_a_broken_guard_says_what_a_person_wants_to_read() -> None:
    rows = [exposures(b, 190, 3512) + counts(b, (190, 4), (3512, 31)) for b in range(10)]
    judgement = after(judge(ERRORS), rows)
    assert judgement.verdict is Verdict.BROKEN
    assert judgement.culprit == "checkout-errors"
    assert judgement.sentence.startswith(
        "checkout-errors: 40 of 1,900 treated against 310 of 35,120 control units failed: 2.4 times"
    )
    assert judgement.sentence.endswith(", limit 1.1. Broken.")
    evidence = judgement.guards[0]
    assert evidence.low is not None
    assert evidence.high is not None
    assert 1.1 < evidence.low < 2.4 < evidence.high


def test_a_harmless_change_holds_and_is_forecast_before() -> None:
    rng = np.random.default_rng(3)
    found = judge(ERRORS)
    forecast: list[float] = []
    for bucket in range(400):
        bad = int(rng.binomial(100, 0.02)), int(rng.binomial(1900, 0.02))
        found.add(
            bucket, exposures(bucket, 100, 1900) + counts(bucket, (100, bad[0]), (1900, bad[1]))
        )
        judgement = found.judgement(bucket)
        if judgement.verdict is Verdict.HOLDS:
            break
        assert judgement.verdict is Verdict.UNDECIDED
        if judgement.guards[0].eta_s is not None:
            forecast.append(judgement.guards[0].eta_s + 5.0 * bucket)
    assert judgement.verdict is Verdict.HOLDS
    assert "guards hold" in judgement.sentence
    assert forecast[5] == pytest.approx(5.0 * bucket, rel=1.0)


def test_the_same_cells_give_the_same_judgement_however_often_one_asks() -> None:
    one, other = TwentyGuards(7, treated_bad=0.02), TwentyGuards(7, treated_bad=0.02)
    asked, unasked = one.judge(), other.judge()
    for bucket in range(60):
        asked.add(bucket, one.cells(bucket))
        asked.judgement(bucket)
        unasked.add(bucket, other.cells(bucket))
    assert asked.judgement(59) == unasked.judgement(59)


def test_a_bucket_added_twice_counts_once() -> None:
    rows = [counts(b, (190, 4), (3512, 31)) for b in range(5)]
    once, twice = judge(ERRORS), judge(ERRORS)
    for bucket, cells in enumerate(rows):
        once.add(bucket, cells)
        twice.add(bucket, cells)
        twice.add(bucket, cells)
    assert once.judgement(4) == twice.judgement(4)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 300)), min_size=1, max_size=5))
@settings(max_examples=30)
def test_no_data_changes_no_evidence(rows: list[tuple[int, int]]) -> None:
    found = judge(ERRORS)
    for bucket, (n, m) in enumerate(rows):
        found.add(bucket, counts(bucket, (n, n // 10), (m, m // 50)))
    before = found.judgement(len(rows) - 1).guards[0]
    found.add(len(rows), [])
    then = found.judgement(len(rows)).guards[0]
    assert (then.log_e_abort, then.log_e_promote) == (before.log_e_abort, before.log_e_promote)


def test_a_unit_that_turned_bad_is_no_longer_at_risk() -> None:
    found = judge(ERRORS)
    found.add(0, counts(0, (100, 50), (100, 0)))
    found.add(1, counts(1, (0, 1), (0, 1)))
    risk = found._watches[0]._risk[0, 0]
    assert risk == [99.0, 49.0]


def test_strata_are_compared_with_their_own_share() -> None:
    """At a later stage, old control units are treated less often than new ones: no evidence."""
    stage = Stage(number=1, start_bucket=0, share=0.5, fresh_share=0.1, shares=(0.5, 0.1))
    found = judge(ERRORS, stage=stage)
    for bucket in range(200):
        fresh = counts(bucket, (100, 10), (100, 10), stage=1)
        old = counts(bucket, (10, 0), (90, 0), stage=1, stratum=1)
        seen = exposures(bucket, 100, 100, stage=1) + exposures(bucket, 10, 90, stage=1, stratum=1)
        found.add(bucket, fresh + old + seen)
    judgement = found.judgement(199)
    assert not judgement.suspect
    assert judgement.guards[0].log_e_abort < 1
    assert judgement.treated_units == 200 * 110
    assert judgement.control_units == 200 * 100


def test_a_split_that_is_off_makes_the_rollout_suspect_even_without_a_guard_for_it() -> None:
    rows = [exposures(b, 100, 900) + counts(b, (100, 1), (900, 9)) for b in range(400)]
    judgement = after(judge(ERRORS), rows)
    assert "sample ratio: 40,000 of 400,000 units are treated over all steps" in judgement.suspect
    assert "where 5 % were meant" in judgement.suspect
    assert judgement.guards[0].verdict is Verdict.UNDECIDED  # nor does it speak for promotion
    assert judgement.verdict is Verdict.UNDECIDED
    assert judgement.sentence.startswith("Suspect: ")


def test_a_sample_ratio_guard_uses_the_rollouts_exposures() -> None:
    rows = [exposures(b, 50, 950) for b in range(40)]
    judgement = after(judge(Guard(name="split", kind=Kind.SAMPLE_RATIO)), rows)
    assert judgement.guards[0].verdict is Verdict.HOLDS
    assert judgement.guards[0].estimate == pytest.approx(0.05)
    assert judgement.guards[0].sentence == (
        "split: 2,000 of 40,000 units are treated over all steps,"
        " 5 % where 5 % were meant. As designed."
    )
    off = after(
        judge(Guard(name="split", kind=Kind.SAMPLE_RATIO)),
        [exposures(b, 100, 900) for b in range(40)],
    )
    assert off.guards[0].verdict is Verdict.BROKEN
    assert off.suspect
    assert off.verdict is not Verdict.BROKEN


def test_missing_outcomes_make_it_suspect_and_never_roll_back() -> None:
    outcome = (Filter(column="name", op=Op.EQUAL, value="paid"),)
    guard = Guard(name="paid", kind=Kind.COMPLETENESS, outcome=outcome)
    rows = [counts(b, (50, 20), (950, 20)) for b in range(20)]
    judgement = after(judge(guard), rows)
    assert judgement.guards[0].verdict is Verdict.BROKEN
    assert judgement.verdict is Verdict.UNDECIDED
    assert "400 of 1,000 treated" in judgement.suspect
    silent = after(judge(guard), [counts(b, (50, 50), (950, 950)) for b in range(20)])
    assert silent.guards[0].verdict is Verdict.NO_OUTCOMES


def test_control_without_treated_is_no_exposures_and_exposure_without_outcome_no_outcomes() -> None:
    found = judge(ERRORS)
    found.add(0, counts(0, (0, 0), (50, 1)))
    assert found.judgement(0).verdict is Verdict.UNDECIDED
    found.add(1, counts(1, (0, 0), (500, 1)))
    assert found.judgement(1).verdict is Verdict.NO_EXPOSURES
    found.add(2, exposures(2, 30, 500))
    assert found.judgement(2).verdict is Verdict.NO_OUTCOMES
    nothing = after(judge(ERRORS), [exposures(0, 30, 500)])
    assert nothing.verdict is Verdict.NO_OUTCOMES
    assert "nothing to judge" in nothing.sentence


def test_silence_is_stale_and_quiet_units_are_not() -> None:
    silent = judge(ERRORS)
    for bucket in range(12):
        silent.add(bucket, [])
    assert silent.judgement(11).verdict is Verdict.UNDECIDED
    silent.add(12, [])
    assert silent.judgement(12).verdict is Verdict.STALE

    quiet = judge(ERRORS)
    quiet.add(0, counts(0, (50, 1), (950, 9)))
    for bucket in range(1, 50):
        quiet.add(bucket, [])
    assert quiet.judgement(49).verdict is Verdict.UNDECIDED

    told = judge(ERRORS)
    told.add(0, [cell(0, What.VALUE, 0, 10, guard=-1), *counts(0, (50, 1), (950, 9))])
    for bucket in range(1, 50):
        told.add(bucket, [])
    assert told.judgement(49).verdict is Verdict.STALE


def test_a_threshold_breaks_once_its_window_is_full() -> None:
    guard = Guard(
        name="queue", kind=Kind.THRESHOLD, calculate=Calculate.AVG, column="age_s", ceiling=10.0,
        over_s=15.0,
    )  # fmt: skip
    found = judge(guard)
    found.add(0, [cell(0, What.VALUE, 1, 3, value=99.0)])
    assert found.judgement(0).verdict is Verdict.UNDECIDED
    found.add(1, [cell(1, What.VALUE, 1, 3, value=9.0)])
    found.add(2, [cell(2, What.VALUE, 1, 3, value=8.0)])
    assert found.judgement(2).verdict is Verdict.HOLDS
    found.add(3, [cell(3, What.VALUE, 1, 3, value=11.5)])
    found.add(4, [cell(4, What.VALUE, 1, 3, value=1.0)])
    judgement = found.judgement(4)
    assert judgement.verdict is Verdict.BROKEN
    assert judgement.sentence == (
        "queue: AVG(age_s) over 15 s was 11.5, over the ceiling of 10. Broken."
    )


def test_a_count_over_its_ceiling_breaks_at_once_and_none_at_all_holds() -> None:
    guard = Guard(
        name="mismatches", kind=Kind.THRESHOLD, calculate=Calculate.COUNT, ceiling=5.0, over_s=15.0
    )
    found = judge(guard)
    found.add(0, [cell(0, What.VALUE, 1, 6, value=6.0)])
    assert found.judgement(0).verdict is Verdict.BROKEN
    calm = judge(guard)
    for bucket in range(4):
        calm.add(bucket, exposures(bucket, 5, 95))
    assert calm.judgement(3).verdict is Verdict.HOLDS


@pytest.mark.parametrize("unit", list(Unit))
def test_with_a_margin_zero_errors_hold_too(unit: Unit) -> None:
    without = replace(ERRORS, unit=unit)
    guard = replace(without, margin=0.01, timeout_s=10.0)
    rows = [counts(b, (20, 0), (380, 0)) for b in range(50)]
    assert after(judge(without), rows).verdict is Verdict.UNDECIDED
    judgement = after(judge(guard), rows)
    assert judgement.verdict is Verdict.HOLDS
    assert "0 of 1,000 treated against 0 of 19,000 control" in judgement.guards[0].sentence


def test_units_on_the_margin_are_rarely_promoted() -> None:
    """Units that turn bad up to 10 s after they came, one point more often when treated."""
    guard = replace(ERRORS, margin=0.01, timeout_s=10.0, promote_ratio=1.5)
    falsely = 0
    rng = np.random.default_rng(11)
    for _ in range(60):
        found = judge(guard, stage=replace(STAGE, share=0.2))
        held = False
        later: dict[int, list[int]] = {}
        for bucket in range(80):
            for arm, n, chance in ((1, 40, 0.02), (0, 160, 0.01)):
                for delay in rng.integers(0, 3, rng.binomial(n, chance)):
                    later.setdefault(bucket + int(delay), [0, 0])[arm] += 1
            bad = later.pop(bucket, [0, 0])
            found.add(bucket, counts(bucket, (40, bad[1]), (160, bad[0])))
            held = held or found._watches[0]._log_e_promote() >= math.log(20)
        falsely += held
    assert falsely <= 7  # at 5 %, more than 7 of 60 has a chance of 1 %


def test_weak_evidence_from_several_guards_is_combined() -> None:
    guards = [replace(EVENTS, name=f"errors-{i}") for i in range(4)]
    found = judge(*guards, alpha=0.05)
    culprit = ""
    for bucket in range(60):
        cells = [c for g in range(4) for c in counts(bucket, (50, 2), (950, 19), guard=g)]
        found.add(bucket, cells)
        judgement = found.judgement(bucket)
        if judgement.verdict is Verdict.BROKEN:
            culprit = judgement.culprit
            assert "together speak against it" in judgement.sentence
            assert judgement.log_e_abort >= math.log(20)
            break
    assert culprit == COMBINED


def test_a_watched_guard_never_decides() -> None:
    watched = replace(EVENTS, name="watched", required=False)
    rows = [
        counts(b, (50, 25), (950, 10)) + counts(b, (50, 0), (950, 10), guard=1) for b in range(100)
    ]
    judgement = after(judge(watched, EVENTS), rows)
    assert judgement.guards[0].verdict is Verdict.BROKEN
    assert judgement.culprit == ""
    assert judgement.verdict is Verdict.HOLDS


def test_broken_stays_broken() -> None:
    rows = [counts(b, (50, 10), (950, 9)) for b in range(5)]
    rows += [counts(b, (50, 0), (950, 50)) for b in range(5, 200)]
    judgement = after(judge(EVENTS), rows)
    assert judgement.guards[0].log_e_abort < judgement.guards[0].log_e_abort_needed
    assert judgement.verdict is Verdict.BROKEN
    assert judgement.culprit == "checkout-errors"


def test_a_rate_counts_the_matching_among_all_exposed() -> None:
    guard = Guard(name="retries", kind=Kind.RATE)
    judgement = after(judge(guard), [counts(b, (50, 30), (950, 190)) for b in range(5)])
    assert judgement.verdict is Verdict.BROKEN
    assert "150 of 250 treated against 950 of 4,750 control units matched" in judgement.sentence


def test_without_guards_there_is_nothing_to_break() -> None:
    assert after(judge(), [exposures(0, 5, 95)]).verdict is Verdict.HOLDS


def test_aa_rollouts_with_several_guards_are_rarely_rolled_back() -> None:
    rng = np.random.default_rng(21)
    guards = [replace(EVENTS, name=f"e{i}", abort_ratio=1.0) for i in range(3)]
    falsely = 0
    for _ in range(60):
        found = judge(*guards, alpha=0.05)
        for bucket in range(60):
            cells = [
                c
                for g in range(3)
                for c in counts(
                    bucket, (10, int(rng.binomial(10, 0.05))),
                    (190, int(rng.binomial(190, 0.05))), guard=g,
                )
            ]  # fmt: skip
            found.add(bucket, cells)
        falsely += found.judgement(59).verdict is Verdict.BROKEN
    assert falsely <= 7  # at 5 %, more than 7 of 60 has a chance of 1 %
