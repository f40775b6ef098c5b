"""The server's own routes: health, login, keys, apply, the description of the API, assets."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from inprod import document
from inprod.audit import Actor
from inprod.endpoint import Endpoint, Role
from inprod.errors import Denied, InprodError, Invalid, Unavailable
from inprod.grant import Grant
from inprod.server.apply import Apply
from inprod.server.keys import Key, KeyStore
from inprod.server.openapi import describe
from inprod.server.render import Static
from inprod.web import answer, json_of

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        method="GET", path="/healthz", handler="healthz", role=None,
        sentence="Say that the process answers.", gives='{"status": "ok"}',
    ),
    Endpoint(
        method="GET", path="/readyz", handler="readyz", role=None,
        sentence="Say whether the state, the event store and the rollout loop work.",
        gives='{"status": "ok", "checks": {...}}', raises=("Unavailable",),
    ),
    Endpoint(
        method="GET", path="/api/openapi.json", handler="openapi", role=None,
        sentence="Describe this API.", gives="an OpenAPI 3.1 document",
    ),
    Endpoint(
        method="GET", path="/api/me", handler="me", role=None,
        sentence="Say who the caller is, and what the key allows.",
        gives='{"name", "role", "environments", "version"}',
    ),
    Endpoint(
        method="POST", path="/api/logins", handler="add_login", role=Role.READ,
        sentence="Make a one-time login link for a browser, with this key's rights.",
        gives='{"url", "expires_ns"}', raises=("Missing",),
    ),
    Endpoint(
        method="GET", path="/login", handler="log_in", role=None, kind="page",
        sentence="Use up a login link and begin a session.", takes="query: token",
        gives="a cookie, and a redirect to the first page", raises=("Denied",),
    ),
    Endpoint(
        method="POST", path="/logout", handler="log_out", role=None, kind="page",
        sentence="End the session.", gives="a redirect to the first page",
    ),
    Endpoint(
        method="GET", path="/api/keys", handler="keys", role=Role.ADMIN,
        sentence="List the keys, revoked ones too; secrets are not kept.",
        gives='{"keys": [{"name", "role", "environments", "created_ns", "created_by", '
        '"revoked_ns"}]}',
    ),
    Endpoint(
        method="POST", path="/api/keys", handler="add_key", role=Role.ADMIN,
        sentence="Make a key; its secret is shown this once.",
        takes='{"name", "role", "environments"}', gives='{"name", "role", "environments", "key"}',
        raises=("Invalid", "Missing", "Conflict"),
    ),
    Endpoint(
        method="DELETE", path="/api/keys/{name}", handler="revoke_key", role=Role.ADMIN,
        sentence="End a key, and the sessions that began with it.", gives='{"revoked": name}',
        raises=("Missing", "Conflict"),
    ),
    Endpoint(
        method="POST", path="/api/apply", handler="apply", role=Role.OPERATE,
        sentence="Bring environments, flags and rollouts to what the documents say.",
        takes="a list of documents; query: dry_run, reason",
        gives='{"dry_run", "documents": [{"kind", "name", "action", "changes": [sentence]}]}',
        raises=("Invalid", "Denied", "Missing", "Conflict"),
    ),
    Endpoint(
        method="GET", path="/static/{name:path}", handler="static", role=None, kind="page",
        sentence="Give an asset of the pages.", raises=("Missing",),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """The body of `POST /api/keys`; `environments` None means all of them."""

    name: str
    role: Role
    environments: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that must work for the server to be ready; `probe` raises when it does not."""

    name: str
    probe: Callable[[], object]


class ServerApi:
    """One method per row of `ENDPOINTS`."""

    def __init__(
        self,
        *,
        keys: KeyStore,
        apply: Apply,
        static: Static,
        checks: tuple[Check, ...],
        endpoints: Callable[[], Iterable[Endpoint]],
        public_url: Callable[[], str],
        cookie: str,
        login_s: float,
        session_s: float,
    ) -> None:
        self._keys = keys
        self._apply = apply
        self._checks = checks
        self._endpoints = endpoints
        self._public_url = public_url
        self._cookie = cookie
        self._login_s = login_s
        self._session_s = session_s
        self.static = static.file

    async def healthz(self, request: Request) -> Response:
        """The process answers."""
        del request
        return answer({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Everything that a request may need works."""
        del request
        failures: dict[str, str] = {}
        for check in self._checks:
            try:
                await to_thread.run_sync(check.probe)
            except (InprodError, SQLAlchemyError, OSError) as error:
                failures[check.name] = str(error) or type(error).__name__
        if failures:
            told = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
            raise Unavailable(
                "not_ready", f"the server is not ready: {told}",
                hint="Look at the server's log.",
            )  # fmt: skip
        return answer({"status": "ok", "checks": {check.name: "ok" for check in self._checks}})

    async def openapi(self, request: Request) -> Response:
        """The table of routes, in OpenAPI's words."""
        del request
        return answer(describe(self._endpoints(), version()))

    async def me(self, request: Request) -> Response:
        """Who the caller is; nobody when there is no key."""
        grant: Grant | None = request.state.grant
        return answer(
            {
                "name": grant.name if grant else None,
                "role": grant.role if grant else None,
                "environments": grant.environments if grant else (),
                "version": version(),
            }
        )

    async def add_login(self, request: Request) -> Response:
        """A link that logs one browser in, once."""
        grant: Grant = request.state.grant
        expires_ns = time.time_ns() + int(self._login_s * 1e9)
        token = await to_thread.run_sync(self._keys.add_login, grant.name, expires_ns)
        return answer(
            {"url": f"{self._public_url()}/login?token={token}", "expires_ns": expires_ns}, 201
        )

    async def log_in(self, request: Request) -> Response:
        """Begin a session; the cookie is HttpOnly and SameSite=Strict."""
        token = request.query_params.get("token", "")
        if not token:
            raise Denied(
                "no_login", "this page needs a login link", hint="Make one with `inprod login`."
            )
        expires_ns = time.time_ns() + int(self._session_s * 1e9)
        origin: Actor = request.state.actor
        secret = await to_thread.run_sync(self._keys.log_in, token, expires_ns, origin.origin)
        response = RedirectResponse("/", status_code=303, headers={"cache-control": "no-store"})
        response.set_cookie(
            self._cookie, secret, max_age=int(self._session_s), httponly=True, samesite="strict",
            secure=self._public_url().startswith("https://"), path="/",
        )  # fmt: skip
        return response

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        session: str | None = request.state.session
        if session:
            await to_thread.run_sync(self._keys.log_out, session)
        response = RedirectResponse("/", status_code=303)
        response.delete_cookie(self._cookie, path="/", httponly=True, samesite="strict")
        return response

    async def keys(self, request: Request) -> Response:
        """All keys, without their secrets."""
        del request
        keys: tuple[Key, ...] = await to_thread.run_sync(self._keys.list)
        return answer({"keys": [_shown(key) for key in keys]})

    async def add_key(self, request: Request) -> Response:
        """A new key."""
        body = document.read(NewKey, await json_of(request, bytes_max=100_000))
        actor: Actor = request.state.actor
        grant: Grant = request.state.grant
        _check_reach(grant, body.environments)
        secret = await to_thread.run_sync(
            self._keys.add, body.name, body.role, body.environments, actor
        )
        shown: dict[str, object] = {
            "name": body.name, "role": body.role, "environments": body.environments,
        }  # fmt: skip
        return answer({**shown, "key": secret}, 201, {"cache-control": "no-store"})

    async def revoke_key(self, request: Request) -> Response:
        """End a key."""
        name: str = request.path_params["name"]
        await to_thread.run_sync(self._keys.revoke, name, request.state.actor)
        return answer({"revoked": name})

    async def apply(self, request: Request) -> Response:
        """Validate all documents, then store them; with `dry_run` only say what would change."""
        documents = await json_of(request, bytes_max=1_000_000)
        if not isinstance(documents, list):
            raise Invalid(
                "not_a_list", "the body is not a list of documents", where="$",
                hint="Send `[document, ...]`.",
            )  # fmt: skip
        dry_run = _truth(request, "dry_run")
        reason = request.query_params.get("reason", "")[:500]
        done = await self._apply.run(
            cast("list[object]", documents),
            actor=request.state.actor,
            grant=request.state.grant,
            dry_run=dry_run,
            reason=reason,
        )
        return answer({"dry_run": dry_run, "documents": done})


def version() -> str:
    """Return the installed version of inprod."""
    return importlib.metadata.version("inprod")


def _check_reach(grant: Grant, wanted: tuple[str, ...] | None) -> None:
    """A key makes no key that reaches further than itself."""
    if grant.environments is None:
        return
    if wanted is None or not set(wanted) <= set(grant.environments):
        raise Denied(
            "wrong_environment", f"the key `{grant.name}` does not reach all those environments",
            where="$.environments", hint="Name only environments that your own key reaches.",
        )  # fmt: skip


def _shown(key: Key) -> dict[str, object]:
    return {
        "name": key.name, "role": key.role, "environments": key.environments,
        "created_ns": key.created_ns, "created_by": key.created_by, "revoked_ns": key.revoked_ns,
    }  # fmt: skip


def _truth(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in ("", "0", "1", "true", "false"):
        raise Invalid(
            "bad_truth", f"`{text[:40]}` is neither true nor false", where=f"?{name}",
            hint="Use `true` or `false`.",
        )  # fmt: skip
    return text in ("", "1", "true")
