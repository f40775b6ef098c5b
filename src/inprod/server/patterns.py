"""What /patterns shows: one example of every element, from values built here."""

from __future__ import annotations

import math

from inprod.flags.edge.view import Line
from inprod.guards.evidence import GuardEvidence, Judgement
from inprod.guards.guard import Guard, Kind, Verdict
from inprod.rollouts.edge.view import Point, StepView, tiles_of
from inprod.rollouts.rollout import Plan, Step

START_S = 1_795_340_000.0


def patterns() -> dict[str, object]:
    """Return the context of the page."""
    plan = Plan(
        name="checkout-1", environment="production", dial="flag/new-checkout",
        steps=tuple(Step(level=level) for level in (1.0, 5.0, 25.0, 50.0, 100.0)),
        guards=(
            Guard(name="errors", kind=Kind.ERRORS), Guard(name="latency", kind=Kind.LATENCY),
            Guard(name="refunds", kind=Kind.ERRORS),
            Guard(name="even-split", kind=Kind.SAMPLE_RATIO),
        ),
    )  # fmt: skip
    judgement = Judgement(
        bucket=1, verdict=Verdict.BROKEN, sentence="errors broke", culprit="errors",
        guards=(_errors(), _latency(), _refunds(), _split(), _queue()),
    )  # fmt: skip
    series = {one.guard: _course(one) for one in judgement.guards}
    return {
        "tiles": tiles_of(plan, judgement, series),
        "steps": (
            StepView(level=1, state="done", label="for 1 min", fraction=1.0),
            StepView(level=5, state="done", label="for 1 min", fraction=1.0),
            StepView(level=25, state="now", label="24 s of 1 min", fraction=0.4),
            StepView(level=50, state="todo", label="for 1 min", fraction=0.0),
            StepView(level=100, state="todo", label="for 1 min", fraction=0.0),
        ),
        "undone": (
            StepView(level=1, state="undone", label="for 1 min", fraction=1.0),
            StepView(level=5, state="undone", label="turned back", fraction=1.0),
            StepView(level=25, state="todo", label="for 1 min", fraction=0.0),
        ),
        "spark": tuple(40 + 18 * math.sin(i / 5) + (i % 7) for i in range(60)),
        "lines": tuple(
            (START_S + 10 * i, tuple(50 + 9 * k + 8 * math.sin(i / (3 + k)) for k in range(4)))
            for i in range(60)
        ),
        "diff": (
            Line(sign=" ", text='"split": {'), Line(sign="-", text='  "percent": 5.0,'),
            Line(sign="+", text='  "percent": 25.0,'), Line(sign=" ", text='  "unit": "user.id"'),
        ),
    }  # fmt: skip


def _errors() -> GuardEvidence:
    return GuardEvidence(
        guard="errors", kind="errors", verdict=Verdict.BROKEN,
        sentence="Errors are ×2.1 to ×4.8 as frequent as in control; the limit is ×1.1.",
        log_e_abort=5.1, log_e_promote=-9.0, log_e_abort_needed=4.61, log_e_promote_needed=3.0,
        estimate=3.2, low=2.1, high=4.8, margin_abort=1.1, margin_promote=1.5, treated_n=1840,
        control_n=35110, treated_bad=59, control_bad=352,
    )  # fmt: skip


def _latency() -> GuardEvidence:
    return GuardEvidence(
        guard="latency", kind="latency", verdict=Verdict.HOLDS,
        sentence="No more slow requests than control.", log_e_abort=-1.2, log_e_promote=3.4,
        log_e_abort_needed=4.61, log_e_promote_needed=3.0, estimate=0.98, low=0.7, high=1.32,
        margin_abort=1.1, margin_promote=1.5, treated_n=1840, control_n=35110,
    )  # fmt: skip


def _refunds() -> GuardEvidence:
    return GuardEvidence(
        guard="refunds", kind="errors", verdict=Verdict.UNDECIDED,
        sentence="Too little seen to say.", log_e_abort=0.4, log_e_promote=0.9,
        log_e_abort_needed=4.61, log_e_promote_needed=3.0, estimate=1.3, low=0.05, high=9.0,
        margin_abort=1.1, margin_promote=1.5, treated_n=210, control_n=3900, treated_bad=3,
        control_bad=42, eta_s=260.0,
    )  # fmt: skip


def _split() -> GuardEvidence:
    return GuardEvidence(
        guard="even-split", kind="sample_ratio", verdict=Verdict.HOLDS,
        sentence="As many units are treated as were meant.", log_e_abort=-1.0,
        log_e_abort_needed=4.61, estimate=0.0502, low=0.047, high=0.0541, treated_n=1840,
        control_n=35110,
    )  # fmt: skip


def _queue() -> GuardEvidence:
    return GuardEvidence(
        guard="queue age", kind="threshold", verdict=Verdict.STALE,
        sentence="No event for 2 min; the last value was 4.2 s.", estimate=4.2, margin_abort=30.0,
    )  # fmt: skip


def _course(end: GuardEvidence) -> tuple[Point, ...]:
    """Return a plausible course that ends at `end`: the interval narrows, the evidence grows."""
    assert end.estimate is not None
    low, high = end.low or end.estimate, end.high or end.estimate
    count = 40
    points: list[Point] = []
    for i in range(1, count + 1):
        part = i / count
        wide = 1 / math.sqrt(part)
        wobble = 0.12 * math.sin(i * 1.7) * (1 - part)
        points.append(
            Point(
                time_s=START_S + 5 * i,
                estimate=end.estimate * math.exp(wobble),
                low=end.estimate * math.exp(math.log(low / end.estimate) * wide + wobble),
                high=end.estimate * math.exp(math.log(high / end.estimate) * wide + wobble),
                log_e_abort=end.log_e_abort * part**1.4,
                log_e_promote=end.log_e_promote * part**1.2,
            )
        )
    return tuple(points)
