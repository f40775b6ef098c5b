from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inprod.stats.histogram import (
    BIN_RATIO,
    CLIP,
    LEARN_FIRST,
    HistogramTest,
    density_ratios,
    isotonic,
)
from inprod.stats.ratio import NO_RESTARTS


def binned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bins, counts = np.unique(
        np.floor(np.log(values) / math.log(BIN_RATIO)).astype(np.int64), return_counts=True
    )
    return bins, counts.astype(float)


def lognormal(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.exp(rng.normal(0, 0.6, n)) * 100


def run(factor: float, *, seed: int, looks: int = 60, tolerance_bins: int = 0) -> HistogramTest:
    rng = np.random.default_rng(seed)
    test = HistogramTest(tolerance_bins=tolerance_bins)
    for _ in range(looks):
        mine, counts = binned(lognormal(rng, 20) * factor)
        other, others = binned(lognormal(rng, 380))
        test.add(treated_bins=mine, treated=counts, control_bins=other, control=others)
        test.learn(other, others)
        test.close_look()
    return test


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 10)), min_size=1, max_size=40))
def test_the_isotonic_fit_rises_and_keeps_the_weighted_mean(
    pairs: list[tuple[float, float]],
) -> None:
    values, weights = (np.array(column) for column in zip(*pairs, strict=True))
    fit = isotonic(values, weights)
    assert (np.diff(fit) >= -1e-9).all()
    assert fit @ weights == pytest.approx(values @ weights, rel=1e-9, abs=1e-9)


@given(st.lists(st.integers(0, 50), min_size=5, max_size=60).filter(any))
@settings(max_examples=40)
def test_density_ratios_rise_and_stay_within_the_clip(counts: list[int]) -> None:
    ratios = density_ratios(np.array(counts, dtype=float))
    assert (np.diff(ratios, axis=1) >= -1e-9).all()
    assert ratios.min() >= 1 / CLIP
    assert ratios.max() <= CLIP


def test_nothing_is_bet_before_enough_control_is_known() -> None:
    test = HistogramTest()
    bins, counts = np.array([90]), np.array([10.0])
    test.add(treated_bins=bins + 20, treated=counts, control_bins=bins, control=counts)
    test.close_look()
    assert test.log_e_abort() == pytest.approx(0, abs=1e-12)
    test.learn(bins, np.array([float(LEARN_FIRST)]))
    assert test.builds == 1


def test_the_e_value_has_mean_at_most_one_whatever_was_learned() -> None:
    learned = np.array([88, 90, 92, 95]), np.array([40.0, 30.0, 20.0, 10.0])
    places, chances = [88, 90, 95], [0.5, 0.2, 0.3]  # not what was learned
    mean = 0.0
    for picks in itertools.product(range(3), repeat=5):
        test = HistogramTest(restarts=NO_RESTARTS)
        test.learn(*learned)
        counts = np.zeros((2, 3))
        for number, pick in enumerate(picks):
            counts[int(number < 2), pick] += 1
        test.add(
            treated_bins=np.array(places), treated=counts[1],
            control_bins=np.array(places), control=counts[0],
        )  # fmt: skip
        mean += math.prod(chances[pick] for pick in picks) * math.exp(test.log_e_abort())
    assert mean <= 1 + 1e-9


def test_a_slower_treated_arm_is_found_and_an_equal_one_is_not() -> None:
    assert run(1.5, seed=1).log_e_abort_max > math.log(1000)
    assert run(1.0, seed=2).log_e_abort_max < math.log(20)
    assert run(0.7, seed=3).log_e_abort_max < math.log(2)


def test_a_slowdown_within_the_tolerance_is_let_pass() -> None:
    assert run(1.05, seed=4, looks=300, tolerance_bins=2).log_e_abort_max < math.log(20)
    assert run(1.5, seed=4, tolerance_bins=1).log_e_abort_max > math.log(100)


def test_the_learned_quantile_splits_the_control_values() -> None:
    test = HistogramTest()
    test.learn(np.arange(10, 110), np.ones(100))
    place = test.quantile_bin(0.9)
    assert test.share_above(place) == pytest.approx(0.1)
    assert test.share_above(place - 1) > 0.1


def test_the_quantile_follows_when_the_control_drifts() -> None:
    test = HistogramTest()
    for _ in range(10):
        test.learn(np.array([50]), np.array([10_000.0]))
    for _ in range(60):
        test.learn(np.array([80]), np.array([10_000.0]))
    assert test.quantile_bin(0.5) == 80


def test_aa_latency_is_rarely_falsely_aborted() -> None:
    falsely = sum(
        run(1.0, seed=seed, looks=40).log_e_abort_max >= math.log(20) for seed in range(60)
    )
    assert falsely <= 6  # at 5 %, more than 6 of 60 has a chance of 3 %
