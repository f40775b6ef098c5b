"""Dials that turn nothing real, and pass the contract suite of dials."""

from __future__ import annotations

from dataclasses import dataclass, field

from inprod.audit import Actor
from inprod.errors import Unavailable
from inprod.guards.arms import Arms
from inprod.rollouts.rollout import Dial, Plan


class MemoryDial:
    """A level in memory; `fails` makes the next so many turns raise Unavailable."""

    unit = "%"
    safe = 0.0

    def __init__(self, name: str) -> None:
        self.name = name
        self.level = self.safe
        self.lease_s: float | None = None
        self.turns: list[float] = []
        self.fails = 0
        self.is_dark = False

    async def read(self) -> float:
        """Return the level; raises Unavailable while the dial is dark."""
        if self.is_dark:
            raise Unavailable("dial_dark", f"dial `{self.name}` does not answer")
        return self.level

    async def turn(self, level: float, lease_s: float | None) -> None:
        """Set the level."""
        if self.fails > 0:
            self.fails -= 1
            raise Unavailable("dial_stuck", f"dial `{self.name}` does not turn")
        self.turns.append(level)
        self.level = level
        self.lease_s = lease_s


@dataclass(slots=True)
class MemoryDials:
    """Dials by name and environment, made when first asked for."""

    made: dict[str, MemoryDial] = field(default_factory=dict[str, MemoryDial])
    prepared: list[str] = field(default_factory=list[str])

    def arms(self, plan: Plan) -> Arms:
        """Return arms named after the dial, as a flag's are."""
        key = plan.dial.partition("/")[2]
        return Arms(
            attribute=f"flag.{key}", treated=plan.treatment or "on", control="off",
            rule_attribute=f"flag.{key}.rule", rule=plan.rule or "everyone",
        )  # fmt: skip

    def prepare(self, plan: Plan, arms: Arms, actor: Actor) -> None:
        """Remember that the units were drawn anew."""
        del arms, actor
        self.prepared.append(plan.name)

    def dial(self, plan: Plan, arms: Arms) -> Dial:
        """Return the dial of a plan."""
        del arms
        return self.of(plan)

    def of(self, plan: Plan) -> MemoryDial:
        """Return the dial of a plan, as what it is."""
        name = f"{plan.environment} {plan.dial}"
        return self.made.setdefault(name, MemoryDial(plan.dial))
