"""A process that stores batches of numbered events and prints each number once it is acknowledged.

python event_ingester.py FOLDER       until it is killed
"""

from __future__ import annotations

import sys
import time

from inprod.events.arrow import batch_of
from inprod.events.edge.store import EventStore
from inprod.events.edge.writer import Bounds, Writer
from inprod.events.event import Event
from inprod.events.rows import Rows

BATCH = 50
SECONDS_MAX = 60


def main(folder: str) -> None:
    store = EventStore.open(f"chdb://{folder}")
    writer = Writer(store, bounds=Bounds(flush_s=0.005))
    number = 0
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        rows = Rows.of(
            Event(time_ns=time.time_ns(), dataset="d", numbers={"batch": number})
            for _ in range(BATCH)
        )
        writer.submit(batch_of(rows)).result(30)
        print(number, flush=True)
        number += 1


if __name__ == "__main__":
    main(sys.argv[1])
