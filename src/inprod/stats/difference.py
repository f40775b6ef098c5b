"""The difference test: is the treated mean above the concurrent control's by more than a margin?

Exact for values in [0, 1]: failures (0 or 1) or a value clipped at T and divided by T. With q any
guess of the control mean made before the batch, S = +1 to abort (H0: mean <= control + margin) and
S = -1 to promote (H0: mean >= control + margin), bets c and d = c * n / n':

    log E += sum over treated of log(1 + S c (y - q - margin))
           + sum over control of log(1 - S d (y - q))

Since 1 + x <= e^x the expectation is at most exp(S c n (mean - control - margin)), 1 in the null.
Betting: Waudby-Smith and Ramdas, JRSS-B 2024. Each bet is a fixed part of the largest possible one.
"""

from __future__ import annotations

import math

import numpy as np

from inprod.stats.combine import FloatArray
from inprod.stats.ratio import NO_RESTARTS, Interval, Mixture, Restarts

ABORT_PARTS: FloatArray = np.geomspace(0.002, 0.95, 14)
PROMOTE_PARTS: FloatArray = np.geomspace(0.04, 0.97, 10)
BET_MAX = 1e3
TUNED_N = 5000.0


class DifferenceTest:
    """Abort and promote for one difference of means of values in [0, 1].

    `margin` is in the same [0, 1] scale. `shape` runs independent copies at once.
    """

    def __init__(
        self, *, margin: float, restarts: Restarts | None = None, shape: tuple[int, ...] = ()
    ) -> None:
        assert 0 < margin < 1, "the margin is a part of the clipped range"
        self.margin = margin
        self._abort = Mixture(
            np.ones(len(ABORT_PARTS)), restarts=restarts or Restarts(), shape=shape
        )
        self._promote = Mixture(np.ones(len(PROMOTE_PARTS)), restarts=NO_RESTARTS, shape=shape)
        self._control_sum: FloatArray = np.zeros(shape)
        self._control_n: FloatArray = np.zeros(shape)
        self.log_e_abort_max: FloatArray | float = np.zeros(shape)

    def add(
        self,
        values: FloatArray,
        treated: FloatArray,
        control: FloatArray,
        odds: float | None = None,
    ) -> None:
        """Add one batch of one stratum: how often each of `values` was seen in each arm.

        `values` has shape (J,), the counts (*shape, J). `odds` is treated over control exposures
        where they are not the sums of the counts (units that are still at risk). The first batch
        only teaches the control mean; a batch with one arm only carries no evidence.
        """
        treated_n, control_n = treated.sum(axis=-1), control.sum(axis=-1)
        if odds is None:
            both = (treated_n > 0) & (control_n > 0) & (self._control_n > 0)
            ratio: FloatArray = np.where(both, treated_n / np.maximum(control_n, 1), 1.0)
        else:
            both = self._control_n > 0
            ratio = np.full(self._control_n.shape, odds)
        if both.any():
            guess = (self._control_sum + 0.1) / (self._control_n + 1)
            use = both[..., None]
            abort = self._growth(1, guess, ratio, values, treated, control)
            promote = self._growth(-1, guess, ratio, values, treated, control)
            self._abort.multiply(np.where(use, abort, 0.0))
            self._promote.multiply(np.where(use, promote, 0.0))
        self._control_sum = np.maximum(self._control_sum + control @ values, 0.0)
        self._control_n = np.maximum(self._control_n + control_n, 0.0)

    def _growth(
        self,
        side: int,
        guess: FloatArray,
        odds: FloatArray,
        values: FloatArray,
        treated: FloatArray,
        control: FloatArray,
    ) -> FloatArray:
        """Return the log factor of each bet, shape (*shape, bets)."""
        above = guess + self.margin
        if side > 0:
            top = np.minimum(1 / above, 1 / ((1 - guess) * odds))
            parts = ABORT_PARTS
        else:
            top = np.minimum(1 / np.maximum(1 - above, 1 / BET_MAX), 1 / (guess * odds))
            parts = PROMOTE_PARTS
        bets = np.asarray(np.minimum(top, BET_MAX))[..., None] * parts
        against = bets * odds[..., None]
        off_treated = values - above[..., None]
        off_control = values - guess[..., None]
        up = np.log1p(side * bets[..., None] * off_treated[..., None, :])
        down = np.log1p(-side * against[..., None] * off_control[..., None, :])
        return (up * treated[..., None, :]).sum(-1) + (down * control[..., None, :]).sum(-1)

    def close_look(self) -> None:
        """End a look: keep the largest evidence so far; now and then a late start is mixed in."""
        self.log_e_abort_max = np.maximum(self.log_e_abort_max, self.log_e_abort())
        self._abort.close_look()

    def restart(self) -> None:
        """Mix in an abort bet that starts now (the dial was turned)."""
        self._abort.restart()

    def log_e_abort(self) -> FloatArray:
        """Return the log e-value against `difference <= margin`."""
        return self._abort.log_e()

    def log_e_promote(self) -> FloatArray:
        """Return the log e-value against `difference >= margin`."""
        return self._promote.log_e()


class MeanSums:
    """Per stratum sums of both arms: the difference of means with its asymptotic interval.

    For information, not a trigger. Strata (stage and stratum) have one share each, so pooling the
    differences with weights n n' / (n + n') does not mix a drift in time with the ramp.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int], FloatArray] = {}

    def add(
        self, stratum: tuple[int, int], values: FloatArray, treated: FloatArray, control: FloatArray
    ) -> None:
        """Add how often each of `values` was seen in each arm of one stratum."""
        sums = self._sums.setdefault(stratum, np.zeros((2, 3)))
        squares = values * values
        for arm, counts in enumerate((treated, control)):
            sums[arm] += (counts.sum(), counts @ values, counts @ squares)

    def means(self) -> tuple[float, float]:
        """Return both arms' means, weighted as the difference is; NaN where nothing compares.

        Pooled plainly they would differ by who came in which stage, not only by the arm.
        """
        both = [sums for sums in self._sums.values() if sums[:, 0].min() >= 2]
        parts = np.array([sums[:, 0].prod() / sums[:, 0].sum() for sums in both])
        if not both:
            return math.nan, math.nan
        means: FloatArray = np.array([sums[:, 1] / sums[:, 0] for sums in both])
        treated, control = parts @ means / parts.sum()
        return float(treated), float(control)

    def interval(self, alpha: float) -> Interval:
        """Return the difference with its asymptotic confidence sequence of level 1 - alpha.

        Waudby-Smith et al., Annals of Statistics 2024, tuned to 5000 values.
        """
        weight = moved = spread = n = 0.0
        for sums in self._sums.values():
            count: FloatArray = sums[:, 0]
            if count.min() < 2:
                continue
            mean = sums[:, 1] / count
            variance = np.maximum(sums[:, 2] / count - mean * mean, 0.0) / count
            part = float(count.prod() / count.sum())
            weight += part
            moved += part * float(mean[0] - mean[1])
            spread += part * part * float(variance.sum())
            n += float(count.sum())
        if not weight:
            return Interval(estimate=None, low=None, high=None)
        half = asymptotic_half_width(n, spread / weight**2, alpha)
        estimate = moved / weight
        return Interval(estimate=estimate, low=estimate - half, high=estimate + half)


def asymptotic_half_width(n: float, variance: float, alpha: float) -> float:
    """Return the half-width around an estimate with `variance` after n values."""
    tuning = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / TUNED_N
    scale = n * tuning + 1
    return math.sqrt(
        2 * n * variance * scale / (n * n * tuning) * math.log(math.sqrt(scale) / alpha)
    )
