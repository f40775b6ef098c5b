"""Posted HTML forms are read with a limit, and refused in words when they are something else."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from inprod.errors import Invalid, TooMuch
from inprod.web import form_of


def posted(body: bytes) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), st.text(
    st.characters(exclude_categories=("Cs",)))))  # fmt: skip
def test_every_field_comes_back(fields: dict[str, str]) -> None:
    read = asyncio.run(form_of(posted(urlencode(fields).encode()), bytes_max=10_000_000))
    assert read == fields


def test_what_is_not_a_form_is_refused() -> None:
    for body in (b"\xff\xfe", b"no equals sign"):
        with pytest.raises(Invalid, match="not a form"):
            asyncio.run(form_of(posted(body)))


def test_a_form_has_a_limit() -> None:
    with pytest.raises(TooMuch):
        asyncio.run(form_of(posted(b"a=" + b"b" * 200_000)))
