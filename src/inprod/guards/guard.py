"""The guard: a promise that must hold, written down.

A guard that compares (errors, rate, latency, mean, completeness, sample_ratio) looks at the treated
arm and the concurrent control arm of one attribute; `threshold` looks at one number and a ceiling.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Literal

from inprod.errors import Invalid
from inprod.events.query import Calculate, Filter
from inprod.units import Seconds

GUARDS_MAX = 50
RATIO_MAX = 50.0  # the test looks at ratios from 1/50 to 50
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Kind(StrEnum):
    """What is promised."""

    ERRORS = "errors"  # bad units (or events) are not more frequent
    RATE = "rate"  # matches among all exposed are not more frequent
    LATENCY = "latency"  # the distribution of `column` has not moved up
    MEAN = "mean"  # the mean of `column`, clipped to [0, clip], is not larger
    THRESHOLD = "threshold"  # `calculate(column)` over `over_s` stays at or under `ceiling`
    SAMPLE_RATIO = "sample_ratio"  # units fall into the arms as the split says
    COMPLETENESS = "completeness"  # exposed units produce their outcome event within `timeout_s`


class Unit(StrEnum):
    """What is counted once: the split's own unit, or every event (independent requests)."""

    SPLIT = "split"
    EVENT = "event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """One promise.

    Every kind: `name`, `weight` (its part of the rollout's alpha, compared with the other guards),
    `required` (False: watched and shown, never decides), `where` (all must hold: the events it
    looks at), within `dataset` when given, and `unit`.

    errors        `bad`: which events are bad (all must hold; none given: `error` is true). Broken
                  when the risk ratio is shown to be over `abort_ratio`, holds when it is shown to
                  be under `promote_ratio`. With `margin` (an absolute difference of the bad
                  shares, 0.01 is one point) it also holds when the difference is shown to be under
                  it: for rare errors. Per unit, `timeout_s` after its first event a unit without
                  a bad one counts as good for that.
    rate          The same, out of all exposed units (or events) and not only those it looks at. A
                  unit counts once, with its first match: how often one unit matches depends on
                  the unit, so more matches are not more evidence. For how often, use `mean`.
    latency       `column` (default `duration_ms`). Broken when the distribution is shown to have
                  moved up by more than `abort_slower`; holds when the treated `quantile` is shown
                  to be under `slower` times the control's. Factors are kept in steps of 5 %.
    mean          `column`, clipped to [0, `clip`]. Broken when the treated mean is shown to be over
                  the control's by more than `margin` (in the column's unit), holds when by less.
    threshold     `calculate(column)` of the events of `arm` over the last `over_s` stays at or
                  under `ceiling`. No statistics: a hard floor that does not count in alpha.
    sample_ratio  Nothing to set. Off by chance in one of 100 rollouts; makes the rollout hold.
    completeness  `outcome`: the event each exposed unit must produce within `timeout_s`. Broken
                  when the treated miss it over `abort_ratio` times as often; makes it hold.
    """

    name: str
    kind: Kind
    dataset: str | None = None
    where: tuple[Filter, ...] = ()
    bad: tuple[Filter, ...] = ()
    column: str | None = None
    unit: Unit = Unit.SPLIT
    abort_ratio: float = 1.1
    promote_ratio: float = 1.5
    quantile: float = 0.99
    slower: float = 1.2
    abort_slower: float = 1.05
    clip: float | None = None
    margin: float | None = None
    calculate: Calculate | None = None
    ceiling: float | None = None
    arm: Literal["treated", "control", "all"] = "treated"
    over_s: Seconds = 60.0
    outcome: tuple[Filter, ...] = ()
    timeout_s: Seconds = 30.0
    weight: float = 1.0
    required: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be judged: Invalid with the field in `where`."""
        if not NAME_PATTERN.fullmatch(self.name):
            raise Invalid(
                "bad_name", f"`{self.name}` is not a guard's name", where="name",
                hint="Use up to 64 letters, digits, `-`, `_` and `.`, a letter or digit first.",
            )  # fmt: skip
        used = USED[self.kind] | USED_BY_ALL
        for field in fields(self):
            if field.name not in used and getattr(self, field.name) != field.default:
                raise Invalid(
                    "unused_field", f"`{field.name}` means nothing to a {self.kind} guard",
                    where=field.name, hint="Leave it out.",
                )  # fmt: skip
        for name in NEEDED[self.kind]:
            if not getattr(self, name) and getattr(self, name) != 0:
                raise Invalid(
                    "missing_field", f"a {self.kind} guard needs `{name}`", where=name,
                    hint=f"Add `{name}`.",
                )  # fmt: skip
        for name, (low, high, hint) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and low <= value <= high):
                raise Invalid(
                    "out_of_range", f"`{value}` is out of range for `{name}`", where=name, hint=hint
                )
        self._check_together()

    def _check_together(self) -> None:
        if self.promote_ratio < self.abort_ratio:
            raise Invalid(
                "out_of_range",
                f"`{self.promote_ratio}` is under `abort_ratio` `{self.abort_ratio}`: between the"
                " two nothing would ever be decided",
                where="promote_ratio", hint="Use a promote_ratio of at least the abort_ratio.",
            )  # fmt: skip
        if self.kind is Kind.ERRORS and self.margin is not None and self.margin >= 1:
            raise Invalid(
                "out_of_range", f"`{self.margin}` is no difference of two shares", where="margin",
                hint="Use a margin over 0 and under 1; 0.01 is one percentage point.",
            )  # fmt: skip
        if self.kind is Kind.MEAN and (self.margin or 0) >= (self.clip or 0):
            raise Invalid(
                "out_of_range", f"`{self.margin}` is not under `clip` `{self.clip}`",
                where="margin", hint="Use a margin smaller than the clip.",
            )  # fmt: skip
        needs_column = self.kind is Kind.THRESHOLD and self.calculate is not Calculate.COUNT
        if needs_column and not self.column:
            raise Invalid(
                "missing_field", f"`{self.calculate}` needs a column", where="column",
                hint="Add `column`, or calculate COUNT.",
            )  # fmt: skip
        if self.calculate is Calculate.HEATMAP:
            raise Invalid(
                "out_of_range", f"`{self.calculate}` is not one number", where="calculate",
                hint="Use COUNT, SUM, AVG, MIN, MAX, a percentile or a rate.",
            )  # fmt: skip


USED_BY_ALL = frozenset({"name", "kind", "dataset", "where", "unit", "weight", "required"})
USED: dict[Kind, frozenset[str]] = {
    Kind.ERRORS: frozenset({"bad", "abort_ratio", "promote_ratio", "margin", "timeout_s"}),
    Kind.RATE: frozenset({"bad", "abort_ratio", "promote_ratio"}),
    Kind.LATENCY: frozenset({"column", "quantile", "slower", "abort_slower"}),
    Kind.MEAN: frozenset({"column", "clip", "margin"}),
    Kind.THRESHOLD: frozenset({"column", "calculate", "ceiling", "arm", "over_s"}),
    Kind.SAMPLE_RATIO: frozenset(),
    Kind.COMPLETENESS: frozenset({"outcome", "timeout_s", "abort_ratio", "promote_ratio"}),
}
NEEDED: dict[Kind, tuple[str, ...]] = {
    Kind.ERRORS: (),
    Kind.RATE: (),
    Kind.LATENCY: (),
    Kind.MEAN: ("column", "clip", "margin"),
    Kind.THRESHOLD: ("calculate", "ceiling"),
    Kind.SAMPLE_RATIO: (),
    Kind.COMPLETENESS: ("outcome",),
}
_TINY, _HUGE = 1e-9, 1e15
LEVEL_MIN, LEVEL_MAX = 1e-9, 0.5  # of alpha and beta; under this no evidence would be enough
LIMITS: dict[str, tuple[float, float, str]] = {
    "abort_ratio": (1.0, RATIO_MAX, "Use a ratio from 1 to 50, such as 1.1."),
    "promote_ratio": (1.0 + 1e-6, RATIO_MAX, "Use a ratio over 1, up to 50, such as 1.5."),
    "quantile": (0.01, 0.9999, "Use a quantile from 0.01 to 0.9999; p99 is 0.99."),
    "slower": (1.05, RATIO_MAX, "Use a factor from 1.05 to 50; 1.2 is 20 % slower."),
    "abort_slower": (1.0, RATIO_MAX, "Use a factor from 1 to 50; 1.05 lets 5 % pass."),
    "clip": (_TINY, _HUGE, "Use a clip over 0, in the column's unit."),
    "margin": (_TINY, _HUGE, "Use a margin over 0."),
    "ceiling": (-_HUGE, _HUGE, "Use a finite number."),
    "over_s": (1.0, 7 * 86400.0, "Use a duration from 1 s to 7 d."),
    "timeout_s": (0.1, 86400.0, "Use a duration from 100 ms to 24 h."),
    "weight": (1e-3, 1e3, "Use a weight from 0.001 to 1000; the guards' weights are compared."),
}


class Verdict(StrEnum):
    """What the evidence says, now."""

    HOLDS = "holds"  # non-inferiority shown: e-value for promotion >= 1/beta
    BROKEN = "broken"  # e-value for abort >= 1/alpha (threshold: over its ceiling)
    UNDECIDED = "undecided"  # evidence is coming in; see the forecast
    NO_EXPOSURES = "no_exposures"  # control has units, the treated arm none
    NO_OUTCOMES = "no_outcomes"  # exposed, but nothing to judge was seen
    STALE = "stale"  # no event at all for too long
