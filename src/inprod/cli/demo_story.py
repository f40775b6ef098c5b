"""The demonstration's story, told as it happens: a live picture on a terminal, lines in a pipe.

step bar          what share of the visitors has the change
a row per guard   what was counted on both sides, and how strong the evidence is either way
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from inprod.guards.evidence import GuardEvidence, Judgement
from inprod.guards.guard import Kind, Verdict
from inprod.rollouts.rollout import Phase, Plan
from inprod.units import render_percent

ENDED = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK, Phase.STOPPED})
LINE_EVERY_S = 4.0
BAR = 12
WIDE = 100
STYLES = {
    Verdict.HOLDS: "green",
    Verdict.BROKEN: "bold red",
    Verdict.UNDECIDED: "yellow",
    Verdict.NO_EXPOSURES: "dim",
    Verdict.NO_OUTCOMES: "dim",
    Verdict.STALE: "red",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One rollout as the server's API shows it."""

    name: str
    plan: Plan
    phase: Phase
    step: int
    level: float
    reason: str = ""
    sentence: str = ""
    judgement: Judgement | None = None
    users_exposed: int = 0


class Teller(Protocol):
    """Someone who tells the story."""

    def __enter__(self) -> Teller: ...
    def __exit__(self, *_: object) -> None: ...
    def say(self, text: str, style: str = "") -> None:
        """Tell one line that stays."""
        ...

    def look(self, view: View) -> None:
        """Tell how a rollout stands now."""
        ...

    def turn_page(self) -> None:
        """Leave the present rollout behind."""
        ...


class Lines:
    """Plain lines with the seconds since the start, for pipes and logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started = time.monotonic()
        self._seen: tuple[Phase, float] | None = None
        self._spoke = 0.0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def say(self, text: str, style: str = "") -> None:
        """Print one line, flushed."""
        del style
        seconds = time.monotonic() - self._started
        for line in text.splitlines() or [""]:
            print(f"{seconds:6.1f} s  {line}" if line else "", file=self._stream, flush=True)

    def look(self, view: View) -> None:
        """Print the level when it changed, and the evidence every few seconds."""
        now = time.monotonic()
        if is_news(view, self._seen):
            self._seen = (view.phase, view.level)
            self.say(f"  {standing(view)}")
        elif now - self._spoke < LINE_EVERY_S:
            return
        self._spoke = now
        for evidence in view.judgement.guards if view.judgement else ():
            self.say(f"      {evidence.guard}: {counts(evidence)}")

    def turn_page(self) -> None:
        """Forget the rollout that was told."""
        self._seen = None


class Screen:
    """A live picture below the lines that stay, for terminals."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._seen: tuple[Phase, float] | None = None

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str, style: str = "") -> None:
        """Print one line above the picture."""
        self._console.print(Text(text, style=style))

    def look(self, view: View) -> None:
        """Draw the rollout anew, and leave a line when its level or phase changed."""
        if is_news(view, self._seen):
            self._seen = (view.phase, view.level)
            self.say(f"  {standing(view)}", style="cyan")
        self._live.update(picture(view, self._console.width))

    def turn_page(self) -> None:
        """Clear the picture."""
        self._seen = None
        self._live.update("")


def is_news(view: View, seen: tuple[Phase, float] | None) -> bool:
    """Return whether the level or phase changed; that the dial is on its way is no news."""
    return view.phase is not Phase.RUNNING and (view.phase, view.level) != seen


def step_bar(view: View) -> str:
    """Return `1 % · 5 % · [25 %] · 50 % · 100 %`, the level in force in brackets."""
    levels = [step.level for step in view.plan.steps]
    if view.level not in levels:
        levels.insert(0, view.level)
    return " · ".join(
        f"[{render_percent(level)}]" if level == view.level else render_percent(level)
        for level in levels
    )


def standing(view: View) -> str:
    """Return the step bar, the phase, and how many users have the change."""
    return f"{step_bar(view)}   {phase(view)}, {users(view)} had it so far"


def users(view: View) -> str:
    """Return how many users have had the change."""
    return "1 user" if view.users_exposed == 1 else f"{view.users_exposed:,} users"


def phase(view: View) -> str:
    """Return the phase in words."""
    return view.phase.value.replace("_", " ")


def counts(evidence: GuardEvidence) -> str:
    """Return what one guard counted and how sure it is, in one line."""
    seen = f"{evidence.treated_n:,} with, {evidence.control_n:,} without"
    if evidence.treated_bad or evidence.control_bad:
        seen = (
            f"{evidence.treated_bad:,} of {evidence.treated_n:,} with, "
            f"{evidence.control_bad:,} of {evidence.control_n:,} without"
        )
    ratio = interval(evidence)
    return f"{evidence.verdict.value.replace('_', ' ')}; {seen}{'; ' + ratio if ratio else ''}"


def interval(evidence: GuardEvidence) -> str:
    """Return `x1.2 (0.7 to 2.1)`, or nothing where there is no such thing."""
    if evidence.estimate is None or evidence.kind == Kind.SAMPLE_RATIO:
        return ""
    low = "0" if evidence.low is None else f"{evidence.low:.2g}"
    high = "any" if evidence.high is None or math.isinf(evidence.high) else f"{evidence.high:.2g}"
    return f"x{evidence.estimate:.2g} ({low} to {high})"


def picture(view: View, width: int) -> RenderableType:
    """Return the rollout as a panel: sentence, step bar, one row of evidence per guard.

    Under WIDE columns the bars are short and ratios are said without their intervals.
    """
    bar = BAR if width >= WIDE else BAR // 2
    table = Table(expand=True, box=None, pad_edge=False)
    for name in ("guard", "verdict", "with it", "without", "ratio"):
        table.add_column(name, no_wrap=True)
    table.add_column("of harm", width=max(bar, 7))
    table.add_column("of safety", width=max(bar, 9))
    for one in view.judgement.guards if view.judgement else ():
        table.add_row(
            one.guard,
            Text(one.verdict.value.replace("_", " "), style=STYLES[one.verdict]),
            _share(one.treated_bad, one.treated_n),
            _share(one.control_bad, one.control_n),
            interval(one) if width >= WIDE else interval(one).partition(" (")[0],
            Text(_bar(one.log_e_abort, one.log_e_abort_needed, bar), style="red"),
            Text(_bar(one.log_e_promote, one.log_e_promote_needed, bar), style="green"),
        )
    return Panel(
        Group(Text(step_bar(view), style="bold"), Text(view.sentence), Text(""), table),
        title=f"{view.name}: {phase(view)}, {users(view)} had it",
        title_align="left",
    )


def _share(bad: int, exposed: int) -> str:
    return f"{bad:,} of {exposed:,}" if bad else f"{exposed:,}"


def _bar(log_e: float, needed: float, length: int) -> str:
    if needed <= 0:
        return ""
    filled = round(length * max(0.0, min(1.0, log_e / needed)))
    return "█" * filled + "·" * (length - filled)
