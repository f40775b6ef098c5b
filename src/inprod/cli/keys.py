"""`inprod keys`: make, list and revoke keys."""

from __future__ import annotations

import click

from inprod.cli.command import at_server
from inprod.cli.output import Said, Table, when
from inprod.cli.remote import Remote, segment


@click.group()
def keys() -> None:
    """Make, list and revoke keys."""


@keys.command("add")
@at_server
@click.argument("name")
@click.option("--role", required=True, metavar="ROLE", help="ingest, read, operate, admin or sdk.")
@click.option("-e", "--environment", "environments", multiple=True, metavar="NAME",
              help="Only this environment (may be repeated); default: all.")  # fmt: skip
def add(remote: Remote, name: str, role: str, environments: tuple[str, ...]) -> Said:
    """Make a key; it is printed this once."""
    answer = remote.post(
        "/api/keys", {"name": name, "role": role, "environments": list(environments) or None}
    )
    return Said(data=answer, shown=answer["key"], words="Keep it: it is not shown again.")


@keys.command("list")
@at_server
def list_all(remote: Remote) -> Said:
    """List the keys, revoked ones too."""
    found = remote.get("/api/keys")["keys"]
    rows = [
        (
            key["name"], key["role"],
            "all" if key["environments"] is None else ", ".join(key["environments"]),
            when(key["created_ns"]), key["created_by"], when(key["revoked_ns"]),
        )
        for key in found
    ]  # fmt: skip
    columns = ("name", "role", "environments", "created", "by", "revoked")
    return Said(data={"keys": found}, shown=Table(columns=columns, rows=rows))


@keys.command("revoke")
@at_server
@click.argument("name")
def revoke(remote: Remote, name: str) -> Said:
    """End the key NAME, and the sessions that began with it."""
    answer = remote.ask("DELETE", f"/api/keys/{segment(name)}")
    return Said(data=answer, words=f"The key `{name}` is revoked.")
