"""The dial of a flag: turning it opens or closes a rule's split in one environment."""

from __future__ import annotations

from anyio import to_thread

from inprod.audit import Actor
from inprod.errors import Conflict, Invalid, nearest
from inprod.flags.change import SetPercent, apply, split_of
from inprod.flags.edge.store import FlagStore

TRIES_MAX = 5


class FlagDial:
    """`flag/<key>`: percent of the units that match a rule and see its treatments.

    `on_silence_lease_s` is the lease a step gets when `turn` names none: an SDK out of touch for
    longer falls back to 0 %. None: it keeps the step.
    """

    unit = "%"
    safe = 0.0

    def __init__(
        self,
        store: FlagStore,
        environment: str,
        key: str,
        rule: str,
        treatment: str | None = None,
        actor: Actor | None = None,
        on_silence_lease_s: float | None = None,
    ) -> None:
        self.name = f"flag/{key}"
        self._store = store
        self._environment = environment
        self._key = key
        self._rule = rule
        self._treatment = treatment
        self._actor = actor or Actor(name="inprod", origin="runner")
        self._on_silence_lease_s = on_silence_lease_s

    async def read(self) -> float:
        """Return the percent in force: 0 where the flag is switched off in the environment."""
        return await to_thread.run_sync(self._read)

    async def turn(self, level: float, lease_s: float | None) -> None:
        """Set the percent; the same level again changes nothing.

        Raises Missing or Invalid when the rule has no such split, Conflict when others changed the
        flag TRIES_MAX times in between.
        """
        await to_thread.run_sync(self._turn, level, lease_s)

    def _read(self) -> float:
        flag = self._store.get(self._key).flag
        split = split_of(flag, self._environment, self._rule)
        return split.percent if flag.environments[self._environment].enabled else self.safe

    def _turn(self, level: float, lease_s: float | None) -> None:
        lease_s = self._on_silence_lease_s if lease_s is None else lease_s
        if level == self.safe:
            lease_s = None  # nothing to fall back from
        change = SetPercent(
            environment=self._environment, rule=self._rule, percent=level, lease_s=lease_s
        )
        for last in range(TRIES_MAX, 0, -1):
            stored = self._store.get(self._key)
            split = split_of(stored.flag, self._environment, self._rule)
            treatments = [treatment.variant for treatment in split.treatments]
            if self._treatment is not None and self._treatment not in treatments:
                raise Invalid(
                    "unknown_treatment", f"`{self._treatment}` is not a treatment of this split",
                    where="treatment", hint=nearest(self._treatment, treatments),
                )  # fmt: skip
            try:
                self._store.commit(
                    apply(stored.flag, change), expected_revision=stored.revision,
                    actor=self._actor, reason=f"{self.name} to {level:g} %",
                )  # fmt: skip
                return
            except Conflict:
                if last == 1:
                    raise
