"""Writes the generated pages of docs/reference from the tables that the code runs on.

python docs/generate.py            writes them
python docs/generate.py --check    exits 1 when one is stale, and says which
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import click

from inprod.endpoint import Endpoint
from inprod.errors import BUG_EXIT_CODE, BUG_STATUS, PUBLIC_ERRORS
from inprod.server.settings import SETTINGS

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "src"
REFERENCE = DOCS / "reference"
NOTE = "<!-- Written by docs/generate.py from the code's own tables. Do not edit: `make docs`. -->"
TABLES = ("ENDPOINTS", "PAGES")
TOLD = frozenset({"url", "key", "as_json", "help"})
DEFAULT = re.compile(r"\s*\[default: (.*?)\]")
ERRORS = {one.__name__: one for one in PUBLIC_ERRORS}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[str(one).replace("|", "\\|").replace("\n", " ") for one in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def code(text: object) -> str:
    """Return text as code, or nothing for nothing."""
    return f"`{text}`" if str(text) else ""


def settings() -> str:
    """Return the page of the server's settings."""
    rows = [
        (code(one.name), code(one.variable), code(one.flag), one.kind, one.unit,
         code(one.default), one.sentence)
        for one in SETTINGS
    ]  # fmt: skip
    head = ("in the file", "in the environment", "on the command line", "type", "unit", "default",
            "what it is")  # fmt: skip
    return "\n\n".join((
        "# Settings",
        ("The server reads `inprod.toml` in its data folder, then the environment, then the command"
        " line; the later one wins. An unknown name is an error that suggests the nearest one."),
        table(head, rows),
    ))  # fmt: skip


def endpoints() -> list[tuple[str, Endpoint]]:
    """Return every route with the slice it belongs to."""
    found: list[tuple[str, Endpoint]] = []
    for path in sorted(SOURCE.rglob("*.py")):
        if not any(f"{name}:" in path.read_text() for name in TABLES):
            continue
        module = str(path.relative_to(SOURCE)).removesuffix(".py").replace("/", ".")
        loaded = importlib.import_module(module)
        for name in TABLES:
            rows = getattr(loaded, name, ())
            found += [(module.split(".")[1], row) for row in rows if isinstance(row, Endpoint)]
    return found


def routes() -> str:
    """Return the page of all routes, slice by slice."""
    parts = [
        "# Routes",
        ("One port serves everything. A route needs a key of the given role, sent as "
        "`Authorization: Bearer KEY`; `admin` may do everything, `operate` includes `read`, `sdk` "
        "includes `ingest`. Errors are `{\"error\": {code, message, where, hint}}`: see "
        "[errors](errors.md). The same table as OpenAPI: `/api/openapi.json`."),
    ]  # fmt: skip
    by_slice = sorted(endpoints(), key=lambda pair: pair[0])
    for slice_name, pairs in groupby(by_slice, key=lambda pair: pair[0]):
        rows = sorted(
            (one.path, one.method, one.kind, one.role or "anyone", one.sentence, one.takes,
             one.gives, ", ".join(one.raises))
            for _, one in pairs
        )  # fmt: skip
        parts.append(f"## {slice_name}")
        parts.append(
            table(
                ("route", "needs", "what it does", "takes", "gives", "raises"),
                [
                    (code(f"{method} {path}") + ("" if kind == "api" else f" ({kind})"), role,
                     sentence, takes, gives, raises)
                    for path, method, kind, role, sentence, takes, gives, raises in rows
                ],
            )
        )  # fmt: skip
    return "\n\n".join(parts)


def raised() -> Iterator[tuple[str, str, str, str]]:
    """Yield (class, code, message, module) of every error that the source can raise."""
    for path in sorted(SOURCE.rglob("*.py")):
        module = str(path.relative_to(SOURCE)).removesuffix(".py").replace("/", ".")
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ERRORS
                and len(node.args) >= 2
                and isinstance(node.args[0], ast.Constant)
            ):
                yield node.func.id, str(node.args[0].value), template(node.args[1]), module


def template(node: ast.expr) -> str:
    """Return the text of a message with `...` where a value goes."""
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.JoinedStr(values=values):
            return "".join(
                str(one.value) if isinstance(one, ast.Constant) else "..." for one in values
            )
        case _:
            return "..."


def errors() -> str:
    """Return the page of error classes and codes."""
    classes = [
        (code(one.__name__), one.status, one.exit_code, (one.__doc__ or "").partition("\n")[0])
        for one in PUBLIC_ERRORS
    ]
    classes.append(("a bug", BUG_STATUS, BUG_EXIT_CODE, "Anything else that escapes."))
    kept: dict[tuple[str, str], tuple[str, str]] = {}
    for name, error_code, message, module in raised():
        kept.setdefault((error_code, name), (message, module))
    rows = [
        (code(error_code), name, ERRORS[name].status, message, module)
        for (error_code, name), (message, module) in sorted(kept.items())
    ]
    return "\n\n".join((
        "# Errors",
        ("Every error says what happened with the value in backticks, where in the input "
        "(`$.rules[0].percent`), and what to do. `code` is stable and made for programs."),
        table(("class", "HTTP", "exit", "meaning"), classes),
        "`TooMuch` answers 429 with `Retry-After` when waiting helps.",
        "## Codes",
        table(("code", "class", "HTTP", "message", "raised in"), rows),
    ))  # fmt: skip


def walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """Yield (full name, command) of every command that does something."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command, info_name=path[-1])
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None, f"`{name}` is listed but not there"
        if not inner.hidden:
            yield from walk(inner, (*path, name))


def commands() -> str:
    """Return the page of the command line."""
    root = importlib.import_module("inprod.cli.main").main
    parts = [
        "# Commands",
        ("`inprod NOUN VERB`. Data goes to stdout, words to stderr; exit codes are those of "
        "[errors](errors.md). Every command takes `--json`. A command finds its server by `--url` "
        "and `--key`, by `INPROD_URL` and `INPROD_KEY`, or by `--data`, the data folder of a local "
        "one."),
    ]  # fmt: skip
    for name, command in walk(root, ("inprod",)):
        context = click.Context(command, info_name=name)
        usage = " ".join(command.collect_usage_pieces(context))
        parts.append(f"## {name}")
        parts.append((command.help or "").strip() or command.get_short_help_str(200))
        parts.append(f"```\n{name} {usage}\n```")
        shown = [
            one
            for one in command.params
            if isinstance(one, click.Option)
            and not one.hidden
            and one.name not in left_out(command)
        ]
        rows = [
            (", ".join(code(flag) for flag in (*one.opts, *one.secondary_opts)),
             DEFAULT.sub("", one.help or ""), code(shown_default(one)))
            for one in shown
        ]  # fmt: skip
        if rows:
            parts.append(table(("option", "what it does", "default"), rows))
    return "\n\n".join(parts)


def left_out(command: click.Command) -> frozenset[str]:
    """Return the options that the page's introduction has said already."""
    names = {one.name for one in command.params}
    return TOLD | {"data"} if {"url", "key"} <= names else TOLD


def shown_default(option: click.Option) -> str:
    """Return an option's default when it is a value worth showing."""
    told = DEFAULT.search(option.help or "")
    if told:
        return told[1]
    value = option.default
    plain = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return str(value) if plain and value != "" else ""


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "routes.md": routes,
    "errors.md": errors,
    "commands.md": commands,
}


def main() -> int:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    stale: list[str] = []
    for name, make in PAGES.items():
        path = REFERENCE / name
        text = f"{NOTE}\n\n{make()}\n"
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(name)
        if not given.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale:
        print(f"{'Stale' if given.check else 'Written'}: {', '.join(stale)}")
    return 1 if given.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
