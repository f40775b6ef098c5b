"""The control loop: look, judge, decide, write down, turn. Level-triggered, so that a crash needs
no special case.

    tick: read the dial -> collect closed buckets -> judge -> decide
          -> commit evidence, entry and state -> turn the dial -> look again

What should be in force is in the store before the dial turns; a dial that did not turn is turned at
the next tick. A level is raised only while `running`; it is lowered whenever it is too high.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from anyio import to_thread

from inprod.audit import INPROD, Actor
from inprod.errors import Conflict, InprodError, Missing
from inprod.guards.cells import Count
from inprod.guards.edge.collect import BUCKETS_MAX, Collected, Counts
from inprod.guards.evidence import Cell, Judgement
from inprod.live import Live, Message
from inprod.rollouts.command import obey
from inprod.rollouts.decide import decide, is_at
from inprod.rollouts.edge import show
from inprod.rollouts.edge.dials import Dials
from inprod.rollouts.edge.store import Batch, RolloutStore, Standing
from inprod.rollouts.judging import Judging
from inprod.rollouts.replay import Replay, replay
from inprod.rollouts.rollout import (
    ENDED,
    LEVEL_TOLERANCE,
    Action,
    Dial,
    OnSilence,
    Phase,
    Plan,
)
from inprod.rollouts.state import Command, Decision, Look, Written, apply
from inprod.safety.lever import Pulled, pulled_over

log = logging.getLogger("inprod.rollouts")

ROUNDS_MAX = 6  # decisions of one rollout in one tick: at most start, arrive, raise, arrive ...
TOGETHER_MAX = 8
STEP_S = 60.0
LEASE_S = 15.0


@dataclass(slots=True)
class _Fed:
    """A judge in memory, and the last bucket it was fed; rebuilt when the store knows more."""

    judging: Judging
    bucket: int


class Runner:
    """Runs all rollouts of one server; `tick` is called by the loop of the process that leads."""

    def __init__(
        self, *, store: RolloutStore, collector: Counts, dials: Dials,
        levers: Callable[[], Sequence[Pulled]], now_ns: Callable[[], int] = time.time_ns,
        live: Live | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._collector = collector
        self._dials = dials
        self._levers = levers
        self._now_ns = now_ns
        self._live = live
        self._fed: dict[str, _Fed] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # What people ask for

    def start(self, plan: Plan, actor: Actor) -> Standing:
        """Store a rollout; the next tick starts it. Blocking.

        Raises Invalid, Missing or Conflict when it could not start now.
        """
        arms = self._dials.arms(plan)
        self._check_levers(plan)
        standing = self._store.create(plan, arms, actor=actor)
        self._publish(standing)
        return standing

    def check_free(self, plan: Plan) -> None:
        """Raise Conflict when a lever, the name or the dial is in a plan's way. Blocking."""
        self._check_levers(plan)
        self._store.check_free(plan)

    def _check_levers(self, plan: Plan) -> None:
        pulled = pulled_over(self._levers(), environment=plan.environment, dial=plan.dial)
        if pulled is not None:
            raise Conflict("lever_pulled", pulled.sentence, hint="Release the lever first.")

    async def command(self, name: str, command: Command, actor: Actor) -> Standing:
        """Carry out an order at once; raises Missing, Conflict."""
        async with self._locks[name]:
            standing = await to_thread.run_sync(self._store.get, name)
            dial = self._dials.dial(standing.plan, standing.arms)
            in_force, trouble = await _read(dial)
            pulled = await to_thread.run_sync(self._levers)
            look = self._look(standing, in_force, pulled)
            decision = obey(standing.plan, standing.state, look, command)
            standing = await self._write(
                replace(standing, trouble=trouble), look, decision, command=command, actor=actor
            )
            in_force, trouble, _ = await _turn(standing, dial, in_force)
            return await self._settle(replace(standing, trouble=trouble), in_force, ())

    def replay(self, name: str) -> Replay:
        """Recompute every decision of a rollout from its journal. Blocking."""
        standing = self._store.get(name)
        return replay(
            standing.plan, standing.arms, self._store.journal(name), self._store.cells(name),
            created_ns=standing.created_ns, windows=standing.state.windows,
        )  # fmt: skip

    # The loop

    async def tick(self) -> None:
        """Look at every rollout that has not settled; one that fails does not keep the others."""
        names = await to_thread.run_sync(self._store.unsettled)
        together = asyncio.Semaphore(TOGETHER_MAX)
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._guarded(name, together))

    async def obey_levers(self) -> None:
        """Put what stands under a pulled lever to safe now, without waiting for a count."""
        names = await to_thread.run_sync(self._store.unsettled)
        together = asyncio.Semaphore(TOGETHER_MAX)
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._guarded(name, together, only_levers=True))

    async def _guarded(
        self, name: str, together: asyncio.Semaphore, *, only_levers: bool = False
    ) -> None:
        async with together:
            try:
                async with asyncio.timeout(STEP_S):
                    await (self._obey_lever(name) if only_levers else self._step(name))
            except Exception as error:
                log.exception("a rollout could not be looked at", extra={"rollout": name})
                self._fed.pop(name, None)
                with suppress(InprodError):
                    await to_thread.run_sync(self._tell, name, f"{type(error).__name__}: {error}")

    async def _step(self, name: str) -> None:
        """Count without the lock, which may take long, so that orders need not wait for it."""
        seen = await to_thread.run_sync(self._store.get, name)
        standing, batches, trouble = seen, (), ""
        if seen.state.phase not in ENDED and seen.state.started_ns is not None:
            try:
                standing, batches = await to_thread.run_sync(self._gather, seen)
            except InprodError as error:
                trouble = f"evidence cannot be collected: {error.message}"
        async with self._locks[name]:
            current = await to_thread.run_sync(self._store.get, name)
            if current.revision != seen.revision:
                self._fed.pop(name, None)  # somebody gave an order meanwhile; the next tick sees it
                return
            await self._act(standing, batches, trouble)

    async def _obey_lever(self, name: str) -> None:
        async with self._locks[name]:
            standing = await to_thread.run_sync(self._store.get, name)
            plan = standing.plan
            levers = await to_thread.run_sync(self._levers)
            if pulled_over(levers, environment=plan.environment, dial=plan.dial) is not None:
                await self._act(standing, (), standing.trouble)

    async def _act(self, standing: Standing, batches: Sequence[Batch], trouble: str) -> None:
        """Decide, write down and turn until nothing more is to be done now."""
        pulled = await to_thread.run_sync(self._levers)
        dial = self._dials.dial(standing.plan, standing.arms)
        in_force, unread = await _read(dial)
        trouble = unread or trouble
        before = standing
        for _ in range(ROUNDS_MAX):
            look = self._look(standing, in_force, pulled)
            decision = decide(standing.plan, standing.state, look)
            if decision.action is Action.START:
                await to_thread.run_sync(self._dials.prepare, standing.plan, standing.arms, INPROD)
            if decision.action is Action.WAIT:
                standing = replace(standing, sentence=decision.sentence or standing.sentence)
            else:
                standing = await self._write(standing, look, decision, batches=batches)
                before, batches = standing, ()
            in_force, failure, has_turned = await _turn(standing, dial, in_force)
            trouble = failure or trouble
            if decision.action is Action.WAIT and not has_turned:
                break
        standing = replace(standing, trouble=trouble)
        if standing.trouble != before.trouble or standing.sentence != before.sentence or batches:
            await self._settle(standing, in_force, batches)
        elif standing.state.phase in ENDED:
            await self._settle(standing, in_force, ())

    def _look(self, standing: Standing, in_force: float | None, pulled: Sequence[Pulled]) -> Look:
        plan = standing.plan
        return Look(
            now_ns=self._now_ns(), in_force=in_force, judgement=standing.judgement,
            judged_ns=(standing.judged_bucket + 1) * plan.batch_ns,
            last_event_ns=standing.last_event_ns, users_exposed=standing.users_exposed,
            pulled=pulled_over(pulled, environment=plan.environment, dial=plan.dial),
        )  # fmt: skip

    # Evidence

    def _gather(self, standing: Standing) -> tuple[Standing, tuple[Batch, ...]]:
        """Count and judge the newly closed buckets; nothing is stored yet."""
        plan = standing.plan
        fed = self._judge_of(standing)
        closed = self._collector.closed(plan.batch_ns // 1_000_000)
        if closed <= standing.judged_bucket:
            return standing, ()
        found = self._collector.collect(_count(standing, closed))
        if found.closed <= standing.judged_bucket:
            return standing, ()
        cells = _by_bucket(found)
        fed.judging.feed(
            standing.state.windows, cells, last=standing.judged_bucket, to=found.closed
        )
        fed.bucket = found.closed
        judgement = fed.judging.judgement()
        batches = [Batch(bucket=bucket, cells=tuple(some)) for bucket, some in cells.items()]
        if judgement is not None:
            batches = [one for one in batches if one.bucket != found.closed]
            last = tuple(cells.get(found.closed, ()))
            batches.append(Batch(bucket=found.closed, cells=last, evidence=_evidence(judgement)))
        last_event_ns = standing.last_event_ns
        if found.last_event is not None:
            last_event_ns = (found.last_event + 1) * plan.batch_ns
        return (
            replace(
                standing, judged_bucket=found.closed, judgement=judgement,
                users_exposed=standing.users_exposed + found.users_exposed,
                last_event_ns=last_event_ns,
            ),
            tuple(batches),
        )  # fmt: skip

    def _judge_of(self, standing: Standing) -> _Fed:
        """Return the judge as far as the store knows, rebuilt from stored cells where needed."""
        fed = self._fed.get(standing.name)
        if fed is not None and fed.bucket == standing.judged_bucket:
            return fed
        judging = Judging(standing.plan, standing.arms)
        judging.feed(
            standing.state.windows, self._store.cells(standing.name),
            last=standing.first_bucket - 1, to=standing.judged_bucket,
        )  # fmt: skip
        fed = self._fed[standing.name] = _Fed(judging, standing.judged_bucket)
        return fed

    # Writing

    async def _write(
        self, standing: Standing, look: Look, decision: Decision, *,
        batches: Sequence[Batch] = (), command: Command | None = None, actor: Actor = INPROD,
    ) -> Standing:  # fmt: skip
        def write() -> Standing:
            written = Written(
                seq=self._store.next_seq(standing.name), time_ns=look.now_ns, actor=actor.name,
                decision=decision, look=replace(look, judgement=None),
                bucket=standing.judged_bucket, from_level=standing.state.level,
                judgement=standing.judgement, command=command,
            )  # fmt: skip
            after = replace(
                standing,
                state=apply(standing.plan, standing.state, decision, now_ns=look.now_ns),
                reason=decision.reason.value, sentence=decision.sentence,
            )  # fmt: skip
            return self._store.commit(after, batches=batches, written=written, actor=actor)

        stored = await to_thread.run_sync(write)
        log.info("a rollout decided", extra={"rollout": stored.name, "action": decision.action})
        self._publish(stored)
        return stored

    async def _settle(
        self, standing: Standing, in_force: float | None, batches: Sequence[Batch]
    ) -> Standing:
        """Store what changed without a decision, and whether an ended rollout is at rest."""
        if standing.state.phase in ENDED:
            highest = standing.state.level + LEVEL_TOLERANCE
            is_low = in_force is not None and in_force <= highest
            rests = not standing.trouble and (is_low or _is_kept(standing))
            standing = replace(standing, settled=rests)
            if rests:
                self._fed.pop(standing.name, None)
        stored = await to_thread.run_sync(lambda: self._store.commit(standing, batches=batches))
        self._publish(stored)
        return stored

    def _tell(self, name: str, trouble: str) -> None:
        standing = self._store.get(name)
        if standing.trouble != trouble:
            self._publish(self._store.commit(replace(standing, trouble=trouble[:1000])))

    def _publish(self, standing: Standing) -> None:
        if self._live is not None:
            payload = show.rollout(standing)
            self._live.publish(Message(topic="rollouts", event="rollout", payload=payload))


def _count(standing: Standing, closed: int) -> Count:
    plan = standing.plan
    full = [step for step, one in enumerate(plan.steps) if one.level >= 100]
    return Count(
        environment=plan.environment, arms=standing.arms, guards=plan.guards,
        windows=standing.state.windows, batch_ms=plan.batch_ns // 1_000_000,
        start=standing.first_bucket, last=standing.judged_bucket,
        closed=min(closed, standing.judged_bucket + BUCKETS_MAX),
        full_stage=full[0] if full and plan.dial.startswith("flag/") else None,
        include_test_traffic=plan.include_test_traffic,
    )  # fmt: skip


def _by_bucket(found: Collected) -> dict[int, list[Cell]]:
    cells: dict[int, list[Cell]] = {}
    for cell in found.cells:
        cells.setdefault(cell.bucket, []).append(cell)
    return cells


def _evidence(judgement: Judgement) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(getattr(one, name) for name in show.SERIES) for one in judgement.guards)


def _is_kept(standing: Standing) -> bool:
    """Return whether the level that stands is a new baseline, which is nobody's to lower."""
    return standing.state.phase is Phase.PROMOTED


async def _read(dial: Dial) -> tuple[float | None, str]:
    """Return the level in force and what went wrong; a dial that is gone is at its safe level."""
    try:
        return await dial.read(), ""
    except Missing:
        return dial.safe, ""
    except InprodError as error:
        return None, f"the dial cannot be read: {error.message}"


async def _turn(
    standing: Standing, dial: Dial, in_force: float | None
) -> tuple[float | None, str, bool]:
    """Turn the dial where it should be; return what is in force, what failed, and whether it moved.

    Nobody's lowering is undone: only a running rollout turns its dial up.
    """
    state, plan = standing.state, standing.plan
    is_leased = plan.on_silence is OnSilence.ZERO
    is_promoted = _is_kept(standing)
    if in_force is None or (is_promoted and not is_leased) or standing.settled:
        return in_force, "", False
    is_over = in_force > state.level + LEVEL_TOLERANCE
    is_under = state.phase is Phase.RUNNING and in_force < state.level - LEVEL_TOLERANCE
    drops_lease = is_promoted and is_at(in_force, state.level)
    if not (drops_lease if is_promoted else is_over or is_under):
        return in_force, "", False
    lease_s = LEASE_S if is_leased and state.phase not in ENDED else None
    try:
        await dial.turn(state.level, lease_s)
    except Missing:
        return dial.safe, "", False
    except InprodError as error:
        return in_force, f"the dial could not be turned to {state.level:g}: {error.message}", False
    now_in_force, trouble = await _read(dial)
    return now_in_force, trouble, not drops_lease and not is_promoted
