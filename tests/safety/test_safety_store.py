from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, update

from inprod.audit import Actor, Entry
from inprod.errors import Conflict, Invalid, Missing
from inprod.safety.edge.store import (
    AUDIT,
    AUDIT_HEAD,
    TABLES,
    AuditLog,
    EnvironmentStore,
    LeverStore,
)
from inprod.safety.lever import Lever, Scope
from inprod.server.state import connect_state
from inprod.testing.clock import Clock

ANA = Actor(name="ana", origin="test")
PRODUCTION = Lever(scope=Scope.ENVIRONMENT, environment="production")


@pytest.fixture
def engine(tmp_path: Path) -> Generator[Engine]:
    made = connect_state(f"sqlite:///{tmp_path}/state.db")
    TABLES.create_all(made)
    yield made
    made.dispose()


def write(engine: Engine, log: AuditLog, count: int) -> None:
    for number in range(count):
        with engine.begin() as connection:
            entry = Entry(
                time_ns=number, actor="ana", origin="test", what="flag.change", subject="x"
            )
            log.record(connection, entry)


def test_the_audit_chain_fits_and_every_change_of_it_is_found(engine: Engine) -> None:
    log = AuditLog(engine)
    write(engine, log, 5)
    assert log.verify().broken_at is None
    assert [one.seq for one in log.entries(3)] == [5, 4, 3]
    with engine.begin() as connection:
        connection.execute(update(AUDIT).where(AUDIT.c.seq == 3).values(actor="eve"))
    assert log.verify().broken_at == 3


@pytest.mark.parametrize("gone", [1, 3, 5])
def test_a_removed_entry_is_found_the_last_one_too(engine: Engine, gone: int) -> None:
    log = AuditLog(engine)
    write(engine, log, 5)
    with engine.begin() as connection:
        connection.execute(delete(AUDIT).where(AUDIT.c.seq == gone))
    assert log.verify().broken_at == gone


def test_a_chain_that_was_made_anew_does_not_fit_its_head(engine: Engine) -> None:
    log = AuditLog(engine)
    write(engine, log, 2)
    with engine.begin() as connection:
        connection.execute(update(AUDIT_HEAD).values(digest="f" * 64))
    assert log.verify().broken_at == 3


def test_an_entry_falls_with_its_transaction(engine: Engine) -> None:
    log = AuditLog(engine)
    with engine.connect() as connection:
        log.record(connection, Entry(time_ns=1, actor="a", origin="t", what="x", subject="y"))
        connection.rollback()
    assert log.entries() == ()
    assert log.verify().entries == 0


def test_writers_at_once_make_one_chain(engine: Engine) -> None:
    log = AuditLog(engine)
    threads = [threading.Thread(target=write, args=(engine, log, 10)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert log.verify().sentence == "all 40 entries fit"


@settings(max_examples=15, deadline=None)
@given(text=st.text(max_size=50))
def test_whatever_people_write_as_a_reason_is_kept_and_fits(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    engine = connect_state(f"sqlite:///{tmp_path_factory.mktemp('audit')}/state.db")
    TABLES.create_all(engine)
    log = AuditLog(engine)
    try:
        with engine.begin() as connection:
            log.record(
                connection,
                Entry(time_ns=1, actor="a", origin="t", what="x", subject="y", reason=text),
            )
        assert log.entries()[0].entry.reason == text
        assert log.verify().broken_at is None
    finally:
        engine.dispose()


def test_environments_are_declared_once_and_audited(engine: Engine) -> None:
    log = AuditLog(engine)
    environments = EnvironmentStore(engine, log.record, Clock().now_ns)
    assert environments.names() == ()
    environments.add("production", ANA)
    environments.add("staging", ANA)
    assert environments.names() == ("production", "staging")
    with pytest.raises(Conflict):
        environments.add("production", ANA)
    with pytest.raises(Invalid):
        environments.add("Prod uction", ANA)
    assert [one.entry.subject for one in log.entries()] == ["staging", "production"]


def test_a_lever_stays_pulled_until_someone_releases_it(engine: Engine) -> None:
    log, clock = AuditLog(engine), Clock()
    levers = LeverStore(engine, log.record, clock.now_ns)
    levers.pull(PRODUCTION, actor=ANA, reason="smoke")
    again = levers.pull(PRODUCTION, actor=Actor(name="bob"), reason="me too")
    assert again.actor == "ana"
    assert [one.sentence for one in levers.pulled()] == [
        "`ana` pulled the lever of production: smoke"
    ]
    levers.release(PRODUCTION, actor=ANA, reason="fixed")
    assert levers.pulled() == ()
    with pytest.raises(Missing):
        levers.release(PRODUCTION, actor=ANA)
    assert [one.entry.what for one in log.entries()] == ["lever.release", "lever.pull"]
