"""`inprod flags`: what is in force, who gets what and why, and small changes by name."""

from __future__ import annotations

import json
from typing import Any

import click

from inprod.cli.command import at_server, environment_option, reason_option
from inprod.cli.output import Said, Table, when
from inprod.cli.remote import Remote, segment
from inprod.errors import Invalid
from inprod.units import Unit, parse


@click.group()
def flags() -> None:
    """Look at flags, ask what they answer, and change them by name.

    New flags and new rules come from documents: `inprod apply -f flag.yaml`.
    """


@flags.command("list")
@at_server
def list_all(remote: Remote) -> Said:
    """List all flags."""
    found = remote.get("/api/flags")
    rows = [
        (one["flag"]["key"], one["flag"]["kind"], _states(one["flag"]), one["revision"])
        for one in found["flags"]
    ]
    return Said(
        data=found,
        shown=Table(columns=("key", "type", "environments", "revision"), rows=rows),
        words="" if rows else "There is none; make one with `inprod apply -f flag.yaml`.",
    )


@flags.command("show")
@at_server
@click.argument("flag")
def show(remote: Remote, flag: str) -> Said:
    """Show the document of FLAG."""
    found = remote.get(f"/api/flags/{segment(flag)}")
    return Said(data=found, shown=json.dumps(found["flag"], indent=2, ensure_ascii=False))


@flags.command("set")
@at_server
@click.argument("flag")
@environment_option()
@click.option("--percent", metavar="PERCENT", help="Open the rule's split this far.")
@click.option("--rule", metavar="RULE", help="The rule (default: the only one with a split).")
@click.option("--default", "variant", metavar="VARIANT", help="What is served where no rule is.")
@reason_option()
def set_(
    remote: Remote, flag: str, environment: str, percent: str | None, rule: str | None,
    variant: str | None, reason: str,
) -> Said:  # fmt: skip
    """Set the percent of a rule of FLAG, or its default, in one environment."""
    changes: list[dict[str, object]] = []
    if percent is not None:
        wanted = parse(percent, Unit.PERCENT)
        chosen = rule or only_split(remote, flag, environment)
        changes.append(
            {"change": "set_percent", "environment": environment, "rule": chosen, "percent": wanted}
        )
    if variant is not None:
        changes.append({"change": "set_default", "environment": environment, "default": variant})
    if not changes:
        raise Invalid("nothing_to_set", "nothing is to be set", hint="Add --percent or --default.")
    return _change(remote, flag, changes, reason)


@flags.command("enable")
@at_server
@click.argument("flag")
@environment_option()
@reason_option()
def enable(remote: Remote, flag: str, environment: str, reason: str) -> Said:
    """Switch FLAG on in one environment."""
    return _switch(remote, flag, environment, True, reason)


@flags.command("disable")
@at_server
@click.argument("flag")
@environment_option()
@reason_option()
def disable(remote: Remote, flag: str, environment: str, reason: str) -> Said:
    """Switch FLAG off in one environment: its `off` variant is served."""
    return _switch(remote, flag, environment, False, reason)


@flags.command("evaluate")
@at_server
@click.argument("flag")
@environment_option()
@click.option("-a", "--attribute", "attributes", multiple=True, metavar="NAME=VALUE",
              help="Of the context; VALUE is JSON or text.")  # fmt: skip
def evaluate(remote: Remote, flag: str, environment: str, attributes: tuple[str, ...]) -> Said:
    """Ask what FLAG answers to a context, and why."""
    body = {"environment": environment, "context": context_of(attributes)}
    found = remote.post(f"/api/flags/{segment(flag)}/evaluate", body)
    shown = json.dumps(found["evaluation"]["value"], ensure_ascii=False)
    return Said(data=found, shown=shown, words=found["sentence"])


@flags.command("history")
@at_server
@click.argument("flag")
def history(remote: Remote, flag: str) -> Said:
    """List the changes of FLAG, the last first."""
    found = remote.get(f"/api/flags/{segment(flag)}/history")
    rows = [
        (
            one["revision"], when(one["time_ns"]), one["actor"], " ".join(one["sentences"]),
            one["reason"],
        )
        for one in found["history"]
    ]  # fmt: skip
    columns = ("revision", "time", "by", "what", "why")
    return Said(data=found, shown=Table(columns=columns, rows=rows))


@flags.command("archive")
@at_server
@click.argument("flag")
@reason_option()
def archive(remote: Remote, flag: str, reason: str) -> Said:
    """Take FLAG out of service; its history stays."""
    path = f"/api/flags/{segment(flag)}"
    revision = remote.get(path)["revision"]
    remote.ask("DELETE", path, query={"revision": revision, "reason": reason or None})
    return Said(data={"archived": flag}, words=f"`{flag}` is archived.")


def only_split(remote: Remote, flag: str, environment: str) -> str:
    """Return the id of the flag's only rule with a split; raises Invalid when it is not one."""
    document = remote.get(f"/api/flags/{segment(flag)}")["flag"]
    state: dict[str, Any] = document.get("environments", {}).get(environment, {})
    found = [rule["id"] for rule in state.get("rules", []) if "split" in rule]
    if len(found) != 1:
        listed = ", ".join(f"`{one}`" for one in found) or "none"
        raise Invalid(
            "which_rule", f"`{flag}` has not one rule with a split in `{environment}`: {listed}",
            hint="Name one with --rule.",
        )  # fmt: skip
    return str(found[0])


def context_of(attributes: tuple[str, ...]) -> dict[str, object]:
    """Return the evaluation context that `name=value` pairs write down."""
    context: dict[str, object] = {}
    for pair in attributes:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise Invalid(
                "bad_attribute", f"`{pair}` is not an attribute", where="--attribute",
                hint="Write it as `user.id=42`.",
            )  # fmt: skip
        context[name] = value_of(text)
    return context


def value_of(text: str) -> object:
    """Return the JSON value that `text` is, or the text itself.

    Long whole numbers stay text: an id is not a number, and must not lose its last digits.
    """
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, int) and abs(value) >= 2**53 else value


def _switch(remote: Remote, flag: str, environment: str, enabled: bool, reason: str) -> Said:
    change: dict[str, object] = {
        "change": "set_enabled", "environment": environment, "enabled": enabled,
    }  # fmt: skip
    return _change(remote, flag, [change], reason)


def _change(remote: Remote, flag: str, changes: list[dict[str, object]], reason: str) -> Said:
    body = {"changes": changes, "reason": reason}
    found = remote.post(f"/api/flags/{segment(flag)}/changes", body)
    words = "\n".join(found["sentences"]) or "Nothing changed: it was so already."
    return Said(data=found, words=words)


def _states(flag: dict[str, Any]) -> str:
    told: list[str] = []
    for name, state in sorted(flag.get("environments", {}).items()):
        percents = [
            f"{rule['split'].get('percent', 0):g} %"
            for rule in state.get("rules", [])
            if "split" in rule
        ]
        on = "on" if state.get("enabled", True) else "off"
        told.append(f"{name} {on}{' ' if percents else ''}{' '.join(percents)}")
    return ", ".join(told)
