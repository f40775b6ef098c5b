"""A small shop that knows nothing of inprod but its address: the stock OpenTelemetry SDK sends its
spans, the stock OpenFeature SDK asks for its flags.

    python shop.py --port 8000 --data /tmp/shop      with INPROD_URL, INPROD_KEY and the usual
                                                     OTEL_* variables in the environment
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import payment
import uvicorn
from catalogue import Catalogue
from openfeature import api as openfeature
from openfeature.evaluation_context import EvaluationContext
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from inprod.sdk.openfeature import InprodProvider

SEARCH_FAILS = 0.04  # one of the search index's nodes is old
SEARCH_S, SEARCH_RANKED_S = 0.010, 0.008  # the ranked index is smaller
Handler = Callable[["Shop", Request], Awaitable[Response]]

flags = openfeature.get_client("shop")
tracer = trace.get_tracer("shop")


def visitor_of(request: Request) -> str:
    """Return who asks, from the shop's cookie."""
    return request.cookies.get("visitor", "nobody")


class Shop:
    """The shop's pages, one method each."""

    def __init__(self, catalogue: Catalogue, chance: random.Random) -> None:
        self.catalogue = catalogue
        self.chance = chance

    async def home(self, _: Request) -> Response:
        """Show what sells best."""
        return JSONResponse(self.catalogue.most_sold())

    async def product(self, request: Request) -> Response:
        """Show one product."""
        found = self.catalogue.product(request.path_params["id"])
        return JSONResponse(found) if found else JSONResponse("no such product", 404)

    async def search(self, request: Request) -> Response:
        """Find products; flag `ranked-search` puts the most wanted first."""
        ranked = flags.get_boolean_value(
            "ranked-search", False, EvaluationContext(visitor_of(request))
        )
        typical_s = SEARCH_RANKED_S if ranked else SEARCH_S
        await asyncio.sleep(typical_s * self.chance.lognormvariate(0, 0.25))
        if self.chance.random() < SEARCH_FAILS:
            return JSONResponse("the search index did not answer", 503)
        words = request.query_params.get("q", "")
        find = self.catalogue.search_by_rank if ranked else self.catalogue.search_by_name
        return JSONResponse(find(words))

    async def basket(self, request: Request) -> Response:
        """Put a product into the basket."""
        product = self.catalogue.product(request.path_params["id"])
        if product is None:
            return JSONResponse("no such product", 404)
        self.catalogue.put(visitor_of(request), product.id)
        return JSONResponse({"total": self.catalogue.total(visitor_of(request))})

    async def checkout(self, request: Request) -> Response:
        """Pay and buy; flag `fast-checkout` pays without the queue."""
        visitor = visitor_of(request)
        fast = flags.get_boolean_value("fast-checkout", False, EvaluationContext(visitor))
        total = self.catalogue.total(visitor)
        with tracer.start_as_current_span("payment", attributes={"payment.cents": total}):
            try:
                await (payment.direct if fast else payment.queued)(self.chance)
            except payment.Refused as refused:
                return JSONResponse(str(refused), 500)
        return JSONResponse({"purchase": self.catalogue.buy(visitor, total)})


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/", Shop.home),
    ("GET", "/products/{id:int}", Shop.product),
    ("GET", "/search", Shop.search),
    ("POST", "/basket/{id:int}", Shop.basket),
    ("POST", "/checkout", Shop.checkout),
)


def observed(shop: Shop, method: str, route: str, handler: Handler) -> Route:
    """Return a Starlette route whose every request is one server span, named as OpenTelemetry's
    conventions say."""

    async def endpoint(request: Request) -> Response:
        attributes = {
            "http.request.method": method,
            "http.route": route,
            "url.path": request.url.path,
            "user.id": visitor_of(request),
        }
        with tracer.start_as_current_span(
            f"{method} {route}", kind=SpanKind.SERVER, attributes=attributes
        ) as span:
            response = await handler(shop, request)
            span.set_attribute("http.response.status_code", response.status_code)
            if response.status_code >= 500:
                span.set_status(StatusCode.ERROR)
                span.set_attribute("error.type", str(response.status_code))
        return response

    return Route(route, endpoint, methods=[method])


def build(shop: Shop, provider: InprodProvider, tracing: TracerProvider) -> Starlette:
    """Return the application; it starts and ends the two SDKs."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        trace.set_tracer_provider(tracing)
        openfeature.set_provider_and_wait(provider)
        yield
        openfeature.shutdown()
        tracing.shutdown()
        shop.catalogue.close()

    return Starlette(routes=[observed(shop, *row) for row in ROUTES], lifespan=lifespan)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--data", type=Path, default=Path(), help="the folder of shop.db")
    parser.add_argument("--seed", type=int, default=None, help="of the shop's own misfortunes")
    given = parser.parse_args()
    provider = InprodProvider(
        url=os.environ.get("INPROD_URL", "http://127.0.0.1:4318"),
        key=os.environ.get("INPROD_KEY", ""),
        environment=os.environ.get("INPROD_ENVIRONMENT", "production"),
        service="shop",
    )
    tracing = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    shop = Shop(Catalogue(given.data / "shop.db"), random.Random(given.seed))
    uvicorn.run(
        build(shop, provider, tracing), host=given.host, port=given.port,
        log_level="warning", access_log=False, timeout_graceful_shutdown=2,
    )  # fmt: skip


if __name__ == "__main__":
    main()
