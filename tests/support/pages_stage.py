"""What the tests of pages look at: a server with flags, a rollout on its way and traffic."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inprod import document
from inprod.flags.evaluate import compile_flag
from inprod.flags.flag import Flag
from support.server import Server, running

USERS = 400
ROUND_S = 0.25
EVENTS_PER_ROUND = 60
WAIT_S = 60.0
FLAG, ROLLOUT, RULE = "new-checkout", "checkout-1", "everyone"

FLAGS: tuple[Mapping[str, object], ...] = (
    {
        "kind": "flag", "key": FLAG, "type": "boolean", "variants": {"on": True, "off": False},
        "default": "off", "off": "off", "owner": "payments",
        "description": "One page instead of three.",
        "environments": {
            "production": {
                "rules": [
                    {"id": "staff", "serve": "on",
                     "when": [{"attribute": "user.email", "op": "ends-with",
                               "value": "@example.com"}]},
                    {"id": RULE, "split": {
                        "control": "off", "treatments": [{"variant": "on"}], "percent": "0%"}},
                ]
            },
            "staging": {"default": "on"},
        },
    },
    {
        "kind": "flag", "key": "banner", "type": "string", "owner": "web",
        "variants": {"teal": "#0a6468", "plain": "#ffffff"}, "default": "plain", "off": "plain",
        "environments": {"production": {}}, "expires": "2026-01-01",
    },
)  # fmt: skip
PLAN: Mapping[str, object] = {
    "kind": "rollout", "name": ROLLOUT, "environment": "production", "dial": f"flag/{FLAG}",
    "rule": RULE, "owner": "payments", "reason": "It should not cost us orders.",
    "steps": [{"level": "20%", "bake": "10m"}, {"level": "50%", "bake": "10m"}, "100%"],
    "batch": "500ms", "settle": "0s",
    "guards": [{"name": "errors", "kind": "errors"}, {"name": "latency", "kind": "latency"}],
}  # fmt: skip


@dataclass
class Stage:
    """The running server, and how to wait for what it comes to say."""

    server: Server

    def flag_percent(self) -> float:
        """Return the percent of the rollout's rule now."""
        flag = document.read(Flag, self.server.remote.get(f"/api/flags/{FLAG}")["flag"])
        rules = flag.environments["production"].rules
        split = next(rule.split for rule in rules if rule.id == RULE)
        assert split is not None
        return split.percent

    def phase(self) -> str:
        """Return the phase of the rollout now."""
        return str(self.server.remote.get(f"/api/rollouts/{ROLLOUT}")["phase"])

    def wait(self, what: Callable[[], bool], said: str) -> None:
        """Return once `what` holds; raises AssertionError with `said` after WAIT_S."""
        deadline = time.monotonic() + WAIT_S
        while not what():
            assert time.monotonic() < deadline, f"{said} did not come true in {WAIT_S} s"
            time.sleep(0.1)

    def login(self) -> str:
        """Return a fresh login link, good for one browser."""
        return str(self.server.remote.post("/api/logins")["url"])


@contextmanager
def staged(data: Path) -> Generator[Stage]:
    """Yield a server with two environments, two flags, a rollout that is baking, and traffic."""
    with running(data) as server:
        for name in ("production", "staging"):
            server.remote.post("/api/environments", {"name": name})
        server.remote.post("/api/apply", list(FLAGS), reason="for the tests")
        stage = Stage(server=server)
        with _traffic(server):
            server.remote.post("/api/apply", [PLAN])
            stage.wait(lambda: _judged(server) >= 3, "three judged batches")
            yield stage


def _judged(server: Server) -> int:
    evidence = server.remote.get(f"/api/rollouts/{ROLLOUT}/evidence")
    return sum(value is not None for value in evidence["guards"][0]["low"])


@contextmanager
def _traffic(server: Server) -> Generator[None]:
    """Send events of users, each under the variant that the flag gives, until the block ends."""
    done = threading.Event()

    def run() -> None:
        numbers = random.Random(7)
        while not done.wait(ROUND_S):
            plain = server.remote.get(f"/api/flags/{FLAG}")["flag"]
            evaluate = compile_flag(document.read(Flag, plain), "production")
            users = [f"u{numbers.randrange(USERS)}" for _ in range(EVENTS_PER_ROUND)]
            events: list[dict[str, object]] = []
            for user in users:
                found = evaluate({"user.id": user}, None)
                events.append({
                    "dataset": "shop", "name": "POST /pay", "user.id": user,
                    "http.route": numbers.choice(["/pay", "/cart"]),
                    "deployment.environment.name": "production",
                    "duration_ms": numbers.lognormvariate(3.0, 0.4),
                    "error": numbers.random() < 0.02,
                    f"flag.{FLAG}": found.variant, f"flag.{FLAG}.rule": found.rule,
                })  # fmt: skip
            events.append({
                "dataset": "inprod.exposures", "name": "exposure", "flag": FLAG, "count": 1,
                "deployment.environment.name": "production",
            })  # fmt: skip
            server.remote.post("/api/events", events)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(WAIT_S)
