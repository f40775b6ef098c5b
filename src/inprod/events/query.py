"""The query: Honeycomb's query specification, as values with stated limits.

    filters -> breakdowns -> calculations -> havings -> orders -> limit, per granularity

Canonical column names of the answer: `COUNT`, `P99(duration_ms)`, `COUNT_DISTINCT(user.id)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A claim on one column; a missing column fails all but the negative operators."""

    column: str
    op: Op
    value: Scalar | tuple[Scalar, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calculation:
    """One aggregate; COUNT takes no column, every other one needs it."""

    op: Calculate
    column: str | None = None

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Having:
    """Keep groups whose calculation stands in this relation to `value`."""

    calculate_op: Calculate
    op: Op
    value: float
    column: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question. Times are Unix seconds; `granularity` in seconds (None: chosen from the range);
    `dataset` None means all of them; `environment` narrows to `deployment.environment.name`."""

    calculations: tuple[Calculation, ...] = (Calculation(op=Calculate.COUNT),)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`results`: one flat row per group; `series`: the same per time bucket, with `time` (Unix s);
    `query`: the query as it was understood, times made absolute."""

    results: list[dict[str, Any]]
    series: list[dict[str, Any]]
    query: dict[str, Any]
    elapsed_ms: float
    rows_read: int
