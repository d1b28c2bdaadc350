"""The machine room: Antom, our replicas on one database, and what may happen to them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from antom_payments.emulator import (
    AnswerFault,
    Emulator,
    EmulatorOptions,
    FaultPlan,
    NotificationFault,
    timeline,
)
from antom_payments.emulator.gateway import Gateway
from antom_payments.payment_event import EventFilter
from antom_payments.store import Windows
from simulation import replicas
from simulation.audit import Audit
from simulation.callers import Callers
from simulation.disk import Disk, put_back, snapshot
from simulation.history import History
from simulation.keepers import Keeper
from simulation.lapses import MOST_SKEW
from simulation.log_lines import LogLines
from simulation.loop import Process, SeededLoop
from simulation.network import CALM, Network, Refused, WayToAntom, WayToUs
from simulation.plan import SERVERS, SIDECARS
from simulation.readers import Reader
from simulation.replicas import MERCHANTS, NOTIFY_URL, Replica, Server, Sidecar, Surroundings
from simulation.truth import Truth
from simulation.witness import Witness

EPOCH = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
_RARE_SECONDS = 7200.0


class Room:
    """Everything of one run."""

    def __init__(self, seed: int, loop: SeededLoop, file: Path) -> None:
        self.seed = seed
        self.loop = loop
        self.file = file
        self.random = Random(f"room {seed}")
        self.history = History(loop.time)
        self.network = Network(loop, Random(f"network {seed}"), self.history)
        self.antom = loop.process("antom")
        self.outer = loop.process("outer")
        """Callers, subscribers and operators."""
        self.emulator = self._emulator(seed)
        self.truth = Truth(self.emulator, self.history)
        self.log_lines = LogLines()
        self.witness = Witness(file, self.history, self.truth.judge)
        self.audit = Audit(self.witness, self.truth, self.history)
        self.disk = Disk(loop, Random(f"disk {seed}"), self.witness.committed)
        self.pacing = replicas.BUSY
        self.slots: dict[str, Replica] = {}
        self.readers: list[Reader] = []
        self.dump: tuple[Path, float] | None = None
        self.operator = asyncio.Lock()
        """Whoever stops and starts everything: one at a time."""
        self.is_calm = False
        self.is_closed = False
        """Whether processes that end stay so: their operator is at work."""
        self.callers = Callers(
            random=self.random,
            network=self.network,
            emulator=self.emulator,
            truth=self.truth,
            history=self.history,
            now=self.now,
            servers=self.servers,
        )
        self.antom_keys = [replicas.public_key("antom")]
        """Which of Antom's keys new processes accept."""
        self._ahead: dict[str, timedelta] = {}
        """Whose clock is far ahead, also of those that take its place."""
        self._starts = 0

    def now(self) -> datetime:
        """The true time."""
        return EPOCH + timedelta(seconds=self.loop.time())

    def servers(self) -> list[Server]:
        """Those that serve now."""
        return [one for one in self.slots.values() if isinstance(one, Server) and one.serves]

    def sidecars(self) -> list[Sidecar]:
        """Those that serve now."""
        return [one for one in self.slots.values() if isinstance(one, Sidecar) and one.serves]

    def open(self) -> None:
        """Start Antom, and all of ours."""
        self.loop.spawn(self.antom, self._run_antom())
        for kind, count in (("server", SERVERS), ("sidecar", SIDECARS)):
            for number in range(count):
                self.start(f"{kind}-{number}")

    def start(self, name: str) -> None:
        """Start a process of ours, on a clock that is a little wrong."""
        self._starts += 1
        process = self.loop.process(f"{name}.{self._starts}")
        self.audit.antom_keys[process] = tuple(self.antom_keys)
        most = MOST_SKEW.total_seconds()
        skew = timedelta(seconds=self.random.uniform(-most, most))
        around = Surroundings(
            database_url=f"sqlite:///{self.file}",
            now=lambda: self.now() + skew + self._ahead.get(name, timedelta()),
            monotonic=self.loop.time,
            way_to_antom=lambda: WayToAntom(
                self.network, process, self.antom, Gateway(self.emulator), self.audit
            ),
            windows=Windows(),
            pacing=self.pacing,
            history=self.history,
            antom_keys=tuple(self.antom_keys),
            epoch=self.witness.epoch,
        )
        replica = (Server if name.startswith("server") else Sidecar)(process, around)
        self.slots[name] = replica
        self.history.count("process started")
        if name in self._ahead:
            self.audit.ahead.add(process)
        self.loop.spawn(process, replica.run())
        self.loop.spawn(self.outer, self._watch_over(name, replica))

    async def _watch_over(self, name: str, replica: Replica) -> None:
        """Start a process again when it ends by itself, as Kubernetes does."""
        await replica.has_stopped.wait()
        await asyncio.sleep(3.0)
        # One that cannot start would be started for ever, and the run never end.
        if self.slots.get(name) is replica and not (self.is_closed or replica.is_broken):
            self.start(name)

    async def kill(self, name: str, turns: int, away: float) -> None:
        """Kill a process so many callbacks from now; another takes its place."""
        replica = self.slots[name]
        if not replica.process.is_alive:
            return
        dead = asyncio.Event()
        replica.process.at_death.append(dead.set)
        replica.process.turns_left = turns
        try:
            async with asyncio.timeout(30.0):
                await dead.wait()
        except TimeoutError:
            # It had less to do than that.
            self.loop.kill(replica.process)
        self.history.count(f"kill of a {replica.kind}")
        await asyncio.sleep(away)
        if self.slots.get(name) is replica and not self.is_closed:
            self.start(name)

    async def restart(self, name: str) -> None:
        """Stop a process in its own way, and start another."""
        if await self.stop(name) and not self.is_closed:
            self.start(name)

    async def stop(self, name: str) -> bool:
        """Stop a process in its own way; whether it did."""
        replica = self.slots[name]
        if not replica.process.is_alive:
            self.history.count("process was dead")
            return self.slots[name] is replica
        replica.stopping.set()
        replica.process.at_death.append(replica.has_stopped.set)
        try:
            async with asyncio.timeout(60.0):
                await replica.has_stopped.wait()
        except TimeoutError:
            if replica.process.is_alive and replica.serves:
                self.history.violated("a process stops when told to", replica.process.name)
        has_stopped = replica.process.is_alive and replica.has_stopped.is_set()
        self.history.count("process stopped" if has_stopped else "process was dead")
        self.loop.kill(replica.process)
        return self.slots[name] is replica

    async def stop_all(self) -> None:
        """Stop all of ours."""
        await asyncio.gather(*(self.stop(name) for name in self.slots))

    async def rotate(self, pause: float) -> None:
        """Exchange Antom's key: both are accepted before Antom signs with the next one."""
        await self._accept(self.antom_keys[0], replicas.next_antom_key().public_key())
        self.emulator.signers.antom = self.emulator.signers.next
        self.history.count("Antom signs with the next key")
        await asyncio.sleep(pause)
        await self._accept(self.antom_keys[-1])
        self.history.count("the old key is removed")

    async def _accept(self, *keys: RSAPublicKey) -> None:
        """Start every process anew, one after the other, with these keys of Antom's."""
        async with self.operator:
            self.antom_keys = list(keys)
            for name in list(self.slots):
                await self.restart(name)

    async def lose_database(self, name: str, seconds: float) -> None:
        """Let no statement of a process work for a while."""
        process = self.slots[name].process
        self.history.count("database away")
        self.disk.is_away.add(process)
        await asyncio.sleep(seconds)
        self.disk.is_away.discard(process)

    async def run_ahead(self, name: str, ahead: float, seconds: float) -> None:
        """Let the clock of a process be so many seconds ahead for a while."""
        self.history.count(f"clock of a {name.partition('-')[0]} is ahead")
        self._ahead[name] = timedelta(seconds=ahead)
        self.audit.ahead.add(self.slots[name].process)
        if name.startswith("server"):
            self.audit.leases_hold_from = float("inf")
            self.callers.most_skew += self._ahead[name]
        await asyncio.sleep(seconds)
        self._set_clocks()

    def _set_clocks(self) -> None:
        """Let no clock be far ahead any more."""
        if self._ahead:
            self._ahead.clear()
            self.audit.clocks_are_set()

    def take_dump(self) -> None:
        """Copy the database beside whoever uses it."""
        copy = self.file.with_suffix(".dump")
        snapshot(self.file, copy)
        self.dump = (copy, self.loop.time())
        self.history.count("dump")

    async def restore(self, *, running: bool) -> None:
        """Bring the database back to the dump, and do as docs/restore.md says."""
        async with self.operator:
            if self.dump is not None and not self.is_calm:
                await self._restore(*self.dump, running=running)

    async def _restore(self, copy: Path, dump_time: float, *, running: bool) -> None:
        if not running:
            self.is_closed = True
            await self.stop_all()
        await self._put_back(copy)
        self.audit.restored(dump_time, running=running)
        for reader in self.readers:
            reader.restored()
        self.callers.restored(dump_time)
        self.history.count("restore beneath running processes" if running else "restore")
        if not running:
            self.is_closed = False
            for name in self.slots:
                self.start(name)
        await self._reinquire()

    async def _put_back(self, copy: Path) -> None:
        while True:
            known = self.witness.payments()
            self.witness.close()
            try:
                put_back(copy, self.file)
            except sqlite3.OperationalError:
                await asyncio.sleep(0.02)
            else:
                self.witness.restored(known)
                return

    async def _reinquire(self) -> None:
        """Have Antom asked about everything: `antom-payments reinquire`."""
        while True:
            await asyncio.sleep(2.0)
            for server in self.servers():
                office = server.store.back_office
                with contextlib.suppress(Exception):
                    await self.network.call(
                        server.process,
                        lambda office=office: office.schedule_inquiries(
                            EPOCH - timedelta(hours=1),
                            merchant_account="",
                            after=None,
                            limit=500,
                            actor="operator",
                        ),
                    )
                    self.history.count("reinquire")
                    return

    def reader(self, words: dict[str, Any]) -> Reader:
        """A new subscriber."""
        kind = Keeper if words["start"] == "snapshot" else Reader
        reader = kind(
            words,
            _filter_of(words),
            random=self.random,
            network=self.network,
            witness=self.witness,
            history=self.history,
            servers=self.servers,
            now=self.now,
        )
        self.readers.append(reader)
        return reader

    def spoil_answers(self, words: dict[str, Any]) -> None:
        """Let Antom's answers go wrong."""
        self.emulator.add_faults(FaultPlan(answers=(AnswerFault(**words),)))
        self.history.count(f"answers go wrong: {words['fault']}")

    async def fall_silent(self, words: dict[str, Any]) -> None:
        """Let Antom answer no question about a payment for a while, also when all else works."""
        about = {name: words[name] for name in ("fault", "payment_request_id")}
        self.spoil_answers(about | {"operation": "inquiryPayment"})
        silence = self.emulator.faults.answers[-1]
        self.history.count("Antom is silent about a payment")
        await asyncio.sleep(words["seconds"])
        self.emulator.faults.answers.remove(silence)

    def spoil_notifications(self, words: dict[str, Any]) -> None:
        """Let Antom's notifications go wrong."""
        self.emulator.add_faults(FaultPlan(notifications=(NotificationFault(**words),)))
        self.history.count(f"notifications go wrong: {words['fault']}")

    def mend(self) -> None:
        """Let nothing go wrong from now on."""
        self.emulator.faults.clear()
        self.network.to_antom = self.network.to_us = CALM
        self.disk.is_away.clear()
        self._set_clocks()

    async def _run_antom(self) -> None:
        async with self.emulator.running():
            await asyncio.Event().wait()

    def _emulator(self, seed: int) -> Emulator:
        options = EmulatorOptions(
            antom_private_key=replicas.antom_key(),
            antom_next_private_key=replicas.next_antom_key(),
            merchant_public_keys={
                client_id: [replicas.public_key("merchant")] for client_id in MERCHANTS.values()
            },
            default_notify_url=NOTIFY_URL,
            clock=self.now,
            seed=seed,
        )
        with mock.patch.object(httpx, "AsyncHTTPTransport", self._way_to_us):
            return Emulator(options)

    def _way_to_us(self, **_words: Any) -> WayToUs:
        def choose() -> tuple[Process, Any]:
            chosen = self.sidecars()
            if not chosen:
                raise Refused
            self.truth.lapses.disturbed(self.now())
            one = self.random.choice(chosen)
            return one.process, one.app

        return WayToUs(self.network, self.antom, choose, lambda: self.audit)


def _filter_of(words: dict[str, Any]) -> EventFilter:
    match words["filter"]:
        case "final":
            return EventFilter(final_states_only=True)
        case "one":
            return EventFilter(payment_request_ids=frozenset({words["id"]}))
        case "all":
            return EventFilter()
        case merchant:
            return EventFilter(merchant_accounts=frozenset({merchant}))


@contextlib.contextmanager
def rare_looks() -> Iterator[None]:
    """Let Antom's clock look up rarely: it cannot be suspended here."""
    with mock.patch.object(timeline, "_LONGEST_WAIT_SECONDS", _RARE_SECONDS):
        yield
