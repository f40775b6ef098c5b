"""One server process: the lock on its data folder, the socket, uvicorn, the ready line."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import uvicorn

from inprod.audit import Actor
from inprod.endpoint import Role
from inprod.errors import Conflict, Invalid, Unavailable
from inprod.place import KEY_FILE, SERVER_FILE
from inprod.server.app import Built, build
from inprod.server.keys import KeyStore
from inprod.server.settings import Settings
from inprod.server.wire import LimitedProtocol

LOCK_FILE = "server.lock"
BACKLOG = 2048
GC_THRESHOLDS = (100_000, 50, 50)
START = Actor(name="inprod", origin="start")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What a person or program needs once the server answers."""

    url: str
    login: str
    key_file: str


def serve(settings: Settings, ready: Callable[[Ready], None]) -> None:
    """Run until SIGINT or SIGTERM; `ready` is called once the first request would be answered.

    Raises Conflict when another server has the data folder or the port.
    """
    folder = settings.folder
    os.umask(0o077)  # what we write is for us alone
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Invalid(
            "bad_data_folder", f"`{folder}` cannot be the data folder: {error.strerror}",
            where="data", hint="Choose a folder that you may write to.",
        ) from None  # fmt: skip
    with _locked(folder), _listening(settings) as listener:
        port = listener.getsockname()[1]
        built = build(settings, port=port)
        _calm_collector()
        try:
            key_file, key_name = _admin_key(built.keys, folder / KEY_FILE)
            _Server(settings, built, listener, ready, key_file, key_name).run_until_told()
        finally:
            built.close()
            (folder / SERVER_FILE).unlink(missing_ok=True)


def _calm_collector() -> None:
    """Keep the garbage collector from walking, again and again, what lives as long as the server.

    There are over a hundred thousand such objects, and a body of events, which makes thousands more
    that are all freed by their counts, would set it off.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


class _Server(uvicorn.Server):
    """uvicorn, with streams ended first, and no signal raised again after a clean stop."""

    def __init__(
        self, settings: Settings, built: Built, listener: socket.socket,
        ready: Callable[[Ready], None], key_file: Path, key_name: str,
    ) -> None:  # fmt: skip
        super().__init__(
            uvicorn.Config(
                built.app, loop="uvloop", http=LimitedProtocol, ws="none", lifespan="on",
                log_config=None, access_log=False, server_header=False, proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(settings.drain_s)),
                timeout_keep_alive=65, backlog=BACKLOG, workers=1,
            )
        )  # fmt: skip
        self._settings = settings
        self._built = built
        self._listener = listener
        self._ready = ready
        self._key_file = key_file
        self._key_name = key_name

    def run_until_told(self) -> None:
        """Serve on the socket that is already bound."""
        self.run(sockets=[self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell where we are."""
        await super().startup(sockets=sockets)
        expires_ns = time.time_ns() + int(self._settings.login_s * 1e9)
        token = self._built.keys.add_login(self._key_name, expires_ns)
        _write_private(
            self._settings.folder / SERVER_FILE,
            json.dumps({"pid": os.getpid(), "url": self._built.local_url}),
        )
        self._ready(
            Ready(
                url=self._built.url, login=f"{self._built.url}/login?token={token}",
                key_file=str(self._key_file),
            )
        )  # fmt: skip

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, which would never end by themselves; then everything else."""
        self._built.streams.close()
        await super().shutdown(sockets=sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle SIGINT and SIGTERM; a stop that was asked for ends with exit code 0."""
        before = {one: signal.signal(one, self.handle_exit) for one in _SIGNALS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def _locked(folder: Path) -> Generator[None]:
    with (folder / LOCK_FILE).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "data_in_use", f"another server{_holder(lock)} runs on `{folder}`",
                hint="Stop it, or choose another folder with `--data`.",
            ) from None  # fmt: skip
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _holder(lock: IO[str]) -> str:
    lock.seek(0)
    pid = lock.read(20).strip()
    return f" (process {pid})" if pid.isdigit() else ""


@contextlib.contextmanager
def _listening(settings: Settings) -> Generator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
            listener.listen(BACKLOG)
        except socket.gaierror:
            raise Invalid(
                "bad_host", f"`{settings.host}` is not an address", where="host",
                hint="Use an address of this machine, such as `127.0.0.1`.",
            ) from None  # fmt: skip
        except PermissionError as error:
            raise Unavailable(
                "port_not_allowed", f"port `{settings.port}` cannot be used: {error.strerror}",
                where="port", hint="Choose a port above 1023 with `--port`.",
            ) from None  # fmt: skip
        except OSError as error:
            raise Conflict(
                "port_in_use",
                f"`{settings.host}:{settings.port}` cannot be used: {error.strerror}",
                where="port", hint="Stop what listens there, or choose another with `--port`.",
            ) from None  # fmt: skip
        yield listener


def _admin_key(keys: KeyStore, path: Path) -> tuple[Path, str]:
    """Return the file with the admin key and the key's name, made anew when there is none in force.

    Who can read the data folder owns the server, so a lost file is answered by a new key.
    """
    with contextlib.suppress(FileNotFoundError):
        grant = keys.grant_of(path.read_text(errors="replace").strip())  # perhaps not our text
        if grant is not None and grant.role is Role.ADMIN:
            path.chmod(0o600)
            return path, grant.name
    taken = {key.name for key in keys.list()}
    name = next(one for one in _names() if one not in taken)
    _write_private(path, keys.add(name, Role.ADMIN, None, START) + "\n")
    return path, name


def _names() -> Generator[str]:
    yield "admin"
    number = 2
    while True:
        yield f"admin-{number}"
        number += 1


def _write_private(path: Path, content: str) -> None:
    """Write a file that nobody else may read, whole or not at all."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def set_up_log(level: str) -> None:
    """Send log lines to stderr: time, level, logger, message, and what came as `extra`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, getattr(logging, level.upper())))


_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class _Lines(logging.Formatter):
    """`2026-11-22T11:00:00 WARNING inprod.server a request failed path=/api/flags`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Append the extras."""
        extras = {key: value for key, value in vars(record).items() if key not in _PLAIN}
        told = "".join(f" {key}={value}" for key, value in sorted(extras.items()))
        return super().formatMessage(record) + told
