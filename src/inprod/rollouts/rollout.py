"""The rollout: one dial turned step by step while its guards hold.

planned -> running -> baking -> ... -> promoted
              \\         \\-> held (window, lever, sample ratio, no data, undecided)
               \\-> rolled_back | stopped

`running`: the dial is being turned to the step's level; `baking`: that level is in force and
evidence comes in. `MOVES` is the whole state machine; code, documentation and tests read it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from inprod.errors import Conflict, Invalid
from inprod.guards.guard import GUARDS_MAX, LEVEL_MAX, LEVEL_MIN, Guard, Kind
from inprod.safety.cap import DURATION_S_MAX, Caps, level_breach
from inprod.units import Percent, Seconds, render_s

STEPS_MAX = 50
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
DIAL_NAME = re.compile(r"[a-z]+/[A-Za-z0-9][A-Za-z0-9._/-]{0,149}")
PERCENT_DIALS = ("flag/", "traffic/", "shadow/", "fault/")
LEVEL_TOLERANCE = 1e-3  # percents are kept in 100,000 parts
BATCH_S_MIN, BATCH_S_MAX = 0.1, 3600.0


class Dial(Protocol):
    """Something that can be turned up, and back to its safe level.

    `turn` is idempotent; with a lease it falls to `safe` by itself when the lease ends.
    """

    name: str
    unit: str
    safe: float

    async def read(self) -> float:
        """Return the level really in force, as observed."""
        ...

    async def turn(self, level: float, lease_s: float | None) -> None:
        """Set the level; raises Unavailable or Conflict when it could not be done."""
        ...


class Requires(StrEnum):
    """What the guards must say before the dial leaves a step."""

    NOT_BROKEN = "not_broken"
    HOLDS = "holds"


class WhenUndecided(StrEnum):
    """What to do when `deadline_s` passes and the guards have not decided."""

    HOLD = "hold"
    ROLL_BACK = "roll_back"


class OnSilence(StrEnum):
    """What an SDK does with a step in progress when it loses the server."""

    KEEP = "keep"
    ZERO = "zero"


class Phase(StrEnum):
    """Where a rollout is."""

    PLANNED = "planned"
    RUNNING = "running"
    BAKING = "baking"
    HELD = "held"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"


ENDED: Final = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK, Phase.STOPPED})


class Action(StrEnum):
    """What a decision does; WAIT is none of the moves."""

    WAIT = "wait"
    START = "start"
    ARRIVE = "arrive"
    RAISE = "raise"
    HOLD = "hold"
    GO_ON = "go_on"
    RETURN = "return"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    STOP = "stop"


class Move(NamedTuple):
    """One row of the state table."""

    before: Phase
    action: Action
    after: Phase
    sentence: str


MOVES: Final = (
    Move(Phase.PLANNED, Action.START, Phase.RUNNING, "The dial is turned to the first step."),
    Move(Phase.PLANNED, Action.HOLD, Phase.HELD, "A lever was pulled before it began."),
    Move(Phase.PLANNED, Action.STOP, Phase.STOPPED, "A person ended it before it began."),
    Move(Phase.RUNNING, Action.ARRIVE, Phase.BAKING, "The level is in force; evidence comes in."),
    Move(Phase.RUNNING, Action.HOLD, Phase.HELD, "Something stands in the way."),
    Move(Phase.RUNNING, Action.ROLL_BACK, Phase.ROLLED_BACK, "A guard broke, or a person says so."),
    Move(Phase.RUNNING, Action.STOP, Phase.STOPPED, "A person ended it."),
    Move(Phase.BAKING, Action.RAISE, Phase.RUNNING, "The step is baked and the guards allow more."),
    Move(Phase.BAKING, Action.PROMOTE, Phase.PROMOTED, "The last step is baked; it stays."),
    Move(Phase.BAKING, Action.HOLD, Phase.HELD, "Something stands in the way."),
    Move(Phase.BAKING, Action.ROLL_BACK, Phase.ROLLED_BACK, "A guard broke, or a person says so."),
    Move(Phase.BAKING, Action.STOP, Phase.STOPPED, "A person ended it."),
    Move(Phase.HELD, Action.HOLD, Phase.HELD, "Something else stands in the way now."),
    Move(Phase.HELD, Action.GO_ON, Phase.BAKING, "The way is free, and the level was kept."),
    Move(Phase.HELD, Action.RETURN, Phase.RUNNING, "A person resumed it; the dial is turned up."),
    Move(Phase.HELD, Action.RAISE, Phase.RUNNING, "A person advanced it."),
    Move(Phase.HELD, Action.PROMOTE, Phase.PROMOTED, "A person promoted it."),
    Move(Phase.HELD, Action.ROLL_BACK, Phase.ROLLED_BACK, "A guard broke, or a person says so."),
    Move(Phase.HELD, Action.STOP, Phase.STOPPED, "A person ended it."),
)
_AFTER: Final = MappingProxyType({(move.before, move.action): move.after for move in MOVES})


def phase_after(before: Phase, action: Action) -> Phase:
    """Return the phase an action leads to; raises Conflict when the table has no such move."""
    if action is Action.WAIT:
        return before
    after = _AFTER.get((before, action))
    if after is None:
        raise Conflict(
            "wrong_phase", f"a rollout that is `{before}` cannot `{action}`",
            hint=f"Do so when it is {_listed(action)}.",
        )  # fmt: skip
    return after


def _listed(action: Action) -> str:
    return " or ".join(f"`{move.before}`" for move in MOVES if move.action is action)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A level and how long to stay at least; `requires` None: NOT_BROKEN, and HOLDS before the
    last step."""

    level: Percent
    bake_s: Seconds = 60.0
    requires: Requires | None = None

    def __post_init__(self) -> None:
        """Refuse a level that is not above 0, and a bake that cannot be."""
        if self.level <= 0:
            raise Invalid(
                "bad_level", f"`{self.level:g}` is not a level to turn to", where="level",
                hint="Use a level above 0; `rollback` is the way to 0.",
            )  # fmt: skip
        if not 0 <= self.bake_s <= DURATION_S_MAX:
            raise Invalid(
                "bad_bake", f"`{self.bake_s:g}` s is not a time to stay", where="bake_s",
                hint=f"Use 0 s to {render_s(DURATION_S_MAX)}.",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was asked for: written by people, never changed once it runs.

    `dial` is a dial's name (`flag/new-checkout`); for a flag, `rule` names the rule whose split is
    turned (the only one with a split unless told) and `treatment` the treated variant (likewise).
    alpha: chance of a false rollback over the whole rollout; beta: of a false promotion.
    `settle_s` after each turn, what arrives is not counted: it may tell of the level before (the
    time an application and its exporter take to hear of the turn and to send what they hold).
    """

    name: str
    environment: str
    dial: str
    steps: tuple[Step, ...]
    guards: tuple[Guard, ...] = ()
    rule: str | None = None
    treatment: str | None = None
    alpha: float = 0.01
    beta: float = 0.05
    batch_s: Seconds = 5.0
    settle_s: Seconds = 10.0
    when_undecided: WhenUndecided = WhenUndecided.HOLD
    deadline_s: Seconds = 14 * 86400.0
    stale_s: Seconds = 120.0
    on_silence: OnSilence = OnSilence.KEEP
    caps: Caps = field(default_factory=Caps)
    include_test_traffic: bool = False
    reason: str = ""
    owner: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be, with the path of what is wrong."""
        _check_names(self)
        _check_steps(self)
        _check_guards(self)
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if not LEVEL_MIN <= value <= LEVEL_MAX:
                raise Invalid(
                    "bad_probability", f"`{value:g}` cannot be `{name}`", where=name,
                    hint=f"Use {LEVEL_MIN:g} to {LEVEL_MAX:g}.",
                )  # fmt: skip
        if not BATCH_S_MIN <= self.batch_s <= BATCH_S_MAX or (self.batch_s * 1000) % 1:
            raise Invalid(
                "bad_batch", f"`{self.batch_s:g}` cannot be `batch_s`", where="batch_s",
                hint="Use whole milliseconds from 100 ms to 1 h.",
            )  # fmt: skip
        for name, least in (("deadline_s", 1e-9), ("stale_s", 1e-9), ("settle_s", 0.0)):
            if not least <= getattr(self, name) <= DURATION_S_MAX:
                longer = "longer" if getattr(self, name) < least else "shorter"
                raise Invalid(
                    "bad_duration", f"`{getattr(self, name):g}` cannot be `{name}`", where=name,
                    hint=f"Use a {longer} time, at most {render_s(DURATION_S_MAX)}.",
                )  # fmt: skip

    @property
    def batch_ns(self) -> int:
        """The length of a bucket."""
        return round(self.batch_s * 1000) * 1_000_000

    def said(self, level: float) -> str:
        """Return a level in the dial's unit, as a person reads it."""
        return f"{level:g} %" if self.dial.startswith("flag/") else f"{level:g}"

    def requires(self, step: int) -> Requires:
        """Return what the guards must say before the dial leaves a step.

        HOLDS is asked once, on the way to the last step: with no control left (100 %) the last
        step adds no evidence. A plan of one step is asked there, unless it has no control at all.
        """
        asked = self.steps[step].requires
        if asked is not None:
            return asked
        if not any(can_hold(guard) for guard in self.guards):
            return Requires.NOT_BROKEN
        last = len(self.steps) - 1
        alone = last == 0 and self.steps[0].level < 100
        return Requires.HOLDS if step == last - 1 or alone else Requires.NOT_BROKEN


def can_hold(guard: Guard) -> bool:
    """Return whether a guard is needed for a promotion: required, and a promise about harm."""
    return guard.required and guard.kind not in (Kind.SAMPLE_RATIO, Kind.COMPLETENESS)


def _check_names(plan: Plan) -> None:
    if NAME.fullmatch(plan.name) is None:
        raise Invalid(
            "bad_name", f"`{plan.name[:80]}` cannot name a rollout", where="name",
            hint="Use up to 100 letters, digits, dots, dashes and underscores.",
        )  # fmt: skip
    if DIAL_NAME.fullmatch(plan.dial) is None:
        raise Invalid(
            "bad_dial", f"`{plan.dial[:80]}` cannot name a dial", where="dial",
            hint="Write it as `flag/KEY`.",
        )  # fmt: skip
    if not plan.environment:
        raise Invalid(
            "missing_field", "`environment` is empty", where="environment",
            hint="Name a declared environment.",
        )  # fmt: skip


def _check_steps(plan: Plan) -> None:
    if not 1 <= len(plan.steps) <= STEPS_MAX:
        raise Invalid(
            "bad_steps", f"`{len(plan.steps)}` steps cannot be", where="steps",
            hint=f"Give 1 to {STEPS_MAX} steps.",
        )  # fmt: skip
    before = 0.0
    for index, step in enumerate(plan.steps):
        where = f"steps[{index}].level"
        if step.level <= before:
            raise Invalid(
                "steps_not_rising", f"level `{step.level:g}` does not rise above `{before:g}`",
                where=where, hint="Put the steps in rising order, each level once.",
            )  # fmt: skip
        if plan.dial.startswith(PERCENT_DIALS) and step.level > 100:
            raise Invalid(
                "bad_percent", f"`{step.level:g}` is not a percent", where=where,
                hint="Use a percent from 0 to 100.",
            )  # fmt: skip
        breach = level_breach(plan.caps, from_level=before, to_level=step.level)
        if breach:
            raise Invalid("over_cap", breach, where=where, hint="Lower the step, or raise the cap.")
        before = step.level


def _check_guards(plan: Plan) -> None:
    if len(plan.guards) > GUARDS_MAX:
        raise Invalid(
            "too_many_guards", f"`{len(plan.guards)}` guards are over `{GUARDS_MAX}`",
            where="guards", hint="Use fewer.",
        )  # fmt: skip
    counted = Counter(guard.name for guard in plan.guards)
    for index, guard in enumerate(plan.guards):
        if counted[guard.name] > 1:
            raise Invalid(
                "name_used_twice", f"`{guard.name}` names two guards",
                where=f"guards[{index}].name", hint="Give each guard its own name.",
            )  # fmt: skip
        if not guard.weight >= 0:
            raise Invalid(
                "bad_weight", f"`{guard.weight}` is not a weight", where=f"guards[{index}].weight",
                hint="Use 0 or more.",
            )  # fmt: skip
    if plan.guards and sum(guard.weight for guard in plan.guards) <= 0:
        raise Invalid(
            "bad_weight", "the weights of the guards sum to `0`", where="guards",
            hint="Give at least one guard a weight above 0.",
        )  # fmt: skip
    promising = any(can_hold(guard) for guard in plan.guards)
    for index, step in enumerate(plan.steps):
        if step.requires is Requires.HOLDS and not promising:
            raise Invalid(
                "nothing_can_hold", "`holds` is asked, and no required guard can hold",
                where=f"steps[{index}].requires", hint="Add a required guard, or ask `not_broken`.",
            )  # fmt: skip
