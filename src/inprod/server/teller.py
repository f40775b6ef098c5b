"""Gathers inprod's own events and hands them to the writer once a second, never waiting for it."""

from __future__ import annotations

import logging
from collections import deque
from threading import Lock

import anyio

from inprod.errors import InprodError
from inprod.events.arrow import batch_of
from inprod.events.edge.writer import Writer
from inprod.events.event import Event
from inprod.events.rows import Rows

WAITING_MAX = 2000
PAUSE_S = 1.0
log = logging.getLogger("inprod.server")


class Teller:
    """A bounded list of events; what does not fit is counted and lost, never waited for."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._lock = Lock()
        self._waiting: deque[Event] = deque()
        self.lost = 0

    def tell(self, event: Event) -> None:
        """Take an event, from any thread."""
        with self._lock:
            if len(self._waiting) >= WAITING_MAX:
                self.lost += 1
            else:
                self._waiting.append(event)

    async def run(self) -> None:
        """Hand over what waits, until cancelled."""
        while True:
            await anyio.sleep(PAUSE_S)
            try:
                self.flush()
            except Exception:  # the loop's edge: what inprod says of itself must not stop it
                log.exception("own events were lost")

    def flush(self) -> None:
        """Hand over what waits now."""
        with self._lock:
            events, self._waiting = list(self._waiting), deque()
        if not events:
            return
        try:
            self._writer.submit(batch_of(Rows.of(events)))
        except InprodError as error:
            self.lost += len(events)
            log.warning("own events were lost", extra={"events": len(events), "why": error.code})
