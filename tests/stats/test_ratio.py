from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inprod.stats.ratio import FINE, GRID, NO_RESTARTS, Mixture, RatioTest, Restarts

Batch = tuple[int, int, int, int]


def batches(most: int = 6) -> st.SearchStrategy[list[Batch]]:
    def batch(n: int, m: int, a: float, b: float) -> Batch:
        return n, m, round(a * n), round(b * m)

    one = st.builds(
        batch, st.integers(0, 300), st.integers(0, 3000), st.floats(0, 1), st.floats(0, 1)
    )
    return st.lists(one, max_size=most)


def fed(rows: list[Batch], *, close: bool = True) -> RatioTest:
    test = RatioTest(abort_ratio=1.1, promote_ratio=1.5)
    for n, m, a, b in rows:
        test.add(treated_n=n, control_n=m, treated_bad=a, control_bad=b)
        if close:
            test.close_look()
    return test


def binomial(n: int, k: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


def test_no_data_is_no_evidence() -> None:
    test = fed([(0, 0, 0, 0), (10, 100, 0, 0), (0, 50, 0, 7)])
    assert float(test.log_e_abort()) == pytest.approx(0, abs=1e-12)
    assert float(test.log_e_promote()) == pytest.approx(0, abs=1e-12)
    assert test.p_abort() == 1.0
    assert test.interval(0.05).low is None
    assert test.interval(0.05).high is None


@given(batches(), st.permutations(range(6)))
def test_strata_of_one_look_add_up_in_any_order(rows: list[Batch], order: list[int]) -> None:
    shuffled = [rows[i] for i in order if i < len(rows)]
    one, other = fed(rows, close=False), fed(shuffled, close=False)
    assert float(one.log_e_abort()) == pytest.approx(float(other.log_e_abort()), abs=1e-7)
    assert float(one.log_e_promote()) == pytest.approx(float(other.log_e_promote()), abs=1e-7)


@given(batches())
def test_a_batch_split_into_strata_of_the_same_share_is_the_same_evidence(
    rows: list[Batch],
) -> None:
    halves = [part for n, m, a, b in rows for part in ((2 * n, 2 * m, a, 0), (2 * n, 2 * m, 0, b))]
    one, other = fed(rows, close=False), fed(halves, close=False)
    if all(n and m for n, m, _, _ in rows):
        assert float(one.log_e_abort()) == pytest.approx(float(other.log_e_abort()), abs=1e-6)


@given(batches())
def test_one_more_treated_failure_never_speaks_for_the_treated(rows: list[Batch]) -> None:
    before = fed(rows, close=False)
    after = fed([*rows, (20, 200, 1, 0)], close=False)
    assert float(after.log_e_abort()) >= float(before.log_e_abort()) - 1e-9
    assert float(after.log_e_promote()) <= float(before.log_e_promote()) + 1e-9


@pytest.mark.parametrize("share_known", [False, True])
@pytest.mark.parametrize(("ratio", "base"), [(1.1, 0.1), (1.1, 0.6), (0.5, 0.3), (1.0, 0.02)])
def test_the_abort_e_value_has_mean_at_most_one_in_the_null(
    ratio: float, base: float, share_known: bool
) -> None:
    n, m = 3, 5
    mean = 0.0
    for a1, b1, a2, b2 in itertools.product(range(n + 1), range(m + 1), range(n + 1), range(m + 1)):
        chance = math.prod(
            (
                binomial(n, a1, ratio * base), binomial(m, b1, base),
                binomial(n, a2, ratio * base / 2), binomial(m, b2, base / 2),
            )
        )  # fmt: skip
        test = RatioTest(abort_ratio=1.1, promote_ratio=1.5, restarts=Restarts(every_looks=1))
        share = n / (n + m) if share_known else None
        test.add(treated_n=n, control_n=m, treated_bad=a1, control_bad=b1, share=share)
        test.close_look()
        test.add(treated_n=n, control_n=m, treated_bad=a2, control_bad=b2, share=share)
        mean += chance * math.exp(float(test.log_e_abort()))
    assert mean <= 1 + 1e-9


@pytest.mark.parametrize(("ratio", "base"), [(1.5, 0.1), (1.5, 0.6), (3.0, 0.2)])
def test_the_promote_e_value_has_mean_at_most_one_in_the_null(ratio: float, base: float) -> None:
    n, m = 4, 6
    mean = 0.0
    for a, b in itertools.product(range(n + 1), range(m + 1)):
        test = RatioTest(abort_ratio=1.1, promote_ratio=1.5)
        test.add(treated_n=n, control_n=m, treated_bad=a, control_bad=b)
        chance = binomial(n, a, ratio * base) * binomial(m, b, base)
        mean += chance * math.exp(float(test.log_e_promote()))
    assert mean <= 1 + 1e-9


def test_low_traffic_is_arithmetic() -> None:
    one = RatioTest(abort_ratio=1.0, promote_ratio=1.5, restarts=NO_RESTARTS)
    one.add(treated_n=100, control_n=9900, treated_bad=1, control_bad=0)
    two = RatioTest(abort_ratio=1.0, promote_ratio=1.5, restarts=NO_RESTARTS)
    two.add(treated_n=100, control_n=9900, treated_bad=2, control_bad=0)
    assert 5 < math.exp(float(one.log_e_abort())) < 12
    assert 100 < math.exp(float(two.log_e_abort())) < 250


@given(st.integers(1, 60), st.integers(20, 400), st.floats(0.01, 0.2))
@settings(max_examples=60)
def test_the_interval_contains_its_estimate_and_narrows_with_alpha(
    bad: int, n: int, alpha: float
) -> None:
    test = fed([(n * 10, n * 90, bad, 2 * bad)])
    wide, narrow = test.interval(alpha / 10), test.interval(alpha)
    assert narrow.estimate is not None
    for bounds in (wide, narrow):
        assert bounds.low is None or bounds.low <= narrow.estimate
        assert bounds.high is None or bounds.high >= narrow.estimate
    if wide.low is not None:
        assert narrow.low is not None
        assert narrow.low >= wide.low - 1e-9


def test_the_interval_is_sharp_and_in_the_right_place_with_much_data() -> None:
    test = RatioTest(abort_ratio=1.1, promote_ratio=1.5)
    for _ in range(100):
        test.add(treated_n=10_000, control_n=10_000, treated_bad=220, control_bad=200)
        test.close_look()
    bounds = test.interval(0.05)
    assert bounds.estimate == pytest.approx(1.1, rel=2e-3)
    assert bounds.low is not None
    assert bounds.high is not None
    assert 1.05 < bounds.low < 1.1 < bounds.high < 1.15


def test_restart_weights_never_add_up_to_more_than_all_of_it() -> None:
    restarts = Restarts()
    total = restarts.first + sum(restarts.weight(j) for j in range(1, 200_000))
    assert 0.999 < total <= 1.0


def test_a_late_regression_is_found_sooner_with_restarts() -> None:
    found: dict[str, int] = {}
    for name, restarts in (("plain", NO_RESTARTS), ("served", Restarts())):
        test = RatioTest(abort_ratio=1.0, promote_ratio=1.5, restarts=restarts)
        for look in range(2000):
            test.add(
                treated_n=50, control_n=950, treated_bad=0.5 if look < 500 else 1, control_bad=9.5
            )
            test.close_look()
            if test.p_abort() <= 0.05:
                found[name] = look
                break
    assert found["served"] < found["plain"]


def test_many_copies_at_once_are_the_same_as_one_by_one() -> None:
    rng = np.random.default_rng(5)
    bad, other = rng.binomial(50, 0.1, (4, 3)), rng.binomial(500, 0.1, (4, 3))
    together = RatioTest(abort_ratio=1.1, promote_ratio=1.5, shape=(3,), with_interval=False)
    for look in range(4):
        together.add(treated_n=50, control_n=500, treated_bad=bad[look], control_bad=other[look])
        together.close_look()
    for run in range(3):
        alone = fed([(50, 500, int(bad[look, run]), int(other[look, run])) for look in range(4)])
        assert float(together.log_e_abort()[run]) == pytest.approx(float(alone.log_e_abort()))
        assert float(together.log_e_promote()[run]) == pytest.approx(float(alone.log_e_promote()))


def test_a_billion_clean_requests_do_not_overflow() -> None:
    test = RatioTest(abort_ratio=1.1, promote_ratio=1.5)
    test.add(treated_n=1e9, control_n=1e9, treated_bad=1e7, control_bad=1e7)
    test.close_look()
    assert math.isfinite(float(test.log_e_abort()))
    assert float(test.log_e_promote()) > 1e4
    assert test.p_abort() == 1.0


def test_grids_are_symmetric_and_rising() -> None:
    assert np.allclose(FINE, -FINE[::-1])
    assert (np.diff(FINE) > 0).all()
    assert (np.diff(GRID) > 0).all()


def test_a_mixture_starts_at_an_e_value_of_one() -> None:
    assert float(Mixture(np.ones(5), restarts=Restarts()).log_e()) == pytest.approx(0, abs=1e-12)


def test_peeking_at_armitages_looks_stays_under_five_percent() -> None:
    """The column that Armitage, McPherson and Rowe 1969 would have wanted: theirs rises to .53."""
    rng = np.random.default_rng(77)
    runs = 2000
    test = RatioTest(abort_ratio=1.0, promote_ratio=1.5, shape=(runs,), with_interval=False)
    falsely: dict[int, float] = {}
    for look in range(1, 1001):
        n = rng.binomial(200, 0.5, runs)
        test.add(
            treated_n=n, control_n=200 - n,
            treated_bad=rng.binomial(n, 0.05), control_bad=rng.binomial(200 - n, 0.05),
        )  # fmt: skip
        test.close_look()
        if look in (1, 2, 5, 10, 20, 50, 100, 1000):
            falsely[look] = float((np.asarray(test.log_e_abort_max) >= math.log(20)).mean())
    assert max(falsely.values()) <= 0.05
    assert sorted(falsely.values()) == list(falsely.values())


def test_a_ramp_with_a_drifting_base_rate_fools_nobody() -> None:
    rng = np.random.default_rng(8)
    runs = 1000
    test = RatioTest(abort_ratio=1.0, promote_ratio=1.5, shape=(runs,), with_interval=False)
    for look in range(200):
        share, base = (0.01, 0.05, 0.25, 0.5)[look // 50], 0.005 + 0.025 * look / 200
        n = rng.binomial(1000, share, runs)
        test.add(
            treated_n=n, control_n=1000 - n,
            treated_bad=rng.binomial(n, base), control_bad=rng.binomial(1000 - n, base),
        )  # fmt: skip
        test.close_look()
    assert (np.asarray(test.log_e_abort_max) >= math.log(20)).mean() <= 0.05
