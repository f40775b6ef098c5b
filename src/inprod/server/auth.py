"""Who is asking, and may they: the checks that stand before every handler.

    Host (DNS rebinding) -> key or cookie -> Origin (cookie, changes) -> role -> environment

A key comes as `Authorization: Bearer`, `X-API-Key` or `x-honeycomb-team`; a browser has a cookie.
Without a key, loopback may ingest while the server is bound to loopback.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from inprod.audit import Actor
from inprod.endpoint import Endpoint, Role
from inprod.errors import Denied
from inprod.grant import Grant
from inprod.server.keys import KeyStore

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
NOBODY = Actor(name="nobody", origin="api")
LOOPBACK_GRANT = Grant(name="loopback", role=Role.INGEST)
STATUS_NO_KEY = 401

CONTENT_SECURITY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS: tuple[tuple[str, str], ...] = (
    ("content-security-policy", CONTENT_SECURITY),
    ("x-content-type-options", "nosniff"),
    # not `no-referrer`: with it a browser says `Origin: null` when a page posts a form to us
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-frame-options", "DENY"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The outcome of the checks: `grant` None for a route that anyone may use."""

    actor: Actor
    grant: Grant | None
    session: str | None = None


class Gate:
    """Turns the headers of a request into a Caller, or raises Denied."""

    def __init__(
        self, keys: KeyStore, *, names: frozenset[str], loopback: bool, cookie: str
    ) -> None:
        self._keys = keys
        self._names = names
        self._loopback = loopback
        self.cookie = cookie

    def check_host(self, host: str) -> None:
        """Raise Denied for a Host that is neither an address, `localhost`, nor a configured name.

        A page that rebinds its own name to our address sends that name: it is refused here. An
        address cannot be rebound.
        """
        name = host_name(host)
        if name in self._names or name == "localhost" or name.endswith(".localhost"):
            return
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise Denied(
                "unknown_host", f"`{host[:100]}` is not a name of this server", where="Host",
                hint="Use the server's own address, or add the name to the setting `hosts`.",
            ) from None  # fmt: skip

    def admit(
        self, endpoint: Endpoint, *, method: str, headers: Mapping[str, str],
        cookies: Mapping[str, str], client: str,
    ) -> Caller:  # fmt: skip
        """Return the caller of `endpoint`; `client` is the peer's address.

        Raises Denied: status 401 without a valid key, 403 for a wrong role or Origin.
        """
        origin = f"{'page' if endpoint.kind == 'page' else 'api'} {client}"
        secret = key_in(headers)
        if secret is not None:
            grant = self._keys.grant_of(secret)
            if grant is None:
                raise _unknown_key()
            self._check_role(endpoint, grant)
            return Caller(actor=Actor(name=grant.name, origin=origin), grant=grant)
        session = cookies.get(self.cookie)
        grant = self._keys.grant_of(session) if session else None
        if grant is not None:
            if method not in SAFE_METHODS:
                check_origin(headers)
            self._check_role(endpoint, grant)
            actor = Actor(name=grant.name, origin=f"page {client}")
            return Caller(actor=actor, grant=grant, session=session)
        if endpoint.role is None:
            return Caller(actor=NOBODY, grant=None)
        if endpoint.role is Role.INGEST and self._loopback and is_loopback(client):
            if "origin" in headers:  # a page of another site must not write events from a browser
                check_origin(headers)
            return Caller(actor=Actor(name="loopback", origin=origin), grant=LOOPBACK_GRANT)
        raise _no_key()

    def _check_role(self, endpoint: Endpoint, grant: Grant) -> None:
        if endpoint.role is not None and not grant.allows(endpoint.role):
            raise Denied(
                "wrong_role", f"the key `{grant.name}` has the role `{grant.role}`, "
                f"not `{endpoint.role}`",
                hint=f"Use a key with the role `{endpoint.role}`.",
            )  # fmt: skip


def host_name(host: str) -> str:
    """Return the name or address in a Host header, without the port and brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def key_in(headers: Mapping[str, str]) -> str | None:
    """Return the key that a request carries, None when it carries none.

    Raises Denied for an Authorization header of another scheme than Bearer.
    """
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise _unauthorized(
                "bad_authorization", f"`{scheme[:40]}` is not how a key is sent",
                "Send `Authorization: Bearer <key>`.",
            )  # fmt: skip
        return secret.strip()
    return headers.get("x-api-key") or headers.get("x-honeycomb-team")


def check_origin(headers: Mapping[str, str]) -> None:
    """Raise Denied unless the request comes from a page of this very server.

    Browsers send Origin with every request that changes something; where it is absent, only
    `Sec-Fetch-Site: same-origin` speaks for the request.
    """
    origin = headers.get("origin")
    if origin is None:
        if headers.get("sec-fetch-site") == "same-origin":
            return
        raise Denied(
            "no_origin", "a request with a cookie that changes something has no `Origin`",
            where="Origin", hint="Send `Origin`, or use a key instead of the cookie.",
        )  # fmt: skip
    if urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        raise Denied(
            "wrong_origin", f"`{origin[:100]}` is not a page of this server", where="Origin",
            hint="Do this on the server's own pages.",
        )  # fmt: skip


def is_loopback(address: str) -> bool:
    """Whether the peer's address is this machine."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _no_key() -> Denied:
    return _unauthorized(
        "no_key", "the request carries no key", "Send `Authorization: Bearer <key>`."
    )


def _unknown_key() -> Denied:
    return _unauthorized(
        "unknown_key", "the key is unknown or revoked", "Use a key that `inprod keys list` shows."
    )


def _unauthorized(code: str, message: str, hint: str) -> Denied:
    error = Denied(code, message, hint=hint)
    error.status = STATUS_NO_KEY  # pyright: ignore[reportAttributeAccessIssue]  # per instance
    return error
