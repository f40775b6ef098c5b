"""Sample-ratio mismatch: do the units fall into the arms as the split says?

The e-value of a Dirichlet-multinomial mixture against the designed shares rho, prior 100 * rho:

    E = B(alpha0 + n) / B(alpha0) / prod(rho_i ^ n_i)

Lindon and Malek 2022 (arXiv 2011.03567), section 2. Stages are fresh randomisations: their e-values
multiply.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

CONCENTRATION = 100.0
BISECTIONS = 50


def log_e(
    counts: Sequence[float], shares: Sequence[float], concentration: float = CONCENTRATION
) -> float:
    """Return the log e-value of these unit counts against the designed shares (all above zero)."""
    assert len(counts) == len(shares)
    assert all(share > 0 for share in shares), "a share of zero makes any unit impossible"
    prior = [concentration * share for share in shares]
    return (
        _log_beta([one + two for one, two in zip(prior, counts, strict=True)])
        - _log_beta(prior)
        - math.fsum(n * math.log(rho) for n, rho in zip(counts, shares, strict=True))
    )


def interval(
    counts: Sequence[float],
    shares: Sequence[float],
    alpha: float,
    concentration: float = CONCENTRATION,
) -> list[tuple[float, float]]:
    """Return for each arm the interval of its share, level 1 - alpha for all arms at every look."""
    return [
        arm_interval(index, counts, shares, alpha, concentration) for index in range(len(counts))
    ]


def arm_interval(
    index: int,
    counts: Sequence[float],
    shares: Sequence[float],
    alpha: float,
    concentration: float = CONCENTRATION,
) -> tuple[float, float]:
    """Return the interval of one arm's share.

    The set is {theta : prod(theta_i ^ n_i) >= alpha * B(alpha0 + n) / B(alpha0)}. For one arm the
    others are best where they are proportional to their counts, which leaves one root to each side.
    """
    prior = [concentration * share for share in shares]
    floor = (
        _log_beta([one + two for one, two in zip(prior, counts, strict=True)])
        - _log_beta(prior)
        + math.log(alpha)
    )
    total = math.fsum(counts)
    count = counts[index]
    rest = total - count
    others = math.fsum(n * math.log(n / rest) for i, n in enumerate(counts) if i != index and n > 0)
    peak = count / total if total else 0.5
    wanted = floor - others
    return _root(count, rest, wanted, 0.0, peak), _root(count, rest, wanted, 1.0, peak)


def _root(count: float, rest: float, wanted: float, outside: float, inside: float) -> float:
    """Return where count*log(t) + rest*log(1-t) falls to `wanted` between outside and inside."""
    for _ in range(BISECTIONS):
        middle = (outside + inside) / 2
        if _log_power(count, middle) + _log_power(rest, 1 - middle) >= wanted:
            inside = middle
        else:
            outside = middle
    return inside


def _log_power(exponent: float, number: float) -> float:
    if exponent == 0:
        return 0.0
    return exponent * math.log(number) if number > 0 else -math.inf


def _log_beta(parameters: Sequence[float]) -> float:
    return math.fsum(math.lgamma(one) for one in parameters) - math.lgamma(math.fsum(parameters))
