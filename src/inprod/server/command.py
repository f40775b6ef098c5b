"""`inprod up`: its options are the table of settings."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from inprod.server.settings import SETTINGS, Setting, load


def _option(row: Setting) -> click.Option:
    default = f"{row.default}{row.unit}" if row.default != "" else ""
    told = f"{row.sentence}{f'  [default: {default}]' if default else ''}"
    metavar = {"text": "TEXT", "whole number": "NUMBER", "number": "DURATION"}[row.kind]
    return click.Option([row.flag, row.name], help=told, metavar=metavar, default=None)


def _up(config: str | None, as_json: bool, **flags: Any) -> None:
    settings = load(environ=os.environ, flags=flags, config=config)
    from inprod.server.serve import Ready, serve, set_up_log

    set_up_log(settings.log_level)

    def ready(told: Ready) -> None:
        if as_json:
            line = {"url": told.url, "login": told.login, "key_file": told.key_file}
            click.echo(json.dumps(line))
            return
        click.echo(f"inprod answers at {told.url}", err=True)
        click.echo(f"Log in once with  {told.login}", err=True)
        click.echo(f"The admin key is in {told.key_file}; Ctrl-C stops the server.", err=True)

    serve(settings, ready)


up = click.Command(
    "up",
    callback=_up,
    help="Start the server: one process, one port.",
    params=[
        *(_option(row) for row in SETTINGS),
        click.Option(["--config"], metavar="FILE", help="Settings file (TOML)."),
        click.Option(["--json", "as_json"], is_flag=True, help="One line of JSON when ready."),
    ],
)
