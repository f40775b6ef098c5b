"""`inprod audit`: who changed what, when and why; and whether the chain is whole."""

from __future__ import annotations

import click

from inprod.cli.command import at_server
from inprod.cli.output import Said, Table, when
from inprod.cli.remote import Remote
from inprod.errors import Conflict


@click.group()
def audit() -> None:
    """See who changed what, when and why."""


@audit.command("list")
@at_server
@click.option("--limit", default=50, show_default=True, help="How many, newest first.")
def list_all(remote: Remote, limit: int) -> Said:
    """List the newest entries."""
    found = remote.get("/api/audit", limit=limit)["entries"]
    rows = [
        (
            one["seq"], when(one["time_ns"]), one["actor"], one["what"], one["subject"],
            one["environment"], one["reason"],
        )
        for one in found
    ]  # fmt: skip
    columns = ("seq", "time", "actor", "what", "subject", "environment", "reason")
    return Said(data={"entries": found}, shown=Table(columns=columns, rows=rows))


@audit.command("verify")
@at_server
def verify(remote: Remote) -> Said:
    """Check that no entry was altered, removed or added afterwards."""
    found = remote.get("/api/audit", limit=1, verify=1)["verified"]
    if found["broken_at"] is not None:
        raise Conflict(
            "audit_broken", f"the audit is broken: {found['sentence']}",
            hint="Compare the state with a backup.",
        )  # fmt: skip
    return Said(data=found, words=f"The audit is whole: {found['sentence']}.")
