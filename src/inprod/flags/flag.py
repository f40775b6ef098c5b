"""The flag document: ordered rules, first match wins, one state per environment.

    flag -> environment -> rule 1 -> rule 2 -> ... -> default
                            |          |
                            variant    split: unit -> bucket -> treatment or control

Compiled to closures by `evaluate`; changed only through `change.apply`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, cast

from inprod.errors import Invalid, nearest
from inprod.operators import Op, Scalar
from inprod.units import Percent, Seconds

BUCKETS = 100_000
VARIANTS_MAX = 100
RULES_MAX = 200
CONDITIONS_MAX = 50
VALUES_MAX = 10_000
TREATMENTS_MAX = 20
ENVIRONMENTS_MAX = 100
TAGS_MAX = 50
TEXT_MAX = 4_000
INTEGER_MAX = 2**53 - 1  # what every JSON reader keeps exactly
DEPTH_MAX = 20
LEASE_S_MIN, LEASE_S_MAX = 5.0, 7 * 86400.0  # streams are pinged every 2 s
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

    def __post_init__(self) -> None:
        _text(self.attribute, "attribute", at_least=1)
        _check_operand(self.op, self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """A variant and its share of the exposed units, as a weight in 1..100,000."""

    variant: str
    weight: int = BUCKETS

    def __post_init__(self) -> None:
        if not 1 <= self.weight <= BUCKETS:
            raise Invalid(
                "weight_out_of_range", f"`{self.weight}` is not a weight", where="weight",
                hint=f"Use a whole number from 1 to {BUCKETS}.",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Which units see a treatment, and how many of them do so far.

    `unit` names the context attribute that is hashed; `salt` is minted once per rollout (by the
    store, where it is left empty) and never changes by itself; each treatment owns a fixed slot of
    the 100,000 buckets in proportion to its weight, and `percent` (0-100) opens the first part of
    each slot; everybody else sees `control`.

        slot a          slot b
        [aaa.......]    [bbb.......]      percent 30; dots are control

    `lease_s`: an SDK out of touch with its server for longer treats `percent` as 0 (None: keeps).
    """

    control: str
    treatments: tuple[Treatment, ...]
    salt: str = ""
    unit: str = "user.id"
    percent: Percent = 0.0
    lease_s: Seconds | None = None

    def __post_init__(self) -> None:
        _text(self.unit, "unit", at_least=1)
        _text(self.salt, "salt")
        if not 0 <= self.percent <= 100:  # also refuses NaN
            raise Invalid(
                "percent_out_of_range", f"`{self.percent:g}` is not a percent", where="percent",
                hint="Use a percent from 0 to 100.",
            )  # fmt: skip
        if self.lease_s is not None and not LEASE_S_MIN <= self.lease_s <= LEASE_S_MAX:
            raise Invalid(
                "lease_out_of_range", f"`{self.lease_s:g}` s is not a lease", where="lease_s",
                hint=f"Use {LEASE_S_MIN:g} s to {LEASE_S_MAX:g} s, or leave it out.",
            )  # fmt: skip
        _check_treatments(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """All conditions of `when` must hold; then exactly one of `serve` (a variant) and `split`."""

    id: str
    when: tuple[Condition, ...] = ()
    serve: str | None = None
    split: Split | None = None

    def __post_init__(self) -> None:
        _key(self.id, "id")
        _at_most(self.when, CONDITIONS_MAX, "when")
        if (self.serve is None) == (self.split is None):
            given = "both `serve` and `split`" if self.serve else "neither `serve` nor `split`"
            raise Invalid(
                "serve_or_split", f"rule `{self.id}` has {given}",
                hint="Give exactly one of `serve` (a variant) and `split`.",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A flag in one environment; `default` overrides the flag's own default variant there."""

    enabled: bool = True
    rules: tuple[Rule, ...] = ()
    default: str | None = None

    def __post_init__(self) -> None:
        _at_most(self.rules, RULES_MAX, "rules")
        seen: set[str] = set()
        for index, rule in enumerate(self.rules):
            if rule.id in seen:
                raise Invalid(
                    "duplicate_rule", f"rule `{rule.id}` is there twice",
                    where=f"rules[{index}].id", hint="Give each rule its own id.",
                )  # fmt: skip
            seen.add(rule.id)


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

    def __post_init__(self) -> None:
        _key(self.key, "key")
        _at_most(self.variants, VARIANTS_MAX, "variants")
        _at_most(self.environments, ENVIRONMENTS_MAX, "environments")
        _at_most(self.tags, TAGS_MAX, "tags")
        _text(self.description, "description")
        _text(self.owner, "owner")
        if not self.variants:
            raise Invalid(
                "no_variants", f"flag `{self.key}` has no variants", where="variants",
                hint="Name at least one variant and its value.",
            )  # fmt: skip
        values = {
            _key(name, f"variants.{name}"): _typed(self.kind, value, f"variants.{name}")
            for name, value in self.variants.items()
        }
        object.__setattr__(self, "variants", values)  # floats are floats from here on
        for where, variant in self._mentions():
            if variant not in values:
                raise Invalid(
                    "unknown_variant", f"`{variant}` is not a variant of `{self.key}`",
                    where=where, hint=nearest(variant, values),
                )  # fmt: skip
        if self.expires is not None:
            _check_date(self.expires)

    def _mentions(self) -> Iterator[tuple[str, str]]:
        """Yield where a variant is named, and its name."""
        yield "default", self.default
        yield "off", self.off
        for name, state in self.environments.items():
            where = f"environments.{_key(name, f'environments.{name}')}"
            if state.default is not None:
                yield f"{where}.default", state.default
            for index, rule in enumerate(state.rules):
                if rule.serve is not None:
                    yield f"{where}.rules[{index}].serve", rule.serve
                if rule.split is not None:
                    split = f"{where}.rules[{index}].split"
                    yield f"{split}.control", rule.split.control
                    for number, treatment in enumerate(rule.split.treatments):
                        yield f"{split}.treatments[{number}].variant", treatment.variant


def _key(text: str, where: str) -> str:
    if KEY.fullmatch(text) is None:
        raise Invalid(
            "bad_name", f"`{text[:120]}` is not a name", where=where,
            hint="Use letters, digits, `.`, `_` and `-`, 100 at most, a letter or digit first.",
        )  # fmt: skip
    return text


def _text(text: str, where: str, *, at_least: int = 0) -> None:
    if not at_least <= len(text) <= TEXT_MAX:
        raise Invalid(
            "bad_length", f"`{where}` has `{len(text)}` characters", where=where,
            hint=f"Use {at_least} to {TEXT_MAX} characters.",
        )  # fmt: skip
    if not _is_utf8(text):
        raise Invalid(
            "bad_text", f"`{where}` has half a character (a lone surrogate)", where=where,
            hint="Send valid UTF-8.",
        )  # fmt: skip


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeError:
        return False
    return True


def _at_most(items: Collection[object], limit: int, where: str) -> None:
    if len(items) > limit:
        raise Invalid(
            "too_many", f"`{where}` has `{len(items)}` entries", where=where,
            hint=f"Use at most {limit}.",
        )  # fmt: skip


def _check_treatments(split: Split) -> None:
    if not split.treatments:
        raise Invalid(
            "no_treatments", "the split has no treatments", where="treatments",
            hint="Name at least one variant to be released.",
        )  # fmt: skip
    _at_most(split.treatments, TREATMENTS_MAX, "treatments")
    seen = {split.control}
    for index, treatment in enumerate(split.treatments):
        if treatment.variant in seen:
            raise Invalid(
                "duplicate_treatment", f"`{treatment.variant}` has a share already",
                where=f"treatments[{index}].variant",
                hint="Use each variant once, and the control as no treatment.",
            )  # fmt: skip
        seen.add(treatment.variant)
    total = sum(treatment.weight for treatment in split.treatments)
    if total > BUCKETS:
        raise Invalid(
            "weights_too_large", f"the weights add up to `{total}`", where="treatments",
            hint=f"Make them add up to {BUCKETS} at most.",
        )  # fmt: skip


_NO_VALUE = frozenset({Op.EXISTS, Op.DOES_NOT_EXIST})
_LISTS = frozenset({Op.IN, Op.NOT_IN})
_ORDERED = frozenset({Op.GREATER, Op.GREATER_OR_EQUAL, Op.LESS, Op.LESS_OR_EQUAL})
_EQUALITY = frozenset({Op.EQUAL, Op.NOT_EQUAL})


def _check_operand(op: Op, value: Scalar | tuple[Scalar, ...] | None) -> None:
    """Refuse a value that `op` cannot use."""
    if op in _NO_VALUE:
        good, hint = value is None, "Leave `value` out."
    elif op in _LISTS:
        good = isinstance(value, tuple) and 0 < len(value) <= VALUES_MAX and all(map(_sound, value))
        hint = f"Give a list of 1 to {VALUES_MAX} values."
    elif op in _EQUALITY:
        good, hint = _sound(value), "Give one text, number, true or false."
    elif op in _ORDERED:
        good, hint = _sound(value) and not isinstance(value, bool), "Give a number or a text."
    else:
        good, hint = isinstance(value, str) and value != "", "Give a text that is not empty."
    if not good:
        shown = str(value)
        raise Invalid(
            "wrong_operand", f"`{shown[:60]}` does not go with `{op.value}`", where="value",
            hint=hint,
        )  # fmt: skip


def _sound(value: object) -> bool:
    return isinstance(value, (str, bool, int)) or (
        isinstance(value, float) and math.isfinite(value)
    )


_EXAMPLES = {
    Kind.BOOLEAN: "Write true or false.",
    Kind.STRING: "Write a text.",
    Kind.INTEGER: f"Write a whole number of at most {INTEGER_MAX}.",
    Kind.FLOAT: "Write a number.",
    Kind.OBJECT: "Write an object or a list, as JSON knows them.",
}


def _typed(kind: Kind, value: object, where: str) -> object:
    """Return the value as its kind has it (whole numbers become floats for `float`)."""
    if kind is Kind.FLOAT and type(value) is int:
        value = float(value)
    match kind:
        case Kind.BOOLEAN:
            good = isinstance(value, bool)
        case Kind.STRING:
            good = isinstance(value, str)
        case Kind.INTEGER:
            good = type(value) is int and abs(value) <= INTEGER_MAX
        case Kind.FLOAT:
            good = isinstance(value, float) and math.isfinite(value)
        case Kind.OBJECT:
            good = isinstance(value, (Mapping, list)) and _is_json(cast("object", value), 0)
    if not good:
        shown = str(cast("object", value))[:60]
        raise Invalid(
            "wrong_variant_type", f"`{shown}` is not a value of kind `{kind.value}`",
            where=where, hint=_EXAMPLES[kind],
        )  # fmt: skip
    return cast("object", value)


def _is_json(value: object, depth: int) -> bool:
    if depth > DEPTH_MAX:
        return False
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value)
        return all(
            isinstance(key, str) and _is_json(item, depth + 1) for key, item in pairs.items()
        )
    if isinstance(value, list):
        return all(_is_json(item, depth + 1) for item in cast("list[object]", value))
    return value is None or _sound(value)


def _check_date(text: str) -> None:
    try:
        good = date.fromisoformat(text).isoformat() == text
    except ValueError:
        good = False
    if not good:
        raise Invalid(
            "bad_date", f"`{text[:40]}` is not a date", where="expires",
            hint="Write it as YYYY-MM-DD.",
        )  # fmt: skip
