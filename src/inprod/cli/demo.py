"""`inprod demo`: a real server, a real shop and a crowd; one change goes out, one comes back.

Everything it starts runs on loopback, from a folder that is removed afterwards.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from inprod import document
from inprod.cli.demo_children import Children
from inprod.cli.demo_stage import ENVIRONMENT, POLL_S, Stage, apply, pause, set_up, traffic
from inprod.cli.demo_story import ENDED, Lines, Screen, Teller, View, users
from inprod.errors import InprodError, Missing
from inprod.guards.guard import Verdict
from inprod.rollouts.rollout import Phase

GOOD, BAD = "ranked-search", "fast-checkout"
STORY_S = 100.0  # at most, for one rollout
STAY_S = 3600.0  # how long it stays after the story, unless Ctrl-C ends it
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NEEDS = ("chdb", "openfeature", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one rollout ended: `level` in percent as the flag has it, `seconds` since its start,
    `guard` the one that broke (empty when none did), `reason` the server's own sentence."""

    outcome: str
    level: float
    users_exposed: int
    seconds: float
    guard: str
    reason: str


class Stopped(BaseException):
    """A signal asked the demonstration to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@click.command()
@click.option("--once", is_flag=True, help="Exit when the story is told; 0 only if it ended well.")
@click.option("--json", "as_json", is_flag=True, help="Print one object; the story to stderr.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="inprod's port; 0: a free one."
)
def demo(once: bool, as_json: bool, port: int) -> None:
    """Release a good and a bad change to a small shop, guarded, and watch."""
    require_extras()
    console = Console(stderr=as_json, highlight=False)
    stream = sys.stderr if as_json else sys.stdout
    teller: Teller = Screen(console) if console.is_terminal else Lines(stream)
    folder = Path(tempfile.mkdtemp(prefix="inprod-demo-"))
    children = Children(folder)
    code = 1
    with interruptible():
        try:
            with teller:
                code = play(teller, children, folder, once, as_json, port)
        except Stopped as stopped:
            code = stopped.exit_code
        except InprodError as error:
            click.echo(f"{error}\n{children.logs()}", err=True)
            code = error.exit_code
        finally:
            ignore_signals()
            click.echo("Stopping everything it started ...", err=True)
            children.stop()
            shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(code)


def play(
    teller: Teller, children: Children, folder: Path, once: bool, as_json: bool, port: int
) -> int:
    """Tell the whole story; return the exit code: 0 when it ended as it should.

    Unless `once`, stays afterwards until Stopped; that then is no failure.
    """
    stage = set_up(teller, children, folder, port)
    good = release(teller, children, stage, GOOD)
    bad = release(teller, children, stage, BAD)
    happy = is_happy(good, bad)
    if as_json:
        print(json.dumps({"good": asdict(good), "bad": asdict(bad)}), flush=True)
    if not happy:
        teller.say(children.logs(), style="dim")
    code = 0 if happy else 1
    if not once:
        try:
            stay(teller, children, stage)
        except Stopped:
            return code
    return code


def require_extras() -> None:
    """Raise Missing when a package that the demonstration needs is not installed."""
    for name in NEEDS:
        try:
            found = find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise Missing(
                "extra_missing", f"the package `{name}` is not installed",
                hint="Install inprod[demo].",
            )  # fmt: skip


@contextmanager
def interruptible() -> Generator[None]:
    """Turn the first of SIGNALS into Stopped, and ignore all after it, in the block."""

    def stop(number: int, _: object) -> NoReturn:
        ignore_signals()
        raise Stopped(number)

    is_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    before = {
        one: signal.signal(one, stop) for one in SIGNALS if not (is_nohup and one is signal.SIGHUP)
    }
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def ignore_signals() -> None:
    """Ignore SIGNALS from now on, so that stopping is not cut short."""
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)


def release(teller: Teller, children: Children, stage: Stage, name: str) -> Ending:
    """Start one guarded rollout and tell it to its end, at most STORY_S."""
    started = time.monotonic()
    apply(stage, f"{name}.yaml")
    view = look(stage, name)
    levels = ", ".join(f"{step.level:g}" for step in view.plan.steps)
    teller.say("")
    teller.say(f"Release of `{name}` through {levels} %: {view.plan.reason}.", style="bold")
    while True:
        children.check()
        view = look(stage, name)
        if view.phase in ENDED or time.monotonic() - started > STORY_S:
            break
        teller.look(view)
        time.sleep(POLL_S)
    teller.look(view)
    ending = Ending(
        outcome=view.phase.value,
        level=flag_percent(stage, name),
        users_exposed=view.users_exposed,
        seconds=round(time.monotonic() - started, 1),
        guard=culprit(view),
        reason=view.sentence,
    )
    teller.turn_page()
    teller.say(verdict(view, ending), style="bold green" if view.phase in ENDED else "bold yellow")
    return ending


def look(stage: Stage, name: str) -> View:
    """Return the rollout as it stands."""
    return document.read(View, stage.remote.get(f"/api/rollouts/{name}"), unknown="ignore")


def flag_percent(stage: Stage, key: str) -> float:
    """Return the share of visitors that the flag itself gives the change to."""
    found = stage.remote.get(f"/api/flags/{key}")
    rules = found["flag"]["environments"][ENVIRONMENT]["rules"]
    return float(rules[0]["split"].get("percent", 0.0))


def culprit(view: View) -> str:
    """Return the name of the guard that broke, or nothing."""
    if view.judgement is None or view.judgement.verdict is not Verdict.BROKEN:
        return ""
    return view.judgement.culprit


def verdict(view: View, ending: Ending) -> str:
    """Return the moral of one rollout."""
    took = f"{ending.seconds:.0f} s"
    match view.phase:
        case Phase.PROMOTED:
            return f"{view.name} is out: {users(view)} had it while it was judged, {took}."
        case Phase.ROLLED_BACK:
            return (
                f"{view.name} is back at {ending.level:g} %: `{ending.guard}` broke after "
                f"{users(view)} had met it, {took}. Nobody pressed a button."
            )
        case _:
            return f"{view.name} is {view.phase} at {ending.level:g} % after {took}."


def is_happy(good: Ending, bad: Ending) -> bool:
    """Return whether the story ended as it should."""
    return (good.outcome, good.level, bad.outcome, bad.level) == (
        Phase.PROMOTED, 100.0, Phase.ROLLED_BACK, 0.0,
    )  # fmt: skip


def stay(teller: Teller, children: Children, stage: Stage) -> None:
    """Say where to look, and keep everything running."""
    teller.say("")
    teller.say(f"Open {stage.remote.post('/api/logins')['url']}", style="bold")
    for name in (GOOD, BAD):
        teller.say(f"then {stage.url}/rollouts/{name}")
    teller.say(
        f"{traffic(stage):.0f} requests/s go on for an hour. Ctrl-C ends everything.", style="dim"
    )
    pause(children, STAY_S)
