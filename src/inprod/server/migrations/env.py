"""Where Alembic starts: runs the migrations on the connection that `state.migrate` holds."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

connection = context.config.attributes["connection"]
assert isinstance(connection, Connection), "run through inprod.server.state.migrate"
context.configure(
    connection=connection, transaction_per_migration=False, transactional_ddl=True,
    render_as_batch=connection.dialect.name == "sqlite",
)  # fmt: skip
with context.begin_transaction():
    context.run_migrations()
