"""The control plane's database: one engine, one set of migrations, SQLite or PostgreSQL by URL.

On SQLite every `engine.begin()` is `BEGIN IMMEDIATE`, so that what a writer read before it wrote is
still true when it commits; every `engine.connect()` is a plain snapshot read that waits for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from inprod.errors import Invalid, Unavailable

BUSY_TIMEOUT_MS = 10_000
MIGRATION_LOCK = 0x696E70726F64  # "inprod"
LEADER_LOCK = MIGRATION_LOCK + 1


class SqliteEngine(Engine):
    """An engine whose `begin` takes the write lock first, and whose `connect` does not."""

    @contextmanager
    def begin(self) -> Generator[Connection]:
        """Yield a connection in a transaction that holds the write lock from its start."""
        with self.connect() as connection:
            writing = connection.execution_options(inprod_writing=True)
            with writing.begin():
                yield writing


def open_state(url: str) -> Engine:
    """Return an engine on a migrated database at `url` (`sqlite:///file` or `postgresql://...`).

    Raises Invalid for a URL that cannot be, Unavailable when the database does not answer.
    """
    engine = connect_state(url)
    try:
        migrate(engine)
    except DBAPIError as error:
        engine.dispose()
        raise Unavailable(
            "state_unavailable", f"the state at `{shown(url)}` does not answer: {error.orig}",
            hint="Start the database, or mend `state_url`.",
        ) from None  # fmt: skip
    return engine


def connect_state(url: str) -> Engine:
    """Return an engine for `url` without touching the schema."""
    try:
        address = make_url(url)
        if address.drivername in ("postgresql", "postgres"):
            address = address.set(drivername="postgresql+psycopg")
        if address.get_backend_name() == "sqlite":
            return _sqlite(str(address.render_as_string(hide_password=False)))
        if address.get_backend_name() == "postgresql":
            return create_engine(address, pool_size=10, max_overflow=10, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError):
        pass
    raise Invalid(
        "bad_state_url", f"`{shown(url)}` is not a state URL", where="state_url",
        hint="Use `sqlite:////folder/state.db` or `postgresql://user@host/name`.",
    )  # fmt: skip


def shown(url: str) -> str:
    """Return `url` without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.rsplit("@", maxsplit=1)[-1]


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision; two servers that start together take turns."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        config = Config()
        folder = resources.files("inprod.server") / "migrations"
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _sqlite(url: str) -> Engine:
    path = make_url(url).database
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    plain = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
    engine = SqliteEngine(plain.pool, plain.dialect, plain.url)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("inprod_writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


class Leadership:
    """Whether this process runs the rollout loop: on PostgreSQL, who holds the advisory lock.

    On SQLite there is one server per data folder, so it always leads.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._guard = threading.Lock()

    def holds(self) -> bool:
        """Return whether we lead now, trying to become the leader when nobody is."""
        if self._engine.dialect.name != "postgresql":
            return True
        with self._guard:
            try:
                return self._try()
            except DBAPIError:
                self._drop()
                return False

    def resign(self) -> None:
        """Let another process lead."""
        with self._guard:
            self._drop()

    def _try(self) -> bool:
        if self._connection is not None:
            self._connection.execute(text("SELECT 1"))  # the lock lives as long as the session
            return True
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        taken = connection.execute(text(f"SELECT pg_try_advisory_lock({LEADER_LOCK})")).scalar()
        if not taken:
            connection.close()
            return False
        self._connection = connection
        return True

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # closes the session, and with it the lock
            self._connection.close()
            self._connection = None
