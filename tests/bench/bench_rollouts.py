"""Measure the control loop: false rollbacks of the whole service, and seconds to safety.

    python tests/bench/bench_rollouts.py [--only whole|safety] [--rollouts 200] [--runs 20] [--json]

`whole`: A/A rollouts through the real server stack: JSON over HTTP into the event API and writer,
counted by SQL in chDB, judged, decided, journalled in SQLite, turned on real flags whose own
evaluation splits the users. Only the clock is not real. Users come back, within and across stages.

`safety`: a running `inprod up`, an app with the SDK at 100 requests/s, 5 % of the users treated.
From one moment on every treated request fails; seconds until a treated user gets the control again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import inprod
from inprod.audit import Actor
from inprod.events.edge.api import EventApi
from inprod.events.edge.store import EventStore
from inprod.events.edge.writer import Bounds, Writer
from inprod.flags.edge.store import FlagStore
from inprod.flags.evaluate import compile_flag
from inprod.flags.flag import Flag, Kind, Rule, Split, State, Treatment
from inprod.guards.edge.collect import Collector
from inprod.guards.guard import Guard
from inprod.guards.guard import Kind as GuardKind
from inprod.live import Live
from inprod.rollouts.edge.dials import FlagDials
from inprod.rollouts.edge.runner import Runner
from inprod.rollouts.edge.store import RolloutStore
from inprod.rollouts.rollout import Phase, Plan, Step
from inprod.safety.edge.store import AuditLog, LeverStore
from inprod.server.state import open_state
from inprod.testing.clock import Clock
from support.event_server import application
from support.event_store import fresh_store
from support.server import running

ANA = Actor(name="bench", origin="bench")
BATCH_S = 10.0
WAVE = 25
TICKS_MAX = 60
POST_EVENTS = 5000


@dataclass
class Service:
    """The server's own stores, loop and event route, on one clock that is moved by hand."""

    folder: Path
    events: EventStore
    clock: Clock
    users_per_tick: int = 60
    base: float = 0.2
    population: int = 700
    random: random.Random = field(default_factory=lambda: random.Random(20261122))

    def __post_init__(self) -> None:
        now_ns = self.clock.now_ns
        self.engine = open_state(f"sqlite:///{self.folder}/state.db")
        audit, live = AuditLog(self.engine), Live()
        known: list[str] = []
        self.known = known
        self.flags = FlagStore(
            self.engine, record=audit.record, environments=lambda: tuple(known), now_ns=now_ns,
            live=live,
        )  # fmt: skip
        self.store = RolloutStore(self.engine, record=audit.record, now_ns=now_ns)
        self.runner = Runner(
            store=self.store, collector=Collector(self.events, cheap_s=math.inf),
            dials=FlagDials(flags=self.flags, promote=lambda _attribute: False),
            levers=LeverStore(self.engine, audit.record, now_ns).pulled, now_ns=now_ns, live=live,
        )  # fmt: skip
        self.writer = Writer(self.events, bounds=Bounds(flush_s=0.002))
        api = EventApi(
            store=self.events, writer=self.writer, environments=lambda: tuple(known), now_ns=now_ns
        )
        transport = httpx.ASGITransport(app=application(api))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://inprod", timeout=60)

    def plan(self, name: str, alpha: float) -> Plan:
        """Return an A/A plan on a flag of its own, in an environment of its own."""
        self.known.append(name)
        split = Split(control="off", treatments=(Treatment(variant="on"),))
        flag = Flag(
            key=name, kind=Kind.BOOLEAN, variants={"on": True, "off": False}, default="off",
            off="off", environments={name: State(rules=(Rule(id="everyone", split=split),))},
        )  # fmt: skip
        self.flags.commit(flag, expected_revision=None, actor=ANA, reason="bench")
        return Plan(
            name=name, environment=name, dial=f"flag/{name}", alpha=alpha, batch_s=BATCH_S,
            settle_s=0.0,
            steps=(Step(level=5.0, bake_s=30.0), Step(level=20.0, bake_s=50.0),
                   Step(level=50.0, bake_s=100.0), Step(level=100.0, bake_s=10.0)),
            guards=(
                Guard(name="errors", kind=GuardKind.ERRORS, promote_ratio=2.5),
                Guard(name="latency", kind=GuardKind.LATENCY, slower=2.0, quantile=0.9),
                Guard(name="split", kind=GuardKind.SAMPLE_RATIO),
            ),
        )  # fmt: skip

    def traffic(self, name: str, people: list[tuple[float, float]]) -> list[dict[str, object]]:
        """Return one tick of one environment's events; nobody is treated any worse.

        A user's own error rate and slowness stay the same, and a bad spell hits everyone alike.
        """
        variant_of = compile_flag(self.flags.get(name).flag, name)
        spell = self.random.choice((0.5, 1.0, 1.0, 1.5))
        events: list[dict[str, object]] = []
        for _ in range(self.users_per_tick):
            user = self.random.randrange(len(people))
            frailty, slowness = people[user]
            context = {"user.id": f"{name}-{user}"}
            served = variant_of(context, f"{name}-{user}")
            events.append(
                {
                    "dataset": "shop", "name": "GET /", "user.id": f"{name}-{user}",
                    "deployment.environment.name": name, f"flag.{name}": served.variant,
                    f"flag.{name}.rule": served.rule,
                    "error": self.random.random() < self.base * frailty * spell,
                    "duration_ms": slowness * self.random.lognormvariate(3, 0.6) * spell,
                }
            )  # fmt: skip
        return events

    async def wave(self, names: list[str], alpha: float) -> list[str]:
        """Run some rollouts at once to their ends, and return their outcomes."""
        people: dict[str, list[tuple[float, float]]] = {}
        for name in names:
            plan = self.plan(name, alpha)
            self.runner.start(plan, ANA)
            people[name] = [
                (self.random.choice((0.3, 1.0, 2.0)), self.random.lognormvariate(0, 0.4))
                for _ in range(self.population)
            ]
        await self.runner.tick()
        active = set(names)
        for _ in range(TICKS_MAX):
            events = [one for name in sorted(active) for one in self.traffic(name, people[name])]
            for first in range(0, len(events), POST_EVENTS):
                answer = await self.client.post(
                    "/api/events", json=events[first : first + POST_EVENTS]
                )
                assert answer.status_code == 200, answer.text
            self.clock.advance(BATCH_S)
            await self.runner.tick()
            active = {name for name in active if not self.store.get(name).settled}
            if not active:
                break
        return [self.outcome(name) for name in names]

    def outcome(self, name: str) -> str:
        """Return how it ended, or why it is held."""
        standing = self.store.get(name)
        assert self.runner.replay(name).equal, f"{name} does not replay"
        if standing.state.phase is Phase.HELD:
            return f"held: {standing.state.hold.value}"
        return standing.state.phase.value


def whole(rollouts: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Return the outcomes of A/A rollouts at alpha .05 and .01."""
    found: dict[str, Any] = {}
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, fresh_store(now_ns=clock.now_ns) as events:
        service = Service(Path(folder), events, clock)

        async def run() -> None:
            for alpha in (0.05, 0.01):
                began = time.monotonic()
                outcomes: Counter[str] = Counter()
                for first in range(0, rollouts, WAVE):
                    names = [
                        f"aa-{alpha:g}-{n}".replace(".", "")
                        for n in range(first, min(first + WAVE, rollouts))
                    ]
                    outcomes.update(await service.wave(names, alpha))
                    tell(f"alpha {alpha:g}: {outcomes.total()} of {rollouts}: {dict(outcomes)}")
                found[f"alpha_{alpha:g}"] = {
                    "rollouts": rollouts, "outcomes": dict(outcomes),
                    "rolled_back_share": outcomes["rolled_back"] / rollouts,
                    "seconds": round(time.monotonic() - began, 1),
                }  # fmt: skip
            await service.client.aclose()

        asyncio.run(run())
        service.writer.close()
        service.engine.dispose()
    return found


RATE = 100.0
USERS = 100_000
WARM_S = 6.0
GIVE_UP_S = 60.0


def safety(runs: int, failing: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """Return the seconds from the first bad response to the flag off in the app."""
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "data") as server:
        server.remote.post("/api/environments", {"name": "production"})
        key = server.add_key("app", "sdk", ["production"])
        client = inprod.init(
            url=server.url, key=key, environment="production", service="shop",
            cache_dir=str(Path(folder) / "cache"),
        )  # fmt: skip
        for run in range(runs):
            name = f"bad-{run}"
            server.remote.post("/api/flags", _flag(name))
            server.remote.post("/api/rollouts", _plan(name))
            took_s = _drive(name, failing, random.Random(run))
            seconds.append(took_s)
            tell(f"run {run + 1} of {runs}: {took_s:.2f} s")
        assert client.status() is not None
        inprod.close()
    ordered = sorted(seconds)
    return {
        "runs": runs, "requests_per_s": RATE, "share_percent": 5, "failing": failing,
        "seconds_p50": round(statistics.median(ordered), 2),
        "seconds_p99": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 2),
        "seconds": [round(one, 2) for one in seconds],
    }  # fmt: skip


def _drive(name: str, failing: float, chance: random.Random) -> float:
    """Send requests at RATE until a user who was treated is not; return seconds since it broke."""
    began = time.monotonic()
    first_bad: float | None = None
    treated = ""
    number = 0
    while True:
        due = began + number / RATE
        time.sleep(
            max(0.0, due - time.monotonic())
        )  # the pace of the load, not a wait for a result
        number += 1
        user = f"u{chance.randrange(USERS)}"
        is_on, is_bad = False, False
        with inprod.event("GET /checkout", dataset="shop", **{"user.id": user}) as event:
            is_on = inprod.flag(name, False, {"user.id": user})
            is_broken = time.monotonic() - began > WARM_S
            is_bad = chance.random() < (failing if is_on and is_broken else 0.01)
            event["http.response.status_code"] = 500 if is_bad else 200
        now = time.monotonic()
        if is_on and is_bad and is_broken and first_bad is None:
            first_bad = now
        treated = user if is_on else treated
        if first_bad is not None:
            if not inprod.flag(name, False, {"user.id": treated}):
                return time.monotonic() - first_bad
            assert now - first_bad < GIVE_UP_S, "the flag was not turned off"
        assert now - began < WARM_S + GIVE_UP_S, "nobody was treated"


def _flag(name: str) -> dict[str, object]:
    split = {"control": "off", "treatments": [{"variant": "on"}]}
    return {
        "key": name, "kind": "boolean", "variants": {"on": True, "off": False},
        "default": "off", "off": "off",
        "environments": {"production": {"rules": [{"id": "everyone", "split": split}]}},
    }  # fmt: skip


def _plan(name: str) -> dict[str, object]:
    bad = {"column": "http.response.status_code", "op": ">=", "value": 500}
    return {
        "name": name, "environment": "production", "dial": f"flag/{name}", "batch_s": 1.0,
        "settle_s": 1.0, "alpha": 0.01, "steps": [{"level": "5%", "bake_s": "1h"},
        {"level": "50%"}], "guards": [{"name": "errors", "kind": "errors", "bad": [bad]}],
    }  # fmt: skip


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("whole", "safety"))
    parser.add_argument("--rollouts", type=int, default=200)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--failing", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()

    def tell(words: str) -> None:
        print(words, file=sys.stderr, flush=True)

    found: dict[str, Any] = {}
    if asked.only in (None, "whole"):
        found["whole_service_aa"] = whole(asked.rollouts, tell)
    if asked.only in (None, "safety"):
        found["seconds_to_safety"] = safety(asked.runs, asked.failing, tell)
    if asked.json:
        print(json.dumps(found, indent=2))
        return
    for name, rows in found.items():
        print(f"{name}: {json.dumps(rows)}")


if __name__ == "__main__":
    main()
