"""Runs the migrations on the connection, and in the transaction, of `store.schema.migrate`."""

from alembic import context
from sqlalchemy import text

_MIGRATION_LOCK = 0x6D696772  # "migr"

connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=True)
with context.begin_transaction():
    if connection.dialect.name == "postgresql":
        # Inside the migration's transaction, after configure: taken earlier, it would begin a
        # transaction that Alembic does not commit, and all DDL would be lost silently.
        # Another process may be at it: wait for it rather than fail.
        names = ["statement_timeout", "idle_in_transaction_session_timeout"]
        if (connection.dialect.server_version_info or (0,)) >= (17,):
            names.append("transaction_timeout")
        for name in names:
            connection.execute(text(f"SET LOCAL {name} = 0"))
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    context.run_migrations()
