"""The control loop in virtual time, from seeds: false and missed rollbacks, levers, restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from inprod.guards.guard import Guard, Kind
from inprod.rollouts.rollout import Phase, Plan, Step
from inprod.rollouts.state import Reason, Verb
from inprod.safety.lever import Lever, Scope
from support.rollout_world import ANA, Traffic, World, has_ended, plan_of, told

ALPHA = 0.05
HARMLESS = 100
HARMFUL = 40


def plan_for(**changed: object) -> Plan:
    """Return a plan that is quick to judge: bad units are frequent, buckets are long."""
    return plan_of(
        steps=(Step(level=20.0, bake_s=40.0), Step(level=50.0, bake_s=40.0)),
        guards=(Guard(name="errors", kind=Kind.ERRORS, promote_ratio=2.0),),
        batch_s=10.0, settle_s=0.0, **changed,
    )  # fmt: skip


def outcome(folder: Path, seed: int, traffic: Traffic, *, seconds: float = 300) -> World:
    world = World(folder=folder, seed=seed, traffic=traffic, tick_s=10.0)
    world.start(plan_for(alpha=ALPHA))
    world.tick()
    world.run("release", seconds=seconds)
    return world


def phase_of(world: World) -> Phase:
    return world.store.get("release").state.phase


def test_harmless_changes_are_rolled_back_at_most_as_often_as_alpha_says(tmp_path: Path) -> None:
    """Users come back within and between stages, which is what naive counting falls for."""
    phases: list[Phase] = []
    for seed in range(HARMLESS):
        traffic = Traffic(users_per_s=6, base=0.2, population=800)
        world = outcome(tmp_path, seed, traffic)
        phases.append(phase_of(world))
        world.close()
    false = phases.count(Phase.ROLLED_BACK)
    assert false <= ALPHA * HARMLESS, f"{false} of {HARMLESS} harmless changes were rolled back"
    assert phases.count(Phase.HELD) <= 0.03 * HARMLESS


def test_harmful_changes_are_rolled_back_and_never_promoted(tmp_path: Path) -> None:
    phases: list[Phase] = []
    for seed in range(1000, 1000 + HARMFUL):
        world = outcome(tmp_path, seed, Traffic(users_per_s=6, base=0.15, ratio=4.0))
        phases.append(phase_of(world))
        if phases[-1] is Phase.ROLLED_BACK:
            assert world.dials.of(world.store.get("release").plan).level == 0.0
        world.close()
    missed = HARMFUL - phases.count(Phase.ROLLED_BACK)
    assert phases.count(Phase.PROMOTED) == 0
    assert missed <= 0.1 * HARMFUL, f"{missed} of {HARMFUL} harmful changes were not rolled back"


@pytest.mark.parametrize("ratio", [1.0, 4.0])
def test_a_restart_at_every_tick_gives_the_same_journal(tmp_path: Path, ratio: float) -> None:
    journals: list[list[object]] = []
    for is_restarted in (False, True):
        folder = tmp_path / str(is_restarted)
        folder.mkdir()
        traffic = Traffic(users_per_s=8, base=0.2, ratio=ratio, population=900)
        world = World(folder=folder, seed=7, traffic=traffic, tick_s=10.0)
        world.start(plan_for())
        world.tick()

        def restart(_: int, world: World = world, wanted: bool = is_restarted) -> None:
            if wanted:
                world.restart()

        world.run("release", seconds=400, each=restart)
        assert has_ended(world.store.get("release"))
        assert world.runner.replay("release").equal
        journals.append(list(world.store.journal("release")))
        world.close()
    assert journals[0] == journals[1]


@pytest.mark.parametrize("tick", [1, 4, 9])
def test_a_lever_in_the_middle_of_a_ramp_is_safe_at_once_and_the_rollout_can_be_finished(
    tmp_path: Path, tick: int
) -> None:
    lever = Lever(scope=Scope.ENVIRONMENT, environment="production")
    world = World(folder=tmp_path, seed=3, traffic=Traffic(users_per_s=8, base=0.2), tick_s=10.0)
    dial = world.start(plan_for())
    world.tick()

    def act(number: int) -> None:
        if number == tick:
            world.levers.pull(lever, actor=ANA, reason="drill")
        if number == tick + 1:
            assert dial.level == 0.0
        if number == tick + 5:
            world.levers.release(lever, actor=ANA, reason="drill over")
        if number == tick + 8:
            assert dial.level == 0.0
            world.command("release", Verb.RESUME)

    standing = world.run("release", seconds=900, each=act)
    assert standing.state.phase is Phase.PROMOTED
    assert ("hold", "lever") in [entry[:2] for entry in told(world, "release")]
    assert world.runner.replay("release").equal
    world.close()


def test_events_that_come_late_neither_break_nor_hold_a_harmless_rollout(tmp_path: Path) -> None:
    """They tell of the level before the turn; `settle_s` keeps them out of the next stage."""
    traffic = Traffic(users_per_s=10, base=0.2, delay_s=8.0, population=1500)
    world = World(folder=tmp_path, seed=11, traffic=traffic, tick_s=5.0)
    world.start(
        plan_of(
            steps=(Step(level=20.0, bake_s=40.0), Step(level=60.0, bake_s=60.0)),
            guards=(Guard(name="errors", kind=Kind.ERRORS, promote_ratio=2.5),), settle_s=10.0,
        )
    )  # fmt: skip
    world.tick()
    standing = world.run("release", seconds=900)
    assert standing.state.phase is Phase.PROMOTED
    assert Reason.SUSPECT.value not in [entry[1] for entry in told(world, "release")]
    world.close()


def test_a_store_that_falls_silent_holds_and_goes_on_when_data_comes_back(tmp_path: Path) -> None:
    loud = Traffic(users_per_s=8, base=0.2)
    world = World(folder=tmp_path, seed=5, traffic=loud, tick_s=10.0)
    dial = world.start(plan_for(stale_s=60.0))
    world.tick()

    def act(number: int) -> None:
        if number == 2:
            world.traffic = Traffic(users_per_s=0)
        if number == 20:
            world.traffic = loud

    held = world.run(
        "release", seconds=600, each=act,
        until=lambda one: one.state.hold is Reason.STALE,
    )  # fmt: skip
    assert (held.state.phase, dial.level) == (Phase.HELD, 20.0)
    assert "o event" in held.sentence
    world.traffic = loud
    standing = world.run("release", seconds=600)
    assert standing.state.phase is Phase.PROMOTED
    assert ("go_on", "cleared") in [entry[:2] for entry in told(world, "release")]
    assert world.runner.replay("release").equal
    world.close()


def test_a_collector_that_lags_only_delays(tmp_path: Path) -> None:
    world = World(folder=tmp_path, seed=6, traffic=Traffic(users_per_s=8, base=0.2), tick_s=10.0)
    world.events.delay_ms = 25_000
    world.start(plan_for())
    world.tick()
    assert world.run("release", seconds=600).state.phase is Phase.PROMOTED
    world.close()
