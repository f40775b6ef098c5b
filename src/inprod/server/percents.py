"""What a flag's document leaves as it is: unsaid percents, and what a rollout turns; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

from inprod.errors import Conflict
from inprod.flags.flag import Flag
from inprod.flags.turned import refuse_disturbing, rule_in


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
    refuse_disturbing(old, flag, turning)
    for environment, rule_id in sorted(turning):
        if rule_in(old, environment, rule_id) is not None:
            _refuse_switching_off(old, flag, environment, rule_id)
    for environment, state in flag.environments.items():
        rules = list(state.rules)
        for index, rule in enumerate(rules):
            before = rule_in(old, environment, rule.id)
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


def _refuse_switching_off(old: Flag, new: Flag, environment: str, rule_id: str) -> None:
    if old.environments[environment].enabled and not new.environments[environment].enabled:
        raise Conflict(
            "rollout_active", f"an active rollout turns the rule `{rule_id}` of this flag; "
            "a document does not switch it off",
            where=f"environments.{environment}.enabled",
            hint="Roll the rollout back, or use `inprod flags disable`.",
        )  # fmt: skip


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}
