from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprod.stats.combine import (
    all_reached,
    anytime_p,
    culprits,
    log_add,
    log_mean_exp,
    log_needed,
    log_weighted_mean,
    shares,
)

LOG_ES = st.lists(st.floats(-500, 500), min_size=1, max_size=20)


@given(LOG_ES)
def test_the_weighted_mean_lies_between_the_extremes(log_es: list[float]) -> None:
    weights = shares([1.0] * len(log_es))
    mean = log_weighted_mean(log_es, weights)
    assert min(log_es) - 1e-9 <= mean <= max(log_es) + 1e-9
    assert mean == pytest.approx(float(log_mean_exp(np.array(log_es))), abs=1e-9)


@given(LOG_ES, st.floats(0.001, 0.2))
def test_the_mean_fires_no_later_than_bonferroni(log_es: list[float], alpha: float) -> None:
    weights = shares([1.0] * len(log_es))
    if culprits(log_es, weights, alpha):
        assert log_weighted_mean(log_es, weights) >= -math.log(alpha) - 1e-9


def test_weight_left_over_stays_an_e_value_of_one() -> None:
    assert log_weighted_mean([], []) == 0
    assert log_weighted_mean([math.log(9)], [0.5]) == pytest.approx(math.log(5))


def test_the_strongest_culprit_is_named_first() -> None:
    weights = shares([1, 1, 2])
    assert culprits([10.0, 1.0, 12.0], weights, 0.01) == [2, 0]


def test_every_promote_guard_must_be_convinced() -> None:
    assert all_reached([3.0, 4.0], 0.05)
    assert not all_reached([2.9, 40.0], 0.05)


def test_the_anytime_p_value_is_never_over_one() -> None:
    assert anytime_p(-5) == 1
    assert anytime_p(math.log(100)) == pytest.approx(0.01)


@given(st.floats(-700, 700), st.floats(-700, 700))
def test_log_add_is_the_logarithm_of_the_sum(one: float, other: float) -> None:
    assert log_add(one, other) == pytest.approx(float(np.logaddexp(one, other)))


def test_a_guard_with_half_the_weight_needs_twice_the_evidence() -> None:
    assert log_needed(0.01, 0.5) == pytest.approx(math.log(200))
    assert log_needed(0.01, 0) == pytest.approx(math.log(100))
