"""What lists and snapshots of payments page by: four indexes."""

import sqlalchemy as sa
from alembic import op

from antom_payments.errors import IndexBeingBuilt

revision = "0003"
down_revision = "0002"

_INDEXES = {
    "ix_payments_created": ["merchant_account", "create_time"],
    "ix_payments_created_in_state": ["merchant_account", "state", "create_time"],
    "ix_payments_updated": ["merchant_account", "update_time"],
    "ix_payments_told": ["merchant_account", "last_sequence"],
}


def upgrade() -> None:
    """Only add: the version before this one goes on running while it is applied.

    PostgreSQL lets nobody write payments meanwhile, and cannot build indexes beside writers within
    a transaction. Where that would take too long, an operator has built them before by
    CREATE INDEX CONCURRENTLY (docs/database.md): they are left as they are.

    Raises IndexBeingBuilt while such a build is under way, on PostgreSQL.
    """
    if op.get_bind().dialect.name == "postgresql":
        _refuse_beside_a_build()
    for name, columns in _INDEXES.items():
        _drop_unfinished(name)
        op.create_index(name, "payments", columns, if_not_exists=True)


def _refuse_beside_a_build() -> None:
    """Its index looks abandoned, and whoever waits to drop it keeps everybody from payments."""
    connection = op.get_bind()
    # Whoever comes later waits behind a lock that is waited for: not for long.
    connection.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
    # PostgreSQL hides from us which table the build of another role is for.
    asked = sa.text(
        "SELECT 1 FROM pg_stat_progress_create_index JOIN pg_database ON pg_database.oid = datid"
        " WHERE pg_database.datname = current_database()"
        " AND (relid = to_regclass('payments') OR relid IS NULL)"
    )
    if connection.execute(asked).first():
        raise IndexBeingBuilt("payments")


def _drop_unfinished(name: str) -> None:
    """An index that CREATE INDEX CONCURRENTLY gave up is there, and serves nobody."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    asked = sa.text(
        "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid"
    )
    if connection.execute(asked, {"name": name}).first():
        op.drop_index(name, "payments")
