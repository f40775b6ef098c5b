"""Where environments, levers and the audit are kept; every change and its audit entry are one.

The audit's head row is updated first, so that two writers take turns and the chain never forks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from inprod.audit import GENESIS, Actor, Entry, Record, digest
from inprod.errors import Conflict, Missing, TooMuch, nearest
from inprod.live import Live, Message
from inprod.safety.environment import ENVIRONMENTS_MAX, check_name
from inprod.safety.lever import REASON_LENGTH_MAX, Lever, Pulled, Scope

TABLES = MetaData()
ENTRIES_MAX = 1000
NAMES_FRESH_S = 1.0
_VERIFY_BATCH = 5000

AUDIT = Table(
    "audit",
    TABLES,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("origin", String(200), nullable=False),
    Column("what", String(100), nullable=False),
    Column("subject", String(300), nullable=False),
    Column("environment", String(100), nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("digest", String(64), nullable=False),
)
AUDIT_HEAD = Table(
    "audit_head",
    TABLES,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
)
ENVIRONMENTS = Table(
    "environments",
    TABLES,
    Column("name", String(100), primary_key=True),
    Column("created_ns", BigInteger, nullable=False),
    Column("actor", String(200), nullable=False),
)
LEVERS = Table(
    "levers",
    TABLES,
    Column("scope", String(20), primary_key=True),
    Column("environment", String(100), primary_key=True),
    Column("dial", String(200), primary_key=True),
    Column("time_ns", BigInteger, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("reason", Text, nullable=False),
)
_FIELDS = ("time_ns", "actor", "origin", "what", "subject", "environment", "reason", "detail")


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """An audit entry with its place in the chain."""

    seq: int
    entry: Entry
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What `AuditLog.verify` found; `broken_at` is the first entry that does not fit, if any."""

    entries: int
    broken_at: int | None
    sentence: str


class AuditLog:
    """The chain of changes; `record` is handed to every store that changes things."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def record(self, connection: object, entry: Entry, /) -> None:
        """Append `entry` within the caller's transaction."""
        assert isinstance(connection, Connection)
        moved = connection.execute(
            update(AUDIT_HEAD).where(AUDIT_HEAD.c.id == 1).values(seq=AUDIT_HEAD.c.seq + 1)
        )
        if moved.rowcount == 0:
            connection.execute(insert(AUDIT_HEAD).values(id=1, seq=1, digest=GENESIS))
        head = connection.execute(select(AUDIT_HEAD).where(AUDIT_HEAD.c.id == 1)).one()
        chained = digest(head.digest, entry)
        values = {name: getattr(entry, name) for name in _FIELDS}
        connection.execute(insert(AUDIT).values(seq=head.seq, digest=chained, **values))
        connection.execute(update(AUDIT_HEAD).where(AUDIT_HEAD.c.id == 1).values(digest=chained))

    def entries(self, limit: int = 100, *, before: int | None = None) -> tuple[Numbered, ...]:
        """Return the newest `limit` (at most ENTRIES_MAX) entries, newest first."""
        query = select(AUDIT).order_by(AUDIT.c.seq.desc()).limit(min(limit, ENTRIES_MAX))
        if before is not None:
            query = query.where(AUDIT.c.seq < before)
        with self._engine.connect() as connection:
            return tuple(_numbered(row) for row in connection.execute(query))

    def verify(self) -> Verified:
        """Recompute every digest and return the first that does not fit, if any."""
        previous, expected = GENESIS, 1
        with self._engine.connect() as connection:
            head = connection.execute(select(AUDIT_HEAD).where(AUDIT_HEAD.c.id == 1)).first()
            while True:
                rows = connection.execute(
                    select(AUDIT)
                    .where(AUDIT.c.seq >= expected)
                    .order_by(AUDIT.c.seq)
                    .limit(_VERIFY_BATCH)
                ).all()
                for row in rows:
                    one = _numbered(row)
                    if one.seq != expected or digest(previous, one.entry) != one.digest:
                        return _broken(expected)
                    previous, expected = one.digest, expected + 1
                if len(rows) < _VERIFY_BATCH:
                    break
        last = (head.seq, head.digest) if head is not None else (0, GENESIS)
        if last != (expected - 1, previous):
            return _broken(expected)
        count = expected - 1
        return Verified(entries=count, broken_at=None, sentence=f"all {count} entries fit")


class EnvironmentStore:
    """The declared environments."""

    def __init__(
        self, engine: Engine, record: Record, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._engine = engine
        self._record = record
        self._now_ns = now_ns
        self._names: tuple[str, ...] = ()
        self._fresh_until = 0.0

    def add(self, name: str, actor: Actor) -> None:
        """Declare `name`; raises Invalid, Conflict when it exists, TooMuch over the limit."""
        check_name(name)
        try:
            self._add(name, actor, self._now_ns())
        except IntegrityError:  # another process declared it in the same moment
            raise _exists(name) from None
        self._fresh_until = 0.0

    def _add(self, name: str, actor: Actor, now: int) -> None:
        with self._engine.begin() as connection:
            known = self._read(connection)
            if name in known:
                raise _exists(name)
            if len(known) >= ENVIRONMENTS_MAX:
                raise TooMuch(
                    "too_many_environments", f"there are `{len(known)}` environments already",
                    hint="Use one of them.",
                )  # fmt: skip
            connection.execute(
                insert(ENVIRONMENTS).values(name=name, created_ns=now, actor=actor.name)
            )
            self._record(
                connection,
                Entry(
                    time_ns=now, actor=actor.name, origin=actor.origin, what="environment.add",
                    subject=name, environment=name,
                ),
            )  # fmt: skip

    def names(self) -> tuple[str, ...]:
        """Return the declared names, sorted; at most NAMES_FRESH_S old, when others declare too."""
        if time.monotonic() >= self._fresh_until:
            with self._engine.connect() as connection:
                self._names = self._read(connection)
            self._fresh_until = time.monotonic() + NAMES_FRESH_S
        return self._names

    @staticmethod
    def _read(connection: Connection) -> tuple[str, ...]:
        rows = connection.execute(select(ENVIRONMENTS.c.name).order_by(ENVIRONMENTS.c.name))
        return tuple(str(name) for name in rows.scalars())


class LeverStore:
    """The levers that are pulled now; publishes on topic `levers` after each change."""

    def __init__(
        self,
        engine: Engine,
        record: Record,
        now_ns: Callable[[], int] = time.time_ns,
        live: Live | None = None,
    ) -> None:
        self._engine = engine
        self._record = record
        self._now_ns = now_ns
        self._live = live

    def pull(self, lever: Lever, *, actor: Actor, reason: str = "") -> Pulled:
        """Pull `lever`; pulling it again changes nothing. Returns who pulled it first, and why."""
        pulled = Pulled(
            lever=lever, time_ns=self._now_ns(), actor=actor.name, reason=reason[:REASON_LENGTH_MAX]
        )
        try:
            first = self._pull(lever, pulled, actor)
        except IntegrityError:  # another process pulled it in the same moment
            first = self._pull(lever, pulled, actor)
        if first is pulled:
            self._publish("pulled", pulled)
        return first

    def _pull(self, lever: Lever, pulled: Pulled, actor: Actor) -> Pulled:
        with self._engine.begin() as connection:
            found = connection.execute(select(LEVERS).where(*_is(lever))).first()
            if found is not None:
                return _pulled(found)
            connection.execute(
                insert(LEVERS).values(
                    scope=lever.scope.value, environment=lever.environment, dial=lever.dial,
                    time_ns=pulled.time_ns, actor=pulled.actor, reason=pulled.reason,
                )
            )  # fmt: skip
            self._audit(connection, "lever.pull", lever, actor, pulled.time_ns, pulled.reason)
        return pulled

    def release(self, lever: Lever, *, actor: Actor, reason: str = "") -> None:
        """Release `lever`; nothing starts again by itself. Raises Missing when it is not pulled."""
        now = self._now_ns()
        reason = reason[:REASON_LENGTH_MAX]
        with self._engine.begin() as connection:
            gone = connection.execute(delete(LEVERS).where(*_is(lever)))
            if gone.rowcount == 0:
                raise Missing(
                    "lever_not_pulled", f"the lever of `{lever.name}` is not pulled",
                    hint=nearest(lever.name, [one.lever.name for one in self._read(connection)]),
                )  # fmt: skip
            self._audit(connection, "lever.release", lever, actor, now, reason)
        self._publish("released", Pulled(lever=lever, time_ns=now, actor=actor.name, reason=reason))

    def pulled(self) -> tuple[Pulled, ...]:
        """Return the levers that are pulled now, the oldest first."""
        with self._engine.connect() as connection:
            return self._read(connection)

    @staticmethod
    def _read(connection: Connection) -> tuple[Pulled, ...]:
        rows = connection.execute(select(LEVERS).order_by(LEVERS.c.time_ns))
        return tuple(_pulled(row) for row in rows)

    def _audit(
        self, connection: Connection, what: str, lever: Lever, actor: Actor, now: int, reason: str
    ) -> None:
        self._record(
            connection,
            Entry(
                time_ns=now, actor=actor.name, origin=actor.origin, what=what, subject=lever.name,
                environment=lever.environment, reason=reason,
                detail=json.dumps({"scope": lever.scope.value, "dial": lever.dial}),
            ),
        )  # fmt: skip

    def _publish(self, event: str, pulled: Pulled) -> None:
        if self._live is not None:
            payload = {
                "scope": pulled.lever.scope.value, "environment": pulled.lever.environment,
                "dial": pulled.lever.dial, "actor": pulled.actor, "reason": pulled.reason,
                "time_ns": pulled.time_ns,
            }  # fmt: skip
            self._live.publish(Message(topic="levers", event=event, payload=payload))


def _exists(name: str) -> Conflict:
    return Conflict(
        "environment_exists", f"`{name}` is an environment already", hint="Use it as it is."
    )


def _is(lever: Lever) -> tuple[Any, ...]:
    return (
        LEVERS.c.scope == lever.scope.value,
        LEVERS.c.environment == lever.environment,
        LEVERS.c.dial == lever.dial,
    )


def _pulled(row: Any) -> Pulled:
    lever = Lever(scope=Scope(row.scope), environment=row.environment, dial=row.dial)
    return Pulled(lever=lever, time_ns=row.time_ns, actor=row.actor, reason=row.reason)


def _numbered(row: Any) -> Numbered:
    values: dict[str, Any] = {name: getattr(row, name) for name in _FIELDS}
    return Numbered(seq=row.seq, entry=Entry(**values), digest=row.digest)


def _broken(seq: int) -> Verified:
    return Verified(
        entries=seq - 1, broken_at=seq, sentence=f"entry {seq} was altered, removed or added"
    )
