from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprod.guards import sentence
from inprod.guards.guard import Verdict
from inprod.stats.ratio import Interval

BOUND = st.none() | st.floats(0.02, 50)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Interval(estimate=2.41, low=1.7, high=3.51), "2.4 times as many (1.7 to 3.5)"),
        (Interval(estimate=2.41, low=1.7, high=None), "2.4 times as many (at least 1.7)"),
        (Interval(estimate=0.5, low=None, high=3.0), "0.5 times as many (at most 3)"),
        (Interval(estimate=1.0, low=None, high=None), "1 times as many (no bounds yet)"),
        (Interval(estimate=12.94, low=0.269, high=1240.0), "13 times as many (0.27 to 1,240)"),
        (Interval(estimate=None, low=4.0, high=None), "at least 4 times as many"),
        (Interval(estimate=None, low=None, high=None), "too little yet to compare"),
    ],
)
def test_a_ratio_is_said_with_what_is_known_of_it(interval: Interval, words: str) -> None:
    assert sentence.times(interval) == words


@given(BOUND, BOUND, BOUND)
def test_no_interval_is_ever_said_with_none_or_infinity(
    estimate: float | None, low: float | None, high: float | None
) -> None:
    words = sentence.times(Interval(estimate=estimate, low=low, high=high))
    assert "None" not in words
    assert "inf" not in words


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("eta_s", [None, 750.0])
def test_every_verdict_ends_its_sentence(verdict: Verdict, eta_s: float | None) -> None:
    assert sentence.ending(verdict, eta_s).endswith(".")


def test_an_undecided_guard_says_how_much_longer() -> None:
    assert sentence.ending(Verdict.UNDECIDED, 750) == (
        "Undecided; about 12 min more if it is harmless."
    )


@pytest.mark.parametrize(("value", "words"), [(1234567.0, "1,234,567"), (0.01234, "0.0123")])
def test_numbers_are_short(value: float, words: str) -> None:
    assert sentence.number(value) == words
