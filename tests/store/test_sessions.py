"""Sessions: the intent before Antom is asked, the lease meanwhile, the answer after."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from antom_payments.errors import PaymentRequestIdReused, SessionInFlight
from antom_payments.fact import Outcome
from antom_payments.money import Money
from antom_payments.payment import EventType, PaymentState, Source
from antom_payments.store import DataCipher, PaymentStore, open_store
from antom_payments.store.sessions import PRIVATE_DATA_WINDOW
from clock import FrozenClock
from facts import a_payment, a_payment_fact
from stored import REQUEST, SESSION, begun, confirmed, erased, notified, rows, whole_log


async def test_an_intent_is_stored_before_antom_is_asked_and_tells_nothing_yet(
    store: PaymentStore,
) -> None:
    claim = await begun(store)
    assert claim.lease_token
    assert claim.request == REQUEST
    assert not claim.was_sent_before
    stored = await store.payment("default", payment_request_id="order-1-attempt-1")
    assert stored == claim.payment
    assert stored.state is PaymentState.CREATING
    assert await whole_log(store) == []


async def test_what_is_personal_is_in_no_repr_of_what_a_store_gives_or_takes(
    store: PaymentStore,
) -> None:
    claim = await begun(store)
    assert b"ada@example.com" in claim.request
    told = notified(a_payment_fact(), claim.request)
    assert "ada@example.com" not in repr((claim, told))


async def test_a_confirmed_session_makes_one_event_of_the_api(store: PaymentStore) -> None:
    payment = await confirmed(store)
    assert payment.state is PaymentState.AWAITING_BUYER
    assert payment.version == 1
    assert payment.payment_session_expiry_time == SESSION.payment_session_expiry_time
    [event] = await whole_log(store)
    assert (event.type, event.source) == (EventType.SESSION_CREATED, Source.API)
    assert event.state_before is PaymentState.CREATING
    assert event.payment == payment
    assert payment.last_sequence == event.sequence == 1
    assert await store.payment("default", payment_request_id="order-1-attempt-1") == payment


async def test_a_payment_is_stored_as_it_was_given(store: PaymentStore) -> None:
    payment = await confirmed(
        store,
        metadata={"cart": "é✓", "empty": ""},
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        capture_expected=None,
        amount=Money("JPY", 10**15 - 1),
    )
    assert await store.payment("default", payment_request_id=payment.payment_request_id) == payment
    assert (await whole_log(store))[0].payment == payment


async def test_the_same_request_again_gives_the_stored_session_and_asks_nobody(
    store: PaymentStore,
) -> None:
    payment = await confirmed(store)
    claim = await begun(store)
    assert claim.session == SESSION
    assert not claim.lease_token
    assert claim.payment == payment
    assert len(await whole_log(store)) == 1


async def test_a_second_call_while_the_first_is_in_flight_is_told_when_to_come_back(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await begun(store, lease_seconds=15)
    clock.advance(5)
    with pytest.raises(SessionInFlight) as caught:
        await begun(store)
    assert caught.value.retry_after_seconds == 10


async def test_nobody_waits_longer_than_a_lease_for_a_server_whose_clock_is_ahead(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await begun(store, lease_seconds=15)
    clock.advance(-3600)
    with pytest.raises(SessionInFlight) as caught:
        await begun(store, lease_seconds=15)
    assert caught.value.retry_after_seconds == 15


async def test_after_the_lease_the_next_call_sends_the_first_request_again(
    store: PaymentStore, clock: FrozenClock
) -> None:
    first = await begun(store, lease_seconds=15)
    clock.advance(15)
    intent = a_payment(PaymentState.CREATING, version=0)
    again = await store.begin_session(intent, b'{"other": "body"}', lease_seconds=15)
    assert again.lease_token not in {"", first.lease_token}
    assert again.request == REQUEST
    assert again.was_sent_before


async def test_a_released_lease_is_free_at_once(store: PaymentStore) -> None:
    await store.release_session(await begun(store))
    assert (await begun(store)).was_sent_before


async def test_a_late_release_does_not_end_the_next_callers_lease(
    store: PaymentStore, clock: FrozenClock
) -> None:
    late = await begun(store, lease_seconds=15)
    clock.advance(15)
    await begun(store, lease_seconds=15)
    await store.release_session(late)
    with pytest.raises(SessionInFlight):
        await begun(store)


async def test_of_many_calls_at_once_one_asks_antom(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    async with open_store(database_url, cipher=cipher, now=clock.now) as store:
        answers = await asyncio.gather(*(begun(store) for _ in range(8)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, SessionInFlight)]
    assert len(refused) == 7
    assert len([answer for answer in answers if not isinstance(answer, Exception)]) == 1


@pytest.mark.parametrize(
    ("other", "differing"),
    [
        ({"amount": Money("EUR", 101)}, "payment_amount"),
        ({"amount": Money("USD", 100)}, "payment_amount"),
        ({"payment_method_type": "ALIPAY_CN"}, "payment_method_type"),
        ({"capture_mode": "MANUAL"}, "capture_mode"),
        ({"reference_order_id": "order-2"}, "reference_order_id"),
    ],
)
async def test_another_payment_with_a_used_id_is_refused_and_says_what_differs(
    store: PaymentStore, other: dict[str, object], differing: str
) -> None:
    await confirmed(store)
    with pytest.raises(PaymentRequestIdReused) as caught:
        await begun(store, **other)
    assert caught.value.differing == differing


async def test_the_rest_of_a_repeated_request_is_first_wins(store: PaymentStore) -> None:
    await confirmed(store, metadata={"cart": "1"})
    claim = await begun(store, metadata={"cart": "2"}, capture_mode="")
    assert claim.payment.metadata == {"cart": "1"}


async def test_the_same_id_of_another_merchant_is_another_payment(store: PaymentStore) -> None:
    await confirmed(store)
    theirs = await confirmed(store, merchant_account="other", amount=Money("USD", 5))
    assert theirs.version == 1
    ours = await store.payment("default", payment_request_id=theirs.payment_request_id)
    assert ours is not None
    assert ours.amount == Money("EUR", 100)


async def test_an_expired_session_is_renewed_while_the_payment_is_open(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    clock.advance(3600)
    claim = await begun(store)
    assert claim.session is None
    assert claim.lease_token
    fresh = replace(
        SESSION, payment_session_id="session-2", payment_session_expiry_time=clock.advance(3600)
    )
    payment = (await store.confirm_session(claim, fresh)).payment
    assert payment.state is PaymentState.AWAITING_BUYER
    assert [event.type for event in await whole_log(store)] == [
        EventType.SESSION_CREATED,
        EventType.SESSION_RENEWED,
    ]
    clock.advance(-1)
    assert (await begun(store)).session == fresh


async def test_a_final_payment_has_no_session_to_give(store: PaymentStore) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact(Outcome.FAILED))])
    claim = await begun(store)
    assert claim.payment.state is PaymentState.FAILED
    assert claim.session is None
    assert not claim.lease_token


async def test_a_confirmation_told_twice_is_one_event(store: PaymentStore) -> None:
    claim = await begun(store)
    first = await store.confirm_session(claim, SESSION)
    again = await store.confirm_session(claim, SESSION)
    [event] = await whole_log(store)
    assert (first.payment, first.event_id) == (event.payment, event.event_id)
    assert (again.payment, again.event_id) == (event.payment, ""), "not appended by this call"


async def test_a_refused_session_fails_the_payment(store: PaymentStore) -> None:
    claim = await begun(store)
    payment, counts = await store.refuse_session(claim, "PARAM_ILLEGAL")
    assert counts
    assert (payment.state, payment.result_code) == (PaymentState.FAILED, "PARAM_ILLEGAL")
    [event] = await whole_log(store)
    assert event.type is EventType.SESSION_REFUSED
    assert event.payment == payment
    # As after a commit whose answer was lost.
    assert await store.refuse_session(claim, "PARAM_ILLEGAL") == (payment, True)
    assert len(await whole_log(store)) == 1


async def test_a_refused_renewal_leaves_the_payment_and_counts(
    store: PaymentStore, clock: FrozenClock
) -> None:
    payment = await confirmed(store)
    clock.advance(7200)
    assert await store.refuse_session(await begun(store), "PARAM_ILLEGAL") == (payment, True)
    assert (await begun(store)).lease_token


async def test_a_refusal_after_the_buyer_paid_changes_nothing(store: PaymentStore) -> None:
    claim = await begun(store)
    await store.apply([notified(a_payment_fact())])
    payment, counts = await store.refuse_session(claim, "PARAM_ILLEGAL")
    assert not counts
    assert payment.state is PaymentState.AUTHORIZED
    assert [event.type for event in await whole_log(store)] == [EventType.PAYMENT_AUTHORIZED]


async def test_a_buyer_faster_than_antoms_answer_keeps_what_was_reached(
    store: PaymentStore,
) -> None:
    claim = await begun(store)
    await store.apply([notified(a_payment_fact())])
    payment = (await store.confirm_session(claim, SESSION)).payment
    assert payment.state is PaymentState.AUTHORIZED
    assert payment.version == 2


async def test_requests_and_sessions_are_stored_encrypted(store: PaymentStore) -> None:
    await confirmed(store)
    [(request, session)] = await rows(store, "SELECT request, session FROM private_data")
    for secret in (b"ada@example.com", b"session-data", b"session-1"):
        assert secret not in bytes(request) + bytes(session)
    [(body,)] = await rows(store, "SELECT CAST(body AS TEXT) FROM events")
    assert "session-" not in body
    assert "example.com" not in body


async def test_a_payment_is_found_by_each_of_its_ids(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    clock.advance(60)
    await confirmed(store, payment_request_id="order-1-attempt-2", create_time=clock.now())
    await store.apply([notified(a_payment_fact())])
    by_request = await store.payment("default", payment_request_id="order-1-attempt-1")
    by_id = await store.payment("default", payment_id="P-1")
    newest = await store.payment("default", reference_order_id="order-1")
    assert by_request == by_id
    assert newest is not None
    assert newest.payment_request_id == "order-1-attempt-2"
    assert await store.payment("other", payment_id="P-1") is None
    assert await store.payment("default", payment_request_id="order-2") is None


@pytest.mark.parametrize("is_taken", [True, False], ids=["taken by another", "given back"])
async def test_a_refusal_without_the_lease_concludes_nothing(
    store: PaymentStore, clock: FrozenClock, is_taken: bool
) -> None:
    late = await begun(store, lease_seconds=15)
    clock.advance(15)
    other = await begun(store, lease_seconds=15)
    if not is_taken:
        await store.release_session(other)
    payment, counts = await store.refuse_session(late, "PARAM_ILLEGAL")
    assert not counts
    assert payment.state is PaymentState.CREATING
    assert await whole_log(store) == []
    if is_taken:
        with pytest.raises(SessionInFlight):
            await begun(store)
        payment = (await store.confirm_session(other, SESSION)).payment
        assert payment.state is PaymentState.AWAITING_BUYER


async def test_private_data_is_erased_when_its_time_is_over_and_nothing_else(
    store: PaymentStore, clock: FrozenClock
) -> None:
    old = await confirmed(store)
    events = await whole_log(store)
    kept_until = SESSION.payment_session_expiry_time
    assert kept_until is not None
    clock.advance((kept_until + PRIVATE_DATA_WINDOW - clock.now()).total_seconds())
    assert await erased(store) == 0
    clock.advance(1)
    await begun(store, payment_request_id="new")
    assert await erased(store) == 1
    assert await erased(store) == 0
    assert await rows(store, "SELECT payment_request_id FROM private_data") == [("new",)]
    assert await store.payment("default", payment_request_id=old.payment_request_id) == old
    assert await whole_log(store) == events


async def test_a_session_can_be_asked_for_again_after_the_first_request_was_erased(
    store: PaymentStore, clock: FrozenClock
) -> None:
    old = await confirmed(store)
    clock.advance(10_000)
    assert await erased(store) == 1
    again = await store.begin_session(
        replace(old, version=0, state=PaymentState.CREATING), b"as now asked", lease_seconds=15
    )
    assert (again.request, again.was_sent_before) == (b"as now asked", True)
    session = replace(SESSION, payment_session_expiry_time=clock.now() + timedelta(hours=1))
    await store.confirm_session(again, session)
    assert (await begun(store)).session == session
    assert await erased(store) == 0
