"""The short forms that people write in YAML, spelled out; pure.

type: boolean            kind: boolean           (a document's `kind` says what it is)
bake: 1m                 bake_s: 1m              (likewise batch, deadline, stale, over ...)
steps: [5%]              steps: [{level: 5%}]
treatments: [on]         treatments: [{variant: on}]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from inprod.errors import Invalid

Plain = Mapping[str, object]

PLAN_DURATIONS = ("batch", "deadline", "settle", "stale")
STEP_DURATIONS = ("bake",)
GUARD_DURATIONS = ("over", "timeout")
CAP_DURATIONS = ("duration",)
SPLIT_DURATIONS = ("lease",)


def spelled_flag(written: Plain, *, where: str) -> dict[str, object]:
    """Return the fields of a Flag; `where` is the path of the document, for errors."""
    found = {key: value for key, value in written.items() if key != "kind"}
    if "type" not in found:
        raise Invalid(
            "missing_field", "`type` is missing", where=where,
            hint="Add `type`, such as `type: boolean`.",
        )  # fmt: skip
    found["kind"] = found.pop("type")
    states = found.get("environments")
    if _is_object(states):
        found["environments"] = {
            name: _state(state, f"{where}.environments.{name}")
            for name, state in _object(states).items()
        }
    return found


def spelled_plan(written: Plain, *, where: str) -> dict[str, object]:
    """Return the fields of a Plan; `where` is the path of the document, for errors."""
    found = _seconds(
        {key: value for key, value in written.items() if key != "kind"}, PLAN_DURATIONS, where
    )
    steps = found.get("steps")
    if isinstance(steps, (list, tuple)):
        found["steps"] = [
            _seconds(_object(step), STEP_DURATIONS, f"{where}.steps[{index}]")
            if _is_object(step)
            else {"level": step}
            for index, step in enumerate(cast("list[object]", steps))
        ]
    guards = found.get("guards")
    if isinstance(guards, (list, tuple)):
        found["guards"] = [
            _seconds(_object(guard), GUARD_DURATIONS, f"{where}.guards[{index}]")
            if _is_object(guard)
            else guard
            for index, guard in enumerate(cast("list[object]", guards))
        ]
    caps = found.get("caps")
    if _is_object(caps):
        found["caps"] = _seconds(_object(caps), CAP_DURATIONS, f"{where}.caps")
    return found


def _state(state: object, where: str) -> object:
    if state is None:
        return {}
    if not _is_object(state):
        return state
    found = _object(state)
    rules = found.get("rules")
    if isinstance(rules, (list, tuple)):
        found["rules"] = [
            _rule(rule, f"{where}.rules[{index}]")
            for index, rule in enumerate(cast("list[object]", rules))
        ]
    return found


def _rule(rule: object, where: str) -> object:
    if not _is_object(rule):
        return rule
    found = _object(rule)
    split = found.get("split")
    if _is_object(split):
        spelled = _seconds(_object(split), SPLIT_DURATIONS, f"{where}.split")
        treatments = spelled.get("treatments")
        if isinstance(treatments, (list, tuple)):
            spelled["treatments"] = [
                {"variant": one} if isinstance(one, str) else one
                for one in cast("list[object]", treatments)
            ]
        found["split"] = spelled
    return found


def _seconds(found: dict[str, object], names: tuple[str, ...], where: str) -> dict[str, object]:
    for name in names:
        if name in found:
            full = f"{name}_s"
            if full in found:
                raise Invalid(
                    "written_twice", f"`{name}` and `{full}` mean the same",
                    where=f"{where}.{name}",
                    hint=f"Keep `{name}`.",
                )  # fmt: skip
            found[full] = found.pop(name)
    return found


def _is_object(value: object) -> bool:
    return isinstance(value, Mapping)


def _object(value: object) -> dict[str, object]:
    given = cast("Mapping[object, object]", value)
    return {str(key): item for key, item in given.items()}
