"""How pages say times, numbers and names: the filters of every template.

Pure: the time now arrives as an argument when the table of filters is made.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime

from markupsafe import Markup, escape

from inprod.units import render_percent, render_s, roughly

SECOND_NS = 1_000_000_000
DAY_S = 86_400
_QUOTED = re.compile(r"`([^`]+)`")


def filters(now_ns: Callable[[], int]) -> dict[str, Callable[..., str]]:
    """Return the table of template filters; `now_ns` answers Unix time in nanoseconds."""

    def ago_now(time_ns: int) -> str:
        return ago(time_ns, now_ns())

    def clock_now(time_ns: int) -> str:
        return clock(time_ns, now_ns())

    def moment_now(time_ns: int) -> str:
        return moment(time_ns, now_ns())

    return {
        "ago": ago_now,
        "clock": clock_now,
        "moment": moment_now,
        "iso": iso,
        "number": number,
        "measured": measured,
        "short": short,
        "percent": render_percent,
        "seconds": render_s,
        "roughly": roughly,
        "words": words,
        "compact": compact,
        "pretty": pretty,
        "marked": marked,
        "sentence": sentence,
        "odds": odds,
        "plain": plain,
    }


def ago(time_ns: int, now_ns: int) -> str:
    """Return `just now`, `12 s ago`, `3 min ago`, `in 4 d`."""
    seconds = (now_ns - time_ns) / SECOND_NS
    if abs(seconds) < 1:
        return "just now"
    said = roughly(abs(seconds))
    return f"{said} ago" if seconds > 0 else f"in {said}"


def clock(time_ns: int, now_ns: int) -> str:
    """Return `14:03:22` for a time within a day of now, `2026-11-03 14:03` beyond."""
    moment = datetime.fromtimestamp(time_ns / SECOND_NS, UTC)
    near = abs(now_ns - time_ns) < DAY_S * SECOND_NS
    return moment.strftime("%H:%M:%S" if near else "%Y-%m-%d %H:%M")


def moment(time_ns: int, now_ns: int) -> str:
    """Return `14:03:22.120` for a time within a day of now, `2026-11-03 14:03:22` beyond."""
    near = abs(now_ns - time_ns) < DAY_S * SECOND_NS
    shown = datetime.fromtimestamp(time_ns / SECOND_NS, UTC)
    if near:
        return f"{shown:%H:%M:%S}.{time_ns // 1_000_000 % 1000:03d}"
    return f"{shown:%Y-%m-%d %H:%M:%S}"


def iso(time_ns: int) -> str:
    """Return the time in RFC 3339, UTC, to the second."""
    return datetime.fromtimestamp(time_ns / SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def number(value: object) -> str:
    """Return a number in at most four significant digits, `1,840` grouped, `–` for None."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1e7 or abs(value) < 1e-4:
        return f"{value:.3g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def measured(value: float | None, digits: int = 3) -> str:
    """Return a measurement in `digits` significant digits, whole ones kept: `82.5`, `1,240`."""
    if value is None or not math.isfinite(value):
        return number(value)
    rounded = float(f"{value:.{digits}g}")
    return f"{value:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:.{digits}g}"


def odds(log: float) -> str:
    """Return the odds whose natural logarithm is `log`, within a millionth and a million."""
    if log > math.log(1e6):
        return "over 1,000,000"
    if log < math.log(1e-3):
        return "under 0.001"
    return f"{math.exp(log):,.3g}" if log < math.log(1000) else f"{math.exp(log):,.0f}"


def short(value: float) -> str:
    """Return `840`, `12.3k`, `4.5M`: for places where space is short."""
    for limit, scale, suffix in ((1e4, 1.0, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M")):
        if abs(value) < limit:
            return (
                f"{value / scale:,.4g}{suffix}" if scale == 1.0 else f"{value / scale:.3g}{suffix}"
            )
    return f"{value / 1e9:.3g}G"


def compact(value: object) -> str:
    """Return a value as short JSON, as a variant's value is shown."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str)


def pretty(value: object) -> str:
    """Return a value as indented JSON."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def words(name: str) -> str:
    """Return a name of ours as words: `rolled_back` is `rolled back`."""
    return str(name).replace("_", " ")


def plain(value: float) -> str:
    """Return a number as a field of a form holds it."""
    return f"{value:.10g}"


def marked(text: str) -> Markup:
    """Return the text as HTML, with what stands in backticks as code."""
    return Markup(_QUOTED.sub(r'<code class="chip">\1</code>', str(escape(text))))  # noqa: S704


def sentence(text: str) -> str:
    """Return the text with a capital and a full stop."""
    text = text.strip()
    if not text:
        return text
    ended = text if text[-1] in ".?!" else f"{text}."
    return ended[0].upper() + ended[1:]
