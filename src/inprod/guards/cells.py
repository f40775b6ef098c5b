"""The one statement that counts a rollout's evidence: all its guards, all new closed buckets.

    events since the start --group by unit, arm, stage--> first times --group by unit--> entries
        --array join--> one row per count --group by--> cells                      (unit: split)
    events of the new buckets --array join--> cells                                (unit: event)
    events of the last `over_s` of each new bucket --aggregate--> cells            (threshold)

A unit counts once: each stage of the dial is a fresh randomisation of those that were control so
far, so it enters once per stage as control, and as treated only in the first stage in which it is
seen treated; its outcomes count only within that entry (anchors: Lindon and Malek 2022).

Units seen in the new buckets are looked up from the rollout's start, in arrival order; cells of
buckets up to `last` were counted before and are left out, so every bucket is counted once, whatever
is restarted.
"""

# ruff: noqa: S608  # whatever a person wrote is bound; the rest of the text is ours and numbers
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from inprod.events.columns import ENVIRONMENT, TEST
from inprod.events.query import Calculate, Filter
from inprod.events.sql import (
    TABLE,
    Binder,
    Statement,
    exists,
    number_of,
    predicate,
    text_of,
)
from inprod.guards.arms import Arms, Window
from inprod.guards.evidence import LATENCY_BIN_RATIO, LATENCY_FLOOR, MEAN_BINS, What
from inprod.guards.guard import Guard, Kind, Unit
from inprod.operators import Op

EXPOSURES = -1  # guard number of the rollout's own exposures; its `value` cells count all events
USERS = -2  # units that saw the treatment for the first time, in any bucket, counted or not
OUTCOMES_MAX = 10_000
NO_ARM = 2
_BAD_DEFAULT = (Filter(column="error", op=Op.EQUAL, value=True),)
_QUANTILES = {
    Calculate.P001: 0.001, Calculate.P01: 0.01, Calculate.P05: 0.05, Calculate.P10: 0.1,
    Calculate.P20: 0.2, Calculate.P25: 0.25, Calculate.P50: 0.5, Calculate.P75: 0.75,
    Calculate.P80: 0.8, Calculate.P90: 0.9, Calculate.P95: 0.95, Calculate.P99: 0.99,
    Calculate.P999: 0.999,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What to count: buckets `last < b <= closed` of `batch_ms`; units since bucket `start`.

    `full_stage` is the stage at 100 %, in which no control is left: control that still arrives
    there is left over from before the turn, and is not counted.
    """

    environment: str
    arms: Arms
    guards: tuple[Guard, ...]
    windows: tuple[Window, ...]
    batch_ms: int
    start: int
    last: int
    closed: int
    full_stage: int | None = None
    include_test_traffic: bool = False


def counted(count: Count, binder: Binder) -> Statement:
    """Return the statement; its rows are (guard, what, bucket, stage, stratum, arm, bin, n, value).

    `what` is 0 exposed, 1 bad, 2 value.
    """
    parts = [_traffic(count, binder), _units(count, binder)]
    if any(_is_by_event(guard) for guard in count.guards):
        parts.append(_events(count, binder))
    parts.extend(
        _threshold(number, guard, count, binder)
        for number, guard in enumerate(count.guards)
        if guard.kind is Kind.THRESHOLD
    )
    return binder.statement("\nUNION ALL\n".join(parts))


WHATS: tuple[What, ...] = (What.EXPOSED, What.BAD, What.VALUE)


def due_after(guard: Guard, batch_ms: int) -> int:
    """Return how many buckets after its entry a unit's outcome is due."""
    return math.ceil(guard.timeout_s * 1000 / batch_ms)


def _is_by_event(guard: Guard) -> bool:
    return guard.unit is Unit.EVENT and guard.kind in (
        Kind.ERRORS, Kind.RATE, Kind.LATENCY, Kind.MEAN,
    )  # fmt: skip


def _is_by_unit(guard: Guard) -> bool:
    if guard.kind is Kind.COMPLETENESS:
        return True
    return guard.kind in (Kind.ERRORS, Kind.RATE, Kind.LATENCY, Kind.MEAN) and (
        guard.unit is Unit.SPLIT
    )


def _traffic(count: Count, binder: Binder) -> str:
    return (
        f"SELECT {EXPOSURES} AS guard, 2 AS what, toInt64({_bucket(count)}) AS bucket, 0 AS stage, "
        "0 AS stratum, 0 AS arm, 0 AS bin, toInt64(count()) AS n, toFloat64(0) AS value "
        f"FROM {TABLE} WHERE {_arrived(count, count.last + 1)} AND {_here(count, binder)} "
        "GROUP BY bucket"
    )


def _units(count: Count, binder: Binder) -> str:
    guards = [(n, guard) for n, guard in enumerate(count.guards) if _is_by_unit(guard)]
    marks = [_marks(number, guard, binder) for number, guard in guards]
    firsts = [_firsts(number, guard) for number, guard in guards]
    cells = " , ".join(
        [
            f"[({EXPOSURES}, 0, entered, 0, 1)]",
            *(_unit_cells(number, guard, count) for number, guard in guards),
        ]
    )
    complete = [n for n, guard in guards if guard.kind is Kind.COMPLETENESS]
    outcomes = "".join(
        f", arrayFlatten(groupArray(outcomes_{n})) AS all_outcomes_{n}" for n in complete
    )
    carried = "".join(f", all_outcomes_{n}" for n in complete)
    columns = ["arm", "stage", "entered", *(c for _, names in firsts for c in names)]
    unpacked = ", ".join(f"entry.{i + 1} AS {name}" for i, name in enumerate(columns))
    left_over = ""
    if count.full_stage is not None:
        left_over = f" AND NOT (arm = 0 AND stage = {count.full_stage})"
    # The last level turns each unit's entries into counts; entries of stages after the first
    # treated one are not fresh, and `users` is the first treated bucket whatever its stage.
    return (
        "SELECT c.1 AS guard, c.2 AS what, toInt64(c.3) AS bucket, stage, stratum, arm, "
        "c.4 AS bin, toInt64(sum(c.5)) AS n, toFloat64(0) AS value FROM (\n"
        f" SELECT arrayJoin(if(arm = 1 AND entered = users, [({USERS}, 0, users, 0, 1)], []) "
        "|| if(fresh, arrayConcat("
        f"{cells}), [])) AS c, stage, arm, stratum FROM (\n"
        f"  SELECT {unpacked}, users{carried}, "
        "stage >= 0 AND arm < 2 AND (arm = 0 OR stage = first_treated)"
        f"{left_over}"
        " AS fresh, if(stage < 0, 0, 1 + arrayMax(arrayConcat([-1], "
        "arrayFilter(s -> s < stage, control_stages)))) AS stratum FROM (\n"
        "   SELECT unit, minIf(stage, arm = 1 AND stage >= 0) AS first_treated, "
        "minIf(entered, arm = 1) AS users, "
        "groupUniqArrayIf(stage, arm = 0 AND stage >= 0) AS control_stages"
        f"{outcomes}, groupArray(({', '.join(columns)})) AS entries FROM (\n"
        "    SELECT unit, arm, stage, min(b) AS entered"
        + "".join(f", {text}" for text, _ in firsts)
        + f" FROM (\n     SELECT {_arm_columns(count, binder)}"
        + "".join(f", {text}" for text in marks)
        + f"\n     FROM {TABLE} WHERE {_arrived(count, count.start)} AND {_here(count, binder)}"
        + _recent(count, binder)
        + ") WHERE unit != '' AND (" + _wanted(complete) + ")"
        " GROUP BY unit, arm, stage) GROUP BY unit) ARRAY JOIN entries AS entry"
        ")) WHERE bucket > " + str(count.last) + " AND bucket <= " + str(count.closed) +
        " GROUP BY guard, what, bucket, stage, stratum, arm, bin"
    )  # fmt: skip


def _recent(count: Count, binder: Binder) -> str:
    """Narrow to the units that can bring a new count, so that a long rollout stays cheap to count:
    those seen in the new buckets, and those whose outcome falls due in them."""
    complete = [guard for guard in count.guards if guard.kind is Kind.COMPLETENESS]
    due = max((due_after(guard, count.batch_ms) for guard in complete), default=0)
    first = count.last + 1 - due
    if first <= count.start:
        return ""
    unit = f"ifNull({text_of(count.arms.unit, binder)}, '')"
    return (
        f" AND unit IN (SELECT {unit} FROM {TABLE} WHERE {_arrived(count, first)} "
        f"AND {_here(count, binder)} AND {_arm(count.arms, binder)} < {NO_ARM})"
    )


def _wanted(complete: Sequence[int]) -> str:
    return " OR ".join([f"arm < {NO_ARM}", *(f"o_{number}" for number in complete)])


def _arm_columns(count: Count, binder: Binder) -> str:
    stages = "".join(
        f"b >= {window.start}"
        + (f" AND b < {window.end}" if window.end is not None else "")
        + f", {window.stage}, "
        for window in count.windows
    )
    stage = f"multiIf({stages}-1)" if stages else "-1"
    return (
        f"ifNull({text_of(count.arms.unit, binder)}, '') AS unit, {_arm(count.arms, binder)} AS arm"
        f", {_bucket(count)} AS b, {stage} AS stage, ingested, time"
    )


def _arm(arms: Arms, binder: Binder) -> str:
    value = f"ifNull({text_of(arms.attribute, binder)}, '')"
    treated, control = binder.text(arms.treated), binder.text(arms.control)
    arm = f"multiIf({value} = {treated}, 1, {value} = {control}, 0, {NO_ARM})"
    if not arms.rule:
        return arm
    rule = f"ifNull({text_of(arms.rule_attribute, binder)}, '') = {binder.text(arms.rule)}"
    return f"if({rule}, {arm}, {NO_ARM})"


def _marks(number: int, guard: Guard, binder: Binder) -> str:
    """Return columns per event: m (the guard looks at it), bad, o (outcome), v (value)."""
    looked = _looked(guard, binder)
    match guard.kind:
        case Kind.ERRORS | Kind.RATE:
            bad = predicate(guard.bad or _BAD_DEFAULT, "AND", binder)
            return f"{looked} AS m_{number}, m_{number} AND {bad} AS bad_{number}"
        case Kind.COMPLETENESS:
            return (
                f"{looked} AS m_{number}, {predicate(guard.outcome, 'AND', binder)} AS o_{number}"
            )
        case _:
            value = _value(guard, binder)
            return f"{value} AS v_{number}, {looked} AND isFinite(v_{number}) AS m_{number}"


def _firsts(number: int, guard: Guard) -> tuple[str, list[str]]:
    """Return the aggregates per unit, arm and stage, and the names that are carried on."""
    n = number
    first = f"minIf(b, m_{n}) AS first_{n}, countIf(m_{n}) > 0 AS has_{n}"
    match guard.kind:
        case Kind.ERRORS | Kind.RATE:
            text = f"{first}, minIf(b, bad_{n}) AS turned_{n}, countIf(bad_{n}) > 0 AS is_bad_{n}"
            return text, [f"first_{n}", f"has_{n}", f"turned_{n}", f"is_bad_{n}"]
        case Kind.COMPLETENESS:
            text = f"{first}, groupUniqArrayIf({OUTCOMES_MAX})(b, o_{n}) AS outcomes_{n}"
            return text, [f"first_{n}", f"has_{n}"]
        case _:
            value = f"minIf((ingested, time, v_{n}), m_{n}).3 AS value_{n}"
            return f"{first}, {value}", [f"first_{n}", f"has_{n}", f"value_{n}"]


def _unit_cells(number: int, guard: Guard, count: Count) -> str:
    """Return an array of (guard, what, bucket, bin, n) for one entry of a unit."""
    n = number
    match guard.kind:
        case Kind.ERRORS:
            return (
                f"if(has_{n}, [({n}, 0, first_{n}, 0, 1)], []), "
                f"if(is_bad_{n}, [({n}, 1, turned_{n}, 0, 1)], [])"
            )
        case Kind.RATE:
            return f"[({n}, 0, entered, 0, 1)], if(is_bad_{n}, [({n}, 1, turned_{n}, 0, 1)], [])"
        case Kind.COMPLETENESS:
            due = f"first_{n} + {due_after(guard, count.batch_ms)}"
            met = f"arrayExists(x -> x >= first_{n} AND x <= {due}, all_outcomes_{n})"
            return (
                f"if(has_{n}, [({n}, 0, {due}, 0, 1)], []), "
                f"if(has_{n} AND NOT {met}, [({n}, 1, {due}, 0, 1)], [])"
            )
        case _:
            return f"if(has_{n}, [({n}, 0, first_{n}, {_bin(guard, f'value_{n}')}, 1)], [])"


def _events(count: Count, binder: Binder) -> str:
    guards = [(n, guard) for n, guard in enumerate(count.guards) if _is_by_event(guard)]
    cells = " , ".join(_event_cells(number, guard) for number, guard in guards)
    full = (
        f" AND NOT (arm = 0 AND stage = {count.full_stage})" if count.full_stage is not None else ""
    )
    marks = "".join(f", {_marks(number, guard, binder)}" for number, guard in guards)
    return (
        "SELECT c.1 AS guard, c.2 AS what, toInt64(b) AS bucket, stage, 0 AS stratum, arm, "
        "c.3 AS bin, toInt64(count()) AS n, toFloat64(0) AS value FROM (\n"
        f" SELECT arrayJoin(arrayConcat({cells})) AS c, b, stage, arm FROM (\n"
        f"  SELECT {_arm_columns(count, binder)}{marks} FROM {TABLE} "
        f"WHERE {_arrived(count, count.last + 1)} AND {_here(count, binder)})"
        f" WHERE arm < {NO_ARM} AND stage >= 0{full}) "
        "GROUP BY guard, what, bucket, stage, stratum, arm, bin"
    )


def _event_cells(number: int, guard: Guard) -> str:
    n = number
    match guard.kind:
        case Kind.ERRORS:
            return f"if(m_{n}, [({n}, 0, 0)], []), if(bad_{n}, [({n}, 1, 0)], [])"
        case Kind.RATE:
            return f"[({n}, 0, 0)], if(bad_{n}, [({n}, 1, 0)], [])"
        case _:
            return f"if(m_{n}, [({n}, 0, {_bin(guard, f'v_{n}')})], [])"


def _threshold(number: int, guard: Guard, count: Count, binder: Binder) -> str:
    assert guard.calculate is not None, "the guard checked itself"
    reach = math.ceil(guard.over_s * 1000 / count.batch_ms)
    first, past = count.last + 1, count.closed + 1
    stage = "multiIf(" + "".join(
        f"bucket >= {window.start}, {window.stage}, " for window in reversed(count.windows)
    ) + "-1)" if count.windows else "-1"  # fmt: skip
    arm = {"treated": 1, "control": 0, "all": None}[guard.arm]
    side = "" if arm is None else f" AND {_arm(count.arms, binder)} = {arm}"
    return (
        f"SELECT {number} AS guard, 2 AS what, toInt64(bucket) AS bucket, {stage} AS stage, "
        f"0 AS stratum, {1 if arm is None else arm} AS arm, 0 AS bin, toInt64(count()) AS n, "
        f"toFloat64(ifNull({_aggregate(guard)}, 0)) AS value FROM (\n"
        f" SELECT arrayJoin(range(toUInt64(greatest({_bucket(count)}, {first})), "
        f"toUInt64(least({_bucket(count)} + {reach}, {past})))) AS bucket, "
        f"{_measured(guard, binder)} AS v, sample_rate AS w FROM {TABLE} "
        f"WHERE {_arrived(count, first - reach + 1)} AND {_here(count, binder)} "
        f"AND {_looked(guard, binder)}{side}) "
        "GROUP BY bucket HAVING stage >= 0"
    )


def _measured(guard: Guard, binder: Binder) -> str:
    if guard.calculate is Calculate.COUNT or guard.column is None:
        return "toFloat64(1)"
    if guard.calculate is Calculate.COUNT_DISTINCT:
        return text_of(guard.column, binder)
    return number_of(guard.column, binder)


def _aggregate(guard: Guard) -> str:
    """Return the aggregate of `v` with weight `w`; rates are per second of `over_s`."""
    calculate = guard.calculate
    assert calculate is not None, "the guard checked itself"
    if calculate in _QUANTILES:
        return f"quantileTDigestWeighted({_QUANTILES[calculate]})(v, w)"
    average = "sum(v * w) / nullIf(sumIf(w, isNotNull(v)), 0)"
    per_second = f" / {float(guard.over_s)!r}"
    texts: dict[Calculate, str] = {
        Calculate.COUNT: "sum(w)", Calculate.COUNT_DISTINCT: "uniqExact(v)",
        Calculate.SUM: "sum(v * w)", Calculate.AVG: average,
        Calculate.MIN: "min(v)", Calculate.MAX: "max(v)",
        Calculate.RATE_SUM: f"sum(v * w){per_second}",
        Calculate.RATE_AVG: f"({average}){per_second}", Calculate.RATE_MAX: f"max(v){per_second}",
    }  # fmt: skip
    assert calculate in texts, "the guard refuses a heatmap"
    return texts[calculate]


def _looked(guard: Guard, binder: Binder) -> str:
    filters = guard.where
    if guard.dataset is not None:
        filters = (Filter(column="dataset", op=Op.EQUAL, value=guard.dataset), *filters)
    return predicate(filters, "AND", binder)


def _value(guard: Guard, binder: Binder) -> str:
    column = guard.column or "duration_ms"
    return f"ifNull({number_of(column, binder)}, nan)"


def _bin(guard: Guard, value: str) -> str:
    if guard.kind is Kind.LATENCY:
        return (
            f"toInt32(floor(log(greatest({value}, {LATENCY_FLOOR!r})) / "
            f"log({LATENCY_BIN_RATIO!r})))"
        )
    assert guard.clip is not None, "the guard checked itself"
    clip = f"toFloat64({float(guard.clip)!r})"
    return f"toInt32(round(least(greatest({value}, 0), {clip}) / {clip} * {MEAN_BINS}))"


def _bucket(count: Count) -> str:
    return f"intDiv(toUnixTimestamp64Milli(ingested), {count.batch_ms})"


def _arrived(count: Count, first: int) -> str:
    low, high = first * count.batch_ms, (count.closed + 1) * count.batch_ms
    return (
        f"ingested >= fromUnixTimestamp64Milli({low}) AND "
        f"ingested < fromUnixTimestamp64Milli({high})"
    )


def _here(count: Count, binder: Binder) -> str:
    here = predicate(
        (Filter(column=ENVIRONMENT, op=Op.EQUAL, value=count.environment),), "AND", binder
    )
    return here if count.include_test_traffic else f"{here} AND NOT {exists(TEST, binder)}"
