"""The migrated schema is what the stores declare, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, inspect, text
from sqlalchemy.exc import IntegrityError, OperationalError

from inprod.errors import Invalid, Unavailable
from inprod.flags.edge import store as flags
from inprod.rollouts.edge import store as rollouts
from inprod.safety.edge import store as safety
from inprod.server import keys
from inprod.server.state import Leadership, connect_state, migrate, open_state
from support.postgres import cluster


@pytest.fixture(scope="module")
def postgres() -> Generator[str]:
    with cluster() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'state.db'}"
    else:
        url = request.getfixturevalue("postgres")
    engine = open_state(url)
    yield engine
    engine.dispose()


def declared() -> MetaData:
    together = MetaData()
    for tables in (keys.TABLES, safety.TABLES, flags.TABLES, rollouts.TABLES):
        for table in tables.sorted_tables:
            assert table.name not in together.tables, f"two slices declare {table.name}"
            table.to_metadata(together)
    return together


def test_the_migrated_schema_is_what_the_stores_declare(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, declared()) == []


def test_migrating_a_migrated_database_changes_nothing(engine: Engine) -> None:
    before = sorted(inspect(engine).get_table_names())
    migrate(engine)
    assert sorted(inspect(engine).get_table_names()) == before
    assert "alembic_version" in before


def test_a_writer_sees_what_is_true_when_it_commits(engine: Engine) -> None:
    """Two writers that read before they write take turns; no update is lost."""
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM flag_revision"))
        connection.execute(text("INSERT INTO flag_revision (id, revision) VALUES (1, 0)"))
    lock = " FOR UPDATE" if engine.dialect.name == "postgresql" else ""

    def add(times: int) -> None:
        for _ in range(times):
            with engine.begin() as connection:
                seen = connection.execute(
                    text(f"SELECT revision FROM flag_revision{lock}")
                ).scalar()
                connection.execute(
                    text("UPDATE flag_revision SET revision = :next"), {"next": int(seen or 0) + 1}
                )

    threads = [threading.Thread(target=add, args=(10,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT revision FROM flag_revision")).scalar() == 40


def test_foreign_keys_are_enforced(engine: Engine) -> None:
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(
            text("INSERT INTO sessions (digest, key_id, created_ns, expires_ns) "
                 "VALUES ('d', 'nobody', 1, 2)")
        )  # fmt: skip


def test_sqlite_is_synced_and_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    engine = open_state(f"sqlite:///{tmp_path / 'state.db'}")
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    with engine.begin() as writer:
        writer.execute(text("INSERT INTO environments VALUES ('production', 1, 'me')"))
        with engine.connect() as reader:
            assert reader.execute(text("SELECT count(*) FROM environments")).scalar() == 0
    engine.dispose()


def test_only_one_process_leads_on_postgresql(postgres: str) -> None:
    one, two = open_state(postgres), open_state(postgres)
    first, second = Leadership(one), Leadership(two)
    assert first.holds()
    assert first.holds()
    assert not second.holds()
    first.resign()
    assert second.holds()
    assert not first.holds()
    second.resign()
    one.dispose()
    two.dispose()


def test_a_leader_whose_connection_breaks_no_longer_leads_by_belief(postgres: str) -> None:
    one, two = open_state(postgres), open_state(postgres)
    first, second = Leadership(one), Leadership(two)
    assert first.holds()
    with two.connect() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        )
    assert second.holds()
    assert not first.holds()
    second.resign()
    one.dispose()
    two.dispose()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://x/y", "sqlite+nothing://x"])
def test_a_url_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        connect_state(url)
    assert caught.value.code == "bad_state_url"


def test_a_database_that_does_not_answer_is_unavailable_and_its_password_is_not_shown() -> None:
    with pytest.raises(Unavailable) as caught:
        open_state("postgresql://me:secret@127.0.0.1:1/x")
    assert caught.value.code == "state_unavailable"
    assert "secret" not in str(caught.value)
    assert not isinstance(caught.value.__cause__, OperationalError)
