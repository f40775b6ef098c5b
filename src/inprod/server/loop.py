"""The loop that looks at every rollout each tick, in the one process that leads."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import anyio

from inprod.errors import Unavailable
from inprod.server.state import Leadership

STUCK_S = 30.0
log = logging.getLogger("inprod.loop")


class Loop:
    """Calls `tick` every `tick_s` seconds; a failed tick is told and the next one comes anyway."""

    def __init__(
        self, tick: Callable[[], Awaitable[object]], *, leadership: Leadership, tick_s: float,
        told: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self._tick = tick
        self._leadership = leadership
        self._tick_s = tick_s
        self._told = told
        self._looked_s = time.monotonic()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            began = time.monotonic()
            try:
                if await anyio.to_thread.run_sync(self._leadership.holds):
                    await self._tick()
            except Exception as error:  # the loop's edge: told, and tried again
                log.exception("a tick failed")
                self._told("rollouts.tick", f"{type(error).__name__}: {error}")
            self._looked_s = time.monotonic()
            await anyio.sleep(max(0.0, self._tick_s - (self._looked_s - began)))

    def probe(self) -> None:
        """Raise Unavailable when no tick came to its end for `STUCK_S`."""
        silent_s = time.monotonic() - self._looked_s
        if silent_s > STUCK_S + self._tick_s:
            raise Unavailable(
                "loop_stuck", f"no tick of the rollout loop ended for {silent_s:.0f} s"
            )
