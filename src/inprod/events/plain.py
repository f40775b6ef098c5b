"""Events as people send them to `POST /api/events`: one JSON object, a list of them, or NDJSON.

    {"time": 1700000000.5, "dataset": "shop", "name": "checkout", "duration_ms": 12.5,
     "sample_rate": 1, "user": {"id": "u1"}, "cart.items": 3}

`time` is Unix seconds (milliseconds, microseconds, nanoseconds are known by their size) or
RFC 3339. A body that cannot be read is refused whole; an event that cannot be is refused alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import orjson

from inprod.errors import Invalid, shown
from inprod.events.attributes import put
from inprod.events.event import EVENT_BYTES_MAX
from inprod.events.intake import DURATION_NS_MAX, Intake, Terms

EVENTS_MAX = 10_000
STATUS_CODE_MAX = 65_535
DATASET_DEFAULT = "events"
# From these magnitudes on a number of seconds would be after the year 5138: it is a smaller unit.
_UNITS = ((1e17, 1), (1e14, 1_000), (1e11, 1_000_000))
_TEXTS = ("dataset", "name", "kind", "trace.trace_id", "trace.span_id", "trace.parent_id")
_TAKEN = frozenset({*_TEXTS, "time", "duration_ms", "error", "status_code", "signal"})


def events_from_json(body: bytes, terms: Terms, *, now_ns: int) -> Intake:
    """Return the events of a JSON body; raises Invalid when it is not an object or a list."""
    try:
        plain = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(
            "not_json", f"the body is not JSON: {error}",
            hint="Send a JSON object, a list of objects, or NDJSON as `application/x-ndjson`.",
        ) from None  # fmt: skip
    if isinstance(plain, list):
        return _take(cast("list[Any]", plain), terms, now_ns)
    if isinstance(plain, dict):
        return _take([plain], terms, now_ns)
    raise Invalid("not_an_event", f"`{shown(plain)}` is not an event", where="$",
                  hint="Send a JSON object or a list of objects.")  # fmt: skip


def events_from_ndjson(body: bytes, terms: Terms, *, now_ns: int) -> Intake:
    """Return the events of an NDJSON body, one per line; raises Invalid naming a broken line."""
    plain: list[Any] = []
    for number, line in enumerate(body.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            plain.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise Invalid(
                "not_json", f"line `{number}` is not JSON: {error}", where=f"line {number}",
                hint="Send one JSON object per line. Nothing was stored.",
            ) from None  # fmt: skip
    return _take(plain, terms, now_ns)


def _take(plain: list[Any], terms: Terms, now_ns: int) -> Intake:
    if len(plain) > EVENTS_MAX:
        raise Invalid("too_many_events", f"`{len(plain)}` events are too many in one body",
                      hint=f"Send at most {EVENTS_MAX} at a time.")  # fmt: skip
    intake = Intake(terms)
    for event in plain:
        try:
            _event(event, intake, now_ns)
        except Invalid as error:
            intake.refuse(error)
    return intake


def _event(plain: object, intake: Intake, now_ns: int) -> None:
    if not isinstance(plain, dict):
        raise Invalid("not_an_event", f"`{shown(plain)}` is not an event",
                      hint="Send a JSON object.")  # fmt: skip
    fields = cast("dict[str, Any]", plain)
    strings: dict[str, str] = {}
    numbers: dict[str, float] = {}
    for key, value in fields.items():
        if key not in _TAKEN:
            put(key, value, strings, numbers)
    size = sum(map(len, strings)) + sum(map(len, strings.values())) + 16 * len(numbers)
    if size > EVENT_BYTES_MAX:
        raise Invalid("event_too_large", f"the event is over `{EVENT_BYTES_MAX}` bytes",
                      hint="Send less in one event.")  # fmt: skip
    texts = {name: _text(fields, name) for name in _TEXTS}
    error = fields.get("error")
    intake.add(
        signal="event",
        time_ns=_time_ns(fields.get("time"), now_ns),
        dataset=texts["dataset"] or strings.get("service.name") or DATASET_DEFAULT,
        name=texts["name"],
        kind=texts["kind"],
        trace_id=texts["trace.trace_id"],
        span_id=texts["trace.span_id"],
        parent_id=texts["trace.parent_id"],
        duration_ns=_duration_ns(fields),
        error=error is not None and error not in (False, 0, "", "false"),
        status_code=_status_code(fields),
        strings=strings,
        numbers=numbers,
    )


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(name, value, "a text")
    return value


def _time_ns(value: object, now_ns: int) -> int:
    if value is None:
        return now_ns
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise _wrong("time", value, "Unix seconds or RFC 3339 with a time zone") from None
        if moment.tzinfo is None:
            raise _wrong("time", value, "RFC 3339 with a time zone")
        return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong("time", value, "Unix seconds or RFC 3339")
    for least, unit_ns in _UNITS:
        if abs(value) >= least:
            return int(value * unit_ns)
    return round(value * 1_000_000_000)


def _duration_ns(fields: Mapping[str, Any]) -> int | None:
    value = fields.get("duration_ms")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong("duration_ms", value, "a number of milliseconds")
    if not 0 <= value <= DURATION_NS_MAX / 1e6:
        raise _wrong("duration_ms", value, "a number of milliseconds from 0")
    return min(round(value * 1e6), DURATION_NS_MAX)


def _status_code(fields: Mapping[str, Any]) -> int:
    value = fields.get("status_code")
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= STATUS_CODE_MAX:
        raise _wrong("status_code", value, f"a whole number from 0 to {STATUS_CODE_MAX}")
    return value


def _wrong(name: str, value: object, wanted: str) -> Invalid:
    return Invalid("wrong_type", f"`{shown(value)}` is not {wanted}", where=f"$.{name}",
                   hint=f"Write {wanted}.")  # fmt: skip
