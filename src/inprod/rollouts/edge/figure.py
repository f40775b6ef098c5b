"""The small picture of one guard: its interval against the margins, as places on a line.

    promote        abort
       |             |
    [==|=====#=====] |            # the estimate, = the interval, 0..WIDTH
      x1           x1.1

Ratios are drawn on a logarithmic line, differences on a linear one. Pure: evidence in, places out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from inprod.guards.evidence import GuardEvidence
from inprod.guards.guard import Kind, Verdict

WIDTH = 400.0
INSET = 12.0
TEXT_HALF = 45.0
RATIO_MIN, RATIO_MAX = 0.2, 5.0
DIFFERENCES = frozenset({Kind.MEAN.value})
TONES = {Verdict.HOLDS: "good", Verdict.BROKEN: "bad"}

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A line or a tick: its place, its text, and how the text is anchored to it."""

    kind: str
    x: float
    text: str
    anchor: Anchor


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Places in a box WIDTH wide; `low_cut`, `high_cut` say that the interval goes on beyond."""

    tone: str
    low_x: float
    width: float
    estimate_x: float | None
    low_cut: bool
    high_cut: bool
    margins: tuple[Mark, ...]
    ticks: tuple[Mark, ...]


def is_difference(evidence: GuardEvidence) -> bool:
    """Return whether the guard compares by a difference (0 is equal) instead of a ratio (1 is)."""
    return evidence.kind in DIFFERENCES


def figure(evidence: GuardEvidence) -> Figure | None:
    """Return the picture of a guard's interval, None when it has none to show.

    An end that is not known while the other one is goes on for ever.
    """
    low, high = _ends(evidence)
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return None
    difference = is_difference(evidence)
    margins = [
        (name, value)
        for name, value in (
            ("promote", evidence.margin_promote), ("abort", evidence.margin_abort),
        )
        if value is not None and math.isfinite(value) and (difference or value > 0)
    ]  # fmt: skip
    place, first, last = _scale(evidence, [value for _, value in margins], difference)
    shown_low, shown_high = max(low, first), min(high, last)
    estimate = evidence.estimate
    inside = estimate is not None and first <= estimate <= last
    return Figure(
        tone=TONES.get(evidence.verdict, "wait"),
        low_x=place(shown_low),
        width=max(2.0, place(max(shown_high, shown_low)) - place(shown_low)),
        estimate_x=place(estimate) if inside and estimate is not None else None,
        low_cut=low < first,
        high_cut=high > last,
        margins=_margins(margins, place, difference),
        ticks=_ticks(place, first, last, difference),
    )


def _ends(evidence: GuardEvidence) -> tuple[float | None, float | None]:
    low, high = evidence.low, evidence.high
    if low is None and high is not None:
        low = -math.inf if is_difference(evidence) else 0.0
    if high is None and low is not None:
        high = math.inf
    return low, high


def _scale(
    evidence: GuardEvidence, margins: list[float], difference: bool
) -> tuple[Callable[[float], float], float, float]:
    """Return the function from value to place, and the first and last value shown."""
    low, high = _ends(evidence)
    assert low is not None
    assert high is not None
    neutral = 0.0 if difference else 1.0
    known = (low, high, evidence.estimate)
    wanted = [neutral, *margins, *(v for v in known if v is not None and math.isfinite(v))]
    if difference:
        reach = max((abs(value) for value in [*margins, evidence.estimate or 0.0]), default=0.0)
        reach = (reach or max(abs(value) for value in wanted) or 1.0) * 2.5
        first, last = max(min(wanted), -reach), min(max(wanted), reach)
        pad = (last - first or 1.0) * 0.08
        first, last = first - pad, last + pad
        return (lambda value: _at((value - first) / (last - first))), first, last
    first = max(min(value for value in wanted if value > 0), RATIO_MIN) / 1.12
    last = min(max(wanted), RATIO_MAX) * 1.12
    span = math.log(last / first)
    return (lambda value: _at(math.log(max(value, 1e-12) / first) / span)), first, last


def _at(part: float) -> float:
    return round(INSET + min(1.0, max(0.0, part)) * (WIDTH - 2 * INSET), 1)


def _margins(
    margins: list[tuple[str, float]], place: Callable[[float], float], difference: bool
) -> tuple[Mark, ...]:
    return tuple(
        Mark(
            kind=name, x=place(value), text=f"{name} {_said(value, difference)}",
            anchor=_anchor(place(value)),
        )
        for name, value in margins
    )  # fmt: skip


def _anchor(x: float) -> Anchor:
    """Keep a text inside the box."""
    if x < TEXT_HALF:
        return "start"
    return "end" if x > WIDTH - TEXT_HALF else "middle"


def _ticks(
    place: Callable[[float], float], first: float, last: float, difference: bool
) -> tuple[Mark, ...]:
    if difference:
        values = (0.0,)
    else:
        values = tuple(v for v in (0.25, 0.5, 1.0, 2.0, 4.0) if first <= v <= last)
    neutral = 0.0 if difference else 1.0
    return tuple(
        Mark(
            kind="tick", x=place(value), anchor="middle",
            text="no difference" if value == neutral else _said(value, difference),
        )
        for value in values
    )  # fmt: skip


def _said(value: float, difference: bool) -> str:
    return f"{value:+.3g}" if difference else f"×{value:.3g}"
