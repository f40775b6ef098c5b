from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from support import event_ingester

COUNT = """
import json, sys
from inprod.events.edge.store import EventStore
from inprod.events.sql import Statement
store = EventStore.open("chdb://" + sys.argv[1])
text = "SELECT toInt64(nattrs['batch']) b, count() FROM events GROUP BY b"
rows = store.read(Statement(text=text))
print(json.dumps(rows))
store.close()
"""


def test_kill_9_loses_no_acknowledged_event_and_leaves_no_partial_batch(tmp_path: Path) -> None:
    folder = str(tmp_path / "events")
    process = subprocess.Popen(
        [sys.executable, event_ingester.__file__, folder], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(30)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout]  # written before it died
    process.stdout.close()
    assert process.wait(10) == -signal.SIGKILL
    counted = subprocess.run(
        [sys.executable, "-c", COUNT, folder], capture_output=True, text=True, check=True
    )
    batches = dict(json.loads(counted.stdout))
    assert set(batches.values()) == {event_ingester.BATCH}
    assert set(acknowledged) <= set(batches)
    assert len(batches) <= len(acknowledged) + 2, "at most what was being told when it died"
