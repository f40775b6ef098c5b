"""`inprod env`: declare and list environments."""

from __future__ import annotations

import click

from inprod.cli.command import at_server
from inprod.cli.output import Said, Table
from inprod.cli.remote import Remote


@click.group()
def env() -> None:
    """Declare and list environments; nothing creates one by using its name."""


@env.command("add")
@at_server
@click.argument("name")
def add(remote: Remote, name: str) -> Said:
    """Declare the environment NAME."""
    answer = remote.post("/api/environments", {"name": name})
    return Said(data=answer, words=f"`{name}` is an environment now.")


@env.command("list")
@at_server
def list_all(remote: Remote) -> Said:
    """List the declared environments."""
    names = remote.get("/api/environments")["environments"]
    return Said(
        data={"environments": names},
        shown=Table(columns=("name",), rows=[(name,) for name in names]),
        words="" if names else "None is declared; add one with `inprod env add NAME`.",
    )
