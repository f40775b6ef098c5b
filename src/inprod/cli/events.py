"""`inprod events`: ask the event store, send it events, follow what arrives."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from inprod.cli.command import at_server
from inprod.cli.flags import context_of, value_of
from inprod.cli.output import Said, Table
from inprod.cli.remote import Remote
from inprod.errors import Invalid, Missing, nearest
from inprod.operators import Op
from inprod.units import Unit, parse

TAIL_S = 2.0
SEND_LINES = 1000
SEND_BYTES = 4_000_000
FILE_BYTES_MAX = 1_000_000


@click.group()
def events() -> None:
    """Query, send and follow events."""


@events.command("query")
@at_server
@click.option("-c", "--calculate", "calculations", multiple=True, metavar="CALCULATION",
              help="COUNT, P99(duration_ms), ... [default: COUNT]")  # fmt: skip
@click.option("-w", "--where", "filters", multiple=True, metavar="FILTER",
              help="'http.route = /checkout', 'error exists', ...; all must hold.")  # fmt: skip
@click.option("-b", "--by", "breakdowns", multiple=True, metavar="COLUMN", help="Group by it.")
@click.option("--last", default="2h", show_default=True, metavar="DURATION", help="Time range.")
@click.option("--limit", type=int, metavar="NUMBER", help="How many groups.")
@click.option("--dataset", metavar="NAME", help="Only this dataset.")
@click.option("-e", "--environment", metavar="NAME", help="Only this environment.")
@click.option("-f", "--file", metavar="FILE", help="A whole query in JSON; `-` is stdin.")
def query(
    remote: Remote, calculations: tuple[str, ...], filters: tuple[str, ...],
    breakdowns: tuple[str, ...], last: str, limit: int | None, dataset: str | None,
    environment: str | None, file: str | None,
) -> Said:  # fmt: skip
    """Ask a question, in the words of Honeycomb's queries."""
    if file:
        asked = _read_json(file)
    else:
        asked = {
            "calculations": [calculation_of(one) for one in calculations] or [{"op": "COUNT"}],
            "filters": [filter_of(one) for one in filters],
            "breakdowns": list(breakdowns),
            "time_range": parse(last, Unit.SECONDS),
            "disable_series": True,
            **({"limit": limit} if limit is not None else {}),
            **({"dataset": dataset} if dataset else {}),
            **({"environment": environment} if environment else {}),
        }
    found = remote.post("/api/query", asked)
    words = f"{found['rows_read']} rows read in {found['elapsed_ms']:.0f} ms"
    return Said(data=found, shown=_table(found["results"]), words=words)


@events.command("send")
@at_server
@click.option("--dataset", metavar="NAME", help="Dataset of events that name none.")
@click.option("--name", metavar="NAME", help="Name of the one event made from -a.")
@click.option("-a", "--attribute", "attributes", multiple=True, metavar="NAME=VALUE",
              help="Attribute of one event; without any, NDJSON is read from stdin.")  # fmt: skip
def send(
    remote: Remote, dataset: str | None, name: str | None, attributes: tuple[str, ...]
) -> Said:
    """Send one event, or NDJSON from stdin."""
    sent = 0
    extra = {"dataset": dataset} if dataset else {}
    if attributes or name:
        event = {**extra, **({"name": name} if name else {}), **context_of(attributes)}
        remote.ask("POST", "/api/events", body=event)
        sent = 1
    else:
        for lines in _batches(extra):
            remote.ask("POST", "/api/events", raw=b"\n".join(lines), kind="application/x-ndjson")
            sent += len(lines)
    return Said(data={"sent": sent}, words=f"{sent} event{'' if sent == 1 else 's'} stored.")


@events.command("tail")
@at_server
@click.option("--dataset", metavar="NAME", help="Only this dataset.")
@click.option("-w", "--where", "filters", multiple=True, metavar="FILTER", help="As in query.")
@click.option("-b", "--by", "breakdowns", multiple=True, metavar="COLUMN",
              help="Group by it. [default: dataset, name]")  # fmt: skip
@click.option("--times", type=click.IntRange(min=1), help="Stop after so many looks.")
def tail(
    remote: Remote, dataset: str | None, filters: tuple[str, ...], breakdowns: tuple[str, ...],
    times: int | None,
) -> Iterator[Said]:  # fmt: skip
    """Follow what happens: every two seconds, how many events of which sort."""
    asked = {
        "calculations": [calculation_of(one) for one in ("COUNT", "P50(duration_ms)")],
        "filters": [filter_of(one) for one in filters],
        "breakdowns": list(breakdowns) or ["dataset", "name"],
        "disable_series": True,
        **({"dataset": dataset} if dataset else {}),
    }
    since = time.time() - 2 * TAIL_S
    looks = 0
    while times is None or looks < times:
        until = time.time() - TAIL_S  # what happened before is visible by now
        if until > since:
            found = remote.post("/api/query", {**asked, "start_time": since, "end_time": until})
            moment = time.strftime("%H:%M:%S", time.gmtime(until))
            for row in found["results"]:
                shown = "  ".join(f"{name}={value}" for name, value in row.items())
                yield Said(data={"time": until, **row}, shown=f"{moment}  {shown}")
            since, looks = until, looks + 1
        if times is None or looks < times:
            time.sleep(TAIL_S)


def calculation_of(text: str) -> dict[str, str]:
    """Return the calculation that `COUNT` or `P99(duration_ms)` writes down."""
    op, bracket, rest = text.strip().partition("(")
    if not bracket:
        return {"op": op.upper()}
    if not rest.endswith(")") or not rest[:-1].strip():
        raise Invalid(
            "bad_calculation", f"`{text}` is not a calculation", where="--calculate",
            hint="Write it as `P99(duration_ms)`.",
        )  # fmt: skip
    return {"op": op.strip().upper(), "column": rest[:-1].strip()}


def filter_of(text: str) -> dict[str, object]:
    """Return the filter that `column op value` writes down; `in` takes values with commas."""
    parts = text.split(maxsplit=2)
    ops = [op.value for op in Op]
    if len(parts) < 2:
        raise Invalid(
            "bad_filter", f"`{text}` is not a filter", where="--where",
            hint="Write it as `http.route = /checkout`.",
        )  # fmt: skip
    column, op, *rest = parts
    if op not in ops:
        raise Invalid(
            "unknown_operator", f"`{op}` is not an operator", where="--where",
            hint=nearest(op, ops),
        )  # fmt: skip
    if op in (Op.EXISTS, Op.DOES_NOT_EXIST):
        return {"column": column, "op": op}
    if not rest:
        raise Invalid("bad_filter", f"`{text}` has no value", where="--where", hint="Add one.")
    if op in (Op.IN, Op.NOT_IN):
        values = [value_of(one.strip()) for one in rest[0].split(",")]
        return {"column": column, "op": op, "value": values}
    return {"column": column, "op": op, "value": value_of(rest[0])}


def _read_json(file: str) -> Any:
    from pathlib import Path

    try:
        text = sys.stdin.read(FILE_BYTES_MAX) if file == "-" else Path(file).read_text()
    except OSError as error:
        raise Missing(
            "no_file", f"`{file}` cannot be read: {error.strerror}", hint="Give an existing file."
        ) from None
    try:
        return json.loads(text)
    except ValueError as error:
        raise Invalid("not_json", f"`{file}` is not JSON: {error}", hint="Mend it.") from None


def _batches(extra: dict[str, str]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        try:
            event: Any = json.loads(line)
        except ValueError as error:
            raise Invalid("not_json", f"line `{number}` is not JSON: {error}") from None
        if not isinstance(event, dict):
            raise Invalid("not_an_event", f"line `{number}` is not an object", hint="Mend it.")
        encoded = json.dumps({**extra, **event}).encode()
        batch.append(encoded)
        size += len(encoded)
        if len(batch) >= SEND_LINES or size >= SEND_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _table(results: list[dict[str, Any]]) -> Table:
    columns = list(dict.fromkeys(name for row in results for name in row))
    rows = [[_cell(row.get(name)) for name in columns] for row in results]
    return Table(columns=tuple(columns), rows=rows)


def _cell(value: Any) -> str | float | None:
    return value if value is None or isinstance(value, (str, int, float)) else json.dumps(value)
