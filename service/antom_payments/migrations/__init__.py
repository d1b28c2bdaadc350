"""Alembic migrations, run by `antom-payments migrate`."""
