"""Events over HTTP: OTLP and plain JSON in, queries and columns out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from functools import partial

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response

from inprod import document, web
from inprod.endpoint import Endpoint, Role
from inprod.errors import InprodError, Invalid, Missing, nearest
from inprod.events import otlp, plain
from inprod.events.arrow import Batch, batch_of
from inprod.events.columns import FIXED
from inprod.events.edge import wire
from inprod.events.edge.store import EventStore
from inprod.events.edge.writer import Writer
from inprod.events.intake import Intake, Terms
from inprod.events.query import Query

BODY_BYTES_MAX = 16_000_000
QUERY_BYTES_MAX = 256_000
DECODERS = 2  # bodies decoded at once; each may hold BODY_BYTES_MAX

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        method="POST", path="/v1/traces", handler="traces", role=Role.INGEST,
        sentence="Store spans, one event each, as any OpenTelemetry SDK sends them.",
        takes="OTLP ExportTraceServiceRequest in protobuf or JSON, gzip allowed",
        gives="OTLP ExportTraceServiceResponse; refused spans as partial success",
        raises=("Invalid", "TooMuch", "Unavailable"), body_bytes_max=BODY_BYTES_MAX,
    ),
    Endpoint(
        method="POST", path="/v1/logs", handler="logs", role=Role.INGEST,
        sentence="Store log records, one event each, as any OpenTelemetry SDK sends them.",
        takes="OTLP ExportLogsServiceRequest in protobuf or JSON, gzip allowed",
        gives="OTLP ExportLogsServiceResponse; refused records as partial success",
        raises=("Invalid", "TooMuch", "Unavailable"), body_bytes_max=BODY_BYTES_MAX,
    ),
    Endpoint(
        method="POST", path="/api/events", handler="events", role=Role.INGEST,
        sentence="Store events sent as JSON.",
        takes="a JSON object, a list of objects, or NDJSON; gzip allowed",
        gives="how many were accepted and rejected, with the errors of the latter",
        raises=("Invalid", "TooMuch", "Unavailable"), body_bytes_max=BODY_BYTES_MAX,
    ),
    Endpoint(
        method="POST", path="/api/query", handler="query", role=Role.READ,
        sentence="Answer a question about events.",
        takes="a query", gives="results, series, the query as understood, elapsed_ms, rows_read",
        raises=("Invalid", "Missing", "TooMuch", "Unavailable"), body_bytes_max=QUERY_BYTES_MAX,
    ),
    Endpoint(
        method="GET", path="/api/columns", handler="columns", role=Role.READ,
        sentence="List the columns of a dataset, or of all.",
        takes="`dataset`", gives="name and types of each column", raises=("Missing",),
    ),
    Endpoint(
        method="GET", path="/api/datasets", handler="datasets", role=Role.READ,
        sentence="List the datasets.", gives="the name of each dataset",
    ),
)  # fmt: skip


class EventApi:
    """The handlers of ENDPOINTS.

    `environments` gives the declared ones; a query for another, or an event of another, is refused.
    A key that is limited to some environments reads and writes within them only.
    """

    def __init__(
        self,
        *,
        store: EventStore,
        writer: Writer,
        environments: Callable[[], Collection[str]],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._writer = writer
        self._environments = environments
        self._now_ns = now_ns
        self._decoders: CapacityLimiter | None = None

    async def traces(self, request: Request) -> Response:
        """Take OTLP spans."""
        return await self._otlp(request, "traces", otlp.traces_from_protobuf, otlp.traces_from_json)

    async def logs(self, request: Request) -> Response:
        """Take OTLP log records."""
        return await self._otlp(request, "logs", otlp.logs_from_protobuf, otlp.logs_from_json)

    async def _otlp(
        self,
        request: Request,
        signal: wire.Signal,
        from_protobuf: Callable[[bytes, Terms], Intake],
        from_json: Callable[[bytes, Terms], Intake],
    ) -> Response:
        media = wire.media_type(request)
        if media != wire.JSON and not wire.is_protobuf(media):
            return wire.unsupported(media)
        decode = from_protobuf if wire.is_protobuf(media) else from_json
        try:
            intake = await self._take(request, decode)
        except InprodError as error:
            return wire.failure(media, error)
        return wire.success(media, signal, intake)

    async def events(self, request: Request) -> Response:
        """Take events in JSON; 200 when any was stored, 400 when none could be."""
        media = wire.media_type(request)
        is_lines = media in ("application/x-ndjson", "application/ndjson", "application/jsonl")
        if not is_lines and media not in ("", wire.JSON):
            error = Invalid(
                "unsupported_type", f"`{media}` is not a type we read", where="Content-Type",
                hint="Send `application/json` or `application/x-ndjson`.",
            )  # fmt: skip
            return web.answer({"error": error.document()}, status=415)
        decode = plain.events_from_ndjson if is_lines else plain.events_from_json
        intake = await self._take(request, partial(decode, now_ns=self._now_ns()))
        if intake.rejected and not len(intake.rows):
            index, error = intake.errors[0]
            error.where = f"$[{index}]{error.where.removeprefix('$')}"
            raise error
        return web.answer(
            {
                "accepted": len(intake.rows),
                "rejected": intake.rejected,
                "errors": [{"index": index, **error.document()} for index, error in intake.errors],
            }
        )

    async def _take(self, request: Request, decode: Callable[[bytes, Terms], Intake]) -> Intake:
        """Read, decode and store one body; returns after the flush."""
        self._writer.check_room()
        body = await web.body_of(request, bytes_max=BODY_BYTES_MAX)
        if self._decoders is None:
            self._decoders = CapacityLimiter(DECODERS)
        intake, batch = await to_thread.run_sync(
            self._decode, decode, body, request.state.grant.environments, limiter=self._decoders
        )
        if batch is not None:
            await asyncio.wrap_future(self._writer.submit(batch))
        return intake

    def _decode(
        self,
        decode: Callable[[bytes, Terms], Intake],
        body: bytes,
        allowed: Collection[str] | None,
    ) -> tuple[Intake, Batch | None]:
        terms = Terms.at(
            self._now_ns(),
            retain_days=self._store.retain_days,
            declared=self._environments(),
            environments=allowed,
        )
        intake = decode(body, terms)
        return intake, batch_of(intake.rows) if len(intake.rows) else None

    async def query(self, request: Request) -> Response:
        """Answer a query."""
        asked = document.read(Query, await web.json_of(request, bytes_max=QUERY_BYTES_MAX))
        declared = self._environments()
        if asked.environment is not None and asked.environment not in declared:
            raise Missing(
                "unknown_environment", f"`{asked.environment}` is not an environment",
                where="$.environment", hint=nearest(asked.environment, declared),
            )  # fmt: skip
        if asked.environment is not None:
            web.grant_of(request).require(asked.environment)
        answer = await to_thread.run_sync(
            partial(self._store.answer, asked, environments=request.state.grant.environments)
        )
        return web.answer(
            {
                "results": answer.results,
                "series": answer.series,
                "query": answer.query,
                "elapsed_ms": answer.elapsed_ms,
                "rows_read": answer.rows_read,
            }
        )

    async def columns(self, request: Request) -> Response:
        """List columns: the fixed ones first, then the attributes by name."""
        dataset = request.query_params.get("dataset") or None
        reach = request.state.grant.environments
        known = await to_thread.run_sync(self._store.datasets, reach)
        if dataset is not None and dataset not in known:
            raise Missing(
                "unknown_dataset", f"`{dataset}` is not a dataset", where="dataset",
                hint=nearest(dataset, known),
            )  # fmt: skip
        found = await to_thread.run_sync(self._store.columns, dataset, reach)
        fixed = [
            {
                "name": name,
                "types": ["text" if column.number is None else "number"],
                "sentence": column.sentence,
            }
            for name, column in FIXED.items()
        ]
        attributes = [{"name": name, "types": types} for name, types in found.items()]
        return web.answer({"columns": fixed + attributes})

    async def datasets(self, request: Request) -> Response:
        """List the datasets."""
        reach = request.state.grant.environments
        names = await to_thread.run_sync(self._store.datasets, reach)
        return web.answer({"datasets": [{"name": name} for name in names]})
