"""The rollout: one dial turned step by step while its guards hold.

planned -> running -> baking -> ... -> promoted
              \\         \\-> held (window, lever, sample ratio, no data, undecided)
               \\-> rolled_back | stopped
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from inprod.guards.guard import Guard
from inprod.safety.cap import Caps
from inprod.units import Percent, Seconds

STEPS_MAX = 50


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A level and how long to stay at least; `requires` None: NOT_BROKEN, and HOLDS before the
    last step."""

    level: Percent
    bake_s: Seconds = 60.0
    requires: Requires | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was asked for: written by people, never changed once it runs.

    `dial` is a dial's name (`flag/new-checkout`); for a flag, `rule` names the rule whose split is
    turned (the only one with a split unless told) and `treatment` the treated variant (likewise).
    alpha: chance of a false rollback over the whole rollout; beta: of a false promotion.
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
    when_undecided: WhenUndecided = WhenUndecided.HOLD
    deadline_s: Seconds = 14 * 86400.0
    stale_s: Seconds = 120.0
    on_silence: OnSilence = OnSilence.KEEP
    caps: Caps = field(default_factory=Caps)
    include_test_traffic: bool = False
    reason: str = ""
    owner: str = ""
