"""Keys, logins and sessions: kept as hashes, in force until revoked, links good once."""

from __future__ import annotations

import stat
from collections.abc import Generator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from inprod.audit import Actor
from inprod.endpoint import INCLUDES, Role
from inprod.errors import Conflict, Denied, Invalid, Missing
from inprod.safety.edge.store import AuditLog
from inprod.server.keys import FRESH_NS, KeyStore, digest
from inprod.server.state import open_state

ME = Actor(name="me")
SOON_NS = 10**12


class Clock:
    def __init__(self) -> None:
        self.now_ns = 10**18

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def engine(tmp_path: Path) -> Generator[Engine]:
    engine = open_state(f"sqlite:///{tmp_path / 'state.db'}")
    yield engine
    engine.dispose()


def store(engine: Engine, clock: Clock | None = None) -> KeyStore:
    return KeyStore(
        engine, record=AuditLog(engine).record, environments=lambda: ("production", "staging"),
        now_ns=clock or Clock(),
    )  # fmt: skip


def test_a_key_grants_what_it_was_made_for_and_its_secret_is_not_kept(engine: Engine) -> None:
    keys = store(engine)
    secret = keys.add("app", Role.SDK, ("production",), ME)
    grant = keys.grant_of(secret)
    assert grant is not None
    assert (grant.name, grant.role, grant.environments) == ("app", Role.SDK, ("production",))
    with engine.connect() as connection:
        kept = str(connection.execute(text("SELECT * FROM keys")).all())
    assert secret not in kept
    assert digest(secret) in kept
    assert len(secret) >= 43


def test_what_is_not_a_key_grants_nothing(engine: Engine) -> None:
    keys = store(engine)
    keys.add("app", Role.SDK, None, ME)
    for wrong in ("", "inprod_", "x" * 10_000, "ключ", digest("app")):
        assert keys.grant_of(wrong) is None


def test_a_revoked_key_and_its_sessions_end_at_once(engine: Engine) -> None:
    keys = store(engine)
    keys.add("admin", Role.ADMIN, None, ME)
    secret = keys.add("reader", Role.READ, None, ME)
    session = keys.log_in(keys.add_login("reader", 2 * 10**18), 2 * 10**18, "page")
    unused = keys.add_login("reader", 2 * 10**18)
    assert keys.grant_of(session) == keys.grant_of(secret)
    keys.revoke("reader", ME)
    keys.revoke("reader", ME)
    assert keys.grant_of(secret) is None
    assert keys.grant_of(session) is None
    with pytest.raises(Denied):
        keys.log_in(unused, 2 * 10**18, "page")
    assert [key.revoked_ns is None for key in keys.list()] == [True, False]


def test_a_revocation_by_another_process_is_seen_within_the_stated_time(engine: Engine) -> None:
    clock = Clock()
    mine, other = store(engine, clock), store(engine, clock)
    mine.add("admin", Role.ADMIN, None, ME)
    secret = mine.add("app", Role.SDK, None, ME)
    assert mine.grant_of(secret)
    other.revoke("app", ME)
    assert mine.grant_of(secret)
    clock.now_ns += FRESH_NS
    assert mine.grant_of(secret) is None


def test_the_last_admin_key_cannot_be_revoked(engine: Engine) -> None:
    keys = store(engine)
    keys.add("admin", Role.ADMIN, None, ME)
    with pytest.raises(Conflict) as caught:
        keys.revoke("admin", ME)
    assert caught.value.code == "last_admin_key"
    keys.add("second", Role.ADMIN, None, ME)
    keys.revoke("admin", ME)


def test_a_login_link_is_good_once_and_not_for_long(engine: Engine) -> None:
    clock = Clock()
    keys = store(engine, clock)
    keys.add("admin", Role.ADMIN, None, ME)
    token = keys.add_login("admin", clock.now_ns + SOON_NS)
    session = keys.log_in(token, clock.now_ns + SOON_NS, "page")
    assert keys.grant_of(session)
    assert keys.grant_of(token) is None
    with pytest.raises(Denied):
        keys.log_in(token, clock.now_ns + SOON_NS, "page")
    late = keys.add_login("admin", clock.now_ns + SOON_NS)
    clock.now_ns += SOON_NS
    with pytest.raises(Denied):
        keys.log_in(late, clock.now_ns + SOON_NS, "page")
    assert keys.grant_of(session) is None, "a session ends when its time is over"


def test_a_session_that_logged_out_is_over(engine: Engine) -> None:
    keys = store(engine)
    keys.add("admin", Role.ADMIN, None, ME)
    session = keys.log_in(keys.add_login("admin", 2 * 10**18), 2 * 10**18, "page")
    keys.log_out(session)
    keys.log_out(session)
    assert keys.grant_of(session) is None


def test_what_cannot_be_a_key_is_refused(engine: Engine) -> None:
    keys = store(engine)
    keys.add("app", Role.SDK, None, ME)
    with pytest.raises(Conflict):
        keys.add("app", Role.READ, None, ME)
    with pytest.raises(Invalid):
        keys.add("a/b", Role.READ, None, ME)
    with pytest.raises(Invalid):
        keys.add("b", Role.READ, (), ME)
    with pytest.raises(Missing) as caught:
        keys.add("b", Role.READ, ("produdction",), ME)
    assert caught.value.hint == "Did you mean `production`?"
    with pytest.raises(Missing):
        keys.revoke("ap", ME)
    with pytest.raises(Missing):
        keys.add_login("nobody", 1)
    assert [key.name for key in keys.list()] == ["app"]


def test_every_change_of_keys_is_in_the_audit(engine: Engine) -> None:
    keys = store(engine)
    keys.add("admin", Role.ADMIN, None, ME)
    keys.add("app", Role.SDK, None, ME)
    keys.log_in(keys.add_login("admin", 2 * 10**18), 2 * 10**18, "page")
    keys.revoke("app", ME)
    log = AuditLog(engine)
    told = [one.entry.what for one in reversed(log.entries())]
    assert told == ["key.add", "key.add", "session.add", "key.revoke"]
    assert log.verify().broken_at is None


def test_admin_includes_every_role() -> None:
    assert INCLUDES[Role.ADMIN] == frozenset(Role)
    assert all(role in INCLUDES[role] for role in Role)


def test_the_state_file_is_private_when_the_server_makes_it(tmp_path: Path) -> None:
    from support.server import running

    with running(tmp_path / "data") as server:
        for name in ("admin.key", "state.db", "server.json"):
            mode = stat.S_IMODE((server.data / name).stat().st_mode)
            assert mode == 0o600, name
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
