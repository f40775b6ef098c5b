"""What can go wrong, sorted by who can mend it.

    InprodError
      Invalid      400, exit 2   you sent something that cannot be
      Denied       403, exit 3   you may not
      Missing      404, exit 4   it is not there
      Conflict     409, exit 5   it changed, or stands in the way
      TooMuch      413, exit 6   over a stated limit (429 when it is a rate)
      Unavailable  503, exit 7   we cannot just now

Anything else that escapes is a bug: 500, exit 70. Expected outcomes are values, not exceptions.
"""

from __future__ import annotations

import reprlib
from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

BUG_STATUS = 500
BUG_EXIT_CODE = 70
SHOWN_MAX = 60


class InprodError(Exception):
    """One failure: `code` for programs, `message` and `hint` for people, `where` in the input.

    `code` is snake_case and stable; `message` states what happened with the value in backticks;
    `where` is a JSON path such as `$.rules[0].percent`; `hint` is an order.
    """

    status: ClassVar[int] = BUG_STATUS
    exit_code: ClassVar[int] = BUG_EXIT_CODE

    def __init__(self, code: str, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f" (at {self.where})" if self.where else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.message}{place}.{hint}"

    def document(self) -> dict[str, str]:
        """Return the error as every API answer and `--json` shows it."""
        return {
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
        }


class Invalid(InprodError):
    """The input cannot be; nothing was stored."""

    status = 400
    exit_code = 2


class Denied(InprodError):
    """The key, role, origin or host does not allow it; 401 when there was no valid key at all."""

    status = 403
    exit_code = 3


class Missing(InprodError):
    """It is not there."""

    status = 404
    exit_code = 4


class Conflict(InprodError):
    """It changed meanwhile, exists already, or stands in the way."""

    status = 409
    exit_code = 5


class TooMuch(InprodError):
    """Over a stated limit: 413, or 429 with `retry_after_s` when waiting helps."""

    status = 413
    exit_code = 6

    def __init__(
        self,
        code: str,
        message: str,
        *,
        where: str = "",
        hint: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, message, where=where, hint=hint)
        self.retry_after_s = retry_after_s
        if retry_after_s is not None:
            self.status = 429  # pyright: ignore[reportAttributeAccessIssue]  # per instance


class Unavailable(InprodError):
    """We cannot just now; the same request may succeed later."""

    status = 503
    exit_code = 7


PUBLIC_ERRORS: tuple[type[InprodError], ...] = (
    Invalid, Denied, Missing, Conflict, TooMuch, Unavailable,
)  # fmt: skip


def shown(value: object) -> str:
    """Return a value as a message shows it: at most 60 characters, however large or deep it is."""
    is_deep = isinstance(value, (dict, list, tuple))
    text = reprlib.repr(cast("object", value)) if is_deep else str(value)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 3] + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean `x`?" for the known name closest to `name`, or the list of known ones.

    Suggests, never corrects (`reproduction` is close to `production` too).
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean `{close[0]}`?"
    if not names:
        return "None is known."
    listed = ", ".join(f"`{one}`" for one in names[:12])
    return f"Use one of {listed}{', ...' if len(names) > 12 else ''}."
