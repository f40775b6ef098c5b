"""What inprod says about itself: wide events in dataset `inprod`; pure.

One event per answered request that a person or program made to look or to change. Ingest, streams,
SDK polls, assets and health checks are left out: they would drown the rest, and feed on themselves.
"""

from __future__ import annotations

from inprod.endpoint import Role
from inprod.events.event import Event
from inprod.server.dispatch import Served

DATASET = "inprod"
SERVICE = "inprod"
QUIET_ROLES = frozenset({Role.INGEST, Role.SDK})
QUIET_PATHS = frozenset({"/healthz", "/readyz", "/static/{name:path}", "/login"})


def is_told(served: Served) -> bool:
    """Whether a request gets an event."""
    endpoint = served.endpoint
    if endpoint is None:
        return False
    loud = endpoint.kind != "stream" and endpoint.path not in QUIET_PATHS
    return loud and endpoint.role not in QUIET_ROLES


def request_event(served: Served) -> Event:
    """Return the wide event of one answered request, under OpenTelemetry's names."""
    strings = {
        "service.name": SERVICE,
        "http.request.method": served.method,
        "http.route": served.path,
        "inprod.actor": served.actor,
        "inprod.origin": served.origin,
        "inprod.error.code": served.error_code,
    }
    return Event(
        time_ns=served.time_ns,
        dataset=DATASET,
        name=f"{served.method} {served.path}",
        kind="server",
        duration_ns=served.duration_ns,
        error=served.status >= 500,
        strings={name: value for name, value in strings.items() if value},
        numbers={"http.response.status_code": float(served.status)},
    )


def failure_event(*, time_ns: int, name: str, message: str) -> Event:
    """Return the event of something that went wrong outside any request."""
    return Event(
        time_ns=time_ns, dataset=DATASET, name=name, error=True,
        strings={"service.name": SERVICE, "exception.message": message[:2000]},
    )  # fmt: skip
