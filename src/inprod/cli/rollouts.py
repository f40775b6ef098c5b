"""`inprod rollouts`: start one, watch it, and take it in hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, cast

import click

from inprod.cli.command import at_server, environment_option, reason_option
from inprod.cli.documents import documents_of
from inprod.cli.output import Said, Table, when
from inprod.cli.remote import Remote, segment
from inprod.errors import Conflict, Invalid, Missing

ENDED = frozenset({"promoted", "rolled_back", "stopped"})
WATCH_EVERY_S = 5.0  # how often `watch` tells what is neither a new phase nor a new level
STEPS_DEFAULT = "1,5,25,50,100"


@click.group()
def rollouts() -> None:
    """Start rollouts, watch them, and take them in hand."""


@rollouts.command("list")
@at_server
def list_all(remote: Remote) -> Said:
    """List the rollouts, the active ones first."""
    found = remote.get("/api/rollouts")
    rows = [
        (
            one["name"], one["plan"]["environment"], one["plan"]["dial"], one["phase"],
            f"{one['level']:g} %", one["users_exposed"], one["sentence"],
        )
        for one in found["rollouts"]
    ]  # fmt: skip
    columns = ("name", "environment", "dial", "phase", "level", "users", "why")
    return Said(
        data=found, shown=Table(columns=columns, rows=rows),
        words="" if rows else "There is none; start one with `inprod rollouts start`.",
    )  # fmt: skip


@rollouts.command("start")
@at_server
@click.argument("name", required=False)
@click.option("-f", "--file", metavar="FILE", help="Document of one rollout.")
@environment_option(required=False)
@click.option("--flag", metavar="FLAG", help="The flag to release.")
@click.option("--rule", metavar="RULE", help="Its rule (default: the only one with a split).")
@click.option("--treatment", metavar="VARIANT", help="Its treatment (default: the only one).")
@click.option("--steps", default=STEPS_DEFAULT, show_default=True, metavar="PERCENTS")
@click.option("--bake", default="1m", show_default=True, metavar="DURATION", help="Per step.")
@click.option("--guard", "guards", multiple=True, metavar="KIND",
              help="errors, latency, ... (may be repeated) [default: errors, latency]")  # fmt: skip
@reason_option()
def start(
    remote: Remote, name: str | None, file: str | None, environment: str | None,
    flag: str | None, rule: str | None, treatment: str | None, steps: str, bake: str,
    guards: tuple[str, ...], reason: str,
) -> Said:  # fmt: skip
    """Start a rollout: of a document, or of a flag by steps under guards."""
    if file:
        if name or flag:
            raise Invalid(
                "document_or_options", "a document and options are given", where="--file",
                hint="Give the one or the other.",
            )  # fmt: skip
        plan = _document(file)
    else:
        if not name or not flag or not environment:
            raise Invalid(
                "missing_field", "a rollout needs a name, a flag and an environment",
                hint="Write `inprod rollouts start NAME --flag FLAG --environment NAME`.",
            )  # fmt: skip
        chosen = guards or ("errors", "latency")
        plan = {
            "kind": "rollout", "name": name, "environment": environment, "dial": f"flag/{flag}",
            "steps": [{"level": level.strip(), "bake": bake} for level in steps.split(",")],
            "guards": [{"name": kind, "kind": kind} for kind in chosen],
            **({"rule": rule} if rule else {}),
            **({"treatment": treatment} if treatment else {}),
            **({"reason": reason} if reason else {}),
        }  # fmt: skip
    remote.post("/api/apply", [plan], reason=reason or None)
    found = remote.get(_path(str(plan["name"])))
    words = f"`{found['name']}` is {found['phase']}; `inprod rollouts watch {found['name']}`."
    return Said(data=found, words=words)


@rollouts.command("show")
@at_server
@click.argument("name")
def show(remote: Remote, name: str) -> Said:
    """Show where NAME is, and its evidence now."""
    found = remote.get(_path(name))
    lines = [
        f"{found['name']}: {spoken(found['phase'])} at {found['level']:g} %",
        f"why: {found['sentence']}",
        f"users exposed: {found['users_exposed']}",
        f"since: {when(found['since_ns'])}",
    ]
    judgement: Any = found["judgement"]
    if judgement is not None:
        lines += [f"guard {one['sentence']}" for one in judgement["guards"]]
    return Said(data=found, shown="\n".join(lines), words=found.get("trouble", ""))


@rollouts.command("watch")
@at_server
@click.argument("name")
def watch(remote: Remote, name: str) -> Iterator[Said]:
    """Follow NAME until it ends; exit code 0 only when it was promoted."""
    said, spoke = ("", 0.0, ""), 0.0
    while True:
        for happening in remote.stream(_path(name) + "/stream"):
            if happening.event != "rollout":
                continue
            found = happening.data
            line = f"{spoken(found['phase']):<11}  {found['level']:>5g} %  {found['sentence']}"
            news = (found["phase"], found["level"], found["sentence"])
            is_due = time.monotonic() - spoke >= WATCH_EVERY_S
            if news[:2] != said[:2] or (is_due and news != said):
                said, spoke = news, time.monotonic()
                yield Said(data=found, shown=line)
            if found["phase"] == "promoted":
                return
            if found["phase"] in ENDED:
                raise Conflict(
                    f"rollout_{found['phase']}", f"`{name}` was not promoted: {found['sentence']}",
                    hint=f"See `inprod rollouts journal {name}`.",
                )  # fmt: skip


@rollouts.command("pause")
@at_server
@click.argument("name")
@reason_option()
def pause(remote: Remote, name: str, reason: str) -> Said:
    """Hold NAME at its level."""
    return _order(remote, name, "pause", {"reason": reason})


@rollouts.command("resume")
@at_server
@click.argument("name")
@reason_option()
def resume(remote: Remote, name: str, reason: str) -> Said:
    """Let NAME go on."""
    return _order(remote, name, "resume", {"reason": reason})


@rollouts.command("advance")
@at_server
@click.argument("name")
@reason_option()
def advance(remote: Remote, name: str, reason: str) -> Said:
    """Go to the next step of NAME now."""
    return _order(remote, name, "advance", {"reason": reason})


@rollouts.command("rollback")
@at_server
@click.argument("name")
@reason_option()
def rollback(remote: Remote, name: str, reason: str) -> Said:
    """Put the dial of NAME back to safe, and end it."""
    return _order(remote, name, "rollback", {"reason": reason})


@rollouts.command("stop")
@at_server
@click.argument("name")
@click.option("--keep", is_flag=True, help="Leave the dial where it is.")
@reason_option()
def stop(remote: Remote, name: str, keep: bool, reason: str) -> Said:
    """End NAME without a verdict; the dial goes to safe unless --keep."""
    return _order(remote, name, "stop", {"reason": reason, "keep": keep})


@rollouts.command("journal")
@at_server
@click.argument("name")
def journal(remote: Remote, name: str) -> Said:
    """List every decision on NAME, with why and by whom."""
    found = remote.get(_path(name) + "/journal")
    rows = [
        (
            one["seq"], when(one["time_ns"]), one["action"], f"{one['from_level']:g}",
            f"{one['to_level']:g}", one["actor"], one["sentence"],
        )
        for one in found["entries"]
    ]  # fmt: skip
    columns = ("seq", "time", "what", "from", "to", "by", "why")
    return Said(data=found, shown=Table(columns=columns, rows=rows))


@rollouts.command("replay")
@at_server
@click.argument("name")
def replay(remote: Remote, name: str) -> Said:
    """Recompute every decision on NAME from its journal; exit code 5 when one differs."""
    found = remote.get(_path(name) + "/replay")
    if not found["equal"]:
        raise Conflict(
            "replay_differs", f"the replay of `{name}` differs: {found['sentence']}",
            hint="Report this with the output of `inprod rollouts journal --json`.",
        )  # fmt: skip
    return Said(data=found, words=found["sentence"])


def spoken(name: str) -> str:
    """Return a name of ours as words: `rolled_back` is `rolled back`."""
    return name.replace("_", " ")


def _path(name: str) -> str:
    return f"/api/rollouts/{segment(name)}"


def _order(remote: Remote, name: str, verb: str, body: dict[str, object]) -> Said:
    found = remote.post(f"{_path(name)}/{verb}", body)
    return Said(data=found, words=f"`{name}` is {found['phase']}: {found['sentence']}")


def _document(file: str) -> dict[str, Any]:
    found = [document for _, document in documents_of(file)]
    plan: Any = found[0] if len(found) == 1 else None
    if not isinstance(plan, dict) or plan.get("kind") != "rollout":  # pyright: ignore[reportUnknownMemberType]  # YAML
        raise Missing(
            "no_rollout", f"`{file}` does not hold one rollout and nothing else",
            hint="Use `inprod apply -f` for several documents.",
        )  # fmt: skip
    return cast("dict[str, Any]", plan)
