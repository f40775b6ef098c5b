"""OFREP, the OpenFeature remote evaluation protocol: one flag, or all of them, evaluated here.

Strict in what it says, because providers are brittle: a reason is always one of OpenFeature's own,
there is always a variant, and a float is always written as one. Errors have OFREP's shapes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import cast

import orjson
from starlette.requests import Request
from starlette.responses import Response

from inprod.endpoint import Endpoint, Role
from inprod.errors import Denied, InprodError, Invalid, TooMuch
from inprod.flags.condition import TARGETING_KEY, Context
from inprod.flags.edge.shelf import Held, Shelf, etag_of, is_known
from inprod.flags.edge.store import FlagStore, Stored
from inprod.flags.evaluate import Evaluation, Problem
from inprod.web import JSON_TYPE, body_of

log = logging.getLogger(__name__)
BODY_BYTES_MAX = 256 * 1024
OK, BAD, NOT_FOUND, NOT_MODIFIED = 200, 400, 404, 304
_SHARED = {Problem.TARGETING_KEY_MISSING, Problem.INVALID_CONTEXT, Problem.PARSE_ERROR}

ENDPOINTS = (
    Endpoint(
        method="POST", path="/ofrep/v1/evaluate/flags", handler="evaluate_all", role=Role.SDK,
        sentence="Evaluates all flags for one context (OFREP bulk).",
        takes="`{context}`, `If-None-Match`; the environment of the key, or `?environment=`",
        gives="`{flags: [{key, value, variant, reason, metadata}]}`, `ETag`; 304 when unchanged",
        raises=("Invalid", "Denied", "TooMuch"), body_bytes_max=BODY_BYTES_MAX,
    ),
    Endpoint(
        method="POST", path="/ofrep/v1/evaluate/flags/{key}", handler="evaluate", role=Role.SDK,
        sentence="Evaluates one flag for one context (OFREP).",
        takes="`{context}`; the environment of the key, or `?environment=`",
        gives="`{key, value, variant, reason, metadata}`",
        raises=("Invalid", "Denied", "Missing", "TooMuch"), body_bytes_max=BODY_BYTES_MAX,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A flag's answer as it goes out, encoded beforehand."""

    status: int
    body: bytes


def encode(stored: Stored, evaluation: Evaluation) -> Answer:
    """Return the OFREP answer to one possible evaluation of a flag."""
    key = stored.flag.key
    if evaluation.error is not None:
        return _failure(BAD, evaluation.error, evaluation.message, key)
    metadata: dict[str, object] = {"revision": stored.revision}
    if evaluation.rule:
        metadata["rule"] = evaluation.rule
    return Answer(
        status=OK,
        body=orjson.dumps(
            {
                "key": key,
                "reason": evaluation.reason.value,
                "variant": evaluation.variant,
                "value": evaluation.value,
                "metadata": metadata,
            }
        ),
    )


def _failure(status: int, error: Problem, details: str, key: str | None) -> Answer:
    plain = {"errorCode": error.value, "errorDetails": details}
    if key is not None:
        plain["key"] = key
    return Answer(status=status, body=orjson.dumps(plain))


class OfrepApi:
    """Handles ENDPOINTS."""

    def __init__(self, *, store: FlagStore, environments: Callable[[], Collection[str]]) -> None:
        self._shelf: Shelf[Answer] = Shelf(store, environments, encode)

    async def evaluate(self, request: Request) -> Response:
        """Answer one flag."""
        key = str(request.path_params["key"])
        try:
            context = await _context(request)
            held = await self._shelf.now()
            environment = await self._shelf.environment_of(request, held)
        except InprodError as error:
            return _refusal(error, key)
        closure = self._shelf.closure(held, environment, key)
        if closure is None:
            text = f"`{key[:120]}` is not a flag"
            return _sent(_failure(NOT_FOUND, Problem.FLAG_NOT_FOUND, text, key))
        return _sent(closure(context, None))

    async def evaluate_all(self, request: Request) -> Response:
        """Answer all flags, or 304 when neither they nor the context changed."""
        try:
            context = await _context(request)
            held = await self._shelf.now()
            environment = await self._shelf.environment_of(request, held)
        except InprodError as error:
            return _refusal(error, None)
        try:
            canonical = orjson.dumps(context, option=orjson.OPT_SORT_KEYS)
        except TypeError:  # nested deeper than orjson writes, though it reads it
            error = Invalid(Problem.INVALID_CONTEXT, "`context` is nested too deep")
            return _refusal(error, None)
        config = self._shelf.snapshot(held, environment).etag
        etag = etag_of(config.encode(), canonical)
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if is_known(request, etag):
            return Response(status_code=NOT_MODIFIED, headers=headers)
        body = b",".join(self._each(held, environment, context))
        return Response(b'{"flags":[' + body + b"]}", media_type=JSON_TYPE, headers=headers)

    def _each(self, held: Held[Answer], environment: str, context: Context) -> list[bytes]:
        answers: list[bytes] = []
        for key in held.flags:
            closure = self._shelf.closure(held, environment, key)
            assert closure is not None, "every held flag has a closure"
            answers.append(closure(context, None).body)
        return answers


async def _context(request: Request) -> Context:
    """Return the evaluation context; raises Invalid with an OpenFeature error code as its code."""
    raw = await body_of(request, bytes_max=BODY_BYTES_MAX)
    try:
        plain: object = orjson.loads(raw) if raw.strip() else {}
    except orjson.JSONDecodeError as error:
        raise Invalid(Problem.PARSE_ERROR, f"the body is not JSON: {error}") from None
    if not isinstance(plain, dict):
        raise Invalid(Problem.PARSE_ERROR, "the body is not an object")
    context = cast("dict[str, object]", plain).get("context")
    if context is None:
        return {}
    if not isinstance(context, dict):
        raise Invalid(Problem.INVALID_CONTEXT, "`context` is not an object")
    found = cast("dict[str, object]", context)
    key = found.get(TARGETING_KEY)
    if key is not None and not isinstance(key, str):
        raise Invalid(Problem.INVALID_CONTEXT, f"`{TARGETING_KEY}` is not a text")
    return found


def _refusal(error: InprodError, key: str | None) -> Response:
    """Return an InprodError in OFREP's shape; never 404, which would mean the flag."""
    text = str(error)
    if isinstance(error, (Denied, TooMuch)):
        log.info("OFREP request refused", extra={"code": error.code})
        return Response(
            orjson.dumps({"errorDetails": text}), status_code=error.status, media_type=JSON_TYPE
        )
    try:
        code = Problem(error.code)
    except ValueError:
        code = Problem.GENERAL
    return _sent(_failure(BAD, code if code in _SHARED else Problem.GENERAL, text, key))


def _sent(answer: Answer) -> Response:
    return Response(answer.body, status_code=answer.status, media_type=JSON_TYPE)
