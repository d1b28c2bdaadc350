"""What finds the truth out: inquiries to come and their rate, and the record of commands."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TIME = sa.DateTime(timezone=True)
_IS_OPEN = sa.text(
    "(state IN ('CREATING', 'AWAITING_BUYER', 'PROCESSING', 'AUTHORIZED') OR inquiry_wanted)"
)


def upgrade() -> None:
    """Only add: the version before this one goes on running while it is applied.

    Payments that are open already get their inquiries from the reconciler's sweep.
    """
    _create_audit_records()
    op.create_table(
        "inquiries",
        sa.Column("merchant_account", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject_id", sa.String(64), nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("since_time", _TIME, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("due_time", _TIME, nullable=False),
        sa.Column("lease_token", sa.String(36)),
        sa.Column("lease_until_time", _TIME),
        sa.PrimaryKeyConstraint("merchant_account", "kind", "subject_id", name="pk_inquiries"),
    )
    op.create_index(
        "ix_inquiries_merchant_account_priority_due_time",
        "inquiries",
        ["merchant_account", "priority", "due_time"],
    )
    op.create_index("ix_inquiries_due_time", "inquiries", ["due_time"])
    op.create_table(
        "inquiry_rates",
        sa.Column("merchant_account", sa.String(64), nullable=False),
        sa.Column("tokens", sa.Float, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("merchant_account", name="pk_inquiry_rates"),
    )
    for name, length in (("kind", 16), ("id", 64), ("outcome", 16)):
        op.add_column("notifications", sa.Column(f"fact_{name}", sa.String(length)))
    op.add_column("notifications", sa.Column("payment_id", sa.String(64)))
    op.create_index(
        "ix_notifications_merchant_account_payment_id",
        "notifications",
        ["merchant_account", "payment_id"],
    )
    # The last, in the order of whoever applies facts, who writes notifications before payments:
    # the other way round a live migration and they wait for each other.
    op.create_index(
        "ix_payments_open",
        "payments",
        ["merchant_account", "payment_request_id"],
        postgresql_where=_IS_OPEN,
        sqlite_where=_IS_OPEN,
    )


def _create_audit_records() -> None:
    op.create_table(
        "audit_records",
        sa.Column("audit_id", sa.String(36), nullable=False),
        sa.Column("record_time", _TIME, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("merchant_account", sa.String(64), nullable=False),
        sa.Column("subject_id", sa.String(64), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name="pk_audit_records"),
    )
    op.create_index("ix_audit_records_record_time", "audit_records", ["record_time"])
