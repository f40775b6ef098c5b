from __future__ import annotations

import json
import multiprocessing
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from inprod.flags.change import SetEnabled
from inprod.sdk.agent import Happening, News
from inprod.sdk.client import Client, connect
from support.flag_server import ACTOR, Book, book_in, flag_of, serving, typed_flags, until

USER = {"user.id": "user-1", "country": "US"}


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = book_in(tmp_path)
    made.commit(flag_of())
    for flag in typed_flags():
        made.commit(flag)
    with serving(made):
        yield made


def ready(url: str, cache: Path | str = "", **options: object) -> Client:
    client = connect(
        url=url, environment="production", service="shop", cache_dir=str(cache), **options
    )
    assert client.wait_ready(10)
    return client


def test_each_kind_of_flag_reaches_the_app_with_its_own_type(book: Book) -> None:
    client = ready(book.url)
    assert client.flag("a-boolean", False) is True
    assert client.flag("a-string", "red") == "blue"
    assert client.flag("a-integer", 0) == 7
    number = client.flag("a-float", 0.5)
    assert (number, type(number)) == (2.0, float)
    found = client.flag("a-object", {})
    assert found == {"limits": [1, 2], "name": "x"}
    found["limits"].append(3)  # the app's own copy
    assert client.flag("a-object", {}) == {"limits": [1, 2], "name": "x"}
    client.close()


def test_a_change_reaches_a_running_client(book: Book) -> None:
    client = ready(book.url)
    everybody = [{"user.id": f"u{number}", "country": "US"} for number in range(50)]
    assert not all(client.flag("new-checkout", False, user) for user in everybody)
    book.percent(100)
    assert until(lambda: all(client.flag("new-checkout", False, user) for user in everybody))
    book.change("new-checkout", SetEnabled(environment="production", enabled=False))
    assert until(lambda: not any(client.flag("new-checkout", False, user) for user in everybody))
    book.store.archive(
        "new-checkout",
        expected_revision=book.store.get("new-checkout").revision,
        actor=ACTOR,
        reason="done",
    )
    assert until(lambda: client.details("new-checkout", True).error == "FLAG_NOT_FOUND")
    client.close()


def test_flags_survive_the_server_and_catch_up_when_it_is_back(book: Book, tmp_path: Path) -> None:
    other = book_in(tmp_path / "..")
    other.commit(flag_of(key="lonely"))
    with serving(other) as url:
        port = int(url.rpartition(":")[2])
        client = ready(url)
        assert client.flag("lonely", True, USER) in (True, False)
    assert until(lambda: not client.status().is_connected)
    before = client.flag("lonely", True, USER)
    assert client.details("lonely", True, USER).reason == "SPLIT"
    assert client.flag("lonely", not before, USER) is before
    other.change("lonely", SetEnabled(environment="production", enabled=False))
    with serving(other, port):
        assert until(lambda: client.details("lonely", True, USER).reason == "DISABLED")
    client.close()


def test_a_client_starts_from_its_cache_when_the_server_is_away(book: Book, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    client = ready(book.url, cache)
    assert until(lambda: list(cache.glob("flags-*.json")))
    client.close()
    (file,) = cache.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    url, closed = book.url, "http://127.0.0.1:9"
    again = connect(url=closed, environment="production", cache_dir=str(cache))
    assert not again.is_ready  # another server's cache is not ours
    again.close()
    body = json.loads(file.read_text())
    assert body["revision"] == 6
    started = connect(url=url, environment="production", cache_dir=str(cache))
    assert started.is_ready  # at once, before anything was heard
    assert started.flag("a-string", "red") == "blue"
    started.close()


def test_a_broken_cache_is_as_if_it_were_not_there(book: Book, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    ready(book.url, cache).close()
    for text in ("", "[]", "{}", '{"flags": 3}', "\x00"):
        for file in cache.iterdir() if cache.exists() else ():
            file.write_text(text)
        client = ready(book.url, cache)
        assert client.flag("a-integer", 0) == 7
        client.close()


def test_the_silence_of_the_server_ends_a_lease(tmp_path: Path) -> None:
    book = book_in(tmp_path)
    book.commit(flag_of())
    with serving(book) as url:
        client = ready(url)
        book.percent(100, lease_s=5.0)
        assert until(lambda: client.flag("new-checkout", False, USER))
    assert client.flag("new-checkout", False, USER)  # the lease still runs
    assert until(lambda: not client.flag("new-checkout", True, USER))
    assert client.details("new-checkout", True, USER).variant == "off"
    with serving(book, int(url.rpartition(":")[2])):
        assert until(lambda: client.flag("new-checkout", False, USER))
    client.close()


def test_a_cached_start_counts_every_lease_as_over(tmp_path: Path) -> None:
    book = book_in(tmp_path)
    book.commit(flag_of())
    book.percent(100, lease_s=3600.0)
    cache = tmp_path / "cache"
    with serving(book) as url:
        client = ready(url, cache)
        assert client.flag("new-checkout", False, USER)
        assert until(lambda: cache.exists() and list(cache.glob("flags-*.json")))
        client.close()
    started = connect(url=url, environment="production", cache_dir=str(cache))
    assert started.details("new-checkout", True, USER).variant == "off"
    started.close()


def test_wide_events_carry_the_flags_and_exposures_are_counted(book: Book) -> None:
    client = ready(book.url)
    with client.event("checkout", user__id="user-1") as event:
        variant = client.details("new-checkout", False, USER).variant
        event["cart.size"] = 3
    with pytest.raises(ZeroDivisionError), client.event("crash"):
        raise ZeroDivisionError("nothing to share")
    for _ in range(41):
        client.flag("new-checkout", False, USER)
    client.flag("nope", False)
    assert client.flush(10)
    sent = {str(event["name"]): event for event in book.events if event["dataset"] == "shop"}
    checkout = sent["checkout"]
    assert checkout["flag.new-checkout"] == variant
    assert checkout["flag.new-checkout.rule"] == "beta"
    assert (checkout["user.id"], checkout["cart.size"]) == ("user-1", 3)
    assert checkout["deployment.environment.name"] == "production"
    assert isinstance(checkout["time"], int)
    assert float(checkout["duration_ms"]) > 0
    assert sent["crash"]["error"] is True
    assert sent["crash"]["exception.type"] == "ZeroDivisionError"
    exposures = [event for event in book.events if event["dataset"] == "inprod.exposures"]
    counts = {str(event["flag"]): event["count"] for event in exposures}
    assert counts == {"new-checkout": 42, "unknown": 1}
    stats = client.status()
    assert (stats.events_dropped, stats.events_rejected, stats.crashes) == (0, 0, 0)
    assert stats.evaluation_errors == 1
    assert stats.events_sent == len(book.events)
    client.close()


def test_a_batch_that_cannot_be_sent_now_is_sent_later(book: Book) -> None:
    book.answers[:] = [503, 429]
    client = ready(book.url)
    for number in range(3):
        with client.event("work", number=number):
            pass
    assert client.flush(20)
    assert [event["number"] for event in book.events] == [0, 1, 2]
    assert client.status().failed_posts == 2
    client.close()


def test_a_batch_that_is_too_large_is_sent_in_halves_and_a_refused_one_is_counted(
    book: Book,
) -> None:
    client = ready(book.url)
    book.answers[:] = [413]
    for number in range(10):
        with client.event("work", number=number):
            pass
    assert client.flush(20)
    assert sorted(event["number"] for event in book.events) == list(range(10))
    book.answers[:] = [400]
    with client.event("refused"):
        pass
    assert client.flush(20)
    assert client.status().events_rejected == 1
    client.close()


def test_what_does_not_fit_the_queue_is_dropped_and_counted() -> None:
    client = connect(url="http://127.0.0.1:9", environment="x", cache_dir="", queue_max=10)
    for _ in range(25):
        with client.event("work"):
            pass
    stats = client.status()
    assert stats.events_recorded + stats.events_dropped == 25
    assert stats.events_dropped >= 5  # the thread may have taken one batch
    client.close(0.1)


def test_news_is_told_and_a_failing_listener_harms_nobody(book: Book) -> None:
    client = ready(book.url)
    heard: list[News] = []

    def bad(_news: News) -> None:
        raise RuntimeError("mine")

    client.listen(bad)
    client.listen(heard.append)
    book.percent(55)
    assert until(lambda: heard)
    assert heard[0] == News(happening=Happening.CHANGED, flags=("new-checkout",))
    client.close()


def _in_child(client: Client, pipe: object) -> None:
    with client.event("child"):
        client.flag("new-checkout", False, USER)
    pipe.send((client.flush(10), os.getpid()))
    pipe.close()


def test_a_forked_child_evaluates_follows_and_sends_on_its_own(book: Book) -> None:
    client = ready(book.url)
    with client.event("parent"):
        client.flag("new-checkout", False, USER)
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    child = context.Process(target=_in_child, args=(client, theirs))
    child.start()
    assert mine.poll(20)
    flushed, pid = mine.recv()
    child.join(10)
    assert flushed
    assert pid != os.getpid()
    assert child.exitcode == 0
    assert client.flush(10)
    book.percent(80)
    assert until(lambda: client.status().revision == book.store.revision())
    names = sorted(str(event["name"]) for event in book.events)
    assert names == ["child", "exposure", "exposure", "parent"]
    counts = [event["count"] for event in book.events if event["name"] == "exposure"]
    assert counts == [1, 1]
    client.close()


def test_a_wrong_environment_keeps_the_default_and_says_so(book: Book) -> None:
    heard: list[News] = []
    client = connect(url=book.url, environment="produdction", cache_dir="")
    client.listen(heard.append)
    assert until(lambda: client.status().failed_connects >= 2)
    assert client.details("new-checkout", True, USER).error == "PROVIDER_NOT_READY"
    assert client.flag("new-checkout", True, USER) is True
    assert any("Did you mean `production`?" in news.message for news in heard)
    client.close(0.1)
