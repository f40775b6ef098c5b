"""What every HTTP edge shares: bodies read under a limit, values answered as JSON.

Imported by edges and the server only.
"""

from __future__ import annotations

import zlib
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import Response

from inprod import document
from inprod.errors import Invalid, TooMuch
from inprod.grant import Grant

JSON_TYPE = "application/json"
GZIP_MEMBERS_MAX = 100


async def body_of(request: Request, *, bytes_max: int) -> bytes:
    """Return the body, gunzipped when it says so; neither form may pass `bytes_max`.

    Raises TooMuch before reading when `Content-Length` is over it, and while reading otherwise;
    Invalid for an unknown encoding or broken gzip.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > bytes_max:
        raise too_large(bytes_max)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > bytes_max:
            raise too_large(bytes_max)
        parts.append(part)
    raw = b"".join(parts)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return raw
    if encoding == "gzip":
        return gunzip(raw, bytes_max=bytes_max)
    raise Invalid(
        "unknown_encoding", f"`{encoding}` is not an encoding we read",
        where="Content-Encoding", hint="Send gzip or no encoding.",
    )  # fmt: skip


def gunzip(raw: bytes, *, bytes_max: int) -> bytes:
    """Return the unpacked bytes; raises TooMuch over a limit (a bomb), Invalid when broken."""
    parts: list[bytes] = []
    left = bytes_max
    for _ in range(GZIP_MEMBERS_MAX):
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            part = unpacker.decompress(raw, left + 1)
        except zlib.error as error:
            raise Invalid(
                "broken_gzip", f"the gzip body is broken: {error}", hint="Send it as gzip wrote it."
            ) from None
        if len(part) > left:
            raise too_large(bytes_max)
        if not unpacker.eof:
            raise Invalid("broken_gzip", "the gzip body ends too early", hint="Send it whole.")
        parts.append(part)
        left -= len(part)
        raw = unpacker.unused_data  # several gzip members are legal, and rare
        if not raw:
            return b"".join(parts)
    raise TooMuch(
        "too_many_members", f"the gzip body has over `{GZIP_MEMBERS_MAX}` members",
        hint="Compress it as one.",
    )  # fmt: skip


def too_large(bytes_max: int) -> TooMuch:
    """Return the error for a body over its limit."""
    return TooMuch(
        "body_too_large", f"the body is over `{bytes_max}` bytes",
        hint="Send it in smaller parts.",
    )  # fmt: skip


async def json_of(request: Request, *, bytes_max: int = 1_000_000) -> Any:
    """Return the JSON body; raises Invalid when it is not JSON, TooMuch over `bytes_max`."""
    body = await body_of(request, bytes_max=bytes_max)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(
            "not_json", f"the body is not JSON: {error}", hint="Send a JSON document."
        ) from None


async def form_of(request: Request, *, bytes_max: int = 100_000) -> dict[str, str]:
    """Return the fields of a posted HTML form, the last of each name; raises Invalid, TooMuch."""
    body = await body_of(request, bytes_max=bytes_max)
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=1000
        )
    except ValueError:
        raise Invalid(
            "not_a_form", "the body is not a form", hint="Send application/x-www-form-urlencoded."
        ) from None
    return dict(pairs)


def grant_of(request: Request) -> Grant:
    """Return what the caller may do; the server has set it before any handler runs."""
    grant: Grant = request.state.grant
    return grant


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `value` (a dataclass, mapping, list or scalar) as a JSON response, in one write."""
    return Response(
        orjson.dumps(document.write(value), option=orjson.OPT_NON_STR_KEYS),
        status_code=status, media_type=JSON_TYPE, headers=headers,
    )  # fmt: skip
