"""`antom-payments dev`: the whole product for a developer, in one terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from dataclasses import astuple
from pathlib import Path

import httpx
import pytest

from antom_payments import dev
from antom_payments.client import Earliest, terminal
from antom_payments.dev import LocalPorts, LocalStack, local_stack
from antom_payments.errors import ConfigurationError
from antom_payments.keygen import write_key_pair
from processes import Running, left_in, processes_about, running

ON_FREE_PORTS = (*("--grpc-port", "0", "--notification-port", "0", "--emulator-port", "0"),)


async def told(developer: Running) -> tuple[str, str]:
    """Wait until everything is ready; where gRPC is, and the command that plays the buyer."""
    ready = await developer.line_with("Ready.")
    address = re.search(r"on (127\.0\.0\.1:\d+);", ready)
    buyer = await developer.line_with("curl")
    assert address
    await developer.line_with("Ctrl-C")
    return address[1], buyer.strip()


async def test_a_developer_takes_a_payment_as_told_and_sigterm_leaves_no_process(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "dev"
    # The developer's own database is left alone.
    theirs = {"database_url_file": tmp_path / "url"}
    async with running(
        "dev", "--folder", str(folder), *ON_FREE_PORTS, settings=theirs
    ) as developer:
        address, buyer = await told(developer)
        metrics = {
            words[1]: words[2]
            for line in developer.lines
            if (
                words := re.match(r"Metrics of the (\w+): (http://127\.0\.0\.1:\d+/metrics)$", line)
            )
        }
        async with httpx.AsyncClient(trust_env=False) as http:
            for process, url in metrics.items():
                assert "antom_payments_build_info" in (await http.get(url)).text, process
        assert set(metrics) == {"server", "sidecar"}
        commands = [line.strip() for line in developer.lines if line.startswith("  antom-payments")]
        create = "create-session --payment-request-id pay-1 --amount 4200 --currency SGD"
        assert commands == [
            f"antom-payments watch --earliest --address {address}",
            f"antom-payments {create} --address {address}",
        ]
        wish = terminal.SessionWish(
            payment_request_id="pay-1",
            minor_units=4200,
            currency_code="SGD",
            reference_order_id="order-1",
        )
        async with terminal.connected(address) as payments:
            await payments.create_session(wish.request())
            curl = re.fullmatch(
                r"curl -d '(.*)' (http://127\.0\.0\.1:\d+/emulator/buyer/pay-1)", buyer
            )
            assert curl
            async with httpx.AsyncClient(trust_env=False) as http:
                paid = await http.post(curl[2], content=curl[1])
            assert paid.status_code == 200, paid.text
            events = payments.follow(Earliest(), final_states_only=True)
            async with contextlib.aclosing(aiter(events)) as final:
                captured = await anext(final)
            assert captured.payment.captured_amount.minor_units == 4200
        assert any(line.startswith("sidecar  | ") for line in developer.lines)
        assert await developer.end(signal.SIGTERM) == 0
    assert "Traceback" not in "".join(developer.lines)
    assert processes_about(folder) == []
    assert {path.name for path in folder.iterdir()} >= {
        *("payments.db", "data_key.txt"),
        *(
            f"{owner}_{half}_key.txt"
            for owner in ("merchant", "antom")
            for half in ("private", "public")
        ),
    }


async def test_a_port_that_is_taken_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port}: is taken"):
            async with local_stack(tmp_path, LocalPorts(0, 0, 0, port, 0), say=print):
                pass
    assert left_in(tmp_path) == []


def test_free_ports_are_five_different_ones() -> None:
    chosen = LocalPorts(0, 0, 0, 0, 0).chosen()
    assert len(set(astuple(chosen))) == 5


def test_a_port_that_is_asked_for_stays_as_it_is() -> None:
    free = LocalPorts(0, 0, 0, 0, 0).chosen()
    assert free.chosen() == free


def test_keys_that_are_there_are_kept(tmp_path: Path) -> None:
    private_file, _ = write_key_pair(tmp_path, "merchant")
    before = private_file.read_text()
    first = dev._describe(tmp_path, LocalPorts())
    data_key = (tmp_path / "data_key.txt").read_text()
    assert dev._describe(tmp_path, LocalPorts()) == first
    assert private_file.read_text() == before
    assert (tmp_path / "data_key.txt").read_text() == data_key


@contextlib.asynccontextmanager
async def a_process(name: str, code: str, say: Callable[[str], None]) -> AsyncIterator[Process]:
    async with dev._process(name, [sys.executable, "-c", code], os.environ, say) as process:
        yield process


async def test_a_process_that_cannot_start_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code = "print('error: no such luck'); raise SystemExit(2)"
    async with a_process("server", code, print) as process:
        with pytest.raises(RuntimeError, match="the server ended with exit code 2"):
            await dev._ready("server", process, LocalPorts(0, 0, 0, 0, 0))
    assert capsys.readouterr().out == "server   | error: no such luck\n"


async def test_a_process_that_is_deaf_to_sigterm_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dev, "_STOP_SECONDS", 0.01)
    heard = asyncio.Event()
    deaf = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('ready', flush=True); signal.pause()"
    )
    async with a_process("sidecar", deaf, lambda _: heard.set()) as process:
        await heard.wait()
    assert process.returncode == -signal.SIGKILL


async def test_when_one_process_ends_by_itself_everything_ends_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @contextlib.asynccontextmanager
    async def short_lived(*_: object, **__: object) -> AsyncIterator[LocalStack]:
        async with (
            a_process("server", "import signal; signal.pause()", print) as server,
            a_process("sidecar", "pass", print) as sidecar,
        ):
            processes = {"server": server, "sidecar": sidecar}
            yield LocalStack("127.0.0.1:50051", "", "", {}, processes)
        assert server.returncode == -signal.SIGTERM

    monkeypatch.setattr(dev, "local_stack", short_lived)
    said: list[str] = []
    assert await dev.run_dev(tmp_path, LocalPorts(), say=said.append) == 1
    assert said[-1] == "The sidecar ended by itself; see its lines above."
    assert "  antom-payments watch --earliest" in said
