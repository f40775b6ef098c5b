"""HTTP of safety: environments, levers and the audit."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from inprod import document, web
from inprod.audit import Actor
from inprod.endpoint import Endpoint, Role
from inprod.errors import Invalid, Missing, nearest
from inprod.safety.edge.store import AuditLog, EnvironmentStore, LeverStore
from inprod.safety.environment import require
from inprod.safety.lever import Lever, Pulled, Scope
from inprod.web import grant_of

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        method="GET", path="/api/environments", handler="environments", role=Role.READ,
        sentence="List the declared environments.", gives='{"environments": [name, ...]}',
    ),
    Endpoint(
        method="POST", path="/api/environments", handler="add_environment", role=Role.ADMIN,
        sentence="Declare an environment.", takes='{"name": "production"}', gives='{"name": ...}',
        raises=("Invalid", "Conflict", "TooMuch"),
    ),
    Endpoint(
        method="GET", path="/api/levers", handler="levers", role=Role.READ,
        sentence="List the levers that are pulled now.", gives='{"levers": [lever, ...]}',
    ),
    Endpoint(
        method="POST", path="/api/levers", handler="pull", role=Role.OPERATE,
        sentence="Pull a lever: running dials below it go to safe, and none may start.",
        takes='{"scope": "everything|environment|dial", "environment", "dial", "reason"}',
        gives="the lever", raises=("Invalid", "Denied", "Missing"),
    ),
    Endpoint(
        method="DELETE", path="/api/levers", handler="release", role=Role.OPERATE,
        sentence="Release a lever; nothing resumes by itself.",
        takes='{"scope", "environment", "dial", "reason"}', gives='{"released": name}',
        raises=("Invalid", "Denied", "Missing"),
    ),
    Endpoint(
        method="GET", path="/api/audit", handler="audit", role=Role.READ,
        sentence="Show who changed what and why, newest first; `verify=1` checks the chain.",
        takes="query: limit (1-1000), before (seq), verify", gives='{"entries": [...]}',
        raises=("Invalid",),
    ),
)  # fmt: skip


DIGITS_MAX = 19  # a few thousand would be more than `int` reads


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEnvironment:
    """The body of a declaration."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """The body of a pull or a release."""

    scope: Scope
    environment: str = ""
    dial: str = ""
    reason: str = ""


class SafetyApi:
    """One method per row of ENDPOINTS."""

    def __init__(
        self, *, environments: EnvironmentStore, levers: LeverStore, audit: AuditLog,
        dials: Callable[[], Collection[str]],
    ) -> None:  # fmt: skip
        self._dials = dials
        self._environments = environments
        self._levers = levers
        self._audit = audit

    async def environments(self, request: Request) -> Response:
        """Answer the declared names."""
        del request
        names = await to_thread.run_sync(self._environments.names)
        return web.answer({"environments": names})

    async def add_environment(self, request: Request) -> Response:
        """Declare one."""
        body = document.read(NewEnvironment, await web.json_of(request, bytes_max=10_000))
        actor: Actor = request.state.actor
        await to_thread.run_sync(self._environments.add, body.name, actor)
        return web.answer({"name": body.name}, 201)

    async def levers(self, request: Request) -> Response:
        """Answer the levers that are pulled."""
        del request
        pulled = await to_thread.run_sync(self._levers.pulled)
        return web.answer({"levers": [shown(one) for one in pulled]})

    async def pull(self, request: Request) -> Response:
        """Pull one."""
        lever, reason = await self._lever(request)
        actor: Actor = request.state.actor

        def pull() -> Pulled:
            if lever.environment:
                require(lever.environment, self._environments.names(), where="$.environment")
            if lever.dial:
                known_dial(lever.dial, self._dials())
            return self._levers.pull(lever, actor=actor, reason=reason)

        return web.answer(shown(await to_thread.run_sync(pull)))

    async def release(self, request: Request) -> Response:
        """Release one."""
        lever, reason = await self._lever(request)
        actor: Actor = request.state.actor
        await to_thread.run_sync(lambda: self._levers.release(lever, actor=actor, reason=reason))
        return web.answer({"released": lever.name})

    async def audit(self, request: Request) -> Response:
        """Answer the newest entries, and whether the chain is whole when asked."""
        limit = whole(request, "limit", 100, low=1, high=1000)
        before = whole(request, "before", 0, low=0, high=2**62) or None
        entries = await to_thread.run_sync(lambda: self._audit.entries(limit, before=before))
        found: dict[str, object] = {
            "entries": [
                {"seq": one.seq, **asdict(one.entry), "digest": one.digest} for one in entries
            ]
        }
        if request.query_params.get("verify", "") in ("1", "true"):
            found["verified"] = asdict(await to_thread.run_sync(self._audit.verify))
        return web.answer(found)

    async def _lever(self, request: Request) -> tuple[Lever, str]:
        body = document.read(Handle, await web.json_of(request, bytes_max=10_000))
        lever = Lever(scope=body.scope, environment=body.environment, dial=body.dial)
        grant_of(request).require(lever.environment)
        return lever, body.reason


def known_dial(name: str, known: Collection[str]) -> None:
    """Raise Missing for a dial that does not exist: a typo must not look like a halt."""
    if name not in known:
        raise Missing(
            "unknown_dial", f"`{name}` is not a dial", where="$.dial", hint=nearest(name, known)
        )


def shown(pulled: Pulled) -> dict[str, object]:
    """Return a pulled lever as JSON shows it."""
    return {
        "name": pulled.lever.name, "scope": pulled.lever.scope.value,
        "environment": pulled.lever.environment, "dial": pulled.lever.dial,
        "time_ns": pulled.time_ns, "actor": pulled.actor, "reason": pulled.reason,
        "sentence": pulled.sentence,
    }  # fmt: skip


def whole(request: Request, name: str, default: int, *, low: int, high: int) -> int:
    """Return a whole number from the query string; raises Invalid outside `low` to `high`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > DIGITS_MAX or not low <= int(text) <= high:
        raise Invalid(
            "bad_number", f"`{text[:40]}` cannot be `{name}`", where=f"?{name}",
            hint=f"Use {low} to {high}.",
        )  # fmt: skip
    return int(text)
