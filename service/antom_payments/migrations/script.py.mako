"""${message}."""

from alembic import op
import sqlalchemy as sa

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Only add: the version before this one goes on running while it is applied."""
    ${upgrades if upgrades else "pass"}
