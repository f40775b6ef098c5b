"""Words for evidence: what a person reads at 3 a.m.

checkout-errors: 41 of 1,903 treated against 310 of 35,120 control units failed: 2.4 times as many
(1.7 to 3.5), limit 1.1. Broken.
"""

from __future__ import annotations

from typing import assert_never

from inprod.guards.guard import Verdict
from inprod.stats.ratio import Interval
from inprod.units import roughly


def number(value: float) -> str:
    """Return a number with three significant digits, and commas over a thousand."""
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def bound(value: float) -> str:
    """Return a bound of a ratio with two significant digits: `0.27`, `18`, `107`."""
    return number(value) if abs(value) >= 99.5 else f"{value:.2g}"


def times(interval: Interval) -> str:
    """Return `2.4 times as many (1.7 to 3.5)`, or what is known of it."""
    bounds = between(interval)
    if interval.estimate is None:
        if interval.low is None and interval.high is None:
            return "too little yet to compare"
        return f"{bounds} times as many"
    return f"{bound(interval.estimate)} times as many ({bounds})"


def between(interval: Interval) -> str:
    """Return `1.7 to 3.5`, `at least 1.7`, `at most 3.5` or `no bounds yet`."""
    low, high = interval.low, interval.high
    if low is not None and high is not None:
        return f"{bound(low)} to {bound(high)}"
    if low is not None:
        return f"at least {bound(low)}"
    if high is not None:
        return f"at most {bound(high)}"
    return "no bounds yet"


def ending(verdict: Verdict, eta_s: float | None) -> str:
    """Return the verdict as the last words of a sentence."""
    match verdict:
        case Verdict.HOLDS:
            return "Holds."
        case Verdict.BROKEN:
            return "Broken."
        case Verdict.UNDECIDED:
            if eta_s is None:
                return "Undecided."
            return f"Undecided; about {roughly(eta_s)} more if it is harmless."
        case Verdict.NO_EXPOSURES:
            return "Nothing treated has been seen, though control has."
        case Verdict.NO_OUTCOMES:
            return "Units are exposed, but nothing to judge has been seen of them."
        case Verdict.STALE:
            return "No event at all for too long."
        case _:
            assert_never(verdict)
