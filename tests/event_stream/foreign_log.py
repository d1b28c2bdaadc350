"""A long log of somebody else's events, made by the database itself in seconds."""

from __future__ import annotations

from sqlalchemy import text

from antom_payments.store import PaymentStore
from event_stream.news import News

FOREIGN = "foreign"
EVENTS_OF_A_PAYMENT = 10
_TYPE = "CASE (n % 3) WHEN 0 THEN 'PAYMENT_PENDING' ELSE 'CAPTURE_PROCESSING' END"
_POSTGRES = """(
    SELECT CAST(:from AS bigint) + part AS n
    FROM generate_series(1, CAST(:count AS bigint)) AS parts(part)
) AS numbers"""
_SQLITE = """(
    WITH RECURSIVE parts(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM parts WHERE n < :count)
    SELECT :from + n AS n FROM parts
) AS numbers"""
_AT_ONCE = 50_000
_PAYMENT_COLUMNS = """reference_order_id, state, version, currency_code, minor_units,
    authorized_minor_units, captured_minor_units, refunded_minor_units, payment_method_type,
    capture_mode, result_code, captures, metadata, traceparent, create_time, update_time"""


async def fill(store: PaymentStore, count: int) -> None:
    """Append ``count`` events of merchant FOREIGN, ten to a payment, all open, like a real one."""
    model = (await News(store).about("model"))[0]
    is_postgres = not store._database.is_sqlite
    numbers = _POSTGRES if is_postgres else _SQLITE
    event_id = "gen_random_uuid()::text" if is_postgres else "lower(hex(randomblob(16)))"
    appended = f"""
        INSERT INTO events (sequence, event_id, merchant_account, payment_request_id,
            payment_version, type, state, append_time, body)
        SELECT :last + n, {event_id}, '{FOREIGN}', 'p-' || ((n - 1) / {EVENTS_OF_A_PAYMENT}),
            n, {_TYPE}, model.state, model.append_time, model.body
        FROM {numbers}, (SELECT * FROM events WHERE sequence = :last) AS model
    """
    paid = f"""
        INSERT INTO payments (merchant_account, payment_request_id, last_sequence,
            {_PAYMENT_COLUMNS})
        SELECT '{FOREIGN}', 'p-' || (n - 1), :last + n * {EVENTS_OF_A_PAYMENT}, {_PAYMENT_COLUMNS}
        FROM {numbers}, (SELECT * FROM payments WHERE payment_request_id = 'model') AS model
    """
    # In parts: the service's bound of a statement's time holds here, too.
    for part in range(0, count, _AT_ONCE):
        values = {"last": model.sequence, "from": part, "count": min(_AT_ONCE, count - part)}
        of_payments = {
            "last": model.sequence,
            "from": part // EVENTS_OF_A_PAYMENT,
            "count": values["count"] // EVENTS_OF_A_PAYMENT,
        }
        async with store._database.writer.begin() as connection:
            await connection.execute(text(appended), values)
            await connection.execute(text(paid), of_payments)
    if is_postgres:
        # As autovacuum does by itself, minutes after such a flood.
        async with store._database.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("ANALYZE events"))
            await connection.execute(text("ANALYZE payments"))
