"""Explore: one page that asks the event store and shows lines, a table and the last events."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import cast

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from inprod.endpoint import Endpoint, Role
from inprod.errors import InprodError
from inprod.events.columns import ENVIRONMENT, FIXED
from inprod.events.edge.question import RANGE_DEFAULT, Form, Row, form_of, query_of
from inprod.events.edge.store import EventStore
from inprod.events.query import Answer, Calculate, Filter, Query
from inprod.events.sql import TABLE, Statement, predicate
from inprod.operators import Op
from inprod.web import grant_of

Render = Callable[[Request, str, Mapping[str, object]], Response]
PAGES: tuple[Endpoint, ...] = (
    Endpoint(
        method="GET", path="/explore", handler="explore", role=Role.READ, kind="page",
        sentence="Ask the events: lines, a table and the last events; the URL is the query.",
        takes="query: dataset, environment, calc, of, where, op, value, by, range, start, end",
    ),
)  # fmt: skip
SECOND_NS = 1_000_000_000
OWN = "inprod"  # the datasets in which inprod speaks of itself
LINES_MAX = 8
EVENTS_MAX = 20
COLUMNS_MAX = 500
BLANK_ROWS = 2
RANGES = ("10m", "1h", "6h", "24h", "7d", "30d")
ZERO_WHEN_ABSENT = frozenset({Calculate.COUNT, Calculate.COUNT_DISTINCT, Calculate.SUM})
LISTED = tuple(one.value for one in Calculate if one is not Calculate.HEATMAP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One calculation over time: a time (Unix s) and a value per group in each row."""

    name: str
    groups: tuple[str, ...]
    rows: tuple[tuple[float, tuple[float | None, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A group's value, and the addresses of the same question with only it, and without it."""

    value: object
    only: str
    without: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One event as it is listed."""

    time_ns: int
    dataset: str
    name: str
    duration_ms: float | None
    is_error: bool
    attributes: tuple[tuple[str, object], ...]


class EventPages:
    """One method per row of PAGES."""

    def __init__(
        self, *, store: EventStore, environments: Callable[[], Collection[str]], render: Render
    ) -> None:
        self._store = store
        self._environments = environments
        self._render = render

    async def explore(self, request: Request) -> Response:
        """Show the form, and the answer when something was asked or there is a dataset."""
        fields = {name: request.query_params.getlist(name) for name in request.query_params}
        form = form_of(fields)
        grant = grant_of(request)
        context = await to_thread.run_sync(lambda: self._context(form, grant.environments))
        return self._render(request, "events/explore.html", context)

    def _context(self, form: Form, reach: Collection[str] | None) -> dict[str, object]:
        datasets = self._store.datasets(reach)
        known = sorted(self._environments())
        context: dict[str, object] = {
            "form": form,
            "is_new": form.is_empty and all(name.startswith(OWN) for name in datasets),
            "datasets": datasets,
            "environments": [name for name in known if reach is None or name in reach],
            "columns": self._columns(form.dataset or None, reach),
            "calculates": LISTED,
            "ops": [op.value for op in Op],
            "ranges": RANGES,
            "range_default": RANGE_DEFAULT,
            "calculation_rows": (*(form.calculations or (Row(op="COUNT"),)), Row(op="")),
            "filter_rows": (*form.filters, *[Row(op=Op.EQUAL.value)] * BLANK_ROWS),
            "breakdown_rows": (*form.breakdowns, *[""] * BLANK_ROWS),
            "error": None, "answer": None, "charts": (), "groups": (), "events": (),
            "permalink": "", "granularity_s": None,
        }  # fmt: skip
        if context["is_new"]:
            return context
        try:
            query = query_of(form)
            answer = self._store.answer(query, environments=reach)
            context |= _shown(form, query, answer)
            context["events"] = self._last(answer, query, reach)
        except InprodError as error:
            context["error"] = error
        return context

    def _columns(self, dataset: str | None, reach: Collection[str] | None) -> list[str]:
        found = self._store.columns(dataset, reach)
        return [*FIXED, *found][:COLUMNS_MAX]

    def _last(
        self, answer: Answer, query: Query, reach: Collection[str] | None
    ) -> tuple[Seen, ...]:
        statement = last_events(self._store, answer, query, reach)
        return tuple(_seen(row) for row in self._store.read(statement))


def last_events(
    store: EventStore, answer: Answer, query: Query, reach: Collection[str] | None
) -> Statement:
    """Return the statement of the newest events that the answered query counted."""
    binder = store.binder()
    start, end = (round(answer.query[name] * SECOND_NS) for name in ("start_time", "end_time"))
    parts = [
        f"time >= fromUnixTimestamp64Nano({binder.integer(start)})",
        f"time < fromUnixTimestamp64Nano({binder.integer(end)})",
        predicate(query.filters, query.filter_combination, binder),
    ]
    if query.dataset is not None:
        parts.append(f"dataset = {binder.text(query.dataset)}")
    narrowing: list[Filter] = []
    if query.environment is not None:
        narrowing.append(Filter(column=ENVIRONMENT, op=Op.EQUAL, value=query.environment))
    if reach is not None:
        narrowing.append(Filter(column=ENVIRONMENT, op=Op.IN, value=tuple(sorted(reach))))
    parts.append(predicate(narrowing, "AND", binder))
    return binder.statement(
        "SELECT toUnixTimestamp64Nano(time), dataset, name, duration_ns / 1e6, error, "  # noqa: S608  # values are bound
        f"sattrs, nattrs FROM {TABLE} WHERE {' AND '.join(parts)} "
        f"ORDER BY time DESC LIMIT {binder.integer(EVENTS_MAX)}"
    )


def _seen(row: tuple[object, ...]) -> Seen:
    time_ns, dataset, name, duration_ms, is_error, strings, numbers = row
    assert isinstance(strings, dict)
    assert isinstance(numbers, dict)
    merged = {**cast("dict[str, str]", strings), **cast("dict[str, float]", numbers)}
    return Seen(
        time_ns=int(str(time_ns)),
        dataset=str(dataset),
        name=str(name),
        duration_ms=duration_ms if isinstance(duration_ms, float) else None,
        is_error=bool(is_error),
        attributes=tuple(sorted(merged.items())),
    )


def _shown(form: Form, query: Query, answer: Answer) -> dict[str, object]:
    start, end = answer.query["start_time"], answer.query["end_time"]
    fixed = replace(form, range="", start=_utc(start), end=_utc(math.ceil(end)))
    return {
        "answer": answer,
        "calculation_names": [one.name for one in query.calculations],
        "charts": charts_of(query, answer),
        "groups": [
            [_cell(form, column, row.get(column)) for column in query.breakdowns]
            for row in answer.results
        ],
        "permalink": fixed.url,
        "granularity_s": answer.query["granularity"],
    }


def charts_of(query: Query, answer: Answer) -> tuple[Chart, ...]:
    """Return a chart per calculation: the first LINES_MAX groups, every bucket of the range.

    A bucket without a row is 0 where nothing counted means none, and a gap otherwise.
    """
    step = float(answer.query["granularity"])
    first = math.floor(answer.query["start_time"] / step)
    last = math.ceil(answer.query["end_time"] / step)
    groups = [_key(query, row) for row in answer.results[:LINES_MAX]]
    charts: list[Chart] = []
    for one in query.calculations:
        absent = 0.0 if one.op in ZERO_WHEN_ABSENT else None
        found = {
            (round(row["time"] / step), _key(query, row)): row.get(one.name)
            for row in answer.series
        }
        rows = [
            (number * step, tuple(found.get((number, group), absent) for group in groups))
            for number in range(first, last)
        ]
        names = tuple(" · ".join(map(_said, group)) or one.name for group in groups)
        charts.append(Chart(name=one.name, groups=names, rows=tuple(rows)))
    return tuple(charts) if groups else ()


def _key(query: Query, row: Mapping[str, object]) -> tuple[object, ...]:
    return tuple(row.get(column) for column in query.breakdowns)


def _said(value: object) -> str:
    if value is None:
        return "(none)"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(form: Form, column: str, value: object) -> Cell:
    if value is None:
        only = Row(column=column, op=Op.DOES_NOT_EXIST.value)
        without = Row(column=column, op=Op.EXISTS.value)
    else:
        only = Row(column=column, op=Op.EQUAL.value, value=_said(value))
        without = Row(column=column, op=Op.NOT_EQUAL.value, value=_said(value))
    return Cell(
        value=_said(value), only=_with(form, form.filters, only),
        without=_with(form, form.filters, without),
    )  # fmt: skip


def _with(form: Form, filters: Sequence[Row], row: Row) -> str:
    return replace(form, filters=(*filters, row)).url


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
