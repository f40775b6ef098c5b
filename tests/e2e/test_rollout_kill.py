"""kill -9 of the server in the middle of a rollout: it goes on from its journal, and replays."""

from __future__ import annotations

import random
import time
from pathlib import Path

from inprod import document
from inprod.flags.evaluate import compile_flag
from inprod.flags.flag import Flag
from support.server import Server, start

GIVE_UP_S = 90.0
FLAG = {
    "key": "checkout", "kind": "boolean", "variants": {"on": True, "off": False},
    "default": "off", "off": "off",
    "environments": {
        "production": {
            "rules": [
                {
                    "id": "everyone",
                    "split": {"control": "off", "treatments": [{"variant": "on"}]},
                }
            ]
        }
    },
}  # fmt: skip
PLAN = {
    "name": "release", "environment": "production", "dial": "flag/checkout",
    "batch_s": 1.0, "settle_s": 1.0,
    "steps": [{"level": "20%", "bake_s": "4s"}, {"level": "50%", "bake_s": "4s"}],
    "guards": [{"name": "errors", "kind": "errors", "promote_ratio": 3.0}],
}  # fmt: skip


def send(server: Server, chance: random.Random) -> None:
    """Send what a few dozen users did, on the sides that the flag itself puts them."""
    stored = server.remote.get("/api/flags/checkout")
    plain = stored.get("flag", stored)
    known = set(Flag.__dataclass_fields__)
    flag = document.read(Flag, {k: v for k, v in plain.items() if k in known})
    variant_of = compile_flag(flag, "production")
    events: list[dict[str, object]] = []
    for _ in range(60):
        user = f"u{chance.randrange(100_000)}"
        served = variant_of({"user.id": user}, user)
        events.append(
            {
                "dataset": "shop", "name": "GET /", "user.id": user,
                "deployment.environment.name": "production", "flag.checkout": served.variant,
                "flag.checkout.rule": served.rule, "error": chance.random() < 0.3,
            }
        )  # fmt: skip
    server.remote.post("/api/events", events)


def run_until(server: Server, chance: random.Random, phases: set[str]) -> dict[str, object]:
    """Send traffic until the rollout is in one of the phases and has been judged."""
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        send(server, chance)
        found = server.remote.get("/api/rollouts/release")
        if found["phase"] in phases and found["judgement"] is not None:
            return found
    raise AssertionError(f"the rollout stayed {found['phase']}: {found['sentence']}")


def test_a_killed_server_goes_on_with_the_rollout_where_it_was(tmp_path: Path) -> None:
    chance = random.Random(4)
    server = start(tmp_path / "data")
    try:
        server.remote.post("/api/environments", {"name": "production"})
        server.remote.post("/api/flags", FLAG)
        server.remote.post("/api/rollouts", PLAN)
        before = run_until(server, chance, {"baking"})
        journal = server.remote.get("/api/rollouts/release/journal")["entries"]
        server.kill()
        server = start(tmp_path / "data")
        after = server.remote.get("/api/rollouts/release")
        assert after["started_ns"] == before["started_ns"]
        assert after["level"] >= before["level"]
        ended = run_until(server, chance, {"promoted", "rolled_back"})
        assert ended["phase"] == "promoted", ended["sentence"]
        entries = server.remote.get("/api/rollouts/release/journal")["entries"]
        assert entries[: len(journal)] == journal
        assert server.remote.get("/api/rollouts/release/replay")["equal"] is True
        assert server.remote.get("/api/audit?verify=1")["verified"]["broken_at"] is None
    finally:
        server.stop()
