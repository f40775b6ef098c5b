"""Who changed what, when, why and from where: the entries of the audit, chained by hash.

    digest[n] = sha256(digest[n-1] + canonical JSON of entry n)

so an entry that was altered or removed afterwards breaks every later digest.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Protocol

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts: `name` is a key's name or `inprod` itself; `origin` is where from (cli, page ...).

    >>> Actor(name="admin", origin="api 127.0.0.1")
    """

    name: str
    origin: str = "api"


INPROD = Actor(name="inprod", origin="runner")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change: `what` is a verb and a noun (`flag.change`), `subject` the thing's name.

    `time_ns` is Unix time in nanoseconds; `detail` is JSON text of what changed.
    """

    time_ns: int
    actor: str
    origin: str
    what: str
    subject: str
    environment: str = ""
    reason: str = ""
    detail: str = "{}"


class Record(Protocol):
    """Writes an entry inside the caller's own transaction (`connection`), so both stand or fall."""

    def __call__(self, connection: object, entry: Entry, /) -> None: ...


def digest(previous: str, entry: Entry) -> str:
    """Return the hex SHA-256 that chains `entry` to `previous` (64 hex digits, or GENESIS)."""
    text = json.dumps(asdict(entry), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(previous.encode() + text.encode()).hexdigest()
