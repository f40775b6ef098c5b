"""The names of columns: the fixed ones of every event, the reserved ones, and their aliases.

Everything else is an attribute and is found by its name. A fixed column hides an attribute of the
same name, so ingest keeps such an attribute as `attribute.<name>`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple


class Fixed(NamedTuple):
    """One fixed column: SQL for it as text, as a number (None: it has none), and `is it there`."""

    text: str
    number: str | None
    exists: str
    sentence: str


def _text(column: str, sentence: str) -> Fixed:
    return Fixed(f"nullIf(toString({column}), '')", None, f"notEmpty(toString({column}))", sentence)


def _number(expression: str, exists: str, sentence: str) -> Fixed:
    return Fixed(f"toString({expression})", expression, exists, sentence)


FIXED: Final = MappingProxyType(
    {
        "name": _text("name", "What was observed: a span's name, a log record's event name."),
        "dataset": _text("dataset", "The service that sent it, or what `POST /api/events` said."),
        "signal": _text("signal", "`trace`, `log` or `event`."),
        "kind": _text("kind", "A span's kind, or a log record's severity."),
        "trace.trace_id": _text("trace_id", "The trace it belongs to, in hex."),
        "trace.span_id": _text("span_id", "The span it is, or was written in, in hex."),
        "trace.parent_id": _text("parent_id", "The span above it, in hex; a root span has none."),
        "duration_ms": _number(
            "(duration_ns / 1e6)", "isNotNull(duration_ns)", "How long it took, in milliseconds."
        ),
        "error": Fixed(
            "if(error, 'true', 'false')",
            "toFloat64(error)",
            "true",
            "Whether it failed; as a number 1 or 0, so that AVG is the share that failed.",
        ),
        "status_code": _number("toFloat64(status_code)", "true", "OTLP: 0 unset, 1 ok, 2 error."),
        "sample_rate": _number("toFloat64(sample_rate)", "true", "How many events it stands for."),
        "time": _number(
            "(toUnixTimestamp64Nano(time) / 1e9)", "true", "When it began, in Unix seconds."
        ),
    }
)
SAMPLE_RATE_NAMES: Final = frozenset({"sample_rate", "SampleRate", "sampleRate"})
ENVIRONMENT: Final = "deployment.environment.name"
ENVIRONMENT_OLD: Final = "deployment.environment"
TEST: Final = "inprod.test"

# Queried by every rollout or page: stored as columns of their own from the start.
PROMOTED_FIRST: Final = (
    "service.name", "service.version", ENVIRONMENT, "user.id", "session.id", "http.route",
    "http.response.status_code", TEST,
)  # fmt: skip
PROMOTED_MAX: Final = 100
