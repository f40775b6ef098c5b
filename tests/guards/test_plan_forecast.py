from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprod.errors import Invalid
from inprod.guards.forecast import forecast_plan, smallest_visible


def test_the_forecast_says_how_long_and_what_would_be_better() -> None:
    plan = forecast_plan(rate_per_s=2, share_percent=1, base_percent=1)
    assert plan.abort_s is not None
    assert 12 * 3600 < plan.abort_s < 40 * 3600
    assert plan.better_percent is not None
    assert plan.sentence.startswith("At 2 units/s, a share of 1 % and a base rate of 1 %, 2 times")
    assert f"With {plan.better_percent:g} %" in plan.sentence


@given(st.floats(0.1, 1e4), st.floats(0.1, 50), st.floats(0.01, 20))
def test_more_traffic_never_takes_longer(rate: float, share: float, base: float) -> None:
    slow = forecast_plan(rate_per_s=rate, share_percent=share, base_percent=base)
    fast = forecast_plan(rate_per_s=2 * rate, share_percent=share, base_percent=base)
    assert slow.promote_s is not None
    assert fast.promote_s is not None
    assert fast.promote_s <= slow.promote_s
    assert slow.sentence


@pytest.mark.parametrize(
    ("given_", "where"),
    [
        ({"rate_per_s": 0.0}, "rate_per_s"),
        ({"share_percent": 101.0}, "share_percent"),
        ({"base_percent": 0.0}, "base_percent"),
        ({"effect": 1.0}, "effect"),
        ({"weight": 0.0}, "weight"),
    ],
)
def test_numbers_that_cannot_be_are_refused(given_: dict[str, float], where: str) -> None:
    asked = {"rate_per_s": 10.0, "share_percent": 5.0, "base_percent": 1.0} | given_
    with pytest.raises(Invalid) as caught:
        forecast_plan(**asked)
    assert caught.value.where == where


def test_what_is_visible_by_now_shrinks_with_traffic() -> None:
    few = smallest_visible(treated_n=500, base=0.01, share=0.05, abort_ratio=1.1, level=0.01)
    many = smallest_visible(treated_n=50_000, base=0.01, share=0.05, abort_ratio=1.1, level=0.01)
    assert few is not None
    assert many is not None
    assert many < few
