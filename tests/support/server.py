"""A real `inprod up` in a process of its own, on a free port and a temporary data folder."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inprod.cli.remote import Found, Remote

READY_S = 60.0
STOP_S = 30.0


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without its own INPROD_* names, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INPROD_")}
    return {**kept, "NO_COLOR": "1", **more}


@dataclass
class Server:
    """One running server; `key` is the admin key."""

    process: subprocess.Popen[bytes]
    data: Path
    url: str
    login: str
    key: str

    @property
    def remote(self) -> Remote:
        """The server as the CLI sees it, with the admin key."""
        return self.remote_with(self.key)

    def remote_with(self, key: str | None) -> Remote:
        """The server as the CLI sees it, with another key or none."""
        return Remote(Found(url=self.url, key=key, source="a test"))

    def add_key(self, name: str, role: str, environments: list[str] | None = None) -> str:
        """Make a key and return its secret."""
        body = {"name": name, "role": role, "environments": environments}
        return str(self.remote.post("/api/keys", body)["key"])

    def cli(
        self, *arguments: str, stdin: str = "", check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run `inprod` against this server; with `check`, a failure raises with its stderr."""
        done = run_cli(*arguments, stdin=stdin, INPROD_DATA=str(self.data))
        if check and done.returncode:
            raise AssertionError(
                f"inprod {' '.join(arguments)} -> {done.returncode}: {done.stderr}"
            )
        return done

    def json(self, *arguments: str, stdin: str = "") -> Any:
        """Run `inprod ... --json` and return what it printed."""
        return json.loads(self.cli(*arguments, "--json", stdin=stdin, check=True).stdout)

    def log(self) -> str:
        """What the server wrote to stderr."""
        return (self.data.parent / f"{self.data.name}.log").read_text()

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait(STOP_S)
        self._close()

    def stop(self) -> int:
        """Ask it to stop, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not stop in {STOP_S} s: {self.log()}") from None
        self._close()
        return code

    def _close(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()


def run_cli(
    *arguments: str, stdin: str = "", timeout_s: float = 60.0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `inprod` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "inprod.cli", *arguments],
        input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False,
        env=clean_environment(**environment),
    )  # fmt: skip


def start(data: Path, *arguments: str, port: int = 0, **environment: str) -> Server:
    """Start a server and return once it answers; raises AssertionError with its log otherwise."""
    log = data.parent / f"{data.name}.log"
    command = [
        sys.executable, "-m", "inprod.cli", "up",
        "--data", str(data), "--port", str(port), "--json", *arguments,
    ]  # fmt: skip
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, env=clean_environment(**environment)
        )
    assert process.stdout is not None
    deadline = time.monotonic() + READY_S
    line = b""
    while not line.endswith(b"\n") and time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.1)[0]:
            part = os.read(process.stdout.fileno(), 65536)
            line += part
            if not part:
                break
    if not line.endswith(b"\n"):
        process.kill()
        process.wait(STOP_S)
        process.stdout.close()
        raise AssertionError(f"the server did not start: {log.read_text()}")
    ready = json.loads(line)
    key = Path(ready["key_file"]).read_text().strip()
    return Server(process=process, data=data, url=ready["url"], login=ready["login"], key=key)


@contextmanager
def running(data: Path, *arguments: str, **environment: str) -> Generator[Server]:
    """Yield a running server and stop it afterwards."""
    server = start(data, *arguments, **environment)
    try:
        yield server
    finally:
        server.stop()
