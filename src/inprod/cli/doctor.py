"""`inprod doctor`: checks this machine, then the server, and says what to do about each finding."""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import click

from inprod.cli.command import with_options
from inprod.cli.output import Said, Table, print_said
from inprod.cli.remote import Remote, find
from inprod.errors import Denied, InprodError, Missing, Unavailable
from inprod.place import KEY_FILE, data_folder

DISK_BYTES_MIN = 1_000_000_000
FILES_MIN = 4096
PYTHON_MIN = (3, 11)
CLOCK_S_MAX = 2.0
WRONG_ENVIRONMENT = "produdction-that-nobody-declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check: `state` is good, note or bad; `advice` says what to do."""

    check: str
    state: str
    message: str
    advice: str = ""


@click.command("doctor")
@with_options
@click.pass_context
def doctor(
    ctx: click.Context, url: str | None, key: str | None, data: str | None, as_json: bool
) -> None:
    """Check this machine and the server; exit code 7 when something is bad."""
    folder = data_folder(data or os.environ.get("INPROD_DATA", ""), os.environ)
    remote = Remote(find(url=url, key=key, data=data or "", environ=os.environ))
    findings = [check() for check in machine_checks(folder)]
    findings += server_checks(remote)
    bad = sum(finding.state == "bad" for finding in findings)
    words = [f"{one.check}: {one.advice}" for one in findings if one.advice]
    rows = [(one.check, one.state, one.message) for one in findings]
    said = Said(
        data={"findings": [asdict(one) for one in findings], "bad": bad},
        shown=Table(columns=("check", "state", "what"), rows=rows),
        words="\n".join(words),
    )
    print_said(said, as_json=as_json)
    if bad:
        ctx.exit(Unavailable.exit_code)


def machine_checks(folder: Path) -> list[Callable[[], Finding]]:
    """Return the checks that need no server."""
    return [
        check_python,
        check_engine,
        lambda: check_disk(folder),
        check_files,
        lambda: check_key_file(folder / KEY_FILE),
    ]


def check_python() -> Finding:
    """Python 3.11 or newer."""
    version = platform.python_version_tuple()
    told = f"{platform.python_implementation()} {platform.python_version()}"
    if (int(version[0]), int(version[1])) < PYTHON_MIN:
        return Finding(check="python", state="bad", message=told, advice="Use 3.11 or newer.")
    return Finding(check="python", state="good", message=told)


def check_engine() -> Finding:
    """The embedded event store is installed; without it a ClickHouse URL is needed."""
    if importlib.util.find_spec("chdb") is None:
        advice = "Install `inprod[server]`, or set `events_url` to a ClickHouse."
        return Finding(check="chdb", state="note", message="not installed", advice=advice)
    return Finding(check="chdb", state="good", message="installed")


def check_disk(folder: Path) -> Finding:
    """Enough room where the data is."""
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    message = f"{free / 1e9:.1f} GB free at {place}"
    if free < DISK_BYTES_MIN:
        return Finding(
            check="disk", state="bad", message=message, advice="Make room: 1 GB at least."
        )
    return Finding(check="disk", state="good", message=message)


def check_files() -> Finding:
    """Enough open files: each SDK holds a stream open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES_MIN:
        advice = f"Raise it: `ulimit -n {FILES_MIN}` (the hard limit is {hard})."
        return Finding(check="open files", state="note", message=f"limit {soft}", advice=advice)
    return Finding(check="open files", state="good", message=f"limit {soft}")


def check_key_file(path: Path) -> Finding:
    """Nobody else can read the admin key."""
    try:
        mode = path.stat().st_mode & 0o777
    except OSError:
        return Finding(check="key file", state="note", message=f"{path} is not there")
    if mode & 0o077:
        advice = f"`chmod 600 {path}`, then make a new key: others could have read this one."
        return Finding(check="key file", state="bad", message=f"mode {mode:o}", advice=advice)
    return Finding(check="key file", state="good", message=f"mode {mode:o}")


def server_checks(remote: Remote) -> list[Finding]:
    """Return what the server's answers say."""
    url = remote.found.url
    try:
        remote.get("/healthz")
    except Denied as error:  # it answers, so its port is not in the way
        advice = "Give the right one by --key or INPROD_KEY: the server's `admin.key` is one."
        return [
            Finding(check="server", state="good", message=f"answers at {url}"),
            Finding(check="key", state="bad", message=error.message, advice=advice),
        ]
    except InprodError as error:
        return [
            Finding(check="server", state="bad", message=error.message, advice=error.hint),
            check_port(url),
        ]
    findings = [Finding(check="server", state="good", message=f"answers at {url}")]
    findings += [check_ready(remote), check_clock(url), check_key(remote)]
    if remote.found.key:
        findings.append(check_refusal(remote))
    return findings


def check_port(url: str) -> Finding:
    """Whether something else has the port."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=2):
            pass
    except OSError:
        return Finding(check="port", state="good", message=f"{parts.port} is free")
    advice = "Something else listens there: stop it, or start inprod with another `--port`."
    return Finding(check="port", state="bad", message=f"{parts.port} is taken", advice=advice)


def check_ready(remote: Remote) -> Finding:
    """State, event store and loop work."""
    try:
        checks = remote.get("/readyz")["checks"]
    except InprodError as error:
        return Finding(check="ready", state="bad", message=error.message, advice=error.hint)
    return Finding(check="ready", state="good", message=", ".join(checks))


def check_clock(url: str) -> Finding:
    """The server's clock is ours, to the second that HTTP dates have."""
    import http.client

    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        date = connection.getresponse().getheader("date", "")
    except OSError as error:
        return Finding(check="clock", state="note", message=str(error))
    finally:
        connection.close()
    if not date:
        return Finding(check="clock", state="note", message="the server sends no date")
    apart_s = max(0.0, abs(parsedate_to_datetime(date).timestamp() - time.time()) - 1.0)
    if apart_s > CLOCK_S_MAX:
        advice = "Set both clocks by NTP: events and leases depend on them."
        return Finding(check="clock", state="bad", message=f"{apart_s:.0f} s apart", advice=advice)
    return Finding(check="clock", state="good", message="the same as the server's")


def check_key(remote: Remote) -> Finding:
    """The key is one that the server knows."""
    if not remote.found.key:
        advice = "Give one with --key or INPROD_KEY."
        return Finding(check="key", state="note", message="none is given", advice=advice)
    try:
        me = remote.get("/api/me")
    except InprodError as error:
        return Finding(check="key", state="bad", message=error.message, advice=error.hint)
    reach = "all environments" if me["environments"] is None else ", ".join(me["environments"])
    return Finding(check="key", state="good", message=f"{me['name']}: {me['role']}, {reach}")


def check_refusal(remote: Remote) -> Finding:
    """A wrong environment is refused, never created."""
    try:
        remote.get("/api/sdk/flags", environment=WRONG_ENVIRONMENT)
    except (Missing, Denied):
        return Finding(check="wrong environment", state="good", message="refused, as it should be")
    except InprodError as error:
        return Finding(check="wrong environment", state="bad", message=error.message)
    advice = "This is a bug of inprod: report it."
    return Finding(check="wrong environment", state="bad", message="accepted", advice=advice)
