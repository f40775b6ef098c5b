"""The flag document: ordered rules, first match wins, one state per environment.

    flag -> environment -> rule 1 -> rule 2 -> ... -> default
                            |          |
                            variant    split: unit -> bucket -> treatment or control

Compiled to closures by `evaluate`; changed only through `change.apply`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from inprod.operators import Op, Scalar
from inprod.units import Percent, Seconds

BUCKETS = 100_000
VARIANTS_MAX = 100
RULES_MAX = 200
CONDITIONS_MAX = 50
VALUES_MAX = 10_000
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Kind(StrEnum):
    """The type of every variant's value, in OpenFeature's words."""

    BOOLEAN = "boolean"
    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    OBJECT = "object"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A claim on one attribute of the evaluation context; a missing attribute fails every claim
    but `does-not-exist` and the negative ones."""

    attribute: str
    op: Op
    value: Scalar | tuple[Scalar, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """A variant and its share of the exposed units, as a weight in 1..100,000."""

    variant: str
    weight: int = BUCKETS


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Which units see a treatment, and how many of them do so far.

    `unit` names the context attribute that is hashed; `salt` is minted once per rollout and never
    changes by itself; each treatment owns a fixed slot of the 100,000 buckets in proportion to its
    weight, and `percent` (0-100) opens the first part of each slot; everybody else sees `control`.

        slot a          slot b
        [aaa.......]    [bbb.......]      percent 30; dots are control

    `lease_s`: an SDK out of touch with its server for longer treats `percent` as 0 (None: keeps).
    """

    control: str
    treatments: tuple[Treatment, ...]
    salt: str
    unit: str = "user.id"
    percent: Percent = 0.0
    lease_s: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """All conditions of `when` must hold; then exactly one of `serve` (a variant) and `split`."""

    id: str
    when: tuple[Condition, ...] = ()
    serve: str | None = None
    split: Split | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A flag in one environment; `default` overrides the flag's own default variant there."""

    enabled: bool = True
    rules: tuple[Rule, ...] = ()
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag. `variants` maps variant name to value; `off` is served where the flag is disabled
    or the environment has no state; `default` where no rule matches."""

    key: str
    kind: Kind
    variants: dict[str, Any]
    default: str
    off: str
    environments: dict[str, State] = field(default_factory=dict[str, State])
    description: str = ""
    owner: str = ""
    expires: str | None = None
    tags: tuple[str, ...] = ()
