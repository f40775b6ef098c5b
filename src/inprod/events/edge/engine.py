"""The engine behind the store: chDB in this process or ClickHouse over HTTP, by one client library.

One writing client under a lock, a pool of reading ones; each client runs one statement at a time,
several run truly at once. The engine's errors become ours here.
"""

# The client library leaves some parameters of its methods without types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import queue
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from inprod.errors import InprodError, Invalid, TooMuch, Unavailable
from inprod.events.sql import Statement

READERS = 4
WAIT_S = 10.0
_GIB = 1 << 30
# Two engines' worth of the machine's memory is not ours to take: chDB defaults to 90 % of it.
CHDB_OPTIONS: Mapping[str, str] = {
    "max_server_memory_usage": str(4 * _GIB),
    "mark_cache_size": str(256 << 20),
}
# ClickHouse error codes that mean the question was too big, not that we are broken.
_TOO_MUCH: Mapping[int, tuple[str, str]] = {
    159: ("query_too_long", "the query took too long"),
    160: ("query_too_long", "the query would take too long"),
    241: ("query_too_large", "the query needs too much memory"),
    396: ("answer_too_large", "the answer has too many rows"),
    158: ("query_too_large", "the query reads too many rows"),
    307: ("query_too_large", "the query reads too many bytes"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one read may take: seconds, bytes of memory, rows of result."""

    seconds: float = 10.0
    memory_bytes: int = 2 * _GIB
    rows: int = 200_000

    def settings(self) -> dict[str, str]:
        """Return them as engine settings; `readonly` goes with them, always."""
        return {
            "readonly": "1",
            "max_execution_time": str(max(self.seconds, 0.001)),
            "max_memory_usage": str(self.memory_bytes),
            "max_result_rows": str(self.rows),
            "result_overflow_mode": "throw",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the events live: `chdb:///folder?database=x` or `http://user:word@host:port/x`."""

    embedded: bool
    database: str
    options: Mapping[str, Any]


def address_of(url: str, *, database: str | None = None) -> Address:
    """Return the parsed address; raises Invalid for any other scheme or a relative folder."""
    parts = urlsplit(url)
    named = parse_qs(parts.query).get("database", [""])[0]
    if parts.scheme == "chdb" and parts.path.startswith("/") and not parts.netloc:
        return Address(
            embedded=True,
            database=database or named or "inprod",
            options={
                "dsn": f"chdb://{parts.path}",
                "chdb_options": dict(CHDB_OPTIONS),
            },
        )
    if parts.scheme in ("http", "https") and parts.hostname:
        return Address(
            embedded=False,
            database=database or named or parts.path.strip("/") or "inprod",
            options={
                "host": parts.hostname,
                "port": parts.port or (8443 if parts.scheme == "https" else 8123),
                "secure": parts.scheme == "https",
                "username": unquote(parts.username or "default"),
                "password": unquote(parts.password or ""),
                "autogenerate_session_id": False,
                "connect_timeout": 5,
                "send_receive_timeout": 30,
            },
        )
    raise Invalid(
        "unknown_store", f"`{url}` is not an event store",
        hint="Write `chdb:///folder` or `http://host:8123/database`.",
    )  # fmt: skip


class Engine:
    """Clients on one address; `close` ends them all."""

    def __init__(self, address: Address, *, readers: int = READERS) -> None:
        self.address = address
        self._lock = Lock()
        self._clients: list[Client] = []
        with translated():
            self._writing = self._connect(database=None)
            self._writing.command(f"CREATE DATABASE IF NOT EXISTS {quoted(address.database)}")
            self._writing.database = address.database
        self._idle: queue.SimpleQueue[Client] = queue.SimpleQueue()
        with translated():
            for _ in range(readers):
                self._idle.put(self._connect(database=address.database))

    def _connect(self, *, database: str | None) -> Client:
        options = dict(self.address.options)
        if database is not None:
            options["database"] = database
        client = clickhouse_connect.get_client(**options)
        self._clients.append(client)
        return client

    def command(self, text: str) -> None:
        """Run a statement of ours that answers nothing (DDL)."""
        with self._lock, translated():
            self._writing.command(text)

    def insert(self, table: str, stream: bytes, settings: Mapping[str, str]) -> None:
        """Insert an Arrow IPC stream; returns once the engine has it (and has synced it)."""
        with self._lock, translated():
            self._writing.raw_insert(
                table, insert_block=stream, fmt="ArrowStream", settings=dict(settings)
            )

    def read(self, statement: Statement, limits: Limits) -> list[tuple[Any, ...]]:
        """Return the rows of one read; raises TooMuch over a limit, Unavailable without an engine.

        Waits up to `WAIT_S` for a free reader, then raises TooMuch (429).
        """
        # Anything else would run with `readonly` set for good on this client's session.
        assert statement.text.lstrip().startswith(("SELECT", "WITH")), "only reads are read"
        try:
            client = self._idle.get(timeout=WAIT_S)
        except queue.Empty:
            raise TooMuch(
                "too_many_queries", "too many queries are running", retry_after_s=1.0,
                hint="Ask again in a moment.",
            ) from None  # fmt: skip
        try:
            with translated():
                result = client.query(
                    statement.text,
                    parameters=dict(statement.parameters),
                    settings=limits.settings(),
                )
                return cast("list[tuple[Any, ...]]", list(result.result_rows))
        finally:
            self._idle.put(client)

    def close(self) -> None:
        """Close every client; the folder may then be opened by another process."""
        for client in self._clients:
            client.close()
        self._clients.clear()


@contextmanager
def translated() -> Generator[None]:
    """Turn the engine's errors into ours: too big a question, or an engine that is not there."""
    try:
        yield
    except ClickHouseError as error:
        raise _ours(error) from error
    except OSError as error:
        raise Unavailable(
            "event_store_unavailable", f"the event store cannot be reached: {error}",
            hint="Check that it is running and has room on its disk.",
        ) from error  # fmt: skip


def _ours(error: ClickHouseError) -> InprodError:
    code = getattr(error, "code", None)
    known = _TOO_MUCH.get(code) if isinstance(code, int) else None
    if known is not None:
        return TooMuch(
            known[0], known[1], hint="Narrow the time range, the filters or the breakdowns."
        )
    return Unavailable(
        "event_store_failed", f"the event store failed: {str(error)[:300]}",
        hint="Try again; if it lasts, look at the store's log.",
    )  # fmt: skip


def quoted(name: str) -> str:
    """Return an identifier in backquotes; it must be plain."""
    if not name or not name.replace("_", "").replace("-", "").isalnum() or len(name) > 100:
        raise Invalid(
            "bad_database_name", f"`{name}` cannot be a database name",
            hint="Use letters, digits, `_` and `-`.",
        )  # fmt: skip
    return f"`{name}`"
