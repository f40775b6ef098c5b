"""How rollouts, their journal and their evidence look as JSON, to API and pages alike."""

from __future__ import annotations

from collections.abc import Sequence

from inprod import document
from inprod.guards.evidence import Judgement
from inprod.rollouts.edge.store import Batch, Standing
from inprod.rollouts.rollout import ENDED, Plan
from inprod.rollouts.state import Written

POINTS_MAX = 500
SERIES = ("log_e_abort", "log_e_promote", "estimate", "low", "high")


def rollout(standing: Standing) -> dict[str, object]:
    """Return one rollout; `users_exposed` counts units that saw the treatment."""
    state = standing.state
    sentence = standing.sentence
    if standing.trouble:
        sentence = f"{sentence} ({standing.trouble})"
    return {
        "name": standing.name, "plan": document.write(standing.plan), "phase": state.phase.value,
        "step": state.step, "level": state.level, "since_ns": state.since_ns,
        "created_ns": standing.created_ns, "started_ns": state.started_ns,
        "reason": standing.reason, "sentence": sentence,
        "judgement": judgement(standing.judgement), "users_exposed": standing.users_exposed,
        "revision": standing.revision, "arms": document.write(standing.arms),
        "settled": standing.settled, "ended": state.phase in ENDED, "trouble": standing.trouble,
    }  # fmt: skip


def judgement(given: Judgement | None) -> dict[str, object] | None:
    """Return a judgement with every field, defaults included, for whoever draws it."""
    if given is None:
        return None
    guards = [
        {name: getattr(one, name) for name in one.__dataclass_fields__} for one in given.guards
    ]
    whole: dict[str, object] = {name: getattr(given, name) for name in given.__dataclass_fields__}
    return {**whole, "guards": guards}


def entry(written: Written) -> dict[str, object]:
    """Return one entry of the journal."""
    decision = written.decision
    return {
        "seq": written.seq, "time_ns": written.time_ns,
        "kind": "decision" if written.command is None else "command",
        "action": decision.action.value, "reason": decision.reason.value,
        "sentence": decision.sentence, "actor": written.actor, "phase": decision.phase.value,
        "step": decision.to_step, "from_level": written.from_level, "to_level": decision.to_level,
        "judgement": judgement(written.judgement), "cells_buckets": written.bucket,
        "users_exposed": written.look.users_exposed,
    }  # fmt: skip


def evidence(plan: Plan, batches: Sequence[Batch]) -> dict[str, object]:
    """Return per guard its evidence over time: at most POINTS_MAX points, the last one always.

    `time` is in Unix seconds, at the end of each bucket.
    """
    stride = -(-len(batches) // POINTS_MAX)
    kept = [one for n, one in enumerate(reversed(batches)) if n % max(stride, 1) == 0][::-1]
    times = [(one.bucket + 1) * plan.batch_ns / 1e9 for one in kept]
    guards: list[dict[str, object]] = []
    for index, guard in enumerate(plan.guards):
        rows = [one.evidence[index] if one.evidence else (None,) * len(SERIES) for one in kept]
        columns = {name: [row[place] for row in rows] for place, name in enumerate(SERIES)}
        guards.append({"guard": guard.name, "kind": guard.kind.value, **columns})
    return {"time": times, "guards": guards}
