"""The dispatcher around handlers that misbehave: a bug is answered and told, never leaked."""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from inprod.endpoint import Endpoint
from inprod.errors import Conflict, TooMuch
from inprod.safety.edge.store import AuditLog
from inprod.server.auth import Gate
from inprod.server.dispatch import Dispatch, Served, Streams, join
from inprod.server.keys import KeyStore
from inprod.server.render import Pages, Static
from inprod.server.state import open_state
from inprod.server.telling import is_told, request_event
from inprod.server.words import filters

NAMES = ("works", "breaks", "refuses", "waits", "reads", "leaves")
ENDPOINTS = tuple(
    Endpoint(
        method="POST", path=f"/{name}", handler=name, sentence="X.", role=None, body_bytes_max=10
    )
    for name in NAMES
)
PARTS = (
    Endpoint(method="GET", path="/x/{part}", handler="works", sentence="X.", role=None),
    Endpoint(method="GET", path="/x/exact", handler="refuses", sentence="X.", role=None),
    Endpoint(method="GET", path="/s", handler="works", sentence="X.", role=None, kind="stream"),
)


class Handlers:
    async def works(self, request: Request) -> Response:
        return Response(request.path_params.get("part", "done"))

    async def breaks(self, request: Request) -> Response:
        raise ValueError("a secret that nobody should see")

    async def refuses(self, request: Request) -> Response:
        raise Conflict("taken", "`it` is taken", where="$.it", hint="Choose another.")

    async def waits(self, request: Request) -> Response:
        raise TooMuch("busy", "it is busy", retry_after_s=1.2)

    async def reads(self, request: Request) -> Response:
        return Response(await request.body())

    async def leaves(self, request: Request) -> Response:
        raise ClientDisconnect


class World:
    def __init__(self, keys: KeyStore) -> None:
        self.served: list[Served] = []
        gate = Gate(keys, names=frozenset({"test"}), loopback=True, cookie="c")
        dispatch = Dispatch(
            gate=gate, keys=keys, streams=Streams(10), served=self.served.append,
            render=Pages(filters=filters(lambda: 0), static=Static().url).render,
        )  # fmt: skip
        self.app = Starlette(routes=dispatch.routes(join((*ENDPOINTS, *PARTS), Handlers())))
        self.app.router.default = dispatch.unknown

    def ask(
        self, path: str, content: bytes = b"", method: str = "POST", accept: str = "*/*"
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                return await http.request(method, path, content=content, headers={"accept": accept})

        return anyio.run(ask)


@pytest.fixture
def world(tmp_path: Path) -> Generator[World]:
    engine = open_state(f"sqlite:///{tmp_path / 'state.db'}")
    keys = KeyStore(
        engine, record=AuditLog(engine).record, environments=lambda: (), now_ns=lambda: 10**18
    )
    yield World(keys)
    engine.dispose()


def test_a_bug_is_a_500_that_tells_nothing_and_a_log_line_that_tells_all(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = world.ask("/breaks")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "bug")
    assert "secret" not in answer.text
    assert "secret" in caplog.text
    assert (world.served[0].status, world.served[0].error_code) == (500, "bug")
    page = world.ask("/breaks", accept="text/html")
    assert page.status_code == 500
    assert "secret" not in page.text


def test_an_error_of_ours_is_its_status_with_all_its_fields(world: World) -> None:
    answer = world.ask("/refuses")
    assert answer.status_code == 409
    assert answer.json() == {
        "error": {
            "code": "taken", "message": "`it` is taken", "where": "$.it", "hint": "Choose another.",
        }
    }  # fmt: skip
    limited = world.ask("/waits")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "2")


def test_a_client_that_leaves_is_no_bug(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AssertionError):  # the test transport insists on an answer
        world.ask("/leaves")
    assert caplog.text == ""
    assert world.served[0].error_code == "client_left"


def test_a_body_over_the_limit_of_its_route_is_refused(world: World) -> None:
    assert world.ask("/reads", b"x" * 10).content == b"x" * 10
    assert world.ask("/reads", b"x" * 11).status_code == 413


def test_exact_paths_come_before_those_with_parameters(world: World) -> None:
    assert world.ask("/x/exact", method="GET").status_code == 409
    assert world.ask("/x/other", method="GET").text == "other"


def test_heads_are_answered_but_not_for_streams(world: World) -> None:
    assert world.ask("/x/other", method="HEAD").status_code == 200
    assert world.ask("/s", method="HEAD").status_code == 405


def test_each_request_is_told_once_with_its_route_and_not_its_path(world: World) -> None:
    world.ask("/x/private-name", method="GET")
    event = request_event(world.served[0])
    assert is_told(world.served[0])
    assert event.name == "GET /x/{part}"
    assert "private-name" not in str(event)
    world.ask("/private-path")
    assert not is_told(world.served[1])
