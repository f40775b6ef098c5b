"""A question answered: checked, compiled, read, and put into rows as the API promises them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

from inprod import document
from inprod.errors import Invalid, Missing, TooMuch, nearest
from inprod.events import compile as statements
from inprod.events.catalogue import Catalogue
from inprod.events.columns import FIXED, PROMOTED_FIRST
from inprod.events.compile import CELLS_MAX, NS, SERIES_ROWS_MAX, Compiled
from inprod.events.heatmap import low_of
from inprod.events.query import RATES, Answer, Calculate, Calculation, Query, resolved
from inprod.events.sql import Binder, Statement

Read = Callable[[Statement], list[tuple[Any, ...]]]
Row = dict[str, Any]


def ask(
    query: Query,
    *,
    read: Read,
    binder: Callable[[], Binder],
    catalogue: Catalogue,
    now_ns: int,
    environments: Collection[str] | None,
    elapsed_ms: Callable[[], float],
) -> Answer:
    """Return the answer; raises Invalid, Missing or TooMuch, before or while reading."""
    check_columns(query, catalogue)
    whole = resolved(query, now_s=now_ns / NS)
    types = catalogue.columns(query.dataset)
    shape = statements.compiled(
        whole,
        types=lambda column: types.get(column, ()),
        environments=environments,
        binder=binder,
    )
    rows = read(statements.results(shape))
    hashes = [int(row[1]) for row in rows]
    answered = {int(row[1]): _row(shape, row) for row in rows}
    keys = {group: _key(shape, row) for group, row in zip(hashes, rows, strict=True)}
    has_rates = any(one.op in RATES for one in whole.calculations)
    lines: list[Row] = []
    if hashes and (has_rates or not whole.disable_series):
        lines = _series(shape, read(statements.series(shape, hashes)), keys, answered)
    for one in dict.fromkeys(whole.calculations):
        if one.op is Calculate.HEATMAP and hashes:
            _add_cells(shape, one, read, hashes, answered)
    return Answer(
        results=list(answered.values()),
        series=[] if whole.disable_series else lines,
        query=document.write(whole),
        elapsed_ms=elapsed_ms(),
        rows_read=int(rows[0][0]) if rows else 0,
    )


def check_columns(query: Query, catalogue: Catalogue) -> None:
    """Raise Missing for a dataset, Invalid for a column, that nobody has ever sent."""
    if query.dataset is not None and catalogue.is_complete:
        datasets = catalogue.datasets()
        if query.dataset not in datasets:
            raise Missing(
                "unknown_dataset", f"`{query.dataset}` is not a dataset", where="$.dataset",
                hint=nearest(query.dataset, datasets),
            )  # fmt: skip
    for where, column in query.columns_where():
        if not catalogue.knows(column):
            known = {*FIXED, *PROMOTED_FIRST, *catalogue.columns(query.dataset)}
            raise Invalid(
                "unknown_column", f"`{column}` is not a column of any event", where=where,
                hint=nearest(column, known),
            )  # fmt: skip


def _key(shape: Compiled, row: tuple[Any, ...]) -> Row:
    """Return the breakdown fields of a row of results."""
    key: Row = {}
    for index, column in enumerate(shape.query.breakdowns):
        text, is_number = row[2 + 2 * index], bool(row[3 + 2 * index])
        key[column] = _plain_text(column, text, is_number=is_number)
    return key


def _plain_text(column: str, text: str | None, *, is_number: bool) -> Any:
    if text is None:
        return None
    if column == "error":
        return text == "true"
    if is_number:
        number = float(text)
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    return text


def _row(shape: Compiled, row: tuple[Any, ...]) -> Row:
    values = row[2 + 2 * len(shape.query.breakdowns) :]
    return {**_key(shape, row), **_calculated(shape, values)}


def _calculated(shape: Compiled, values: tuple[Any, ...]) -> Row:
    """Return the shown calculations of one row; rates and heatmaps come later, as None or []."""
    row: Row = {}
    for one in shape.query.calculations:
        if one.op is Calculate.HEATMAP:
            row[one.name] = []
        elif one.op in RATES:
            row[one.name] = None
        else:
            row[one.name] = _finite(values[shape.calculations.index(one)])
    return row


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _series(
    shape: Compiled, rows: list[tuple[Any, ...]], keys: dict[int, Row], answered: dict[int, Row]
) -> list[Row]:
    """Return the rows of the series, in time; fills the rates in, there and in the results.

    A rate is the change from the group's previous point; over the whole range it is the change
    from its first point to its last.
    """
    if len(rows) > SERIES_ROWS_MAX:
        raise _too_many(SERIES_ROWS_MAX, "points")
    rates = [(one, _source(shape, one)) for one in shape.query.calculations if one.op in RATES]
    before: dict[tuple[int, int], float] = {}
    lines: list[Row] = []
    for bucket, group, *values in rows:
        line: Row = {"time": bucket * shape.step_ns / NS, **keys[group]}
        line.update(_calculated(shape, tuple(values)))
        for one in shape.query.calculations:
            if one.op is Calculate.HEATMAP:
                line.pop(one.name, None)  # it may be asked for twice
        for index, (one, source) in enumerate(rates):
            value = _finite(values[source])
            if value is None:
                continue
            last = before.get((group, index))
            before[group, index] = value
            if last is not None:
                line[one.name] = value - last
                answered[group][one.name] = (answered[group][one.name] or 0.0) + value - last
        lines.append(line)
    return lines


def _source(shape: Compiled, rate: Calculation) -> int:
    return shape.calculations.index(Calculation(op=RATES[rate.op], column=rate.column))


def _add_cells(
    shape: Compiled, one: Calculation, read: Read, hashes: list[int], answered: dict[int, Row]
) -> None:
    assert one.column is not None, "the calculation checked itself"
    rows = read(statements.heatmap(shape, one.column, hashes))
    if len(rows) > CELLS_MAX:
        raise _too_many(CELLS_MAX, "cells")
    for group, bucket, index, weight in rows:
        cell = [bucket * shape.step_ns / NS, low_of(index), int(weight)]
        answered[group][one.name].append(cell)


def _too_many(most: int, what: str) -> TooMuch:
    return TooMuch(
        "answer_too_large", f"the answer has over `{most}` {what}",
        hint="Lower `limit`, take a coarser `granularity`, or set `disable_series`.",
    )  # fmt: skip
