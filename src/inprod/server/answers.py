"""Errors as answers: JSON for programs, a page for browsers, always by the taxonomy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from inprod.errors import BUG_STATUS, InprodError, TooMuch
from inprod.server.auth import STATUS_NO_KEY
from inprod.web import answer

Render = Callable[[Request, str, Mapping[str, object]], Response]

PROGRAM_PATHS = ("/api/", "/v1/", "/1/", "/ofrep/", "/static/", "/healthz", "/readyz")


class Bug(InprodError):
    """What escaped without being an InprodError; the log has the rest."""

    def __init__(self) -> None:
        super().__init__(
            "bug", "inprod failed in a way it should not",
            hint="Report it with the server's log of this moment.",
        )  # fmt: skip


def error_answer(request: Request, error: InprodError, render: Render) -> Response:
    """Return `error` in the form that the caller reads."""
    if wants_page(request):
        context = {"error": error, "status": error.status, "is_bug": error.status == BUG_STATUS}
        response = render(request, "error.html", context)
        response.status_code = error.status
    else:
        response = answer({"error": error.document()}, error.status)
    if error.status == STATUS_NO_KEY:
        response.headers["www-authenticate"] = 'Bearer realm="inprod"'
    if isinstance(error, TooMuch) and error.retry_after_s is not None:
        response.headers["retry-after"] = str(math.ceil(error.retry_after_s))
    allow = getattr(error, "allow", None)
    if allow:
        response.headers["allow"] = allow
    return response


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks, and for something that is not a program's path."""
    accepts = request.headers.get("accept", "")
    path = request.url.path
    return "text/html" in accepts and not path.startswith(PROGRAM_PATHS)
