"""Published outputs of savvi 0.3 (Lindon and Malek 2022), reproduced and compared live."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from inprod.stats import srm
from inprod.stats.ratio import RatioTest

ALPHA = 0.05


def streams() -> tuple[np.ndarray, np.ndarray]:
    """Return the streams of savvi's canary and sample-ratio examples."""
    rho, delta = np.array([0.8, 0.2]), np.array([1.5, 2.0])
    theta = rho * np.exp(delta) / np.sum(rho * np.exp(delta))
    np.random.seed(1)  # the examples use the legacy generator
    canary = np.random.multinomial(1, theta, size=1000)
    np.random.seed(1)
    ratio = np.random.multinomial(1, [0.1, 0.3, 0.6], size=1000)
    return canary, ratio


def logit(share: float) -> float:
    """Return the log odds; the ends of the unit interval are infinitely far away."""
    with np.errstate(divide="ignore"):
        return float(np.log(share) - np.log1p(-share))


def test_the_published_canary_example_is_reproduced_exactly() -> None:
    shares = (0.8, 0.2)
    counts = np.zeros(2)
    p, low, high = 1.0, -math.inf, math.inf
    for one in streams()[0]:
        counts += one
        p = min(p, math.exp(-srm.log_e(counts, shares)))
        bounds = srm.interval(counts, shares, ALPHA)[1]
        log_ratio = [logit(share) - logit(0.2) for share in bounds]
        low, high = max(low, log_ratio[0]), min(high, log_ratio[1])
        if p <= ALPHA:
            break
    assert counts.sum() == 210
    assert p == pytest.approx(0.045579631759249686, rel=1e-12)
    assert (low, high) == (pytest.approx(0.00464625, abs=5e-9), pytest.approx(0.75493987, abs=5e-9))


def test_the_published_sample_ratio_example_is_reproduced_exactly() -> None:
    shares = (0.1, 0.4, 0.5)
    counts = np.zeros(3)
    p = 1.0
    bounds = [(0.0, 1.0)] * 3
    for one in streams()[1]:
        counts += one
        p = min(p, math.exp(-srm.log_e(counts, shares)))
        now = srm.interval(counts, shares, ALPHA)
        bounds = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(bounds, now, strict=True)]
        if p <= ALPHA:
            break
    assert counts.sum() == 402
    assert p == pytest.approx(0.04845591105969517, rel=1e-12)
    published = [
        (0.056684768115202705, 0.1493967591525672),
        (0.2608987241982874, 0.4028302603098119),
        (0.4971209299792429, 0.6517617329309116),
    ]
    for ours, theirs in zip(bounds, published, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-7)


def test_savvi_itself_agrees_at_every_step() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from savvi.multinomial import Multinomial
    shares = np.array([0.1, 0.4, 0.5])
    theirs = Multinomial(ALPHA, shares)
    counts = np.zeros(3)
    for one in streams()[1][:600]:
        counts += one
        theirs.update(one)
        assert srm.log_e(counts, shares) == pytest.approx(math.log(theirs.odds), abs=1e-9)


def test_the_one_sided_mixture_stops_the_canary_stream_earlier() -> None:
    test = RatioTest(abort_ratio=1.0, promote_ratio=1.5)
    seen = 0
    for control, treated in streams()[0]:
        seen += 1
        test.add(
            treated_n=1, control_n=4, treated_bad=int(treated), control_bad=int(control), share=0.2
        )
        test.close_look()
        if test.p_abort() <= ALPHA:
            break
    assert seen <= 210
