"""Measures what a flag costs: native, through OpenFeature, beside LaunchDarkly; and propagation.

The workload of the flags anchor: 200 flags; a boolean one; `country in {US, CA, GB}`, then a 30 %
split by user; 1,000 users with a key and five attributes. Thread CPU time, rounds interleaved,
medians; ratios are of one run. Run it as `python tests/bench/bench_flags.py [--json]`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import anyio
import ldclient
from ldclient.config import Config
from ldclient.integrations import Files
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.provider.no_op_provider import NoOpProvider
from starlette.requests import Request

import inprod
from inprod.endpoint import Role
from inprod.flags.edge.ofrep import OfrepApi
from inprod.grant import Grant
from inprod.sdk.client import connect
from inprod.sdk.openfeature import InprodProvider
from inprod.sdk.snapshot import Exposures, Snapshot
from support.flag_server import CHECKOUT, book_in, flag_of, serving, until

FLAGS, USERS, ROUNDS, LOOPS = 200, 1_000, 15, 5
CHANGES = 200
RATIO = "openfeature_over_no_op"
KEY = "flag-100"


def offline_file(folder: Path) -> Path:
    """Return a file with 200 flags."""
    flags = {f"flag-{n}": {**CHECKOUT, "key": f"flag-{n}"} for n in range(FLAGS)}
    path = folder / "flags.json"
    path.write_text(json.dumps({"environment": "production", "flags": flags}))
    return path


def launchdarkly_file(folder: Path) -> Path:
    """Return a file with the same flags in LaunchDarkly's own form."""
    weights = [{"variation": 0, "weight": 30_000}, {"variation": 1, "weight": 70_000}]
    clause = {"attribute": "country", "op": "in", "values": ["US", "CA", "GB"]}
    flags = {
        f"flag-{n}": {
            "key": f"flag-{n}",
            "version": 1,
            "on": True,
            "variations": [True, False],
            "rules": [{"id": "beta", "clauses": [clause], "rollout": {"variations": weights}}],
            "fallthrough": {"variation": 1},
            "offVariation": 1,
            "salt": "s1",
        }
        for n in range(FLAGS)
    }
    path = folder / "launchdarkly.json"
    path.write_text(json.dumps({"flags": flags}))
    return path


def people() -> list[dict[str, object]]:
    """Return the users' attributes."""
    return [
        {
            "user.id": f"user-{n}",
            "country": ("US", "CA", "GB")[n % 3],
            "plan": "pro",
            "age": n % 80,
            "beta": n % 2 == 0,
            "service.version": "1.2.3",
        }
        for n in range(USERS)
    ]


def thread_ns(work: Callable[[], int], evaluations: int) -> float:
    """Return the nanoseconds of CPU per evaluation."""
    started = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - started) / evaluations


def contenders(folder: Path) -> dict[str, Callable[[], int]]:
    """Return what is measured, by name; each counts how many were true."""
    inprod.init(offline_file=offline_file(folder))
    users = people()
    contexts = [
        EvaluationContext(str(user["user.id"]), {k: v for k, v in user.items() if k != "user.id"})
        for user in users
    ]
    ours = api.get_client("ours")
    api.set_provider_and_wait(InprodProvider(inprod.client()), "ours")
    nothing = api.get_client("nothing")
    api.set_provider_and_wait(NoOpProvider(), "nothing")
    source = Files.new_data_source(paths=[str(launchdarkly_file(folder))])
    launchdarkly = ldclient.LDClient(
        Config("sdk-key", update_processor_class=source, send_events=False)
    )
    assert until(launchdarkly.is_initialized)
    ld_users = [
        ldclient.Context.builder(str(user["user.id"]))
        .set("country", user["country"])
        .set("plan", user["plan"])
        .set("age", user["age"])
        .set("beta", user["beta"])
        .set("version", "1.2.3")
        .build()
        for user in users
    ]
    direct = inprod.client().flag

    def native() -> int:
        with inprod.event("request"):
            return sum(inprod.flag(KEY, False, user) for _ in range(LOOPS) for user in users)

    def native_client() -> int:
        with inprod.event("request"):
            return sum(direct(KEY, False, user) for _ in range(LOOPS) for user in users)

    def details() -> int:
        found = inprod.details
        return sum(found(KEY, False, u).value for _ in range(LOOPS) for u in users)

    def ld() -> int:
        asked = launchdarkly.variation
        return sum(asked(KEY, user, False) for _ in range(LOOPS) for user in ld_users)

    def through() -> int:
        asked = ours.get_boolean_value
        return sum(asked(KEY, False, one) for _ in range(LOOPS) for one in contexts)

    def no_op() -> int:
        asked = nothing.get_boolean_value
        return sum(asked(KEY, False, one) for _ in range(LOOPS) for one in contexts)

    return {
        "native": native,
        "native_client": native_client,
        "details": details,
        "launchdarkly": ld,
        "openfeature": through,
        "openfeature_no_op": no_op,
    }


def costs(folder: Path) -> dict[str, float]:
    """Return nanoseconds of CPU per evaluation, medians of interleaved rounds."""
    found = contenders(folder)
    for name, work in found.items():
        share = work() / (LOOPS * USERS)
        expected = 0.0 if name == "openfeature_no_op" else 0.3
        assert abs(share - expected) < 0.04, f"{name} served {share:.1%}"
    rounds: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, work in found.items():
            rounds[name].append(thread_ns(work, LOOPS * USERS))
    pairs = zip(rounds["openfeature"], rounds["openfeature_no_op"], strict=True)
    ratio = statistics.median(ours / nothing for ours, nothing in pairs)
    return {**{name: statistics.median(times) for name, times in rounds.items()}, RATIO: ratio}


def propagation(folder: Path) -> dict[str, float]:
    """Return milliseconds from "the commit was accepted" to "a client evaluates it"."""
    book = book_in(folder)
    book.commit(flag_of())
    user = {"user.id": "u", "country": "US"}
    took: list[float] = []
    with serving(book) as url:
        client = connect(url=url, environment="production", cache_dir="")
        assert client.wait_ready(10)
        for number in range(CHANGES):
            wanted = number % 2 == 0
            started = time.perf_counter()
            book.percent(100 if wanted else 0)
            accepted = time.perf_counter()
            while client.flag("new-checkout", not wanted, user) is not wanted:
                assert time.perf_counter() - accepted < 5, "the change never came"
                time.sleep(0.0001)
            took.append((time.perf_counter() - accepted) * 1000)
            assert accepted > started
        client.close()
    took.sort()
    return {"ms_p50": took[len(took) // 2], "ms_p99": took[int(len(took) * 0.99) - 1]}


def at_ten_thousand() -> dict[str, float]:
    """Return milliseconds of CPU to load 10,000 flags, to take in one change, to use one."""
    flags = {f"flag-{n}": {**CHECKOUT, "key": f"flag-{n}"} for n in range(10_000)}
    body = json.dumps({"environment": "production", "revision": 1, "flags": flags})
    started = time.thread_time_ns()
    snapshot = Snapshot.read(json.loads(body), Exposures())
    snapshot.leases()
    loaded = time.thread_time_ns()
    newer = snapshot.patched("flag-7", 2, {**CHECKOUT, "key": "flag-7", "owner": "x"})
    assert newer.changed_since(snapshot) == ["flag-7"]
    patched = time.thread_time_ns()
    newer.flags["flag-7"]({}, None)
    used = time.thread_time_ns()
    return {
        "load_10000_ms": (loaded - started) / 1e6,
        "patch_at_10000_ms": (patched - loaded) / 1e6,
        "first_use_ms": (used - patched) / 1e6,
    }


def bulk(folder: Path) -> dict[str, float]:
    """Return microseconds of CPU for an OFREP bulk answer of 200 flags, and for its 304."""
    book = book_in(folder)
    for n in range(FLAGS):
        book.commit(flag_of(key=f"flag-{n}"))
    handler = OfrepApi(store=book.store, environments=lambda: book.environments)
    body = json.dumps({"context": people()[0]}).encode()

    def request(headers: list[tuple[bytes, bytes]]) -> Request:
        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": body}

        scope = {
            "type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers,
            "state": {"grant": Grant(name="bench", role=Role.SDK, environments=("production",))},
        }  # fmt: skip
        return Request(scope, receive)

    async def measure() -> dict[str, float]:
        first = await handler.evaluate_all(request([]))
        known = [(b"if-none-match", first.headers["etag"].encode())]
        found: dict[str, float] = {}
        for name, headers, status in (("bulk_200_us", [], 200), ("bulk_304_us", known, 304)):
            started = time.thread_time_ns()
            for _ in range(200):
                assert (await handler.evaluate_all(request(headers))).status_code == status
            found[name] = (time.thread_time_ns() - started) / 200 / 1000
        return found

    return anyio.run(measure)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory() as name:
        cost = costs(Path(name))
        spread = propagation(Path(name))
        (Path(name) / "bulk").mkdir()
        ofrep = bulk(Path(name) / "bulk")
    figures = {
        **{f"{name}_ns": round(value) for name, value in cost.items() if name != RATIO},
        **{name: round(value, 1) for name, value in ofrep.items()},
        **{name: round(value, 2) for name, value in at_ten_thousand().items()},
        "native_over_launchdarkly": round(cost["native"] / cost["launchdarkly"], 4),
        RATIO: round(cost[RATIO], 3),
        "propagation_ms_p50": round(spread["ms_p50"], 2),
        "propagation_ms_p99": round(spread["ms_p99"], 2),
    }
    if as_json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:28} {value:>10}")


if __name__ == "__main__":
    main()
