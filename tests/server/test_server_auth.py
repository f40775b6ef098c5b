"""The gate: Host, key, cookie, Origin, role, as pure decisions over headers."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from inprod.audit import Actor
from inprod.endpoint import INCLUDES, Endpoint, Role
from inprod.errors import Denied
from inprod.grant import Grant
from inprod.safety.edge.store import AuditLog
from inprod.server.auth import (
    Caller,
    Gate,
    check_origin,
    host_name,
    is_loopback,
    key_in,
)
from inprod.server.keys import KeyStore
from inprod.server.state import open_state

ME = Actor(name="me")
HOST = "127.0.0.1:4318"


def endpoint(role: Role | None, method: str = "GET") -> Endpoint:
    return Endpoint(method=method, path="/x", handler="x", sentence="X.", role=role)  # pyright: ignore[reportArgumentType]


class Door:
    """A gate with a key of every role."""

    def __init__(self, keys: KeyStore, *, loopback: bool = True) -> None:
        self.keys = keys
        self.gate = Gate(keys, names=frozenset({"inprod.example"}), loopback=loopback, cookie="c")
        self.secrets = {role: keys.add(role.value, role, None, ME) for role in Role}

    def ask(
        self, role: Role | None, headers: dict[str, str] | None = None, *, method: str = "GET",
        cookie: str | None = None, client: str = "127.0.0.1",
    ) -> Caller:  # fmt: skip
        return self.gate.admit(
            endpoint(role, method), method=method, headers={"host": HOST, **(headers or {})},
            cookies={"c": cookie} if cookie else {}, client=client,
        )  # fmt: skip

    def refusal(self, *arguments: object, **named: object) -> Denied:
        with pytest.raises(Denied) as caught:
            self.ask(*arguments, **named)  # pyright: ignore[reportArgumentType]
        return caught.value

    def session(self) -> str:
        return self.keys.log_in(self.keys.add_login("admin", 2 * 10**18), 2 * 10**18, "page")


@pytest.fixture
def door(tmp_path: Path) -> Generator[Door]:
    engine = open_state(f"sqlite:///{tmp_path / 'state.db'}")
    keys = KeyStore(
        engine, record=AuditLog(engine).record, environments=lambda: ("production",),
        now_ns=lambda: 10**18,
    )  # fmt: skip
    yield Door(keys)
    engine.dispose()


@pytest.mark.parametrize("held", list(Role))
def test_a_role_opens_what_it_includes_and_nothing_else(door: Door, held: Role) -> None:
    headers = {"authorization": f"Bearer {door.secrets[held]}"}
    for wanted in Role:
        if wanted in INCLUDES[held]:
            assert door.ask(wanted, headers).grant == Grant(name=held.value, role=held)
        else:
            refusal = door.refusal(wanted, headers)
            assert (refusal.code, refusal.status) == ("wrong_role", 403)


@pytest.mark.parametrize(
    "header", ["authorization", "x-api-key", "x-honeycomb-team", "scheme in capitals"]
)
def test_a_key_may_come_in_three_headers(door: Door, header: str) -> None:
    secret = door.secrets[Role.READ]
    headers = {
        "authorization": {"authorization": f"Bearer {secret}"},
        "scheme in capitals": {"authorization": f"BEARER  {secret} "},
    }.get(header, {header: secret})
    assert door.ask(Role.READ, headers).actor.name == "read"


def test_a_wrong_key_is_refused_even_where_none_is_needed(door: Door) -> None:
    for role in (None, Role.INGEST, Role.READ):
        refusal = door.refusal(role, {"x-api-key": "inprod_wrong"})
        assert (refusal.code, refusal.status) == ("unknown_key", 401)
    refusal = door.refusal(None, {"authorization": "Basic abc"})
    assert (refusal.code, refusal.status) == ("bad_authorization", 401)


def test_without_a_key_only_loopback_may_ingest(door: Door) -> None:
    assert door.ask(Role.INGEST).grant == Grant(name="loopback", role=Role.INGEST)
    assert door.ask(Role.INGEST, client="::1").actor.name == "loopback"
    assert door.refusal(Role.INGEST, client="192.0.2.1").code == "no_key"
    for role in set(Role) - {Role.INGEST}:
        assert (door.refusal(role).code, door.refusal(role).status) == ("no_key", 401)
    assert door.ask(None).grant is None


def test_without_a_key_nobody_may_ingest_when_the_server_is_bound_to_the_world(door: Door) -> None:
    gate = Gate(door.keys, names=frozenset(), loopback=False, cookie="c")
    with pytest.raises(Denied):
        gate.admit(
            endpoint(Role.INGEST, "POST"), method="POST", headers={}, cookies={},
            client="127.0.0.1",
        )  # fmt: skip


def test_a_page_of_another_site_cannot_ingest_through_a_browser(door: Door) -> None:
    refusal = door.refusal(Role.INGEST, {"origin": "https://evil.example"}, method="POST")
    assert refusal.code == "wrong_origin"


def test_a_cookie_reads_and_changes_only_from_the_servers_own_pages(door: Door) -> None:
    session = door.session()
    assert door.ask(Role.READ, cookie=session).actor == Actor(name="admin", origin="page 127.0.0.1")
    own = {"origin": f"http://{HOST}"}
    assert door.ask(Role.OPERATE, own, method="POST", cookie=session).session == session
    for headers, code in (
        ({}, "no_origin"),
        ({"origin": "http://127.0.0.1:9999"}, "wrong_origin"),
        ({"origin": "null"}, "wrong_origin"),
        ({"origin": "https://evil.example"}, "wrong_origin"),
        ({"sec-fetch-site": "cross-site"}, "no_origin"),
    ):
        for method in ("POST", "PUT", "DELETE"):
            refusal = door.refusal(Role.OPERATE, headers, method=method, cookie=session)
            assert refusal.code == code


def test_a_made_up_cookie_is_no_key(door: Door) -> None:
    assert door.refusal(Role.READ, cookie="guess").code == "no_key"


def test_the_fetch_metadata_of_browsers_stands_in_for_origin() -> None:
    check_origin({"host": HOST, "sec-fetch-site": "same-origin"})
    check_origin({"host": "Inprod.Example", "origin": "https://inprod.example"})


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:4318", "localhost", "localhost:1", "app.localhost", "[::1]:4318", "192.0.2.7:80",
     "inprod.example", "INPROD.example:443"],
)  # fmt: skip
def test_addresses_localhost_and_configured_names_are_hosts(door: Door, host: str) -> None:
    door.gate.check_host(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:4318", "127.0.0.1.evil.example", "localhost.evil.example",
     "inprod.example.evil.example", "[::1].evil.example:4318x", "a" * 5000],
)  # fmt: skip
def test_other_names_are_refused_so_that_rebinding_does_not_help(door: Door, host: str) -> None:
    if host.startswith("[::1]"):  # an address in brackets stays an address
        assert host_name(host) == "::1"
        return
    with pytest.raises(Denied) as caught:
        door.gate.check_host(host)
    assert caught.value.code == "unknown_host"
    assert len(caught.value.message) < 200


def test_a_grant_reaches_its_environments_only() -> None:
    grant = Grant(name="app", role=Role.SDK, environments=("staging",))
    grant.require("staging")
    Grant(name="all", role=Role.SDK).require_all(None)
    with pytest.raises(Denied, match="every environment"):
        grant.require_all(None)
    with pytest.raises(Denied) as caught:
        grant.require("stagin")
    assert caught.value.hint == "Did you mean `staging`?"


def test_what_is_no_address_is_not_loopback() -> None:
    assert is_loopback("127.8.9.1")
    assert not is_loopback("")
    assert not is_loopback("localhost")
    assert key_in({}) is None
