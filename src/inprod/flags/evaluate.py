"""A flag in one environment, compiled to a closure that answers with prebuilt values.

    evaluate = compile_flag(flag, "production")
    evaluate({"user.id": "u1", "country": "US"}, None)  ->  Evaluation

Compiled once, evaluated often: every possible answer is built beforehand (flag x rule x variant),
so an evaluation is a few dictionary reads, one hash and one comparison.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from inprod.flags.bucket import bucket, first_hash, hash_bytes, slots
from inprod.flags.condition import (
    TARGETING_KEY,
    USER,
    Context,
    Holds,
    compile_condition,
    elsewhere,
    find,
)
from inprod.flags.flag import Condition, Flag, Rule, Split, State

T = TypeVar("T")


class Reason(StrEnum):
    """Why this value: OpenFeature's standard reasons, and no others."""

    STATIC = "STATIC"
    DEFAULT = "DEFAULT"
    TARGETING_MATCH = "TARGETING_MATCH"
    SPLIT = "SPLIT"
    DISABLED = "DISABLED"
    STALE = "STALE"
    CACHED = "CACHED"
    UNKNOWN = "UNKNOWN"
    ERROR = "ERROR"


class Problem(StrEnum):
    """Why there is no value: OpenFeature's error codes."""

    FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
    TARGETING_KEY_MISSING = "TARGETING_KEY_MISSING"
    INVALID_CONTEXT = "INVALID_CONTEXT"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    PARSE_ERROR = "PARSE_ERROR"
    PROVIDER_NOT_READY = "PROVIDER_NOT_READY"
    GENERAL = "GENERAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a flag says to one context.

    With an `error`, `value` is None, `reason` is ERROR and the caller uses its own default.
    """

    value: object
    variant: str = ""
    reason: Reason
    rule: str = ""
    error: Problem | None = None
    message: str = ""


Evaluate = Callable[[Context, str | None], T]


def failed(error: Problem, message: str, rule: str = "") -> Evaluation:
    """Return the evaluation that has no value because of `error`."""
    return Evaluation(value=None, reason=Reason.ERROR, rule=rule, error=error, message=message)


def compile_flag(flag: Flag, environment: str) -> Evaluate[Evaluation]:
    """Return the closure that evaluates `flag` in `environment`; it never raises."""
    return compile_with(flag, environment, lambda evaluation: evaluation)


def compile_with(
    flag: Flag, environment: str, wrap: Callable[[Evaluation], T], *, silence_s: float = 0.0
) -> Evaluate[T]:
    """Return the closure, with each possible Evaluation passed through `wrap` once, beforehand.

    What `wrap` returns must be truthy. `silence_s` is for how long an SDK has been out of touch
    with its server: splits whose lease is not longer count as 0 percent.
    """
    state = flag.environments.get(environment)
    if state is None or not state.enabled:
        return _always(wrap(_served(flag, flag.off, Reason.DISABLED)))
    default = state.default or flag.default
    if not state.rules:
        return _always(wrap(_served(flag, default, Reason.STATIC)))
    fallback = wrap(_served(flag, default, Reason.DEFAULT))
    rules = [_compile_rule(flag, rule, wrap, silence_s=silence_s) for rule in state.rules]
    return _first_match(rules, fallback)


def _served(flag: Flag, variant: str, reason: Reason, rule: str = "") -> Evaluation:
    return Evaluation(value=flag.variants[variant], variant=variant, reason=reason, rule=rule)


def _always(answer: T) -> Evaluate[T]:
    def constant(_context: Context, _key: str | None) -> T:
        return answer

    return constant


def _first_match(rules: list[Evaluate[T | None]], fallback: T) -> Evaluate[T]:
    if len(rules) == 1:
        only = rules[0]

        def one(context: Context, key: str | None) -> T:
            return only(context, key) or fallback

        return one
    ordered = tuple(rules)

    def several(context: Context, key: str | None) -> T:
        for rule in ordered:
            answer = rule(context, key)
            if answer is not None:
                return answer
        return fallback

    return several


def _compile_rule(
    flag: Flag, rule: Rule, wrap: Callable[[Evaluation], T], *, silence_s: float
) -> Evaluate[T | None]:
    if rule.serve is not None:
        then = _always(wrap(_served(flag, rule.serve, Reason.TARGETING_MATCH, rule.id)))
    else:
        assert rule.split is not None, "a rule serves or splits"
        then = _compile_split(flag, rule.id, rule.split, wrap, silence_s=silence_s)
    if not rule.when:
        return then
    holds = _all([compile_condition(condition) for condition in rule.when])

    def guarded(context: Context, key: str | None) -> T | None:
        return then(context, key) if holds(context, key) else None

    return guarded


def _all(conditions: list[Holds]) -> Holds:
    if len(conditions) == 1:
        return conditions[0]
    ordered = tuple(conditions)

    def every(context: Context, key: str | None) -> bool:
        for condition in ordered:  # noqa: SIM110  # all() with a generator takes twice as long
            if not condition(context, key):
                return False
        return True

    return every


def _compile_split(
    flag: Flag, rule: str, split: Split, wrap: Callable[[Evaluation], T], *, silence_s: float
) -> Evaluate[T]:
    """Return the closure of a split.

    hash   0 ........ opened a ....... start b ...... opened b ....... 2**32
    serves   a         control           b             control
    """
    name = split.unit
    is_user = name in (USER, TARGETING_KEY)
    other = elsewhere(name)
    prefix = f"{split.salt}:".encode()
    control = wrap(_served(flag, split.control, Reason.SPLIT, rule))
    missing = wrap(_missing_unit(rule, name))
    invalid = wrap(_invalid_unit(rule, name))
    bounds: list[int] = []
    answers: list[T] = [control]
    expired = split.lease_s is not None and silence_s >= split.lease_s
    for slot in () if expired else slots(split):
        treated = wrap(_served(flag, slot.variant, Reason.SPLIT, rule))
        bounds += (first_hash(slot.start), first_hash(slot.opened))
        answers += (treated, control)
    hashed = hash_bytes

    def choose(context: Context, key: str | None) -> T:
        unit = context.get(name)
        if unit is None:
            unit = other(context, key)
        if type(unit) is not str:
            if unit is None:
                return missing
            if isinstance(unit, bool) or not isinstance(unit, (str, int)):
                return invalid
            unit = f"{unit}"
        if not unit:
            return missing
        try:
            return answers[bisect_right(bounds, hashed(prefix + unit.encode()))]
        except UnicodeError:
            return invalid

    if len(split.treatments) > 1 or not bounds:
        return choose
    threshold, treated = bounds[1], answers[1]

    def choose_one(context: Context, key: str | None) -> T:
        unit = context.get(name)
        if unit is None:
            unit = key if is_user and key else other(context, key)
        if type(unit) is str and unit:
            try:
                return treated if hashed(prefix + unit.encode()) < threshold else control
            except UnicodeError:
                return invalid
        return choose(context, key)

    return choose_one


def _missing_unit(rule: str, name: str) -> Evaluation:
    return failed(
        Problem.TARGETING_KEY_MISSING, f"rule `{rule}` splits by `{name}`, which is absent", rule
    )


def _invalid_unit(rule: str, name: str) -> Evaluation:
    return failed(Problem.INVALID_CONTEXT, f"`{name}` is neither a text nor a whole number", rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition as it was judged: `found` is the attribute's value, None when absent."""

    condition: Condition
    found: object
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One rule on the path: its checks, and for a split the unit and its bucket."""

    rule: str
    matched: bool
    checks: tuple[Check, ...] = ()
    unit: str = ""
    bucket: int | None = None
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The evaluation and the path that led to it, in the order of the rules."""

    evaluation: Evaluation
    path: tuple[Tried, ...]
    sentence: str


def explain(flag: Flag, environment: str, context: Context, key: str | None = None) -> Explanation:
    """Return what the flag says to `context` and why; equal to what the closure says."""
    evaluation = compile_flag(flag, environment)(context, key)
    state = flag.environments.get(environment)
    path: list[Tried] = []
    for rule in state.rules if state is not None and state.enabled else ():
        path.append(_tried(rule, context, key))
        if path[-1].matched:
            break
    sentence = _why(flag, environment, state, evaluation)
    return Explanation(evaluation=evaluation, path=tuple(path), sentence=sentence)


def _tried(rule: Rule, context: Context, key: str | None) -> Tried:
    checks = tuple(
        Check(
            condition=condition,
            found=find(context, key, condition.attribute),
            holds=compile_condition(condition)(context, key),
        )
        for condition in rule.when
    )
    failing = next((check for check in checks if not check.holds), None)
    if failing is not None:
        claim = failing.condition
        wanted = "" if claim.value is None else f" `{claim.value}`"
        return Tried(
            rule=rule.id, matched=False, checks=checks,
            sentence=f"`{claim.attribute}` is `{failing.found}`, not {claim.op.value}{wanted}.",
        )  # fmt: skip
    if rule.split is None:
        sentence = f"All its conditions hold: it serves `{rule.serve}`."
        return Tried(rule=rule.id, matched=True, checks=checks, sentence=sentence)
    unit = find(context, key, rule.split.unit)
    if isinstance(unit, bool) or not isinstance(unit, (str, int)) or unit == "":
        sentence = f"It splits by `{rule.split.unit}`, which is absent or no text."
        return Tried(rule=rule.id, matched=True, checks=checks, sentence=sentence)
    return _tried_split(rule, rule.split, str(unit), checks)


def _tried_split(rule: Rule, split: Split, unit: str, checks: tuple[Check, ...]) -> Tried:
    try:
        number = bucket(split.salt, unit)
    except UnicodeError:
        sentence = f"It splits by `{split.unit}`, which is no valid text."
        return Tried(rule=rule.id, matched=True, checks=checks, sentence=sentence)
    slot = next(slot for slot in slots(split) if slot.start <= number < slot.end)
    opened = f"the {split.percent:g} % opened of `{slot.variant}` is {slot.start} to {slot.opened}"
    return Tried(
        rule=rule.id, matched=True, checks=checks, unit=unit, bucket=number,
        sentence=f"`{split.unit}` = `{unit}` falls into bucket {number}; {opened}.",
    )  # fmt: skip


def _why(flag: Flag, environment: str, state: State | None, evaluation: Evaluation) -> str:
    if evaluation.error is not None:
        return f"There is no value: {evaluation.message}; the app's own default is used."
    served = f"`{evaluation.variant}` is served"
    match evaluation.reason:
        case Reason.DISABLED if state is None:
            return f"{served}: `{flag.key}` has no state in `{environment}`, so it is off there."
        case Reason.DISABLED:
            return f"{served}: `{flag.key}` is switched off in `{environment}`."
        case Reason.STATIC:
            return f"{served}: there are no rules in `{environment}`."
        case Reason.DEFAULT:
            return f"{served}: no rule matched."
        case Reason.SPLIT:
            return f"{served}: rule `{evaluation.rule}` matched and its split chose."
        case _:
            return f"{served}: rule `{evaluation.rule}` matched."
