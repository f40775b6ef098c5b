"""Ingest: OTLP over HTTP into the store, against the engine alone taking the same rows as Arrow.

    python tests/bench/bench_ingest.py [--json] [--spans 200000] [--rounds 3]

Each side is a process of its own on a folder of its own; the figure is spans per CPU-second of that
process, background merges included. The client that sends is not counted. The two sides alternate;
the ratio is the median of the rounds' ratios. Then, once: one inserter of 10k rows at a steady rate
beside one thread that asks what a guard asks, as fast as it is answered.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from inprod.document import read
from inprod.events.arrow import batch_of, stamped
from inprod.events.edge.api import EventApi
from inprod.events.edge.engine import Engine, Limits, address_of
from inprod.events.edge.store import EventStore
from inprod.events.edge.writer import Writer
from inprod.events.intake import Terms
from inprod.events.otlp import traces_from_protobuf
from inprod.events.query import Query
from inprod.events.sql import TABLE, Statement
from support.event_otlp import SpanSpec, protobuf
from support.event_server import application, serving

SPANS_PER_BODY = 512
BODIES = 40
SENDERS = 32
TICKS = os.sysconf("SC_CLK_TCK")
MERGES_S = 3.0
MIXED_S = 20.0
SCRIPT = str(Path(__file__).resolve())
GUARD_QUERY = {
    "breakdowns": ["flag.new-checkout"],
    "filters": [{"column": "flag.new-checkout", "op": "exists"}],
    "calculations": [{"op": "COUNT"}, {"op": "COUNT_DISTINCT", "column": "user.id"},
                     {"op": "P99", "column": "duration_ms"}],
    "time_range": 600,
}  # fmt: skip
# What docs/reference/performance.md advises for the server's environment.
ENVIRONMENT = {
    **os.environ,
    "MALLOC_TRIM_THRESHOLD_": "536870912",
    "MALLOC_MMAP_THRESHOLD_": "536870912",
    "MALLOC_TOP_PAD_": "134217728",
}
PROTOBUF = {"Content-Type": "application/x-protobuf"}


def body(number: int) -> bytes:
    """Return one request: 512 spans of 25 attributes under 12 of the resource."""
    resource = {"service.name": "shop", "service.version": f"1.{number % 3}",
                "deployment.environment.name": "production"}  # fmt: skip
    resource |= {f"resource.attribute.{i}": f"value {i}" for i in range(9)}
    now_ns = time.time_ns()
    specs: list[SpanSpec] = []
    for i in range(SPANS_PER_BODY):
        unique = number * SPANS_PER_BODY + i
        texts = {f"app.text.{k}": f"{k} value {unique % (7 + k * 50)}" for k in range(12)}
        texts |= {"user.id": f"u{unique % 5000}", "flag.new-checkout": "on" if i % 20 else "off",
                  "http.route": f"/route/{i % 30}"}  # fmt: skip
        counts = {f"app.count.{k}": unique % (k * 100 + 10) for k in range(4)}
        counts["http.response.status_code"] = 500 if i % 100 == 0 else 200
        floats = {f"app.share.{k}": unique / 7 for k in range(3)}
        specs.append(
            SpanSpec(
                name=f"GET /route/{i % 30}",
                trace_id=unique.to_bytes(8, "big") * 2,
                span_id=(unique + 1).to_bytes(8, "big"),
                start_ns=now_ns - unique * 1000,
                end_ns=now_ns + (unique % 997) * 10**5,
                status=2 if i % 100 == 0 else 0,
                attributes=texts | counts | floats | {"cached": i % 2 == 0, "tags": ["a", "b"]},
            )
        )
    return protobuf(specs, resource=resource)


def serve(folder: str) -> None:
    """Run server and store, until standard input ends, tuned as the server tunes itself."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    store = EventStore.open(f"chdb://{folder}")
    writer = Writer(store)
    api = EventApi(store=store, writer=writer, environments=lambda: ("production",))
    with serving(application(api)) as url:
        print(url, flush=True)
        sys.stdin.read()
    writer.close()
    store.close()


def engine_alone(folder: str, spans: int) -> None:
    """Insert the same rows as ready Arrow streams of 10k rows; print the CPU seconds it took."""
    terms = Terms.at(time.time_ns(), retain_days=30)
    batches = [batch_of(traces_from_protobuf(body(n), terms).rows) for n in range(BODIES)]
    per_flush = 10_000 // SPANS_PER_BODY + 1
    streams = [
        (
            stamped(
                batches[i : i + per_flush], ingested_ms=time.time_ns() // 10**6, retain_days=30
            ),
            sum(batch.rows for batch in batches[i : i + per_flush]),
        )
        for i in range(0, BODIES, per_flush)
    ]
    EventStore.open(f"chdb://{folder}", readers=1).close()
    engine = Engine(address_of(f"chdb://{folder}"), readers=1)
    began = time.process_time()
    done = 0
    while done < spans:
        for stream, rows in streams:
            # A token of its own, as the store gives, or the engine drops what it has seen before.
            token = {"insert_deduplication_token": uuid.uuid4().hex}
            engine.insert(TABLE, stream, {"async_insert": "0", **token})
            done += rows
    time.sleep(MERGES_S)
    used = time.process_time() - began
    stored = engine.read(Statement(text=f"SELECT count() FROM {TABLE}"), Limits())[0][0]
    assert stored == done, (stored, done)
    print(json.dumps({"spans": done, "cpu_s": used}), flush=True)
    engine.close()


def mixed(folder: str, rate: int) -> None:
    """Insert 10k rows at a time at `rate` rows/s beside guard-like queries; print the times."""
    terms = Terms.at(time.time_ns(), retain_days=30)
    batches = [batch_of(traces_from_protobuf(body(n), terms).rows) for n in range(BODIES)]
    flush = batches[: 10_000 // SPANS_PER_BODY + 1]
    rows = sum(batch.rows for batch in flush)
    store = EventStore.open(f"chdb://{folder}")
    store.insert(flush)
    query = read(Query, GUARD_QUERY)
    stop, asked, inserted = Signal(), list[float](), list[float]()

    def ask() -> None:
        while not stop.is_set():
            began = time.perf_counter()
            store.answer(query)
            asked.append(time.perf_counter() - began)

    thread = Thread(target=ask)
    thread.start()
    began, late = time.perf_counter(), 0
    for number in range(int(MIXED_S * rate / rows)):
        due = began + number * rows / rate
        late += time.perf_counter() - due > rows / rate
        stop.wait(max(due - time.perf_counter(), 0))
        before = time.perf_counter()
        store.insert(flush)
        inserted.append(time.perf_counter() - before)
    reached = len(inserted) * rows / (time.perf_counter() - began)
    stop.set()
    thread.join()
    store.close()
    figures = {
        "insert_rows_per_s_wanted": rate,
        "insert_rows_per_s_reached": round(reached),
        "insert_batches": len(inserted),
        "insert_batches_late": late,
        "guard_queries": len(asked),
    }
    for name, times in (("insert", inserted), ("guard_query", asked)):
        figures[f"{name}_ms_p50"] = round(statistics.median(times) * 1e3)
        figures[f"{name}_ms_p95"] = round(percentile(times, 0.95) * 1e3)
        figures[f"{name}_ms_max"] = round(max(times) * 1e3)
    print(json.dumps(figures), flush=True)


def cpu_s(pid: int) -> float:
    """Return user and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def send(url: str, bodies: list[bytes], spans: int) -> list[float]:
    """Post the bodies, several at a time, until `spans` are acknowledged; return the seconds."""

    def one(number: int) -> float:
        began = time.perf_counter()
        answer = http.post("/v1/traces", content=bodies[number % BODIES], headers=PROTOBUF)
        assert answer.status_code == 200, answer.text
        return time.perf_counter() - began

    limits = httpx.Limits(max_connections=SENDERS)
    with (
        httpx.Client(base_url=url, timeout=60, limits=limits) as http,
        ThreadPoolExecutor(SENDERS) as pool,
    ):
        return list(pool.map(one, range(spans // SPANS_PER_BODY)))


def queryable(url: str) -> list[float]:
    """Return, for single events, the seconds from acknowledged to seen by a query."""
    waits: list[float] = []
    with httpx.Client(base_url=url, timeout=60) as http:
        for number in range(20):
            name = f"probe {number}"
            http.post("/api/events", json={"name": name, "dataset": "probe"}).raise_for_status()
            began = time.perf_counter()
            asked = {"filters": [{"column": "name", "op": "=", "value": name}], "dataset": "probe",
                     "disable_series": True}  # fmt: skip
            while not http.post("/api/query", json=asked).json()["results"][0]["COUNT"]:
                assert time.perf_counter() - began < 10
            waits.append(time.perf_counter() - began)
    return waits


def percentile(values: list[float], share: float) -> float:
    """Return the value under which a share of the values lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def run(mode: str, *options: str) -> dict[str, Any]:
    """Run this script in one of its modes on a fresh folder and return what it prints."""
    with folder() as path:
        done = subprocess.run(
            [sys.executable, SCRIPT, mode, path, *options],
            capture_output=True, text=True, check=True, env=ENVIRONMENT,
        )  # fmt: skip
        return json.loads(done.stdout)


def server(spans: int) -> dict[str, Any]:
    """Send spans to a server of its own; return its CPU, and the times that clients saw."""
    with folder() as path:
        process = subprocess.Popen(
            [sys.executable, SCRIPT, "--serve", path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        bodies = [body(number) for number in range(BODIES)]
        warm = len(send(url, bodies, SPANS_PER_BODY * BODIES))
        before, wall = cpu_s(process.pid), time.perf_counter()
        times = send(url, bodies, spans)
        wall = time.perf_counter() - wall
        time.sleep(MERGES_S)
        used = cpu_s(process.pid) - before
        asked = {"dataset": "shop", "time_range": "1h", "disable_series": True}
        stored = httpx.post(f"{url}/api/query", json=asked, timeout=60).json()["results"][0][
            "COUNT"
        ]
        assert stored == (warm + len(times)) * SPANS_PER_BODY, stored
        waits = queryable(url)
        process.stdin.close()
        process.wait(30)
    sent = len(times) * SPANS_PER_BODY
    return {"spans": sent, "cpu_s": used, "wall_s": wall, "times": times, "waits": waits}


@contextmanager
def folder() -> Generator[str]:
    """Yield a fresh folder that is removed afterwards."""
    path = tempfile.mkdtemp(prefix="inprod-bench-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def measure(spans: int, rounds: int, rate: int) -> dict[str, Any]:
    """Run both sides in turn and return the figures."""
    engines: list[float] = []
    servers: list[float] = []
    for _ in range(rounds):
        alone = run("--engine", "--spans", str(spans))
        engines.append(alone["spans"] / alone["cpu_s"])
        ours = server(spans)
        servers.append(ours["spans"] / ours["cpu_s"])
    ratios = [mine / theirs for mine, theirs in zip(servers, engines, strict=True)]
    times, waits = ours["times"], ours["waits"]
    return {
        "spans_per_cpu_s": round(statistics.median(servers)),
        "engine_alone_spans_per_cpu_s": round(statistics.median(engines)),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(one, 3) for one in ratios],
        "spans_per_s_wall": round(ours["spans"] / ours["wall_s"]),
        "post_ms_p50": round(statistics.median(times) * 1e3, 1),
        "post_ms_p95": round(percentile(times, 0.95) * 1e3, 1),
        "queryable_ms_p50": round(statistics.median(waits) * 1e3, 1),
        "queryable_ms_max": round(max(waits) * 1e3, 1),
        **run("--mixed", "--rate", str(rate)),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--spans", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=25_000, help="rows/s of the steady inserter")
    parser.add_argument("--serve", metavar="FOLDER")
    parser.add_argument("--mixed", metavar="FOLDER")
    parser.add_argument("--engine", metavar="FOLDER")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
    elif options.engine:
        engine_alone(options.engine, options.spans)
    elif options.mixed:
        mixed(options.mixed, options.rate)
    else:
        figures = measure(options.spans, options.rounds, options.rate)
        print(json.dumps(figures) if options.json else "\n".join(
            f"{name:32} {value}" for name, value in figures.items()
        ))  # fmt: skip


if __name__ == "__main__":
    main()
