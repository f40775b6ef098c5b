"""Keys, one-time login links and browser sessions: who may do what, kept as hashes.

Every secret is 256 random bits, so one SHA-256 is the right hash: there is nothing to guess that a
slow hash would slow down, and ingest checks a key on every request. A stolen database gives nobody
a key.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    ForeignKey,
    MetaData,
    Row,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)

from inprod.audit import Actor, Entry, Record
from inprod.endpoint import Role
from inprod.errors import Conflict, Denied, Invalid, Missing, nearest
from inprod.grant import Grant

PREFIX = "inprod_"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
KEYS_MAX = 10_000
FRESH_NS = 2_000_000_000  # how long another process's revocation may go unseen

TABLES = MetaData()
KEYS = Table(
    "keys",
    TABLES,
    Column("id", String(32), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("environments", Text),  # JSON list; NULL: all of them
    Column("digest", String(64), nullable=False, unique=True),
    Column("created_ns", BigInteger, nullable=False),
    Column("created_by", String(100), nullable=False),
    Column("revoked_ns", BigInteger),
)
LOGINS = Table(
    "logins",
    TABLES,
    Column("digest", String(64), primary_key=True),
    Column("key_id", String(32), ForeignKey("keys.id"), nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("used_ns", BigInteger),
)
SESSIONS = Table(
    "sessions",
    TABLES,
    Column("digest", String(64), primary_key=True),
    Column("key_id", String(32), ForeignKey("keys.id"), nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key as it is listed; the secret is not kept."""

    name: str
    role: Role
    environments: tuple[str, ...] | None
    created_ns: int
    created_by: str
    revoked_ns: int | None = None


class KeyStore:
    """Keys, logins and sessions in the state; grants by digest are remembered for `FRESH_NS`."""

    def __init__(
        self,
        engine: Engine,
        *,
        record: Record,
        environments: Callable[[], Collection[str]],
        now_ns: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._record = record
        self._environments = environments
        self._now_ns = now_ns
        self._guard = threading.Lock()
        self._grants: dict[str, Grant] = {}
        self._read_ns = -FRESH_NS

    def add(self, name: str, role: Role, environments: tuple[str, ...] | None, actor: Actor) -> str:
        """Return the secret of a new key; it is shown this once.

        Raises Invalid for a bad name, Conflict for one in use, Missing for an unknown environment.
        """
        if not NAME.fullmatch(name):
            raise Invalid(
                "bad_name", f"`{name}` is not a key name", where="$.name",
                hint="Use letters, digits, `.`, `_` and `-`, at most 100.",
            )  # fmt: skip
        if environments is not None and not environments:
            raise Invalid(
                "no_environments", "the list of environments is empty", where="$.environments",
                hint="Name at least one environment, or leave the field out for all of them.",
            )  # fmt: skip
        known = self._environments()
        for index, environment in enumerate(environments or ()):
            if environment not in known:
                raise Missing(
                    "unknown_environment", f"`{environment}` is not an environment",
                    where=f"$.environments[{index}]", hint=nearest(environment, known),
                )  # fmt: skip
        secret = PREFIX + secrets.token_urlsafe(32)
        now = self._now_ns()
        with self._engine.begin() as connection:
            if connection.execute(select(KEYS.c.id).where(KEYS.c.name == name)).first():
                raise Conflict(
                    "key_exists", f"`{name}` is the name of another key",
                    hint="Choose another name; the name of a revoked key is not used again.",
                )  # fmt: skip
            connection.execute(
                insert(KEYS).values(
                    id=secrets.token_hex(16), name=name, role=role.value,
                    environments=None if environments is None else json.dumps(environments),
                    digest=digest(secret), created_ns=now, created_by=actor.name[:100],
                )
            )  # fmt: skip
            detail = {"role": role.value, "environments": environments}
            self._audit(connection, actor, "key.add", name, detail)
        self._forget()
        return secret

    def list(self) -> tuple[Key, ...]:
        """Return all keys, revoked ones too, oldest first."""
        statement = select(KEYS).order_by(KEYS.c.created_ns, KEYS.c.name).limit(KEYS_MAX)
        with self._engine.connect() as connection:
            return tuple(_key(row) for row in connection.execute(statement))

    def revoke(self, name: str, actor: Actor) -> None:
        """End a key and every session that began with it; revoking twice changes nothing.

        Raises Missing for an unknown name, Conflict for the last admin key.
        """
        with self._engine.begin() as connection:
            rows = connection.execute(select(KEYS)).all()
            found = next((row for row in rows if row.name == name), None)
            if found is None:
                raise Missing(
                    "unknown_key_name", f"`{name}` is not a key",
                    hint=nearest(name, [row.name for row in rows]),
                )  # fmt: skip
            if found.revoked_ns is not None:
                return
            admins = [row for row in rows if row.role == Role.ADMIN and row.revoked_ns is None]
            if [row.name for row in admins] == [name]:
                raise Conflict(
                    "last_admin_key", f"`{name}` is the last admin key",
                    hint="Add another admin key first.",
                )  # fmt: skip
            connection.execute(
                update(KEYS).where(KEYS.c.id == found.id).values(revoked_ns=self._now_ns())
            )
            connection.execute(delete(SESSIONS).where(SESSIONS.c.key_id == found.id))
            connection.execute(delete(LOGINS).where(LOGINS.c.key_id == found.id))
            self._audit(connection, actor, "key.revoke", name, {})
        self._forget()

    def grant_of(self, secret: str) -> Grant | None:
        """Return what the key or session secret allows now; None for an unknown or ended one."""
        if self.is_stale:
            self.refresh()
        return self._grants.get(digest(secret))

    @property
    def is_stale(self) -> bool:
        """Whether the next `grant_of` reads the database; an async caller refreshes in a thread."""
        return self._now_ns() - self._read_ns >= FRESH_NS

    def refresh(self) -> None:
        """Read all grants in force, unless another thread just did."""
        with self._guard:
            if self.is_stale:
                now = self._now_ns()
                self._grants, self._read_ns = self._read(now), now

    def add_login(self, name: str, expires_ns: int) -> str:
        """Return a one-time login token for the key called `name`; raises Missing."""
        token = secrets.token_urlsafe(32)
        with self._engine.begin() as connection:
            key_id = connection.execute(
                select(KEYS.c.id).where(KEYS.c.name == name, KEYS.c.revoked_ns.is_(None))
            ).scalar()
            if key_id is None:
                raise Missing("unknown_key_name", f"`{name}` is not a key in force")
            connection.execute(delete(LOGINS).where(LOGINS.c.expires_ns < self._now_ns()))
            connection.execute(
                insert(LOGINS).values(digest=digest(token), key_id=key_id, expires_ns=expires_ns)
            )
        return token

    def log_in(self, token: str, expires_ns: int, origin: str) -> str:
        """Use up a login token; return the secret of a new session, good until `expires_ns`.

        Raises Denied for a token that is unknown, too old or already used.
        """
        now = self._now_ns()
        secret = secrets.token_urlsafe(32)
        with self._engine.begin() as connection:
            taken = connection.execute(
                update(LOGINS)
                .where(LOGINS.c.digest == digest(token))
                .where(LOGINS.c.used_ns.is_(None), LOGINS.c.expires_ns > now)
                .values(used_ns=now)
            )
            if taken.rowcount != 1:
                raise Denied(
                    "bad_login", "this login link is unknown, too old, or was used before",
                    hint="Make a new one with `inprod login`.",
                )  # fmt: skip
            key = connection.execute(
                select(KEYS.c.id, KEYS.c.name).join(LOGINS, LOGINS.c.key_id == KEYS.c.id)
                .where(LOGINS.c.digest == digest(token))
            ).one()  # fmt: skip
            connection.execute(delete(SESSIONS).where(SESSIONS.c.expires_ns <= now))
            connection.execute(
                insert(SESSIONS).values(
                    digest=digest(secret), key_id=key.id, created_ns=now, expires_ns=expires_ns
                )
            )
            self._audit(
                connection, Actor(name=key.name, origin=origin), "session.add", key.name, {}
            )
        self._forget()
        return secret

    def log_out(self, secret: str) -> None:
        """End a session; an unknown one is no error."""
        with self._engine.begin() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.digest == digest(secret)))
        self._forget()

    def _read(self, now: int) -> dict[str, Grant]:
        with self._engine.connect() as connection:
            keys = connection.execute(select(KEYS).where(KEYS.c.revoked_ns.is_(None))).all()
            sessions = connection.execute(select(SESSIONS).where(SESSIONS.c.expires_ns > now)).all()
        by_id = {row.id: _grant(row) for row in keys}
        grants = {row.digest: by_id[row.id] for row in keys}
        grants |= {row.digest: by_id[row.key_id] for row in sessions if row.key_id in by_id}
        return grants

    def _forget(self) -> None:
        with self._guard:
            self._read_ns = -FRESH_NS

    def _audit(
        self, connection: Connection, actor: Actor, what: str, subject: str, detail: object
    ) -> None:
        entry = Entry(
            time_ns=self._now_ns(), actor=actor.name, origin=actor.origin, what=what,
            subject=subject, detail=json.dumps(detail),
        )  # fmt: skip
        self._record(connection, entry)


def digest(secret: str) -> str:
    """Return the hex SHA-256 of a secret; the only form in which it is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _environments(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))


def _grant(row: Row[*tuple[object, ...]]) -> Grant:
    return Grant(name=row.name, role=Role(row.role), environments=_environments(row.environments))


def _key(row: Row[*tuple[object, ...]]) -> Key:
    return Key(
        name=row.name, role=Role(row.role), environments=_environments(row.environments),
        created_ns=row.created_ns, created_by=row.created_by, revoked_ns=row.revoked_ns,
    )  # fmt: skip
