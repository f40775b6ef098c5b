"""A query compiled to statements: results per group, series per group and time, heatmap cells.

    results:  SELECT groups, calculations              GROUP BY groups  HAVING ORDER LIMIT
    series:   SELECT time, groups, calculations        GROUP BY time, groups   (those of results)
    heatmap:  SELECT time, row, weight per group       GROUP BY time, row, groups

Nothing that a person wrote is in the text: names and values are bound.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from inprod.events.columns import ENVIRONMENT, FIXED
from inprod.events.heatmap import index_sql
from inprod.events.query import (
    QUANTILES,
    RATES,
    Calculate,
    Calculation,
    Filter,
    Order,
    Query,
)
from inprod.events.sql import TABLE, Binder, Statement, number_of, predicate, text_of
from inprod.operators import Op

NS = 1_000_000_000
SERIES_ROWS_MAX = 100_000
CELLS_MAX = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """The shape of one query's statements.

    `query` is resolved; `is_number` says per breakdown whether its values are numbers (None: some
    are); `calculations` are the distinct aggregates that SQL computes, the shown ones first.
    """

    query: Query
    calculations: tuple[Calculation, ...]
    is_number: tuple[bool | None, ...]
    environments: Collection[str] | None
    binder: Callable[[], Binder]

    @property
    def step_ns(self) -> int:
        """The length of one time bucket."""
        assert self.query.granularity is not None, "the query is resolved"
        return max(round(self.query.granularity * NS), 1)


def compiled(
    query: Query,
    *,
    types: Callable[[str], Collection[str]],
    environments: Collection[str] | None,
    binder: Callable[[], Binder],
) -> Compiled:
    """Return the shape of a resolved query; `types(column)` are those it was seen with."""
    wanted = [_summed(one) for one in query.calculations if one.op is not Calculate.HEATMAP]
    wanted += [
        Calculation(op=one.op, column=one.column) for one in query.orders if one.op is not None
    ]
    wanted += [Calculation(op=one.calculate_op, column=one.column) for one in query.havings]
    return Compiled(
        query=query,
        calculations=tuple(dict.fromkeys(wanted)),
        is_number=tuple(_is_number(column, types(column)) for column in query.breakdowns),
        environments=environments,
        binder=binder,
    )


def results(shape: Compiled) -> Statement:
    """Return the statement whose rows are: rows matched, group hash, per breakdown a text and
    whether it is a number, then the calculations in order."""
    binder, query = shape.binder(), shape.query
    groups = _groups(shape, binder)
    columns = [
        "sum(count()) OVER () AS matched",
        f"{_group_hash(groups)} AS g",
        *(f"{text} AS b{index}, {kind} AS k{index}" for index, (text, kind) in enumerate(groups)),
        *_aggregates(shape, binder),
    ]
    inner = (
        f"SELECT {', '.join(columns)} FROM {TABLE} WHERE {_where(shape, binder)}"  # noqa: S608
        + _group_by(groups)
    )
    text = f"SELECT * FROM ({inner})"  # noqa: S608
    if query.havings:
        claims = [
            f"ifNull({_alias(shape, one.calculate_op, one.column)} {one.op} "
            f"{binder.number(one.value)}, false)"
            for one in query.havings
        ]
        text += " WHERE " + " AND ".join(claims)
    text += " ORDER BY " + ", ".join(_orders(shape))
    text += f" LIMIT {binder.integer(query.limit)}"
    return binder.statement(text)


def series(shape: Compiled, hashes: Sequence[int]) -> Statement:
    """Return the statement whose rows are: bucket, group hash, then the calculations in order."""
    binder = shape.binder()
    groups = _groups(shape, binder)
    columns = [
        f"{_bucket(shape, binder)} AS bucket",
        f"{_group_hash(groups)} AS g",
        *_aggregates(shape, binder),
    ]
    text = (
        f"SELECT {', '.join(columns)} FROM {TABLE} WHERE {_where(shape, binder)}"  # noqa: S608
        f"{_among_groups(groups, hashes, binder)} GROUP BY bucket, g ORDER BY bucket, g "
        f"LIMIT {binder.integer(SERIES_ROWS_MAX + 1)}"
    )
    return binder.statement(text)


def heatmap(shape: Compiled, column: str, hashes: Sequence[int]) -> Statement:
    """Return the statement whose rows are: group hash, bucket, row index, weight."""
    binder = shape.binder()
    groups = _groups(shape, binder)
    value = number_of(column, binder)
    text = (
        f"SELECT {_group_hash(groups)} AS g, {_bucket(shape, binder)} AS bucket, "  # noqa: S608
        f"{index_sql(f'assumeNotNull({value})')} AS y, sum(sample_rate) "
        f"FROM {TABLE} WHERE {_where(shape, binder)} AND isNotNull({value})"
        f"{_among_groups(groups, hashes, binder)} GROUP BY g, bucket, y ORDER BY g, bucket, y "
        f"LIMIT {binder.integer(CELLS_MAX + 1)}"
    )
    return binder.statement(text)


def _is_number(column: str, types: Collection[str]) -> bool | None:
    fixed = FIXED.get(column)
    if fixed is not None:
        return fixed.number is not None
    return None if len(types) != 1 else "number" in types


def _groups(shape: Compiled, binder: Binder) -> list[tuple[str, str]]:
    """Return, per breakdown, SQL of its value as text and of whether that is a number."""
    groups: list[tuple[str, str]] = []
    for column, known in zip(shape.query.breakdowns, shape.is_number, strict=True):
        kind = f"isNotNull({number_of(column, binder)})" if known is None else str(known).lower()
        groups.append((text_of(column, binder), kind))
    return groups


def _group_hash(groups: list[tuple[str, str]]) -> str:
    if not groups:
        return "toUInt64(0)"
    parts = [f"ifNull({text}, ''), isNull({text}), {kind}" for text, kind in groups]
    return f"cityHash64({', '.join(parts)})"


def _group_by(groups: list[tuple[str, str]]) -> str:
    if not groups:
        return ""
    names = [f"b{index}, k{index}" for index in range(len(groups))]
    return f" GROUP BY g, {', '.join(names)}"


def _among_groups(groups: list[tuple[str, str]], hashes: Sequence[int], binder: Binder) -> str:
    if not groups:
        return ""
    return f" AND {_group_hash(groups)} IN {binder.bind(list(hashes), 'Array(UInt64)')}"


def _bucket(shape: Compiled, binder: Binder) -> str:
    return f"intDiv(toUnixTimestamp64Nano(time), {binder.integer(shape.step_ns)})"


def _where(shape: Compiled, binder: Binder) -> str:
    query = shape.query
    assert query.start_time is not None, "the query is resolved"
    assert query.end_time is not None, "the query is resolved"
    parts = [
        f"time >= fromUnixTimestamp64Nano({binder.integer(round(query.start_time * NS))})",
        f"time < fromUnixTimestamp64Nano({binder.integer(round(query.end_time * NS))})",
    ]
    if query.dataset is not None:
        parts.append(f"dataset = {binder.text(query.dataset)}")
    narrowing: list[Filter] = []
    if query.environment is not None:
        narrowing.append(Filter(column=ENVIRONMENT, op=Op.EQUAL, value=query.environment))
    if shape.environments is not None:
        names = tuple(sorted(shape.environments))
        narrowing.append(Filter(column=ENVIRONMENT, op=Op.IN, value=names))
    if narrowing:
        parts.append(predicate(narrowing, "AND", binder))
    if query.filters:
        parts.append(predicate(query.filters, query.filter_combination, binder))
    return " AND ".join(parts)


def _aggregates(shape: Compiled, binder: Binder) -> list[str]:
    return [
        f"{_aggregate(one, binder)} AS a{index}" for index, one in enumerate(shape.calculations)
    ]


def _aggregate(one: Calculation, binder: Binder) -> str:
    if one.op is Calculate.COUNT:
        return "sum(sample_rate)"
    assert one.column is not None, "the calculation checked itself"
    if one.op is Calculate.COUNT_DISTINCT:
        return f"uniqCombined64(20)({text_of(one.column, binder)})"
    value = number_of(one.column, binder)
    if one.op in QUANTILES:
        return f"quantileTDigestWeighted({QUANTILES[one.op]})({value}, sample_rate)"
    match one.op:
        case Calculate.SUM:
            return f"sum({value} * sample_rate)"
        case Calculate.AVG:
            weight = f"sumIf(sample_rate, isNotNull({value}))"
            return f"sum({value} * sample_rate) / nullIf({weight}, 0)"
        case Calculate.MIN:
            return f"min({value})"
        case Calculate.MAX:
            return f"max({value})"
        case _:
            raise AssertionError(one.op)


def _summed(one: Calculation) -> Calculation:
    return Calculation(op=RATES.get(one.op, one.op), column=one.column)


def _alias(shape: Compiled, op: Calculate, column: str | None) -> str:
    return f"a{shape.calculations.index(Calculation(op=op, column=column))}"


def _orders(shape: Compiled) -> list[str]:
    orders = shape.query.orders or _usual(shape.query)
    texts: list[str] = []
    for order in orders:
        way = "ASC" if order.order == "ascending" else "DESC"
        if order.op is not None:
            texts.append(f"{_alias(shape, order.op, order.column)} {way} NULLS LAST")
        else:
            index = shape.query.breakdowns.index(str(order.column))
            texts.append(f"if(k{index}, toFloat64OrNull(b{index}), NULL) {way} NULLS LAST")
            texts.append(f"b{index} {way} NULLS LAST")
    return [*texts, "g"]


def _usual(query: Query) -> tuple[Order, ...]:
    for one in query.calculations:
        if one.op not in RATES and one.op is not Calculate.HEATMAP:
            return (Order(op=one.op, column=one.column),)
    return ()
