from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprod.stats import forecast


@pytest.mark.parametrize(
    ("base", "worse", "share", "bound"),
    [(0.001, 0.01, 0.01, 220), (0.001, 0.01, 0.5, 701), (0.01, 0.02, 0.05, 828),
     (0.01, 0.012, 0.5, 32908)],
)  # fmt: skip
def test_the_growth_gives_the_information_bound(
    base: float, worse: float, share: float, bound: float
) -> None:
    growth = forecast.growth_per_treated(base, share, worse / base, 1.0)
    assert math.log(20) / growth == pytest.approx(bound, rel=0.005)


@pytest.mark.parametrize(
    ("base", "limit", "share", "bound"), [(0.01, 1.5, 0.01, 3211), (0.001, 2.0, 0.5, 25434)]
)
def test_the_growth_of_promotion_gives_its_bound(
    base: float, limit: float, share: float, bound: float
) -> None:
    growth = forecast.growth_per_treated(base, share, 1.0, limit)
    assert math.log(20) / growth == pytest.approx(bound, rel=0.005)


@given(st.floats(0.001, 0.3), st.floats(0.01, 0.5), st.floats(1.2, 20))
def test_a_larger_regression_is_seen_sooner(base: float, share: float, ratio: float) -> None:
    slow = forecast.growth_per_treated(base, share, ratio, 1.1)
    fast = forecast.growth_per_treated(base, share, ratio * 1.1, 1.1)
    assert fast > slow > 0


@given(st.floats(100, 1e6), st.floats(0.001, 0.1), st.floats(0.01, 0.5))
def test_the_smallest_visible_ratio_needs_just_this_much_traffic(
    treated: float, base: float, share: float
) -> None:
    ratio = forecast.smallest_visible_ratio(treated, base, share, 1.1, 0.01)
    if math.isfinite(ratio):
        needed = forecast.treated_needed(0.01, base, share, ratio, 1.1)
        assert needed == pytest.approx(treated, rel=1e-3)


def test_without_a_control_arm_nothing_is_ever_decided() -> None:
    assert forecast.treated_needed(0.01, 0.01, 1.0, 2.0, 1.1) == math.inf


def test_a_difference_of_rare_errors_grows_by_about_the_margin() -> None:
    assert forecast.difference_growth(0.0, 0.01, 0.05) == pytest.approx(0.01, rel=0.05)
