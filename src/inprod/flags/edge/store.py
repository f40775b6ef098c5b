"""Flags in SQL: every commit has a revision, names the one it expects, and is kept in the history.

One counter (`flag_revision`) numbers all commits. Raising it is the first statement of each
commit, so that commits queue up behind each other on SQLite and on PostgreSQL alike.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from threading import Lock

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
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from inprod import document
from inprod.audit import Actor, Entry, Record
from inprod.errors import Conflict, Missing, nearest
from inprod.flags.change import diff, settle, touches
from inprod.flags.flag import Flag
from inprod.live import Live, Message

TABLES = MetaData()
FLAGS = Table(
    "flags",
    TABLES,
    Column("key", String(100), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("archived", Boolean, nullable=False),
    Column("changed_ns", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)
HISTORY = Table(
    "flag_history",
    TABLES,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("key", String(100), nullable=False, index=True),
    Column("time_ns", BigInteger, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("origin", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("sentences", Text, nullable=False),
    Column("document", Text),
)
REVISION = Table(
    "flag_revision",
    TABLES,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
)
TOPIC = "flags"
FIRST_COMMIT_TRIES = 3
HISTORY_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A flag as it is kept; `revision` is the commit that last changed it."""

    flag: Flag
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One commit of one flag; `flag` is None where it was archived."""

    revision: int
    time_ns: int
    actor: str
    origin: str
    reason: str
    sentences: tuple[str, ...]
    flag: Flag | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    """One commit to be made; `flag` None archives."""

    key: str
    flag: Flag | None
    expected_revision: int | None
    actor: Actor
    reason: str


def mint_salt() -> str:
    """Return 64 random bits in hex."""
    return secrets.token_hex(8)


class FlagStore:
    """The flags of one installation; callable from any thread, blocking."""

    def __init__(
        self,
        engine: Engine,
        *,
        record: Record,
        environments: Callable[[], Collection[str]],
        now_ns: Callable[[], int],
        live: Live,
        mint: Callable[[], str] = mint_salt,
    ) -> None:
        self._engine = engine
        self._record = record
        self._environments = environments
        self._now_ns = now_ns
        self._live = live
        self._mint = mint
        self._lock = Lock()  # commit and publish in one order
        self._parsed: dict[str, Stored] = {}
        self.latest = 0
        """The newest revision this process has committed: what it cached before is out of date."""

    def get(self, key: str) -> Stored:
        """Return a flag; raises Missing, also for an archived one."""
        query = select(FLAGS).where(FLAGS.c.key == key, FLAGS.c.archived.is_(False))
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                known = select(FLAGS.c.key).where(FLAGS.c.archived.is_(False)).limit(10_000)
                raise Missing(
                    "unknown_flag", f"`{key[:120]}` is not a flag",
                    hint=nearest(key, connection.execute(known).scalars()),
                )  # fmt: skip
        return self._stored(row.key, row.revision, row.document)

    def list(self) -> tuple[Stored, ...]:
        """Return all flags that are not archived, by key."""
        query = select(FLAGS).where(FLAGS.c.archived.is_(False)).order_by(FLAGS.c.key)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return tuple(self._stored(row.key, row.revision, row.document) for row in rows)

    def revision(self) -> int:
        """Return the number of the last commit of any flag; it only ever grows."""
        with self._engine.connect() as connection:
            return connection.execute(select(REVISION.c.revision)).scalar_one_or_none() or 0

    def commit(
        self, flag: Flag, *, expected_revision: int | None, actor: Actor, reason: str
    ) -> Stored:
        """Store `flag` if its revision is still the expected one (None: it must not exist).

        Empty salts are filled. A flag equal to the stored one makes no commit. Raises Conflict,
        and Missing for an environment that was not declared.
        """
        known = self._environments()
        for name in flag.environments:
            if name not in known:
                raise Missing(
                    "unknown_environment", f"`{name}` is not an environment",
                    where=f"environments.{name}", hint=nearest(name, known),
                )  # fmt: skip
        done = self._act(_Act(
            key=flag.key, flag=flag, expected_revision=expected_revision, actor=actor,
            reason=reason,
        ))  # fmt: skip
        assert done is not None, "a commit of a flag stores a flag"
        return done

    def archive(self, key: str, *, expected_revision: int, actor: Actor, reason: str) -> None:
        """Take a flag out of service; its history stays, its key may be used again."""
        self._act(_Act(
            key=key, flag=None, expected_revision=expected_revision, actor=actor, reason=reason,
        ))  # fmt: skip

    def history(self, key: str) -> tuple[Past, ...]:
        """Return the commits of one flag, the last first, at most HISTORY_MAX."""
        query = (
            select(HISTORY)
            .where(HISTORY.c.key == key)
            .order_by(HISTORY.c.revision.desc())
            .limit(HISTORY_MAX)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return tuple(
            Past(
                revision=row.revision,
                time_ns=row.time_ns,
                actor=row.actor,
                origin=row.origin,
                reason=row.reason,
                sentences=tuple(json.loads(row.sentences)),
                flag=document.read(Flag, json.loads(row.document)) if row.document else None,
            )
            for row in rows
        )

    def _act(self, act: _Act) -> Stored | None:
        with self._lock:
            done, revision = self._transaction(act)
            if revision is not None:
                self.latest = revision
                plain = None if done is None else document.write(done.flag)
                payload = {"key": act.key, "revision": revision, "flag": plain}
                self._live.publish(Message(topic=TOPIC, event="change", payload=payload))
        return done

    def _transaction(self, act: _Act) -> tuple[Stored | None, int | None]:
        for last in range(FIRST_COMMIT_TRIES, 0, -1):
            try:
                with self._engine.connect() as connection:
                    done, revision = self._write(connection, act)
                    if revision is not None:
                        connection.commit()  # otherwise closing it rolls back
                    return done, revision
            except IntegrityError:  # another process made the very first commit just now
                if last == 1:
                    raise
        raise AssertionError("the loop returns or raises")

    def _write(self, connection: Connection, act: _Act) -> tuple[Stored | None, int | None]:
        """Return what is stored now, and the revision; None when nothing changed."""
        revision = self._next_revision(connection)
        row = connection.execute(select(FLAGS).where(FLAGS.c.key == act.key)).one_or_none()
        old = None
        if row is not None and not row.archived:
            old = self._stored(row.key, row.revision, row.document)
        _expect(act, old)
        flag = None if act.flag is None else settle(act.flag, old and old.flag, self._mint)
        if old is not None and flag == old.flag:
            return old, None
        sentences = diff(old and old.flag, flag)
        text = json.dumps(document.write(flag or (old and old.flag)), separators=(",", ":"))
        now_ns = self._now_ns()
        connection.execute(delete(FLAGS).where(FLAGS.c.key == act.key))
        connection.execute(
            insert(FLAGS).values(
                key=act.key, revision=revision, archived=flag is None, changed_ns=now_ns,
                document=text,
            )
        )  # fmt: skip
        connection.execute(
            insert(HISTORY).values(
                revision=revision, key=act.key, time_ns=now_ns, actor=act.actor.name,
                origin=act.actor.origin, reason=act.reason, sentences=json.dumps(sentences),
                document=None if flag is None else text,
            )
        )  # fmt: skip
        verb = "archive" if flag is None else "create" if old is None else "change"
        detail = json.dumps({"revision": revision, "sentences": sentences})
        touched = None if flag is None else touches(old and old.flag, flag)
        environment = next(iter(touched)) if touched is not None and len(touched) == 1 else ""
        self._record(
            connection,
            Entry(
                time_ns=now_ns, actor=act.actor.name, origin=act.actor.origin, what=f"flag.{verb}",
                subject=act.key, environment=environment, reason=act.reason, detail=detail,
            ),
        )  # fmt: skip
        return (None if flag is None else Stored(flag=flag, revision=revision)), revision

    def _next_revision(self, connection: Connection) -> int:
        raised = update(REVISION).values(revision=REVISION.c.revision + 1)
        if connection.execute(raised).rowcount == 0:
            connection.execute(insert(REVISION).values(id=1, revision=1))
        return connection.execute(select(REVISION.c.revision)).scalar_one()

    def _stored(self, key: str, revision: int, text: str) -> Stored:
        known = self._parsed.get(key)
        if known is not None and known.revision == revision:
            return known
        stored = Stored(flag=document.read(Flag, json.loads(text)), revision=revision)
        self._parsed[key] = stored
        return stored


def _expect(act: _Act, old: Stored | None) -> None:
    if old is None and act.expected_revision is not None:
        raise Missing("unknown_flag", f"`{act.key}` is not a flag", hint="Create it first.")
    if old is not None and act.expected_revision is None:
        raise Conflict(
            "flag_exists", f"`{act.key}` is a flag already, at revision `{old.revision}`",
            hint="Read it, and send the change with its revision.",
        )  # fmt: skip
    if old is not None and old.revision != act.expected_revision:
        raise Conflict(
            "revision_changed",
            f"`{act.key}` is at revision `{old.revision}`, not `{act.expected_revision}`",
            hint="Read it again, and make the change on what it says now.",
        )
