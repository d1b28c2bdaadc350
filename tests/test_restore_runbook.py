"""docs/restore.md, followed word for word: dumped, gone on, lost, restored, and put right."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from antom_payments.app import grpc_server
from antom_payments.client import AfterCursor, Earliest, LogRewound
from antom_payments.client.terminal import SessionWish
from antom_payments.emulator import BuyerAction, Step
from antom_payments.settings import Settings, variable
from antom_payments.v1.payment_pb2 import PaymentState
from docs_tables import ROOT
from dumps import connection_words, postgres_client
from processes import PATIENCE, as_environment, environment
from test_docs import blocks
from whole import Follower, caller, local_antom, settings, trust_one_authority

RUNBOOK = blocks((ROOT / "docs" / "restore.md").read_text("utf-8"), "sh")
OF_POSTGRES = re.compile(r"^(pg_dump|pg_restore) ")
OF_SQLITE = re.compile(r"^python3 -c 'import sqlite3")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of whoever runs the tests."""
    trust_one_authority(monkeypatch, tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)


class Operator:
    """Types the runbook's commands in a shell of the server's environment."""

    def __init__(self, folder: Path, chosen: Settings, more: dict[str, str]) -> None:
        self.folder = folder
        self.typed: list[str] = []
        self._env = environment(as_environment(chosen)) | more
        self._programs = folder / "bin"
        self._programs.mkdir()
        self._env["PATH"] = f"{self._programs}:{Path(sys.executable).parent}:{self._env['PATH']}"

    def serve_at(self, port: int) -> None:
        """Let the commands that call the server find it: it is not at the usual port."""
        program = self._programs / "antom-payments"
        program.write_text(
            "#!/bin/sh\n"
            'case "$1" in watch) '
            f'set -- "$@" --address 127.0.0.1:{port};; esac\n'
            f'exec {sys.executable} -m antom_payments "$@"\n'
        )
        program.chmod(0o755)

    def watch_for(self, events: int) -> None:
        """Let the last watch end once it has shown so many events, and not after a minute."""
        program = self._programs / "timeout"
        program.write_text(
            "#!/bin/sh\nshift\n"
            '"$@" & watching=$!\n'
            f"while [ $(wc -l < log.jsonl) -lt {events} ]; do sleep 0.05; done\n"
            "kill $watching; wait $watching; exit 124\n"
        )
        program.chmod(0o755)

    def link(self, *programs: str) -> None:
        for program in programs:
            (self._programs / program).symlink_to(postgres_client(program))

    async def type(self, command: str) -> str:
        """Run one command; what it prints."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", command),
            cwd=self.folder,
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 0, f"{command}{out.decode()}{err.decode()}"
        self.typed.append(command)
        return out.decode()


def wish(payment_request_id: str) -> SessionWish:
    return SessionWish(
        payment_request_id=payment_request_id,
        minor_units=4200,
        currency_code="SGD",
        reference_order_id=f"order-of-{payment_request_id}",
    )


async def follow_runbook(operator: Operator, commands: list[str], chosen: Settings, antom) -> None:
    dump, restore, *rest = commands
    async with grpc_server(chosen) as server, caller(server.port) as payments:
        await payments.create_session(wish("pay-1").request())
        kept = (await payments.create_session(wish("pay-2").request())).cursor
        await operator.type(dump)
        antom.play_buyer("pay-1", BuyerAction(action=Step.APPROVE))
        await antom.timeline.advance(60)
        paid = await payments.get_payment(payment_request_id="pay-1", fresh=True)
        assert paid.payment.state == PaymentState.PAYMENT_STATE_SUCCEEDED
        lost = (await payments.create_session(wish("pay-3").request())).cursor
    await operator.type(restore)
    said = ""
    looking, asking = rest[:3], rest[3:]
    for command in looking:
        said += await operator.type(command)
    assert "The schema is at revision" in said
    assert "The log begins with event 1," in said
    assert "All 2 rows need the newest key only." in said
    async with (
        grpc_server(chosen, look_seconds=0.02) as server,
        caller(server.port) as payments,
    ):
        operator.serve_at(server.port)
        open_before = await payments.get_payment(payment_request_id="pay-1")
        assert open_before.payment.state == PaymentState.PAYMENT_STATE_AWAITING_BUYER
        *asking, watching = asking
        for command in asking:
            await operator.type(command)
        told = await Follower(payments.follow(Earliest()).batches()).until(4)
        assert [news[0] for news in told[2:]] == ["PAYMENT_AUTHORIZED", "CAPTURE_SUCCEEDED"]
        operator.watch_for(len(told))
        await operator.type(watching)
        paid = await payments.get_payment(payment_request_id="pay-1")
        assert paid.payment.state == PaymentState.PAYMENT_STATE_SUCCEEDED
        # A caller that repeats what was lost gets it back: Antom knows the id.
        again = await payments.create_session(wish("pay-3").request())
        assert again.session.payment_session_data
        assert len([one for one in antom.payments if one.payment_request_id == "pay-3"]) == 1
        with pytest.raises(LogRewound):
            await anext(payments.follow(AfterCursor(lost)).batches())
        batches = payments.follow(AfterCursor(kept)).batches()
        resumed = await Follower(batches).until_caught_up()
        whole = await Follower(payments.follow(Earliest()).batches()).until_caught_up()
        assert [event.event_id for event in resumed] == [event.event_id for event in whole][2:]
    lines = (operator.folder / "log.jsonl").read_text().splitlines()
    assert len(lines) == len(told) == len(whole) - 1


async def test_the_runbook_puts_a_restored_sqlite_database_right(tmp_path: Path) -> None:
    async with local_antom() as (antom, origin):
        url = f"sqlite:///{tmp_path / 'payments.db'}"
        chosen = settings(tmp_path, database_url=url, antom_url=origin)
        commands = [command for command in RUNBOOK if not OF_POSTGRES.match(command)]
        operator = Operator(tmp_path, chosen, {})
        operator.serve_at(0)
        await follow_runbook(operator, commands, chosen, antom)
        assert operator.typed == commands


async def test_the_runbook_puts_a_restored_postgresql_database_right(
    postgres_url: str, tmp_path: Path
) -> None:
    async with local_antom() as (antom, origin):
        chosen = settings(tmp_path, database_url=postgres_url, antom_url=origin)
        commands = [command for command in RUNBOOK if not OF_SQLITE.match(command)]
        operator = Operator(tmp_path, chosen, connection_words(postgres_url))
        operator.link("pg_dump", "pg_restore")
        operator.serve_at(0)
        await follow_runbook(operator, commands, chosen, antom)
        assert operator.typed == commands


def test_every_command_of_the_runbook_is_run_on_one_of_the_databases() -> None:
    assert len(RUNBOOK) == 10
    shared = [one for one in RUNBOOK if not OF_POSTGRES.match(one) and not OF_SQLITE.match(one)]
    assert all("antom-payments " in command for command in shared)
