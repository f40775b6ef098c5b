"""What a command says, and the one place that prints it: data to stdout, words to stderr."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import click

NUMBER = re.compile(r"-|-?[0-9][0-9.,e+-]*( ?%)?")
LAST_MIN = 24  # a last column of prose that would be narrower goes below its row
Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows for people; every row has a cell for each column."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The result of a command: `data` for `--json`, `shown` for people, `words` for stderr."""

    data: object
    shown: Table | str = ""
    words: str = ""


def print_said(said: Said, *, as_json: bool) -> None:
    """Print one result; in a pipe tables are plain columns, on a terminal they have rules."""
    if as_json:
        click.echo(json.dumps(said.data, ensure_ascii=False))
    elif isinstance(said.shown, Table):
        _print_table(said.shown)
    elif said.shown:
        click.echo(said.shown)
    if said.words and not as_json:
        click.echo(said.words, err=True)
    sys.stdout.flush()


def text_of(cell: Cell) -> str:
    """Return a cell as it is shown."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


def when(time_ns: object) -> str:
    """Return a time in nanoseconds as `2026-11-22 11:41:10Z`, `-` for none."""
    if not isinstance(time_ns, int) or not time_ns:
        return "-"
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _print_table(table: Table) -> None:
    cells = [[text_of(cell) for cell in row] for row in table.rows]
    widths = [
        max([len(title), *(len(row[index]) for row in cells)])
        for index, title in enumerate(table.columns)
    ]
    if not sys.stdout.isatty():
        for row in [[title.upper() for title in table.columns], *cells]:
            click.echo(_line(row, widths))
        return
    room = shutil.get_terminal_size().columns
    left = room - sum(width + 3 for width in widths[:-1])
    if left < min(LAST_MIN, widths[-1]) and any(" " in row[-1] for row in cells):
        _print_below(table.columns, cells, widths, room)
    else:
        _print_rich(table.columns, cells)


def _line(row: Iterable[str], widths: Iterable[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return "  ".join(padded).rstrip()


def _print_below(
    columns: Sequence[str], cells: Iterable[Sequence[str]], widths: Sequence[int], room: int
) -> None:
    """Print rows with their last cell, which is prose, on lines of its own."""
    click.echo(_line([title.upper() for title in columns[:-1]], widths[:-1]))
    for row in cells:
        click.echo(_line(row[:-1], widths[:-1]))
        if row[-1]:
            click.echo(textwrap.indent(textwrap.fill(row[-1], room - 4), "    "))


def _print_rich(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(columns):
        is_number = all(NUMBER.fullmatch(row[index]) for row in cells)
        table.add_column(title, overflow="fold", justify="right" if is_number else "left")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
