"""Documents become what is in force: all are checked before any is stored.

    documents -> spelled out -> checked against each other and the state -> plan of work -> stored

Environments come first, then flags, then rollouts. A flag's document says everything but two things
it may leave out: a split's `salt` and `percent` then stay what they are. What an active rollout
turns is the rollout's: a document neither moves its percent nor changes its rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from anyio import to_thread

from inprod import document
from inprod.audit import Actor
from inprod.errors import Conflict, Denied, InprodError, Invalid, Missing, nearest
from inprod.flags.change import diff, settle, touches
from inprod.flags.edge.store import FlagStore, Stored, mint_salt
from inprod.flags.flag import Flag
from inprod.grant import Grant
from inprod.rollouts.rollout import Plan
from inprod.safety.edge.store import EnvironmentStore
from inprod.safety.environment import check_name
from inprod.server.percents import keep_percents, percents_written
from inprod.server.shorthand import spelled_flag, spelled_plan

DOCUMENTS_MAX = 500
KINDS = ("environment", "flag", "rollout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What one document does: `action` is create, change or unchanged; `changes` are sentences."""

    kind: str
    name: str
    action: str
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEnvironment:
    """An environment's document."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSide:
    """What apply needs of rollouts.

    `find` returns the plan under a name; `check` raises when a plan could not start (the flag as it
    will be is handed over); `start` starts it; `turned` lists the (environment, rule) of a flag
    that active rollouts turn.
    """

    find: Callable[[str], Plan | None]
    check: Callable[[Plan, Flag | None, Sequence[str]], None]
    start: Callable[[Plan, Actor], object]
    turned: Callable[[str], frozenset[tuple[str, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One document, checked; `do` stores it and is None when there is nothing to do."""

    where: str
    applied: Applied
    do: Callable[[], object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """What the documents of one request see of each other."""

    actor: Actor
    grant: Grant
    reason: str
    environments: tuple[str, ...]
    flags: dict[str, Flag]
    dials: dict[tuple[str, str], str]


class Apply:
    """Checks and stores documents; blocking work happens in threads."""

    def __init__(
        self, *, environments: EnvironmentStore, flags: FlagStore, rollouts: RolloutSide
    ) -> None:
        self._environments = environments
        self._flags = flags
        self._rollouts = rollouts

    async def run(
        self, documents: Sequence[object], *, actor: Actor, grant: Grant, dry_run: bool,
        reason: str,
    ) -> list[Applied]:  # fmt: skip
        """Return what each document does, in the order given; store them unless `dry_run`."""
        return await to_thread.run_sync(
            lambda: self._run(documents, actor=actor, grant=grant, dry_run=dry_run, reason=reason)
        )

    def _run(
        self, documents: Sequence[object], *, actor: Actor, grant: Grant, dry_run: bool,
        reason: str,
    ) -> list[Applied]:  # fmt: skip
        if len(documents) > DOCUMENTS_MAX:
            raise Invalid(
                "too_many_documents", f"`{len(documents)}` documents are over `{DOCUMENTS_MAX}`",
                hint="Apply them in parts.",
            )  # fmt: skip
        sorted_out = [_kind_of(one, f"$[{index}]") for index, one in enumerate(documents)]
        _refuse_twice(sorted_out)
        added = tuple(name for kind, name, _ in sorted_out if kind == "environment")
        batch = _Batch(
            actor=actor, grant=grant, reason=reason, flags={}, dials={},
            environments=tuple(dict.fromkeys((*self._environments.names(), *added))),
        )  # fmt: skip
        works: dict[int, _Work] = {}
        for kind, check in (
            ("environment", self._environment),
            ("flag", self._flag),
            ("rollout", self._rollout),
        ):
            for index, (found, _, plain) in enumerate(sorted_out):
                if found == kind:
                    works[index] = _check(check, plain, f"$[{index}]", batch)
        if not dry_run:
            for work in works.values():
                _store(work)
        return [works[index].applied for index in range(len(documents))]

    def _environment(self, plain: Mapping[str, object], where: str, batch: _Batch) -> _Work:
        fields = {key: value for key, value in plain.items() if key != "kind"}
        name = document.read(NewEnvironment, fields, where=where).name
        check_name(name)
        if name in self._environments.names():
            return _unchanged(where, "environment", name)
        if batch.grant.environments is not None:
            raise Denied(
                "wrong_environment", f"the key `{batch.grant.name}` may not declare environments",
                hint="Use a key that reaches every environment.",
            )  # fmt: skip
        if not batch.grant.is_admin:
            raise Denied(
                "wrong_role", f"the key `{batch.grant.name}` may not declare environments",
                hint="Use a key with the role `admin`.",
            )  # fmt: skip
        applied = Applied(
            kind="environment", name=name, action="create",
            changes=(f"Environment `{name}` is new.",),
        )  # fmt: skip
        return _Work(
            where=where, applied=applied, do=lambda: self._environments.add(name, batch.actor)
        )

    def _flag(self, plain: Mapping[str, object], where: str, batch: _Batch) -> _Work:
        flag = document.read(Flag, spelled_flag(plain, where=where), where=where)
        for name in flag.environments:
            _require(name, batch.environments, f"environments.{name}")
        old = self._flag_now(flag.key)
        turned = self._rollouts.turned(flag.key)
        flag = keep_percents(flag, old.flag if old else None, percents_written(plain), turned)
        flag = settle(flag, old.flag if old else None, mint_salt)
        batch.flags[flag.key] = flag
        if old is not None and flag == old.flag:
            return _unchanged(where, "flag", flag.key)
        touched = touches(old.flag if old else None, flag)
        for name in batch.environments if touched is None else touched:
            batch.grant.require(name)
        applied = Applied(
            kind="flag", name=flag.key, action="change" if old else "create",
            changes=diff(old.flag if old else None, flag),
        )  # fmt: skip
        return _Work(
            where=where,
            applied=applied,
            do=lambda: self._flags.commit(
                flag,
                expected_revision=old.revision if old else None,
                actor=batch.actor,
                reason=batch.reason,
            ),
        )

    def _rollout(self, plain: Mapping[str, object], where: str, batch: _Batch) -> _Work:
        plan = document.read(Plan, spelled_plan(plain, where=where), where=where)
        _require(plan.environment, batch.environments, "environment")
        batch.grant.require(plan.environment)
        if batch.reason and not plan.reason:
            plan = replace(plan, reason=batch.reason)
        old = self._rollouts.find(plan.name)
        if old is not None:
            if same_plan(old, plan):
                return _unchanged(where, "rollout", plan.name)
            raise Conflict(
                "rollout_exists", f"`{plan.name}` is a rollout already, with another plan",
                where="name", hint="A plan never changes once it runs: choose another name.",
            )  # fmt: skip
        flag = self._flag_after(plan.dial, batch)
        self._rollouts.check(plan, flag, batch.environments)
        other = batch.dials.setdefault((plan.environment, plan.dial), plan.name)
        if other != plan.name:
            raise Conflict(
                "dial_taken", f"`{plan.dial}` is turned by rollout `{other}` of these documents",
                where="dial", hint="Apply one of them, and the other when it has ended.",
            )  # fmt: skip
        applied = Applied(
            kind="rollout", name=plan.name, action="create", changes=(_outline(plan),)
        )
        return _Work(
            where=where, applied=applied, do=lambda: self._rollouts.start(plan, batch.actor)
        )

    def _flag_now(self, key: str) -> Stored | None:
        try:
            return self._flags.get(key)
        except Missing:
            return None

    def _flag_after(self, dial: str, batch: _Batch) -> Flag | None:
        kind, _, key = dial.partition("/")
        if kind != "flag":
            return None
        if key not in batch.flags:
            stored = self._flag_now(key)
            if stored is not None:
                return stored.flag
        return batch.flags.get(key)


def same_plan(old: Plan, new: Plan) -> bool:
    """Whether a document says what the stored plan says; what was left out and filled is equal."""
    filled = replace(
        new, rule=new.rule or old.rule, treatment=new.treatment or old.treatment,
        reason=new.reason or old.reason,
    )  # fmt: skip
    return replace(filled, reason=old.reason) == old


def _kind_of(plain: object, where: str) -> tuple[str, str, Mapping[str, object]]:
    if not isinstance(plain, Mapping):
        raise Invalid("wrong_type", "a document is an object", where=where, hint="Write fields.")
    fields = cast("Mapping[str, object]", plain)
    kind = fields.get("kind")
    if kind not in KINDS:
        told = "`kind` is missing" if kind is None else f"`{str(kind)[:60]}` is not a kind"
        hint = nearest(str(kind), KINDS)
        raise Invalid("unknown_kind", told, where=f"{where}.kind", hint=hint)
    name = fields.get("key" if kind == "flag" else "name")
    return str(kind), str(name), fields


def _refuse_twice(found: list[tuple[str, str, Mapping[str, object]]]) -> None:
    seen: set[tuple[str, str]] = set()
    for index, (kind, name, _) in enumerate(found):
        if (kind, name) in seen:
            raise Invalid(
                "document_twice", f"the {kind} `{name}` is there twice", where=f"$[{index}]",
                hint="Keep one of them.",
            )  # fmt: skip
        seen.add((kind, name))


def _check(
    check: Callable[[Mapping[str, object], str, _Batch], _Work],
    plain: Mapping[str, object], where: str, batch: _Batch,
) -> _Work:  # fmt: skip
    try:
        return check(plain, where, batch)
    except InprodError as error:
        _place(error, where)
        raise


def _store(work: _Work) -> None:
    try:
        if work.do is not None:
            work.do()
    except InprodError as error:  # it changed between the check and now
        _place(error, work.where)
        raise


def _place(error: InprodError, where: str) -> None:
    if not error.where.startswith("$["):
        inner = error.where.removeprefix("$").removeprefix(".")
        error.where = f"{where}.{inner}" if inner else where


def _require(name: str, known: Sequence[str], where: str) -> None:
    if name not in known:
        raise Missing(
            "unknown_environment", f"`{name}` is not an environment", where=where,
            hint=nearest(name, known),
        )  # fmt: skip


def _unchanged(where: str, kind: str, name: str) -> _Work:
    applied = Applied(kind=kind, name=name, action="unchanged", changes=())
    return _Work(where=where, applied=applied, do=None)


def _outline(plan: Plan) -> str:
    levels = ", ".join(plan.said(step.level) for step in plan.steps)
    guards = ", ".join(f"`{guard.name}`" for guard in plan.guards) or "no guard"
    return f"`{plan.dial}` in `{plan.environment}` will be turned to {levels}, watched by {guards}."
