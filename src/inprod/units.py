"""Numbers with units, as people write them: `250ms`, `5%`, `1k/s`, `64MB`.

Durations are seconds, percents are 0-100, rates are per second, sizes are bytes.
"""

from __future__ import annotations

import math
import re
from enum import StrEnum
from typing import Annotated

from inprod.errors import Invalid, shown


class Unit(StrEnum):
    """The unit in which a number is kept once it has been read."""

    SECONDS = "s"
    PERCENT = "%"
    PER_SECOND = "/s"
    BYTES = "B"


Seconds = Annotated[float, Unit.SECONDS]
Percent = Annotated[float, Unit.PERCENT]
PerSecond = Annotated[float, Unit.PER_SECOND]
Bytes = Annotated[int, Unit.BYTES]

_SUFFIXES: dict[Unit, dict[str, float]] = {
    Unit.SECONDS: {
        "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0,
        "w": 604800.0,
    },
    Unit.PERCENT: {"%": 1.0},
    Unit.PER_SECOND: {"/s": 1.0, "k/s": 1e3, "m/s": 1e6, "/m": 1 / 60, "/h": 1 / 3600},
    Unit.BYTES: {
        "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
        "kib": 1024.0, "mib": 1024.0**2, "gib": 1024.0**3,
    },
}  # fmt: skip
_EXAMPLES = {
    Unit.SECONDS: "Write a duration such as `250ms`, `5s`, `10m`, `2h` or `7d`.",
    Unit.PERCENT: "Write a percent such as `5%` or `12.5`.",
    Unit.PER_SECOND: "Write a rate such as `50/s` or `1k/s`.",
    Unit.BYTES: "Write a size such as `64KB`, `10MB` or `1GB`.",
}
_KINDS = {
    Unit.SECONDS: "duration", Unit.PERCENT: "percent", Unit.PER_SECOND: "rate", Unit.BYTES: "size",
}  # fmt: skip
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z%/]*)\s*")


def parse(text: str | float, unit: Unit) -> float:
    """Return the number that `text` means, in `unit`; a bare number is already in it.

    Durations may have several parts (`1h30m`). Raises Invalid for anything else, NaN and infinity
    included.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        number = float(text)
        if math.isfinite(number):
            return number
        raise _unreadable(text, unit)
    if not isinstance(text, str) or not text.strip():
        raise _unreadable(text, unit)
    try:
        return float(_finite(text))
    except ValueError:
        pass
    total, position = 0.0, 0
    suffixes = _SUFFIXES[unit]
    while position < len(text):
        part = _PART.match(text, position)
        scale = suffixes.get(part[2].lower()) if part else None
        if part is None or scale is None or (position and unit is not Unit.SECONDS):
            raise _unreadable(text, unit)
        total += float(part[1]) * scale
        position = part.end()
    if not math.isfinite(total):
        raise _unreadable(text, unit)
    return total


def render_s(seconds: float) -> str:
    """Return a duration as a person would say it: `850 ms`, `12 s`, `3 min`, `2.5 h`, `4 d`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, scale, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / scale:.3g} {name}"
    return f"{seconds / 86400:.3g} d"


def roughly(seconds: float) -> str:
    """Return a duration in whole seconds, minutes, hours or days: `12 s`, `3 min`, `2 h`."""
    for limit, scale in ((120, 1), (7200, 60), (172_800, 3600)):
        if seconds < limit:
            return render_s(seconds // scale * scale) if seconds >= 1 else render_s(seconds)
    return render_s(seconds // 86_400 * 86_400)


def render_percent(percent: float) -> str:
    """Return `5 %` or `0.25 %`, without trailing zeros."""
    return f"{percent:.6g} %"


def _finite(text: str) -> str:
    if not math.isfinite(float(text)):
        raise ValueError(text)
    return text


def _unreadable(value: object, unit: Unit) -> Invalid:
    return Invalid(
        "unreadable_number",
        f"`{shown(value)}` is not a {_KINDS[unit]}",
        hint=_EXAMPLES[unit],
    )
