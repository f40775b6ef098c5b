"""What a flag's document leaves as it is: unsaid percents, and what a rollout turns; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from inprod.errors import Conflict
from inprod.flags.flag import Flag, Rule


def keep_percents(
    flag: Flag,
    old: Flag | None,
    written: frozenset[tuple[str, str]],
    turning: frozenset[tuple[str, str]],
) -> Flag:
    """Return `flag` with the percents in force where its document does not say.

    `written` are the (environment, rule) whose percent the document says; `turning` those whose
    split an active rollout turns: there the percent and lease stay whatever the document says.
    Raises Conflict when anything else of such a rule would change, or the rule would go.
    """
    if old is None:
        return flag
    environments = dict(flag.environments)
    for environment, rule_id in sorted(turning):
        _refuse_change(old, flag, environment, rule_id)
    for environment, state in flag.environments.items():
        rules = list(state.rules)
        for index, rule in enumerate(rules):
            before = _rule(old, environment, rule.id)
            if rule.split is None or before is None or before.split is None:
                continue
            place = (environment, rule.id)
            if place in turning:
                split = replace(
                    rule.split, percent=before.split.percent, lease_s=before.split.lease_s
                )
            elif place not in written:
                split = replace(rule.split, percent=before.split.percent)
            else:
                continue
            rules[index] = replace(rule, split=split)
        environments[environment] = replace(state, rules=tuple(rules))
    return replace(flag, environments=environments)


def percents_written(plain: Mapping[str, object]) -> frozenset[tuple[str, str]]:
    """Return the (environment, rule) whose split's percent a flag's document says."""

    def walk() -> Iterator[tuple[str, str]]:
        for environment, state in _mapping(plain.get("environments")).items():
            rules = _mapping(state).get("rules")
            for rule in cast("list[object]", rules) if isinstance(rules, list) else []:
                if "percent" in _mapping(_mapping(rule).get("split")):
                    yield environment, str(_mapping(rule).get("id"))

    return frozenset(walk())


def _refuse_change(old: Flag, new: Flag, environment: str, rule_id: str) -> None:
    before, after = _rule(old, environment, rule_id), _rule(new, environment, rule_id)
    if before is None or before.split is None:
        return
    place = f"environments.{environment}"
    hint = "Stop the rollout first, or leave this rule as it is."
    if after is None:
        raise Conflict(
            "rollout_active", f"an active rollout turns the rule `{rule_id}`; it cannot go",
            where=place, hint=hint,
        )  # fmt: skip
    kept = after
    if after.split is not None:
        split = replace(
            after.split, percent=before.split.percent, lease_s=before.split.lease_s,
            salt=after.split.salt or before.split.salt,
        )  # fmt: skip
        kept = replace(after, split=split)
    state_before, state_after = old.environments[environment], new.environments[environment]
    if kept != before or not _same_place(state_before.rules, state_after.rules, rule_id):
        raise Conflict(
            "rollout_active", f"an active rollout turns the rule `{rule_id}`; it cannot change",
            where=place, hint=hint,
        )  # fmt: skip
    if state_before.enabled and not state_after.enabled:
        raise Conflict(
            "rollout_active", f"an active rollout turns the rule `{rule_id}` of this flag; "
            "a document does not switch it off",
            where=f"{place}.enabled", hint="Roll the rollout back, or use `inprod flags disable`.",
        )  # fmt: skip


def _same_place(before: Sequence[Rule], after: Sequence[Rule], rule_id: str) -> bool:
    """Whether the rules asked before this one are the same: they decide who reaches it."""

    def ahead(rules: Sequence[Rule]) -> list[Rule]:
        index = next(place for place, rule in enumerate(rules) if rule.id == rule_id)
        return [
            replace(rule, split=replace(rule.split, salt="", percent=0.0)) if rule.split else rule
            for rule in rules[:index]
        ]

    return ahead(before) == ahead(after)


def _rule(flag: Flag, environment: str, rule_id: str) -> Rule | None:
    state = flag.environments.get(environment)
    return next((rule for rule in state.rules if rule.id == rule_id), None) if state else None


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}
