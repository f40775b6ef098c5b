"""A fresh event store per test: one chDB folder per process, one database per store.

chDB allows one folder per process and hangs in a forked child, so every test of a process shares
the folder made here, and tests that need another process start one with `subprocess`.
"""

from __future__ import annotations

import atexit
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache

from inprod.events.edge.store import EventStore

_numbers = itertools.count()


@cache
def folder() -> str:
    """Return the one chDB folder of this process."""
    path = tempfile.mkdtemp(prefix="inprod-events-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def fresh_url() -> str:
    """Return the address of a database that nobody has used yet."""
    return f"chdb://{folder()}?database=test_{next(_numbers)}"


@contextmanager
def fresh_store(
    *, now_ns: Callable[[], int] = time.time_ns, retain_days: int = 400, readers: int = 2
) -> Generator[EventStore]:
    """Yield an empty store and close it afterwards."""
    store = EventStore.open(fresh_url(), now_ns=now_ns, retain_days=retain_days, readers=readers)
    try:
        yield store
    finally:
        store.close()
