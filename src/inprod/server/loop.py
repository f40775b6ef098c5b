"""The loop that looks at every rollout each tick, in the one process that leads."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

from inprod.errors import Unavailable
from inprod.live import Lagged, Live
from inprod.server.state import Leadership

STUCK_S = 30.0
LEVERS_S = 60.0
log = logging.getLogger("inprod.loop")


class Loop:
    """Calls `tick` every `tick_s` seconds; a failed tick is told and the next one comes anyway.

    A pulled lever does not wait for the tick that is under way: `obey_levers` is called at once.
    """

    def __init__(
        self, tick: Callable[[], Awaitable[object]], *,
        obey_levers: Callable[[], Awaitable[object]], live: Live, leadership: Leadership,
        tick_s: float, told: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self._tick = tick
        self._obey_levers = obey_levers
        self._live = live
        self._leadership = leadership
        self._tick_s = tick_s
        self._told = told
        self._looked_s = time.monotonic()

    async def run(self) -> None:
        """Tick, and watch the levers, until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch_levers)
            while True:
                began = time.monotonic()
                await self._try("rollouts.tick", self._tick)
                self._looked_s = time.monotonic()
                await anyio.sleep(max(0.0, self._tick_s - (self._looked_s - began)))

    async def _watch_levers(self) -> None:
        async with self._live.listen("levers") as listener:
            while True:
                # A lagged listener has missed pulls, and one look obeys them all.
                with suppress(Lagged):
                    if await listener.next(LEVERS_S) is None:
                        continue
                await self._try("rollouts.levers", self._obey_levers)

    async def _try(self, name: str, act: Callable[[], Awaitable[object]]) -> None:
        try:
            if await anyio.to_thread.run_sync(self._leadership.holds):
                await act()
        except Exception as error:  # the loop's edge: told, and tried again
            log.exception("a tick failed")
            self._told(name, f"{type(error).__name__}: {error}")

    def probe(self) -> None:
        """Raise Unavailable when no tick came to its end for `STUCK_S`."""
        silent_s = time.monotonic() - self._looked_s
        if silent_s > STUCK_S + self._tick_s:
            raise Unavailable(
                "loop_stuck", f"no tick of the rollout loop ended for {silent_s:.0f} s"
            )
