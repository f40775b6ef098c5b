"""Environments: declared by people, refused when unknown, never made by use.

`ENV=produdction` must fail, and say which name was meant.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from inprod.errors import Invalid, Missing, nearest

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
ENVIRONMENTS_MAX = 100


def check_name(name: str) -> str:
    """Return `name`; raises Invalid when it cannot name an environment."""
    if NAME.fullmatch(name) is None:
        raise Invalid(
            "bad_environment_name", f"`{name[:80]}` cannot name an environment", where="$.name",
            hint="Use up to 63 lower-case letters, digits, dots, dashes and underscores.",
        )  # fmt: skip
    return name


def require(name: str, known: Collection[str], *, where: str = "") -> str:
    """Return `name` if it is among the `known` ones; raises Missing with the nearest name."""
    if name in known:
        return name
    hint = nearest(name, known)
    if not known:
        hint = "Declare it first: `inprod env add NAME`."
    raise Missing(
        "unknown_environment", f"`{name[:80]}` is not an environment", where=where, hint=hint
    )
