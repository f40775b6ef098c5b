"""What a person may tell a rollout to do: pause, resume, advance, roll back, stop.

Going down is always possible. Going up needs a free lever, free caps, and guards not broken.
"""

from __future__ import annotations

from inprod.errors import Conflict
from inprod.guards.guard import Verdict
from inprod.rollouts.decide import cap_reached
from inprod.rollouts.rollout import ENDED, Action, Phase, Plan
from inprod.rollouts.state import (
    AUTOMATIC,
    SAFE,
    Command,
    Decision,
    Look,
    Reason,
    State,
    Verb,
    decided,
)
from inprod.safety.cap import level_breach


def obey(plan: Plan, state: State, look: Look, command: Command) -> Decision:
    """Return the decision that carries out a command; raises Conflict when it cannot be."""
    match command.verb:
        case Verb.PAUSE:
            return _pause(state, look, command)
        case Verb.RESUME:
            return _resume(plan, state, look, command)
        case Verb.ADVANCE:
            return _advance(plan, state, look, command)
        case Verb.ROLLBACK:
            return decided(
                state, Action.ROLL_BACK, Reason.BY_HAND,
                f"rolled back by {command.sentence}", level=SAFE,
            )  # fmt: skip
        case Verb.STOP:
            level = state.level if command.keep else SAFE
            return decided(
                state, Action.STOP, Reason.BY_HAND,
                f"stopped at {plan.said(level)} by {command.sentence}", level=level,
            )  # fmt: skip


def _pause(state: State, look: Look, command: Command) -> Decision:
    if state.phase is Phase.HELD and state.hold not in AUTOMATIC:
        raise Conflict(
            "held_already", f"it is held already ({state.hold})",
            hint="Resume, advance, roll back or stop it.",
        )  # fmt: skip
    level = state.level
    if not state.arrived:  # a raise that is under way stops where it is
        level = min(level, SAFE if look.in_force is None else look.in_force)
    return decided(state, Action.HOLD, Reason.PAUSED, f"paused by {command.sentence}", level=level)


def _resume(plan: Plan, state: State, look: Look, command: Command) -> Decision:
    if state.phase is not Phase.HELD:
        raise Conflict(
            "not_held", f"a rollout that is `{state.phase}` cannot be resumed",
            hint="Resume one that is held." if state.phase in ENDED else "Let it go on.",
        )  # fmt: skip
    _check_free(plan, state, look, going_up=True)
    if state.arrived:
        return decided(state, Action.GO_ON, Reason.BY_HAND, f"resumed by {command.sentence}")
    step = max(
        (
            index
            for index in range(state.step + 1)
            if not level_breach(plan.caps, from_level=state.level, to_level=plan.steps[index].level)
        ),
        default=0,
    )
    level = plan.steps[step].level
    return decided(
        state, Action.RETURN, Reason.BY_HAND,
        f"resumed by {command.sentence}: turning to {plan.said(level)}", step=step, level=level,
    )  # fmt: skip


def _advance(plan: Plan, state: State, look: Look, command: Command) -> Decision:
    if state.phase not in (Phase.BAKING, Phase.HELD):
        raise Conflict(
            "cannot_advance", f"a rollout that is `{state.phase}` cannot be advanced",
            hint="Advance one that is baking or held.",
        )  # fmt: skip
    if not state.arrived:
        level = plan.said(plan.steps[state.step].level)
        raise Conflict(
            "not_in_force", f"level `{level}` of its step is not in force",
            hint="Resume it first.",
        )  # fmt: skip
    is_last = state.step == len(plan.steps) - 1
    _check_free(plan, state, look, going_up=not is_last)
    if is_last:
        return decided(
            state, Action.PROMOTE, Reason.BY_HAND,
            f"promoted at {plan.said(state.level)} by {command.sentence}",
        )  # fmt: skip
    to = plan.steps[state.step + 1].level
    return decided(
        state, Action.RAISE, Reason.BY_HAND,
        f"advanced from {plan.said(state.level)} to {plan.said(to)} by {command.sentence}",
        step=state.step + 1, level=to,
    )  # fmt: skip


def _check_free(plan: Plan, state: State, look: Look, *, going_up: bool) -> None:
    if look.pulled is not None:
        raise Conflict("lever_pulled", look.pulled.sentence, hint="Release the lever first.")
    if look.judgement is not None and look.judgement.verdict is Verdict.BROKEN:
        raise Conflict(
            "guard_broken", f"a guard is broken: {look.judgement.sentence}",
            hint="Roll it back, mend the change and start a new rollout.",
        )  # fmt: skip
    cap = cap_reached(plan, state, look) if going_up else None
    if cap is not None:
        raise Conflict("cap_reached", cap[1], hint="Roll it back, or stop it.")
