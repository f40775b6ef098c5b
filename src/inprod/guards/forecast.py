"""What a guard will need before a rollout starts: how long until it can decide, in a sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass

from inprod.errors import Invalid
from inprod.guards.guard import LEVEL_MAX, LEVEL_MIN, LIMITS
from inprod.stats import forecast
from inprod.units import Percent, PerSecond, render_percent, render_s

SHARES_TRIED = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)
LONG_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanForecast:
    """Times to decide at a steady traffic; None: never at this effect.

    `abort_s` until a regression of `effect` times the base rate is rolled back, `promote_s` until a
    harmless change holds; `treated_needed` are the treated units of the latter; `better_percent` is
    the smallest share that would roll back within an hour where this one does not, or else the
    quickest one, if that is larger.
    """

    abort_s: float | None
    promote_s: float | None
    treated_per_s: float
    treated_needed: float | None
    better_percent: float | None
    sentence: str


def forecast_plan(
    *,
    rate_per_s: PerSecond,
    share_percent: Percent,
    base_percent: Percent,
    effect: float = 2.0,
    abort_ratio: float = 1.1,
    promote_ratio: float = 1.5,
    alpha: float = 0.01,
    beta: float = 0.05,
    weight: float = 1.0,
) -> PlanForecast:
    """Return how long a guard on bad units takes, from traffic, share and base rate.

    `rate_per_s` counts new units per second of both arms (requests, if every request counts);
    `weight` is the guard's part of alpha, from 0 to 1. Raises Invalid for numbers that cannot be.
    """
    _check("rate_per_s", rate_per_s, 1e-9, 1e12, "Use a rate over 0.")
    _check("share_percent", share_percent, 1e-6, 99.9999, "Use a percent over 0 and under 100.")
    _check("base_percent", base_percent, 1e-6, 99.9999, "Use a percent over 0 and under 100.")
    _check("abort_ratio", abort_ratio, *LIMITS["abort_ratio"])
    _check("promote_ratio", promote_ratio, *LIMITS["promote_ratio"])
    for name, level in (("alpha", alpha), ("beta", beta)):
        _check(name, level, LEVEL_MIN, LEVEL_MAX, f"Use {LEVEL_MIN:g} to {LEVEL_MAX:g}.")
    _check("effect", effect, abort_ratio, 1e4, "Use an effect over the abort_ratio, such as 2.")
    _check("weight", weight, 1e-6, 1.0, "Use a part of alpha from 0 to 1.")
    share, base = share_percent / 100, base_percent / 100

    def abort_after_s(part: float) -> float:
        needed = forecast.treated_needed(alpha, base, part, effect, abort_ratio, weight)
        return needed / (rate_per_s * part)

    treated_per_s = rate_per_s * share
    promote_n = forecast.treated_needed(beta, base, share, 1.0, promote_ratio)
    abort_s, promote_s = abort_after_s(share), promote_n / treated_per_s
    better = None
    if abort_s > LONG_S:
        tried = [part for part in SHARES_TRIED if part > share]
        enough = next((part for part in tried if abort_after_s(part) <= LONG_S), None)
        best = enough or min([share, *tried], key=abort_after_s)
        better = 100 * best if best > share else None
    words = (
        f"At {rate_per_s:.3g} units/s, a share of {render_percent(share_percent)} and a base rate"
        f" of {render_percent(base_percent)}, {effect:.3g} times as many bad ones are rolled back"
        f" after about {_span(abort_s)}; a harmless change holds after about {_span(promote_s)}"
        f" ({promote_n:,.0f} treated)."
    )
    if better is not None:
        words += (
            f" With {render_percent(better)} the former takes {_span(abort_after_s(better / 100))}."
        )
    return PlanForecast(
        abort_s=_finite(abort_s), promote_s=_finite(promote_s), treated_per_s=treated_per_s,
        treated_needed=_finite(promote_n), better_percent=better, sentence=words,
    )  # fmt: skip


def smallest_visible(
    *, treated_n: float, base: float, share: float, abort_ratio: float, level: float
) -> float | None:
    """Return the smallest risk ratio that this much traffic would have rolled back; None: none."""
    return _finite(forecast.smallest_visible_ratio(treated_n, base, share, abort_ratio, level))


def _check(name: str, value: float, low: float, high: float, hint: str) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise Invalid(
            "out_of_range", f"`{value}` is out of range for `{name}`", where=name, hint=hint
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _span(seconds: float) -> str:
    return render_s(seconds) if math.isfinite(seconds) else "no time that could be named"
