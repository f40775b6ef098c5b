"""`inprod apply`: documents in YAML or JSON files become what is in force."""

from __future__ import annotations

import click

from inprod.cli.command import at_server, reason_option
from inprod.cli.documents import documents_of
from inprod.cli.output import Said
from inprod.cli.remote import Remote
from inprod.errors import InprodError


@click.command("apply")
@at_server
@click.option("-f", "--file", "files", multiple=True, required=True, metavar="FILE",
              help="YAML or JSON; `-` is stdin; may be repeated.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@reason_option()
def apply(remote: Remote, files: tuple[str, ...], dry_run: bool, reason: str) -> Said:
    """Apply environments, flags and rollouts from files: all of them, or none."""
    found = [pair for name in files for pair in documents_of(name)]
    try:
        answer = remote.post(
            "/api/apply", [document for _, document in found],
            dry_run="true" if dry_run else "false", reason=reason or None,
        )  # fmt: skip
    except InprodError as error:
        raise _placed(error, [place for place, _ in found]) from None
    lines: list[str] = []
    for one in answer["documents"]:
        lines.append(f"{one['action']:<10} {one['kind']} {one['name']}")
        lines += [f"           {change}" for change in one["changes"]]
    words = "Nothing was stored: this was a dry run." if dry_run else ""
    return Said(data=answer, shown="\n".join(lines), words=words)


def _placed(error: InprodError, places: list[str]) -> InprodError:
    """Say the file in place of the document's index: `$[0].rules` -> `flags.yaml#1 $.rules`."""
    if error.where.startswith("$["):
        index, _, rest = error.where[2:].partition("]")
        if index.isdigit() and int(index) < len(places):
            error.where = f"{places[int(index)]} ${rest}"
    return error
