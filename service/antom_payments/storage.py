"""The store as the settings say: its database, its key and its windows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

from antom_payments.cadence import Cadence
from antom_payments.errors import ConfigurationError
from antom_payments.settings import (
    Settings,
    embedded_file,
    prepare_embedded_folder,
    secret_text,
    variable,
)
from antom_payments.store import (
    DataCipher,
    PaymentStore,
    PoolOptions,
    Windows,
    migrate,
    open_store,
)


def wall_clock() -> datetime:
    """The time, aware UTC."""
    return datetime.now(UTC)


@contextlib.asynccontextmanager
async def payment_store(
    settings: Settings,
    now: Callable[[], datetime],
    *,
    listens: bool = False,
    creates: bool = True,
) -> AsyncIterator[PaymentStore]:
    """The store; with ``creates``, an embedded database is made and migrated first.

    Without it the database must be there and up to date: who looks in the wrong folder must not
    read that there is nothing.

    Raises ConfigurationError, SchemaOutdated, StoreUnavailable.
    """
    url = settings.database_url.get_secret_value()

    def data_key() -> str:
        return secret_text(settings.data_key_file, "data_key_file")

    cipher = DataCipher(data_key(), read_again=data_key)
    if file := embedded_file(settings):
        if creates:
            prepare_embedded_folder(settings)
            await migrate(url)
        elif not file.is_file():
            raise ConfigurationError(
                variable("database_url"),
                f"expected an existing database, there is no file {file}",
            )
    pool = PoolOptions(
        size=settings.database_pool_size,
        timeout_seconds=settings.database_pool_timeout_seconds,
        statement_cache_size=settings.database_statement_cache_size,
    )
    windows = Windows(
        events=timedelta(days=settings.event_retention_days),
        notifications=timedelta(days=settings.notification_retention_days),
    )
    private_data_window = timedelta(seconds=settings.private_data_window_seconds)
    async with open_store(
        url,
        cipher=cipher,
        now=now,
        pool=pool,
        listens=listens,
        windows=windows,
        private_data_window=private_data_window,
        cadence=Cadence(closing=timedelta(seconds=settings.antom_closing_seconds)),
    ) as store:
        yield store
