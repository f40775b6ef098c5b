"""The decorator of every command that talks to a server: its options, its Remote, its printing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, cast

import click

from inprod.cli.output import Said, print_said
from inprod.cli.remote import Remote, find

Function = Callable[..., Any]


def at_server(function: Callable[..., Said | Iterator[Said]]) -> Function:
    """Add --url, --key, --data and --json; call `function` with a Remote first; print its Said.

    An iterator of Said is printed as it comes, with --json one line each.
    """

    @wraps(function)
    def called(
        *, url: str | None, key: str | None, data: str | None, as_json: bool, **rest: Any
    ) -> None:
        remote = Remote(find(url=url, key=key, data=data or "", environ=os.environ))
        said = function(remote, **rest)
        for one in (said,) if isinstance(said, Said) else said:
            print_said(one, as_json=as_json)

    return with_options(called)


def with_options(called: Function) -> Function:
    """Add the options that every command has."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--data", metavar="FOLDER", help="Data folder of a local server."),
        click.option("--key", metavar="KEY", help="Key (default: INPROD_KEY)."),
        click.option("--url", metavar="URL", help="Server (default: INPROD_URL)."),
    ):
        called = option(called)
    return called


def environment_option(required: bool = True) -> Callable[[Function], Function]:
    """Add `--environment`, also from INPROD_ENVIRONMENT."""
    option = click.option(
        "-e", "--environment", required=required, envvar="INPROD_ENVIRONMENT", metavar="NAME",
        help="Environment.",
    )  # fmt: skip
    return cast("Callable[[Function], Function]", option)


def reason_option(required: bool = False) -> Callable[[Function], Function]:
    """Add `--reason`."""
    sentence = "Why, for the audit."
    if required:  # with any default, None too, click would not ask for it
        option = click.option("--reason", required=True, metavar="TEXT", help=sentence)
    else:
        option = click.option("--reason", default="", metavar="TEXT", help=sentence)
    return cast("Callable[[Function], Function]", option)
