"""The ratio test: are bad events more frequent in the treated arm than in the concurrent control?

One log-likelihood over log risk-ratios x decides everything. For each batch with n treated and n'
control exposures, a and b bad among them, m = a + b and share s = n / (n + n'):

    L(x) += a * x - m * log1p(s * expm1(x))

Given that something went bad, its arm is a coin whose bias depends on the ratio alone, so neither
a drifting base rate nor a changing share can fool it (Lindon and Malek 2022, arXiv 2011.03567). It
is also valid with the observed share for Bernoulli outcomes of any size: with u, v the factors of a
bad treated and control outcome, E <= exp(n p (u - 1) + n' p' (v - 1)) <= 1 in the null. Ville 1939:
the chance that E ever reaches 1/alpha is at most alpha. Mixing over ratios is Robbins 1970.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inprod.stats.combine import FloatArray, anytime_p, log_mean_exp

Counts = npt.NDArray[np.float64] | float

# Prior mass per octave of effect: a little more on large effects when it comes to aborting, which
# costs small ones 9 % of delay and saves large ones 5 % (measured).
GRID: FloatArray = np.geomspace(0.1, math.log(50), 12)
POINTS = len(GRID)
ABORT_WEIGHTS: FloatArray = GRID**0.25 / (GRID**0.25).sum()
# Symmetric, dense near no difference: steps of 0.1 % there, 5 % of the effect far away.
FINE: FloatArray = 0.02 * np.sinh(np.linspace(-1, 1, 241) * math.asinh(math.log(50) / 0.02))


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and the bounds that hold it at every look; None: not known yet, unbounded."""

    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """How an e-process also bets that trouble starts late.

    The mass `first` is on the start; the j-th later start gets (1 - first) / zeta(1.5) / j^1.5, so
    all mass together is at most one and so is the error. A start happens every `every_looks` looks
    and whenever `restart` is called (each turn of the dial). Compare the e-detectors of Shin,
    Ramdas and Rinaldo 2023, which bound the run length only.
    """

    first: float = 0.85
    every_looks: int = 50

    def weight(self, number: int) -> float:
        """Return the mass of the `number`-th restart, counted from one."""
        return (1.0 - self.first) / 2.6123753486854883 / number**1.5


NO_RESTARTS = Restarts(first=1.0, every_looks=0)


class Mixture:
    """An e-process that is the weighted mean of bets, with restarts; its state is (*shape, points).

    Multiply all bets by exp(increments) once per batch, then `close_look`.
    """

    def __init__(
        self, weights: FloatArray, *, restarts: Restarts, shape: tuple[int, ...] = ()
    ) -> None:
        self.restarts = restarts
        self._log_weights: FloatArray = np.log(weights / weights.sum())
        start = self._log_weights + math.log(restarts.first)
        self.log_bets: FloatArray = np.broadcast_to(start, (*shape, len(weights))).copy()
        self.spare = 1.0 - restarts.first  # mass that has not started to bet
        self.started = 0
        self.looks = 0
        self._log_e: FloatArray | None = None

    def multiply(self, increments: FloatArray) -> None:
        """Multiply each bet by exp of its increment: the log factor of one batch."""
        self.log_bets += increments
        self._log_e = None

    def close_look(self) -> None:
        """End a look: every so many of them a new start is mixed in."""
        self.looks += 1
        if self.restarts.every_looks and self.looks % self.restarts.every_looks == 0:
            self.restart()

    def restart(self) -> None:
        """Mix in a bet that starts now; call it between batches only."""
        if self.restarts.first >= 1.0:
            return
        self.started += 1
        weight = self.restarts.weight(self.started)
        self.spare -= weight
        self.log_bets = np.logaddexp(self.log_bets, self._log_weights + math.log(weight))
        self._log_e = None

    def log_e(self) -> FloatArray:
        """Return the log e-value now, of shape `shape`; zero before any evidence."""
        if self._log_e is None:
            total = log_mean_exp(self.log_bets) + math.log(self.log_bets.shape[-1])
            has_spare = self.spare > 1e-12
            self._log_e = np.logaddexp(total, math.log(self.spare)) if has_spare else total
        return self._log_e


class RatioTest:
    """Abort, promote and interval for one risk ratio, from batches added one by one.

    Abort tests H0: ratio <= abort_ratio, promote H0: ratio >= promote_ratio. `shape` runs that many
    independent copies at once (for simulations); `with_interval` False leaves the interval out.
    """

    def __init__(
        self,
        *,
        abort_ratio: float,
        promote_ratio: float,
        restarts: Restarts | None = None,
        shape: tuple[int, ...] = (),
        with_interval: bool = True,
    ) -> None:
        low, high = math.log(abort_ratio), math.log(promote_ratio)
        fine = FINE if with_interval else FINE[:0]
        self._x: FloatArray = np.concatenate([low + GRID, [low], high - GRID, [high], fine])
        self._odds: FloatArray = np.expm1(self._x)
        self._abort = Mixture(ABORT_WEIGHTS, restarts=restarts or Restarts(), shape=shape)
        self._promote = Mixture(np.ones(POINTS), restarts=NO_RESTARTS, shape=shape)
        self._fine: FloatArray = np.zeros((*shape, len(fine)))
        self._scalar = shape == ()
        self.log_e_abort_max: FloatArray | float = np.zeros(shape)

    def add(
        self,
        *,
        treated_n: Counts,
        control_n: Counts,
        treated_bad: Counts,
        control_bad: Counts,
        share: float | None = None,
        design: float | None = None,
    ) -> None:
        """Add one batch of one stratum; strata of a look add up.

        Counts are numbers, or arrays of `shape`. `share` is the design share where it is known
        better than by counting. Nothing about the batch may have been chosen by its outcomes. A
        batch with nothing bad, or with one arm only, carries no evidence and changes nothing.

        `design` is the share by which units were drawn whose risk lasts over many batches: those
        who entered early may by luck be treated more or less often than those who turn bad now, so
        that the counted share alone is no fair stake. Abort is then judged by the larger of the
        two shares, promote by the smaller; the first keeps abort exact where the arms are alike.
        """
        if self._scalar:
            bad = float(treated_bad) + float(control_bad)
            total = float(treated_n) + float(control_n)
            if not bad or not total:
                return
            part = float(treated_n) / total if share is None else share
            parts = part if design is None or part == design else self._stakes(part, design)
            added = float(treated_bad) * self._x - bad * np.log1p(parts * self._odds)
        else:
            assert design is None, "the copies of a simulation share no design"
            every = np.asarray(treated_n, float) + np.asarray(control_n, float)
            parts = np.asarray(treated_n) / np.maximum(every, 1) if share is None else share
            mine = np.asarray(treated_bad, float)[..., None]
            all_bad = mine + np.asarray(control_bad, float)[..., None]
            tilt = np.log1p(np.asarray(parts, float)[..., None] * self._odds)
            added = mine * self._x - all_bad * tilt
        self._abort.multiply(added[..., :POINTS] - added[..., POINTS : POINTS + 1])
        promote = added[..., POINTS + 1 : 2 * POINTS + 2]
        self._promote.multiply(promote[..., :POINTS] - promote[..., POINTS:])
        self._fine += added[..., 2 * POINTS + 2 :]

    def _stakes(self, part: float, design: float) -> FloatArray:
        """Return the share for each x: of abort, of promote, of the interval."""
        parts: FloatArray = np.full(len(self._x), part)
        parts[: POINTS + 1] = max(part, design)
        parts[POINTS + 1 : 2 * POINTS + 2] = min(part, design)
        return parts

    def close_look(self) -> None:
        """End a look: keep the largest evidence so far; now and then a late start is mixed in."""
        self.log_e_abort_max = np.maximum(self.log_e_abort_max, self.log_e_abort())
        self._abort.close_look()

    def restart(self) -> None:
        """Mix in an abort bet that starts now (the dial was turned)."""
        self._abort.restart()

    def log_e_abort(self) -> FloatArray:
        """Return the log e-value against `ratio <= abort_ratio`."""
        return self._abort.log_e()

    def log_e_promote(self) -> FloatArray:
        """Return the log e-value against `ratio >= promote_ratio`."""
        return self._promote.log_e()

    def p_abort(self) -> float:
        """Return the p-value against `ratio <= abort_ratio`, valid at every look so far."""
        return anytime_p(float(self.log_e_abort_max))

    def interval(self, alpha: float) -> Interval:
        """Return the ratio and its interval of level 1 - alpha, valid at every look.

        The interval is {x : L(x) > log-mean-exp(L) + log alpha}. L is concave, so the chord of the
        two outermost points inside it, prolonged, never cuts off anything that belongs to it.
        """
        levels = self._fine
        assert levels.shape == FINE.shape, "this test was built without an interval"
        if not levels.any():
            return Interval(estimate=None, low=None, high=None)
        floor = float(log_mean_exp(levels)) + math.log(alpha)
        inside = np.flatnonzero(levels > floor)
        first, last = int(inside[0]), int(inside[-1])
        low = _edge(levels, first, -1, floor)
        high = _edge(levels, last, 1, floor)
        best = int(levels.argmax())
        at_an_end = best in (0, len(FINE) - 1)
        return Interval(
            estimate=None if at_an_end else math.exp(_vertex(levels, best)),
            low=None if low is None else math.exp(low),
            high=None if high is None else math.exp(high),
        )


def _edge(levels: FloatArray, index: int, outward: int, floor: float) -> float | None:
    """Return where the prolonged outermost chord meets `floor`; None at the end of the grid."""
    beyond = index + outward
    if not 0 <= beyond < len(FINE):
        return None
    inner = index - outward
    limit = float(FINE[beyond])
    if not 0 <= inner < len(FINE):
        return limit
    slope = float((levels[index] - levels[inner]) / (FINE[index] - FINE[inner]))
    if slope * outward >= 0:
        return limit
    reach = float(FINE[index]) + (floor - float(levels[index])) / slope
    return max(reach, limit) if outward < 0 else min(reach, limit)


def _vertex(levels: FloatArray, best: int) -> float:
    """Return the top of the parabola through the highest grid point and its neighbours."""
    left, here, right = (float(FINE[best + step]) for step in (-1, 0, 1))
    rise = float(levels[best] - levels[best - 1]) / (here - left)
    fall = float(levels[best + 1] - levels[best]) / (right - here)
    bend = (fall - rise) / (right - left)
    if bend >= 0:
        return here
    top = (left + here) / 2 - rise / (2 * bend)
    return min(max(top, left), right)
