"""How the CLI reads what is typed: filters, calculations, contexts; where it finds its server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprod.cli.documents import documents_of
from inprod.cli.events import calculation_of, filter_of
from inprod.cli.flags import context_of, value_of
from inprod.cli.levers import lever
from inprod.cli.output import text_of, when
from inprod.cli.remote import Remote, failure, find, read_key, segment
from inprod.errors import (
    PUBLIC_ERRORS,
    Denied,
    InprodError,
    Invalid,
    Missing,
    TooMuch,
    Unavailable,
)


def test_filters_are_read_as_they_are_written() -> None:
    assert filter_of("http.route = /a b") == {"column": "http.route", "op": "=", "value": "/a b"}
    assert filter_of("n >= 1.5") == {"column": "n", "op": ">=", "value": 1.5}
    assert filter_of("error exists") == {"column": "error", "op": "exists"}
    assert filter_of("s in 1, 2,x") == {"column": "s", "op": "in", "value": [1, 2, "x"]}
    for wrong in ("", "a", "a =", "a == b", "a ~ b"):
        with pytest.raises(Invalid):
            filter_of(wrong)


def test_calculations_are_read_as_they_are_written() -> None:
    assert calculation_of("count") == {"op": "COUNT"}
    assert calculation_of("P99(duration_ms)") == {"op": "P99", "column": "duration_ms"}
    for wrong in ("P99(", "P99()", "P99(x"):
        with pytest.raises(Invalid):
            calculation_of(wrong)


def test_attributes_are_json_or_text_and_long_ids_keep_their_digits() -> None:
    assert context_of(("a=1", "b=true", "c=x=y", "d=", 'e="5"')) == {
        "a": 1, "b": True, "c": "x=y", "d": "", "e": "5",
    }  # fmt: skip
    assert value_of("12345678901234567890") == "12345678901234567890"
    for wrong in ("a", "=b"):
        with pytest.raises(Invalid):
            context_of((wrong,))


@given(st.text())
def test_any_text_is_a_value(text: str) -> None:
    value = value_of(text)
    assert value == text or json.loads(text) == value or value != value


def test_the_lever_meant_is_the_narrowest_named() -> None:
    assert lever(None, None, "")["scope"] == "everything"
    assert lever("production", None, "")["scope"] == "environment"
    assert lever("production", "flag/f", "")["scope"] == "dial"
    with pytest.raises(Invalid):
        lever(None, "flag/f", "")


def test_the_server_is_found_by_flag_then_environment_then_data_folder(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text('{"pid": 1, "url": "http://127.0.0.1:7"}')
    (tmp_path / "admin.key").write_text("local-secret\n")
    environ = {"INPROD_DATA": str(tmp_path)}
    local = find(url=None, key=None, data="", environ=environ)
    assert (local.url, local.key) == ("http://127.0.0.1:7", "local-secret")
    named = find(url=None, key=None, data="", environ={**environ, "INPROD_URL": "http://x:1/"})
    assert (named.url, named.key) == ("http://x:1", None)
    flag = find(url="http://y:1", key="k", data="", environ={**environ, "INPROD_URL": "http://x"})
    assert (flag.url, flag.key, flag.source) == ("http://y:1", "k", "--url")
    same = find(url="http://127.0.0.1:7/", key=None, data=str(tmp_path), environ={})
    assert same.key == "local-secret"


def test_the_local_admin_key_is_never_sent_to_another_server(tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("local-secret")
    for url in ("https://evil.example", "http://127.0.0.1:4318", "http://127.0.0.1:8"):
        assert find(url=url, key=None, data=str(tmp_path), environ={}).key is None


@pytest.mark.parametrize("kind", PUBLIC_ERRORS)
def test_an_error_of_the_server_is_raised_as_the_same_class(kind: type[InprodError]) -> None:
    document = {"code": "c", "message": "m", "where": "$.w", "hint": "h"}
    told = failure(kind.status, json.dumps({"error": document}).encode(), {})
    assert type(told) is kind
    assert told.document() == document


def test_answers_that_are_not_ours_still_have_a_class() -> None:
    assert type(failure(401, b"{}", {})) is Denied
    assert type(failure(404, b"<html>", {})) is Missing
    assert type(failure(502, b"", {})) is Unavailable
    assert failure(500, b"", {}).exit_code == 70
    limited = failure(429, b"", {"Retry-After": "3"})
    assert isinstance(limited, TooMuch)
    assert limited.retry_after_s == 3


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "127.0.0.1:4318", "http://", "http://[::1", "http://x:y"]
)
def test_a_url_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        Remote(find(url=url or "x", key=None, data="/nowhere", environ={}))


def test_cells_and_path_parts_are_plain() -> None:
    assert [text_of(one) for one in (None, True, 0.1 + 0.2, 3, "x")] == [
        "-",
        "yes",
        "0.3",
        "3",
        "x",
    ]
    assert when(0) == "-"
    assert when(1_700_000_000_000_000_000) == "2023-11-14 22:13:20Z"
    assert segment("a/b c") == "a%2Fb%20c"


def bomb(levels: int) -> str:
    """Aliases of aliases: ten times as many values on each line."""
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x, x]", *lines])


@pytest.mark.parametrize("text", [bomb(9), "&a [*a]", "- " + "[" * 150 + "]" * 150, "level: .nan"])
def test_a_file_that_unfolds_without_end_or_holds_what_json_cannot_is_refused(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "documents.yaml"
    file.write_text(text)
    with pytest.raises(Invalid) as caught:
        list(documents_of(str(file)))
    assert caught.value.hint


def test_a_key_file_that_is_not_text_holds_no_key(tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    file.write_bytes(b"\xff\xfe\x00")
    assert read_key(file) is None
