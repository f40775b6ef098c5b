"""Where a rollout is, what it sees, what it decides; and how a decision changes where it is.

    state --decide(plan, state, look)--> decision --apply--> state

The journal keeps the look and the decision, so the states and the decisions can be recomputed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from inprod.guards.arms import Window
from inprod.guards.evidence import Judgement
from inprod.rollouts.rollout import Action, Phase, Plan, phase_after
from inprod.safety.lever import Pulled

SAFE: Final = 0.0


class Reason(StrEnum):
    """Why a decision was taken; for a held rollout, why it is held."""

    NONE = ""
    STARTED = "started"
    IN_FORCE = "in_force"
    BAKED = "baked"
    GUARDS_HOLD = "guards_hold"
    BROKEN = "broken"
    LEVER = "lever"
    SUSPECT = "suspect"
    NO_EXPOSURES = "no_exposures"
    NO_OUTCOMES = "no_outcomes"
    STALE = "stale"
    UNDECIDED = "undecided"
    CAP_USERS = "cap_users"
    CAP_DURATION = "cap_duration"
    TURNED = "turned"
    PAUSED = "paused"
    CLEARED = "cleared"
    BY_HAND = "by_hand"


AUTOMATIC: Final = frozenset(
    {Reason.SUSPECT, Reason.NO_EXPOSURES, Reason.NO_OUTCOMES, Reason.STALE}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a rollout is.

    `step` is the index of the step being turned to or in force; `level` what the dial should be at;
    `arrived` whether that level has been seen in force; `bake_from_ns` when counting for it began;
    `since_ns` when the phase began; `above_since_ns` when the dial first left safe; `deadline_ns`
    when undecided becomes a decision; `hold` why it is held; `windows` what is counted where.
    """

    phase: Phase = Phase.PLANNED
    step: int = 0
    level: float = SAFE
    arrived: bool = False
    hold: Reason = Reason.NONE
    since_ns: int = 0
    started_ns: int | None = None
    above_since_ns: int | None = None
    bake_from_ns: int | None = None
    deadline_ns: int | None = None
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a decision sees, besides plan and state.

    `in_force` is what the dial says, None when it could not be read; `judged_ns` the end of the
    last judged bucket; `last_event_ns` when the last event of the environment arrived, None when
    none was seen; `pulled` the lever over the dial.
    """

    now_ns: int
    in_force: float | None = None
    judgement: Judgement | None = None
    judged_ns: int = 0
    last_event_ns: int | None = None
    users_exposed: int = 0
    pulled: Pulled | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do: `phase` and `to_step`, `to_level` are what follows; `sentence` says why."""

    action: Action
    phase: Phase
    to_step: int
    to_level: float
    reason: Reason
    sentence: str


class Verb(StrEnum):
    """The words of a command."""

    PAUSE = "pause"
    RESUME = "resume"
    ADVANCE = "advance"
    ROLLBACK = "rollback"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One order, by whom and why; `keep` lets `stop` leave the dial where it is."""

    verb: Verb
    actor: str
    reason: str = ""
    keep: bool = False

    @property
    def sentence(self) -> str:
        """Who ordered what, and why."""
        return f"`{self.actor}`" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One entry of the journal: what was seen, what was decided, on whose order if on anyone's."""

    seq: int
    time_ns: int
    actor: str
    decision: Decision
    look: Look
    bucket: int
    from_level: float
    judgement: Judgement | None = None
    command: Command | None = None


def decided(
    state: State, action: Action, reason: Reason, sentence: str,
    *, step: int | None = None, level: float | None = None,
) -> Decision:  # fmt: skip
    """Return a decision; `step` and `level` stay as they are unless given.

    Raises Conflict when the state table has no such move.
    """
    return Decision(
        action=action, phase=phase_after(state.phase, action),
        to_step=state.step if step is None else step,
        to_level=state.level if level is None else level,
        reason=reason, sentence=sentence,
    )  # fmt: skip


def apply(plan: Plan, state: State, decision: Decision, *, now_ns: int) -> State:
    """Return the state after a decision taken at `now_ns`."""
    if decision.action is Action.WAIT:
        return state
    assert decision.phase is phase_after(state.phase, decision.action)
    turns = decision.to_level != state.level
    after = replace(
        state, phase=decision.phase, step=decision.to_step, level=decision.to_level,
        since_ns=now_ns, hold=decision.reason if decision.phase is Phase.HELD else Reason.NONE,
    )  # fmt: skip
    if turns or decision.reason is Reason.TURNED:  # by us, or by somebody's hand: units mix
        after = replace(after, arrived=False, windows=_closed(plan, state.windows, now_ns))
    match decision.action:
        case Action.START | Action.RETURN | Action.GO_ON:
            return _begun(plan, state, after, now_ns)
        case Action.ARRIVE:
            return _arrived(plan, after, now_ns)
        case _:
            return after


def _begun(plan: Plan, state: State, after: State, now_ns: int) -> State:
    """Set the clocks of a rollout that starts or goes on."""
    fresh_deadline = state.hold not in AUTOMATIC
    return replace(
        after,
        started_ns=now_ns if state.started_ns is None else state.started_ns,
        above_since_ns=now_ns if state.above_since_ns is None else state.above_since_ns,
        bake_from_ns=now_ns if after.arrived else None,
        deadline_ns=now_ns + round(plan.deadline_s * 1e9) if fresh_deadline else after.deadline_ns,
    )


def _arrived(plan: Plan, after: State, now_ns: int) -> State:
    """Open the window in which this level is counted, unless a higher one was counted before."""
    start = -((now_ns + round(plan.settle_s * 1e9)) // -plan.batch_ns)
    windows = after.windows
    if all(window.stage <= after.step for window in windows):
        windows = (*windows, Window(stage=after.step, start=start))
    return replace(after, arrived=True, bake_from_ns=start * plan.batch_ns, windows=windows)


def _closed(plan: Plan, windows: tuple[Window, ...], now_ns: int) -> tuple[Window, ...]:
    """End the open window before the bucket of the turn, and drop it if nothing was in it."""
    if not windows or windows[-1].end is not None:
        return windows
    last = replace(windows[-1], end=now_ns // plan.batch_ns)
    assert last.end is not None
    return (*windows[:-1], last) if last.end > last.start else windows[:-1]
