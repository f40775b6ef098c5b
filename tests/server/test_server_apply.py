"""Applying documents: all or none, idempotent, and what a rollout turns stays the rollout's."""

from __future__ import annotations

import copy
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from inprod.audit import Actor
from inprod.endpoint import Role
from inprod.errors import Conflict, Denied, Invalid, Missing
from inprod.flags.edge.store import FlagStore
from inprod.flags.flag import BUCKETS, Flag, Kind, Rule, Split, State, Treatment
from inprod.grant import Grant
from inprod.live import Live
from inprod.rollouts.edge.dials import check
from inprod.rollouts.rollout import Plan
from inprod.safety.edge.store import AuditLog, EnvironmentStore
from inprod.server.apply import Applied, Apply, RolloutSide
from inprod.server.percents import keep_percents
from inprod.server.state import open_state

ME = Actor(name="me")
ADMIN = Grant(name="admin", role=Role.ADMIN)
ENVIRONMENT = {"kind": "environment", "name": "production"}
FLAG: dict[str, Any] = {
    "kind": "flag", "key": "checkout", "type": "boolean", "default": "off", "off": "off",
    "variants": {"on": True, "off": False},
    "environments": {
        "production": {"rules": [{"id": "all", "split": {"control": "off", "treatments": ["on"]}}]}
    },
}  # fmt: skip
ROLLOUT: dict[str, Any] = {
    "kind": "rollout", "name": "checkout-1", "environment": "production", "dial": "flag/checkout",
    "steps": ["5%", "100%"], "guards": [{"name": "errors", "kind": "errors"}],
}  # fmt: skip


class Desk:
    """Apply over a real state; rollouts are a dictionary, what they turn is said by the test."""

    def __init__(self, engine: Engine) -> None:
        log = AuditLog(engine)
        self.environments = EnvironmentStore(engine, log.record)
        self.flags = FlagStore(
            engine, record=log.record, environments=self.environments.names,
            now_ns=time.time_ns, live=Live(),
        )  # fmt: skip
        self.plans: dict[str, Plan] = {}
        self.turned: frozenset[tuple[str, str]] = frozenset()
        self.apply = Apply(
            environments=self.environments,
            flags=self.flags,
            rollouts=RolloutSide(
                find=self.plans.get,
                check=check,
                start=self._start,
                turned=lambda _key: self.turned,
            ),
        )

    def _start(self, plan: Plan, actor: Actor) -> None:
        del actor
        self.plans[plan.name] = plan

    def run(
        self, *documents: object, dry_run: bool = False, grant: Grant = ADMIN
    ) -> Sequence[Applied]:
        async def run() -> Sequence[Applied]:
            return await self.apply.run(
                documents, actor=ME, grant=grant, dry_run=dry_run, reason="because"
            )

        return anyio.run(run)

    def split(self) -> Split:
        split = self.flags.get("checkout").flag.environments["production"].rules[0].split
        assert split is not None
        return split


@pytest.fixture
def desk(tmp_path: Path) -> Generator[Desk]:
    engine = open_state(f"sqlite:///{tmp_path / 'state.db'}")
    yield Desk(engine)
    engine.dispose()


def changed(document: dict[str, Any], *path: str | int, to: object) -> dict[str, Any]:
    copied = copy.deepcopy(document)
    inner: Any = copied
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = to
    return copied


RULE = ("environments", "production", "rules", 0)


def test_documents_that_need_each_other_are_applied_together_in_any_order(desk: Desk) -> None:
    done = desk.run(ROLLOUT, FLAG, ENVIRONMENT)
    assert [(one.kind, one.action) for one in done] == [
        ("rollout", "create"), ("flag", "create"), ("environment", "create"),
    ]  # fmt: skip
    assert desk.plans["checkout-1"].reason == "because"
    assert desk.environments.names() == ("production",)


def test_applying_again_changes_nothing(desk: Desk) -> None:
    desk.run(ENVIRONMENT, FLAG, ROLLOUT)
    before = desk.flags.revision()
    assert {one.action for one in desk.run(ENVIRONMENT, FLAG, ROLLOUT)} == {"unchanged"}
    assert desk.flags.revision() == before


def test_a_dry_run_says_the_same_and_stores_nothing(desk: Desk) -> None:
    dry = desk.run(ENVIRONMENT, FLAG, ROLLOUT, dry_run=True)
    assert desk.environments.names() == ()
    assert desk.flags.list() == ()
    assert desk.plans == {}
    assert desk.run(ENVIRONMENT, FLAG, ROLLOUT) == dry


@pytest.mark.parametrize(
    ("wrong", "kind", "where", "hint"),
    [
        (changed(FLAG, "key", to="a/b"), Invalid, "$[2].key", ""),
        ({**changed(FLAG, "key", to="x"), "variant": {}}, Invalid, "$[2].variant", "`variants`"),
        (changed(changed(FLAG, "key", to="x"), *RULE, "split", "percent", to="101%"), Invalid,
         "$[2].environments.production.rules[0].split.percent", "0 to 100"),
        (changed(changed(FLAG, "key", to="x"), "environments", to={"produdction": {}}), Missing,
         "$[2].environments.produdction", "Did you mean `production`?"),
        ({**ROLLOUT, "environment": "produdction"}, Missing, "$[2].environment",
         "Did you mean `production`?"),
        ({**ROLLOUT, "dial": "flag/nothing"}, Missing, "$[2].dial", ""),
        ({**ROLLOUT, "steps": ["5%", "2%"]}, Invalid, "$[2].steps[1].level", "rising"),
        ({**ROLLOUT, "gaurds": []}, Invalid, "$[2].gaurds", "Did you mean `guards`?"),
        ({"kind": "flg"}, Invalid, "$[2].kind", "Did you mean `flag`?"),
        ({"name": "no kind"}, Invalid, "$[2].kind", ""),
        ({"kind": "environment", "name": "a b"}, Invalid, "$[2]", ""),
        (ENVIRONMENT, Invalid, "$[2]", "Keep one"),
        ("text", Invalid, "$[2]", ""),
    ],
)  # fmt: skip
def test_one_wrong_document_keeps_all_from_being_stored(
    desk: Desk, wrong: object, kind: type[Exception], where: str, hint: str
) -> None:
    with pytest.raises(kind) as caught:
        desk.run(ENVIRONMENT, FLAG, wrong)
    error: Any = caught.value
    assert error.where.startswith(where), error.where
    assert hint in error.hint
    assert desk.environments.names() == ()
    assert desk.flags.list() == ()


def test_a_percent_that_is_left_out_stays_and_one_that_is_written_is_set(desk: Desk) -> None:
    desk.run(ENVIRONMENT, changed(FLAG, *RULE, "split", "percent", to="30%"))
    salt = desk.split().salt
    assert desk.run(FLAG)[0].action == "unchanged"
    assert desk.split().percent == 30
    done = desk.run(changed(FLAG, *RULE, "split", "percent", to=10))
    assert done[0].changes == ("In `production`: rule `all` goes from 30 % to 10 %.",)
    assert (desk.split().percent, desk.split().salt) == (10, salt)


def test_what_a_rollout_turns_is_neither_moved_nor_changed_by_a_document(desk: Desk) -> None:
    desk.run(ENVIRONMENT, changed(FLAG, *RULE, "split", "percent", to="25%"))
    desk.turned = frozenset({("production", "all")})
    assert desk.run(changed(FLAG, *RULE, "split", "percent", to="0%"))[0].action == "unchanged"
    about = {**FLAG, "description": "Words may change."}
    assert desk.run(about)[0].action == "change"
    first = {"id": "first", "serve": "on", "when": [{"attribute": "x", "op": "exists"}]}
    later = copy.deepcopy(about)
    later["environments"]["production"]["rules"].append(first)
    assert desk.run(later)[0].action == "change", "a rule that is asked later changes nobody"
    ahead = copy.deepcopy(later)
    ahead["environments"]["production"]["rules"].reverse()
    for wrong in (
        changed(FLAG, *RULE, "split", "unit", to="session.id"),
        changed(FLAG, *RULE, "split", "salt", to="another"),
        changed(FLAG, *RULE, "when", to=[{"attribute": "x", "op": "exists"}]),
        changed(FLAG, "environments", "production", to={"rules": []}),
        changed(FLAG, "environments", to={}),
        changed(FLAG, "environments", "production", "enabled", to=False),
        ahead,
    ):
        with pytest.raises(Conflict) as caught:
            desk.run(wrong)
        assert caught.value.code == "rollout_active"
    assert desk.split().percent == 25


def test_a_rollout_with_another_plan_under_the_same_name_is_a_conflict(desk: Desk) -> None:
    desk.run(ENVIRONMENT, FLAG, ROLLOUT)
    with pytest.raises(Conflict) as caught:
        desk.run({**ROLLOUT, "steps": ["7%", "100%"]})
    assert caught.value.code == "rollout_exists"


def test_two_rollouts_of_one_dial_are_refused_together_and_nothing_is_stored(desk: Desk) -> None:
    with pytest.raises(Conflict) as caught:
        desk.run(ENVIRONMENT, FLAG, ROLLOUT, {**ROLLOUT, "name": "checkout-2"})
    assert caught.value.code == "dial_taken"
    assert (desk.environments.names(), desk.flags.list(), desk.plans) == ((), (), {})


def test_a_key_applies_within_its_environments_and_role_only(desk: Desk) -> None:
    desk.run(ENVIRONMENT, {"kind": "environment", "name": "staging"}, FLAG)
    staging = Grant(name="ci", role=Role.OPERATE, environments=("staging",))
    in_production = changed(FLAG, *RULE, "split", "percent", to="10%")
    in_staging = copy.deepcopy(FLAG)
    in_staging["environments"]["staging"] = {}
    assert desk.run(in_staging, grant=staging)[0].action == "change"
    for wrong, code in (
        (changed(in_production, "environments", "staging", to={}), "wrong_environment"),
        (changed(in_staging, "default", to="on"), "wrong_environment"),
        (ROLLOUT, "wrong_environment"),
        ({"kind": "environment", "name": "mine"}, "wrong_environment"),
    ):
        with pytest.raises(Denied) as caught:
            desk.run(wrong, grant=staging)
        assert caught.value.code == code
    operator = Grant(name="ci", role=Role.OPERATE)
    with pytest.raises(Denied) as caught:
        desk.run({"kind": "environment", "name": "mine"}, grant=operator)
    assert caught.value.code == "wrong_role"
    assert desk.run(ENVIRONMENT, grant=operator)[0].action == "unchanged"


def flag_with(percent: float) -> Flag:
    split = Split(
        control="off", treatments=(Treatment(variant="on", weight=BUCKETS),), salt="s",
        percent=percent,
    )  # fmt: skip
    return Flag(
        key="f", kind=Kind.BOOLEAN, variants={"on": True, "off": False}, default="off", off="off",
        environments={"production": State(rules=(Rule(id="all", split=split),))},
    )  # fmt: skip


@given(before=st.integers(0, 100), after=st.integers(0, 100), written=st.booleans())
def test_no_document_ever_moves_a_percent_that_a_rollout_turns(
    before: int, after: int, written: bool
) -> None:
    place = frozenset({("production", "all")})
    old, new = flag_with(before), flag_with(after)
    said = place if written else frozenset[tuple[str, str]]()
    assert keep_percents(new, old, said, place) == old
    assert keep_percents(new, old, said, frozenset()) == (new if written else old)
    assert keep_percents(new, None, said, place) == new
