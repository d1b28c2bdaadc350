"""StreamPaymentEvents over real sockets, on both databases."""

from __future__ import annotations

from antom_payments.store import PaymentStore
from antom_payments.v1 import payment_service_pb2 as pb
from grpc_api.world import serving


async def test_history_then_the_marker_then_what_happens_live(store: PaymentStore) -> None:
    async with serving(store) as served:
        before = await served.news.about("order-1", "order-2")
        following = served.follow()
        await following.until_marker("caught_up")
        after = await served.news.about("order-3")
        await following.until_events(3)

    assert [event.event_id for event in following.events] == [
        event.event_id for event in before + after
    ]
    assert [bool(response.cursor) for response in following.responses] == [True] * len(
        following.responses
    )


async def test_a_stream_resumes_after_any_cursor_it_gave(store: PaymentStore) -> None:
    async with serving(store) as served:
        events = await served.news.about(*(f"order-{n}" for n in range(5)))
        first = await served.follow().until_events(5)
        for response in first.responses:
            taken = (
                len([event for event in first.events if event.event_id])
                if response is first.responses[-1]
                else None
            )
            again = served.follow(pb.StreamPaymentEventsRequest(after_cursor=response.cursor))
            await again.until_marker("caught_up")
            seen = sum(
                len(earlier.events)
                for earlier in first.responses[: first.responses.index(response) + 1]
            )
            assert [event.event_id for event in again.events] == [
                event.event_id for event in events[seen:]
            ], taken
