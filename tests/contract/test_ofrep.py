"""OFREP over real HTTP: the shapes of the protocol, and the official provider as a client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import Reason

from support.flag_server import Book, book_in, flag_of, serving, typed_flags

ALL = "/ofrep/v1/evaluate/flags"
PRODUCTION = {"Authorization": "Bearer production"}
USER = EvaluationContext("user-1", {"country": "US"})
REASONS = {"STATIC", "DEFAULT", "TARGETING_MATCH", "SPLIT", "DISABLED"}


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = book_in(tmp_path)
    made.commit(flag_of())
    for flag in typed_flags():
        made.commit(flag)
    with serving(made):
        yield made


@pytest.fixture
def http(book: Book) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=book.url, headers=PRODUCTION) as client:
        yield client


@pytest.fixture
def openfeature(book: Book) -> Iterator[object]:
    provider = OFREPProvider(book.url, headers_factory=lambda: dict(PRODUCTION))
    api.set_provider_and_wait(provider, "ofrep")
    yield api.get_client("ofrep")
    provider.session.close()
    api.clear_providers()


def test_the_official_provider_gets_every_type(openfeature) -> None:
    assert openfeature.get_boolean_value("a-boolean", False, USER) is True
    assert openfeature.get_string_value("a-string", "", USER) == "blue"
    assert openfeature.get_integer_value("a-integer", 0, USER) == 7
    assert openfeature.get_float_value("a-float", 0.5, USER) == 2.0
    found = openfeature.get_object_value("a-object", {}, USER)
    assert found == {"limits": [1, 2], "name": "x"}


def test_the_official_provider_sees_the_split_and_its_rule(openfeature) -> None:
    found = openfeature.get_boolean_details("new-checkout", False, USER)
    assert (found.reason, found.variant) == (Reason.SPLIT, "off")
    assert found.flag_metadata["rule"] == "beta"
    elsewhere = EvaluationContext("user-1", {"country": "FR"})
    assert openfeature.get_boolean_details("new-checkout", True, elsewhere).reason == "DEFAULT"
    nobody = openfeature.get_boolean_details(
        "new-checkout", True, EvaluationContext("", {"country": "US"})
    )
    assert (nobody.value, nobody.error_code) == (True, "TARGETING_KEY_MISSING")
    missing = openfeature.get_boolean_details("nope", True, USER)
    assert (missing.value, missing.error_code) == (True, "FLAG_NOT_FOUND")
    wrong = openfeature.get_string_details("a-boolean", "x", USER)
    assert (wrong.value, wrong.error_code) == ("x", "TYPE_MISMATCH")


def test_a_bulk_answer_has_every_flag_and_is_304_until_flags_or_context_change(
    book: Book, http: httpx.Client
) -> None:
    body = {"context": {"targetingKey": "user-1", "country": "US"}}
    first = http.post(ALL, json=body)
    flags = {flag["key"]: flag for flag in first.json()["flags"]}
    assert len(flags) == 6
    assert all(flag["reason"] in REASONS and flag["variant"] for flag in flags.values())
    assert b'"value":2.0' in first.content
    known = {"If-None-Match": first.headers["etag"]}
    same = {"context": {"country": "US", "targetingKey": "user-1"}}  # in another order
    assert http.post(ALL, json=same, headers=known).status_code == 304
    other = {"context": {"targetingKey": "user-2", "country": "US"}}
    assert http.post(ALL, json=other, headers=known).status_code == 200
    book.percent(100)
    fresh = http.post(ALL, json=body, headers=known)
    assert fresh.status_code == 200
    assert {flag["key"]: flag["value"] for flag in fresh.json()["flags"]}["new-checkout"] is True


def test_a_bulk_answer_tells_the_errors_of_single_flags(http: httpx.Client) -> None:
    flags = {
        f["key"]: f for f in http.post(ALL, json={"context": {"country": "US"}}).json()["flags"]
    }
    assert flags["new-checkout"]["errorCode"] == "TARGETING_KEY_MISSING"
    assert "value" not in flags["new-checkout"]
    assert flags["a-integer"]["value"] == 7


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "PARSE_ERROR"),
        (b"[]", "PARSE_ERROR"),
        (b"\xff", "PARSE_ERROR"),
        (b'{"context": 3}', "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": 3}}', "INVALID_CONTEXT"),
    ],
)
def test_a_bad_request_has_the_shape_of_the_protocol(
    http: httpx.Client, body: bytes, code: str
) -> None:
    one = http.post(f"{ALL}/new-checkout", content=body)
    assert (one.status_code, one.json()["errorCode"], one.json()["key"]) == (
        400, code, "new-checkout",
    )  # fmt: skip
    every = http.post(ALL, content=body)
    assert (every.status_code, every.json()["errorCode"]) == (400, code)
    assert "key" not in every.json()


def test_a_missing_flag_is_404_and_nothing_else_is(book: Book, http: httpx.Client) -> None:
    gone = http.post(f"{ALL}/nope", json={})
    assert gone.status_code == 404
    assert gone.json()["key"] == "nope"
    assert gone.json()["errorCode"] == "FLAG_NOT_FOUND"
    unknown = httpx.post(f"{book.url}{ALL}/new-checkout?environment=prod", json={})
    assert (unknown.status_code, unknown.json()["errorCode"]) == (400, "GENERAL")
    denied = http.post(f"{ALL}/new-checkout?environment=staging", json={})
    assert denied.status_code == 403
    assert "errorDetails" in denied.json()
    large = http.post(ALL, content=b" " * 300_000)
    assert large.status_code == 413


def test_the_environment_comes_from_the_key_the_query_or_a_header(book: Book) -> None:
    body = {"context": {"targetingKey": "user-1", "country": "US"}}
    url = f"{book.url}{ALL}/new-checkout"
    for options, reason in (
        ({"headers": PRODUCTION}, "SPLIT"),
        ({"params": {"environment": "staging"}}, "DISABLED"),
        ({"headers": {"x-inprod-environment": "staging"}}, "DISABLED"),
    ):
        found = httpx.post(url, json=body, **options)
        assert found.json()["reason"] == reason
        assert isinstance(found.json()["variant"], str)
