"""What people leave as it is while a rollout turns a rule: all of it but its percent.

Who reaches the rule, by what unit and under which salt, is what makes its arms comparable. Lowering
the percent and switching the flag off are never refused.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from inprod.errors import Conflict
from inprod.flags.flag import Flag, Rule

Turned = Collection[tuple[str, str]]
"""The (environment, rule) that active rollouts turn."""


def refuse_disturbing(old: Flag, new: Flag | None, turned: Turned) -> None:
    """Raise Conflict when `new` (None: archived) changes a turned rule, or who reaches it."""
    for environment, rule_id in sorted(turned):
        before = rule_in(old, environment, rule_id)
        if before is None or before.split is None:
            continue
        after = None if new is None else rule_in(new, environment, rule_id)
        if new is None or after is None:
            raise _refused(environment, rule_id, "it cannot go")
        if _without_level(after, before) != before or not _same_ahead(
            old, new, environment, rule_id
        ):
            raise _refused(environment, rule_id, "it cannot change")


def rule_in(flag: Flag, environment: str, rule_id: str) -> Rule | None:
    """Return a rule of a flag, None when there is none of that id."""
    state = flag.environments.get(environment)
    return next((rule for rule in state.rules if rule.id == rule_id), None) if state else None


def _without_level(after: Rule, before: Rule) -> Rule:
    if after.split is None or before.split is None:
        return after
    split = replace(
        after.split, percent=before.split.percent, lease_s=before.split.lease_s,
        salt=after.split.salt or before.split.salt,
    )  # fmt: skip
    return replace(after, split=split)


def _same_ahead(old: Flag, new: Flag, environment: str, rule_id: str) -> bool:
    """Whether the rules asked before this one are the same: they decide who reaches it."""

    def ahead(rules: Sequence[Rule]) -> list[Rule]:
        index = next(place for place, rule in enumerate(rules) if rule.id == rule_id)
        return [
            replace(rule, split=replace(rule.split, salt="", percent=0.0)) if rule.split else rule
            for rule in rules[:index]
        ]

    return ahead(old.environments[environment].rules) == ahead(new.environments[environment].rules)


def _refused(environment: str, rule_id: str, what: str) -> Conflict:
    return Conflict(
        "rollout_active", f"an active rollout turns the rule `{rule_id}`; {what}",
        where=f"environments.{environment}",
        hint="Stop the rollout first, or leave this rule as it is.",
    )  # fmt: skip
