"""A private PostgreSQL cluster in a temporary folder, run by a user that is not root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

START_S = 60.0
USER = "postgres"


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs; fails loudly when it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    assert found, "PostgreSQL is not installed: run `apt-get install postgresql`."
    return found[-1]


@contextmanager
def cluster() -> Generator[str]:
    """Yield the URL of a fresh database `inprod`; it listens on a socket in its own folder only."""
    folder = Path(tempfile.mkdtemp(prefix="inprod-pg-"))
    data, sockets = folder / "data", folder / "s"
    sockets.mkdir()
    if os.geteuid() == 0:
        for path in (folder, sockets):
            shutil.chown(path, USER)
    try:
        _run("initdb", "-D", str(data), "-A", "trust", "-U", "inprod", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={sockets} -c fsync=off"
        _run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            _run("createdb", "-h", str(sockets), "-U", "inprod", "inprod")
            yield f"postgresql://inprod@/inprod?host={sockets}"
        finally:
            _run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(program: str, *arguments: str) -> None:
    command = [str(binaries() / program), *arguments]
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        command = ["runuser", "-u", USER, "--", *command]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, timeout=START_S, check=False, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, f"{program} failed: {done.stderr}"
