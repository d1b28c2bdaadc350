"""The audit: what was done and its record are one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from antom_payments.errors import StoreUnavailable
from antom_payments.store import UNADOPTED, Member, PaymentStore
from clock import FrozenClock
from facts import a_capture, a_notification, a_payment_fact
from stored import confirmed, execute, notified, numbered, rows, whole_log


@contextlib.contextmanager
def failing(store: PaymentStore, statement: str) -> Iterator[None]:
    """Let statements that begin so fail as in an outage."""
    engine = store._database.engine.sync_engine

    def fail(_connection: object, _cursor: object, told: str, *_: object) -> None:
        if told.startswith(statement):
            raise OSError("the network is gone")

    event.listen(engine, "before_cursor_execute", fail)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", fail)


async def records(store: PaymentStore) -> list[tuple[str, str, str, dict[str, Any]]]:
    found = await store.back_office.audit(None, 100)
    return [(one.action, one.merchant_account, one.subject_id, dict(one.detail)) for one in found]


async def test_each_command_leaves_one_record_with_ids_and_counts(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    one, other = (Member(None, a_notification(), "JSON") for _ in range(2))
    await store.apply([one, other, notified(a_capture())])
    assert one.notification is not None
    assert other.notification is not None
    first, second = one.notification.notification_id, other.notification.notification_id
    did = [
        lambda: store.back_office.orphans(UNADOPTED, 10, actor="ada"),
        lambda: store.back_office.quarantined("JSON", 10, actor="ada"),
        lambda: store.back_office.show_notification(first, with_body=False, actor="ada"),
        lambda: store.back_office.show_notification(first, with_body=True, actor="ada"),
        lambda: store.back_office.replay(Member(a_payment_fact(), one.notification), actor="ada"),
        lambda: store.back_office.discard(second, "a test", actor="ada"),
        lambda: store.back_office.erase_payment("default", "order-1-attempt-1", actor="ada"),
        lambda: store.back_office.schedule_inquiries(
            clock.now() - timedelta(hours=1),
            merchant_account="",
            after=None,
            limit=10,
            actor="ada",
        ),
    ]
    for command in did:
        clock.advance(1)
        await command()
    told = (await whole_log(store))[1]
    replayed = {"outcome": "APPLIED", "reason": "", "event_id": told.event_id}
    states = [state.value for state in UNADOPTED]
    assert await records(store) == [
        ("orphans list", "", "", {"states": states, "found": 1}),
        ("quarantine list", "", "", {"reason": "JSON", "found": 2}),
        ("quarantine show", "default", first, {"body": False}),
        ("quarantine show", "default", first, {"body": True}),
        ("quarantine replay", "default", first, replayed),
        ("quarantine discard", "default", second, {"why": "a test", "reason": "JSON"}),
        ("erase", "default", "order-1-attempt-1", {"sessions": 1, "notifications": 2}),
        ("reinquire", "", "", {"since": "2026-03-02T08:30:08+00:00", "scheduled": 1}),
    ]
    assert {one.actor for one in await store.back_office.audit(None, 100)} == {"ada"}


async def test_the_audit_is_read_since_a_time_the_newest_at_most(
    store: PaymentStore, clock: FrozenClock
) -> None:
    times = [
        clock.advance(60)
        for _ in range(3)
        if await store.back_office.quarantined("", 1, actor="a") == []
    ]
    everything = await store.back_office.audit(None, 10)
    assert [one.record_time for one in everything] == [
        time - timedelta(minutes=1) for time in times
    ]
    assert await store.back_office.audit(everything[1].record_time, 10) == everything[1:]
    assert await store.back_office.audit(None, 2) == everything[1:]
    assert len({one.audit_id for one in everything}) == 3


@pytest.mark.parametrize("statement", ["INSERT INTO events", "INSERT INTO audit_records"])
async def test_a_replay_and_its_record_are_committed_together_or_not_at_all(
    store: PaymentStore, statement: str
) -> None:
    await confirmed(store)
    unread = Member(None, a_notification(), "JSON")
    await store.apply([unread])
    member = Member(a_payment_fact(), unread.notification)
    with failing(store, statement), pytest.raises(StoreUnavailable):
        await store.back_office.replay(member, actor="ada")
    assert await records(store) == []
    assert await rows(store, "SELECT outcome FROM notifications") == [("QUARANTINED",)]
    assert len(await whole_log(store)) == 1
    await store.back_office.replay(member, actor="ada")
    assert len(await records(store)) == 1
    assert len(await whole_log(store)) == 2


async def test_what_cannot_be_recorded_is_not_done(store: PaymentStore) -> None:
    await confirmed(store)
    unread = Member(None, a_notification(b'"order-1-attempt-1"'), "JSON")
    await store.apply([unread])
    assert unread.notification is not None
    notification_id = unread.notification.notification_id
    with failing(store, "INSERT INTO audit_records"):
        for command in (
            lambda: store.back_office.show_notification(
                notification_id, with_body=True, actor="ada"
            ),
            lambda: store.back_office.discard(notification_id, "why", actor="ada"),
            lambda: store.back_office.erase_payment("default", "order-1-attempt-1", actor="ada"),
        ):
            with pytest.raises(StoreUnavailable):
                await command()
    assert await rows(store, "SELECT outcome, length(body) > 0 FROM notifications") == [
        ("QUARANTINED", True)
    ]
    assert len(await rows(store, "SELECT 1 FROM private_data")) == 1


# Asked about once more


async def test_inquiries_are_scheduled_page_by_page_for_what_changed_since(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    since = clock.advance(60)
    await numbered(store, 3)
    await confirmed(store, merchant_account="other", payment_request_id="theirs")
    due = clock.advance(60)
    await execute(store, "UPDATE inquiries SET step = 1")

    async def page(after: tuple[str, str] | None, merchant_account: str = "") -> Any:
        return await store.back_office.schedule_inquiries(
            since, merchant_account=merchant_account, after=after, limit=2, actor="ada"
        )

    first = await page(None)
    second = await page(first.last)
    third = await page(second.last)
    assert [first.count, second.count, third.count] == [2, 2, 0]
    assert (first.last, third.last) == (("default", "order-1"), None)
    query = "SELECT merchant_account, kind, subject_id FROM inquiries WHERE step = 0 ORDER BY 1, 3"
    ours = [("default", "PAYMENT", f"order-{n}") for n in range(3)]
    assert await rows(store, query) == [*ours, ("other", "PAYMENT", "theirs")]
    assert (await page(None, "other")).count == 1
    assert due > since


async def test_a_scheduled_inquiry_is_due_at_once_whatever_was_planned_for_it(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await numbered(store, 1)
    options: Any = {"merchant_account": "", "after": None, "limit": 10, "actor": "ada"}
    since = clock.now()
    await store.back_office.schedule_inquiries(since, **options)
    async with store._database.writer.begin() as connection:
        await connection.exec_driver_sql(
            "UPDATE inquiries SET phase = 'SETTLED', step = 7, priority = 9, lease_token = 'me'"
        )
    clock.advance(60)
    await store.back_office.schedule_inquiries(since, **options)
    columns = "phase, step, priority, lease_token, lease_until_time, due_time = since_time"
    assert await rows(store, f"SELECT {columns} FROM inquiries") == [
        ("PRESSING", 0, 1, "me", None, True)
    ]
