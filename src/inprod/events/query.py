"""The query: Honeycomb's query specification, as values with stated limits.

    filters -> breakdowns -> calculations -> havings -> orders -> limit, per granularity

Canonical column names of the answer: `COUNT`, `P99(duration_ms)`, `COUNT_DISTINCT(user.id)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

from inprod.errors import Invalid
from inprod.operators import Op, Scalar
from inprod.units import Seconds

TIME_RANGE_S_DEFAULT = 7200.0
TIME_RANGE_S_MAX = 400 * 86400.0
POINTS_MAX = 1000
LIMIT_DEFAULT = 100
LIMIT_MAX = 1000
CALCULATIONS_MAX = 20
FILTERS_MAX = 100
BREAKDOWNS_MAX = 20
ORDERS_MAX = 20
HAVINGS_MAX = 20
VALUES_MAX = 1000
COLUMN_CHARACTERS_MAX = 500
TIME_S_MAX = 2.0**33  # the year 2242: nanoseconds since 1970 still fit 63 bits
# Chosen so that the whole range has at most POINTS_WANTED points.
GRANULARITIES_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
    172800, 604800,
)  # fmt: skip
POINTS_WANTED = 120
GRANULARITY_S_MIN = 0.001


class Calculate(StrEnum):
    """What to compute, weighted by `sample_rate`; HEATMAP answers `[[x, y, count], ...]`."""

    COUNT = "COUNT"
    SUM = "SUM"
    AVG = "AVG"
    MIN = "MIN"
    MAX = "MAX"
    COUNT_DISTINCT = "COUNT_DISTINCT"
    P001 = "P001"
    P01 = "P01"
    P05 = "P05"
    P10 = "P10"
    P20 = "P20"
    P25 = "P25"
    P50 = "P50"
    P75 = "P75"
    P80 = "P80"
    P90 = "P90"
    P95 = "P95"
    P99 = "P99"
    P999 = "P999"
    HEATMAP = "HEATMAP"
    RATE_AVG = "RATE_AVG"
    RATE_SUM = "RATE_SUM"
    RATE_MAX = "RATE_MAX"


QUANTILES: dict[Calculate, float] = {
    op: float("0." + op.value[1:]) for op in Calculate if op.value[1:].isdigit()
}
RATES: dict[Calculate, Calculate] = {
    Calculate.RATE_AVG: Calculate.AVG,
    Calculate.RATE_SUM: Calculate.SUM,
    Calculate.RATE_MAX: Calculate.MAX,
}
# These are made of the series, so nothing can be sorted or kept by them.
UNSORTABLE = frozenset({Calculate.HEATMAP, *RATES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A claim on one column; a missing column fails all but the negative operators."""

    column: str
    op: Op
    value: Scalar | tuple[Scalar, ...] | None = None

    def __post_init__(self) -> None:
        _check_column(self.column, "column")
        has_list = isinstance(self.value, tuple)
        match self.op:
            case Op.EXISTS | Op.DOES_NOT_EXIST:
                is_fit, wanted = self.value is None, "no value"
            case Op.IN | Op.NOT_IN:
                is_fit, wanted = has_list, "a list of values"
            case Op.GREATER | Op.GREATER_OR_EQUAL | Op.LESS | Op.LESS_OR_EQUAL:
                is_fit = isinstance(self.value, (str, int, float)) and self.value is not True
                is_fit, wanted = is_fit and self.value is not False, "a number or a text"
            case _:
                is_fit = self.value is not None and not has_list
                wanted = "one text, number, true or false"
        if not is_fit:
            raise Invalid(
                "wrong_value", f"`{self.op}` on `{self.column}` cannot take `{self.value}`",
                where="value", hint=f"Give {wanted}.",
            )  # fmt: skip
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        _check_count(values, VALUES_MAX, "value", "values")
        if any(isinstance(one, float) and not math.isfinite(one) for one in values):
            raise Invalid("wrong_value", "a value is not finite", where="value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calculation:
    """One aggregate; COUNT takes no column, every other one needs it."""

    op: Calculate
    column: str | None = None

    def __post_init__(self) -> None:
        _check_calculation(self.op, self.column, "column")

    @property
    def name(self) -> str:
        """The canonical name: `COUNT` or `P99(duration_ms)`."""
        return self.op.value if self.column is None else f"{self.op.value}({self.column})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Sort by a calculation (`op` and perhaps `column`) or by a breakdown (`column` alone)."""

    op: Calculate | None = None
    column: str | None = None
    order: Literal["ascending", "descending"] = "descending"

    def __post_init__(self) -> None:
        if self.op is None and self.column is None:
            raise Invalid("empty_order", "the order names nothing", hint="Give `op` or `column`.")
        if self.op is not None:
            _check_sortable(self.op, "op")
            _check_calculation(self.op, self.column, "column")


@dataclass(frozen=True, slots=True, kw_only=True)
class Having:
    """Keep groups whose calculation stands in this relation to `value`."""

    calculate_op: Calculate
    op: Op
    value: float
    column: str | None = None

    def __post_init__(self) -> None:
        _check_sortable(self.calculate_op, "calculate_op")
        _check_calculation(self.calculate_op, self.column, "column")
        if self.op not in _HAVING_OPS:
            raise Invalid(
                "wrong_operator", f"`{self.op}` does not compare numbers", where="op",
                hint="Use `=`, `!=`, `>`, `>=`, `<` or `<=`.",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question. Times are Unix seconds; `granularity` in seconds (None: chosen from the range);
    `dataset` None means all of them; `environment` narrows to `deployment.environment.name`."""

    calculations: tuple[Calculation, ...] = field(
        default_factory=lambda: (Calculation(op=Calculate.COUNT),)
    )
    filters: tuple[Filter, ...] = ()
    filter_combination: Literal["AND", "OR"] = "AND"
    breakdowns: tuple[str, ...] = ()
    orders: tuple[Order, ...] = ()
    havings: tuple[Having, ...] = ()
    limit: int = LIMIT_DEFAULT
    granularity: Seconds | None = None
    time_range: Seconds | None = None
    start_time: float | None = None
    end_time: float | None = None
    dataset: str | None = None
    environment: str | None = None
    disable_series: bool = False

    def __post_init__(self) -> None:
        _check_count(self.calculations, CALCULATIONS_MAX, "calculations", "calculations")
        _check_count(self.filters, FILTERS_MAX, "filters", "filters")
        _check_count(self.breakdowns, BREAKDOWNS_MAX, "breakdowns", "breakdowns")
        _check_count(self.orders, ORDERS_MAX, "orders", "orders")
        _check_count(self.havings, HAVINGS_MAX, "havings", "havings")
        for index, column in enumerate(self.breakdowns):
            _check_column(column, f"breakdowns[{index}]")
        if not 1 <= self.limit <= LIMIT_MAX:
            raise Invalid(
                "limit_out_of_range", f"`{self.limit}` is not a limit", where="limit",
                hint=f"Use a limit from 1 to {LIMIT_MAX}.",
            )  # fmt: skip
        for index, order in enumerate(self.orders):
            if order.op is None and order.column not in self.breakdowns:
                raise Invalid(
                    "unknown_order", f"`{order.column}` is not a breakdown",
                    where=f"orders[{index}].column",
                    hint="Sort by a breakdown, or give `op` to sort by a calculation.",
                )  # fmt: skip

    def columns(self) -> Iterator[str]:
        """Yield every column that the query names, perhaps more than once."""
        for path in self.columns_where():
            yield path[1]

    def columns_where(self) -> Iterator[tuple[str, str]]:
        """Yield where (`$.filters[0].column`) and which, for every column that is named."""
        for index, one in enumerate(self.filters):
            yield f"$.filters[{index}].column", one.column
        for index, column in enumerate(self.breakdowns):
            yield f"$.breakdowns[{index}]", column
        for index, calculation in enumerate(self.calculations):
            if calculation.column is not None:
                yield f"$.calculations[{index}].column", calculation.column
        for index, order in enumerate(self.orders):
            if order.op is not None and order.column is not None:
                yield f"$.orders[{index}].column", order.column
        for index, having in enumerate(self.havings):
            if having.column is not None:
                yield f"$.havings[{index}].column", having.column


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`results`: one flat row per group; `series`: the same per time bucket, with `time` (Unix s);
    `query`: the query as it was understood, times made absolute."""

    results: list[dict[str, Any]]
    series: list[dict[str, Any]]
    query: dict[str, Any]
    elapsed_ms: float
    rows_read: int


def resolved(query: Query, *, now_s: float) -> Query:
    """Return the query with `start_time`, `end_time` and `granularity` filled in, in seconds.

    Raises Invalid when they contradict each other, the range is longer than `TIME_RANGE_S_MAX`, or
    it would have more than `POINTS_MAX` points.
    """
    start, end, length = query.start_time, query.end_time, query.time_range
    for name, value in (("start_time", start), ("end_time", end)):
        if value is not None and not 0 <= value <= TIME_S_MAX:
            raise Invalid(
                "time_out_of_range", f"`{value}` is not a time", where=f"$.{name}",
                hint="Use Unix seconds.",
            )  # fmt: skip
    if start is not None and end is not None and length is not None:
        raise Invalid(
            "too_many_times", "start, end and range are all given", where="$.time_range",
            hint="Leave out one of `start_time`, `end_time`, `time_range`.",
        )  # fmt: skip
    length = TIME_RANGE_S_DEFAULT if length is None else length
    if start is None:
        end = now_s if end is None else end
        start = end - length
    elif end is None:
        end = start + length if query.time_range is not None else max(now_s, start + 1)
    span_s = end - start
    if not 0 < span_s <= TIME_RANGE_S_MAX:
        raise Invalid(
            "time_range_out_of_range", f"the range of `{span_s:.6g}` s cannot be asked for",
            where="$.time_range",
            hint=f"Ask for more than 0 s and at most {TIME_RANGE_S_MAX / 86400:.0f} days.",
        )  # fmt: skip
    return replace(
        query,
        start_time=max(start, 0.0),
        end_time=end,
        time_range=None,
        granularity=_granularity_s(query.granularity, span_s),
    )


def _granularity_s(given: float | None, span_s: float) -> float:
    if given is None:
        fits = (float(one) for one in GRANULARITIES_S if span_s / one <= POINTS_WANTED)
        return next(fits, float(math.ceil(span_s / POINTS_WANTED)))
    if given > TIME_RANGE_S_MAX:
        raise Invalid(
            "granularity_out_of_range", f"`{given:g}` s is too coarse", where="$.granularity",
            hint=f"Use at most {TIME_RANGE_S_MAX / 86400:.0f} days.",
        )  # fmt: skip
    if given < GRANULARITY_S_MIN:
        raise Invalid(
            "granularity_out_of_range", f"`{given}` s is too fine", where="$.granularity",
            hint=f"Use at least {GRANULARITY_S_MIN} s.",
        )  # fmt: skip
    if span_s / given > POINTS_MAX:
        raise Invalid(
            "too_many_points",
            f"`{given:g}` s over `{span_s:.6g}` s is {span_s / given:,.0f} points",
            where="$.granularity",
            hint=f"Use a granularity of at least {math.ceil(span_s / POINTS_MAX)} s, "
            f"for at most {POINTS_MAX} points.",
        )  # fmt: skip
    return given


def _check_column(column: str, where: str) -> None:
    if not 1 <= len(column) <= COLUMN_CHARACTERS_MAX:
        raise Invalid(
            "bad_column", f"`{column[:60]}` is not a column name", where=where,
            hint=f"Use 1 to {COLUMN_CHARACTERS_MAX} characters.",
        )  # fmt: skip


def _check_calculation(op: Calculate, column: str | None, where: str) -> None:
    if op is Calculate.COUNT and column is not None:
        raise Invalid(
            "column_not_taken", f"`COUNT` takes no column, not `{column}`", where=where,
            hint="Leave the column out, or use COUNT_DISTINCT.",
        )  # fmt: skip
    if op is not Calculate.COUNT:
        if column is None:
            raise Invalid("column_missing", f"`{op}` needs a column", where=where,
                          hint=f"Give the column, as in `{op}(duration_ms)`.")  # fmt: skip
        _check_column(column, where)


def _check_sortable(op: Calculate, where: str) -> None:
    if op in UNSORTABLE:
        raise Invalid(
            "not_sortable", f"`{op}` is not one number per group", where=where,
            hint="Use another calculation.",
        )  # fmt: skip


def _check_count(items: tuple[object, ...], most: int, where: str, what: str) -> None:
    if len(items) > most:
        raise Invalid(
            "too_many", f"`{len(items)}` {what} are too many", where=where,
            hint=f"Use at most {most}.",
        )  # fmt: skip


_HAVING_OPS = frozenset(
    {Op.EQUAL, Op.NOT_EQUAL, Op.GREATER, Op.GREATER_OR_EQUAL, Op.LESS, Op.LESS_OR_EQUAL}
)
