"""Which dial a plan turns: a flag's split, resolved, checked and made ready.

A new rollout starts at 0 %, so its split gets a new salt: nobody's variant changes by that, and
nobody carries over what an earlier rollout did to them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from inprod.audit import INPROD, Actor
from inprod.errors import Conflict, Invalid, Missing, nearest
from inprod.flags.change import SetPercent, apply
from inprod.flags.edge.dial import FlagDial
from inprod.flags.edge.store import FlagStore, mint_salt
from inprod.flags.flag import Flag, Rule, Split
from inprod.guards.arms import Arms
from inprod.rollouts.rollout import Dial, Plan
from inprod.safety.environment import require

TRIES_MAX = 5


class Dials(Protocol):
    """Finds the dial of a plan."""

    def arms(self, plan: Plan) -> Arms:
        """Return how events tell their arm; raises when the plan could not start now."""
        ...

    def prepare(self, plan: Plan, arms: Arms, actor: Actor) -> None:
        """Make the dial ready for a rollout that has just been stored."""
        ...

    def dial(self, plan: Plan, arms: Arms) -> Dial:
        """Return the dial."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagDials:
    """The dials `flag/<key>`; `promote` makes an attribute that will be asked for often quick."""

    flags: FlagStore
    promote: Callable[[str], object]

    def arms(self, plan: Plan) -> Arms:
        """Return the arms of the flag's split in the plan's environment."""
        return flag_arms(plan, self._flag(plan))

    def prepare(self, plan: Plan, arms: Arms, actor: Actor) -> None:
        """Draw the units anew, under a new salt, while nobody sees the treatment."""
        key = flag_key(plan)
        for attribute in (arms.attribute, arms.rule_attribute):
            self.promote(attribute)
        for last in range(TRIES_MAX, 0, -1):
            stored = self.flags.get(key)
            change = SetPercent(
                environment=plan.environment, rule=arms.rule, percent=0.0, reshuffle=True,
                salt=mint_salt(),
            )  # fmt: skip
            try:
                self.flags.commit(
                    apply(stored.flag, change), expected_revision=stored.revision, actor=actor,
                    reason=f"rollout {plan.name}: units are drawn anew",
                )  # fmt: skip
                return
            except Conflict:
                if last == 1:
                    raise

    def dial(self, plan: Plan, arms: Arms) -> Dial:
        """Return the flag's dial."""
        return FlagDial(
            self.flags, plan.environment, flag_key(plan), arms.rule, arms.treated,
            Actor(name=INPROD.name, origin=f"rollout {plan.name}"),
        )  # fmt: skip

    def _flag(self, plan: Plan) -> Flag:
        key = flag_key(plan)
        try:
            return self.flags.get(key).flag
        except Missing as error:
            error.where = "$.dial"
            raise


def flag_key(plan: Plan) -> str:
    """Return the key in `flag/<key>`; raises Invalid for another kind of dial."""
    kind, _, key = plan.dial.partition("/")
    if kind != "flag":
        raise Invalid(
            "unknown_dial", f"`{plan.dial}` is not a dial we know", where="$.dial",
            hint=f"Write it as `flag/KEY`. {nearest(kind, ['flag'])}",
        )  # fmt: skip
    return key


def check(plan: Plan, flag: Flag | None, environments: Collection[str]) -> None:
    """Raise what would keep a plan from starting on a flag as it is, or will be."""
    require(plan.environment, environments)
    if flag is None:
        raise Missing(
            "unknown_flag", f"`{flag_key(plan)}` is not a flag", where="$.dial",
            hint="Create the flag first.",
        )  # fmt: skip
    flag_arms(plan, flag)


def flag_arms(plan: Plan, flag: Flag) -> Arms:
    """Return how events tell their arm for a plan on `flag`.

    Raises Missing or Invalid when there is no such split, Conflict when the flag is switched off or
    its split is open already.
    """
    state = flag.environments.get(plan.environment)
    if state is None or not state.enabled:
        raise Conflict(
            "flag_off", f"`{flag.key}` is off in `{plan.environment}`", where="$.dial",
            hint="Switch it on there first.",
        )  # fmt: skip
    rule, split = _rule(plan, state.rules, flag.key)
    if split.percent > 0:
        raise Conflict(
            "dial_not_safe", f"`{plan.dial}` is at `{split.percent:g}` % already", where="$.dial",
            hint="Set it to 0 first: a rollout starts from where nobody sees the treatment.",
        )  # fmt: skip
    names = [treatment.variant for treatment in split.treatments]
    treated = plan.treatment or names[0]
    if treated not in names or (plan.treatment is None and len(names) > 1):
        raise Invalid(
            "which_treatment", f"`{plan.treatment or ''}` is not one of the split's treatments",
            where="$.treatment", hint=nearest(plan.treatment or "", names),
        )  # fmt: skip
    total = sum(treatment.weight for treatment in split.treatments)
    weight = next(one.weight for one in split.treatments if one.variant == treated) / total
    return Arms(
        attribute=f"flag.{flag.key}", treated=treated, control=split.control, unit=split.unit,
        rule_attribute=f"flag.{flag.key}.rule", rule=rule.id, weight=weight,
    )  # fmt: skip


def _rule(plan: Plan, rules: Collection[Rule], key: str) -> tuple[Rule, Split]:
    split = {rule.id: (rule, rule.split) for rule in rules if rule.split is not None}
    if plan.rule is None and len(split) == 1:
        return next(iter(split.values()))
    if plan.rule is None or plan.rule not in split:
        named = f"rule `{plan.rule}` of" if plan.rule else ""
        raise Invalid(
            "which_rule", f"{named} `{key}` has no one split to turn".strip(), where="$.rule",
            hint=nearest(plan.rule or "", split) if split else "Give the flag a rule with a split.",
        )  # fmt: skip
    return split[plan.rule]
