from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inprod.errors import Conflict
from inprod.guards.evidence import Judgement
from inprod.guards.guard import Guard, Kind, Verdict
from inprod.rollouts.command import obey
from inprod.rollouts.decide import decide
from inprod.rollouts.rollout import ENDED, Action, Phase, Plan, Step, WhenUndecided
from inprod.rollouts.state import Command, Look, Reason, State, Verb, apply
from inprod.safety.cap import Caps
from inprod.safety.lever import Lever, Pulled, Scope

NS = 1_000_000_000
T0 = 1_900_000_000 * NS
PLAN = Plan(
    name="release", environment="production", dial="flag/checkout",
    steps=(Step(level=5.0, bake_s=60.0), Step(level=50.0, bake_s=60.0), Step(level=100.0)),
    guards=(Guard(name="errors", kind=Kind.ERRORS),), settle_s=0.0,
)  # fmt: skip
LEVER = Pulled(lever=Lever(scope=Scope.EVERYTHING), time_ns=1, actor="ana", reason="smoke")


def judged(verdict: Verdict, *, suspect: str = "", culprit: str = "") -> Judgement:
    return Judgement(
        bucket=1, verdict=verdict, sentence=f"it {verdict}", guards=(), suspect=suspect,
        culprit=culprit,
    )  # fmt: skip


def look(
    state: State, *, after_s: float = 0.0, verdict: Verdict | None = Verdict.UNDECIDED,
    **changed: object,
) -> Look:  # fmt: skip
    now = T0 + round(after_s * NS)
    seen = Look(
        now_ns=now, in_force=state.level, judged_ns=now, last_event_ns=now,
        judgement=None if verdict is None else judged(verdict),
    )  # fmt: skip
    return replace(seen, **changed)  # type: ignore[arg-type]


def baking(step: int = 0, plan: Plan = PLAN) -> State:
    """Return a state that has just arrived at a step."""
    state = State(since_ns=T0)
    for _ in range(step + 1):
        seen = look(state, verdict=Verdict.HOLDS, after_s=0)
        decision = decide(plan, state, seen)
        if decision.action is Action.WAIT:
            decision = obey(plan, state, seen, Command(verb=Verb.ADVANCE, actor="ana"))
        state = apply(plan, state, decision, now_ns=T0)
        arrival = decide(plan, state, look(state))
        assert arrival.action is Action.ARRIVE
        state = apply(plan, state, arrival, now_ns=T0)
    assert state.phase is Phase.BAKING
    assert state.step == step
    return state


def test_a_planned_rollout_starts_at_its_first_step() -> None:
    decision = decide(PLAN, State(), look(State()))
    assert (decision.action, decision.to_level) == (Action.START, 5.0)
    assert decision.phase is Phase.RUNNING


def test_a_turn_that_is_not_in_force_yet_is_waited_for() -> None:
    state = apply(PLAN, State(), decide(PLAN, State(), look(State())), now_ns=T0)
    assert decide(PLAN, state, look(state, in_force=0.0)).action is Action.WAIT
    assert decide(PLAN, state, look(state, in_force=None)).action is Action.WAIT
    assert decide(PLAN, state, look(state, in_force=5.0)).action is Action.ARRIVE


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_broken_guard_rolls_back_at_once_from_every_step(step: int) -> None:
    state = baking(step)
    seen = look(state, judgement=judged(Verdict.BROKEN, culprit="errors"))
    decision = decide(PLAN, state, seen)
    assert (decision.action, decision.to_level) == (Action.ROLL_BACK, 0.0)
    assert decision.sentence == f"rolled back: {seen.judgement.sentence}"


def test_a_broken_guard_rolls_back_a_held_rollout_too() -> None:
    state = baking(0)
    pause = obey(PLAN, state, look(state), Command(verb=Verb.PAUSE, actor="ana"))
    state = apply(PLAN, state, pause, now_ns=T0)
    assert state.phase is Phase.HELD
    decision = decide(PLAN, state, look(state, verdict=Verdict.BROKEN))
    assert decision.action is Action.ROLL_BACK


@pytest.mark.parametrize(
    ("verdict", "after_s", "action"),
    [
        (Verdict.UNDECIDED, 59, Action.WAIT),
        (Verdict.UNDECIDED, 60, Action.RAISE),
        (Verdict.HOLDS, 60, Action.RAISE),
        (Verdict.NO_EXPOSURES, 59, Action.WAIT),
        (Verdict.NO_EXPOSURES, 60, Action.HOLD),
        (Verdict.NO_OUTCOMES, 60, Action.HOLD),
        (Verdict.STALE, 60, Action.HOLD),
    ],
)
def test_an_early_step_goes_on_when_it_is_baked_and_not_broken(
    verdict: Verdict, after_s: float, action: Action
) -> None:
    state = baking(0)
    assert decide(PLAN, state, look(state, after_s=after_s, verdict=verdict)).action is action


def test_the_guards_must_hold_before_the_last_step() -> None:
    state = baking(1)
    waits = decide(PLAN, state, look(state, after_s=600))
    assert waits.action is Action.WAIT
    assert "the guards must hold first" in waits.sentence
    goes = decide(PLAN, state, look(state, after_s=600, verdict=Verdict.HOLDS))
    assert (goes.action, goes.reason, goes.to_level) == (Action.RAISE, Reason.GUARDS_HOLD, 100.0)


def test_the_last_step_is_promoted_when_baked() -> None:
    state = baking(2)
    decision = decide(PLAN, state, look(state, after_s=61))
    assert (decision.action, decision.to_level) == (Action.PROMOTE, 100.0)


def test_a_step_bakes_in_judged_time_and_not_only_on_the_clock() -> None:
    state = baking(0)
    seen = look(state, after_s=90, judged_ns=T0 + 59 * NS)
    assert decide(PLAN, state, seen).action is Action.WAIT


def test_a_suspect_comparison_holds_at_once_and_goes_on_when_it_is_over() -> None:
    state = baking(0)
    seen = look(state, judgement=judged(Verdict.UNDECIDED, suspect="the split is off"))
    decision = decide(PLAN, state, seen)
    assert (decision.action, decision.reason) == (Action.HOLD, Reason.SUSPECT)
    state = apply(PLAN, state, decision, now_ns=T0)
    assert state.level == 5.0
    assert decide(PLAN, state, look(state)).action is Action.GO_ON


def test_silence_holds_and_data_lets_it_go_on() -> None:
    state = baking(0)
    silent = look(state, after_s=150, last_event_ns=T0)
    decision = decide(PLAN, state, silent)
    assert (decision.action, decision.reason) == (Action.HOLD, Reason.STALE)
    assert "no event of `production` arrived for" in decision.sentence
    state = apply(PLAN, state, decision, now_ns=silent.now_ns)
    assert decide(PLAN, state, silent).action is Action.WAIT
    assert decide(PLAN, state, look(state, after_s=160)).action is Action.GO_ON


def test_a_store_that_lags_is_stale() -> None:
    state = baking(0)
    decision = decide(PLAN, state, look(state, after_s=600, judged_ns=T0 + 10 * NS))
    assert decision.reason is Reason.STALE
    assert "the event store is" in decision.sentence


@pytest.mark.parametrize(
    ("choice", "action"),
    [(WhenUndecided.HOLD, Action.HOLD), (WhenUndecided.ROLL_BACK, Action.ROLL_BACK)],
)
def test_undecided_at_the_deadline_does_what_the_plan_says(
    choice: WhenUndecided, action: Action
) -> None:
    plan = replace(PLAN, deadline_s=3600.0, when_undecided=choice)
    state = baking(1, plan)
    assert decide(plan, state, look(state, after_s=3599)).action is Action.WAIT
    decision = decide(plan, state, look(state, after_s=3600))
    assert (decision.action, decision.reason) == (action, Reason.UNDECIDED)
    if action is Action.HOLD:
        held = apply(plan, state, decision, now_ns=T0 + 3600 * NS)
        assert held.level == 50.0
        again = decide(plan, held, look(held, after_s=9999, verdict=Verdict.HOLDS))
        assert again.action is Action.WAIT  # it asked; a person answers


def test_caps_on_users_and_duration_hold_the_level() -> None:
    plan = replace(PLAN, caps=Caps(users=100, duration_s=600.0))
    state = baking(0, plan)
    users = decide(plan, state, look(state, after_s=1, users_exposed=100))
    assert (users.action, users.reason, users.to_level) == (Action.HOLD, Reason.CAP_USERS, 5.0)
    late = decide(plan, state, look(state, after_s=600))
    assert (late.action, late.reason) == (Action.HOLD, Reason.CAP_DURATION)


def test_a_cap_does_not_keep_a_finished_rollout_from_promotion() -> None:
    plan = replace(PLAN, caps=Caps(users=100))
    state = baking(2, plan)
    decision = decide(plan, state, look(state, after_s=61, users_exposed=5000))
    assert decision.action is Action.PROMOTE


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_lever_puts_the_dial_to_safe_and_only_a_person_resumes(step: int) -> None:
    state = baking(step)
    decision = decide(PLAN, state, look(state, pulled=LEVER))
    assert (decision.action, decision.reason, decision.to_level) == (
        Action.HOLD, Reason.LEVER, 0.0,
    )  # fmt: skip
    assert "`ana` pulled the lever of everything: smoke" in decision.sentence
    held = apply(PLAN, state, decision, now_ns=T0)
    released = look(held, after_s=9999, verdict=Verdict.HOLDS)
    assert decide(PLAN, held, released).action is Action.WAIT
    with pytest.raises(Conflict, match="pulled the lever"):
        obey(PLAN, held, look(held, pulled=LEVER), Command(verb=Verb.RESUME, actor="ana"))
    resumed = obey(PLAN, held, released, Command(verb=Verb.RESUME, actor="ana"))
    assert (resumed.action, resumed.to_level) == (Action.RETURN, PLAN.steps[step].level)


def test_a_planned_rollout_under_a_lever_is_held() -> None:
    decision = decide(PLAN, State(), look(State(), pulled=LEVER))
    assert (decision.phase, decision.to_level) == (Phase.HELD, 0.0)


@pytest.mark.parametrize("in_force", [0.0, 2.0, 60.0])
def test_a_dial_turned_by_hand_holds_and_is_never_raised_again(in_force: float) -> None:
    state = baking(1)
    decision = decide(PLAN, state, look(state, in_force=in_force))
    assert (decision.action, decision.reason) == (Action.HOLD, Reason.TURNED)
    assert decision.to_level == min(in_force, 50.0)


def test_resuming_with_a_cap_on_the_step_climbs_again_from_where_it_may() -> None:
    plan = replace(PLAN, caps=Caps(step=50.0))
    state = baking(2, plan)
    pulled = decide(plan, state, look(state, pulled=LEVER))
    held = apply(plan, state, pulled, now_ns=T0 + 30 * NS)
    resumed = obey(plan, held, look(held), Command(verb=Verb.RESUME, actor="ana"))
    assert (resumed.to_step, resumed.to_level) == (1, 50.0)
    state = apply(plan, held, resumed, now_ns=T0 + 60 * NS)
    arrived = apply(plan, state, decide(plan, state, look(state, after_s=60)), now_ns=T0 + 60 * NS)
    assert all(window.end is not None for window in arrived.windows)  # no evidence down here


def test_advance_skips_the_bake_and_not_a_broken_guard() -> None:
    state = baking(0)
    advance = Command(verb=Verb.ADVANCE, actor="ana", reason="in a hurry")
    decision = obey(PLAN, state, look(state), advance)
    assert (decision.action, decision.to_level) == (Action.RAISE, 50.0)
    assert "by `ana`: in a hurry" in decision.sentence
    with pytest.raises(Conflict, match="a guard is broken"):
        obey(PLAN, state, look(state, verdict=Verdict.BROKEN), advance)
    capped = replace(PLAN, caps=Caps(users=10))
    with pytest.raises(Conflict, match="the cap is 10"):
        obey(capped, state, look(state, users_exposed=10), advance)


def test_advance_at_the_last_step_promotes() -> None:
    state = baking(2)
    decision = obey(PLAN, state, look(state), Command(verb=Verb.ADVANCE, actor="ana"))
    assert decision.action is Action.PROMOTE


def test_stop_goes_to_safe_unless_told_to_keep() -> None:
    state = baking(1)
    assert obey(PLAN, state, look(state), Command(verb=Verb.STOP, actor="a")).to_level == 0.0
    kept = obey(PLAN, state, look(state), Command(verb=Verb.STOP, actor="a", keep=True))
    assert (kept.phase, kept.to_level) == (Phase.STOPPED, 50.0)


def test_a_pause_in_the_middle_of_a_turn_stays_where_the_dial_is() -> None:
    state = apply(PLAN, State(), decide(PLAN, State(), look(State())), now_ns=T0)
    decision = obey(PLAN, state, look(state, in_force=0.0), Command(verb=Verb.PAUSE, actor="a"))
    assert (decision.phase, decision.to_level) == (Phase.HELD, 0.0)


VERDICTS = st.sampled_from(list(Verdict))
LOOKS = st.fixed_dictionaries(
    {
        "verdict": VERDICTS,
        "suspect": st.sampled_from(["", "", "", "off"]),
        "lever": st.sampled_from([None, None, None, LEVER]),
        "seconds": st.floats(0, 200),
        "users": st.integers(0, 50),
        "turned": st.sampled_from([None, None, None, None, 0.0, 3.0]),
        "verb": st.sampled_from([None, None, None, *Verb]),
        "in_force": st.booleans(),
    }
)


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(LOOKS, max_size=40))
def test_whatever_is_seen_the_laws_of_the_rollout_hold(steps: list[dict[str, object]]) -> None:
    """Levels only rise along the steps; broken or a lever is safe at once; ended is ended."""
    plan = replace(PLAN, caps=Caps(users=40))
    state, in_force, now_s, users = State(since_ns=T0), 0.0, 0.0, 0
    for one in steps:
        now_s += float(one["seconds"])  # type: ignore[arg-type]
        users = max(users, int(one["users"]))  # type: ignore[call-overload]
        in_force = state.level if one["in_force"] else in_force
        if one["turned"] is not None and state.arrived:
            in_force = min(in_force, float(one["turned"]))  # type: ignore[arg-type]
        verdict = one["verdict"]
        assert isinstance(verdict, Verdict)
        if state.started_ns is None:
            verdict = Verdict.UNDECIDED  # nothing was turned, so nothing was judged
        seen = look(
            state, after_s=now_s, in_force=in_force, users_exposed=users, pulled=one["lever"],
            judgement=judged(verdict, suspect=str(one["suspect"])),
        )  # fmt: skip
        if one["verb"] is not None:
            try:
                decision = obey(
                    plan, state, seen,
                    Command(verb=one["verb"], actor="ana"),  # type: ignore[arg-type]
                )  # fmt: skip
            except Conflict:
                continue
        else:
            decision = decide(plan, state, seen)
            if verdict is Verdict.BROKEN and state.started_ns and state.phase not in ENDED:
                assert decision.phase is Phase.ROLLED_BACK
            elif one["lever"] is not None and state.phase not in ENDED:
                assert decision.to_level == 0.0
        after = apply(plan, state, decision, now_ns=seen.now_ns)
        assert decision.sentence or decision.action is Action.WAIT
        if after.level > state.level:
            assert after.level == plan.steps[after.step].level
            assert after.step <= state.step + 1
            assert verdict is not Verdict.BROKEN
            assert one["lever"] is None
            assert state.phase in (Phase.PLANNED, Phase.BAKING, Phase.HELD)
        if state.phase in ENDED:
            assert after == state
        open_windows = [window for window in after.windows if window.end is None]
        assert len(open_windows) <= 1
        assert not (open_windows and after.level != plan.steps[open_windows[0].stage].level)
        starts = [window.start for window in after.windows]
        assert starts == sorted(starts)
        state = after
