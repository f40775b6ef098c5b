"""The pages of rollouts: the table of all, and one with its evidence, journal and levers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from inprod.audit import Actor
from inprod.endpoint import Endpoint, Role
from inprod.errors import Invalid, nearest
from inprod.grant import Grant
from inprod.guards.evidence import Judgement
from inprod.rollouts.command import Verb
from inprod.rollouts.edge.store import Batch, RolloutStore, Standing
from inprod.rollouts.edge.view import Point, RolloutView, tiles_of, view_of
from inprod.rollouts.rollout import Action, Plan
from inprod.rollouts.state import Command, Written
from inprod.web import form_of, grant_of

Render = Callable[[Request, str, Mapping[str, object]], Response]
REASON_LENGTH_MAX = 500
JOURNAL_SHOWN = 30
POINTS_SHOWN = 120
SEE_OTHER = 303
SHOWS = ("all", "active", "ended")
PAGES: tuple[Endpoint, ...] = (
    Endpoint(
        method="GET", path="/rollouts", handler="list", role=Role.READ, kind="page",
        sentence="Show the rollouts in a table.", takes="query: show (all, active, ended)",
        raises=("Invalid",),
    ),
    Endpoint(
        method="GET", path="/rollouts/{name}", handler="one", role=Role.READ, kind="page",
        sentence="Show one rollout: sentence, steps, evidence per guard, journal, buttons.",
        raises=("Missing",),
    ),
    Endpoint(
        method="POST", path="/rollouts/{name}/act", handler="act", role=Role.OPERATE, kind="page",
        sentence="Pause, resume, advance, roll back or stop a rollout.",
        takes="form: action, reason", raises=("Invalid", "Denied", "Missing", "Conflict"),
    ),
)  # fmt: skip
LOOKS: Mapping[Action, tuple[str, str]] = {
    Action.HOLD: ("wait", "held"),
    Action.PROMOTE: ("good", "good"),
    Action.ROLL_BACK: ("bad", "back"),
    Action.STOP: ("soft", "halt"),
    Action.ARRIVE: ("soft", "on"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """One entry as the page shows it."""

    seq: int
    time_ns: int
    kind: str
    tone: str
    glyph: str
    actor: str
    from_level: float
    to_level: float
    reason: str
    judgement: Judgement | None


class RolloutPages:
    """One method per row of PAGES; `command` carries out what a person orders (Runner.command)."""

    def __init__(
        self,
        *,
        store: RolloutStore,
        command: Callable[[str, Command, Actor], Awaitable[object]],
        render: Render,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._command = command
        self._render = render
        self._now_ns = now_ns

    def views(self) -> Sequence[RolloutView]:
        """Return all rollouts as pages show them, those that are active first."""
        now_ns = self._now_ns()
        return [_view(one, now_ns) for one in self._store.list()]

    def turning(self) -> Mapping[tuple[str, str], str]:
        """Return (flag key, environment) -> the rollout that turns it now."""
        prefix = "flag/"
        return {
            (one.plan.dial.removeprefix(prefix), one.plan.environment): one.name
            for one in self._store.turning()
            if one.plan.dial.startswith(prefix)
        }

    async def list(self, request: Request) -> Response:
        """Show the table."""
        show = request.query_params.get("show", "all")
        if show not in SHOWS:
            raise Invalid(
                "unknown_word", f"`{show[:40]}` is not a choice", where="?show",
                hint=nearest(show, SHOWS),
            )  # fmt: skip
        views = await to_thread.run_sync(self.views)
        views = [one for one in views if grant_of(request).reaches(one.plan.environment)]
        counts = {
            "all": len(views),
            "active": sum(not one.has_ended for one in views),
            "ended": sum(one.has_ended for one in views),
        }
        kept = [one for one in views if show == "all" or one.has_ended == (show == "ended")]
        context = {"rollouts": kept, "counts": counts, "show": show}
        return self._render(request, "rollouts/list.html", context)

    async def one(self, request: Request) -> Response:
        """Show one rollout."""
        name = str(request.path_params["name"])
        grant = grant_of(request)
        standing = await to_thread.run_sync(self._store.get, name)
        grant_of(request).require(standing.plan.environment)
        context = await to_thread.run_sync(self._one, name, grant)
        return self._render(request, "rollouts/one.html", context)

    async def act(self, request: Request) -> Response:
        """Carry out what a person ordered with a button."""
        form, name = await form_of(request), str(request.path_params["name"])
        verb = form.get("action", "")
        if verb not in list(Verb):
            raise Invalid(
                "unknown_verb", f"`{verb[:40]}` is not something a rollout can do",
                hint=nearest(verb, Verb),
            )  # fmt: skip
        actor: Actor = request.state.actor
        standing = await to_thread.run_sync(self._store.get, name)
        grant_of(request).require(standing.plan.environment)
        command = Command(
            verb=Verb(verb),
            actor=actor.name,
            reason=form.get("reason", "").strip()[:REASON_LENGTH_MAX],
            keep=form.get("keep") == "true",
        )
        await self._command(name, command, actor)
        return RedirectResponse(f"/rollouts/{quote(name)}", status_code=SEE_OTHER)

    def _one(self, name: str, grant: Grant) -> dict[str, object]:
        standing = self._store.get(name)
        journal = self._store.journal(name)
        plan = standing.plan
        peak = max((one.decision.to_step for one in journal), default=None)
        view = _view(standing, self._now_ns(), peak)
        return {
            "rollout": view,
            "plan": plan,
            "judgement": standing.judgement,
            "guards_shown": tiles_of(
                plan, standing.judgement, series_of(plan, self._store.evidence(name))
            ),
            "journal": [_row(one) for one in reversed(journal[-JOURNAL_SHOWN:])],
            "journal_more": max(0, len(journal) - JOURNAL_SHOWN),
            "trouble": standing.trouble,
            "may_operate": grant.allows(Role.OPERATE)
            and (grant.environments is None or plan.environment in grant.environments),
        }


def series_of(plan: Plan, batches: Sequence[Batch]) -> dict[str, tuple[Point, ...]]:
    """Return guard name -> its course, thinned to about POINTS_SHOWN, the last one always in it."""
    stride = max(1, -(-len(batches) // POINTS_SHOWN))
    kept = [*reversed(batches[::-1][::stride])]
    series: dict[str, tuple[Point, ...]] = {}
    for index, guard in enumerate(plan.guards):
        points: list[Point] = []
        for batch in kept:
            if batch.evidence is None or index >= len(batch.evidence):
                continue
            abort, promote, estimate, low, high = batch.evidence[index]
            points.append(
                Point(
                    time_s=(batch.bucket + 1) * plan.batch_ns / 1e9,
                    estimate=estimate,
                    low=low,
                    high=high,
                    log_e_abort=abort or 0.0,
                    log_e_promote=promote or 0.0,
                )
            )
        series[guard.name] = tuple(points)
    return series


def _view(standing: Standing, now_ns: int, peak_step: int | None = None) -> RolloutView:
    return view_of(
        standing.plan,
        standing.state,
        sentence=standing.sentence,
        users_exposed=standing.users_exposed,
        now_ns=now_ns,
        peak_step=peak_step,
    )


def _row(written: Written) -> JournalRow:
    decision = written.decision
    tone, glyph = LOOKS.get(decision.action, ("soft", "forward"))
    return JournalRow(
        seq=written.seq,
        time_ns=written.time_ns,
        kind=decision.action.value,
        tone=tone,
        glyph=glyph,
        actor=written.actor,
        from_level=written.from_level,
        to_level=decision.to_level,
        reason=decision.sentence,
        judgement=written.judgement,
    )
