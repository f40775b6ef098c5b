from __future__ import annotations

import asyncio
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import inprod
from inprod.errors import Invalid
from inprod.sdk import disk
from inprod.sdk.client import connect
from inprod.sdk.counter import Counter
from inprod.sdk.outbox import Outbox, encode
from inprod.sdk.snapshot import Exposures, Snapshot
from inprod.sdk.wire import Dechunker, Sse, SseParser
from support.flag_server import CHECKOUT

USER = {"user.id": "user-1", "country": "US"}
LEASED = {**CHECKOUT["environments"]["production"]["rules"][0]["split"], "lease_s": 15}
OBJECT = {
    "key": "limits", "kind": "object", "variants": {"v": {"a": [1]}}, "default": "v", "off": "v",
    "environments": {"production": {}},
}  # fmt: skip


def offline(tmp_path: Path, **flags: object):
    file = tmp_path / "flags.json"
    body = {"environment": "production", "flags": {"new-checkout": CHECKOUT, **flags}}
    file.write_text(json.dumps(body))
    return connect(offline_file=file)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(places=st.lists(st.integers(0, 10_000), max_size=12))
def test_a_stream_reads_the_same_however_it_is_cut(places: list[int]) -> None:
    plain = (
        b': hello\n\nevent: put\ndata: {"a":\ndata: 1}\n\n'
        b"event: ping\r\ndata: {}\r\n\r\ndata:x\n\nevent: none\n\n"
    )
    pieces = [plain[:7], plain[7:30], plain[30:]]
    chunked = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(one), one) for one in pieces)
    dechunk, parser = Dechunker(), SseParser()
    events = [one for part in cut(chunked, places) for one in parser.feed(dechunk.feed(part))]
    assert events == [
        Sse(event="put", data='{"a":\n1}'),
        Sse(event="ping", data="{}"),
        Sse(event="message", data="x"),
    ]
    with pytest.raises(EOFError):
        dechunk.feed(b"0\r\n\r\n")


def test_a_last_chunk_in_the_same_piece_loses_nothing() -> None:
    dechunk = Dechunker()
    assert dechunk.feed(b"3\r\nabc\r\n0\r\n\r\n") == b"abc"
    with pytest.raises(EOFError):
        dechunk.feed(b"")


def test_a_counter_loses_no_increment_between_threads() -> None:
    counter = Counter()

    def work(_: int) -> None:
        for _ in range(20_000):
            counter.tick()

    taken = 0
    with ThreadPoolExecutor(8) as pool:
        running = pool.map(work, range(8))
        for _ in range(50):
            taken += counter.take()
        list(running)
    assert taken + counter.take() == counter.total() == 160_000


def test_exposures_are_exact_between_threads(tmp_path: Path) -> None:
    client = offline(tmp_path)

    def work(_: int) -> None:
        for _ in range(5_000):
            client.flag("new-checkout", False, USER)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert dict(client._exposures.take()) == {("new-checkout", "off", "beta", "SPLIT", ""): 30_000}


class Evil(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparing")

    def __hash__(self) -> int:
        raise RuntimeError("no hashing")


@pytest.mark.parametrize(
    "context",
    [object(), 3, "text", [1], {"country": Evil("US")}, {"country": [], "user.id": {}},
     {"country": "US", "user.id": "\ud800"}, {"country": "US", "user.id": b"x"}],
)  # fmt: skip
def test_nothing_that_an_app_passes_makes_a_flag_raise(tmp_path: Path, context: object) -> None:
    client = offline(tmp_path)
    assert client.flag("new-checkout", True, context) in (True, False)
    client.details("new-checkout", True, context)
    for key in (None, 3, [], "\ud800", "x" * 10_000):
        assert client.flag(key, "mine", context) == "mine"
    assert client.status().evaluation_errors >= 5


def test_a_value_of_another_type_than_the_default_is_a_typed_error(tmp_path: Path) -> None:
    client = offline(tmp_path, limits=OBJECT)
    assert client.details("new-checkout", "x", USER).error == "TYPE_MISMATCH"
    assert client.flag("new-checkout", 1, USER) == 1
    assert client.details("limits", 3).error == "TYPE_MISMATCH"
    assert client.flag("limits", None) == {"a": [1]}
    assert client.flag("new-checkout", None, USER) is False
    assert not [name for name, _ in client._exposures.take() if name[3] == "UNKNOWN"]


def test_keywords_are_attributes_with_dots_for_double_underscores(tmp_path: Path) -> None:
    client = offline(tmp_path)
    plain = client.details("new-checkout", True, USER)
    assert client.details("new-checkout", True, country="US", user__id="user-1") == plain
    assert (
        client.details("new-checkout", True, {"country": "FR"}, country="US", user__id="user-1")
        == plain
    )
    assert client.details("new-checkout", True, country="FR").reason == "DEFAULT"


def test_a_flag_from_a_newer_server_fails_alone(tmp_path: Path) -> None:
    newer = {**CHECKOUT, "kind": "quaternion"}
    extra = {**CHECKOUT, "key": "extra", "prerequisites": ["x"]}
    client = offline(tmp_path, newer=newer, extra=extra)
    assert client.details("newer", True, USER).error == "PARSE_ERROR"
    assert client.details("extra", True, USER).reason == "SPLIT"
    assert client.details("new-checkout", True, USER).reason == "SPLIT"


def test_flags_follow_the_event_through_tasks_and_into_the_one_around_it(tmp_path: Path) -> None:
    client = offline(tmp_path, limits=OBJECT)
    told: list[dict[str, object]] = []
    client._record = told.append

    async def one(number: int) -> None:
        with client.event("task", number=number):
            await asyncio.sleep(0)
            if number % 2:
                client.flag("new-checkout", False, USER)

    async def story() -> None:
        with client.event("request"):
            client.flag("limits", {})
            await asyncio.gather(*(one(number) for number in range(4)))

    asyncio.run(story())
    seen = {
        (event["name"], event["attributes"].get("number")): {
            name for name in event["attributes"] if name.startswith("flag.")
        }
        for event in told
    }
    both = {"flag.limits", "flag.new-checkout", "flag.new-checkout.rule"}
    assert seen[("task", 0)] == {"flag.limits"}
    assert seen[("task", 1)] == seen[("request", None)] == both


def test_an_old_patch_never_undoes_a_newer_one() -> None:
    snapshot = Snapshot.read({"revision": 3, "flags": {"a": CHECKOUT}}, Exposures())
    newer = snapshot.patched("a", 5, None)
    assert "a" not in newer.plain
    assert newer.patched("a", 4, CHECKOUT) is newer
    assert newer.changed_since(snapshot) == ["a"]


def test_a_patch_keeps_what_was_compiled_and_knows_the_leases() -> None:
    snapshot = Snapshot.read(
        {"environment": "production", "revision": 1, "flags": {"a": CHECKOUT, "b": CHECKOUT}},
        Exposures(),
    )
    kept, replaced = snapshot.flags["a"], snapshot.flags["b"]
    rules = [{"id": "beta", "split": LEASED}]
    leased = {**CHECKOUT, "environments": {"production": {"rules": rules}}}
    newer = snapshot.patched("b", 2, leased)
    assert newer.flags["a"] is kept
    assert newer.flags["b"] is not replaced
    assert (snapshot.leases(), newer.leases()) == ({}, {"b": (15.0,)})
    assert newer.patched("b", 3, None).leases() == {}


@pytest.mark.parametrize("body", [None, [], {}, {"flags": []}])
def test_what_is_not_a_snapshot_is_refused(body: object) -> None:
    with pytest.raises(Invalid):
        Snapshot.read(body, Exposures())


def test_events_are_written_flat_whatever_they_hold() -> None:
    event = {
        "time_ns": 1_700_000_000_123_456_789, "name": "x", "dataset": "d", "duration_ns": 1_500_000,
        "attributes": {"a": object(), "b": {1: {2}}, ("t",): 1, "c": "\ud800", "name": "mine"},
    }  # fmt: skip
    (plain,) = json.loads(encode([event], {"service.name": "s", "a": 1}))
    assert (plain["time"], plain["name"], plain["duration_ms"]) == (
        1_700_000_000_123_456_789,
        "x",
        1.5,
    )
    assert plain["service.name"] == "s"


def test_an_outbox_never_grows_beyond_its_limit() -> None:
    outbox = Outbox(3)
    kept = [outbox.put({"n": number}) for number in range(5)]
    assert kept == [True, True, True, False, False]
    assert (outbox.dropped.total(), outbox.recorded.total(), len(outbox)) == (2, 3, 3)
    taken = outbox.take()
    outbox.give_back(taken)
    assert outbox.take() == taken


def test_saving_replaces_the_file_whole(tmp_path: Path) -> None:
    path = disk.place(str(tmp_path / "c"), "http://x", "production")
    assert path is not None
    disk.save(path, {"a": 1})
    disk.save(path, {"a": 2})
    assert disk.load(path) == {"a": 2}
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert path != disk.place(str(tmp_path / "c"), "http://x", "staging")
    assert disk.place("", "http://x", "production") is None


def test_before_init_every_flag_is_the_default_and_nothing_fails() -> None:
    assert inprod.flag("anything", 7) == 7
    assert inprod.details("anything", 7).error == "PROVIDER_NOT_READY"
    with inprod.event("unit", user__id="u"):
        pass
    assert inprod.flush()
    assert not inprod.status().is_ready
    inprod.close()
