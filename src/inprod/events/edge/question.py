"""The Explore page's URL and its query, each made of the other: the URL is the state.

    /explore?dataset=shop&calc=P99&of=duration_ms&by=http.route&where=error&op==&value=true&range=1h

Fields that belong together are repeated in step: the n-th `calc` with the n-th `of`, the n-th
`where` with the n-th `op` and `value`. A row whose fields are empty says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar
from urllib.parse import urlencode

from inprod.errors import Invalid, nearest
from inprod.events.query import LIMIT_MAX, Calculate, Calculation, Filter, Query
from inprod.events.sql import canonical
from inprod.operators import Op, Scalar
from inprod.units import Unit, parse

RANGE_DEFAULT = "1h"
LIMIT_DEFAULT = 20
OPS_ALONE = frozenset({Op.EXISTS, Op.DOES_NOT_EXIST})
OPS_OF_LISTS = frozenset({Op.IN, Op.NOT_IN})
Word = TypeVar("Word", Calculate, Op)
COMPARISONS = frozenset({Op.GREATER, Op.GREATER_OR_EQUAL, Op.LESS, Op.LESS_OR_EQUAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the form: a calculation (`op`, `column`) or a filter (with its `value`)."""

    op: str
    column: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What the form holds, as text, exactly as it was typed."""

    dataset: str = ""
    environment: str = ""
    calculations: tuple[Row, ...] = ()
    filters: tuple[Row, ...] = ()
    combine: str = "AND"
    breakdowns: tuple[str, ...] = ()
    range: str = ""
    start: str = ""
    end: str = ""
    limit: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked yet."""
        return self == Form()

    @property
    def url(self) -> str:
        """The address of this form."""
        pairs = [("dataset", self.dataset), ("environment", self.environment)]
        for row in self.calculations:
            pairs += [("calc", row.op), ("of", row.column)]
        for row in self.filters:
            pairs += [("where", row.column), ("op", row.op), ("value", row.value)]
        pairs += [("by", column) for column in self.breakdowns]
        combine = "" if self.combine == "AND" else self.combine
        pairs += [("combine", combine), ("range", self.range), ("start", self.start)]
        pairs += [("end", self.end), ("limit", self.limit)]
        rows = {"calc", "of", "where", "op", "value"}
        return "/explore?" + urlencode([(k, v) for k, v in pairs if v or k in rows])


def form_of(fields: Mapping[str, Sequence[str]]) -> Form:
    """Return the form that the URL's `fields` (name -> values, in order) fill in."""

    def one(name: str) -> str:
        values = fields.get(name, ())
        return values[-1].strip() if values else ""

    def column(name: str, length: int) -> list[str]:
        values = [value.strip() for value in fields.get(name, ())]
        return [*values, *[""] * (length - len(values))][:length]

    count = len(fields.get("calc", ()))
    calculations = [
        Row(op=op, column=of)
        for op, of in zip(column("calc", count), column("of", count), strict=True)
        if op or of
    ]
    count = len(fields.get("where", ()))
    filters = [
        Row(column=where, op=op or Op.EQUAL.value, value=value)
        for where, op, value in zip(
            column("where", count), column("op", count), column("value", count), strict=True
        )
        if where
    ]
    return Form(
        dataset=one("dataset"),
        environment=one("environment"),
        calculations=tuple(calculations),
        filters=tuple(filters),
        combine=one("combine") or "AND",
        breakdowns=tuple(value.strip() for value in fields.get("by", ()) if value.strip()),
        range=one("range"),
        start=one("start"),
        end=one("end"),
        limit=one("limit"),
    )


def query_of(form: Form) -> Query:
    """Return the query a form asks; raises Invalid with the field in `where`."""
    combine: Literal["AND", "OR"] = "OR" if form.combine.upper() == "OR" else "AND"
    start, end = _time(form.start, "start"), _time(form.end, "end")
    length = None
    if not (start is not None and end is not None):
        length = parse(form.range or RANGE_DEFAULT, Unit.SECONDS)
    return Query(
        calculations=tuple(_calculation(row) for row in form.calculations)
        or (Calculation(op=Calculate.COUNT),),
        filters=tuple(_filter(row) for row in form.filters),
        filter_combination=combine,
        breakdowns=form.breakdowns,
        time_range=length,
        start_time=start,
        end_time=end,
        limit=_limit(form.limit),
        dataset=form.dataset or None,
        environment=form.environment or None,
    )


def value_of(text: str) -> Scalar:
    """Return the number or the text that a person typed; `007` stays text."""
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    whole: Scalar = int(number) if number.is_integer() and abs(number) < 2**53 else number
    return whole if canonical(whole) == text else text


def _calculation(row: Row) -> Calculation:
    op = _word(Calculate, row.op or "COUNT", "calc")
    return Calculation(op=op, column=row.column or None)


def _filter(row: Row) -> Filter:
    op = _word(Op, row.op, "op")
    if op in OPS_ALONE:
        return Filter(column=row.column, op=op)
    if op in OPS_OF_LISTS:
        values = tuple(value_of(part.strip()) for part in row.value.split(",") if part.strip())
        return Filter(column=row.column, op=op, value=values)
    value = value_of(row.value)
    if op in COMPARISONS and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = row.value
    return Filter(column=row.column, op=op, value=value)


def _word(kind: type[Word], text: str, where: str) -> Word:
    for one in kind:
        if one.value == text:
            return one
    raise Invalid(
        "unknown_word", f"`{text}` is not a word here", where=where,
        hint=nearest(text, [one.value for one in kind]),
    )  # fmt: skip


def _time(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(
            "bad_time", f"`{text[:40]}` is not a time", where=where,
            hint="Write UTC such as `2026-11-22T12:00:00`.",
        ) from None  # fmt: skip
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _limit(text: str) -> int:
    if not text:
        return LIMIT_DEFAULT
    if not text.isdecimal() or len(text) > len(str(LIMIT_MAX)):
        raise Invalid(
            "bad_limit",
            f"`{text[:40]}` is not a limit",
            where="limit",
            hint=f"Use 1 to {LIMIT_MAX}.",
        )
    return int(text)
