from __future__ import annotations

from dataclasses import replace

import pytest

from inprod import document
from inprod.errors import Conflict, Invalid
from inprod.guards.guard import Guard, Kind
from inprod.rollouts.rollout import (
    ENDED,
    MOVES,
    Action,
    Phase,
    Plan,
    Requires,
    Step,
    phase_after,
)
from inprod.safety.cap import Caps

ERRORS = Guard(name="errors", kind=Kind.ERRORS)
STEPS = (Step(level=5.0), Step(level=50.0), Step(level=100.0))
PLAN = Plan(
    name="release", environment="production", dial="flag/checkout", steps=STEPS, guards=(ERRORS,)
)


@pytest.mark.parametrize(
    ("changed", "where", "said"),
    [
        ({"name": "a b"}, "name", "cannot name a rollout"),
        ({"dial": "checkout"}, "dial", "cannot name a dial"),
        ({"environment": ""}, "environment", "is empty"),
        ({"steps": ()}, "steps", "`0` steps"),
        ({"steps": (Step(level=5.0), Step(level=5.0))}, "steps[1].level", "does not rise"),
        ({"steps": (Step(level=101.0),)}, "steps[0].level", "`101` is not a percent"),
        ({"caps": Caps(level=50.0)}, "steps[2].level", "over the cap of 50"),
        ({"caps": Caps(step=45.0)}, "steps[2].level", "in one step"),
        ({"guards": (ERRORS, ERRORS)}, "guards[0].name", "names two guards"),
        ({"alpha": 0.0}, "alpha", "cannot be `alpha`"),
        ({"beta": 0.6}, "beta", "cannot be `beta`"),
        ({"batch_s": 0.01}, "batch_s", "cannot be `batch_s`"),
        ({"deadline_s": 0.0}, "deadline_s", "cannot be `deadline_s`"),
        ({"stale_s": -1.0}, "stale_s", "cannot be `stale_s`"),
        ({"settle_s": -1.0}, "settle_s", "cannot be `settle_s`"),
        (
            {"guards": (), "steps": (Step(level=5.0, requires=Requires.HOLDS),)},
            "steps[0].requires", "no required guard can hold",
        ),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_says_where_and_why(
    changed: dict[str, object], where: str, said: str
) -> None:
    with pytest.raises(Invalid) as caught:
        replace(PLAN, **changed)  # type: ignore[arg-type]
    assert caught.value.where == where
    assert said in caught.value.message
    assert caught.value.hint.endswith(".")


@pytest.mark.parametrize(("level", "bake_s"), [(0.0, 1.0), (-5.0, 1.0), (5.0, -1.0)])
def test_a_step_that_cannot_be_is_refused(level: float, bake_s: float) -> None:
    with pytest.raises(Invalid):
        Step(level=level, bake_s=bake_s)


def test_a_percent_of_101_in_a_document_is_refused_with_its_path() -> None:
    plain = {
        "name": "x", "environment": "production", "dial": "flag/x", "steps": [{"level": "101%"}],
    }  # fmt: skip
    with pytest.raises(Invalid) as caught:
        document.read(Plan, plain)
    assert caught.value.where == "$.steps[0].level"


def test_a_plan_survives_being_written_and_read() -> None:
    assert document.read(Plan, document.write(PLAN)) == PLAN


def test_holds_is_asked_once_before_the_last_step_unless_told_otherwise() -> None:
    asked = [PLAN.requires(step) for step in range(3)]
    assert asked == [Requires.NOT_BROKEN, Requires.HOLDS, Requires.NOT_BROKEN]
    told = replace(PLAN, steps=(Step(level=5.0, requires=Requires.HOLDS), *STEPS[1:]))
    assert told.requires(0) is Requires.HOLDS


def test_a_single_step_is_asked_to_hold_while_it_has_a_control() -> None:
    assert replace(PLAN, steps=(Step(level=50.0),)).requires(0) is Requires.HOLDS
    assert replace(PLAN, steps=(Step(level=100.0),)).requires(0) is Requires.NOT_BROKEN


def test_without_guards_that_can_hold_a_rollout_is_a_timed_ramp() -> None:
    watched = replace(ERRORS, required=False)
    for guards in ((), (watched,), (Guard(name="split", kind=Kind.SAMPLE_RATIO),)):
        plan = replace(PLAN, guards=guards)
        assert [plan.requires(step) for step in range(3)] == [Requires.NOT_BROKEN] * 3


def test_the_state_table_has_one_row_per_phase_and_action() -> None:
    keys = [(move.before, move.action) for move in MOVES]
    assert len(keys) == len(set(keys))
    assert all(move.sentence.endswith(".") for move in MOVES)
    assert {move.action for move in MOVES} == set(Action) - {Action.WAIT}


def test_nothing_leaves_an_ended_phase_and_every_other_one_can_be_left() -> None:
    assert not {move.before for move in MOVES} & ENDED
    assert {move.before for move in MOVES} == set(Phase) - ENDED


def test_every_phase_above_safe_can_be_rolled_back_and_stopped() -> None:
    for phase in (Phase.RUNNING, Phase.BAKING, Phase.HELD):
        assert phase_after(phase, Action.ROLL_BACK) is Phase.ROLLED_BACK
        assert phase_after(phase, Action.STOP) is Phase.STOPPED


def test_a_move_that_is_not_in_the_table_is_a_conflict_that_says_when_it_may_be() -> None:
    with pytest.raises(Conflict) as caught:
        phase_after(Phase.PROMOTED, Action.RAISE)
    assert str(caught.value) == (
        "a rollout that is `promoted` cannot `raise`. Do so when it is `baking` or `held`."
    )
