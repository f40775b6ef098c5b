"""Documents in files, read as YAML 1.2: `on`, `off`, `yes` and dates are text, as people mean them.

YAML 1.1, which PyYAML reads, takes `off: off` for `False: False`.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from inprod.errors import Invalid, Missing, shown

FILE_BYTES_MAX = 1_000_000
VALUES_MAX = 200_000
DEPTH_MAX = 100
_BOOL = "tag:yaml.org,2002:bool"
_DATE = "tag:yaml.org,2002:timestamp"


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the booleans of YAML 1.2, and no dates."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOL, _DATE)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType]  # untyped
    _BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def documents_of(name: str) -> Iterator[tuple[str, Any]]:
    """Yield each document of a file (`-` is stdin) with its place (`flags.yaml#1`).

    A list counts as its items. Raises Missing and Invalid.
    """
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Missing("no_file", f"`{name}` is not there", hint="Give an existing file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(
            "unreadable_file", f"`{name}` cannot be read: {error}", hint="Give a file of text."
        ) from None
    if len(text) > FILE_BYTES_MAX:
        raise Invalid("long_file", f"`{name}` is over `{FILE_BYTES_MAX}` bytes", hint="Split it.")
    number = 0
    for document in _loaded(name, text):
        for one in document if isinstance(document, list) else [document]:  # pyright: ignore[reportUnknownVariableType]  # YAML
            if one is not None:
                number += 1
                yield f"{name}#{number}", _Checked(f"{name}#{number}").value(one)


def _loaded(name: str, text: str) -> list[Any]:
    try:
        return list(yaml.load_all(text, Loader))  # it is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = error.problem or error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        place, problem = "", error
    raise Invalid("not_yaml", f"`{name}` is not YAML: {problem}", where=place, hint="Mend it.")


class _Checked:
    """Copies what JSON can hold; aliases multiply what a file says, so the values are counted."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._count = 0

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return one value; raises Invalid for what JSON cannot hold, and for too much of it."""
        self._count += 1
        if self._count > VALUES_MAX or depth > DEPTH_MAX:
            raise Invalid(
                "long_document",
                f"the document has over `{VALUES_MAX}` values, or `{DEPTH_MAX}` levels",
                where=self._place, hint="Write less, with fewer aliases.",
            )  # fmt: skip
        if isinstance(value, dict):
            return {str(key): self.value(item, depth + 1) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]  # YAML
        if isinstance(value, list):
            return [self.value(item, depth + 1) for item in value]  # pyright: ignore[reportUnknownVariableType]  # YAML
        is_finite = not isinstance(value, float) or math.isfinite(value)
        if value is None or (isinstance(value, (str, bool, int, float)) and is_finite):
            return value
        raise Invalid(
            "not_json", f"`{shown(value)}` cannot be sent", where=self._place,
            hint="Write text or numbers.",
        )  # fmt: skip
