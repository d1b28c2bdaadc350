"""The command line: help, exit codes, words in place of tracebacks, and its calls for real."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

from antom_payments import __main__ as command_line
from antom_payments.antom.signing import load_private_key
from antom_payments.client import Earliest
from antom_payments.emulator import Step
from antom_payments.keygen import write_data_key, write_key_pair
from antom_payments.settings import PREFIX, Settings, variable
from antom_payments.storage import payment_store
from antom_payments.store import new_data_key
from clock import FrozenClock
from keys import golden_pair
from processes import Typed, as_environment, run, running, typing
from stored import confirmed
from whole import CLIENT_ID, Shop, settings, shop_on

COMMANDS = {
    *("serve", "notifications", "emulator", "dev", "demo", "migrate", "keygen", "config"),
    *("create-session", "get-payment", "watch"),
    *("quarantine list", "quarantine show", "quarantine replay", "quarantine discard"),
    *("orphans list", "erase", "inquire", "reinquire", "audit list"),
    *("prune", "add-data-key", "rotate-data-key"),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of whoever runs the tests."""
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    return typing(monkeypatch, capsys)


# Help and usage


def commands_of(group: Any, *before: str) -> Iterator[tuple[str, Any]]:
    """Every command with its words, those of groups included."""
    for name, command in group.commands.items():
        assert command.help, name
        if hasattr(command, "commands"):
            yield from commands_of(command, *before, name)
        else:
            yield " ".join([*before, name]), command


def test_every_command_and_each_of_its_options_is_explained() -> None:
    commands = dict(commands_of(typer.main.get_command(command_line.cli)))
    assert set(commands) == COMMANDS
    for name, command in commands.items():
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_is_shown(typed: Typed, command: str) -> None:
    shown = typed(*command.split(), "--help")
    assert shown.code == 0
    assert f"{command} [OPTIONS]" in shown.out


def test_without_a_command_the_help_is_shown(typed: Typed) -> None:
    shown = typed()
    assert shown.code == 2
    assert all(command.split()[0] in shown.out + shown.err for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pay"], "No such command 'pay'"),
        (["create-session", "--amount", "1", "--currency", "SGD"], "--payment-request-id"),
        (["create-session", "--payment-request-id", "p", "--amount", "x"], "--amount"),
        (["watch", "--until", "tomorrow"], "--until"),
        (
            ["watch", "--after", "c", "--earliest"],
            "expected one of --after, --earliest, --at and --snapshot",
        ),
        (["watch", "--at", "yesterday"], "yesterday: expected 2026-03-02T09:30:00Z, or 30m"),
        (["quarantine", "delete", "n-1"], "No such command 'delete'"),
        (["emulator", "--antom-private-key", "k"], "--merchant-public-key"),
    ],
)
def test_wrong_usage_is_explained_with_exit_code_2(
    typed: Typed, arguments: list[str], expected: str
) -> None:
    shown = typed(*arguments)
    assert shown.code == 2
    assert expected in shown.err
    assert "Traceback" not in shown.err


# Errors in words


@pytest.mark.parametrize("amount", ["42.00", "42,00", "-42", "4e3", "4_200", ""])
def test_an_amount_is_a_whole_number_of_the_smallest_unit(typed: Typed, amount: str) -> None:
    """42.00 read as 42 would be SGD 0.42."""
    wish = ("--payment-request-id", "pay-1", "--currency", "SGD", f"--amount={amount}")
    ended = typed("create-session", *wish)
    assert ended.code == 2
    assert "without a point" in ended.err


def test_an_empty_id_is_refused_in_words(typed: Typed) -> None:
    ended = typed("get-payment", "")
    assert ended.code == 2
    assert "payment_request_id is empty" in ended.err


def test_the_version_is_shown(typed: Typed) -> None:
    ended = typed("--version")
    assert ended.code == 0
    assert ended.out.startswith("antom-payments 0.")


@pytest.mark.parametrize(
    "command", ["serve", "notifications", "migrate", "config", "quarantine list", "inquire pay-1"]
)
def test_a_wrong_setting_is_named_with_exit_code_2(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv(PREFIX + "GRPC_ADDRESS", "[50051]")
    shown = typed(*command.split())
    assert shown.code == 2
    assert shown.err.startswith(f"error: {PREFIX}GRPC_ADDRESS: expected host:port")
    assert shown.out == ""


def test_a_database_that_cannot_be_reached_is_told_with_its_kind_of_failure(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    monkeypatch.setenv(PREFIX + "DATABASE_URL", f"postgresql://u:s3cret@127.0.0.1:{port}/none")
    shown = typed("migrate")
    assert shown.code == 1
    assert shown.err == "error: the database cannot be used now (ConnectionRefusedError)\n"


def test_a_folder_that_cannot_be_made_is_told_in_words(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shown = typed("keygen", str(tmp_path / "file" / "keys"))
    assert shown.code == 1
    assert "Not a directory" in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--address", "127.0.0.1:65536", "error: --address: expected host:port"),
        ("--antom-private-key", "/nowhere", "error: /nowhere: cannot be read"),
        ("--merchant-public-key", "KEYS/merchant_private_key.txt", "found a private one"),
        ("--client-id", "a b", "a client id has 1 to 64 letters"),
        ("--clock-scale", "-1", "clock_scale: must be a number of 0 or more"),
        ("--antom-next-private-key", "KEYS/merchant_public_key.txt", "found a public one"),
        ("--faults", "/nowhere", "error: /nowhere: cannot be read"),
        ("--faults", "KEYS/merchant_public_key.txt", "error: --faults: "),
        ("--faults", "KEYS/faults.json", "faults: NEXT_KEY needs"),
    ],
)
def test_what_the_emulator_cannot_start_with_is_named(
    typed: Typed, tmp_path: Path, option: str, value: str, expected: str
) -> None:
    write_key_pair(tmp_path, "merchant")
    (tmp_path / "faults.json").write_text('{"answers": [{"fault": "NEXT_KEY"}]}')
    options = {
        "--antom-private-key": str(tmp_path / "merchant_private_key.txt"),
        "--merchant-public-key": str(tmp_path / "merchant_public_key.txt"),
    } | {option: value.replace("KEYS", str(tmp_path))}
    shown = typed("emulator", *(text for pair in options.items() for text in pair))
    assert shown.code == 2
    assert expected in shown.err


@pytest.mark.parametrize("command", ["dev", "demo"])
def test_what_a_command_returns_is_the_exit_code(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    async def failed(*_: object, **__: object) -> int:
        return 1

    monkeypatch.setattr(f"antom_payments.{command}.run_{command}", failed)
    assert typed(command).code == 1


SIGNALLED = """
import asyncio, os, signal, sys
from antom_payments import __main__ as command_line

number = int(sys.argv[1])
# Whatever the shell that runs the tests has set.
usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
signal.signal(number, signal.SIG_IGN if "ignored" in sys.argv else usual)

async def work():
    try:
        os.kill(os.getpid(), number)
        if "ignored" not in sys.argv:
            await asyncio.Event().wait()
    finally:
        print("cleaned up")
    print("went on")
    return 0

command_line._run(work())
"""


def _signalled(number: signal.Signals, *arguments: str) -> str:
    """What a process of its own prints that gets the signal while a command works."""
    ended = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(int(number)), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ended.stdout


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_normal_end_after_the_cleaning_up(number: signal.Signals) -> None:
    assert _signalled(number).split("\n") == ["cleaned up", ""]


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    assert _signalled(signal.SIGHUP, "ignored").split("\n") == ["cleaned up", "went on", ""]


# Settings, keys and the schema


def test_config_shows_every_setting_and_no_secret(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "DATABASE_URL", f"postgresql://teller:s3cret@{'h' * 90}/payments")
    monkeypatch.setenv(PREFIX + "CLIENT_ID", "SANDBOX_5X")
    shown = typed("config")
    assert shown.code == 0
    told = dict(line.split(maxsplit=1) for line in shown.out.splitlines() if " " in line)
    assert told[PREFIX + "DATABASE_URL"] == f"postgresql://teller:***@{'h' * 90}/payments"
    assert told[PREFIX + "CLIENT_ID"] == "SANDBOX_5X"
    as_json = json.loads(typed("config", "--json").out)
    assert set(as_json) == {variable(field) for field in Settings.model_fields}
    assert "s3cret" not in f"{shown} {as_json}"


def test_config_hints_at_a_variable_that_nobody_reads(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "CLIENTID", "SANDBOX_5X")
    shown = typed("config")
    assert shown.code == 0
    assert shown.err == (
        f"warning: there is no setting {PREFIX}CLIENTID; did you mean {PREFIX}CLIENT_ID?\n"
    )


def test_keygen_writes_keys_once(typed: Typed, tmp_path: Path) -> None:
    folder = tmp_path / "[keys] of a merchant"
    shown = typed("keygen", str(folder))
    assert shown.code == 0
    names = ["merchant_private_key.txt", "merchant_public_key.txt", "data_key.txt"]
    assert [line for line in shown.out.splitlines() if line.startswith("/")] == [
        str(folder / name) for name in names
    ]
    texts = [(folder / name).read_text() for name in names]
    load_private_key(texts[0], setting="test")
    assert not any(text.strip() in shown.out for text in texts)

    again = typed("keygen", str(folder))
    assert again.code == 2
    assert "never overwritten" in again.err
    assert [(folder / name).read_text() for name in names] == texts


def test_migrate_can_be_repeated(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, empty_database_url: str
) -> None:
    monkeypatch.setenv(PREFIX + "DATABASE_URL", empty_database_url)
    first = typed("migrate")
    assert first.code == 0
    assert first.out.startswith("The schema is at revision ")
    assert typed("migrate") == first


def test_a_data_key_is_rotated_and_what_is_over_is_pruned_by_commands(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in as_environment(settings(tmp_path)).items():
        monkeypatch.setenv(variable(name), str(value))
    file = tmp_path / "data_key_file"
    empty = "Removed 0 events.\nRemoved 0 raw notifications.\nRemoved 0 payments' private data.\n"
    assert typed("migrate").code == 0
    assert typed("prune").out == f"{empty}The log is empty.\n"
    asyncio.run(_keep_a_session(tmp_path))

    would = typed("prune", "--dry-run")
    assert would.out.startswith("Would remove 0 events.\n")
    assert "Would remove 1 payments' private data.\n" in would.out
    assert "The log begins with event 1, of 2" in would.out
    old = file.read_text()
    added = typed("add-data-key")
    assert added.code == 0
    assert f"{file}\n  holds 2 keys now" in added.out
    assert not any(key in added.out for key in file.read_text().split())
    asked = typed("rotate-data-key", "--check")
    assert asked.code == 1
    assert "1 of 1 rows still need an older key" in asked.out
    done = typed("rotate-data-key")
    assert done.code == 0
    assert "Re-encrypted 1 of 1 rows with the newest key." in done.out
    assert "All 1 rows need the newest key only. If a process has run with the old file" in done.out
    assert "remove the older lines only when it then re-encrypts nothing." in done.out
    file.write_text(old)
    foreign = typed("rotate-data-key", "--check")
    assert foreign.code == 2
    assert f"{PREFIX}DATA_KEY_FILE: expected the key" in foreign.err
    file.write_text(new_data_key() + "\n" + old)
    assert typed("prune").code == 2


async def _keep_a_session(folder: Path) -> None:
    """A session of long ago, as a server would have stored it."""
    chosen = settings(folder)
    async with payment_store(chosen, FrozenClock().now) as store:
        await confirmed(store)


def test_a_key_is_added_to_the_file_that_is_named(typed: Typed, tmp_path: Path) -> None:
    file = write_data_key(tmp_path)
    assert typed("add-data-key", str(file)).code == 0
    assert len(file.read_text().splitlines()) == 2
    unset = typed("add-data-key")
    assert unset.code == 2
    assert f"{PREFIX}DATA_KEY_FILE: expected the path of a file" in unset.err


# Calls to a real server


async def test_sessions_payments_and_events_on_the_command_line(tmp_path: Path) -> None:
    async with shop_on(f"sqlite:///{tmp_path / 'p.db'}", tmp_path) as shop:
        at = ("--address", f"127.0.0.1:{shop.port}")
        order = ("--payment-request-id", "pay-1", "--amount", "4200")
        made = await run("create-session", *order, "--currency", "SGD", *at)
        assert made.code == 0, made.err
        answer = json.loads(made.out)
        assert answer["payment"]["state"] == "PAYMENT_STATE_AWAITING_BUYER"
        assert answer["session"]["paymentSessionData"]
        async with running("watch", "--json", "--after", answer["cursor"], *at) as watching:
            read, unknown, reused, nobody = await asyncio.gather(
                run("get-payment", "pay-1", *at),
                run("get-payment", "pay-2", *at),
                run("create-session", *order, "--currency", "USD", *at),
                run("get-payment", "pay-1", "--address", "127.0.0.1:1"),
            )
            await _approve(shop)
            told = [json.loads(await watching.line_with("{")) for _ in range(2)]
            assert await watching.end(signal.SIGINT) == 0
        assert json.loads(read.out)["payment"] == answer["payment"]
        assert (unknown.code, reused.code, nobody.code) == (1, 1, 1)
        assert nobody.err.startswith("error: UNAVAILABLE: ")
        assert "Connection refused" in nobody.err
        assert unknown.err == ("error: NOT_FOUND PAYMENT_NOT_FOUND: there is no such payment\n")
        assert reused.err.startswith("error: ALREADY_EXISTS PAYMENT_REQUEST_ID_REUSED: ")
        assert [one["event"]["type"].removeprefix("PAYMENT_EVENT_TYPE_") for one in told] == [
            "PAYMENT_AUTHORIZED",
            "CAPTURE_SUCCEEDED",
        ]
        assert told[-1]["cursor"]


async def _approve(shop: Shop) -> None:
    """Let the buyer pay, once the watcher could have missed it."""
    await shop.buyer(Step.APPROVE)
    async with shop.following(Earliest()) as follower:
        await follower.until(3)


# Processes that serve


async def test_what_serves_ends_on_a_signal_with_exit_code_0(tmp_path: Path) -> None:
    chosen = as_environment(settings(tmp_path))
    (tmp_path / "antom").write_text(golden_pair("antom").private)
    (tmp_path / "merchant").write_text(golden_pair("merchant").public)
    (tmp_path / "faults").write_text('{"notifications": [{"fault": "NEXT_KEY", "times": 1}]}')
    emulator = (
        *("emulator", "--address", "127.0.0.1:0", "--client-id", CLIENT_ID),
        *("--antom-private-key", str(tmp_path / "antom")),
        *("--merchant-public-key", str(tmp_path / "merchant")),
        *("--antom-next-private-key", str(tmp_path / "antom")),
        *("--seed", "7", "--faults", str(tmp_path / "faults")),
    )
    async with (
        running("serve", settings=chosen) as server,
        running("notifications", settings=chosen | {"data_keyfile": ""}) as sidecar,
        running(*emulator) as antom,
    ):
        serving = json.loads(await server.line_with("grpc_serving"))
        assert serving["port"] > 0
        receiving = json.loads(await sidecar.line_with("notifications_serving"))
        assert receiving["path"] == "/antom/notify"
        hint = json.loads(sidecar.lines[0])
        assert hint["event"] == "setting_unknown"
        assert hint["meant"] == PREFIX + "DATA_KEY_FILE"
        antom_port = re.search(r"port=.*?(\d+)", await antom.line_with("emulator_serving"))
        assert antom_port
        async with httpx.AsyncClient(trust_env=False) as http:
            faults = await http.get(f"http://127.0.0.1:{antom_port[1]}/emulator/faults")
        assert (faults.json()["seed"], len(faults.json()["notifications"])) == (7, 1)
        codes = await asyncio.gather(
            server.end(signal.SIGTERM), sidecar.end(signal.SIGINT), antom.end(signal.SIGTERM)
        )
    assert codes == [0, 0, 0]
    lines = "".join(server.lines + sidecar.lines + antom.lines)
    assert "Traceback" not in lines
    assert json.loads(server.lines[-1])["event"] == "grpc_stopped"
