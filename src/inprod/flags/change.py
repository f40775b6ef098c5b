"""Changes to a flag as values: `apply(flag, change) -> Flag`, and `diff(old, new)` in sentences.

Nothing else edits a flag, so that every edit has a name in the history and the same rules: a
percent never touches the salt unless a reshuffle is asked for, and a rule keeps its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar, assert_never, cast

from inprod import document
from inprod.errors import Conflict, Invalid, Missing, nearest
from inprod.flags.flag import Flag, Rule, Split, State
from inprod.units import Percent, Seconds

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPercent:
    """Open a rule's split to `percent`; `lease_s` as in Split (None: no lease).

    `reshuffle` draws the units anew under `salt`: only then may the salt change.
    """

    environment: str
    rule: str
    percent: Percent
    lease_s: Seconds | None = None
    reshuffle: bool = False
    salt: str = ""

    def __post_init__(self) -> None:
        if self.reshuffle != bool(self.salt):
            raise Invalid(
                "reshuffle_and_salt", "`reshuffle` and `salt` go together", where="salt",
                hint="Give both to draw the units anew, or neither to keep everybody's side.",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SetEnabled:
    """Switch a flag on or off in one environment."""

    environment: str
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDefault:
    """Choose the variant served where no rule matches; None goes back to the flag's own."""

    environment: str
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRule:
    """Replace the rule of the same id in its place, or put a new one at `position` (end: None)."""

    environment: str
    rule: Rule
    position: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveRule:
    """Take a rule away."""

    environment: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRule:
    """Put a rule at `position`, 0 being asked first."""

    environment: str
    rule: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameVariant:
    """Give a variant another name, everywhere; nobody changes bucket."""

    variant: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAbout:
    """Set what people read: description, owner, expiry, tags; None leaves one as it is."""

    description: str | None = None
    owner: str | None = None
    expires: str | None = None
    tags: tuple[str, ...] | None = None


Change = (
    SetPercent
    | SetEnabled
    | SetDefault
    | PutRule
    | RemoveRule
    | MoveRule
    | RenameVariant
    | SetAbout
)
CHANGES: dict[str, type[Change]] = {
    "set_percent": SetPercent,
    "set_enabled": SetEnabled,
    "set_default": SetDefault,
    "put_rule": PutRule,
    "remove_rule": RemoveRule,
    "move_rule": MoveRule,
    "rename_variant": RenameVariant,
    "set_about": SetAbout,
}


def read_change(plain: object, *, where: str = "$") -> Change:
    """Return the change that `{"change": "set_percent", ...}` means."""
    if not isinstance(plain, Mapping):
        raise Invalid("wrong_type", "a change is an object", where=where, hint="Send an object.")
    fields = dict(cast("Mapping[str, object]", plain))
    name = str(fields.pop("change", ""))
    kind = CHANGES.get(name)
    if kind is None:
        raise Invalid(
            "unknown_change", f"`{name}` is not a change", where=f"{where}.change",
            hint=nearest(name, CHANGES),
        )  # fmt: skip
    return document.read(kind, fields, where=where)


def apply(flag: Flag, change: Change) -> Flag:
    """Return `flag` with the change made; raises Missing or Invalid when it cannot be."""
    match change:
        case SetPercent():
            return _set_percent(flag, change)
        case SetEnabled():
            return _with(flag, change.environment, enabled=change.enabled)
        case SetDefault():
            return _with(flag, change.environment, default=change.default)
        case PutRule():
            return _put(flag, change)
        case RemoveRule():
            rule = rule_of(flag, change.environment, change.rule)
            rules = flag.environments[change.environment].rules
            return _with(flag, change.environment, rules=tuple(r for r in rules if r is not rule))
        case MoveRule():
            rule = rule_of(flag, change.environment, change.rule)
            rules = [r for r in flag.environments[change.environment].rules if r is not rule]
            rules.insert(max(change.position, 0), rule)
            return _with(flag, change.environment, rules=tuple(rules))
        case RenameVariant():
            return _rename(flag, change)
        case SetAbout():
            about = {
                name: value
                for name in ("description", "owner", "expires", "tags")
                if (value := getattr(change, name)) is not None
            }
            return replace(flag, **about)
        case _:
            assert_never(change)


def rule_of(flag: Flag, environment: str, name: str) -> Rule:
    """Return a rule by id; raises Missing."""
    state = flag.environments.get(environment)
    if state is None:
        raise Missing(
            "no_state", f"`{flag.key}` has no state in `{environment}`", where="environment",
            hint="Put a rule there first.",
        )  # fmt: skip
    for rule in state.rules:
        if rule.id == name:
            return rule
    raise Missing(
        "unknown_rule", f"`{name}` is not a rule of `{flag.key}` in `{environment}`", where="rule",
        hint=nearest(name, (rule.id for rule in state.rules)),
    )  # fmt: skip


def split_of(flag: Flag, environment: str, name: str) -> Split:
    """Return the split of a rule; raises Missing, or Invalid when it serves one variant."""
    rule = rule_of(flag, environment, name)
    if rule.split is None:
        raise Invalid(
            "no_split", f"rule `{name}` of `{flag.key}` serves `{rule.serve}` to all",
            where="rule", hint="Give the rule a split first.",
        )  # fmt: skip
    return rule.split


def _set_percent(flag: Flag, change: SetPercent) -> Flag:
    split = split_of(flag, change.environment, change.rule)
    rule = rule_of(flag, change.environment, change.rule)
    turned = replace(
        split,
        percent=change.percent,
        lease_s=change.lease_s,
        salt=change.salt if change.reshuffle else split.salt,
    )
    put = PutRule(environment=change.environment, rule=replace(rule, split=turned))
    return _put(flag, put)


def _put(flag: Flag, change: PutRule) -> Flag:
    state = flag.environments.get(change.environment, State())
    rules = list(state.rules)
    for index, rule in enumerate(rules):
        if rule.id == change.rule.id:
            rules[index] = change.rule
            break
    else:
        position = len(rules) if change.position is None else max(change.position, 0)
        rules.insert(position, change.rule)
    return _with(flag, change.environment, rules=tuple(rules))


def _with(flag: Flag, environment: str, **fields: object) -> Flag:
    """Return the flag with fields of one environment's state set (made if it is not there)."""
    state = flag.environments.get(environment, State(enabled=bool(fields.get("rules"))))
    changed = replace(state, **fields)  # pyright: ignore[reportArgumentType]  # by name
    return replace(flag, environments={**flag.environments, environment: changed})


def _rename(flag: Flag, change: RenameVariant) -> Flag:
    old, new = change.variant, change.name
    if old not in flag.variants:
        raise Missing(
            "unknown_variant", f"`{old}` is not a variant of `{flag.key}`", where="variant",
            hint=nearest(old, flag.variants),
        )  # fmt: skip
    if new in flag.variants and new != old:
        raise Conflict("variant_exists", f"`{new}` is a variant already", hint="Use another name.")

    def named(variant: str) -> str:
        return new if variant == old else variant

    return replace(
        flag,
        variants={named(name): value for name, value in flag.variants.items()},
        default=named(flag.default),
        off=named(flag.off),
        environments={
            name: replace(
                state,
                default=named(state.default) if state.default is not None else None,
                rules=tuple(_renamed(rule, named) for rule in state.rules),
            )
            for name, state in flag.environments.items()
        },
    )


def _renamed(rule: Rule, named: Callable[[str], str]) -> Rule:
    if rule.split is None:
        return replace(rule, serve=named(rule.serve or ""))
    treatments = tuple(
        replace(treatment, variant=named(treatment.variant)) for treatment in rule.split.treatments
    )
    control = named(rule.split.control)
    return replace(rule, split=replace(rule.split, control=control, treatments=treatments))


def settle(flag: Flag, previous: Flag | None, mint: Callable[[], str]) -> Flag:
    """Return `flag` with every empty salt filled: the previous one of the same rule, or a new one.

    So a document written by hand needs no salt, and writing it again reshuffles nobody.
    """
    environments = {
        name: replace(
            state, rules=tuple(_salted(rule, name, previous, mint) for rule in state.rules)
        )
        for name, state in flag.environments.items()
    }
    return flag if environments == flag.environments else replace(flag, environments=environments)


def _salted(rule: Rule, environment: str, previous: Flag | None, mint: Callable[[], str]) -> Rule:
    if rule.split is None or rule.split.salt:
        return rule
    state = previous.environments.get(environment) if previous is not None else None
    kept = next(
        (
            old.split.salt
            for old in (state.rules if state else ())
            if old.id == rule.id and old.split
        ),
        "",
    )
    return replace(rule, split=replace(rule.split, salt=kept or mint()))


def diff(old: Flag | None, new: Flag | None) -> tuple[str, ...]:
    """Return what changed, one sentence each; empty when nothing did."""
    if old is None or new is None:
        gone, came = old, new
        if gone is not None:
            return (f"Flag `{gone.key}` is archived.",)
        return (f"Flag `{came.key}` is new.",) if came is not None else ()
    return tuple(_differences(old, new))


def _differences(old: Flag, new: Flag) -> Iterator[str]:
    for name in ("kind", "default", "off", "description", "owner", "expires", "tags"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"`{name}` goes from `{_shown(before)}` to `{_shown(after)}`."
    yield from _named("Variant", old.variants, new.variants)
    for name in sorted({*old.environments, *new.environments}):
        before, after = old.environments.get(name), new.environments.get(name)
        if before is None or after is None:
            yield f"In `{name}`: the state is {'new' if before is None else 'removed'}."
        if after is not None and before != after:
            for sentence in _in_state(before or State(), after):
                yield f"In `{name}`: {sentence}"


def _in_state(old: State, new: State) -> Iterator[str]:
    if old.enabled != new.enabled:
        yield f"it is switched {'on' if new.enabled else 'off'}."
    if old.default != new.default:
        yield f"the default goes from `{_shown(old.default)}` to `{_shown(new.default)}`."
    before = {rule.id: rule for rule in old.rules}
    after = {rule.id: rule for rule in new.rules}
    for name, rule in after.items():
        if name not in before:
            yield f"rule `{name}` is new."
        elif before[name] != rule:
            yield from _in_rule(before[name], rule)
    for name in before:
        if name not in after:
            yield f"rule `{name}` is removed."
    if [n for n in before if n in after] != [n for n in after if n in before]:
        yield f"the rules are now asked in the order {', '.join(f'`{name}`' for name in after)}."


def _in_rule(old: Rule, new: Rule) -> Iterator[str]:
    if old.when != new.when:
        yield f"rule `{new.id}` has other conditions."
    if old.split is None or new.split is None:
        if old.serve != new.serve or old.split != new.split:
            yield f"rule `{new.id}` serves `{new.serve or 'a split'}`."
        return
    if old.split.percent != new.split.percent:
        yield (f"rule `{new.id}` goes from {old.split.percent:g} % to {new.split.percent:g} %.")
    if old.split.salt != new.split.salt:
        yield f"rule `{new.id}` is reshuffled: every unit is drawn anew."
    if old.split.lease_s != new.split.lease_s:
        yield f"rule `{new.id}` has the lease `{_shown(new.split.lease_s)}` s."
    kept = replace(
        new.split, percent=old.split.percent, salt=old.split.salt, lease_s=old.split.lease_s
    )
    if kept != old.split:
        yield f"rule `{new.id}` splits by other variants, weights or units."


def _named(noun: str, old: dict[str, Item], new: dict[str, Item]) -> Iterator[str]:
    for name, value in new.items():
        if name not in old:
            yield f"{noun} `{name}` is new."
        elif old[name] != value:
            yield f"{noun} `{name}` goes from `{_shown(old[name])}` to `{_shown(value)}`."
    for name in old:
        if name not in new:
            yield f"{noun} `{name}` is removed."


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def touches(old: Flag | None, new: Flag) -> frozenset[str] | None:
    """Return the environments in which `new` can answer otherwise than `old`; None means all."""
    if old is None:
        return frozenset(new.environments)
    same = ("kind", "variants", "default", "off")
    if any(getattr(old, name) != getattr(new, name) for name in same):
        return None
    return frozenset(
        name
        for name in {*old.environments, *new.environments}
        if old.environments.get(name) != new.environments.get(name)
    )
