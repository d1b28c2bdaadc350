"""Forks the town's processes, one for each order, and says when they are ready and how they end.

A script: orders and reports are JSON objects, one a line. Forked, because importing everything
takes seconds. Each process is the real command's own entry into `app`, with a clock from the board
and with kill points; what it prints goes to a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from antom_payments import app, settings, telemetry
from antom_payments.antom.signing import load_private_key, load_public_key
from antom_payments.background import stop_signal
from antom_payments.emulator import EmulatorOptions, server_config
from antom_payments.housekeeping import prune_once
from antom_payments.notifications import serving
from antom_payments.storage import payment_store
from antom_payments.store import Windows, migrate, schema
from chaos.accepted import Accepted, ChangingVerifier
from chaos.asks import Asks
from chaos.board import Board
from chaos.failpoints import Failpoints


class Process:
    """What runs in a forked process."""

    def __init__(self, order: dict[str, Any], reports: int) -> None:
        self._order = order
        self._reports = reports
        self._now = partial(Board(Path(order["board"])).look, order["slot"])

    def run(self) -> None:
        """Do what was ordered, to its end."""
        work: dict[str, Any] = {
            "serve": self._serve,
            "notifications": self._receive,
            "emulator": self._emulate,
            "migrate": self._migrate,
            "prune": self._prune,
            "rotate": self._rotate,
            "limit": self._limit,
        }
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work[self._order["kind"]]())

    def ready(self) -> None:
        tell(self._reports, name=self._order["name"], what="ready", pid=os.getpid())

    def _serve(self) -> Coroutine[Any, Any, None]:
        app.grpc_server = self._telling(app.grpc_server)
        return app.serve(self._settings())

    def _receive(self) -> Coroutine[Any, Any, None]:
        app.notification_receiver = self._telling(app.notification_receiver)
        return app.receive_notifications(self._settings())

    def _telling(self, inner: Any) -> Any:
        """The process as `app` composes it; it says when it serves."""

        @contextlib.asynccontextmanager
        async def told(*given: Any, **more: Any) -> AsyncIterator[Any]:
            async with inner(*given, now=self._now, **more) as running:
                self.ready()
                yield running

        return told

    def _settings(self) -> settings.Settings:
        return settings.load(**self._order["settings"])

    async def _emulate(self) -> None:
        wish = self._order["emulator"]
        public = [load_public_key(one, setting="test") for one in wish["merchant_public_keys"]]
        options = EmulatorOptions(
            antom_private_key=load_private_key(wish["antom_private_key"], setting="test"),
            antom_next_private_key=load_private_key(wish["next_private_key"], setting="test"),
            merchant_public_keys={wish["client_id"]: public},
            clock=self._now,
            seed=wish["seed"],
            acknowledgement_timeout_seconds=wish["timeout_seconds"],
        )
        telemetry.configure(service_name="antom-emulator", log_format="json", log_level="WARNING")
        config = server_config(options, port=wish["port"])
        accepted = Accepted(Path(self._order["board"]).parent)
        antom = config.app.state.emulator  # type: ignore[union-attr] # it is made by `emulator_app`
        antom.verifiers = {wish["client_id"]: ChangingVerifier(public, accepted)}
        stop = stop_signal()
        async with serving(config, host="127.0.0.1", port=wish["port"]):
            self.ready()
            await stop.wait()

    async def _migrate(self) -> None:
        schema._MIGRATIONS = Path(self._order["migrations"])
        self.ready()
        await migrate(self._settings().database_url.get_secret_value())

    async def _prune(self) -> None:
        async with payment_store(self._settings(), self._now) as store:
            if self._order["events_are_old"]:
                store.retention._windows = Windows(events=timedelta())
            self.ready()
            await prune_once(store.retention)

    async def _rotate(self) -> None:
        async with payment_store(self._settings(), self._now) as store:
            self.ready()
            async for _ in store.key_rotation.rotate():
                continue
            left = await store.key_rotation.count()
        assert not left.old, left
        assert not left.unreadable, left

    async def _limit(self) -> None:
        """Bound the files that others write; as their user and group, who alone may do that."""
        if os.geteuid() == 0:
            os.setresgid(*[self._order["gid"]] * 3)
            os.setresuid(*[self._order["uid"]] * 3)
        for pid in self._order["pids"]:
            with contextlib.suppress(ProcessLookupError):
                limits = (self._order["bytes"], resource.RLIM_INFINITY)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def tell(reports: int, **what: object) -> None:
    os.write(reports, json.dumps(what).encode() + b"\n")


class Life:
    """A pipe that only the forker holds open for writing: its end is the forker's, however."""

    def __init__(self) -> None:
        self._read, self._held = os.pipe()

    def share(self) -> None:
        """In a process that was forked: die once the forker is gone.

        In a thread, which sees it whatever the rest does. A frozen process sees nothing until it is
        woken; where the run alone is gone, the forker lives on to kill that one, too.
        """
        os.close(self._held)
        threading.Thread(target=self._outlive, name="life", daemon=True).start()

    def _outlive(self) -> None:
        os.read(self._read, 1)
        os.kill(os.getpid(), signal.SIGKILL)


def fork(order: dict[str, Any], reports: int, life: Life) -> int:
    """Start what is ordered; its process id."""
    if child := os.fork():
        return child
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    life.share()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(number, target)
    status = 1
    try:
        board = Path(order["board"])
        asks = Asks(board.parent)
        Failpoints(Board(board), order["slot"], order["name"], asks).install()
        Process(order, reports).run()
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def reap(names: dict[int, str], reports: int) -> None:
    """Say of each process that has ended how it did."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            tell(reports, name=names.pop(pid), what="ended", pid=pid, code=code)


def main() -> None:
    reports = os.dup(1)
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes)
    # Ctrl-C is for the run, which then ends this process by closing its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    life = Life()
    names: dict[int, str] = {}
    waiting = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            reap(names, reports)
        if 0 in ready:
            piece = os.read(0, 65536)
            if not piece:
                break
            *lines, waiting = (waiting + piece).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = fork(order, reports, life)
                names[pid] = order["name"]
                tell(reports, name=order["name"], what="forked", pid=pid)
    for pid in names:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
