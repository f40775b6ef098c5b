"""Rollouts in SQL: where each is, its append-only journal, and its cells per closed bucket.

`commit` writes evidence, decision and state in one transaction, under the revision it was read at;
the dial is turned only afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from inprod import document
from inprod.audit import Actor, Entry, Record
from inprod.errors import Conflict, Missing, TooMuch, nearest
from inprod.guards.arms import Arms
from inprod.guards.evidence import Cell, Judgement, What
from inprod.rollouts.rollout import ENDED, Phase, Plan
from inprod.rollouts.state import Command, Decision, Look, State, Written

TABLES = MetaData()
ACTIVE_MAX = 200
ENTRIES_MAX = 1000

ROLLOUTS = Table(
    "rollouts",
    TABLES,
    Column("name", String(100), primary_key=True),
    Column("environment", String(100), nullable=False),
    Column("dial", String(200), nullable=False),
    Column("claim", String(320), nullable=True, unique=True),  # the dial, while it is turned
    Column("revision", BigInteger, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("phase", String(20), nullable=False),
    Column("settled", Boolean, nullable=False),
    Column("plan", Text, nullable=False),
    Column("arms", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", String(40), nullable=False),
    Column("sentence", Text, nullable=False),
    Column("trouble", Text, nullable=False),
    Column("first_bucket", BigInteger, nullable=False),
    Column("judged_bucket", BigInteger, nullable=False),
    Column("judgement", Text, nullable=True),
    Column("users_exposed", BigInteger, nullable=False),
    Column("last_event_ns", BigInteger, nullable=True),
)
JOURNAL = Table(
    "rollout_journal",
    TABLES,
    Column("rollout", String(100), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("command", Text, nullable=True),
    Column("decision", Text, nullable=False),
    Column("look", Text, nullable=False),
    Column("judgement", Text, nullable=True),
    Column("bucket", BigInteger, nullable=False),
    Column("from_level", Text, nullable=False),
)
BATCHES = Table(
    "rollout_batches",
    TABLES,
    Column("rollout", String(100), primary_key=True),
    Column("bucket", BigInteger, primary_key=True, autoincrement=False),
    Column("cells", Text, nullable=False),
    Column("evidence", Text, nullable=True),
)
T = TypeVar("T", bound=document.DataclassInstance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One rollout as it is stored; `settled` once it has ended and its dial is where it belongs.

    `trouble` is what goes wrong outside the rules (a dial that does not turn), "" when nothing.
    Buckets from `first_bucket` up to `judged_bucket` are counted.
    """

    plan: Plan
    arms: Arms
    state: State
    revision: int
    created_ns: int
    reason: str
    sentence: str
    trouble: str
    first_bucket: int
    judged_bucket: int
    settled: bool = False
    judgement: Judgement | None = None
    users_exposed: int = 0
    last_event_ns: int | None = None

    @property
    def name(self) -> str:
        """The plan's name."""
        return self.plan.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The cells of one closed bucket, and the evidence when it was the last of its tick."""

    bucket: int
    cells: tuple[Cell, ...] = ()
    evidence: tuple[tuple[float | None, ...], ...] | None = None


class RolloutStore:
    """All rollouts. Plain blocking calls, from any thread."""

    def __init__(self, engine: Engine, *, record: Record, now_ns: Callable[[], int]) -> None:
        self._engine = engine
        self._record = record
        self._now_ns = now_ns

    def create(self, plan: Plan, arms: Arms, *, actor: Actor) -> Standing:
        """Store a planned rollout; raises Conflict when its name or its dial is taken."""
        try:
            self._create(plan, arms, actor, self._now_ns())
        except IntegrityError:  # another process took it in the same moment
            raise Conflict(
                "dial_taken", f"`{plan.name}` or `{plan.dial}` was taken just now",
                where="$.dial", hint="Look at the rollouts, then choose again.",
            ) from None  # fmt: skip
        return self.get(plan.name)

    def check_free(self, plan: Plan) -> None:
        """Raise Conflict when the plan's name or its dial is taken, TooMuch when all are."""
        with self._engine.connect() as connection:
            _check_free(connection, plan)

    def _create(self, plan: Plan, arms: Arms, actor: Actor, now: int) -> None:
        first = now // plan.batch_ns
        claim = _claim_of(plan)
        with self._engine.begin() as connection:
            _check_free(connection, plan)
            connection.execute(
                insert(ROLLOUTS).values(
                    name=plan.name, environment=plan.environment, dial=plan.dial, claim=claim,
                    revision=1, created_ns=now, phase=Phase.PLANNED.value, settled=False,
                    plan=_text(plan), arms=_text(arms), state=_text(State(since_ns=now)),
                    reason="", sentence="planned", trouble="", first_bucket=first,
                    judged_bucket=first - 1, judgement=None, users_exposed=0, last_event_ns=None,
                )
            )  # fmt: skip
            self._audit(connection, now, actor, "rollout.create", plan, plan.reason)

    def get(self, name: str) -> Standing:
        """Return one rollout; raises Missing with the nearest name."""
        with self._engine.connect() as connection:
            row = _row(connection, name)
            if row is None:
                names = connection.execute(select(ROLLOUTS.c.name).limit(1000)).scalars()
                raise Missing(
                    "unknown_rollout", f"`{name[:100]}` is not a rollout",
                    hint=nearest(name, [str(one) for one in names]),
                )  # fmt: skip
        return _standing(row)

    def find(self, name: str) -> Plan | None:
        """Return the plan under a name, None when there is none."""
        with self._engine.connect() as connection:
            row = _row(connection, name)
        return None if row is None else _standing(row).plan

    def list(self, *, limit: int = 200) -> tuple[Standing, ...]:
        """Return the rollouts, those that are active first, then the newest."""
        order = (ROLLOUTS.c.claim.is_(None), ROLLOUTS.c.created_ns.desc())
        with self._engine.connect() as connection:
            rows = connection.execute(select(ROLLOUTS).order_by(*order).limit(limit)).all()
        return tuple(_standing(row) for row in rows)

    def unsettled(self) -> tuple[str, ...]:
        """Return the names of the rollouts that the loop must look at."""
        query = select(ROLLOUTS.c.name).where(ROLLOUTS.c.settled.is_(False))
        with self._engine.connect() as connection:
            return tuple(connection.execute(query.order_by(ROLLOUTS.c.created_ns)).scalars())

    def turning(self) -> tuple[Standing, ...]:
        """Return the rollouts that have not ended: what they turn is theirs."""
        query = select(ROLLOUTS).where(ROLLOUTS.c.claim.is_not(None))
        with self._engine.connect() as connection:
            return tuple(_standing(row) for row in connection.execute(query).all())

    def commit(
        self, after: Standing, *, batches: Sequence[Batch] = (), written: Written | None = None,
        actor: Actor | None = None,
    ) -> Standing:  # fmt: skip
        """Store evidence, entry and state together; returns it at its new revision.

        `after.revision` is the revision it was read at. Raises Conflict when it changed meanwhile.
        """
        ended = after.state.phase in ENDED
        values: dict[str, Any] = {
            "revision": after.revision + 1, "phase": after.state.phase.value,
            "settled": after.settled, "state": _text(after.state), "reason": after.reason,
            "sentence": after.sentence, "trouble": after.trouble,
            "judged_bucket": after.judged_bucket, "users_exposed": after.users_exposed,
            "judgement": None if after.judgement is None else _text(after.judgement),
            "last_event_ns": after.last_event_ns,
        }  # fmt: skip
        if ended and after.settled:
            values["claim"] = None
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(ROLLOUTS)
                .where(ROLLOUTS.c.name == after.name, ROLLOUTS.c.revision == after.revision)
                .values(**values)
            )
            if changed.rowcount == 0:
                raise Conflict(
                    "changed_meanwhile", f"rollout `{after.name}` changed meanwhile",
                    hint="Look at it again, then decide.",
                )  # fmt: skip
            if batches:
                connection.execute(insert(BATCHES), [_batch_values(after.name, b) for b in batches])
            if written is not None:
                connection.execute(insert(JOURNAL).values(**_written_values(after.name, written)))
                what = f"rollout.{written.decision.action}"
                by = actor or Actor(name=written.actor, origin="runner")
                self._audit(
                    connection, written.time_ns, by, what, after.plan, written.decision.sentence
                )
        return self.get(after.name)

    def next_seq(self, name: str) -> int:
        """Return the number of the next entry of a journal."""
        query = select(func.coalesce(func.max(JOURNAL.c.seq), 0)).where(JOURNAL.c.rollout == name)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one()) + 1

    def journal(self, name: str) -> tuple[Written, ...]:
        """Return a rollout's entries, the first one first."""
        query = select(JOURNAL).where(JOURNAL.c.rollout == name).order_by(JOURNAL.c.seq)
        with self._engine.connect() as connection:
            return tuple(_written(row) for row in connection.execute(query))

    def cells(self, name: str) -> dict[int, tuple[Cell, ...]]:
        """Return a rollout's cells by bucket; buckets without any are left out."""
        query = select(BATCHES.c.bucket, BATCHES.c.cells).where(BATCHES.c.rollout == name)
        with self._engine.connect() as connection:
            return {
                int(bucket): _cells(int(bucket), text)
                for bucket, text in connection.execute(query.order_by(BATCHES.c.bucket))
            }

    def evidence(self, name: str) -> tuple[Batch, ...]:
        """Return the evidence over time, without the cells."""
        query = (
            select(BATCHES.c.bucket, BATCHES.c.evidence)
            .where(BATCHES.c.rollout == name, BATCHES.c.evidence.is_not(None))
            .order_by(BATCHES.c.bucket)
        )
        with self._engine.connect() as connection:
            return tuple(
                Batch(bucket=int(bucket), evidence=tuple(tuple(one) for one in json.loads(text)))
                for bucket, text in connection.execute(query)
            )

    def _audit(
        self, connection: Connection, now: int, actor: Actor, what: str, plan: Plan, reason: str
    ) -> None:
        self._record(
            connection,
            Entry(
                time_ns=now, actor=actor.name, origin=actor.origin, what=what, subject=plan.name,
                environment=plan.environment, reason=reason,
                detail=json.dumps({"dial": plan.dial}),
            ),
        )  # fmt: skip


def _claim_of(plan: Plan) -> str:
    return f"{plan.environment} {plan.dial}"


def _check_free(connection: Connection, plan: Plan) -> None:
    if _row(connection, plan.name) is not None:
        raise Conflict(
            "rollout_exists", f"`{plan.name}` is a rollout already", where="$.name",
            hint="Choose another name; names tell rollouts apart for ever.",
        )  # fmt: skip
    mine = ROLLOUTS.c.claim == _claim_of(plan)
    other = connection.execute(select(ROLLOUTS.c.name).where(mine)).scalar()
    if other is not None:
        raise Conflict(
            "dial_taken", f"`{plan.dial}` is turned by rollout `{other}`", where="$.dial",
            hint="End that one first, or wait for it.",
        )  # fmt: skip
    active = connection.execute(
        select(func.count()).where(ROLLOUTS.c.claim.is_not(None))
    ).scalar_one()
    if active >= ACTIVE_MAX:
        raise TooMuch("too_many_rollouts", f"`{active}` rollouts are active", hint="End one first.")


def _row(connection: Connection, name: str) -> Any:
    return connection.execute(select(ROLLOUTS).where(ROLLOUTS.c.name == name)).first()


def _text(value: document.DataclassInstance) -> str:
    return json.dumps(document.write(value), separators=(",", ":"))


def _value(kind: type[T], text: str) -> T:
    return document.read(kind, json.loads(text))


def _standing(row: Any) -> Standing:
    return Standing(
        plan=_value(Plan, row.plan), arms=_value(Arms, row.arms), state=_value(State, row.state),
        revision=row.revision, created_ns=row.created_ns, reason=row.reason, sentence=row.sentence,
        trouble=row.trouble, first_bucket=row.first_bucket, judged_bucket=row.judged_bucket,
        settled=bool(row.settled),
        judgement=None if row.judgement is None else _value(Judgement, row.judgement),
        users_exposed=row.users_exposed, last_event_ns=row.last_event_ns,
    )  # fmt: skip


def _written_values(name: str, written: Written) -> dict[str, Any]:
    return {
        "rollout": name, "seq": written.seq, "time_ns": written.time_ns, "actor": written.actor,
        "command": None if written.command is None else _text(written.command),
        "decision": _text(written.decision), "look": _text(written.look), "bucket": written.bucket,
        "judgement": None if written.judgement is None else _text(written.judgement),
        "from_level": repr(written.from_level),
    }  # fmt: skip


def _written(row: Any) -> Written:
    return Written(
        seq=row.seq, time_ns=row.time_ns, actor=row.actor, bucket=row.bucket,
        decision=_value(Decision, row.decision), look=_value(Look, row.look),
        from_level=float(row.from_level),
        judgement=None if row.judgement is None else _value(Judgement, row.judgement),
        command=None if row.command is None else _value(Command, row.command),
    )  # fmt: skip


def _batch_values(name: str, batch: Batch) -> dict[str, Any]:
    cells = [
        [c.guard, c.what.value, c.stage, c.stratum, c.arm, c.bin, c.n, c.value]
        for c in batch.cells
    ]  # fmt: skip
    evidence = None if batch.evidence is None else json.dumps(batch.evidence)
    return {
        "rollout": name, "bucket": batch.bucket,
        "cells": json.dumps(cells, separators=(",", ":")), "evidence": evidence,
    }  # fmt: skip


def _cells(bucket: int, text: str) -> tuple[Cell, ...]:
    rows: Iterable[list[Any]] = json.loads(text)
    return tuple(
        Cell(
            guard=guard, what=What(what), bucket=bucket, stage=stage, stratum=stratum, arm=arm,
            bin=bin_, n=n, value=value,
        )
        for guard, what, stage, stratum, arm, bin_, n, value in rows
    )  # fmt: skip
