from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from inprod import document
from support.flag_server import ACTOR, CHECKOUT, RULE, Book, book_in, flag_of, serving


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = book_in(tmp_path)
    with serving(made):
        yield made


@pytest.fixture
def http(book: Book) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=book.url) as client:
        yield client


def test_a_flag_is_created_replaced_and_archived_over_http(http: httpx.Client) -> None:
    made = http.post("/api/flags", json=CHECKOUT, params={"reason": "first"})
    assert (made.status_code, made.json()["revision"]) == (201, 1)
    assert http.post("/api/flags", json=CHECKOUT).status_code == 409
    assert http.get("/api/flags/new-checkout").json() == made.json()
    assert http.get("/api/flags").json()["flags"] == [made.json()]
    put = http.put(
        "/api/flags/new-checkout", params={"revision": 1}, json={**CHECKOUT, "owner": "ann"}
    )
    assert put.json()["flag"]["owner"] == "ann"
    stale = http.put("/api/flags/new-checkout", params={"revision": 1}, json=CHECKOUT)
    assert (stale.status_code, stale.json()["error"]["code"]) == (409, "revision_changed")
    assert http.put("/api/flags/new-checkout", json=CHECKOUT).status_code == 400
    assert http.delete("/api/flags/new-checkout", params={"revision": 2}).status_code == 204
    assert http.get("/api/flags/new-checkout").status_code == 404
    past = http.get("/api/flags/new-checkout/history").json()["history"]
    assert [one["reason"] for one in past] == ["", "", "first"]
    assert http.get("/api/flags/nope/history").status_code == 404


def test_named_changes_are_made_together_or_not_at_all(book: Book, http: httpx.Client) -> None:
    book.commit(flag_of())
    percent = {
        "change": "set_percent",
        "environment": "production",
        "rule": "beta",
        "percent": "5%",
    }
    url = "/api/flags/new-checkout/changes"
    done = http.post(url, json={"changes": [percent], "reason": "step 1"}).json()
    assert done["sentences"] == ["In `production`: rule `beta` goes from 30 % to 5 %."]
    bad = {**percent, "rule": "bata"}
    refused = http.post(url, json={"changes": [{**percent, "percent": 7}, bad]})
    assert refused.status_code == 404
    assert "Did you mean `beta`?" in refused.json()["error"]["hint"]
    assert book.store.get("new-checkout").revision == done["revision"]
    stale = http.post(url, json={"changes": [percent], "expected_revision": 1})
    assert stale.status_code == 409
    for body in ({"changes": []}, {"changes": [{"change": "x"}]}, {"changes": "x"}, []):
        assert http.post(url, json=body).status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        (b"{", 400, ""),
        (b"[]", 400, "$"),
        (json.dumps({**CHECKOUT, "varaints": {}}).encode(), 400, "$.varaints"),
        (json.dumps({**CHECKOUT, "default": "x"}).encode(), 400, "$.default"),
        (b"x" * 1_000_001, 413, ""),
        (
            json.dumps({**CHECKOUT, "environments": {"produdction": {}}}).encode(), 404,
            "environments.produdction",
        ),
    ],
)  # fmt: skip
def test_a_bad_document_is_refused_and_nothing_is_stored(
    book: Book, http: httpx.Client, body: bytes, status: int, where: str
) -> None:
    answer = http.post("/api/flags", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["where"] == where
    assert book.store.revision() == 0


def test_the_playground_says_the_value_and_the_path(book: Book, http: httpx.Client) -> None:
    staff = {"id": "staff", "when": [{"attribute": "email", "op": "ends-with", "value": "@x.io"}]}
    rules = [{**staff, "serve": "on"}, RULE]
    book.commit(flag_of(environments={"production": {"rules": rules}}))
    body = {"environment": "production", "context": {"user.id": "user-1", "country": "US"}}
    found = http.post("/api/flags/new-checkout/evaluate", json=body).json()
    assert found["evaluation"]["rule"] == "beta"
    assert [(one["rule"], one["matched"]) for one in found["path"]] == [
        ("staff", False), ("beta", True),
    ]  # fmt: skip
    assert found["path"][0]["sentence"] == "`email` is `None`, not ends-with `@x.io`."
    assert "falls into bucket" in found["path"][1]["sentence"]
    body["environment"] = "prod"
    assert http.post("/api/flags/new-checkout/evaluate", json=body).status_code == 404


def test_a_snapshot_holds_one_environment_and_says_304_when_known(
    book: Book, http: httpx.Client
) -> None:
    book.commit(flag_of(owner="ann"))
    got = http.get("/api/sdk/flags", params={"environment": "production"})
    assert list(got.json()["flags"]["new-checkout"]["environments"]) == ["production"]
    assert "owner" not in got.json()["flags"]["new-checkout"]
    known = {"If-None-Match": f'"other", W/{got.headers["etag"]}'}
    again = http.get("/api/sdk/flags", params={"environment": "production"}, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    book.percent(31)
    third = http.get("/api/sdk/flags", params={"environment": "production"}, headers=known)
    assert third.status_code == 200
    assert third.json()["revision"] == 2


def test_a_key_for_one_environment_sees_and_changes_that_one_only(
    book: Book, http: httpx.Client
) -> None:
    book.commit(flag_of())
    staging = {"Authorization": "Bearer staging"}
    mine = http.get("/api/sdk/flags", headers=staging)
    assert mine.json()["environment"] == "staging"
    other = http.get("/api/sdk/flags", params={"environment": "production"}, headers=staging)
    assert other.status_code == 403
    url = "/api/flags/new-checkout/changes"
    change = {"change": "set_enabled", "environment": "production", "enabled": False}
    assert http.post(url, json={"changes": [change]}, headers=staging).status_code == 403
    change["environment"] = "staging"
    assert http.post(url, json={"changes": [change]}, headers=staging).status_code == 200
    denied = http.put(
        "/api/flags/new-checkout", params={"revision": 1}, headers=staging,
        json={**CHECKOUT, "default": "on"},
    )  # fmt: skip
    assert denied.status_code == 403
    archived = http.delete("/api/flags/new-checkout", params={"revision": 1}, headers=staging)
    assert archived.status_code == 403


def test_the_stream_sends_all_flags_then_changes_then_pings(book: Book, http: httpx.Client) -> None:
    book.commit(flag_of())
    seen: list[tuple[str, dict[str, object]]] = []
    with http.stream("GET", "/api/sdk/stream", params={"environment": "staging"}) as stream:
        event = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            if line.startswith("data: "):
                seen.append((event, json.loads(line.removeprefix("data: "))))
                if len(seen) == 1:
                    book.percent(44)
                elif len(seen) == 2:
                    book.store.archive(
                        "new-checkout", expected_revision=2, actor=ACTOR,
                        reason="",
                    )  # fmt: skip
                elif len(seen) == 4:
                    break
    assert [event for event, _ in seen] == ["put", "patch", "patch", "ping"]
    assert seen[1][1]["flag"]["environments"] == {"staging": {"enabled": False}}
    assert seen[2][1] == {"key": "new-checkout", "revision": 3, "flag": None}


def test_a_commit_by_another_process_reaches_the_stream(
    book: Book, http: httpx.Client, tmp_path: Path
) -> None:
    book.commit(flag_of())
    other = book_in(tmp_path)  # the same database, another store
    with http.stream("GET", "/api/sdk/stream", params={"environment": "production"}) as stream:
        puts = 0
        for line in stream.iter_lines():
            if line.startswith("event: put"):
                puts += 1
                if puts == 1:
                    other.percent(99)
            if puts == 2 and line.startswith("data: "):
                break
    split = json.loads(line.removeprefix("data: "))["flags"]["new-checkout"]
    assert split["environments"]["production"]["rules"][0]["split"]["percent"] == 99.0


def test_without_an_environment_the_hint_says_what_to_add(http: httpx.Client) -> None:
    answer = http.get("/api/sdk/flags")
    assert answer.status_code == 400
    assert "?environment=" in answer.json()["error"]["hint"]


def test_the_list_is_what_the_store_has(book: Book, http: httpx.Client) -> None:
    stored = [book.commit(flag_of(key=f"k{number}")) for number in range(3)]
    plain = json.loads(json.dumps([document.write(one) for one in stored]))
    assert http.get("/api/flags").json() == {"flags": plain, "revision": 3}


def test_a_rule_that_a_rollout_turns_keeps_all_but_its_percent(
    book: Book, http: httpx.Client
) -> None:
    book.commit(flag_of())
    book.turned.add(("production", "beta"))
    url = "/api/flags/new-checkout"
    changed = json.loads(json.dumps(CHECKOUT))
    changed["environments"]["production"]["rules"][0]["split"]["unit"] = "account.id"
    for answer in (
        http.put(url, params={"revision": 1}, json=changed),
        http.put(url, params={"revision": 1}, json={**CHECKOUT, "environments": {}}),
        http.delete(url, params={"revision": 1}),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "rollout_active")
        assert "Stop the rollout first" in answer.json()["error"]["hint"]
    down = {"change": "set_percent", "environment": "production", "rule": "beta", "percent": "0%"}
    off = {"change": "set_enabled", "environment": "production", "enabled": False}
    lowered = http.post(f"{url}/changes", json={"changes": [down, off]})
    assert lowered.status_code == 200
    assert not lowered.json()["flag"]["environments"]["production"]["enabled"]
