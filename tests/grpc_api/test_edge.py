"""The outermost interceptor, on real sockets: nothing leaks, and every caller gets an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from antom_payments import errors
from antom_payments.grpc_api import errors as answers
from antom_payments.grpc_api.limits import CallLimits
from grpc_api.world import PATIENCE, Following, Refusal, edge_around, refusal_of

CARD = "4111 1111 1111 1111"
DIGITS = "4000056655665556"
KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDK" * 30
PEM = f"-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----"
PLANTED = f"card {CARD} or {DIGITS}, key {PEM}, of Ada Lovelace"
SECRETS = (CARD, DIGITS, KEY[:30], "Ada Lovelace")

Work = Callable[[StringValue, Any], Any]


def unary(work: Work) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        work,
        request_deserializer=StringValue.FromString,
        response_serializer=StringValue.SerializeToString,
    )


def streaming(work: Work) -> Any:
    return grpc.unary_stream_rpc_method_handler(
        work,
        request_deserializer=StringValue.FromString,
        response_serializer=StringValue.SerializeToString,
    )


def call(channel: grpc.aio.Channel, raw: bytes = b"", **more: Any) -> Any:
    return channel.unary_unary("/test.Service/Unary")(raw, **more)


def follow(channel: grpc.aio.Channel, **more: Any) -> Any:
    return channel.unary_stream("/test.Service/Stream")(b"", **more)


def chained() -> Exception:
    error = RuntimeError(PLANTED)
    error.__cause__ = ValueError(PLANTED)
    error.add_note(PLANTED)
    return error


class Odd(Exception):
    """Shows its secret in every way."""

    def __str__(self) -> str:
        return PLANTED

    __repr__ = __str__


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(PLANTED),
        chained(),
        ExceptionGroup(PLANTED, [KeyError(PLANTED), Odd(PLANTED)]),
        KeyError(CARD, DIGITS.encode(), {KEY: PLANTED}),
        Odd(),
        errors.ConfigurationError(f"card {CARD} {DIGITS}", KEY),
        asyncio.CancelledError(PLANTED),
        StopAsyncIteration(PLANTED),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_planted_card_number_and_key_never_reach_wire_or_log(
    error: BaseException, log_text: Callable[[], str]
) -> None:
    async def fail(_request: StringValue, _context: Any) -> None:
        raise error

    methods = {"Unary": unary(fail), "Stream": streaming(fail)}
    async with edge_around(methods) as (channel, admission):
        refusals = [
            await refusal_of(call(channel)),
            await Following(follow(channel)).until_end(),
        ]
        await admission.idle()
    for refusal in refusals:
        assert refusal.code is grpc.StatusCode.INTERNAL
        assert refusal.reason == "INTERNAL"
        error_id = refusal.info.metadata["error_id"]
        assert log_text().count(f'"error_id": "{error_id}"') == 1
        for secret in SECRETS:
            assert secret.encode() not in refusal.wire_bytes
    for secret in SECRETS:
        assert secret not in log_text()


async def test_errors_that_callers_may_see_are_scrubbed_as_well(
    log_text: Callable[[], str],
) -> None:
    async def fail(_request: StringValue, _context: Any) -> None:
        raise errors.InvalidRequest([errors.FieldViolation("x", f"{CARD} {DIGITS} {KEY}")])

    async with edge_around({"Unary": unary(fail)}) as (channel, _):
        refusal = await refusal_of(call(channel))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    for secret in (CARD, DIGITS, KEY[:30]):
        assert secret.encode() not in refusal.wire_bytes
        assert secret not in log_text()


@pytest.mark.parametrize("kind", [unary, streaming])
async def test_work_that_cancels_itself_is_answered(kind: Callable[[Work], Any]) -> None:
    """gRPC would send no status at all, and the caller would hang (grpc/grpc#29248)."""

    async def fail(_request: StringValue, _context: Any) -> None:
        inner = asyncio.create_task(asyncio.Event().wait())
        inner.cancel()
        await inner

    name = "Unary" if kind is unary else "Stream"
    async with edge_around({name: kind(fail)}) as (channel, _):
        refusal = (
            await refusal_of(call(channel))
            if kind is unary
            else await Following(follow(channel)).until_end()
        )
    assert refusal.code is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("kind", [unary, streaming])
async def test_a_caller_that_hangs_up_is_no_error(
    kind: Callable[[Work], Any], log_text: Callable[[], str]
) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def wait(_request: StringValue, _context: Any) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    methods = {"Unary": kind(wait), "Stream": kind(wait)}
    async with edge_around(methods) as (channel, admission):
        under_way = call(channel) if kind is unary else follow(channel)
        async with asyncio.timeout(PATIENCE):
            await started.wait()
            under_way.cancel()
            await ended.wait()
            await admission.idle()
    assert '"error"' not in log_text()
    assert '"code": "CANCELLED"' in log_text()


async def test_a_caller_that_hangs_up_during_a_write_is_no_error(
    log_text: Callable[[], str],
) -> None:
    async def pour(_request: StringValue, context: Any) -> None:
        while True:
            await context.write(b"x" * 100_000)

    async with edge_around({"Stream": streaming(pour)}) as (channel, admission):
        following = follow(channel)
        async with asyncio.timeout(PATIENCE):
            await following.read()
            following.cancel()
            await admission.idle()
    assert '"error"' not in log_text()


async def test_a_request_that_does_not_parse_is_the_callers_fault(
    log_text: Callable[[], str],
) -> None:
    async def never(_request: StringValue, _context: Any) -> None:
        raise AssertionError

    async with edge_around({"Unary": unary(never), "Stream": streaming(never)}) as (channel, _):
        refusal = await refusal_of(call(channel, b"\xff\xff\xff"))
        stream = channel.unary_stream("/test.Service/Stream")(b"\xff\xff\xff")
        refusals = [refusal, await Following(stream).until_end()]
    for refused in refusals:
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.reason == "INVALID_REQUEST"
        assert "StringValue" not in refused.message
    assert '"error"' not in log_text()


async def test_a_response_that_cannot_be_serialised_is_our_fault() -> None:
    async def wrong(_request: StringValue, _context: Any) -> object:
        return object()

    async with edge_around({"Unary": unary(wrong)}) as (channel, _):
        assert (await refusal_of(call(channel))).reason == "INTERNAL"


async def test_a_method_that_does_not_exist_is_unimplemented() -> None:
    async with edge_around({}) as (channel, _):
        refusal = await refusal_of(channel.unary_unary("/test.Service/Nothing")(b""))
    assert refusal.code is grpc.StatusCode.UNIMPLEMENTED


async def test_bytes_that_are_ready_pass_as_they_are() -> None:
    data = StringValue(value="ready").SerializeToString()

    async def ready(_request: StringValue, context: Any) -> None:
        await context.write(data)
        raise errors.ServerDraining(0.5)

    async with edge_around({"Stream": streaming(ready)}) as (channel, _):
        assert await follow(channel).read() == data


async def test_calls_beyond_the_limit_are_refused_with_advice_until_one_ends() -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def wait(request: StringValue, _context: Any) -> StringValue:
        started.set()
        await release.wait()
        return request

    limits = CallLimits(unary=1, streams=1)
    async with edge_around({"Unary": unary(wait)}, limits) as (channel, admission):
        first = asyncio.ensure_future(call(channel))
        await started.wait()
        refusal = await refusal_of(call(channel))
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.reason == "LIMIT_REACHED"
        assert dict(refusal.info.metadata) == {"limit": "unary_in_flight"}
        assert refusal.retry_seconds > 0
        release.set()
        await first
        await admission.idle()
        await call(channel)


async def test_an_answer_to_a_peer_that_does_not_read_lets_the_work_go_but_keeps_its_slot() -> None:
    """Then the caller reads on, gets what was buffered and the status, and the slot is free."""
    ended = asyncio.Event()

    async def pour(_request: StringValue, context: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        try:
            while True:
                timer = loop.call_later(0.3, task.cancel)
                await context.write(b"x" * 100_000)
                timer.cancel()
        except asyncio.CancelledError:
            task.uncancel()
            raise errors.SubscriberTooSlow("cursor") from None
        finally:
            context.add_done_callback(lambda _: ended.set())

    async with edge_around({"Stream": streaming(pour)}) as (channel, admission):
        following = follow(channel)
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
        assert admission.streams == 1
        refusal: Refusal | None = None
        try:
            while await following.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            refusal = Refusal(error)
        async with asyncio.timeout(PATIENCE):
            await admission.idle()
    assert refusal is not None
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(refusal.info.metadata) == {"last_sent": "cursor"}


@pytest.mark.parametrize("kind", [unary, streaming])
async def test_an_error_in_making_the_answer_is_answered_and_frees_the_slot(
    kind: Callable[[Work], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(PLANTED)

    async def fail(_request: StringValue, _context: Any) -> None:
        raise ValueError(PLANTED)

    monkeypatch.setattr(answers, "answer_to", broken)
    name = "Unary" if kind is unary else "Stream"
    async with edge_around({name: kind(fail)}) as (channel, admission):
        refusal = (
            await refusal_of(call(channel))
            if kind is unary
            else await Following(follow(channel)).until_end()
        )
        async with asyncio.timeout(PATIENCE):
            await admission.idle()
        assert (admission.unary, admission.streams) == (0, 0)
    assert refusal.code is grpc.StatusCode.INTERNAL
    assert (refusal.reason, refusal.info.domain) == ("INTERNAL", "antom-payments")
    for secret in SECRETS:
        assert secret.encode() not in refusal.wire_bytes
