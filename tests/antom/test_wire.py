"""One request over real sockets: only a connection that failed means that nothing was sent."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from antom.wires import Behaviour, Server, Visit, authority, free_port, serving
from antom_payments.antom.wire import MAX_ANSWER_BYTES, Budgets, Wire, WireFailure, open_wire
from antom_payments.errors import AntomUnavailable, OutcomeUnknown

PATH = "/ams/api/v1/payments/inquiryPayment"
HASTY = Budgets(connect=0.3, read=0.3, total=0.6)


@asynccontextmanager
async def _wire_to(
    *behaviours: Behaviour, budgets: Budgets | None = None
) -> AsyncIterator[tuple[Wire, Server]]:
    async with serving(*behaviours) as server, open_wire(server.origin(), budgets=budgets) as wire:
        yield wire, server


async def _failure(wire: Wire, *, body: bytes = b"{}", seconds: float = 5.0) -> WireFailure:
    with pytest.raises(WireFailure) as failed:
        await wire.post(PATH, body, {"Client-Id": "c"}, seconds=seconds)
    assert failed.value.__cause__ is None  # what the wire said stays out of logs
    return failed.value


async def _ok(visit: Visit) -> None:
    await visit.answer(b'{"a":1}', {"Signature": "s"})


async def test_a_sound_answer_comes_back_as_it_is() -> None:
    async with _wire_to(_ok) as (wire, server):
        answer = await wire.post(PATH, b'{"x":1}', {"Client-Id": "c"}, seconds=5)
    assert answer.body == b'{"a":1}'
    assert answer.headers["sIGNATURE"] == "s"
    [request] = server.requests
    assert request.line == f"POST {PATH} HTTP/1.1"  # origin form
    assert request.body == b'{"x":1}'


async def test_a_request_carries_nothing_that_antom_need_not_know() -> None:
    async with _wire_to(_ok) as (wire, server):
        await wire.post(PATH, b"{}", {"Client-Id": "c", "Content-Type": "x"}, seconds=5)
    [request] = server.requests
    assert set(request.headers) == {
        *("host", "accept", "accept-encoding", "connection", "user-agent"),
        *("client-id", "content-type", "content-length"),
    }
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"].startswith("antom-payments/")


async def test_connections_are_kept_and_shared() -> None:
    async with _wire_to(_ok) as (wire, server):
        for _ in range(5):
            await wire.post(PATH, b"{}", {}, seconds=5)
    assert server.connections == 1


async def test_cookies_are_not_kept() -> None:
    async def baking(visit: Visit) -> None:
        await visit.answer(b"{}", {"Set-Cookie": "a=b; Path=/"})

    async with _wire_to(baking) as (wire, server):
        await wire.post(PATH, b"{}", {}, seconds=5)
        await wire.post(PATH, b"{}", {}, seconds=5)
    assert "cookie" not in server.requests[1].headers


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with _wire_to(_ok) as (wire, _):
        assert (await wire.post(PATH, b"{}", {}, seconds=5)).body


async def test_a_packed_answer_is_left_as_it_came() -> None:
    """The signature is over the bytes on the wire; and a bomb never goes off."""
    packed = gzip.compress(b'{"a":1}' * 1000)

    async def packing(visit: Visit) -> None:
        await visit.answer(packed, {"Content-Encoding": "gzip"})

    async with _wire_to(packing) as (wire, _):
        assert (await wire.post(PATH, b"{}", {}, seconds=5)).body == packed


# Nothing was sent.


async def test_refused_means_nothing_was_sent() -> None:
    async with open_wire(f"http://127.0.0.1:{free_port()}") as wire:
        failure = await _failure(wire)
    assert isinstance(failure.error, AntomUnavailable)
    assert failure.cause == "ClientConnectorError"


async def test_an_unknown_host_means_nothing_was_sent() -> None:
    async with open_wire("https://antom.invalid") as wire:
        failure = await _failure(wire, seconds=20)
    assert isinstance(failure.error, AntomUnavailable)
    assert failure.cause == "ClientConnectorDNSError"


async def test_an_untrusted_certificate_means_nothing_was_sent(tmp_path: Path) -> None:
    theirs, ours = authority(tmp_path / "theirs"), authority(tmp_path / "ours")
    async with serving(_ok, tls=theirs.server_tls) as server:
        for ca_file in (None, str(ours.ca_file)):  # the system's authorities, and one other
            async with open_wire(server.origin("https", "localhost"), ca_file=ca_file) as wire:
                failure = await _failure(wire)
            assert isinstance(failure.error, AntomUnavailable)
            assert failure.cause == "ClientConnectorCertificateError"
    assert server.requests == []


async def test_a_certificate_for_another_host_means_nothing_was_sent(tmp_path: Path) -> None:
    trusted = authority(tmp_path, host="another.example")
    async with (
        serving(_ok, tls=trusted.server_tls) as server,
        open_wire(server.origin("https", "localhost"), ca_file=str(trusted.ca_file)) as wire,
    ):
        failure = await _failure(wire)
    assert isinstance(failure.error, AntomUnavailable)
    assert server.requests == []


async def test_a_server_without_tls_means_nothing_was_sent() -> None:
    async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    plain = await asyncio.start_server(greeting, "127.0.0.1", 0)
    port = plain.sockets[0].getsockname()[1]
    async with plain, open_wire(f"https://127.0.0.1:{port}") as wire:
        failure = await _failure(wire)
    assert isinstance(failure.error, AntomUnavailable)


async def test_old_tls_means_nothing_was_sent(tmp_path: Path) -> None:
    trusted = authority(tmp_path)
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        trusted.server_tls.maximum_version = ssl.TLSVersion.TLSv1_1
    async with (
        serving(_ok, tls=trusted.server_tls) as server,
        open_wire(server.origin("https", "localhost"), ca_file=str(trusted.ca_file)) as wire,
    ):
        failure = await _failure(wire)
    assert isinstance(failure.error, AntomUnavailable)


async def test_a_handshake_that_never_ends_means_nothing_was_sent() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening, open_wire(f"https://127.0.0.1:{port}", budgets=HASTY) as wire:
        failure = await _failure(wire)
    assert isinstance(failure.error, AntomUnavailable)
    assert failure.cause == "ConnectionTimeoutError"


async def test_a_pool_without_a_free_place_means_nothing_was_sent() -> None:
    async def never(visit: Visit) -> None:
        await visit.until_left()

    async with (
        serving(never) as server,
        open_wire(
            server.origin(), connections=1, budgets=Budgets(connect=0.2, read=60, total=60)
        ) as wire,
    ):
        first = asyncio.ensure_future(_failure(wire))
        await server.arrived.wait()
        second = await _failure(wire)
        first.cancel()
    assert isinstance(second.error, AntomUnavailable)
    assert len(server.requests) == 1


async def test_trusted_tls_works(tmp_path: Path) -> None:
    trusted = authority(tmp_path)
    async with (
        serving(_ok, tls=trusted.server_tls) as server,
        open_wire(server.origin("https", "localhost"), ca_file=str(trusted.ca_file)) as wire,
    ):
        assert (await wire.post(PATH, b"{}", {}, seconds=5)).body


# The request had left: nobody knows.


async def _hangs_up(visit: Visit) -> None:
    await visit.hang_up()


async def _resets(visit: Visit) -> None:
    await visit.reset()


async def _resets_in_the_head(visit: Visit) -> None:
    await visit.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    await visit.reset()


async def _hangs_up_in_the_head(visit: Visit) -> None:
    await visit.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    await visit.hang_up()


async def _resets_in_the_body(visit: Visit) -> None:
    await visit.send(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"resu')
    await asyncio.sleep(0)
    await visit.reset()


async def _hangs_up_in_the_body(visit: Visit) -> None:
    await visit.send(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"resu')
    await visit.hang_up()


async def _hangs_up_in_a_chunk(visit: Visit) -> None:
    await visit.send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{"resu')
    await visit.hang_up()


async def _speaks_garbage(visit: Visit) -> None:
    await visit.send(b"\x00\x01\x02 4111111111111111 garbage\r\n\r\n")
    await visit.hang_up()


async def _speaks_garbage_in_headers(visit: Visit) -> None:
    await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}")


async def _speaks_garbage_in_chunks(visit: Visit) -> None:
    await visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")


async def _speaks_another_protocol(visit: Visit) -> None:
    await visit.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    await visit.hang_up()


async def _sends_endless_headers(visit: Visit) -> None:
    await visit.send(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 5000 + b"\r\n")


async def _sends_a_long_header(visit: Visit) -> None:
    await visit.send(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n")


@pytest.mark.parametrize(
    "behaviour",
    [
        *(_hangs_up, _resets, _resets_in_the_head, _hangs_up_in_the_head),
        *(_resets_in_the_body, _hangs_up_in_the_body, _hangs_up_in_a_chunk),
        *(_speaks_garbage, _speaks_garbage_in_headers, _speaks_garbage_in_chunks),
        *(_speaks_another_protocol, _sends_endless_headers, _sends_a_long_header),
    ],
)
async def test_whatever_goes_wrong_after_the_request_left_nobody_knows_the_outcome(
    behaviour: Behaviour,
) -> None:
    async with _wire_to(behaviour) as (wire, server):
        failure = await _failure(wire)
    assert isinstance(failure.error, OutcomeUnknown)
    assert failure.cause.isidentifier()
    assert len(server.requests) == 1  # and nothing below us repeats it


async def test_a_kept_connection_that_is_cut_leaves_the_outcome_unknown() -> None:
    """The transport maps this to a ConnectTimeout: the request was sent all the same."""
    async with _wire_to(_ok, _hangs_up) as (wire, server):
        await wire.post(PATH, b"{}", {}, seconds=5)
        failure = await _failure(wire)
    assert isinstance(failure.error, OutcomeUnknown)
    assert failure.cause == "ServerDisconnectedError"
    assert (len(server.requests), server.connections) == (2, 1)


@pytest.mark.parametrize(
    "status", ["500 Oops", "502 Bad", "503 Busy", "404 None", "401 No", "201 Made", "204 Empty"]
)
async def test_any_status_but_200_leaves_the_outcome_unknown(status: str) -> None:
    async def failing(visit: Visit) -> None:
        await visit.answer(b"" if status.startswith("204") else b"<html>502</html>", status=status)

    async with _wire_to(failing) as (wire, _):
        failure = await _failure(wire)
    assert isinstance(failure.error, OutcomeUnknown)
    assert failure.cause == f"http_{status[:3]}"


async def test_a_redirect_is_not_followed() -> None:
    async with serving(_ok) as elsewhere:

        async def redirecting(visit: Visit) -> None:
            await visit.answer(b"", {"Location": elsewhere.origin() + PATH}, status="302 Found")

        async with _wire_to(redirecting) as (wire, _):
            failure = await _failure(wire)
        assert failure.cause == "http_302"
        assert elsewhere.requests == []


async def test_an_answer_that_does_not_begin_meets_the_read_budget() -> None:
    async def silent(visit: Visit) -> None:
        await visit.until_left()

    async with _wire_to(silent, budgets=Budgets(read=0.2)) as (wire, server):
        failure = await _failure(wire)
        await asyncio.wait_for(server.left.wait(), 5)
    assert isinstance(failure.error, OutcomeUnknown)
    assert failure.cause == "SocketTimeoutError"


async def _drips(visit: Visit, head: bytes) -> None:
    await visit.send(head)
    while not visit.writer.is_closing():
        await visit.send(b" ")
        await asyncio.sleep(0.05)


async def test_a_dribbling_body_meets_the_total_budget() -> None:
    async def dribbling(visit: Visit) -> None:
        await _drips(visit, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")

    async with _wire_to(dribbling, budgets=HASTY) as (wire, server):
        began = time.monotonic()
        failure = await _failure(wire)
        took = time.monotonic() - began
        await asyncio.wait_for(server.left.wait(), 5)
    assert isinstance(failure.error, OutcomeUnknown)
    assert failure.cause == "TimeoutError"
    assert 0.5 < took < 3


async def test_slow_headers_meet_the_total_budget() -> None:
    async def dribbling(visit: Visit) -> None:
        await _drips(visit, b"HTTP/1.1 200 OK\r\nX-Slow:")

    async with _wire_to(dribbling, budgets=HASTY) as (wire, _):
        failure = await _failure(wire)
    assert isinstance(failure.error, OutcomeUnknown)


async def test_the_callers_time_bounds_every_budget() -> None:
    async def silent(visit: Visit) -> None:
        await visit.until_left()

    async with _wire_to(silent) as (wire, _):
        began = time.monotonic()
        failure = await _failure(wire, seconds=0.2)
    assert isinstance(failure.error, OutcomeUnknown)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_oversized_answer_is_cut_off(chunked: bool) -> None:
    async def flooding(visit: Visit) -> None:
        size = MAX_ANSWER_BYTES * 50
        if chunked:
            await visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        else:
            await visit.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(50):
            piece = b" " * MAX_ANSWER_BYTES
            await visit.send(b"100000\r\n" + piece + b"\r\n" if chunked else piece)

    async with _wire_to(flooding) as (wire, server):
        failure = await _failure(wire)
        await asyncio.wait_for(server.left.wait(), 5)
    assert isinstance(failure.error, OutcomeUnknown)
    assert failure.cause == "answer_too_large"


async def test_a_large_answer_within_the_limit_is_read() -> None:
    async def generous(visit: Visit) -> None:
        await visit.answer(b" " * MAX_ANSWER_BYTES)

    async with _wire_to(generous) as (wire, _):
        answer = await wire.post(PATH, b"{}", {}, seconds=5)
    assert len(answer.body) == MAX_ANSWER_BYTES


async def test_a_cancelled_call_leaves_no_connection_behind() -> None:
    async def silent(visit: Visit) -> None:
        await visit.until_left()

    async with serving(silent, _ok) as server, open_wire(server.origin(), connections=1) as wire:
        call = asyncio.ensure_future(wire.post(PATH, b"{}", {}, seconds=30))
        await server.arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.left.wait(), 5)
        # The only place in the pool is free again.
        assert (await wire.post(PATH, b"{}", {}, seconds=5)).body


async def test_a_failed_call_leaves_no_connection_behind() -> None:
    async def never_read(visit: Visit) -> None:
        await visit.send(b'HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\n{"resu')
        await visit.until_left()

    async with (
        serving(never_read, _ok) as server,
        open_wire(server.origin(), connections=1) as wire,
    ):
        assert (await _failure(wire)).cause == "http_500"
        assert (await wire.post(PATH, b"{}", {}, seconds=5)).body
