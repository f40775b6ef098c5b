"""Decide what a rollout does next: one pure function, first rule that applies wins.

broken     -> roll back, at once, in every phase
lever      -> to safe, held until a person resumes
held       -> goes on by itself only when the data came back
running    -> baking when the level is in force
baking     -> held (turned by hand, stale, suspect, no data, deadline, caps),
              raised or promoted when baked and the guards say what the step requires
"""

from __future__ import annotations

from inprod.guards.guard import Verdict
from inprod.rollouts.rollout import (
    ENDED,
    LEVEL_TOLERANCE,
    Action,
    Phase,
    Plan,
    Requires,
    WhenUndecided,
)
from inprod.rollouts.state import (
    AUTOMATIC,
    SAFE,
    Decision,
    Look,
    Reason,
    State,
    decided,
)
from inprod.safety.cap import duration_breach, users_breach
from inprod.units import render_s, roughly

_NO_DATA = {
    Verdict.NO_EXPOSURES: Reason.NO_EXPOSURES,
    Verdict.NO_OUTCOMES: Reason.NO_OUTCOMES,
    Verdict.STALE: Reason.STALE,
}


def decide(plan: Plan, state: State, look: Look) -> Decision:
    """Return what to do now; `Action.WAIT` changes nothing and says what is waited for.

    Its sentence is empty where nothing can change by itself: what was said last still stands.
    """
    if state.phase in ENDED:
        return _wait(state, "")
    broken = _broken(state, look)
    if broken is not None:
        return broken
    if look.pulled is not None:
        if state.phase is Phase.HELD and state.hold is Reason.LEVER:
            return _wait(state, "")
        return decided(
            state, Action.HOLD, Reason.LEVER, f"to safe and held: {look.pulled.sentence}",
            level=SAFE,
        )  # fmt: skip
    if state.phase is Phase.PLANNED:
        first = plan.steps[0].level
        return decided(
            state,
            Action.START,
            Reason.STARTED,
            f"started: turning to {plan.said(first)}",
            level=first,
        )
    if state.phase is Phase.RUNNING:
        return _running(plan, state, look)
    if state.phase is Phase.HELD:
        return _held(plan, state, look)
    return _baking(plan, state, look)


def is_stale(plan: Plan, state: State, look: Look) -> str:
    """Return what is stale, "" when events arrive and the store shows them.

    An environment that never sent anything is stale once the step could have been judged.
    """
    behind_s = (look.now_ns - look.judged_ns) / 1e9
    counting_s = (look.now_ns - (state.bake_from_ns or look.now_ns)) / 1e9
    limit_s = plan.stale_s + 2 * plan.batch_s
    if counting_s > limit_s and behind_s > limit_s:
        return f"the event store is {roughly(behind_s)} behind"
    silent_s = (look.now_ns - (look.last_event_ns or 0)) / 1e9
    if min(silent_s, counting_s) > limit_s:
        if look.last_event_ns is None:
            return f"no event of `{plan.environment}` arrived for {roughly(counting_s)}"
        return f"no event of `{plan.environment}` arrived for {roughly(silent_s)}"
    return ""


def is_baked(plan: Plan, state: State, look: Look) -> bool:
    """Return whether the step's time is over, in judged buckets and not only on the clock."""
    if state.bake_from_ns is None:
        return False
    return look.judged_ns >= state.bake_from_ns + round(plan.steps[state.step].bake_s * 1e9)


def cap_reached(plan: Plan, state: State, look: Look) -> tuple[Reason, str] | None:
    """Return the cap that stands in the way of going further, None when none does."""
    users = users_breach(plan.caps, users_exposed=look.users_exposed)
    if users:
        return Reason.CAP_USERS, users
    above_s = (look.now_ns - (state.above_since_ns or look.now_ns)) / 1e9
    duration = duration_breach(plan.caps, above_safe_s=above_s)
    return (Reason.CAP_DURATION, duration) if duration else None


def is_at(in_force: float, level: float) -> bool:
    """Return whether two levels are the same, as finely as a dial keeps them."""
    return abs(in_force - level) <= LEVEL_TOLERANCE


def _broken(state: State, look: Look) -> Decision | None:
    judgement = look.judgement
    if judgement is None or judgement.verdict is not Verdict.BROKEN or state.started_ns is None:
        return None
    return decided(
        state, Action.ROLL_BACK, Reason.BROKEN, f"rolled back: {judgement.sentence}", level=SAFE
    )


def _running(plan: Plan, state: State, look: Look) -> Decision:
    if look.in_force is None:
        return _wait(state, "the dial does not say what is in force")
    if is_at(look.in_force, state.level):
        sentence = f"{plan.said(state.level)} is in force"
        return decided(state, Action.ARRIVE, Reason.IN_FORCE, sentence)
    return _wait(state, f"turning from {plan.said(look.in_force)} to {plan.said(state.level)}")


def _held(plan: Plan, state: State, look: Look) -> Decision:
    late = _deadline(plan, state, look)
    if late is not None and state.hold in AUTOMATIC:
        return late
    if state.hold not in AUTOMATIC:
        return _wait(state, "")
    turned = _turned(plan, state, look)
    if turned is not None:
        return turned
    cause = _obstacle(plan, state, look)
    if cause is None:
        return decided(
            state, Action.GO_ON, Reason.CLEARED, f"goes on: {_words(state.hold)} is over"
        )
    reason, sentence = cause
    if reason is not state.hold:
        return decided(state, Action.HOLD, reason, f"held: {sentence}")
    return _wait(state, f"held: {sentence}")


def _baking(plan: Plan, state: State, look: Look) -> Decision:
    turned = _turned(plan, state, look)
    if turned is not None:
        return turned
    baked = is_baked(plan, state, look)
    obstacle = _obstacle(plan, state, look)
    if obstacle is not None and (baked or obstacle[0] in (Reason.STALE, Reason.SUSPECT)):
        return decided(state, Action.HOLD, obstacle[0], f"held: {obstacle[1]}")
    is_ready = baked and _allows(plan, state, look)
    last = len(plan.steps) - 1
    if is_ready and state.step == last:
        sentence = f"promoted: {plan.said(state.level)} stays"
        return decided(state, Action.PROMOTE, _why(plan, state), sentence)
    late = _deadline(plan, state, look)
    if late is not None:
        return late
    cap = cap_reached(plan, state, look)
    if cap is not None:
        return decided(state, Action.HOLD, cap[0], f"held: {cap[1]}")
    if is_ready:
        to = plan.steps[state.step + 1].level
        return decided(
            state, Action.RAISE, _why(plan, state),
            f"raised from {plan.said(state.level)} to {plan.said(to)}",
            step=state.step + 1, level=to,
        )  # fmt: skip
    return _wait(state, _awaited(plan, state, look, baked=baked))


def _turned(plan: Plan, state: State, look: Look) -> Decision | None:
    """Hold when somebody turned the dial by hand; lowered stays lowered."""
    if not state.arrived or look.in_force is None or is_at(look.in_force, state.level):
        return None
    found, meant = plan.said(look.in_force), plan.said(state.level)
    sentence = f"held: the dial is at {found} and not at {meant}, turned by hand"
    return decided(
        state, Action.HOLD, Reason.TURNED, sentence, level=min(look.in_force, state.level)
    )


def _obstacle(plan: Plan, state: State, look: Look) -> tuple[Reason, str] | None:
    stale = is_stale(plan, state, look)
    if stale:
        return Reason.STALE, stale
    judgement = look.judgement
    if judgement is None:
        return None
    if judgement.suspect:
        return Reason.SUSPECT, judgement.suspect
    reason = _NO_DATA.get(judgement.verdict)
    return None if reason is None else (reason, judgement.sentence)


def _deadline(plan: Plan, state: State, look: Look) -> Decision | None:
    if state.deadline_ns is None or look.now_ns < state.deadline_ns:
        return None
    sentence = f"undecided after {render_s(plan.deadline_s)}"
    if plan.when_undecided is WhenUndecided.ROLL_BACK:
        return decided(
            state, Action.ROLL_BACK, Reason.UNDECIDED, f"rolled back: {sentence}", level=SAFE
        )
    return decided(state, Action.HOLD, Reason.UNDECIDED, f"held: {sentence}")


def _allows(plan: Plan, state: State, look: Look) -> bool:
    if plan.requires(state.step) is Requires.NOT_BROKEN:
        return True
    return look.judgement is not None and look.judgement.verdict is Verdict.HOLDS


def _why(plan: Plan, state: State) -> Reason:
    holds = plan.requires(state.step) is Requires.HOLDS
    return Reason.GUARDS_HOLD if holds else Reason.BAKED


def _awaited(plan: Plan, state: State, look: Look, *, baked: bool) -> str:
    if baked:
        why = look.judgement.sentence if look.judgement is not None else "nothing was judged yet"
        return f"at {plan.said(state.level)}, baked; the guards must hold first: {why}"
    assert state.bake_from_ns is not None
    end_ns = state.bake_from_ns + round(plan.steps[state.step].bake_s * 1e9)
    left = roughly(max(0.0, (end_ns - look.judged_ns) / 1e9))
    return f"at {plan.said(state.level)}, baking for another {left}"


def _wait(state: State, sentence: str) -> Decision:
    return decided(state, Action.WAIT, state.hold, sentence)


def _words(name: str) -> str:
    return name.replace("_", " ")
