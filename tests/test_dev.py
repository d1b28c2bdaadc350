"""`antom-payments dev`: the whole product for a developer, in one terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from antom_payments.client import Earliest, terminal
from antom_payments.dev import LocalPorts, LocalStack, local_stack
from antom_payments.errors import ConfigurationError
from antom_payments.keygen import write_key_pair
from processes import Running, environment, processes_about, running

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
    async with running("dev", "--folder", str(folder), *ON_FREE_PORTS) as developer:
        address, buyer = await told(developer)
        commands = [line.strip() for line in developer.lines if line.startswith("  antom-payments")]
        assert commands == [
            f"antom-payments watch --earliest --address {address}",
            "antom-payments create-session --payment-request-id pay-1 --amount 4200 "
            f"--currency SGD --address {address}",
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


async def test_when_one_process_ends_all_end_and_keys_that_were_there_are_kept(
    tmp_path: Path,
) -> None:
    private_file, _ = write_key_pair(tmp_path, "merchant")
    before = private_file.read_text()
    async with running("dev", "--folder", str(tmp_path), *ON_FREE_PORTS) as developer:
        await told(developer)
        os.kill(_process_id("notifications", tmp_path), signal.SIGKILL)
        assert await developer.ended() == 1
    assert developer.lines[-1] == "The sidecar ended by itself; see its lines above.\n"
    assert private_file.read_text() == before
    assert processes_about(tmp_path) == []


def _process_id(command: str, folder: Path) -> int:
    """The process of ``command`` that works on ``folder``."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = process.joinpath("cmdline").read_bytes().split(b"\0")
            if command.encode() in arguments and str(folder).encode() in (
                process.joinpath("environ").read_bytes()
            ):
                return int(process.name)
    raise AssertionError(f"no process of {command}")


async def test_a_port_that_is_taken_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port}: is taken"):
            async with local_stack(tmp_path, LocalPorts(0, 0, 0, port), say=print):
                pass
    assert list(tmp_path.iterdir()) == []


def test_free_ports_are_four_different_ones() -> None:
    chosen = LocalPorts(0, 0, 0, 0).chosen()
    assert len({chosen.grpc, chosen.notifications, chosen.health, chosen.emulator}) == 4


def test_a_port_that_is_asked_for_stays_as_it_is() -> None:
    free = LocalPorts(0, 0, 0, 0).chosen()
    assert free.chosen() == free


async def test_a_process_that_cannot_start_is_named_and_the_others_end(tmp_path: Path) -> None:
    lines: list[str] = []
    broken = environment({"stream_life_seconds": "for ever"})
    with pytest.raises(RuntimeError, match="the server ended with exit code 2"):
        async with local_stack(
            tmp_path, LocalPorts(0, 0, 0, 0), say=lines.append, environment=broken
        ):
            pass
    assert any("server" in line and "STREAM_LIFE_SECONDS" in line for line in lines)
    assert processes_about(tmp_path) == []


async def test_the_first_process_that_ends_is_named() -> None:
    waiting, ended = (
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE
        )
        for code in ("input()", "pass")
    )
    stack = LocalStack("", "", "", {}, {"server": waiting, "sidecar": ended})
    assert await stack.first_ended() == "sidecar"
    await waiting.communicate(b"\n")
