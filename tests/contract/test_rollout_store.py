"""The stores of safety and rollouts do the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from inprod.errors import Conflict
from inprod.guards.arms import Arms
from inprod.guards.evidence import Cell, What
from inprod.rollouts.decide import decide
from inprod.rollouts.edge.store import Batch, RolloutStore
from inprod.rollouts.rollout import Phase
from inprod.rollouts.state import Look, Written
from inprod.safety.edge.store import AuditLog, EnvironmentStore, LeverStore
from inprod.safety.lever import Lever, Scope
from inprod.server.state import open_state
from inprod.testing.clock import Clock
from support.postgres import cluster
from support.rollout_world import ANA, plan_of

ARMS = Arms(attribute="flag.checkout", treated="on", control="off")
AT_ONCE = 4


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Engine]:
    if request.param == "sqlite":
        folder: Path = tmp_path_factory.mktemp("state")
        opened = open_state(f"sqlite:///{folder}/state.db")
        yield opened
        opened.dispose()
        return
    with cluster() as url:
        opened = open_state(url)
        yield opened
        opened.dispose()


def store_of(engine: Engine) -> RolloutStore:
    return RolloutStore(engine, record=AuditLog(engine).record, now_ns=Clock().now_ns)


def at_once(act: Callable[[int], object]) -> list[str]:
    """Do it in several threads at once; return how each ended."""
    ends: list[str] = []
    gate = threading.Barrier(AT_ONCE)

    def one(number: int) -> None:
        gate.wait(30)
        try:
            act(number)
            ends.append("done")
        except Conflict as error:
            ends.append(error.code)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return sorted(ends)


def test_of_several_rollouts_at_once_one_gets_the_dial(engine: Engine) -> None:
    store = store_of(engine)
    ends = at_once(lambda n: store.create(plan_of(f"race-{n}", dial="flag/race"), ARMS, actor=ANA))
    assert ends == ["dial_taken"] * (AT_ONCE - 1) + ["done"]


def test_of_several_commits_at_once_one_is_kept(engine: Engine) -> None:
    store = store_of(engine)
    standing = store.create(plan_of("commits", dial="flag/commits"), ARMS, actor=ANA)
    ends = at_once(lambda n: store.commit(replace(standing, sentence=f"by {n}")))
    assert ends == ["changed_meanwhile"] * (AT_ONCE - 1) + ["done"]
    assert store.get("commits").revision == 2


def test_what_is_committed_is_read_back_the_same(engine: Engine) -> None:
    store = store_of(engine)
    standing = store.create(plan_of("whole", dial="flag/whole"), ARMS, actor=ANA)
    look = Look(now_ns=5, in_force=0.0, users_exposed=3)
    decision = decide(standing.plan, standing.state, look)
    written = Written(
        seq=store.next_seq("whole"), time_ns=5, actor="inprod", decision=decision, look=look,
        bucket=7, from_level=0.1,
    )  # fmt: skip
    cells = (
        Cell(guard=0, what=What.BAD, bucket=7, stage=1, stratum=2, arm=1, bin=-4, n=9),
        Cell(guard=1, what=What.VALUE, bucket=7, stage=1, stratum=0, arm=1, n=2, value=0.1),
    )
    batch = Batch(bucket=7, cells=cells, evidence=((0.5, None, 1.0, 0.1, 2.0),))
    after = replace(standing, users_exposed=3, judged_bucket=7, last_event_ns=2**62)
    stored = store.commit(after, batches=(batch,), written=written)
    assert stored == replace(after, revision=2)
    assert store.journal("whole") == (written,)
    assert store.cells("whole") == {7: cells}
    assert store.evidence("whole") == (replace(batch, cells=()),)


def test_a_commit_that_fails_stores_nothing_by_halves(engine: Engine) -> None:
    store = store_of(engine)
    standing = store.create(plan_of("halves", dial="flag/halves"), ARMS, actor=ANA)
    store.commit(standing)
    with pytest.raises(Conflict):
        store.commit(standing, batches=(Batch(bucket=1),))
    assert store.cells("halves") == {}


def test_an_ended_and_settled_rollout_lets_go_of_its_dial(engine: Engine) -> None:
    store = store_of(engine)
    standing = store.create(plan_of("first", dial="flag/next"), ARMS, actor=ANA)
    ended = replace(standing, state=replace(standing.state, phase=Phase.STOPPED))
    standing = store.commit(ended)
    with pytest.raises(Conflict):
        store.create(plan_of("second", dial="flag/next"), ARMS, actor=ANA)
    store.commit(replace(standing, settled=True))
    store.create(plan_of("second", dial="flag/next"), ARMS, actor=ANA)
    assert [one.name for one in store.turning() if one.plan.dial == "flag/next"] == ["second"]


def test_levers_pulled_at_once_are_one_and_the_audit_is_one_chain(engine: Engine) -> None:
    audit = AuditLog(engine)
    levers = LeverStore(engine, audit.record, Clock().now_ns)
    environments = EnvironmentStore(engine, audit.record, Clock().now_ns)
    lever = Lever(scope=Scope.ENVIRONMENT, environment="everywhere")
    assert at_once(lambda _: levers.pull(lever, actor=ANA)) == ["done"] * AT_ONCE
    assert [one.lever for one in levers.pulled()] == [lever]
    ends = at_once(lambda _: environments.add("everywhere", ANA))
    assert ends == ["done"] + ["environment_exists"] * (AT_ONCE - 1)
    assert audit.verify().broken_at is None
