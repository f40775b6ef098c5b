"""Several e-values made one, in natural logarithms so that nothing overflows.

The weighted mean of e-values is an e-value whatever their dependence, and it reaches 1/alpha no
later than Bonferroni's rule does (Vovk and Wang, Annals of Statistics 2021). A promotion needs
every guard on its own, an intersection-union test, and so needs no correction (Berger 1982).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def log_mean_exp(values: FloatArray) -> FloatArray:
    """Return log(mean(exp(values))) over the last axis, with the maximum taken out first."""
    top: FloatArray = np.maximum.reduce(values, axis=-1)
    spread: FloatArray = np.exp(values - top[..., None])
    return top + np.log(np.add.reduce(spread, axis=-1) / values.shape[-1])


def log_add(one: float, other: float) -> float:
    """Return log(exp(one) + exp(other)) for two numbers; minus infinity stands for nothing."""
    high, low = max(one, other), min(one, other)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def shares(weights: Sequence[float]) -> tuple[float, ...]:
    """Return weights scaled to sum to one; an empty or all-zero list gives zeros."""
    total = math.fsum(weights)
    return tuple(weight / total if total > 0 else 0.0 for weight in weights)


def log_weighted_mean(log_values: Sequence[float], weights: Sequence[float]) -> float:
    """Return log(sum of weight * exp(value)); weights sum to at most one, none given means 0.

    Weight left over stays a constant e-value of one, so the result of no evidence is zero.
    """
    assert len(log_values) == len(weights)
    spare = max(0.0, 1.0 - math.fsum(weights))
    total = math.log(spare) if spare > 1e-12 else -math.inf
    for value, weight in zip(log_values, weights, strict=True):
        if weight > 0:
            total = log_add(total, value + math.log(weight))
    return total


def log_needed(level: float, weight: float = 1.0) -> float:
    """Return the log e-value at which a guard with this share of `level` decides alone."""
    return -math.log(level * weight) if weight > 0 else -math.log(level)


def culprits(log_values: Sequence[float], weights: Sequence[float], alpha: float) -> list[int]:
    """Return the indices of guards whose own evidence suffices, strongest first."""
    over = [
        (value + math.log(weight), index)
        for index, (value, weight) in enumerate(zip(log_values, weights, strict=True))
        if weight > 0 and value + math.log(weight) >= -math.log(alpha)
    ]
    return [index for _, index in sorted(over, key=lambda pair: (-pair[0], pair[1]))]


def all_reached(log_values: Sequence[float], beta: float) -> bool:
    """Return whether every promote e-value reached 1/beta (true of an empty list)."""
    return all(value >= -math.log(beta) for value in log_values)


def anytime_p(log_e_max: float) -> float:
    """Return the p-value valid at every look: one over the largest e-value so far, at most one."""
    return min(1.0, math.exp(-log_e_max))
