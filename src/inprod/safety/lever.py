"""Levers: the red handles. Pulled means running dials go to safe, and none may start.

    everything
      environment production
        dial flag/new-checkout (in production)

A lever covers all that is below it. Nothing resumes by itself when one is released.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from inprod.errors import Invalid

REASON_LENGTH_MAX = 1000


class Scope(StrEnum):
    """How much a lever covers."""

    EVERYTHING = "everything"
    ENVIRONMENT = "environment"
    DIAL = "dial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """One handle. `environment` is set unless it covers everything, `dial` when it covers one."""

    scope: Scope
    environment: str = ""
    dial: str = ""

    def __post_init__(self) -> None:
        """Refuse a lever whose scope and names do not agree."""
        named = {
            Scope.EVERYTHING: (False, False),
            Scope.ENVIRONMENT: (True, False),
            Scope.DIAL: (True, True),
        }[self.scope]
        if (bool(self.environment), bool(self.dial)) != named:
            raise Invalid(
                "bad_lever", f"a lever of scope `{self.scope}` is named otherwise", where="$.scope",
                hint="Give no name for everything, `environment` for an environment, "
                "and `environment` and `dial` for a dial.",
            )  # fmt: skip

    @property
    def name(self) -> str:
        """The lever as people read it: `everything`, `production`, `production flag/checkout`."""
        return " ".join(filter(None, (self.environment, self.dial))) or "everything"

    def covers(self, *, environment: str, dial: str) -> bool:
        """Return whether a dial of an environment is below this lever."""
        return self.environment in ("", environment) and self.dial in ("", dial)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """A lever that is pulled now, by whom and why."""

    lever: Lever
    time_ns: int
    actor: str
    reason: str

    @property
    def sentence(self) -> str:
        """Who pulled what, and why."""
        why = f": {self.reason}" if self.reason else ""
        return f"`{self.actor}` pulled the lever of {self.lever.name}{why}"


def pulled_over(pulled: Iterable[Pulled], *, environment: str, dial: str) -> Pulled | None:
    """Return the widest lever pulled over a dial, None when it is free."""
    order = list(Scope)
    over = [one for one in pulled if one.lever.covers(environment=environment, dial=dial)]
    return min(over, key=lambda one: order.index(one.lever.scope), default=None)
