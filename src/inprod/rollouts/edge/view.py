"""A rollout as its pages show it: sentence, step bar, a tile per guard, the journal. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from inprod.guards.evidence import GuardEvidence, Judgement
from inprod.guards.guard import Kind
from inprod.rollouts.edge.figure import Figure, figure
from inprod.rollouts.rollout import ENDED, Phase, Plan
from inprod.rollouts.state import State
from inprod.units import render_s

FLAG_DIAL = "flag/"
# How the compared quantity is written: x1.2, +0.3, 12 %, or a bare number; ratio unless listed.
SCALES = {Kind.MEAN: "difference", Kind.SAMPLE_RATIO: "share", Kind.THRESHOLD: "value"}
# Guards that, broken, hold the rollout instead of rolling it back.
HOLDING = frozenset({Kind.SAMPLE_RATIO, Kind.COMPLETENESS})
# What the units are that speak against the treatment; nothing is counted so unless listed.
BAD_WORDS = {
    Kind.ERRORS: "Bad",
    Kind.RATE: "Matching",
    Kind.LATENCY: "Slow",
    Kind.COMPLETENESS: "No outcome",
}
QUANTITIES = {
    Kind.ERRORS: "Risk of a bad outcome, treated over control",
    Kind.RATE: "Rate, treated over control",
    Kind.LATENCY: "Share of slow ones, treated over control",
    Kind.MEAN: "Difference of means, treated less control",
    Kind.THRESHOLD: "Value",
    Kind.SAMPLE_RATIO: "Treated share in this step",
    Kind.COMPLETENESS: "Risk of no outcome, treated over control",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One part of the step bar; `state` is done, now, todo or undone, `fraction` how full (0-1)."""

    level: float
    state: str
    label: str
    fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a guard knew at a time (Unix s); e-values as natural logarithms."""

    time_s: float
    estimate: float | None
    low: float | None
    high: float | None
    log_e_abort: float
    log_e_promote: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One guard: its evidence, its picture, and its course over time."""

    index: int
    evidence: GuardEvidence
    required: bool
    scale: str
    bad_word: str
    rolls_back: bool
    quantity: str
    figure: Figure | None
    figure_label: str
    points: tuple[Point, ...]

    @property
    def margin_abort(self) -> str:
        """The margin as an attribute, empty when there is none."""
        return _attribute(self.evidence.margin_abort)

    @property
    def margin_promote(self) -> str:
        """The margin as an attribute, empty when there is none."""
        return _attribute(self.evidence.margin_promote)

    @property
    def needed_harm(self) -> str:
        """What the evidence of harm needs, as an attribute."""
        return _attribute(self.evidence.log_e_abort_needed or None)

    @property
    def needed_safe(self) -> str:
        """What the evidence of safety needs, as an attribute."""
        return _attribute(self.evidence.log_e_promote_needed or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """One rollout; `next_level` None when no person may advance it."""

    name: str
    plan: Plan
    phase: str
    level: float
    unit: str
    sentence: str
    step_number: int
    since_ns: int
    started_ns: int | None
    users_exposed: int
    steps: tuple[StepView, ...]
    has_ended: bool
    may_pause: bool
    may_resume: bool
    next_level: float | None
    dial_href: str
    explore: str
    caps: str


def view_of(
    plan: Plan, state: State, *, sentence: str, users_exposed: int, now_ns: int,
    peak_step: int | None = None,
) -> RolloutView:  # fmt: skip
    """Return what the pages show; `peak_step` is the highest step it reached, if it went back."""
    ended = state.phase in ENDED
    last = len(plan.steps) - 1
    can_advance = state.phase in (Phase.BAKING, Phase.HELD) and state.arrived and state.step < last
    return RolloutView(
        name=plan.name,
        plan=plan,
        phase=state.phase.value,
        level=state.level,
        unit="%",
        sentence=_told(plan, state, sentence),
        step_number=0 if state.phase is Phase.PLANNED else state.step + 1,
        since_ns=state.since_ns,
        started_ns=state.started_ns,
        users_exposed=users_exposed,
        steps=steps_of(plan, state, now_ns=now_ns, peak_step=peak_step),
        has_ended=ended,
        may_pause=state.phase in (Phase.RUNNING, Phase.BAKING),
        may_resume=state.phase is Phase.HELD,
        next_level=plan.steps[state.step + 1].level if can_advance else None,
        dial_href=dial_href(plan.dial, plan.environment),
        explore=explore_of(plan),
        caps=_caps(plan),
    )


def steps_of(
    plan: Plan, state: State, *, now_ns: int, peak_step: int | None = None
) -> tuple[StepView, ...]:
    """Return the step bar: how far it came, and where it went back from."""
    views: list[StepView] = []
    back = state.phase in (Phase.ROLLED_BACK, Phase.STOPPED) and state.level == 0
    reached = state.step if peak_step is None else peak_step
    for index, step in enumerate(plan.steps):
        label, fraction = f"for {render_s(step.bake_s)}" if step.bake_s else "then done", 0.0
        if state.phase is Phase.PLANNED:
            mark = "todo"
        elif back:
            mark, fraction = ("undone", 1.0) if index <= reached else ("todo", 0.0)
            label = "turned back" if index == reached else label
        elif state.phase is Phase.PROMOTED or index < state.step:
            mark, fraction = "done", 1.0
        elif index > state.step:
            mark = "todo"
        else:
            mark, fraction = "now", _baked(state, step.bake_s, now_ns)
            label = _now_label(state, step.bake_s, now_ns)
        views.append(StepView(level=step.level, state=mark, label=label, fraction=fraction))
    return tuple(views)


def tiles_of(
    plan: Plan, judgement: Judgement | None, series: Mapping[str, Sequence[Point]]
) -> tuple[Tile, ...]:
    """Return a tile per guard that was judged; `series` is guard name -> its course."""
    if judgement is None:
        return ()
    known = {guard.name: guard for guard in plan.guards}
    tiles: list[Tile] = []
    for index, evidence in enumerate(judgement.guards):
        guard = known.get(evidence.guard)
        kind = Kind(evidence.kind)
        scale = SCALES.get(kind, "ratio")
        picture = figure(evidence) if scale in ("ratio", "difference") else None
        tiles.append(
            Tile(
                index=index,
                evidence=evidence,
                required=guard is None or guard.required,
                scale=scale,
                bad_word=BAD_WORDS.get(kind, ""),
                rolls_back=kind not in HOLDING,
                quantity=QUANTITIES[kind],
                figure=picture,
                figure_label=_figure_label(evidence),
                points=tuple(series.get(evidence.guard, ())),
            )
        )
    return tuple(tiles)


def dial_href(dial: str, environment: str) -> str:
    """Return the page of the dial, empty when it has none."""
    if not dial.startswith(FLAG_DIAL):
        return ""
    query = urlencode({"environment": environment})
    return f"/flags/{quote(dial.removeprefix(FLAG_DIAL))}?{query}"


def explore_of(plan: Plan) -> str:
    """Return the Explore question that compares the arms of this rollout."""
    pairs = [("environment", plan.environment), ("calc", "COUNT"), ("of", "")]
    if plan.dial.startswith(FLAG_DIAL):
        arm = f"flag.{plan.dial.removeprefix(FLAG_DIAL)}"
        pairs += [("calc", "P99"), ("of", "duration_ms")]
        pairs += [("where", arm), ("op", "exists"), ("value", "")]
        pairs += [("by", arm), ("by", "error")]
    return "/explore?" + urlencode(pairs)


def _figure_label(evidence: GuardEvidence) -> str:
    parts = [f"{evidence.guard}:"]
    if evidence.estimate is not None:
        parts.append(f"estimate {evidence.estimate:.3g},")
    if evidence.low is not None and evidence.high is not None:
        parts.append(f"interval {evidence.low:.3g} to {evidence.high:.3g};")
    for name, margin in (
        ("aborts beyond", evidence.margin_abort),
        ("promotes under", evidence.margin_promote),
    ):
        if margin is not None:
            parts.append(f"{name} {margin:.3g}.")
    return " ".join(parts)  # fmt: skip


def _told(plan: Plan, state: State, sentence: str) -> str:
    """Return where it is and why, as one sentence of people."""
    if state.phase in ENDED or state.phase is Phase.PLANNED:
        return f"{sentence[:1].upper()}{sentence[1:].rstrip('.')}."
    where = f"Step {state.step + 1} of {len(plan.steps)}"
    return f"{where}: {sentence.rstrip('.')}."


def _baked(state: State, bake_s: float, now_ns: int) -> float:
    if state.bake_from_ns is None or bake_s <= 0:
        return 0.0 if state.bake_from_ns is None else 1.0
    return round(min(1.0, max(0.0, (now_ns - state.bake_from_ns) / 1e9 / bake_s)), 4)


def _now_label(state: State, bake_s: float, now_ns: int) -> str:
    if state.phase is Phase.HELD:
        return "held"
    if not state.arrived or state.bake_from_ns is None:
        return "turning"
    passed = max(0.0, (now_ns - state.bake_from_ns) / 1e9)
    if passed >= bake_s:
        return f"{render_s(bake_s)} over, judging"
    return f"{render_s(math.floor(passed))} of {render_s(bake_s)}"


def _caps(plan: Plan) -> str:
    caps = plan.caps
    said = [
        None if caps.level is None else f"level {caps.level:g} %",
        None if caps.step is None else f"{caps.step:g} points a step",
        None if caps.duration_s is None else f"{render_s(caps.duration_s)} in all",
        None if caps.users is None else f"{caps.users:,} users",
    ]
    return ", ".join(one for one in said if one)


def _attribute(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.9g}"
