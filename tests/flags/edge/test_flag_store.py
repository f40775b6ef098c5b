from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from inprod.audit import Actor
from inprod.errors import Conflict, Invalid, Missing
from inprod.flags.change import SetAbout, SetEnabled, SetPercent, apply
from inprod.flags.edge.dial import FlagDial
from inprod.flags.edge.store import FlagStore, Stored
from support.flag_server import ACTOR, book_in, flag_of

OTHER = Actor(name="runner", origin="rollout x")


def put(store: FlagStore, flag, revision: int | None = None) -> Stored:
    return store.commit(flag, expected_revision=revision, actor=ACTOR, reason="why")


def test_a_flag_is_stored_read_changed_and_archived_with_its_history(tmp_path: Path) -> None:
    book = book_in(tmp_path)
    first = put(book.store, flag_of())
    assert (first.revision, book.store.revision()) == (1, 1)
    assert book.store.get("new-checkout") == first
    changed = apply(first.flag, SetAbout(owner="ann"))
    second = put(book.store, changed, first.revision)
    assert second.revision == 2
    book.store.archive("new-checkout", expected_revision=2, actor=OTHER, reason="done")
    with pytest.raises(Missing):
        book.store.get("new-checkout")
    assert book.store.list() == ()
    past = book.store.history("new-checkout")
    assert [one.revision for one in past] == [3, 2, 1]
    assert [one.flag for one in past] == [None, changed, flag_of()]
    assert past[1].sentences == ("`owner` goes from `` to `ann`.",)
    assert (past[0].actor, past[0].origin, past[0].reason) == ("runner", "rollout x", "done")
    assert [entry.what for entry in book.entries] == ["flag.create", "flag.change", "flag.archive"]
    again = put(book.store, flag_of())  # the key may be used again
    assert again.revision == 4
    reopened = book_in(tmp_path).store
    assert reopened.get("new-checkout") == again
    assert reopened.revision() == 4


def test_a_commit_names_the_revision_it_was_made_on(tmp_path: Path) -> None:
    store = book_in(tmp_path).store
    with pytest.raises(Missing):
        put(store, flag_of(), 1)
    put(store, flag_of())
    with pytest.raises(Conflict, match="at revision `1`"):
        put(store, flag_of())
    changed = apply(flag_of(), SetAbout(owner="ann"))
    with pytest.raises(Conflict, match="at revision `1`, not `7`"):
        put(store, changed, 7)
    assert store.revision() == 1


def test_a_commit_that_changes_nothing_is_none(tmp_path: Path) -> None:
    book = book_in(tmp_path)
    stored = put(book.store, flag_of())
    assert put(book.store, flag_of(), stored.revision) == stored
    assert book.store.revision() == 1
    assert len(book.entries) == len(book.store.history("new-checkout")) == 1


def test_an_undeclared_environment_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    store = book_in(tmp_path).store
    with pytest.raises(Missing) as caught:
        put(store, flag_of(environments={"produdction": {}}))
    assert "Did you mean `production`?" in str(caught.value)
    assert store.revision() == 0


def test_a_failing_audit_undoes_the_commit(tmp_path: Path) -> None:
    book = book_in(tmp_path)

    def refuse(_connection: object, _entry: object) -> None:
        raise OSError("the audit is full")

    store = FlagStore(
        book.store._engine,
        record=refuse,
        environments=lambda: {"production", "staging"},
        now_ns=lambda: 1,
        live=book.live,
    )
    with pytest.raises(OSError, match="full"):
        put(store, flag_of())
    assert (store.revision(), store.list(), store.latest) == (0, (), 0)


def test_concurrent_commits_lose_nothing(tmp_path: Path) -> None:
    store = book_in(tmp_path).store
    workers, each = 6, 8

    def work(number: int) -> int:
        conflicts = 0
        key = f"own-{number}"
        for turn in range(each):
            revision = None if turn == 0 else store.get(key).revision
            put(store, flag_of(key=key, owner=f"turn {turn}"), revision)
            for _ in range(200):
                shared = store.get("shared")
                count = int(shared.flag.owner) + 1
                try:
                    put(store, apply(shared.flag, SetAbout(owner=str(count))), shared.revision)
                    break
                except Conflict:
                    conflicts += 1
            else:
                raise AssertionError("never got through")
        return conflicts

    put(store, flag_of(key="shared", owner="0"))
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    assert store.get("shared").flag.owner == str(workers * each)
    assert store.revision() == 1 + 2 * workers * each
    revisions = [
        past.revision for stored in store.list() for past in store.history(stored.flag.key)
    ]
    assert sorted(revisions) == list(range(1, store.revision() + 1))


def test_every_commit_is_published_in_order(tmp_path: Path) -> None:
    book = book_in(tmp_path)

    async def listen() -> list[int]:
        async with book.live.listen("flags") as listener:

            def work(number: int) -> None:
                for turn in range(5):
                    put(book.store, flag_of(key=f"k-{number}-{turn}"))

            async with anyio.create_task_group() as group:
                for number in range(4):
                    group.start_soon(anyio.to_thread.run_sync, work, number)
            messages = [await listener.next(5.0) for _ in range(20)]
        return [message.payload["revision"] for message in messages]

    assert anyio.run(listen) == list(range(1, 21))


def test_a_dial_turns_the_percent_and_retries_when_others_change_the_flag(tmp_path: Path) -> None:
    book = book_in(tmp_path)
    put(book.store, flag_of())
    dial = FlagDial(book.store, "production", "new-checkout", "beta", "on", OTHER)

    async def story() -> None:
        assert (dial.name, dial.unit, dial.safe) == ("flag/new-checkout", "%", 0.0)
        assert await dial.read() == 30.0
        await dial.turn(5.0, None)
        assert await dial.read() == 5.0
        revision = book.store.revision()
        await dial.turn(5.0, None)  # idempotent
        assert book.store.revision() == revision
        async with anyio.create_task_group() as group:
            for owner in ("a", "b", "c"):
                group.start_soon(
                    anyio.to_thread.run_sync, book.change, "new-checkout", SetAbout(owner=owner)
                )
            group.start_soon(dial.turn, 50.0, None)
        assert await dial.read() == 50.0
        await dial.turn(60.0, 15.0)
        split = book.store.get("new-checkout").flag.environments["production"].rules[0].split
        assert (split.percent, split.lease_s, split.salt) == (60.0, 15.0, "s1")
        await dial.turn(0.0, 15.0)
        split = book.store.get("new-checkout").flag.environments["production"].rules[0].split
        assert split.lease_s is None
        book.percent(40)
        book.change("new-checkout", SetEnabled(environment="production", enabled=False))
        assert await dial.read() == 0.0

    anyio.run(story)
    assert book.entries[1].actor == "runner"


def test_a_dial_of_what_is_not_there_says_so(tmp_path: Path) -> None:
    book = book_in(tmp_path)
    put(book.store, flag_of())
    for rule, treatment, kind in (("bata", "on", Missing), ("beta", "om", Invalid)):
        dial = FlagDial(book.store, "production", "new-checkout", rule, treatment, OTHER)
        with pytest.raises(kind):
            anyio.run(dial.turn, 5.0, None)


def test_salts_are_minted_once_and_survive_another_write(tmp_path: Path) -> None:
    store = book_in(tmp_path).store
    bare = {"control": "off", "treatments": [{"variant": "on"}]}
    flag = flag_of(environments={"production": {"rules": [{"id": "r", "split": bare}]}})
    first = put(store, flag)
    salt = first.flag.environments["production"].rules[0].split.salt
    assert len(salt) == 16
    assert put(store, flag, first.revision) == first
    turned = SetPercent(environment="production", rule="r", percent=9.0)
    second = put(store, apply(flag, turned), first.revision)
    assert second.flag.environments["production"].rules[0].split.salt == salt
