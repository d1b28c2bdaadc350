"""What lists and snapshots of payments page by: four indexes."""

import sqlalchemy as sa
from alembic import op

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
    """
    for name, columns in _INDEXES.items():
        _drop_unfinished(name)
        op.create_index(name, "payments", columns, if_not_exists=True)


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
