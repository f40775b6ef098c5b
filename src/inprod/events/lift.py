"""Flag evaluations that OpenFeature hooks write as span events or log records, lifted to `flag.*`.

    feature_flag.key + feature_flag.result.variant   ->  flag.<key> = variant
    a metadata attribute that ends in `.rule`        ->  flag.<key>.rule = rule id
    feature_flag.context.id                          ->  user.id, when the event has none

An attribute that is there already is not overwritten: our own provider sets it more exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

NAMES = frozenset({"feature_flag.evaluation", "feature_flag"})
_PREFIX = "feature_flag."


def lift(evaluation: Mapping[str, str], strings: dict[str, str]) -> None:
    """Set `flag.<key>` and what goes with it on `strings`, from one evaluation's attributes.

    Nothing happens without a key and a variant: an evaluation that failed shows no side.
    """
    key = evaluation.get("feature_flag.key")
    variant = evaluation.get("feature_flag.result.variant") or evaluation.get(
        "feature_flag.variant"
    )
    if not key or not variant:
        return
    name = f"flag.{key}"
    if name not in strings:
        strings[name] = variant
        for attribute, value in evaluation.items():
            if attribute.startswith(_PREFIX) and attribute.endswith(".rule"):
                strings.setdefault(f"{name}.rule", value)
    unit = evaluation.get("feature_flag.context.id")
    if unit:
        strings.setdefault("user.id", unit)
