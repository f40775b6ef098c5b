"""`inprod login`: a link that logs one browser in, once."""

from __future__ import annotations

import click

from inprod.cli.command import at_server
from inprod.cli.output import Said
from inprod.cli.remote import Remote


@click.command("login")
@at_server
def login(remote: Remote) -> Said:
    """Make a one-time login link, with the rights of your key."""
    answer = remote.post("/api/logins")
    return Said(data=answer, shown=answer["url"], words="It can be used once, and not for long.")
