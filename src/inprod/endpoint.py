"""One row of the table of routes: the server mounts it, the reference and OpenAPI are made of it.

Each slice's `edge/api.py` and `edge/pages.py` hold a table (`ENDPOINTS`, `PAGES`) and a class with
one method per row, named by `handler`; the server joins the two. Nothing registers itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Role(StrEnum):
    """What a key may do; ADMIN includes all others, OPERATE includes READ."""

    INGEST = "ingest"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"
    SDK = "sdk"


INCLUDES: dict[Role, frozenset[Role]] = {
    Role.INGEST: frozenset({Role.INGEST}),
    Role.READ: frozenset({Role.READ}),
    Role.OPERATE: frozenset({Role.OPERATE, Role.READ}),
    Role.SDK: frozenset({Role.SDK, Role.INGEST}),
    Role.ADMIN: frozenset(Role),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One route.

    `path` is in Starlette's form (`/api/flags/{key}`); `handler` names the method; `takes` and
    `gives` are one phrase each for the reference; `raises` lists error classes by name; `role` is
    what the caller's key needs, None for anyone; `kind` separates the API from pages and streams.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: str
    sentence: str
    role: Role | None
    takes: str = ""
    gives: str = ""
    raises: tuple[str, ...] = ()
    kind: Literal["api", "page", "stream"] = "api"
    body_bytes_max: int = 1_000_000
