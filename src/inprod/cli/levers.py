"""`inprod halt`, `unhalt` and `levers`: everything back to safe, from anyone who may operate."""

from __future__ import annotations

import click

from inprod.cli.command import at_server, reason_option
from inprod.cli.output import Said, Table, when
from inprod.cli.remote import Remote
from inprod.errors import Invalid


def lever(environment: str | None, dial: str | None, reason: str) -> dict[str, str]:
    """Return the lever meant: a dial in an environment, an environment, or everything."""
    if dial and not environment:
        raise Invalid(
            "no_environment", f"`{dial}` is a dial in every environment", where="--dial",
            hint="Say which with --environment.",
        )  # fmt: skip
    scope = "dial" if dial else "environment" if environment else "everything"
    return {
        "scope": scope, "environment": environment or "", "dial": dial or "", "reason": reason,
    }  # fmt: skip


_ENVIRONMENT = click.option("-e", "--environment", metavar="NAME", help="Only this environment.")
_DIAL = click.option("--dial", metavar="DIAL", help="Only this dial, such as `flag/checkout`.")


@click.command("halt")
@at_server
@_ENVIRONMENT
@_DIAL
@reason_option(required=True)
def halt(remote: Remote, environment: str | None, dial: str | None, reason: str) -> Said:
    """Pull a lever: what is below it goes to safe, and nothing may start.

    Without --environment or --dial: everything.
    """
    answer = remote.post("/api/levers", lever(environment, dial, reason))
    return Said(data=answer, words=answer["sentence"])


@click.command("unhalt")
@at_server
@_ENVIRONMENT
@_DIAL
@reason_option()
def unhalt(remote: Remote, environment: str | None, dial: str | None, reason: str) -> Said:
    """Release a lever; nothing resumes by itself."""
    answer = remote.ask("DELETE", "/api/levers", body=lever(environment, dial, reason))
    words = f"Released: {answer['released']}. Nothing resumes by itself."
    return Said(data=answer, words=words)


@click.command("levers")
@at_server
def levers(remote: Remote) -> Said:
    """List the levers that are pulled now."""
    found = remote.get("/api/levers")["levers"]
    rows = [(one["name"], when(one["time_ns"]), one["actor"], one["reason"]) for one in found]
    return Said(
        data={"levers": found},
        shown=Table(columns=("lever", "since", "by", "reason"), rows=rows),
        words="" if found else "No lever is pulled.",
    )
