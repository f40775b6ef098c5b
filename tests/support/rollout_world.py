"""A world in virtual time: users, a dial, an event store in memory, and the real control loop.

each second: some users act -> events -> the collector's list
each tick:   runner.tick() with the real store, judge, decisions and journal
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from inprod.audit import Actor
from inprod.events.event import Event
from inprod.guards.guard import Guard, Kind
from inprod.live import Live
from inprod.rollouts.edge.runner import Runner
from inprod.rollouts.edge.store import TABLES as ROLLOUT_TABLES
from inprod.rollouts.edge.store import RolloutStore, Standing
from inprod.rollouts.rollout import ENDED, Plan, Step
from inprod.rollouts.state import Command, Verb
from inprod.safety.edge.store import TABLES as SAFETY_TABLES
from inprod.safety.edge.store import AuditLog, LeverStore
from inprod.server.state import connect_state
from inprod.testing.clock import Clock
from inprod.testing.collector import SlowCollector
from inprod.testing.dials import MemoryDial, MemoryDials

ANA = Actor(name="ana", origin="test")


def plan_of(name: str = "release", **changed: object) -> Plan:
    """Return a small plan: two steps, one guard on errors, buckets of five seconds."""
    plan = Plan(
        name=name, environment="production", dial="flag/checkout",
        steps=(Step(level=10.0, bake_s=30.0), Step(level=50.0, bake_s=30.0)),
        guards=(Guard(name="errors", kind=Kind.ERRORS),), settle_s=5.0, alpha=0.05,
    )  # fmt: skip
    return replace(plan, **changed)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """`users_per_s` new and returning users a second; a share of them fails, by arm."""

    users_per_s: int = 20
    base: float = 0.05
    ratio: float = 1.0
    population: int = 1_000_000
    delay_s: float = 0.0


@dataclass
class World:
    """Everything one rollout needs, on one clock and one seed."""

    folder: Path
    seed: int = 1
    traffic: Traffic = field(default_factory=Traffic)
    tick_s: float = 5.0
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.engine = connect_state(f"sqlite:///{self.folder}/state-{self.seed}.db")
        SAFETY_TABLES.create_all(self.engine)
        ROLLOUT_TABLES.create_all(self.engine)
        self.audit = AuditLog(self.engine)
        self.levers = LeverStore(self.engine, self.audit.record, self.clock.now_ns)
        self.store = RolloutStore(self.engine, record=self.audit.record, now_ns=self.clock.now_ns)
        self.events = SlowCollector(now_ns=self.clock.now_ns)
        self.dials = MemoryDials()
        self.live = Live()
        self.places: dict[int, float] = {}
        self.late: list[tuple[int, Event]] = []
        self.restart()

    def restart(self) -> None:
        """Begin with a new runner, as a new process would."""
        self.runner = Runner(
            store=self.store, collector=self.events, dials=self.dials,
            levers=self.levers.pulled, now_ns=self.clock.now_ns, live=self.live,
        )  # fmt: skip

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    def start(self, plan: Plan) -> MemoryDial:
        """Start a rollout and return its dial."""
        self.runner.start(plan, ANA)
        return self.dials.of(plan)

    def command(self, name: str, verb: Verb, *, keep: bool = False) -> Standing:
        """Give an order."""
        order = Command(verb=verb, actor=ANA.name, reason="because", keep=keep)
        return asyncio.run(self.runner.command(name, order, ANA))

    def tick(self) -> None:
        """Let the loop look once."""
        asyncio.run(self.runner.tick())

    def second(self, dial: MemoryDial) -> None:
        """Let users act for one second."""
        traffic = self.traffic
        arrived = [self._act(dial) for _ in range(traffic.users_per_s)]
        due = self.clock.time_ns + round(traffic.delay_s * 1e9)
        self.late += [(due, event) for event in arrived]
        self.clock.advance(1)
        ready = [event for at, event in self.late if at < self.clock.time_ns]
        self.late = [pair for pair in self.late if pair[0] >= self.clock.time_ns]
        self.events.append(ready)

    def run(
        self, name: str, *, seconds: float, until: Callable[[Standing], bool] | None = None,
        each: Callable[[int], None] | None = None,
    ) -> Standing:  # fmt: skip
        """Run the world; stop early when the rollout has ended or `until` says so."""
        dial = self.dials.of(self.store.get(name).plan)
        for number in range(int(seconds / self.tick_s)):
            for _ in range(int(self.tick_s)):
                self.second(dial)
            if each is not None:
                each(number)
            self.tick()
            standing = self.store.get(name)
            if standing.settled or (until is not None and until(standing)):
                return standing
        return self.store.get(name)

    def _act(self, dial: MemoryDial) -> Event:
        user = self.random.randrange(self.traffic.population)
        place = self.places.setdefault(user, self.random.random() * 100)
        is_treated = place < dial.level
        rate = self.traffic.base * (self.traffic.ratio if is_treated else 1.0)
        return Event(
            time_ns=self.clock.time_ns, dataset="shop", name="GET /",
            duration_ns=round(self.random.lognormvariate(3, 0.5) * 1e6),
            error=self.random.random() < rate,
            strings={
                "user.id": f"u{user}", "deployment.environment.name": "production",
                "flag.checkout": "on" if is_treated else "off", "flag.checkout.rule": "everyone",
            },
        )  # fmt: skip


def has_ended(standing: Standing) -> bool:
    """Whether the rollout is over."""
    return standing.state.phase in ENDED


def told(world: World, name: str) -> list[tuple[str, str, float, float]]:
    """Return the journal as (action, reason, from, to)."""
    return [
        (e.decision.action.value, e.decision.reason.value, e.from_level, e.decision.to_level)
        for e in world.store.journal(name)
    ]


def sentences(world: World, names: Iterable[str]) -> list[str]:
    """Return the sentences of all decisions."""
    return [e.decision.sentence for name in names for e in world.store.journal(name)]
