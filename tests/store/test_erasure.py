"""Erasure: what is personal of a payment goes, what proves and dedupes stays."""

from __future__ import annotations

import pytest

from antom_payments.fact import OUTSIDE_WINDOW
from antom_payments.payment import PaymentState
from antom_payments.store import (
    AppliedOutcome,
    DataCipher,
    Erased,
    Member,
    PaymentStore,
    SessionClaim,
)
from antom_payments.store.private_data import ERASED
from facts import a_capture, a_notification, a_payment_fact
from stored import (
    REQUEST,
    SESSION,
    about,
    begun,
    confirmed,
    notified,
    numbered,
    rows,
    the_payment,
    whole_log,
)


async def erased(store: PaymentStore, payment_request_id: str = "order-1-attempt-1") -> Erased:
    done = await store.back_office.erase_payment("default", payment_request_id, actor="ada")
    assert done is not None
    return done


async def bodies(store: PaymentStore) -> int:
    """How many raw bodies are still stored."""
    [(count,)] = await rows(store, "SELECT count(*) FROM notifications WHERE length(body) > 0")
    return int(count)


async def test_session_and_raw_notifications_of_the_payment_are_erased_and_nothing_else(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    await numbered(store, 1)
    await store.apply([notified(a_capture()), notified(a_payment_fact()), notified(about(0))])
    await store.apply([notified(a_payment_fact(amount=None), b"told otherwise")])
    payment, log = await the_payment(store), await whole_log(store)
    assert await erased(store) == Erased(sessions=1, notifications=3)
    assert await erased(store) == Erased(sessions=0, notifications=0)
    assert await bodies(store) == 1
    assert await rows(store, "SELECT payment_request_id FROM private_data") == [("order-0",)]
    assert (await the_payment(store), await whole_log(store)) == (payment, log)
    [(count,)] = await rows(store, "SELECT count(*) FROM notifications WHERE body_sha256 <> ''")
    assert count == 4


@pytest.mark.parametrize("understood", [True, False])
async def test_what_was_set_aside_is_erased_when_it_names_the_payment(
    store: PaymentStore, cipher: DataCipher, understood: bool
) -> None:
    await confirmed(store)
    await numbered(store, 2)
    body = b'{"paymentRequestId": "order-1-attempt-1", "payerName": "Ada"}'
    fact = a_payment_fact() if understood else None
    about_it = Member(fact, a_notification(body), OUTSIDE_WINDOW if understood else "JSON")
    others = Member(None, a_notification(b'{"paymentRequestId": "order-1"}'), "JSON")
    discarded = Member(None, a_notification(body + b" "), "JSON")
    await store.apply([about_it, others, discarded])
    assert discarded.notification is not None
    await store.back_office.discard(discarded.notification.notification_id, "why", actor="ada")
    assert await erased(store) == Erased(sessions=1, notifications=2)
    [(left,)] = await rows(store, "SELECT body FROM notifications WHERE length(body) > 0")
    assert cipher.decrypt(bytes(left)) == b'{"paymentRequestId": "order-1"}'


async def test_another_merchants_payment_of_the_same_id_is_left_alone(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    await confirmed(store, merchant_account="other")
    news = a_payment_fact(merchant_account="other")
    await store.apply([Member(news, a_notification(merchant_account="other"))])
    assert await erased(store) == Erased(sessions=1, notifications=0)
    assert await bodies(store) == 1
    assert len(await rows(store, "SELECT 1 FROM private_data")) == 1


async def test_an_unknown_payment_is_said_to_be_unknown(store: PaymentStore) -> None:
    assert await store.back_office.erase_payment("default", "nobody", actor="ada") is None
    assert await store.back_office.audit(None, 10) == []


async def test_a_resend_of_what_was_erased_is_a_duplicate_and_brings_no_body_back(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    news = notified(a_payment_fact(), b"the same bytes")
    unread = Member(None, a_notification(b'"order-1-attempt-1"'), "JSON")
    await store.apply([news, unread])
    await erased(store)
    again, _ = await store.apply([news, unread])
    assert again.outcome is AppliedOutcome.DUPLICATE
    assert await bodies(store) == 0
    assert len(await whole_log(store)) == 2


async def test_what_was_erased_is_shown_without_a_body_and_cannot_be_replayed(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    unread = Member(None, a_notification(b'"order-1-attempt-1"'), "JSON")
    await store.apply([unread])
    await erased(store)
    assert unread.notification is not None
    notification_id = unread.notification.notification_id
    shown = await store.back_office.show_notification(notification_id, with_body=True, actor="ada")
    assert shown is not None
    assert (shown[0].is_erased, shown[1]) == (True, b"")
    found = await store.back_office.notification(notification_id)
    assert found is not None
    assert found[1] is None
    member = Member(a_payment_fact(), unread.notification)
    replayed = await store.back_office.replay(member, actor="ada")
    assert replayed is not None
    assert replayed.applied is None
    assert len(await whole_log(store)) == 1


async def test_after_erasure_create_session_begins_again_with_the_callers_request(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    await erased(store)
    claim: SessionClaim = await begun(store)
    assert (claim.session, claim.request, claim.was_sent_before) == (None, REQUEST, True)
    assert claim.lease_token
    payment = (await store.confirm_session(claim, SESSION)).payment
    assert payment.state is PaymentState.AWAITING_BUYER
    again = await begun(store)
    assert again.session == SESSION


async def test_a_session_that_is_erased_while_antom_is_asked_is_not_kept(
    store: PaymentStore,
) -> None:
    claim = await begun(store)
    await erased(store)
    payment = (await store.confirm_session(claim, SESSION)).payment
    assert payment.state is PaymentState.AWAITING_BUYER
    assert await rows(store, "SELECT 1 FROM private_data") == []
    assert (await begun(store)).session is None


def test_what_was_erased_decrypts_to_nothing_with_any_key(cipher: DataCipher) -> None:
    """Whoever walks over all that is stored meets erased bodies, too."""
    assert cipher.decrypt(ERASED) == b""
    assert cipher.encrypt(b"") != ERASED
