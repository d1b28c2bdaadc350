"""Somebody lists all payments, page by page, from whichever server answers, while they change."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import views
from antom_payments.caller import EVERYONE
from antom_payments.errors import StoreUnavailable
from antom_payments.payment import Payment
from antom_payments.payment_filter import PaymentFilter, PaymentOrder, Place, place_of
from invariants import PaymentKey
from simulation.network import Cut, Refused
from simulation.room import Room

_PAGE_SIZE = 2
_TRIES = 6


async def walk(room: Room, words: dict[str, Any]) -> None:
    """Each payment that stays where it is comes once; by creation, each that was there."""
    order = PaymentOrder(words["order"])
    before, epoch = room.witness.payments(), room.witness.epoch
    met = await _met(room, order, words["pause"])
    if met is None or epoch != room.witness.epoch:
        room.history.count("walk was cut off")
        return
    room.history.count(f"walk by {order}")
    after = room.witness.payments()
    if before != after:
        room.history.count("walk while payments change")
    is_fixed = order is PaymentOrder.CREATE_TIME_DESC
    times = Counter((one.merchant_account, one.payment_request_id) for one in met)
    for key, row in before.items():
        if (is_fixed or after[key] == row) and times[key] != 1:
            room.history.violated("a list has every payment", f"{key} {times[key]} times")
    if is_fixed and max(times.values(), default=0) > 1:
        room.history.violated("a list has every payment", f"once, not {times}")
    _judge_versions(room, met, before)


async def _met(room: Room, order: PaymentOrder, pause: float) -> list[Payment] | None:
    """What the pages had; None when nobody answered in the end."""
    met: list[Payment] = []
    place: Place | None = None
    while True:
        page = await _page(room, order, place)
        if page is None:
            return None
        met += page
        if len(page) < _PAGE_SIZE:
            return met
        place = place_of(page[-1], order)
        await asyncio.sleep(room.random.uniform(0.0, pause))


async def _page(room: Room, order: PaymentOrder, after: Place | None) -> list[Payment] | None:
    for _ in range(_TRIES):
        servers = room.servers()
        if servers:
            server = room.random.choice(servers)
            try:
                return await room.network.call(
                    server.process,
                    lambda server=server: server.service.list_payments(
                        EVERYONE, PaymentFilter(), order, after=after, limit=_PAGE_SIZE
                    ),
                )
            except (Refused, Cut, StoreUnavailable) as error:
                room.history.count(f"walk {type(error).__name__}")
        await asyncio.sleep(2.0)
    return None


def _judge_versions(
    room: Room, met: list[Payment], before: dict[PaymentKey, tuple[int, str]]
) -> None:
    """Nothing older than it was is listed, and nothing that the log does not have."""
    for one in met:
        key = (one.merchant_account, one.payment_request_id)
        row = room.witness.version(key, one.version)
        is_logged = one.version == 0 or (row is not None and row.shown == views.of_answer(one))
        if not is_logged or one.version < before.get(key, (0, ""))[0]:
            room.history.violated("a list tells what is stored", f"{key} {one.version}")
