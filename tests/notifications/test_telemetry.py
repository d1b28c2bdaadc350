"""What a notification leaves in traces, logs and on the health listener."""

from __future__ import annotations

import asyncio
import logging

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from antom_payments.errors import StoreOverloaded, StoreUnavailable
from antom_payments.notifications import app as notifications_app
from antom_payments.store import log, payments
from notifications.sidecars import PATH, events_of, message, sample
from store.transactions import Transactions

SESSION = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STRANGER = "00-11111111111111111111111111111111-2222222222222222-01"

NOTIFICATION, APPEND = f"POST {PATH}", "append payment_events"


def notification_span(spans):
    [span] = [span for span in spans() if span.name == NOTIFICATION]
    return span


async def test_a_notification_begins_a_trace_linked_to_its_session(sidecar, store, seed, spans):
    await seed(traceparent=SESSION)
    headers = sidecar.antom.headers(sample("03"))
    inbound = [("traceparent", STRANGER), ("baggage", "user=ann"), ("tracestate", "a=b")]
    await sidecar.post(sample("03"), headers + inbound)
    span = notification_span(spans)
    assert span.kind is SpanKind.SERVER
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" not in STRANGER
    [link] = span.links
    assert f"00-{link.context.trace_id:032x}-{link.context.span_id:016x}-01" == SESSION
    [*_, event] = await events_of(store)
    assert f"{span.context.trace_id:032x}" in event.append_traceparent
    assert span.attributes == {
        "antom_payments.outcome": "accepted",
        "antom_payments.notification_id": event.notification_id,
        "antom_payments.merchant_account": "default",
        "antom_payments.key_fingerprint": span.attributes["antom_payments.key_fingerprint"],
        "antom_payments.payment_request_id": "paymentRequestId01",
        "antom_payments.event_id": event.event_id,
        "antom_payments.event_type": "PAYMENT_AUTHORIZED",
        "http.request.method": "POST",
        "http.route": PATH,
        "url.path": PATH,
        "url.scheme": "http",
        "http.response.status_code": 200,
    }


async def test_the_transaction_is_part_of_the_notification_s_trace(sidecar, seed, spans):
    await seed()
    await sidecar.notify(sample("03"))
    notification = notification_span(spans)
    inside = [s for s in spans() if s.context.trace_id == notification.context.trace_id]
    assert {NOTIFICATION, "transaction", APPEND} <= {span.name for span in inside}


async def test_notifications_that_share_a_transaction_keep_traces_of_their_own(
    sidecar, store, seed, spans
):
    await seed()
    transactions = Transactions(store)
    transactions.hold()
    # An orphan is first; then a payment and, in the same transaction, its end.
    sending = [asyncio.create_task(sidecar.notify(sample("06")))]
    await transactions.is_under_way()
    for body in (sample("03"), message("03", result={"resultStatus": "F", "resultCode": "X"})):
        sending.append(asyncio.create_task(sidecar.notify(body)))
        await sidecar.app_has_under_way(len(sending))
    transactions.go_on()
    await asyncio.gather(*sending)
    told = {s.context.trace_id for s in spans() if s.name == NOTIFICATION}
    assert len(told) == 3
    [_, *events] = await events_of(store)
    assert len({event.append_traceparent[3:35] for event in events}) == 2
    appends = {f"{s.context.span_id:016x}" for s in spans() if s.name == APPEND}
    assert {event.append_traceparent[36:52] for event in events} <= appends
    *_, shared = [span for span in spans() if span.name == "transaction"]
    assert len(shared.links) == 1
    traces = {shared.context.trace_id} | {link.context.trace_id for link in shared.links}
    assert {f"{trace:032x}" for trace in traces} == {e.append_traceparent[3:35] for e in events}


async def test_a_notification_of_an_unknown_payment_has_no_link(sidecar, spans):
    await sidecar.notify(sample("06"))
    assert notification_span(spans).links == ()


async def test_a_failure_is_an_error_in_the_trace_and_a_refusal_is_none(start_sidecar, spans):
    class Down:
        async def apply_notification(self, *_):
            raise StoreUnavailable

    class Full:
        async def apply_notification(self, *_):
            raise StoreOverloaded("store_writes")

    async with start_sidecar(Down()) as sidecar:
        await sidecar.notify(sample("03"))
        await sidecar.post(sample("03"), [])
    async with start_sidecar(Full()) as sidecar:
        await sidecar.notify(sample("03"))
    failed, refused, full = [span for span in spans() if span.name == NOTIFICATION]
    assert full.status.status_code is StatusCode.ERROR
    assert full.attributes["http.response.status_code"] == 503
    assert full.attributes["error.type"] == "store_writes"
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "store_unavailable"
    assert refused.status.status_code is StatusCode.UNSET
    assert failed.events == refused.events == ()


CARD, KEY = "4111111111111111", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"
PLANTED = f"card {CARD}, key -----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----"


def break_with_secrets(*_, **__):
    raise RuntimeError(PLANTED)


@pytest.mark.parametrize(
    "broken",
    [
        (payments, "apply_members"),
        (log, "_lock_end"),
        (notifications_app, "_describe"),
    ],
    ids=["transaction", "append", "notification"],
)
@pytest.mark.usefixtures("payment")
async def test_what_an_exception_says_is_in_no_span(sidecar, spans, monkeypatch, broken):
    before = len(spans())
    monkeypatch.setattr(*broken, break_with_secrets)
    await sidecar.notify(sample("03"))
    ended = spans()[before:]
    assert {span.name for span in ended} == {NOTIFICATION, APPEND, "transaction"}
    said = "".join(span.to_json() for span in ended)
    assert CARD not in said
    assert KEY not in said
    assert not any(span.events for span in ended)


async def test_one_line_is_logged_and_it_names_only_safe_fields(sidecar, seed, caplog):
    await seed()
    body = message("03", metadata="4111111111111111", pspCustomerInfo={"pspName": "Ann Example"})
    with caplog.at_level(logging.DEBUG):
        await sidecar.notify(body)
    [line] = [record.msg for record in caplog.records if "notification" in str(record.msg)]
    assert set(line) - {"time", "level", "logger", "trace_id", "span_id"} == {
        *("event", "outcome", "notification_id", "merchant_account", "key_fingerprint"),
        *("payment_request_id", "event_id", "event_type"),
    }
    said = "".join(str(record.msg) for record in caplog.records)
    for secret in ("4111111111111111", "Ann", "RSA256"):
        assert secret not in said


async def test_the_reason_of_a_refusal_is_in_the_log_and_not_in_the_answer(sidecar, caplog):
    with caplog.at_level(logging.INFO, "antom_payments"):
        answer = await sidecar.notify(sample("03"), client_id="SOMEBODY")
    assert answer.body == b""
    assert b"client" not in answer.head
    [line] = [record.msg for record in caplog.records]
    assert (line["outcome"], line["reason"]) == ("bad_signature", "client_id_unknown")
    assert "SOMEBODY" not in str(line)
