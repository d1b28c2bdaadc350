"""Antom's books while the run goes on, as Antom's own interface shows them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import httpx

Page = dict[str, Any]
"""A payment, as `GET /emulator/payments` shows it."""


async def page(http: httpx.AsyncClient, payment_request_id: str) -> Page | None:
    """What Antom has of one payment, as soon as it answers; None when it has nothing."""
    found = await _pages(http, {"paymentRequestId": payment_request_id})
    return found[0] if found else None


async def pages(http: httpx.AsyncClient) -> dict[str, Page]:
    """What Antom has, by the merchant's ids, as soon as it answers."""
    return {one["paymentRequestId"]: one for one in await _pages(http, {})}


async def _pages(http: httpx.AsyncClient, wanted: dict[str, str]) -> list[Page]:
    while True:
        try:
            answer = await http.get("/payments", params=wanted)
        except httpx.HTTPError:
            await asyncio.sleep(0.2)
            continue
        found: list[Page] = answer.raise_for_status().json()["payments"]
        return found


def is_over_unpaid(one: Page, now: datetime) -> bool:
    """Whether no money came of it, and none can come any more, by Antom's clock.

    Antom closes an order 14 minutes after its newest session's end; from then on it is over, even
    if the entry of Antom's agenda that closes it is not done yet.
    """
    status = one["paymentStatus"]
    if status in {"FAIL", "CANCELLED"}:
        return True
    is_due = one["closingTime"] is not None and datetime.fromisoformat(one["closingTime"]) <= now
    return status in {None, "PROCESSING"} and is_due
