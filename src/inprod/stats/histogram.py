"""The histogram test: has the treated distribution moved up against the concurrent control's?

Values are counted in logarithmic bins. Alternative k says "everything above the q-quantile got f
times slower"; g_k is its density ratio, built from *earlier* control values, made monotone (PAVA)
and clipped to [1/50, 50]. Per batch, with h treated and h' control counts and share s:

    L_k += sum h log g_k - sum (h + h') log1p(s (g_k - 1)),      E = mean of exp L_k

Valid for "treated is stochastically not slower" whatever the g: with A = E[g / (s g + 1 - s)] and
B = E[1 / (s g + 1 - s)] of one control value, s A + (1 - s) B = 1, so A^s B^(1-s) <= 1, and a
faster treated value lowers A since g rises. A wrong g costs power, never validity. The ratio test
is the special case of one bad bin. `tolerance_bins` moves the treated values down by so many bins
first, so that the null becomes "not slower by more than that factor".
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from inprod.stats.combine import FloatArray
from inprod.stats.ratio import Mixture, Restarts

IntArray = npt.NDArray[np.int64]

BIN_RATIO = 1.05
FACTORS = (1.03, 1.06, 1.12, 1.25, 1.6, 2.5)
QUANTILES = (0.0, 0.9, 0.98)
CLIP = 50.0
BIN_MIN, BIN_MAX = -150, 450  # 0.7 thousandths to 3.4e9 of the column's unit
LEARN_FIRST = 50  # control values before the first bet
LEARN_GROWTH = 1.5  # rebuild when so many times more control values are known
LEARN_MAX = 200_000.0  # then the old count half, so that g follows a drift; fewer cost tail power


class HistogramTest:
    """Abort evidence from binned values, and the control's histogram learned on the way."""

    def __init__(self, *, tolerance_bins: int = 0, restarts: Restarts | None = None) -> None:
        self.tolerance_bins = tolerance_bins
        self.reference: FloatArray = np.zeros(BIN_MAX - BIN_MIN)
        self.learned_n = 0.0
        self.builds = 0
        self._build_at = float(LEARN_FIRST)
        self._start = 0  # the bin of column 0 of the density ratios
        self._log_g: FloatArray = np.zeros((len(FACTORS) * len(QUANTILES), 1))
        self._mixture = Mixture(np.ones(len(self._log_g)), restarts=restarts or Restarts())
        self.log_e_abort_max = 0.0

    def add(
        self,
        *,
        treated_bins: IntArray,
        treated: FloatArray,
        control_bins: IntArray,
        control: FloatArray,
        share: float | None = None,
    ) -> None:
        """Add one batch of one stratum: which bins were seen how often in each arm.

        `share` is the design share; without it the observed one. Call `learn` with the control's
        values after all strata of the batch, never before.
        """
        treated_n, control_n = float(treated.sum()), float(control.sum())
        part = treated_n / (treated_n + control_n) if share is None and treated_n else share
        if not self.builds or not part or part >= 1:
            return
        mine = self._at(treated_bins - self.tolerance_bins)
        other = self._at(control_bins)
        up = mine - np.log1p(part * np.expm1(mine))
        down = np.log1p(part * np.expm1(other))
        self._mixture.multiply(up @ treated - down @ control)

    def learn(self, bins: IntArray, counts: FloatArray) -> None:
        """Let later batches know these control values; rebuilds the alternatives now and then."""
        if not len(bins):
            return
        places = np.minimum(np.maximum(bins - BIN_MIN, 0), BIN_MAX - BIN_MIN - 1)
        np.add.at(self.reference, places, counts)
        self.learned_n += float(counts.sum())
        if self.learned_n < self._build_at:
            return
        self._build()
        if self.learned_n > LEARN_MAX:
            self.reference *= 0.5
            self.learned_n *= 0.5
        self._build_at = self.learned_n * LEARN_GROWTH

    def quantile_bin(self, quantile: float) -> int:
        """Return the smallest bin with at most 1 - quantile of the learned values above it."""
        above = self.reference.sum() - np.cumsum(self.reference)
        return int(np.argmax(above <= (1 - quantile) * self.reference.sum() + 1e-9)) + BIN_MIN

    def share_above(self, above_bin: int) -> float:
        """Return the share of the learned control values in higher bins than this one."""
        total = float(self.reference.sum())
        index = min(max(above_bin - BIN_MIN + 1, 0), len(self.reference))
        return float(self.reference[index:].sum()) / total if total else 0.0

    def close_look(self) -> None:
        """End a look: keep the largest evidence so far; now and then a late start is mixed in."""
        self.log_e_abort_max = max(self.log_e_abort_max, self.log_e_abort())
        self._mixture.close_look()

    def restart(self) -> None:
        """Mix in a bet that starts now (the dial was turned)."""
        self._mixture.restart()

    def log_e_abort(self) -> float:
        """Return the log e-value against "treated is not slower"."""
        return float(self._mixture.log_e())

    def _at(self, bins: IntArray) -> FloatArray:
        columns = np.minimum(np.maximum(bins - self._start, 0), self._log_g.shape[1] - 1)
        return self._log_g[:, columns]

    def _build(self) -> None:
        seen = np.flatnonzero(self.reference)
        reach = math.ceil(math.log(max(FACTORS)) / math.log(BIN_RATIO)) + 4
        first = max(int(seen[0]) - 4, 0)
        last = min(int(seen[-1]) + reach, len(self.reference))
        self._start = first + BIN_MIN
        self._log_g = np.log(density_ratios(self.reference[first:last]))
        self.builds += 1


def density_ratios(counts: FloatArray) -> FloatArray:
    """Return g for every alternative (quantiles x factors), shape (18, len(counts)).

    Each row rises, lies in [1/50, 50], and has a mean near one under the counts.
    """
    density = _smooth(counts)
    floor = 1.0 / (float(counts.sum()) + 10) / len(counts)
    base = density + floor
    below = np.cumsum(density) - density
    rows: list[FloatArray] = []
    for quantile in QUANTILES:
        inside = np.divide(quantile - below, density, out=np.zeros_like(density), where=density > 0)
        upper = density * (1 - np.clip(inside, 0, 1))
        for factor in FACTORS:
            moved = density - upper + _shift(upper, math.log(factor) / math.log(BIN_RATIO))
            rows.append(isotonic((moved + floor) / base, base))
    return np.clip(np.array(rows), 1 / CLIP, CLIP)


def isotonic(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted least-squares fit that never falls (pool adjacent violators)."""
    if bool((values[1:] >= values[:-1]).all()):
        return values
    means: list[float] = []
    masses: list[float] = []
    sizes: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, mass, size = value, weight, 1
        while means and means[-1] >= mean:
            total = masses[-1] + mass
            mean = (means.pop() * masses[-1] + mean * mass) / total
            mass = total
            masses.pop()
            size += sizes.pop()
        means.append(mean)
        masses.append(mass)
        sizes.append(size)
    return np.repeat(np.array(means), sizes)


def _smooth(counts: FloatArray) -> FloatArray:
    """Return the density of the counts, smoothed by Silverman's rule in bins."""
    total = float(counts.sum())
    places = np.arange(len(counts))
    density = counts / total
    mean = float(density @ places)
    deviation = math.sqrt(max(float(density @ (places - mean) ** 2), 0.0))
    ends = np.searchsorted(np.cumsum(density), (0.25, 0.75))
    spread = min(deviation, float(ends[1] - ends[0] + 1) / 1.34)
    width = max(0.5, 0.9 * spread * total**-0.2)
    reach = math.ceil(4 * width)
    kernel: FloatArray = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    wide = np.convolve(density, kernel / kernel.sum())[reach : reach + len(counts)]
    return np.asarray(wide, dtype=np.float64)


def _shift(density: FloatArray, bins: float) -> FloatArray:
    """Return the density moved up by a fractional number of bins; the top bin keeps the rest."""
    whole = math.floor(bins)
    part = bins - whole
    return (1 - part) * _move(density, whole) + part * _move(density, whole + 1)


def _move(density: FloatArray, bins: int) -> FloatArray:
    if not bins:
        return density
    moved = np.zeros_like(density)
    kept = max(len(density) - bins, 0)
    moved[bins:] = density[:kept]
    moved[-1] += density[kept:].sum()
    return moved
