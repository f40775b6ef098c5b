"""inprod: test in production, safely. This is the surface inside an app; standard library only.

    import inprod

    inprod.init(environment="production", service="shop")
    if inprod.flag("new-checkout", False, {"user.id": user.id}):
        ...
    with inprod.event("checkout", user__id=user.id) as event:
        event["cart.size"] = 3

None of these raises into the app or blocks it; what was lost is counted in `inprod.status()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TypeVar

from inprod.flags.evaluate import Evaluation
from inprod.sdk.client import Client, Status, connect
from inprod.sdk.wide import WideEvent

__all__ = ["client", "close", "details", "event", "flag", "flush", "init", "status"]
T = TypeVar("T")

_client = Client()  # answers every flag with the app's own default


def init(
    *,
    url: str | None = None,
    key: str | None = None,
    environment: str | None = None,
    service: str | None = None,
    offline_file: str | PathLike[str] | None = None,
    cache_dir: str | None = None,
) -> Client:
    """Connect this process, in the background; return the client that the functions below use.

    What is not given comes from INPROD_URL, INPROD_KEY, INPROD_ENVIRONMENT and OTEL_SERVICE_NAME.
    """
    global _client  # the one client of the process
    previous, _client = _client, connect(
        url=url, key=key, environment=environment, service=service, offline_file=offline_file,
        cache_dir=cache_dir,
    )  # fmt: skip
    previous.close()
    return _client


def client() -> Client:
    """Return the client in use."""
    return _client


def flag(key: str, default: T, context: Mapping[str, object] | None = None, /, **more: object) -> T:
    """Return the value of a flag for `context`; `default` when there is none of its type."""
    if more:
        return _client.flag(key, default, context, **more)
    return _client.flag(key, default, context)


def details(
    key: str, default: object, context: Mapping[str, object] | None = None, /, **more: object
) -> Evaluation:
    """Return the value of a flag with its variant, reason, rule and error."""
    return _client.details(key, default, context, **more)


def event(name: str, /, *, dataset: str = "", **attributes: object) -> WideEvent:
    """Return the context manager of one wide event: `with inprod.event("checkout") as event`."""
    return _client.event(name, dataset=dataset, **attributes)


def flush(timeout_s: float = 5.0) -> bool:
    """Send what waits; return whether all went out in time."""
    return _client.flush(timeout_s)


def close() -> None:
    """Send what waits, then stop."""
    _client.close()


def status() -> Status:
    """Return how the SDK is doing, and what it lost."""
    return _client.status()
