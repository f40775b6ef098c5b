"""`inprod`: finds the command in a table, loads only that one, and turns failures into exit codes.

0 done | 2 invalid | 3 denied | 4 missing | 5 conflict | 6 too much | 7 unavailable | 70 a bug
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from inprod.errors import BUG_EXIT_CODE, InprodError, nearest

INTERRUPTED_EXIT_CODE = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the table of commands; `where` is `module:attribute` of a click command."""

    name: str
    where: str
    sentence: str


COMMANDS: tuple[Entry, ...] = (
    Entry(name="up", where="inprod.server.command:up", sentence="Start the server."),
    Entry(name="demo", where="inprod.cli.demo:demo", sentence="Watch two guarded releases."),
    Entry(name="doctor", where="inprod.cli.doctor:doctor", sentence="Check machine and server."),
    Entry(name="login", where="inprod.cli.login:login", sentence="Make a one-time login link."),
    Entry(name="env", where="inprod.cli.env:env", sentence="Declare and list environments."),
    Entry(name="keys", where="inprod.cli.keys:keys", sentence="Make, list and revoke keys."),
    Entry(name="apply", where="inprod.cli.apply:apply", sentence="Apply documents from files."),
    Entry(name="flags", where="inprod.cli.flags:flags", sentence="Work with flags."),
    Entry(name="rollouts", where="inprod.cli.rollouts:rollouts", sentence="Work with rollouts."),
    Entry(name="events", where="inprod.cli.events:events", sentence="Query, send, follow events."),
    Entry(name="halt", where="inprod.cli.levers:halt", sentence="Pull a lever: back to safe, now."),
    Entry(name="unhalt", where="inprod.cli.levers:unhalt", sentence="Release a lever."),
    Entry(name="levers", where="inprod.cli.levers:levers", sentence="List the levers pulled now."),
    Entry(name="audit", where="inprod.cli.audit:audit", sentence="See who changed what, and why."),
)  # fmt: skip
ALIASES = {"rollout": "rollouts", "flag": "flags", "event": "events", "key": "keys"}
_BY_NAME = {entry.name: entry for entry in COMMANDS}


class Lazy(click.Group):
    """A group that imports a command when it is called, and lists them without importing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the table's order."""
        del ctx
        return [entry.name for entry in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command."""
        del ctx
        entry = _BY_NAME.get(ALIASES.get(cmd_name, cmd_name))
        if entry is None:
            return None
        module, _, attribute = entry.where.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for an unknown one suggest the nearest."""
        name = args[0]
        if not name.startswith("-") and ALIASES.get(name, name) not in _BY_NAME:
            message = f"`{name}` is not a command. {nearest(name, _BY_NAME)}"
            raise click.UsageError(message, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table, importing nothing."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(entry.name, entry.sentence) for entry in COMMANDS])


def _version(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        click.echo(f"inprod {version('inprod')}")
        ctx.exit()


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version,
              help="Show the version.")  # fmt: skip
def main() -> None:
    """Test in production, safely: flags, events, guards and rollouts.

    Commands find their server by --url and --key, INPROD_URL and INPROD_KEY, or the data folder
    of a server on this machine.
    """


def run() -> NoReturn:
    """Run the command line and exit with the code of the taxonomy."""
    as_json = "--json" in sys.argv[1:]
    try:
        result: Any = main.main(standalone_mode=False)
        code = result if isinstance(result, int) else 0
        sys.stdout.flush()
    except InprodError as error:
        code = error.exit_code
        tell(error.document(), told(error), as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        code = 2
        click.echo(error.format_message(), err=True)
    except click.ClickException as error:
        code = error.exit_code
        usage = error.ctx.get_usage() if isinstance(error, click.UsageError) and error.ctx else ""
        document = {"code": "usage", "message": error.format_message(), "where": "", "hint": usage}
        tell(document, f"{error.format_message()}\n{usage}".strip(), as_json)
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        code = 0  # who read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception:  # noqa: BLE001  # the edge of the program: a bug, told with its traceback
        import traceback

        code = BUG_EXIT_CODE
        document = {
            "code": "bug", "message": "inprod failed in a way it should not", "where": "",
            "hint": "Report this with the lines above.",
        }  # fmt: skip
        click.echo(traceback.format_exc(), err=True, nl=False)
        tell(document, f"{document['message']}. {document['hint']}", as_json)
    sys.exit(code)


def told(error: InprodError) -> str:
    """Return the error for a person: a place in a body that the person did not write is left out
    (one in a file begins with the file's name)."""
    if error.where.startswith("$"):
        return f"{error.message}. {error.hint}".strip()
    return str(error)


def tell(document: dict[str, str], words: str, as_json: bool) -> None:
    """Write a failure to stderr."""
    click.echo(json.dumps({"error": document}) if as_json else f"inprod: {words}", err=True)
