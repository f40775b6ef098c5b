"""What the demonstration plays on: a server, the shop, a crowd, and how to ask the server.

inprod up <-- spans, exposures -- shop <-- HTTP -- users
    \\------- flags over SSE ------^
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import inprod
from inprod.cli.demo_children import Children
from inprod.cli.demo_story import Teller
from inprod.cli.documents import documents_of
from inprod.cli.remote import Found, Remote
from inprod.errors import Missing, Unavailable

ENVIRONMENT = "production"
VISITORS = 300
SERVER_START_S = 40.0
SHOP_START_S = 20.0
TRAFFIC_START_S = 20.0
SETTLE_S = 3.0  # the crowd is in the shop before the first change
POLL_S = 0.4
TRAFFIC_S_MAX = 3600.0
TRAFFIC_OVER_S = 5
TRAFFIC = {
    "dataset": "shop",
    "calculations": [{"op": "COUNT"}],
    "time_range": TRAFFIC_OVER_S,
    "filters": [{"column": "kind", "op": "=", "value": "server"}],
    "disable_series": True,
}
INPROD = (sys.executable, "-c", "from inprod.cli.main import run; run()")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the story plays on."""

    examples: Path
    remote: Remote
    url: str
    login: str  # used up by whoever watches from the start
    shop_url: str


def examples_folder() -> Path:
    """Return the folder of the shop: in the installed package, or in the checkout."""
    package = Path(inprod.__file__).parent
    for folder in (package / "examples/shop", package.parents[1] / "examples/shop"):
        if (folder / "shop.py").is_file():
            return folder
    raise Missing(
        "no_examples", "the folder `examples/shop` is not there", hint="Install inprod again."
    )


def set_up(teller: Teller, children: Children, folder: Path, port: int) -> Stage:
    """Start the server, the shop and the crowd; return when traffic arrives as events."""
    examples = examples_folder()
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("INPROD_", "OTEL_"))}
    environ["PYTHONUNBUFFERED"] = "1"
    teller.say("Starting inprod ...")
    server = children.start(
        "inprod",
        [
            *INPROD,
            "up",
            "--json",
            "--port",
            str(port),
            "--drain",
            "2s",
            "--data",
            str(folder / "data"),
        ],
        environ,
    )
    ready = json.loads(wait_for(children, SERVER_START_S, "inprod", lambda: server.first_line))
    key = Path(ready["key_file"]).read_text().strip()
    stage = Stage(
        examples=examples, url=ready["url"], login=ready["login"],
        remote=Remote(Found(url=ready["url"], key=key, source="the demo")),
        shop_url=f"http://127.0.0.1:{free_port()}",
    )  # fmt: skip
    stage.remote.post("/api/environments", {"name": ENVIRONMENT})
    apply(stage, "flags.yaml")
    teller.say(f"inprod listens at {stage.url}; both changes are deployed, behind flags at 0 %.")
    teller.say(f"Watch it there, too: {stage.login}")
    start_shop(children, stage, folder, environ)
    children.start("users", users_command(stage), environ)
    wait_for(children, TRAFFIC_START_S, "events of the shop", lambda: traffic(stage) > 0)
    pause(children, SETTLE_S)
    teller.say(
        f"A shop with its own SQLite listens at {stage.shop_url}; {VISITORS} visitors are in it, "
        f"sending {traffic(stage):.0f} requests/s."
    )
    return stage


def start_shop(children: Children, stage: Stage, folder: Path, environ: Mapping[str, str]) -> None:
    """Start the shop with a key of its own; return when it answers."""
    made = stage.remote.post(
        "/api/keys", {"name": "shop", "role": "sdk", "environments": [ENVIRONMENT]}
    )
    port = str(urlsplit(stage.shop_url).port)
    script = str(stage.examples / "shop.py")
    children.start(
        "shop",
        [sys.executable, script, "--port", port, "--data", str(folder)],
        {
            **environ,
            "INPROD_URL": stage.url,
            "INPROD_KEY": made["key"],
            "INPROD_ENVIRONMENT": ENVIRONMENT,
            "OTEL_EXPORTER_OTLP_ENDPOINT": stage.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{made['key']}",
            "OTEL_RESOURCE_ATTRIBUTES": f"deployment.environment.name={ENVIRONMENT}",
            "OTEL_BSP_SCHEDULE_DELAY": "250",
        },
    )
    wait_for(children, SHOP_START_S, "the shop", lambda: answers(stage.shop_url))


def users_command(stage: Stage) -> list[str]:
    """Return the command of the crowd."""
    script = str(stage.examples / "users.py")
    return [
        sys.executable, script, "--url", stage.shop_url, "--at-once", str(VISITORS),
        "--seconds", str(TRAFFIC_S_MAX),
    ]  # fmt: skip


def apply(stage: Stage, name: str) -> None:
    """Send the documents of one of the shop's YAML files to the server."""
    documents = [document for _, document in documents_of(str(stage.examples / name))]
    stage.remote.post("/api/apply", documents)


def traffic(stage: Stage) -> float:
    """Return how many requests per second the shop answered of late, as inprod has it."""
    try:
        answer = stage.remote.post("/api/query", TRAFFIC)
    except Missing:  # no event of the shop has arrived yet
        return 0.0
    return sum(row["COUNT"] for row in answer["results"]) / TRAFFIC_OVER_S


def answers(url: str) -> bool:
    """Return whether something accepts connections there."""
    target = urlsplit(url)
    try:
        socket.create_connection((target.hostname or "", target.port or 80), 1.0).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """Return a port of loopback that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(children: Children, timeout_s: float, what: str, read: Callable[[], T]) -> T:
    """Return the first true value of `read`; raises Unavailable after `timeout_s`, or at once when
    a child ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        children.check()
        value = read()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Unavailable(
                "too_slow", f"`{what}` was not there after {timeout_s:.0f} s",
                hint="Try again on a quieter machine, or look at the logs.",
            )  # fmt: skip
        time.sleep(POLL_S / 4)


def pause(children: Children, duration_s: float) -> None:
    """Let time pass while every child lives; raises Unavailable when one ends."""
    deadline = time.monotonic() + duration_s
    while time.monotonic() < deadline:
        children.check()
        time.sleep(min(POLL_S, duration_s))
