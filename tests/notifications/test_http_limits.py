"""The HTTP server's limits, over raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from antom_payments.notifications import HttpLimits, serving, uvicorn_config
from notifications.wire import Answer, Wire, ask, request

SLOW = HttpLimits(request_seconds=0.3, linger_seconds=0.2)


@dataclass
class Served:
    """A server whose application echoes bodies, and what it saw."""

    port: int = 0
    bodies: list[bytes] = field(default_factory=list)
    cut: int = 0
    refusals: list[str] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None

    async def app(self, scope, receive, send) -> None:
        try:
            body = await Request(scope, receive).body()
        except ClientDisconnect:
            self.cut += 1
            return
        self.bodies.append(body)
        self.came.set()
        if self.hold:
            await self.hold.wait()
        await Response(body)(scope, receive, send)


@contextlib.asynccontextmanager
async def served(limits: HttpLimits | None = None) -> AsyncIterator[Served]:
    one = Served()
    config = uvicorn_config(
        one.app, limits=limits or HttpLimits(), count_refusal=one.refusals.append
    )
    async with serving(config, host="127.0.0.1", port=0) as one.port:
        yield one


def assert_refused(answer: Answer | None, status: int) -> None:
    assert answer is not None
    assert answer.status == status
    assert answer.body == b""
    assert answer.headers == {"content-length": "0", "connection": "close"}


async def send_for_ever(wire: Wire) -> None:
    while True:
        wire.send(b"b" * 65_536)
        await wire.writer.drain()


async def test_answers_say_nothing_about_the_server():
    async with served() as server:
        answer = await ask(server.port, request(b"hello"))
    assert answer.status == 200
    assert answer.headers == {"content-length": "5"}


async def test_a_connection_is_used_again():
    async with served() as server, await Wire.connect(server.port) as wire:
        for body in (b"one", b"two"):
            wire.send(request(body))
            assert (await wire.answer()).body == body


async def test_a_chunked_body_is_taken():
    chunks = b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    async with served() as server:
        head = request(headers=[("transfer-encoding", "chunked")], framed=False)
        answer = await ask(server.port, head + chunks)
    assert answer.body == b"onetwo"


async def test_a_client_that_waits_for_100_continue_gets_it():
    async with served() as server, await Wire.connect(server.port) as wire:
        head = request(
            b"", headers=[("expect", "100-continue"), ("content-length", "2")], framed=False
        )
        wire.send(head)
        assert (await wire.answer()).status == 100
        wire.send(b"ok")
        assert (await wire.answer()).body == b"ok"


# Time


async def test_a_connection_that_says_nothing_is_closed():
    async with served(SLOW) as server, await Wire.connect(server.port) as wire:
        assert await wire.answer() is None
        assert server.refusals == []


async def test_half_a_head_is_answered_408():
    async with served(SLOW) as server, await Wire.connect(server.port) as wire:
        wire.send(b"POST /antom/notify HTTP/1.1\r\nhost: merch")
        assert_refused(await wire.answer(), 408)
        assert await wire.is_closed()
        assert server.refusals == ["slow"]


async def test_half_a_body_is_answered_408_and_lets_go_of_the_application():
    async with served(SLOW) as server, await Wire.connect(server.port) as wire:
        wire.send(request(b"whole")[:-1])
        assert_refused(await wire.answer(), 408)
        assert await wire.is_closed()
        assert (server.cut, server.bodies) == (1, [])


async def test_dripping_does_not_buy_time():
    limits = HttpLimits(request_seconds=0.3, linger_seconds=0.1)
    async with served(limits) as server, await Wire.connect(server.port) as wire:
        wire.send(b"POST /antom/notify HTTP/1.1\r\n")
        began = asyncio.get_running_loop().time()
        answered = asyncio.create_task(wire.answer())
        while not answered.done():
            wire.send(b"a: b\r\n")
            await asyncio.wait([answered], timeout=0.02)
        assert_refused(answered.result(), 408)
        assert asyncio.get_running_loop().time() - began < 1


async def test_the_second_request_of_a_connection_has_its_own_time():
    async with served(SLOW) as server, await Wire.connect(server.port) as wire:
        wire.send(request(b"one"))
        assert (await wire.answer()).body == b"one"
        wire.send(b"POST /antom/no")
        assert_refused(await wire.answer(), 408)


async def test_empty_lines_do_not_keep_an_idle_connection():
    async with served(SLOW) as server, await Wire.connect(server.port) as wire:
        wire.send(request(b"one"))
        assert (await wire.answer()).body == b"one"
        wire.send(b"\r\n")
        assert_refused(await wire.answer(), 408)


async def test_an_idle_connection_is_closed():
    limits = HttpLimits(keep_alive_seconds=0)
    async with served(limits) as server, await Wire.connect(server.port) as wire:
        wire.send(request(b"one"))
        assert (await wire.answer()).body == b"one"
        assert await wire.is_closed()


async def test_an_answer_that_takes_long_is_the_application_s_affair():
    async with served(HttpLimits(request_seconds=0.05)) as server:
        server.hold = asyncio.Event()
        async with await Wire.connect(server.port) as wire:
            wire.send(request(b"one"))
            asyncio.get_running_loop().call_later(0.2, server.hold.set)
            assert (await wire.answer()).body == b"one"


# Size


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"POST /" + b"a" * 100_000, id="a path"),
        pytest.param(b"POST / HTTP/1.1\r\nsignature: " + b"a" * 100_000, id="one header"),
        pytest.param(b"POST / HTTP/1.1\r\n" + b"a" * 100_000, id="a header's name"),
        pytest.param(
            b"POST / HTTP/1.1\r\n" + b"".join(b"h%d: %s\r\n" % (n, b"v" * 999) for n in range(60)),
            id="many headers",
        ),
        pytest.param(b"\r\n" * 50_000, id="empty lines"),
    ],
)
async def test_a_head_of_more_than_16_kib_is_answered_431(head):
    async with served() as server:
        assert_refused(await ask(server.port, head), 431)
        assert server.refusals == ["head_bytes"]


async def test_a_head_of_16_kib_is_taken():
    async with served() as server:
        plain = request(b"one", headers=[("h", "")])
        room = 16 * 1024 - (len(plain) - len(b"one"))
        answer = await ask(server.port, request(b"one", headers=[("h", "v" * room)]))
        assert answer.body == b"one"
        assert_refused(await ask(server.port, request(headers=[("h", "v" * (room + 1))])), 431)


async def test_64_headers_are_taken_and_no_more():
    async with served() as server:
        most = [(f"h{n}", "v") for n in range(62)]
        assert (await ask(server.port, request(b"one", headers=most))).body == b"one"
        assert_refused(await ask(server.port, request(headers=[*most, ("h", "v")])), 431)
        assert server.refusals == ["headers"]


async def test_a_body_of_64_kib_is_taken_and_no_more():
    async with served() as server:
        most = b"b" * 65_536
        assert (await ask(server.port, request(most))).body == most
        assert_refused(await ask(server.port, request(most + b"b")), 413)
        assert len(server.bodies) == 1


async def test_a_body_that_announces_itself_as_too_large_is_refused_before_it_comes():
    async with served() as server:
        head = request(headers=[("content-length", "1000000000")], framed=False)
        assert_refused(await ask(server.port, head), 413)


async def test_a_chunked_body_is_counted_while_it_comes():
    async with served() as server:
        head = request(headers=[("transfer-encoding", "chunked")], framed=False)
        chunk = b"4000\r\n" + b"b" * 0x4000 + b"\r\n"
        assert_refused(await ask(server.port, head + chunk * 5), 413)
        assert (server.refusals, server.cut) == (["body_bytes"], 1)


async def test_a_refusal_reaches_a_client_that_is_still_sending():
    async with served() as server:
        answer = await ask(server.port, request(b"b" * 5_000_000))
        assert_refused(answer, 413)


async def test_a_client_that_does_not_stop_sending_is_cut():
    async with served(SLOW) as server, await Wire.connect(server.port) as wire:
        wire.send(request(headers=[("content-length", "1000000000")], framed=False))
        assert_refused(await wire.answer(), 413)
        with pytest.raises(ConnectionError):
            await send_for_ever(wire)


async def test_memory_stays_flat_under_large_heads_and_bodies():
    async with served(HttpLimits(linger_seconds=0.05)) as server:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        heads = [b"POST / HTTP/1.1\r\nh: " + b"a" * 4_000_000] * 10
        bodies = [request(b"b" * 4_000_000)] * 10
        answers = [await ask(server.port, data) for data in heads + bodies]
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert {answer.status for answer in answers if answer} <= {431, 413}
    # The client's own buffers are in this process too: a few times one message, not twenty.
    assert after - before < 40_000


# Framing


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            request(
                b"5\r\nhello\r\n0\r\n\r\n",
                headers=[("content-length", "15"), ("transfer-encoding", "chunked")],
                framed=False,
            ),
            id="both lengths",
        ),
        pytest.param(
            request(
                b"5\r\nhello\r\n0\r\n\r\n",
                headers=[("transfer-encoding", "chunked"), ("content-length", "15")],
                framed=False,
            ),
            id="both lengths, the other way round",
        ),
        pytest.param(
            request(b"hello", headers=[("content-length", "5")]), id="the same length twice"
        ),
        pytest.param(request(b"hello", headers=[("content-length", "4")]), id="two lengths"),
        pytest.param(request(headers=[("content-length", "-1")], framed=False), id="negative"),
        pytest.param(request(headers=[("content-length", "+5")], framed=False), id="signed"),
        pytest.param(request(headers=[("content-length", "5, 5")], framed=False), id="a list"),
        pytest.param(request(headers=[("content-length", "9" * 40)], framed=False), id="overflow"),
        pytest.param(
            request(headers=[("transfer-encoding", "gzip, chunked")], framed=False), id="encodings"
        ),
        pytest.param(
            request(headers=[("transfer-encoding", "identity")], framed=False), id="identity"
        ),
        pytest.param(
            request(headers=[("transfer-encoding", "chunked")] * 2, framed=False),
            id="twice chunked",
        ),
        pytest.param(
            request(headers=[("transfer-encoding", "chunked")], framed=False).replace(
                b"HTTP/1.1", b"HTTP/1.0"
            ),
            id="chunked in HTTP/1.0",
        ),
        pytest.param(
            request(headers=[("transfer-encoding", "chunked")], framed=False) + b"5x\r\nhello",
            id="a chunk's length is no number",
        ),
        pytest.param(
            request(headers=[("transfer-encoding", "chunked")], framed=False)
            + b"5\r\nhello\r\n0\r\nsignature: forged\r\n\r\n",
            id="a trailer",
        ),
        pytest.param(request(b"one", headers=[("Host", "merchant.example")]), id="two hosts"),
        pytest.param(request(headers=[("content-length ", "0")], framed=False), id="blank in name"),
        pytest.param(request(headers=[("h", "a\rb")]), id="a bare CR"),
        pytest.param(request(headers=[("h", "a\x00b")]), id="a NUL"),
        pytest.param(request(headers=[("h", "a\n folded")]), id="folded"),
        pytest.param(request(target="merchant.example:443", method="CONNECT"), id="CONNECT"),
        pytest.param(
            request(method="GET", headers=[("connection", "upgrade"), ("upgrade", "websocket")]),
            id="an upgrade",
        ),
        pytest.param(request(target="/\xe9t\xe9"), id="a path that is not ASCII"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"\x00" * 64, id="garbage"),
    ],
)
async def test_ambiguous_or_broken_framing_is_answered_400(data):
    async with served() as server:
        assert_refused(await ask(server.port, data), 400)
        assert server.bodies == []
        assert len(server.refusals) == 1


async def test_http_1_0_is_answered_and_closed():
    async with served() as server, await Wire.connect(server.port) as wire:
        wire.send(request(b"one").replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (await wire.answer()).body == b"one"
        assert await wire.is_closed()


@pytest.mark.parametrize("apart", [False, True])
async def test_of_pipelined_requests_only_the_first_is_answered(apart):
    async with served() as server:
        server.hold = asyncio.Event()
        async with await Wire.connect(server.port) as wire:
            wire.send(request(b"one") + (b"" if apart else request(b"two")))
            if apart:
                await server.came.wait()
                wire.send(request(b"two"))
                await ask(server.port, b"\x00")  # by now the second has been read, too
            server.hold.set()
            answer = await wire.answer()
            assert answer.body == b"one"
            assert answer.headers["connection"] == "close"
            assert await wire.is_closed()
        assert server.bodies == [b"one"]


# Counts


async def test_a_connection_is_closed_after_its_last_request():
    limits = HttpLimits(requests_per_connection=2)
    async with served(limits) as server, await Wire.connect(server.port) as wire:
        wire.send(request(b"one"))
        assert "connection" not in (await wire.answer()).headers
        wire.send(request(b"two"))
        assert (await wire.answer()).headers["connection"] == "close"
        assert await wire.is_closed()


async def test_when_all_are_being_answered_one_connection_too_many_is_answered_503():
    async with (
        served(HttpLimits(connections=2)) as server,
        await Wire.connect(server.port) as first,
        await Wire.connect(server.port) as second,
    ):
        server.hold = asyncio.Event()
        for wire in (first, second):
            server.came.clear()
            wire.send(request(b"one"))
            await server.came.wait()
        async with await Wire.connect(server.port) as third:
            assert_refused(await third.answer(), 503)
        assert server.refusals == ["connections"]
        server.hold.set()
        assert (await first.answer()).body == b"one"
        assert (await second.answer()).body == b"one"


@pytest.mark.parametrize("sent", [b"", b"POST / HT", request(b"whole")[:-1]])
async def test_one_connection_too_many_takes_the_place_of_the_one_that_waited_longest(sent):
    async with (
        served(HttpLimits(connections=2)) as server,
        await Wire.connect(server.port) as first,
        await Wire.connect(server.port) as second,
    ):
        first.send(request(b"one"))  # and waits from the answer on
        assert (await first.answer()).body == b"one"
        second.send(sent)
        async with await Wire.connect(server.port) as third:
            third.send(request(b"three"))
            assert (await third.answer()).body == b"three"
            assert await second.is_closed()
            first.send(request(b"two"))
            assert (await first.answer()).body == b"two"
        assert server.refusals == ["connections"]


async def test_idle_connections_without_end_do_not_keep_a_request_out():
    async with served(HttpLimits(connections=8)) as server, contextlib.AsyncExitStack() as held:
        for _ in range(10):
            for _ in range(16):
                await held.enter_async_context(await Wire.connect(server.port))
            assert (await ask(server.port, request(b"one"))).body == b"one"


async def test_stopping_answers_what_is_under_way():
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(served())
        server.hold = asyncio.Event()
        async with await Wire.connect(server.port) as wire, await Wire.connect(server.port) as idle:
            wire.send(request(b"one"))
            await server.came.wait()
            stopped = asyncio.create_task(stack.aclose())
            assert await idle.is_closed()
            server.hold.set()
            answer = await wire.answer()
            assert (answer.body, answer.headers["connection"]) == (b"one", "close")
            assert await wire.is_closed()
            await stopped
        with pytest.raises(ConnectionRefusedError):
            await Wire.connect(server.port)


async def test_an_address_in_use_is_an_os_error():
    async with served() as server:
        config = uvicorn_config(server.app, limits=HttpLimits(), count_refusal=print)
        with pytest.raises(OSError, match="in use"):
            async with serving(config, host="127.0.0.1", port=server.port):
                pass
