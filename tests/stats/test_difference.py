from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprod.stats.difference import DifferenceTest, MeanSums, asymptotic_half_width

VALUES = np.array([0.0, 1.0])


def counts(n: int, bad: int) -> np.ndarray:
    return np.array([n - bad, bad], dtype=float)


def binomial(n: int, k: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize(("side", "gap"), [("abort", 0.1), ("abort", -0.1), ("promote", 0.1)])
def test_the_e_value_has_mean_at_most_one_in_the_null(side: str, gap: float) -> None:
    base, n, m = 0.3, 3, 5
    mean = 0.0
    for a, b in itertools.product(range(n + 1), range(m + 1)):
        test = DifferenceTest(margin=0.1)
        test.add(VALUES, counts(0, 0), counts(10, 4))
        test.add(VALUES, counts(n, a), counts(m, b))
        log_e = test.log_e_abort() if side == "abort" else test.log_e_promote()
        mean += binomial(n, a, base + gap) * binomial(m, b, base) * math.exp(float(log_e))
    assert mean <= 1 + 1e-9


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1)), max_size=6))
def test_bets_never_go_bankrupt(rows: list[tuple[int, float]]) -> None:
    test = DifferenceTest(margin=0.05)
    for n, part in rows:
        bad = round(part * n)
        test.add(VALUES, counts(n, bad), counts(20 * n, 20 * n - bad))
        test.close_look()
    assert math.isfinite(float(test.log_e_abort()))
    assert math.isfinite(float(test.log_e_promote()))


def test_zero_errors_promote_after_about_six_over_the_margin() -> None:
    test = DifferenceTest(margin=0.01)
    seen = 0
    while float(test.log_e_promote()) < math.log(20):
        test.add(VALUES, counts(10, 0), counts(190, 0))
        seen += 10
    assert 300 <= seen <= 700


def test_no_data_changes_nothing() -> None:
    test = DifferenceTest(margin=0.01)
    test.add(VALUES, counts(100, 1), counts(900, 9))
    test.add(VALUES, counts(100, 1), counts(900, 9))
    before = float(test.log_e_abort()), float(test.log_e_promote())
    test.add(VALUES, counts(0, 0), counts(0, 0))
    assert (float(test.log_e_abort()), float(test.log_e_promote())) == before


def test_a_larger_mean_is_aborted_and_an_equal_one_promoted() -> None:
    rng = np.random.default_rng(1)
    worse, same = DifferenceTest(margin=0.02), DifferenceTest(margin=0.02)
    for _ in range(100):
        control = counts(500, int(rng.binomial(500, 0.1)))
        worse.add(VALUES, counts(100, int(rng.binomial(100, 0.2))), control)
        same.add(VALUES, counts(100, int(rng.binomial(100, 0.1))), control)
        worse.close_look()
        same.close_look()
    assert float(worse.log_e_abort()) > math.log(100)
    assert float(same.log_e_promote()) > math.log(20)


def test_false_promotes_on_the_margin_are_rare() -> None:
    rng = np.random.default_rng(2)
    runs = 600
    test = DifferenceTest(margin=0.01, shape=(runs,))
    highest = np.zeros(runs)
    for _ in range(150):
        n = rng.binomial(400, 0.2, runs)
        bad, other = rng.binomial(n, 0.02), rng.binomial(400 - n, 0.01)
        test.add(
            VALUES, np.stack([n - bad, bad], 1).astype(float),
            np.stack([400 - n - other, other], 1).astype(float),
        )  # fmt: skip
        highest = np.maximum(highest, test.log_e_promote())
    assert (highest >= math.log(20)).mean() <= 0.05


def test_means_are_compared_within_strata() -> None:
    sums = MeanSums()
    # Simpson: the treated are better in both strata, and worse when pooled.
    sums.add((0, 0), VALUES, counts(1000, 80), counts(99_000, 9_900))
    sums.add((1, 0), VALUES, counts(9000, 3600), counts(1000, 500))
    estimate = sums.interval(0.05).estimate
    assert estimate is not None
    assert estimate < 0
    treated, control = sums.means()
    assert treated - control == pytest.approx(estimate)  # what is shown does not contradict itself


def test_the_asymptotic_interval_shrinks_with_data() -> None:
    widths = [asymptotic_half_width(n, 0.25 / n, 0.05) for n in (100, 1000, 10_000)]
    assert widths == sorted(widths, reverse=True)
