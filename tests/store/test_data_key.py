"""The data key: a foreign one is refused at start, and a rotation runs beside servers at work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from antom_payments.errors import ConfigurationError, Undecipherable
from antom_payments.store import (
    DataCipher,
    Member,
    PaymentStore,
    Rotated,
    new_data_key,
    open_store,
)
from antom_payments.store.data_key import KeyRotation
from clock import FrozenClock
from facts import a_notification, a_payment_fact
from stored import (
    REQUEST,
    SESSION,
    begun,
    confirmed,
    execute,
    notified,
    numbered,
    rows,
)

OLD, NEW = new_data_key(), new_data_key()
BOTH = f"{NEW}\n{OLD}\n"


def opened(database_url: str, clock: FrozenClock, keys: str):
    return open_store(database_url, cipher=DataCipher(keys), now=clock.now)


async def filled(store: PaymentStore) -> None:
    """Three payments with sessions, one without, and five notifications."""
    await numbered(store, 3)
    await begun(store, payment_request_id="intent")
    await confirmed(store)
    await store.apply([notified(a_payment_fact(), b"told")])
    for number in range(4):
        await store.apply([Member(None, a_notification(b"%d" % number), "not understood")])


async def tokens(store: PaymentStore) -> list[bytes]:
    """Everything that is stored encrypted."""
    found = await rows(store, "SELECT request, session FROM private_data")
    bodies = await rows(store, "SELECT body, NULL FROM notifications")
    return [token for row in (*found, *bodies) for token in row if token is not None]


async def rotated(store: PaymentStore, batch_rows: int = 2) -> Rotated:
    total = Rotated()
    rotation = KeyRotation(store._database, store._cipher, batch_rows=batch_rows)
    async for found in rotation.rotate():
        total += found
    return total


# At start


@pytest.mark.parametrize("what", ["session", "notification"])
async def test_a_key_file_that_does_not_open_the_newest_data_is_refused_by_its_setting(
    database_url: str, clock: FrozenClock, what: str
) -> None:
    async with opened(database_url, clock, OLD) as store:
        if what == "session":
            await begun(store)
        else:
            await store.apply([Member(None, a_notification(), "not understood")])
    with pytest.raises(ConfigurationError) as refusal:
        async with opened(database_url, clock, NEW):
            pass
    assert refusal.value.setting == "ANTOM_PAYMENTS_DATA_KEY_FILE"
    assert "no key of the file opens it" in refusal.value.expected
    assert OLD not in str(refusal.value)
    assert NEW not in str(refusal.value)
    async with opened(database_url, clock, BOTH):
        pass


async def test_a_new_database_takes_any_key(database_url: str, clock: FrozenClock) -> None:
    for keys in (OLD, NEW):
        async with opened(database_url, clock, keys):
            pass


# Rotation


async def test_after_a_rotation_the_old_key_is_needed_by_nothing(
    database_url: str, clock: FrozenClock
) -> None:
    async with opened(database_url, clock, OLD) as store:
        await filled(store)
    async with opened(database_url, clock, BOTH) as store:
        assert await store.key_rotation.count() == Rotated(seen=10, old=10)
        assert await rotated(store) == Rotated(seen=10, old=10)
        assert await store.key_rotation.count() == Rotated(seen=10)
        assert await rotated(store) == Rotated(seen=10)
        found = await tokens(store)
    assert len(found) == 5 + 4 + 5
    old, new = DataCipher(OLD), DataCipher(NEW)
    for token in found:
        assert new.decrypt(token)
        with pytest.raises(Undecipherable):
            old.decrypt(token)
    async with opened(database_url, clock, NEW) as store:
        # The replay of a session, its request after it expired, and a notification's bytes.
        known = {"payment_request_id": "order-0", "reference_order_id": "order-0"}
        assert (await begun(store, **known)).session == SESSION
        clock.advance(3601)
        assert (await begun(store, **known)).request == REQUEST
        bodies = await rows(store, "SELECT body FROM notifications WHERE outcome = 'APPLIED'")
        assert [new.decrypt(row.body) for row in bodies] == [b"told"]


async def test_a_rotation_that_was_stopped_goes_on_where_something_is_left(
    database_url: str, clock: FrozenClock
) -> None:
    async with opened(database_url, clock, OLD) as store:
        await filled(store)
    async with opened(database_url, clock, BOTH) as store:
        rotation = KeyRotation(store._database, store._cipher, batch_rows=2)
        rotating = rotation.rotate()
        assert await anext(rotating) == Rotated(seen=2, old=2)
        await rotating.aclose()
        assert await store.key_rotation.count() == Rotated(seen=10, old=8)
        assert await rotated(store) == Rotated(seen=10, old=8)
    async with opened(database_url, clock, NEW):
        pass


async def test_rotation_beside_servers_loses_no_session(
    database_url: str, clock: FrozenClock
) -> None:
    async with (
        opened(database_url, clock, OLD) as not_restarted,
        opened(database_url, clock, BOTH) as store,
    ):
        claims = [
            await begun(not_restarted, payment_request_id=f"pay-{n}", reference_order_id=f"o-{n}")
            for n in range(20)
        ]

        async def confirm() -> None:
            for claim in claims:
                await not_restarted.confirm_session(claim, SESSION)

        async def rotate() -> None:
            for _ in range(4):
                await rotated(store, batch_rows=3)

        # The server with the old file writes sessions with the old key while rows are rotated.
        await asyncio.gather(confirm(), rotate())
        for n in range(20):
            again = await begun(store, payment_request_id=f"pay-{n}", reference_order_id=f"o-{n}")
            assert again.session == SESSION
        await rotated(store)
        assert await store.key_rotation.count() == Rotated(seen=20)


async def test_what_no_key_opens_is_counted_and_left_alone(
    database_url: str, clock: FrozenClock
) -> None:
    async with opened(database_url, clock, OLD) as store:
        await numbered(store, 2)
    async with opened(database_url, clock, OLD) as store:
        await execute(
            store,
            "UPDATE private_data SET request = :lost WHERE payment_request_id = 'order-0'",
            lost=DataCipher(new_data_key()).encrypt(b"lost"),
        )
        before = await rows(
            store, "SELECT * FROM private_data WHERE payment_request_id = 'order-0'"
        )
        store._cipher = DataCipher(BOTH)
        assert await rotated(store) == Rotated(seen=2, old=1, unreadable=1)
        after = await rows(store, "SELECT * FROM private_data WHERE payment_request_id = 'order-0'")
        assert after == before


async def test_a_process_that_meets_a_newer_key_reads_its_file_again(
    database_url: str, clock: FrozenClock, tmp_path: Path
) -> None:
    """A replica that is not restarted yet answers a repeated call of another's session."""
    file = tmp_path / "data_key.txt"
    file.write_text(OLD)
    cipher = DataCipher(OLD, read_again=file.read_text)
    async with open_store(database_url, cipher=cipher, now=clock.now) as first:
        file.write_text(BOTH)
        async with opened(database_url, clock, BOTH) as second:
            await confirmed(second)
        assert (await begun(first)).session == SESSION
        # And writes with the newest from then on.
        assert DataCipher(NEW).decrypt(cipher.encrypt(b"more")) == b"more"


@pytest.mark.parametrize("text", ["", "garbage", OLD], ids=["empty", "garbage", "one_key"])
async def test_a_key_file_that_is_just_being_changed_changes_nothing(text: str) -> None:
    cipher = DataCipher(OLD, read_again=lambda: text)
    with pytest.raises(Undecipherable):
        cipher.decrypt(DataCipher(NEW).encrypt(b"more"))
    assert cipher.decrypt(DataCipher(OLD).encrypt(b"more")) == b"more"


def test_a_key_file_that_cannot_be_read_again_changes_nothing() -> None:
    def gone() -> str:
        raise ConfigurationError("ANTOM_PAYMENTS_DATA_KEY_FILE", "expected a readable file")

    cipher = DataCipher(OLD, read_again=gone)
    with pytest.raises(Undecipherable):
        cipher.decrypt(b"no token")
