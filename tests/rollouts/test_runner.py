"""The control loop with its real store, judge and journal, and a dial and events in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import pytest

from inprod.errors import Conflict, Missing
from inprod.guards.cells import Count
from inprod.guards.edge.collect import Collected
from inprod.rollouts.edge.store import ROLLOUTS, RolloutStore
from inprod.rollouts.rollout import OnSilence, Phase, Step
from inprod.rollouts.state import Command, Verb
from inprod.safety.lever import Lever, Scope
from inprod.testing.collector import SlowCollector
from support.rollout_world import ANA, Traffic, World, plan_of, told

EVERYTHING = Lever(scope=Scope.EVERYTHING)
QUICK = (Step(level=10.0, bake_s=10.0), Step(level=100.0, bake_s=10.0))


@pytest.fixture
def world(tmp_path: Path) -> Generator[World]:
    made = World(folder=tmp_path, traffic=Traffic(users_per_s=10, base=0.0), tick_s=5.0)
    yield made
    made.close()


def ramp(name: str = "release", **changed: object):
    return plan_of(name, steps=QUICK, guards=(), settle_s=0.0, **changed)


def test_a_rollout_without_guards_climbs_and_is_promoted(world: World) -> None:
    dial = world.start(ramp())
    world.tick()
    assert dial.level == 10.0
    standing = world.run("release", seconds=120)
    assert (standing.state.phase, standing.settled, dial.level) == (Phase.PROMOTED, True, 100.0)
    assert told(world, "release") == [
        ("start", "started", 0.0, 10.0), ("arrive", "in_force", 10.0, 10.0),
        ("raise", "baked", 10.0, 100.0), ("arrive", "in_force", 100.0, 100.0),
        ("promote", "baked", 100.0, 100.0),
    ]  # fmt: skip
    assert world.runner.replay("release").equal
    assert standing.users_exposed > 0


def test_what_should_be_in_force_is_written_before_the_dial_turns(world: World) -> None:
    dial = world.start(ramp())
    dial.fails = 3
    world.tick()
    assert dial.level == 0.0
    standing = world.store.get("release")
    assert (standing.state.phase, standing.state.level) == (Phase.RUNNING, 10.0)
    assert "could not be turned to 10" in standing.trouble
    world.tick()
    world.tick()
    world.tick()
    assert dial.level == 10.0
    assert world.store.get("release").trouble == ""


def test_a_rollback_whose_dial_is_stuck_is_tried_again_until_it_is_safe(world: World) -> None:
    dial = world.start(ramp())
    world.tick()
    dial.fails = 2
    standing = world.command("release", Verb.ROLLBACK)
    assert (standing.state.phase, standing.settled, dial.level) == (Phase.ROLLED_BACK, False, 10.0)
    with pytest.raises(Conflict, match="is turned by rollout `release`"):
        world.runner.start(ramp("second"), ANA)
    world.tick()
    world.tick()
    assert (world.store.get("release").settled, dial.level) == (True, 0.0)
    world.runner.start(ramp("second"), ANA)


def test_a_dial_that_cannot_be_read_is_told_and_nothing_is_raised(world: World) -> None:
    dial = world.start(ramp())
    world.tick()
    dial.is_dark = True
    standing = world.run("release", seconds=60)
    assert standing.state.phase in (Phase.BAKING, Phase.RUNNING)
    assert "the dial cannot be read" in standing.trouble
    dial.is_dark = False
    assert world.run("release", seconds=120).state.phase is Phase.PROMOTED


def test_a_lever_in_the_middle_is_safe_within_one_tick_and_nothing_resumes_by_itself(
    world: World,
) -> None:
    dial = world.start(ramp())
    world.run("release", seconds=10)
    world.levers.pull(EVERYTHING, actor=ANA, reason="smoke")
    world.tick()
    assert dial.level == 0.0
    with pytest.raises(Conflict, match="pulled the lever"):
        world.runner.start(ramp("other", dial="flag/other"), ANA)
    world.levers.release(EVERYTHING, actor=ANA)
    standing = world.run("release", seconds=300)
    assert (standing.state.phase, dial.level) == (Phase.HELD, 0.0)
    world.command("release", Verb.RESUME)
    assert dial.level > 0
    assert world.run("release", seconds=120).state.phase is Phase.PROMOTED
    assert world.runner.replay("release").equal


def test_a_flag_lowered_by_hand_is_held_and_never_raised_by_the_loop(world: World) -> None:
    dial = world.start(ramp())
    world.run("release", seconds=5)
    dial.level = 0.0
    standing = world.run("release", seconds=300)
    assert (standing.state.phase, dial.level) == (Phase.HELD, 0.0)
    assert "turned by hand" in standing.sentence


def test_a_flag_raised_by_hand_is_lowered_again_and_held(world: World) -> None:
    dial = world.start(ramp())
    world.run("release", seconds=5)
    dial.level = 80.0
    world.tick()
    assert dial.level == 10.0
    held = world.store.get("release").state
    assert held.phase is Phase.HELD
    assert all(one.end is not None for one in held.windows), "nothing is counted meanwhile"
    world.command("release", Verb.RESUME)
    assert world.run("release", seconds=120).state.phase is Phase.PROMOTED
    assert world.runner.replay("release").equal


def test_orders_are_carried_out_at_once_and_replayed_with_their_actor(world: World) -> None:
    dial = world.start(ramp())
    world.tick()
    assert world.command("release", Verb.PAUSE).state.phase is Phase.HELD
    assert world.run("release", seconds=60).state.phase is Phase.HELD
    assert dial.level == 10.0
    world.command("release", Verb.RESUME)
    world.command("release", Verb.ADVANCE)
    assert dial.level == 100.0
    standing = world.command("release", Verb.STOP, keep=True)
    assert (standing.state.phase, dial.level) == (Phase.STOPPED, 100.0)
    world.tick()
    assert world.store.get("release").settled
    actors = {entry.actor for entry in world.store.journal("release") if entry.command}
    assert actors == {"ana"}
    assert world.runner.replay("release").equal
    with pytest.raises(Conflict):
        world.command("release", Verb.RESUME)


def test_stopping_puts_the_dial_to_safe(world: World) -> None:
    dial = world.start(ramp())
    world.tick()
    world.command("release", Verb.STOP)
    assert dial.level == 0.0
    assert world.store.get("release").settled


def test_a_plan_for_silence_leases_its_steps_and_not_its_promotion(world: World) -> None:
    dial = world.start(ramp(on_silence=OnSilence.ZERO))
    world.tick()
    assert dial.lease_s is not None
    standing = world.run("release", seconds=120)
    assert (standing.state.phase, dial.level, dial.lease_s) == (Phase.PROMOTED, 100.0, None)


def test_units_are_drawn_anew_before_the_first_turn(world: World) -> None:
    world.start(ramp())
    assert world.dials.prepared == []
    world.tick()
    assert world.dials.prepared == ["release"]


def test_a_name_and_a_dial_are_taken_once(world: World) -> None:
    world.start(ramp())
    with pytest.raises(Conflict, match="is a rollout already"):
        world.runner.start(ramp(dial="flag/other"), ANA)
    with pytest.raises(Conflict, match="is turned by rollout `release`"):
        world.runner.start(ramp("second"), ANA)
    world.runner.start(ramp("third", environment="staging"), ANA)
    with pytest.raises(Missing, match="Did you mean `release`"):
        world.store.get("relaese")


def test_a_commit_on_an_old_revision_is_refused_whole(world: World) -> None:
    world.start(ramp())
    old = world.store.get("release")
    world.tick()
    with pytest.raises(Conflict, match="changed meanwhile"):
        world.store.commit(replace(old, sentence="late"))
    assert world.store.get("release").sentence != "late"


def test_one_rollout_that_cannot_be_looked_at_does_not_keep_the_others(world: World) -> None:
    world.start(ramp("broken", dial="flag/broken"))
    dial = world.start(ramp())
    with world.engine.begin() as connection:
        connection.execute(
            ROLLOUTS.update().where(ROLLOUTS.c.name == "broken").values(arms='{"attribute": 1}')
        )
    world.tick()
    assert dial.level == 10.0


def test_a_tampered_journal_does_not_replay(world: World) -> None:
    world.traffic = Traffic(users_per_s=10, base=0.3, ratio=3.0)
    world.start(plan_of())
    standing = world.run("release", seconds=300)
    assert standing.state.phase is Phase.ROLLED_BACK
    assert world.runner.replay("release").equal
    tampered = TamperedStore(world.store)
    world.runner._store = tampered  # type: ignore[assignment]
    replayed = world.runner.replay("release")
    assert not replayed.equal
    assert "came out otherwise" in replayed.sentence


class TamperedStore(RolloutStore):
    """A store that lost the bad units of the treated arm."""

    def __init__(self, store: RolloutStore) -> None:
        super().__init__(store._engine, record=store._record, now_ns=store._now_ns)

    def cells(self, name: str):
        return {
            bucket: tuple(c for c in cells if not (c.arm == 1 and c.what.value == "bad"))
            for bucket, cells in super().cells(name).items()
        }


class GatedCollector(SlowCollector):
    """A collector that says when it counts, and goes on when told."""

    def __init__(self, *, now_ns: Callable[[], int]) -> None:
        super().__init__(now_ns=now_ns)
        self.counting = threading.Event()
        self.may_go_on = threading.Event()

    def collect(self, count: Count) -> Collected:
        self.counting.set()
        assert self.may_go_on.wait(30)
        return super().collect(count)


def test_an_order_does_not_wait_for_a_slow_count_and_is_not_undone_by_it(world: World) -> None:
    dial = world.start(ramp())
    world.tick()
    world.clock.advance(60)
    gated = GatedCollector(now_ns=world.clock.now_ns)
    world.events = gated
    world.restart()

    async def both() -> Phase:
        ticking = asyncio.create_task(world.runner.tick())
        await asyncio.to_thread(gated.counting.wait, 30)
        order = Command(verb=Verb.ROLLBACK, actor="ana")
        standing = await world.runner.command("release", order, ANA)
        assert not ticking.done()
        gated.may_go_on.set()
        await ticking
        return standing.state.phase

    assert asyncio.run(both()) is Phase.ROLLED_BACK
    assert dial.level == 0.0
    assert world.store.get("release").state.phase is Phase.ROLLED_BACK
    assert world.runner.replay("release").equal


def test_changes_are_published_as_they_happen(world: World) -> None:
    async def follow() -> list[str]:
        async with world.live.listen("rollouts") as listener:
            await asyncio.to_thread(world.runner.start, ramp(), ANA)
            await world.runner.tick()
            seen: list[str] = []
            while len(seen) < 3:
                message = await listener.next(5)
                assert message is not None
                assert isinstance(message.payload, dict)
                seen.append(str(message.payload["phase"]))
            return seen

    assert asyncio.run(follow()) == ["planned", "running", "baking"]


def test_every_decision_is_in_the_audit(world: World) -> None:
    world.start(ramp())
    world.run("release", seconds=120)
    what = [one.entry.what for one in world.audit.entries()]
    assert what == [
        "rollout.promote", "rollout.arrive", "rollout.raise", "rollout.arrive", "rollout.start",
        "rollout.create",
    ]  # fmt: skip
    assert world.audit.verify().broken_at is None


def test_a_pulled_lever_does_not_wait_for_a_slow_count(world: World) -> None:
    dial = world.start(ramp())
    world.start(ramp("free", dial="flag/free"))
    world.tick()
    world.clock.advance(60)
    gated = GatedCollector(now_ns=world.clock.now_ns)
    world.events = gated
    world.restart()
    lever = Lever(scope=Scope.DIAL, environment="production", dial="flag/checkout")

    async def both() -> float:
        ticking = asyncio.create_task(world.runner.tick())
        await asyncio.to_thread(gated.counting.wait, 30)
        await asyncio.to_thread(lambda: world.levers.pull(lever, actor=ANA, reason="smoke"))
        await world.runner.obey_levers()
        assert not ticking.done()
        in_force = dial.level
        gated.may_go_on.set()
        await ticking
        return in_force

    assert asyncio.run(both()) == 0.0
    assert (world.store.get("release").state.phase, dial.level) == (Phase.HELD, 0.0)
    assert world.store.get("free").state.level > 0
    assert world.runner.replay("release").equal
