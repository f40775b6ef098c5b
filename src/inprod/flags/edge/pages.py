"""The pages of flags: the table of all, and one with its rules, Try it, history and its switch."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from inprod.audit import Actor
from inprod.endpoint import Endpoint, Role
from inprod.errors import Conflict, InprodError, Invalid, Missing, nearest
from inprod.flags.change import Change as FlagChange
from inprod.flags.change import SetEnabled, SetPercent, apply, touches
from inprod.flags.edge.store import FlagStore, Stored
from inprod.flags.edge.view import FlagRow, cell_of, changes_of, context_of, marks_of
from inprod.flags.evaluate import Explanation, explain
from inprod.flags.flag import Flag
from inprod.flags.turned import Turned, refuse_disturbing
from inprod.units import Unit, parse
from inprod.web import form_of, grant_of

Render = Callable[[Request, str, Mapping[str, object]], Response]
REASON_LENGTH_MAX = 500
TRIES_MAX = 5
SEE_OTHER = 303
PAGES: tuple[Endpoint, ...] = (
    Endpoint(
        method="GET", path="/flags", handler="list", role=Role.READ, kind="page",
        sentence="Show all flags in a table.", takes="query: q",
    ),
    Endpoint(
        method="GET", path="/flags/{key}", handler="one", role=Role.READ, kind="page",
        sentence="Show one flag: rules, Try it, history, switch.",
        takes="query: environment, unit, context", raises=("Missing",),
    ),
    Endpoint(
        method="POST", path="/flags/{key}/enabled", handler="enable", role=Role.OPERATE,
        kind="page", sentence="Turn a flag on or off in an environment.",
        takes="form: environment, enabled, reason", raises=("Invalid", "Denied", "Missing"),
    ),
    Endpoint(
        method="POST", path="/flags/{key}/percent", handler="percent", role=Role.OPERATE,
        kind="page", sentence="Set the percent of one rule's split.",
        takes="form: environment, rule, percent, reason", raises=("Invalid", "Denied", "Missing"),
    ),
    Endpoint(
        method="POST", path="/flags/{key}/revert", handler="revert", role=Role.OPERATE,
        kind="page", sentence="Bring back what a flag was at an earlier revision.",
        takes="form: revision, environment, reason", raises=("Invalid", "Denied", "Missing"),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What was typed into Try it, and what came of it."""

    unit: str = ""
    context: str = ""
    error: str = ""
    outcome: Explanation | None = None


class FlagPages:
    """One method per row of PAGES.

    `last_evaluated` answers flag key -> Unix ns of its last evaluation in an event (empty when
    there is none at all); `rollouts` answers (flag key, environment) -> the rollout turning it,
    `turned` a flag key -> the rules that rollouts turn.
    """

    def __init__(
        self,
        *,
        store: FlagStore,
        environments: Callable[[], Collection[str]],
        last_evaluated: Callable[[], Mapping[str, int]],
        rollouts: Callable[[], Mapping[tuple[str, str], str]],
        turned: Callable[[str], Turned],
        render: Render,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._environments = environments
        self._last_evaluated = last_evaluated
        self._rollouts = rollouts
        self._turned = turned
        self._render = render
        self._now_ns = now_ns

    async def list(self, request: Request) -> Response:
        """Show the table; `q` keeps the rows that contain each of its words."""
        words = request.query_params.get("q", "")
        context = await to_thread.run_sync(self._list, words)
        return self._render(request, "flags/list.html", context)

    async def one(self, request: Request) -> Response:
        """Show one flag in one environment; with `unit` or `context`, what it answers them."""
        context = await to_thread.run_sync(self._one, request)
        return self._render(request, "flags/one.html", context)

    async def enable(self, request: Request) -> Response:
        """Turn on or off."""
        form = await form_of(request)
        if form.get("enabled") not in ("true", "false"):
            raise Invalid("bad_form", "`enabled` is missing", hint="Send `true` or `false`.")
        environment = form.get("environment", "")
        change = SetEnabled(environment=environment, enabled=form["enabled"] == "true")
        said = f"turned {'on' if change.enabled else 'off'} from the page"
        return await self._change(request, form, change, said)

    async def percent(self, request: Request) -> Response:
        """Set a percent."""
        form = await form_of(request)
        change = SetPercent(
            environment=form.get("environment", ""), rule=form.get("rule", ""),
            percent=parse(form.get("percent", ""), Unit.PERCENT),
        )  # fmt: skip
        return await self._change(request, form, change, "set from the page")

    async def revert(self, request: Request) -> Response:
        """Commit what an earlier revision said, as a new revision."""
        form, key = await form_of(request), str(request.path_params["key"])
        revision = form.get("revision", "")

        def make() -> None:
            past = {str(one.revision): one.flag for one in self._store.history(key)}
            flag = past.get(revision)
            if flag is None:
                raise Missing(
                    "unknown_revision", f"`{revision[:20]}` is not a revision of `{key}`",
                    hint=nearest(revision, past),
                )  # fmt: skip
            self._commit(request, key, lambda _old: flag, form, f"reverted to {revision}")

        await to_thread.run_sync(make)
        return _back(key, form)

    async def _change(
        self, request: Request, form: Mapping[str, str], change: FlagChange, said: str
    ) -> Response:
        key = str(request.path_params["key"])
        await to_thread.run_sync(
            lambda: self._commit(request, key, lambda old: apply(old, change), form, said)
        )
        return _back(key, form)

    def _commit(
        self, request: Request, key: str, make: Callable[[Flag], Flag], form: Mapping[str, str],
        said: str,
    ) -> None:  # fmt: skip
        """Change what is there now; again, TRIES_MAX times, if somebody else was faster."""
        actor: Actor = request.state.actor
        reason = form.get("reason", "").strip()[:REASON_LENGTH_MAX] or said
        for last in range(TRIES_MAX, 0, -1):
            old = self._store.get(key)
            flag = make(old.flag)
            grant_of(request).require_all(touches(old.flag, flag))
            refuse_disturbing(old.flag, flag, self._turned(key))
            try:
                self._store.commit(flag, expected_revision=old.revision, actor=actor, reason=reason)
            except Conflict:
                if last == 1:
                    raise
            else:
                return

    def _list(self, words: str) -> dict[str, object]:
        environments = sorted(self._environments())
        evaluated, rollouts = self._last_evaluated(), self._rollouts()
        rows = [
            self._row(stored.flag, environments, evaluated, rollouts)
            for stored in self._store.list()
        ]
        kept = [row for row in rows if _contains(row, words.lower().split())]
        return {"flags": kept, "environments": environments, "q": words}

    def _row(
        self, flag: Flag, environments: Collection[str], evaluated: Mapping[str, int],
        rollouts: Mapping[tuple[str, str], str],
    ) -> FlagRow:  # fmt: skip
        last_ns = evaluated.get(flag.key)
        turning = [
            rollouts[flag.key, name] for name in environments if (flag.key, name) in rollouts
        ]
        return FlagRow(
            key=flag.key,
            description=flag.description,
            owner=flag.owner,
            cells=tuple(cell_of(flag, flag.environments.get(name)) for name in environments),
            marks=marks_of(
                flag, last_ns=last_ns, now_ns=self._now_ns(), knows_evaluations=bool(evaluated)
            ),
            last_ns=last_ns,
            rollout=turning[0] if turning else "",
        )

    def _one(self, request: Request) -> dict[str, object]:
        key = str(request.path_params["key"])
        stored = self._store.get(key)
        environments = sorted(self._environments())
        environment = self._chosen(stored, environments, request.query_params.get("environment"))
        evaluated = self._last_evaluated()
        last_ns = evaluated.get(key)
        state = stored.flag.environments.get(environment)
        grant = grant_of(request)
        address = f"/flags/{quote(key)}?" + urlencode({"environment": environment})
        return {
            "flag": stored.flag,
            "revision": stored.revision,
            "environments": environments,
            "environment": environment,
            "state": state,
            "cell": cell_of(stored.flag, state),
            "marks": marks_of(
                stored.flag, last_ns=last_ns, now_ns=self._now_ns(),
                knows_evaluations=bool(evaluated),
            ),
            "last_ns": last_ns,
            "rollout": self._rollouts().get((key, environment), ""),
            "history": changes_of(self._store.history(key), stored.revision),
            "attempt": _attempt(stored.flag, environment, request),
            "here": str(request.url.path) + "?" + str(request.url.query),
            "address": address,
            "explore": "/explore?" + urlencode({"calc": "COUNT", "of": "", "by": f"flag.{key}"}),
            "may_operate": grant.allows(Role.OPERATE)
            and (grant.environments is None or environment in grant.environments),
        }  # fmt: skip

    @staticmethod
    def _chosen(stored: Stored, environments: Collection[str], asked: str | None) -> str:
        """Return the asked environment, else the first in which the flag has a state."""
        if asked:
            if asked not in environments:
                raise Missing(
                    "unknown_environment", f"`{asked[:100]}` is not an environment",
                    hint=nearest(asked, environments),
                )  # fmt: skip
            return asked
        with_state = [name for name in environments if name in stored.flag.environments]
        return next(iter([*with_state, *environments]), "")


def _attempt(flag: Flag, environment: str, request: Request) -> Attempt:
    unit = request.query_params.get("unit", "").strip()
    text = request.query_params.get("context", "")
    if "unit" not in request.query_params and "context" not in request.query_params:
        return Attempt()
    try:
        found = explain(flag, environment, context_of(unit, text))
    except InprodError as error:
        return Attempt(unit=unit, context=text, error=str(error))
    return Attempt(unit=unit, context=text, outcome=found)


def _contains(row: FlagRow, words: Collection[str]) -> bool:
    text = " ".join(
        [row.key, row.description, row.owner, *row.marks, *(cell.text for cell in row.cells)]
    ).lower()
    return all(word in text for word in words)


def _back(key: str, form: Mapping[str, str]) -> Response:
    environment = form.get("environment", "")
    query = f"?{urlencode({'environment': environment})}" if environment else ""
    return RedirectResponse(f"/flags/{quote(key)}{query}", status_code=SEE_OTHER)
