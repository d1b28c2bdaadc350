"""Reports of front ends: one event for each code of a payment, within the caller's transaction."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments import telemetry
from antom_payments.payment import Decision, EventType, Payment, Source
from antom_payments.payment_event import PaymentEvent
from antom_payments.sdk_event import SdkEvent, with_sdk_event
from antom_payments.store.facts import save_payments
from antom_payments.store.inquiries import Inquiries
from antom_payments.store.log import append, append_span
from antom_payments.store.members import InquiryKind, WantedInquiry
from antom_payments.store.rows import event_from_row, payment_from_row
from antom_payments.store.tables import events, payments


async def report_sdk_event(
    connection: AsyncConnection,
    merchant_account: str,
    payment_request_id: str,
    reported: SdkEvent,
    *,
    inquiries: Inquiries,
    now: Callable[[], datetime],
) -> tuple[Payment, bool] | None:
    """Tell what a front end reported, unless it was told; the payment, and whether it was news.

    None when there is no such payment. An open payment that may have news is asked about: at once
    when the report is new, and soon when somebody repeats it.
    """
    found = await connection.execute(
        select(payments)
        .where(
            payments.c.merchant_account == merchant_account,
            payments.c.payment_request_id == payment_request_id,
        )
        .with_for_update()
    )
    row = found.mappings().one_or_none()
    if row is None:
        return None
    payment = payment_from_row(row)
    asks = reported.code.may_be_news and payment.state.is_open
    # The lock on the payment keeps copies of a report from passing this look at the same time.
    if reported.code in await _told(connection, payment):
        if asks:
            await inquiries.hasten(connection, payment)
        return payment, False
    if asks:
        wanted = WantedInquiry(merchant_account, InquiryKind.PAYMENT, payment_request_id)
        await inquiries.want(connection, [wanted])
    decision = with_sdk_event(payment, now())
    with append_span(payment.traceparent):
        [appended] = await append(connection, [_draft(decision, reported)], now)
    payment = replace(decision.payment, last_sequence=appended.sequence)
    await save_payments(connection, [payment])
    return payment, True


def _draft(decision: Decision, reported: SdkEvent) -> PaymentEvent:
    return PaymentEvent(
        event_id=str(uuid.uuid4()),
        type=decision.type,
        payment=decision.payment,
        state_before=decision.state_before,
        source=Source.API,
        result_code=reported.payment_result_code,
        sdk_event_code=reported.code,
        append_traceparent=telemetry.current_traceparent(),
    )


async def _told(connection: AsyncConnection, payment: Payment) -> set[Any]:
    """The codes that were reported of a payment, as far as the log reaches back."""
    found = await connection.execute(
        select(events).where(
            events.c.merchant_account == payment.merchant_account,
            events.c.payment_request_id == payment.payment_request_id,
            events.c.type == EventType.SDK_EVENT_REPORTED.value,
        )
    )
    return {event_from_row(row).sdk_event_code for row in found.mappings()}
