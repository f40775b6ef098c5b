"""The last good snapshot on disk, so that an app starts with flags when the server is away."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

BYTES_MAX = 256 * 1024 * 1024


def place(folder: str | None, url: str, environment: str) -> Path | None:
    """Return the file for one server and environment; None when `folder` is empty: no cache.

    `folder` None means `inprod` in the user's cache folder (XDG_CACHE_HOME or ~/.cache).
    """
    if folder is None:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  # Path.home() raises
        if not os.path.isabs(home):  # noqa: PTH117
            return None
        folder = os.path.join(home, "inprod")  # noqa: PTH118
    if not folder:
        return None
    name = hashlib.sha256(f"{url}\n{environment}".encode()).hexdigest()[:20]
    return Path(folder) / f"flags-{name}.json"


def load(path: Path) -> Any:
    """Return the JSON in `path`; raises OSError or ValueError. Refuses another user's file."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in (os.geteuid(), 0):
            raise PermissionError(f"{path} belongs to another user")
        if status.st_size > BYTES_MAX:
            raise ValueError(f"{path} is too large")
        return json.loads(file.read())


def save(path: Path, value: object) -> None:
    """Write `value` as JSON, readable by this user only, whole or not at all; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # made with 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
