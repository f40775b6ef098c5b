"""A flag as its pages show it: a cell per environment, marks, histories as line diffs. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import unified_diff

from inprod import document
from inprod.errors import Invalid
from inprod.flags.edge.store import Past
from inprod.flags.flag import Flag, State
from inprod.units import render_percent, render_s

SECOND_NS = 1_000_000_000
UNUSED_S = 7 * 86_400.0
CONTEXT_LINES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What a flag does in one environment: a tag (`tone`, `glyph`, `text`) and a short detail."""

    tone: str
    glyph: str
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a diff; `sign` is `+`, `-` or a space."""

    sign: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One commit in the history: its sentences, and the lines of the document that changed."""

    revision: int
    time_ns: int
    actor: str
    reason: str
    sentences: tuple[str, ...]
    diff: tuple[Line, ...]
    is_current: bool
    is_archived: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagRow:
    """One flag in the table."""

    key: str
    description: str
    owner: str
    cells: tuple[Cell, ...]
    marks: tuple[str, ...]
    last_ns: int | None
    rollout: str


def cell_of(flag: Flag, state: State | None) -> Cell:
    """Return what the flag does where its state is `state` (None: it has none there)."""
    if state is None:
        return Cell(tone="", glyph="off", text="no state", detail=f"serves {flag.off}")
    if not state.enabled:
        return Cell(tone="", glyph="off", text="off", detail=f"serves {flag.off}")
    default = state.default or flag.default
    splits = [rule.split for rule in state.rules if rule.split is not None]
    if splits:
        widest = max(splits, key=lambda split: split.percent)
        names = "/".join(treatment.variant for treatment in widest.treatments)
        more = len(state.rules) - 1
        detail = names + (f", {more} more rule{'s' if more > 1 else ''}" if more else "")
        tone, glyph = ("on", "on") if widest.percent > 0 else ("", "off")
        return Cell(tone=tone, glyph=glyph, text=render_percent(widest.percent), detail=detail)
    if state.rules:
        count = len(state.rules)
        said = f"{count} rule{'s' if count > 1 else ''}"
        return Cell(tone="on", glyph="on", text=said, detail=f"else {default}")
    return Cell(tone="on", glyph="on", text=default, detail="for everybody")


def marks_of(
    flag: Flag, *, last_ns: int | None, now_ns: int, knows_evaluations: bool
) -> tuple[str, ...]:
    """Return why the flag may be stale: expired, settled on one answer, or no longer asked.

    `knows_evaluations` is whether the event store has any evaluation at all to compare with.
    """
    marks: list[str] = []
    over_s = _expired_s(flag.expires, now_ns)
    if over_s is not None and over_s >= 0:
        marks.append(f"expired {render_s(over_s)} ago")
    if flag.environments and all(_is_settled(state) for state in flag.environments.values()):
        marks.append("settled: remove it from the code")
    if knows_evaluations:
        if last_ns is None:
            marks.append("never evaluated")
        elif now_ns - last_ns > UNUSED_S * SECOND_NS:
            marks.append(f"not evaluated for {render_s((now_ns - last_ns) / SECOND_NS)}")
    return tuple(marks)


def changes_of(history: Sequence[Past], current: int) -> tuple[Change, ...]:
    """Return the history (newest first) with each commit's diff against the one before it."""
    befores: list[Flag | None] = [*(past.flag for past in history[1:]), None]
    return tuple(
        Change(
            revision=past.revision,
            time_ns=past.time_ns,
            actor=past.actor,
            reason=past.reason,
            sentences=past.sentences,
            diff=() if before is None and past.flag is not None else diff_of(before, past.flag),
            is_current=past.revision == current,
            is_archived=past.flag is None,
        )
        for past, before in zip(history, befores, strict=True)
    )


def diff_of(before: Flag | None, after: Flag | None) -> tuple[Line, ...]:
    """Return the changed lines of the document with a little context; a cut is a line `…`."""
    lines = unified_diff(_lines(before), _lines(after), n=CONTEXT_LINES, lineterm="")
    shown: list[Line] = []
    for line in list(lines)[2:]:
        if line.startswith("@@"):
            if shown:
                shown.append(Line(sign=" ", text="…"))
        else:
            shown.append(Line(sign=line[0], text=line[1:]))
    return tuple(shown)


def context_of(unit: str, text: str) -> dict[str, object]:
    """Return the evaluation context that was typed; raises Invalid when it is not a JSON object."""
    context: dict[str, object] = {}
    if text.strip():
        try:
            plain = json.loads(text)
        except ValueError as error:
            raise Invalid(
                "not_json", f"the attributes are not JSON: {error}",
                hint='Write an object such as {"plan": "beta"}.',
            ) from None  # fmt: skip
        if not isinstance(plain, dict):
            raise Invalid(
                "not_an_object", "the attributes are not an object",
                hint='Write an object such as {"plan": "beta"}.',
            )  # fmt: skip
        context.update({str(key): value for key, value in plain.items()})  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # JSON
    if unit:
        context["user.id"] = unit
    return context


def _lines(flag: Flag | None) -> list[str]:
    if flag is None:
        return []
    return json.dumps(document.write(flag), indent=2, ensure_ascii=False).splitlines()


def _is_settled(state: State) -> bool:
    """Whether everybody sees one variant, by design and for good: a split at 100 % and no more."""
    if not state.enabled or len(state.rules) != 1:
        return False
    rule = state.rules[0]
    return not rule.when and rule.split is not None and rule.split.percent >= 100


def _expired_s(expires: str | None, now_ns: int) -> float | None:
    if not expires:
        return None
    try:
        moment = datetime.fromisoformat(expires)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return now_ns / SECOND_NS - moment.timestamp()
