"""Wide events: one record per unit of work, with every flag that was evaluated within.

    with inprod.event("checkout", user__id="u1") as event:
        if inprod.flag("new-checkout", False, {"user.id": "u1"}):   # attaches itself
            ...
        event["cart.size"] = 3

The event in force is a context variable, so it follows threads of asyncio and of frameworks. It
sees the flags of the events inside it, and starts with those of the event around it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self

from inprod.sdk.snapshot import Served

current: ContextVar[dict[str, Served] | None] = ContextVar("inprod_flags", default=None)


class WideEvent:
    """The context manager that `inprod.event` returns; set attributes as in a dictionary."""

    __slots__ = (
        "_flags", "_outer", "_record", "_started_ns", "_time_ns", "_token", "attributes",
        "dataset", "name",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        dataset: str,
        attributes: Mapping[str, object],
        record: Callable[[dict[str, object]], None],
    ) -> None:
        self.name = name
        self.dataset = dataset
        self.attributes = dict(attributes)
        self._record = record
        self._flags: dict[str, Served] = {}
        self._outer: dict[str, Served] | None = None
        self._token: Token[dict[str, Served] | None] | None = None
        self._time_ns = 0
        self._started_ns = 0

    def __setitem__(self, name: str, value: object) -> None:
        self.attributes[name] = value

    def __enter__(self) -> Self:
        self._outer = current.get()
        if self._outer:
            self._flags.update(self._outer)
        self._token = current.set(self._flags)
        self._time_ns = time.time_ns()
        self._started_ns = time.perf_counter_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        duration_ns = time.perf_counter_ns() - self._started_ns
        if self._token is not None:
            try:
                current.reset(self._token)
            except ValueError:  # left in another context than entered: a generator, say
                current.set(self._outer)
            self._token = None
        if self._outer is not None:
            self._outer.update(self._flags)
        fields = dict(self.attributes)
        for key, served in self._flags.items():
            fields[f"flag.{key}"] = served.evaluation.variant
            if served.evaluation.rule:
                fields[f"flag.{key}.rule"] = served.evaluation.rule
        if kind is not None:
            fields.setdefault("exception.type", kind.__qualname__)
            fields.setdefault("exception.message", str(error)[:1000])
        self._record(
            {
                "time_ns": self._time_ns,
                "duration_ns": duration_ns,
                "name": self.name,
                "dataset": self.dataset,
                "error": kind is not None,
                "attributes": fields,
            }
        )
