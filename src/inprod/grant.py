"""What the caller may do: one role, in some environments or in all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from inprod.endpoint import INCLUDES, Role
from inprod.errors import Denied, nearest

EVERYWHERE = ""  # stands for all environments at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a key, session or loopback caller was given: `environments` None means all of them."""

    name: str
    role: Role
    environments: tuple[str, ...] | None = None

    @property
    def is_admin(self) -> bool:
        """Whether the key may do everything, in its environments."""
        return self.role is Role.ADMIN

    def allows(self, role: Role) -> bool:
        """Whether this grant's role includes `role`."""
        return role in INCLUDES[self.role]

    def reaches(self, environment: str) -> bool:
        """Whether it reaches an environment; EVERYWHERE is reached by an unlimited grant only."""
        return self.environments is None or environment in self.environments

    def require(self, environment: str) -> None:
        """Raise Denied when it does not reach `environment`."""
        if not self.reaches(environment):
            where = f"the environment `{environment}`" if environment else "every environment"
            raise Denied(
                "wrong_environment", f"the key `{self.name}` does not reach {where}",
                hint=nearest(environment, self.environments or ())
                if environment
                else "Use a key that is not limited to environments.",
            )  # fmt: skip

    def require_all(self, environments: Iterable[str] | None) -> None:
        """Raise Denied for the first environment it does not reach; None means everywhere."""
        for environment in (EVERYWHERE,) if environments is None else sorted(environments):
            self.require(environment)
