"""One suite for every dial: reading, turning, safety, and what happens when it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from inprod.audit import Actor
from inprod.errors import Conflict, Invalid, Missing
from inprod.flags.change import PutRule, SetEnabled, apply
from inprod.flags.edge.dial import FlagDial
from inprod.flags.edge.store import TABLES as FLAG_TABLES
from inprod.flags.edge.store import FlagStore
from inprod.flags.flag import Flag, Kind, Rule, Split, State, Treatment
from inprod.guards.arms import Arms
from inprod.live import Live
from inprod.rollouts.edge.dials import FlagDials, check
from inprod.rollouts.rollout import Dial, Plan, Step
from inprod.safety.edge.store import TABLES as SAFETY_TABLES
from inprod.safety.edge.store import AuditLog
from inprod.server.state import connect_state
from inprod.testing.clock import Clock
from inprod.testing.dials import MemoryDials

ANA = Actor(name="ana", origin="test")
PLAN = Plan(
    name="release", environment="production", dial="flag/checkout", steps=(Step(level=50.0),)
)


def flag(*treatments: str, percent: float = 0.0) -> Flag:
    named = treatments or ("on",)
    split = Split(
        control="off", salt="s", percent=percent,
        treatments=tuple(Treatment(variant=v, weight=100_000 // len(named)) for v in named),
    )  # fmt: skip
    state = State(rules=(Rule(id="everyone", split=split),))
    variants = {"off": "0", **{one: one for one in named}}
    return Flag(
        key="checkout", kind=Kind.STRING, variants=variants, default="off", off="off",
        environments={"production": state},
    )  # fmt: skip


@pytest.fixture
def flags(tmp_path: Path) -> Generator[FlagStore]:
    engine = connect_state(f"sqlite:///{tmp_path}/state.db")
    SAFETY_TABLES.create_all(engine)
    FLAG_TABLES.create_all(engine)
    yield FlagStore(
        engine, record=AuditLog(engine).record, environments=lambda: ("production",),
        now_ns=Clock().now_ns, live=Live(),
    )  # fmt: skip
    engine.dispose()


def put(flags: FlagStore, document: Flag) -> None:
    flags.commit(document, expected_revision=None, actor=ANA, reason="")


@pytest.fixture(params=["memory", "flag"])
def dial(request: pytest.FixtureRequest, flags: FlagStore) -> Dial:
    if request.param == "memory":
        made = MemoryDials()
        return made.dial(PLAN, made.arms(PLAN))
    put(flags, flag())
    found = FlagDials(flags=flags, promote=[].append)
    return found.dial(PLAN, found.arms(PLAN))


def test_a_dial_begins_at_its_safe_level(dial: Dial) -> None:
    assert (dial.name, dial.unit, dial.safe) == ("flag/checkout", "%", 0.0)
    assert asyncio.run(dial.read()) == dial.safe


@pytest.mark.parametrize("level", [0.001, 1.0, 33.333, 50.0, 100.0])
def test_what_was_turned_is_read(dial: Dial, level: float) -> None:
    asyncio.run(dial.turn(level, None))
    assert asyncio.run(dial.read()) == pytest.approx(level, abs=1e-3)


def test_turning_twice_is_turning_once(dial: Dial) -> None:
    for _ in range(2):
        asyncio.run(dial.turn(25.0, None))
    assert asyncio.run(dial.read()) == 25.0


def test_a_dial_turns_back_to_safe_from_anywhere(dial: Dial) -> None:
    asyncio.run(dial.turn(75.0, 15.0))
    asyncio.run(dial.turn(dial.safe, None))
    assert asyncio.run(dial.read()) == dial.safe


def test_a_flag_that_is_switched_off_is_at_its_safe_level(flags: FlagStore) -> None:
    put(flags, flag(percent=0))
    dial = FlagDial(flags, "production", "checkout", "everyone")
    asyncio.run(dial.turn(40.0, None))
    stored = flags.get("checkout")
    off = apply(stored.flag, SetEnabled(environment="production", enabled=False))
    flags.commit(off, expected_revision=stored.revision, actor=ANA, reason="")
    assert asyncio.run(dial.read()) == 0.0


def test_a_flags_arms_are_its_split(flags: FlagStore) -> None:
    put(flags, flag("red", "blue"))
    plan = Plan(
        name="r", environment="production", dial="flag/checkout", steps=(Step(level=5.0),),
        treatment="blue",
    )  # fmt: skip
    assert FlagDials(flags=flags, promote=[].append).arms(plan) == Arms(
        attribute="flag.checkout", treated="blue", control="off", unit="user.id",
        rule_attribute="flag.checkout.rule", rule="everyone", weight=0.5,
    )  # fmt: skip


def test_units_are_drawn_anew_under_a_new_salt_while_nobody_is_treated(flags: FlagStore) -> None:
    put(flags, flag())
    promoted: list[str] = []
    dials = FlagDials(flags=flags, promote=promoted.append)
    dials.prepare(PLAN, dials.arms(PLAN), ANA)
    split = flags.get("checkout").flag.environments["production"].rules[0].split
    assert split is not None
    assert split.salt not in ("", "s")
    assert split.percent == 0.0
    assert promoted == ["flag.checkout", "flag.checkout.rule"]


def off(document: Flag) -> Flag:
    return apply(document, SetEnabled(environment="production", enabled=False))


def served(document: Flag) -> Flag:
    rule = Rule(id="everyone", serve="on")
    return apply(document, PutRule(environment="production", rule=rule))


def two(document: Flag) -> Flag:
    split = document.environments["production"].rules[0].split
    return apply(document, PutRule(environment="production", rule=Rule(id="beta", split=split)))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (off, Conflict, "is off in `production`"),
        (served, Invalid, "has no one split to turn"),
        (two, Invalid, "has no one split to turn"),
        (lambda _: flag(percent=30.0), Conflict, "is at `30` % already"),
        (lambda _: flag("red", "blue"), Invalid, "not one of the split's treatments"),
        (lambda _: None, Missing, "is not a flag"),
    ],
)
def test_a_plan_on_a_flag_that_cannot_be_turned_is_refused(
    change: Callable[[Flag], Flag | None], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        check(PLAN, change(flag()), ("production",))


def test_a_plan_for_an_unknown_environment_or_dial_is_refused() -> None:
    with pytest.raises(Missing, match="is not an environment"):
        check(PLAN, flag(), ("staging",))
    other = Plan(name="r", environment="production", dial="flog/checkout", steps=(Step(level=5.0),))
    with pytest.raises(Invalid, match="is not a dial we know"):
        check(other, None, ("production",))
