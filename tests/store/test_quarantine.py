"""What is quarantined: released by an inquiry, replayed or discarded; never lost, never doubled."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from antom_payments.fact import OUTSIDE_WINDOW, Fact, Outcome
from antom_payments.money import Money
from antom_payments.payment import PaymentState, Source
from antom_payments.store import (
    Applied,
    AppliedOutcome,
    InquiryKind,
    Member,
    PaymentStore,
    WantedInquiry,
)
from facts import NOW, a_capture, a_notification, a_payment_fact
from stored import confirmed, execute, notified, rows, the_payment, whole_log

APPLIED, DUPLICATE = AppliedOutcome.APPLIED, AppliedOutcome.DUPLICATE
QUARANTINED = AppliedOutcome.QUARANTINED
INQUIRED = Member(a_payment_fact(source=Source.INQUIRY))


def late(fact: Fact | None = None, body: bytes | None = None) -> Member:
    """A notification from outside the window."""
    return Member(fact or a_payment_fact(), a_notification(body), OUTSIDE_WINDOW)


def unread(body: bytes | None = None) -> Member:
    """A notification that is not understood."""
    return Member(None, a_notification(body), "unsupported_type:NEWS")


def understood(member: Member, fact: Fact | None = None) -> Member:
    """The same notification, as it is understood after an upgrade."""
    return replace(member, fact=fact or a_payment_fact(), not_understood="")


async def told(store: PaymentStore, *members: Member) -> list[Applied]:
    """Apply one by one."""
    return [(await store.apply([member]))[0] for member in members]


async def kept(store: PaymentStore) -> list[tuple[str, str | None]]:
    """Outcome and event of every stored notification."""
    found = await rows(
        store, "SELECT outcome, event_id FROM notifications ORDER BY received_time, body_sha256"
    )
    return [(outcome, event_id) for outcome, event_id in found]


def id_of(member: Member) -> str:
    assert member.notification is not None
    return member.notification.notification_id


# Outside the window


async def test_late_news_says_which_payment_to_ask_about(store: PaymentStore) -> None:
    await confirmed(store)
    by_request, unknown = await told(store, late(), late(replace(a_capture(), payment_id="P-9")))
    assert by_request.wanted == WantedInquiry("default", InquiryKind.PAYMENT, "order-1-attempt-1")
    assert unknown.wanted == WantedInquiry("default", InquiryKind.ORPHAN, "P-9")
    assert await rows(store, "SELECT 1 FROM facts") == []
    columns = "fact_kind, fact_id, fact_outcome, payment_id"
    assert await rows(store, f"SELECT {columns} FROM notifications ORDER BY fact_kind") == [
        ("CAPTURE", "C-1", "SUCCEEDED", "P-9"),
        ("PAYMENT", "P-1", "SUCCEEDED", "P-1"),
    ]


async def test_late_news_counts_once_an_inquiry_tells_the_same(store: PaymentStore) -> None:
    await confirmed(store)
    [held] = await told(store, late())
    assert held.outcome is QUARANTINED
    [applied] = await store.apply([INQUIRED])
    assert applied.event is not None
    assert await kept(store) == [("APPLIED", applied.event.event_id)]
    assert len(await whole_log(store)) == 2


async def test_late_news_counts_also_when_an_inquiry_repeats_what_was_known(
    store: PaymentStore,
) -> None:
    """What came in time after the late one proves nothing of it; the inquiry does."""
    await confirmed(store)
    _, applied = await told(store, late(body=b"late"), notified(a_payment_fact(), b"in time"))
    assert (QUARANTINED.value, None) in await kept(store)
    [again] = await store.apply([INQUIRED])
    assert again.outcome is DUPLICATE
    assert applied.event is not None
    assert await kept(store) == [("APPLIED", applied.event.event_id)] * 2


async def test_late_news_and_the_inquiry_in_one_batch_are_one_event(store: PaymentStore) -> None:
    await confirmed(store)
    answers = await store.apply([late(), INQUIRED, late()])
    assert [answer.outcome for answer in answers] == [QUARANTINED, APPLIED, DUPLICATE]
    assert {outcome for outcome, _ in await kept(store)} == {"APPLIED", "DUPLICATE"}
    assert len(await whole_log(store)) == 2


async def test_late_news_of_an_orphan_counts_when_its_payment_adopts_it(
    store: PaymentStore,
) -> None:
    inquired = Member(a_capture(source=Source.INQUIRY))
    await told(store, late(a_capture()), inquired)
    assert await kept(store) == [("QUARANTINED", None)]
    await confirmed(store)
    await store.apply([INQUIRED])
    assert await kept(store) == [("APPLIED", (await whole_log(store))[-1].event_id)]
    assert (await the_payment(store)).state is PaymentState.SUCCEEDED


async def test_an_inquiry_that_tells_something_else_releases_nothing(store: PaymentStore) -> None:
    await confirmed(store)
    await told(
        store,
        late(a_payment_fact(Outcome.FAILED)),
        late(a_capture()),
        Member(
            a_payment_fact(merchant_account="other"),
            a_notification(merchant_account="other"),
            OUTSIDE_WINDOW,
        ),
        Member(a_payment_fact(), a_notification(), "another_reason"),
        INQUIRED,
    )
    assert await kept(store) == [("QUARANTINED", None)] * 4


async def test_late_news_that_comes_again_after_its_release_changes_nothing(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    news = late(body=b"late")
    _, applied, again = await told(store, news, INQUIRED, news)
    assert again.outcome is DUPLICATE
    assert again.event == applied.event
    assert applied.event is not None
    assert await kept(store) == [("APPLIED", applied.event.event_id)]


# Replayed


async def test_a_replay_makes_the_one_event_of_the_fact(store: PaymentStore) -> None:
    await confirmed(store)
    news = unread()
    await store.apply([news])
    replayed = await store.back_office.replay(understood(news), actor="ada")
    assert replayed is not None
    assert replayed.applied is not None
    event = (await whole_log(store))[-1]
    assert replayed.applied.event == event
    assert event.notification_id == id_of(news)
    assert replayed.stored.outcome == "APPLIED"
    assert (replayed.stored.reason, replayed.stored.event_id) == ("", event.event_id)
    assert (replayed.stored.copies, replayed.stored.fact_id) == (0, "P-1")
    again = await store.back_office.replay(understood(news), actor="ada")
    assert again is not None
    assert again.applied is None
    assert len(await whole_log(store)) == 2


async def test_a_replay_of_what_another_notification_told_is_a_duplicate(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    news = unread()
    _, applied = await told(store, news, notified(a_payment_fact()))
    replayed = await store.back_office.replay(understood(news), actor="ada")
    assert replayed is not None
    assert applied.event is not None
    assert (replayed.stored.outcome, replayed.stored.event_id) == (
        "DUPLICATE",
        applied.event.event_id,
    )
    assert len(await whole_log(store)) == 2


async def test_a_replay_of_what_is_still_not_understood_keeps_its_new_reason(
    store: PaymentStore,
) -> None:
    news = unread()
    await store.apply([news])
    replayed = await store.back_office.replay(
        replace(news, not_understood="missing:paymentId"), actor="ada"
    )
    assert replayed is not None
    assert (replayed.stored.outcome, replayed.stored.reason) == (
        "QUARANTINED",
        "missing:paymentId",
    )


async def test_a_replayed_capture_waits_for_its_payment_like_any_other(
    store: PaymentStore,
) -> None:
    news = unread()
    await store.apply([news])
    await store.back_office.replay(understood(news, a_capture()), actor="ada")
    assert await kept(store) == [("ORPHANED", None)]
    await confirmed(store)
    await store.apply([notified(a_payment_fact())])
    assert (await the_payment(store)).state is PaymentState.SUCCEEDED


async def test_replays_and_resends_at_the_same_instant_make_one_event(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    news = unread(b"the same bytes")
    await store.apply([news])
    ready = understood(news)
    await asyncio.gather(
        *(store.back_office.replay(ready, actor="ada") for _ in range(4)),
        *(store.apply([understood(unread(b"the same bytes"))]) for _ in range(4)),
    )
    event = (await whole_log(store))[-1]
    assert len(await whole_log(store)) == 2
    assert await kept(store) == [("APPLIED", event.event_id)]


async def test_what_is_gone_meanwhile_is_not_replayed(store: PaymentStore) -> None:
    assert await store.back_office.replay(understood(unread()), actor="ada") is None


# Discarded


async def test_what_is_discarded_stays_stored_and_out_of_the_list(store: PaymentStore) -> None:
    news = unread()
    await store.apply([news])
    [listed] = await store.back_office.quarantined("", 10, actor="ada")
    assert listed.notification_id == id_of(news)
    found = await store.back_office.discard(id_of(news), "a test of Antom's", actor="ada")
    assert found == (replace(listed, outcome="DISCARDED"), True)
    assert await store.back_office.quarantined("", 10, actor="ada") == []
    shown = await store.back_office.show_notification(id_of(news), with_body=True, actor="ada")
    assert shown is not None
    assert news.notification is not None
    assert shown[1] == news.notification.body
    again = await store.back_office.discard(id_of(news), "again", actor="ada")
    assert again == (replace(listed, outcome="DISCARDED"), False)
    assert await store.back_office.discard("nothing", "why", actor="ada") is None


async def test_only_what_is_quarantined_can_be_discarded(store: PaymentStore) -> None:
    await confirmed(store)
    news = notified(a_payment_fact())
    await store.apply([news])
    found = await store.back_office.discard(id_of(news), "oops", actor="ada")
    assert found is not None
    assert (found[0].outcome, found[1]) == ("APPLIED", False)
    assert (await kept(store))[0][0] == "APPLIED"


@pytest.mark.parametrize("made", [unread, lambda body: late(body=body)], ids=["unread", "late"])
async def test_a_resend_of_what_was_discarded_does_not_resurrect_it(
    store: PaymentStore, made: type[Member]
) -> None:
    await confirmed(store)
    news: Member = made(b"the same bytes")
    await store.apply([news])
    await store.back_office.discard(id_of(news), "known at Antom", actor="ada")
    await told(store, made(b"the same bytes"), made(b"the same bytes"))
    assert await kept(store) == [("DISCARDED", None)]
    assert await rows(store, "SELECT copies FROM notifications") == [(2,)]
    assert len(await whole_log(store)) == 1


async def test_money_news_counts_when_it_is_resent_and_understood_though_it_was_discarded(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    news = unread(b"the same bytes")
    await store.apply([news])
    await store.back_office.discard(id_of(news), "not understood", actor="ada")
    first, again = await told(store, understood(news), understood(news))
    assert (first.outcome, again.outcome) == (APPLIED, DUPLICATE)
    event = (await whole_log(store))[-1]
    assert await kept(store) == [("APPLIED", event.event_id)]
    assert event.notification_id == id_of(news)
    assert len(await whole_log(store)) == 2


async def test_what_is_discarded_does_not_count_when_an_inquiry_tells_the_same(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    news = late(body=b"late")
    await store.apply([news])
    await store.back_office.discard(id_of(news), "settled by hand", actor="ada")
    await told(store, INQUIRED, news)
    assert await kept(store) == [("DISCARDED", (await whole_log(store))[-1].event_id)]
    assert len(await whole_log(store)) == 2


# Resent


async def test_quarantined_bytes_that_are_resent_and_known_by_then_leave_the_quarantine(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    news = unread(b"the same bytes")
    _, applied, _ = await told(store, news, notified(a_payment_fact(), b"others"), understood(news))
    assert applied.event is not None
    assert sorted(await kept(store)) == [
        ("APPLIED", applied.event.event_id),
        ("DUPLICATE", applied.event.event_id),
    ]


async def test_what_was_applied_stays_so_whatever_is_told_of_its_bytes_later(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    news = notified(a_payment_fact(), b"the same bytes")
    await store.apply([news])
    # Facts may be pruned before notifications are.
    await execute(store, "DELETE FROM facts")
    await store.apply([late(body=b"the same bytes")])
    assert (await kept(store))[0][0] == "APPLIED"


# The list


async def test_the_list_is_by_reason_or_its_first_part_and_bounded(store: PaymentStore) -> None:
    await told(
        store,
        late(a_payment_fact(amount=Money("EUR", 1))),
        *(
            Member(None, a_notification(), reason)
            for reason in ("missing:paymentId", "missing:captureId", "missing_all")
        ),
    )

    async def reasons(reason: str, limit: int = 10) -> set[str]:
        return {
            one.reason for one in await store.back_office.quarantined(reason, limit, actor="ada")
        }

    assert len(await reasons("")) == 4
    assert await reasons("missing") == {"missing:paymentId", "missing:captureId"}
    assert await reasons("missing:captureId") == {"missing:captureId"}
    assert await reasons("missin_") == set()
    assert len(await reasons("", 3)) == 3


async def test_pages_go_on_after_the_last_one_also_among_those_of_one_instant(
    store: PaymentStore,
) -> None:
    members = [unread() for _ in range(4)]
    earlier = unread()
    assert earlier.notification is not None
    before = replace(earlier.notification, received_time=NOW - timedelta(seconds=1))
    await store.apply([*members, replace(earlier, notification=before)])
    found, after = [], None
    while page := await store.back_office.quarantine_page("", after=after, limit=2):
        found += [stored.notification_id for stored in page]
        after = page[-1]
    assert found == [id_of(earlier), *sorted(id_of(member) for member in members)]
