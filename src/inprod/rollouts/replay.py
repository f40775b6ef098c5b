"""Recompute every decision of a rollout from its journal, and say whether each is equal.

Plan, cells and looks are what the journal kept; judgements, decisions and states are made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from inprod.errors import InprodError
from inprod.guards.arms import Arms, Window
from inprod.guards.evidence import Cell
from inprod.rollouts.command import obey
from inprod.rollouts.decide import decide
from inprod.rollouts.judging import Judging
from inprod.rollouts.rollout import Plan
from inprod.rollouts.state import State, Written, apply


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One entry made anew: `equal` when judgement and decision came out as they were written."""

    seq: int
    equal: bool
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """All entries made anew."""

    equal: bool
    sentence: str
    entries: tuple[Replayed, ...]


def replay(
    plan: Plan, arms: Arms, entries: Sequence[Written], cells: Mapping[int, Sequence[Cell]],
    *, created_ns: int, windows: Sequence[Window],
) -> Replay:  # fmt: skip
    """Return the replay; `windows` are the rollout's windows as they are now."""
    judging = Judging(plan, arms)
    state = State(since_ns=created_ns)
    fed = created_ns // plan.batch_ns - 1
    replayed: list[Replayed] = []
    for entry in entries:
        judging.feed(windows, cells, last=fed, to=entry.bucket)
        fed = max(fed, entry.bucket)
        replayed.append(_again(plan, state, entry, judging))
        state = apply(plan, state, entry.decision, now_ns=entry.time_ns)
    different = [one.seq for one in replayed if not one.equal]
    sentence = f"all {len(replayed)} decisions came out equal"
    if different:
        sentence = f"decisions {', '.join(map(str, different))} came out otherwise"
    return Replay(equal=not different, sentence=sentence, entries=tuple(replayed))


def _again(plan: Plan, state: State, entry: Written, judging: Judging) -> Replayed:
    judgement = judging.judgement()
    look = replace(entry.look, judgement=judgement)
    try:
        if entry.command is None:
            decision = decide(plan, state, look)
        else:
            decision = obey(plan, state, look, entry.command)
    except InprodError as error:
        return Replayed(seq=entry.seq, equal=False, sentence=f"now refused: {error.message}")
    if judgement != entry.judgement:
        return Replayed(seq=entry.seq, equal=False, sentence="the evidence comes out otherwise")
    if decision != entry.decision:
        return Replayed(seq=entry.seq, equal=False, sentence=f"now: {decision.sentence}")
    return Replayed(seq=entry.seq, equal=True, sentence=decision.sentence)
