"""One run: the seed's plan is carried out, all is mended, a day passes, the books are closed."""

from __future__ import annotations

import asyncio
import gc
import logging
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx

from antom_payments.antom.signing import Signer
from antom_payments.errors import StoreUnavailable
from antom_payments.housekeeping import prune_once
from antom_payments.instruments import Observed
from antom_payments.store import Windows, migrate
from antom_payments.store.retention import Retention
from invariants import Violation
from simulation import replicas
from simulation.books import close
from simulation.disk import Disk
from simulation.history import in_few_words
from simulation.loop import SeededLoop, Stuck
from simulation.network import Cut, Refused, Weather, ask
from simulation.plan import CHAOS_SECONDS, Plan, Step, plan_of
from simulation.randomness import seeded
from simulation.replicas import MERCHANTS, NOTIFY_PATH, NOTIFY_URL
from simulation.room import Room, rare_looks
from simulation.walks import walk
from worth import worth

_MEND_SECONDS = 40.0
_DAY_SECONDS = 25.5 * 3600.0
"""Antom's last resend comes after 24 h 22 min."""
_ENDS = "a run comes to its end"
_OF_THE_KILLED: list[Callable[[], Any]] = []


@dataclass(frozen=True)
class Outcome:
    """What became of a run."""

    seed: int
    plan: Plan
    hash: str
    violations: tuple[Violation, ...]
    counts: Counter[str]
    lines: tuple[str, ...]

    @property
    def invariants(self) -> set[str]:
        """The rules that were broken."""
        return {violation.invariant for violation in self.violations}


def run(seed: int, folder: Path, plan: Plan | None = None) -> Outcome:
    """Carry out ``plan``, the seed's own unless another is given, on a database in ``folder``."""
    chosen = plan_of(seed) if plan is None else plan
    with _without_garbage(), _unmeasured():
        return _run(seed, folder, chosen)


def _run(seed: int, folder: Path, plan: Plan) -> Outcome:
    file = folder / "simulated.db"
    _remove(file)
    shutil.copyfile(template(folder), file)
    loop = SeededLoop(Random(f"loop {seed}"))
    with seeded(str(seed), loop.time), rare_looks():
        room = Room(seed, loop, file)
        with room.disk.in_use(), room.log_lines.heard():
            try:
                loop.run_until_complete(loop.spawn(room.outer, _story(room, plan)))
            except Stuck:
                room.history.violated(_ENDS, "it does not")
            except Exception as error:  # noqa: BLE001 - whatever breaks is told with its seed
                room.history.violated(_ENDS, in_few_words(error))
            outcome = _closed(room, plan)
            # Whatever ends from here on was ended by us.
            loop.let_go()
    _remove(file)
    return outcome


def template(folder: Path) -> Path:
    """A migrated database, made once in ``folder``, the same in every folder."""
    file = folder / "template.db"
    if not file.exists():
        making = folder / "making.db"
        loop = SeededLoop(Random("template"))
        with seeded("template", loop.time):
            with Disk(loop, Random("template"), lambda: None).in_use():
                loop.run_until_complete(migrate(f"sqlite:///{making}"))
            loop.let_go()
        making.rename(file)
    return file


async def _story(room: Room, plan: Plan) -> None:
    """Chaos, then calm."""
    room.open()
    for step in plan:
        room.loop.call_at(step.at, _begin, room, step)
    await asyncio.sleep(CHAOS_SECONDS)
    await _mended(room)
    await asyncio.sleep(_DAY_SECONDS)


async def _mended(room: Room) -> None:
    """Everything works again; our processes start anew, and look rarely: a day is long."""
    room.mend()
    room.history.note("all is mended")
    await asyncio.sleep(_MEND_SECONDS)
    async with room.operator:
        room.is_calm = room.is_closed = True
        room.mend()
        await room.stop_all()
        room.pacing = replicas.CALM
        room.is_closed = False
        for reader in room.readers:
            reader.is_calm = True
        room.slots = {name: room.slots[name] for name in ("server-0", "sidecar-0")}
        for name in room.slots:
            room.start(name)


def _begin(room: Room, step: Step) -> None:
    room.loop.spawn(room.outer, _tried(room, step))


async def _tried(room: Room, step: Step) -> None:
    try:
        await _done(room, step)
    except Exception as error:  # noqa: BLE001 - nobody waits for a step, nor would hear of it
        room.history.violated("no step fails", f"{step.kind}: {in_few_words(error)}")


async def _done(room: Room, step: Step) -> None:
    """Carry out one step."""
    words = dict(step.words)
    callers = room.callers
    by_kind: dict[str, Callable[[dict[str, Any]], Any]] = {
        "create": callers.create,
        "read": callers.read,
        "sdk event": callers.report,
        "buyer": callers.buyer,
        "capture": callers.capture,
        "cancel": callers.cancel,
        "foreign": callers.foreign,
        "weather": lambda words: _weather(room, **words),
        "kill": lambda words: room.kill(words["who"], words["turns"], words["away"]),
        "restart": lambda words: room.restart(words["who"]),
        "database away": lambda words: room.lose_database(words["who"], words["seconds"]),
        "rotate": lambda words: room.rotate(words["pause"]),
        "restore": lambda words: room.restore(running=words["running"]),
        "reader": lambda words: room.reader(words).run(),
        "walk": lambda words: walk(room, words),
        "prune": lambda words: _prune(room, words["keep"]),
        "silence": room.fall_silent,
        "clock": lambda words: room.run_ahead(words["who"], words["ahead"], words["seconds"]),
        "forged": lambda words: _forge(room, words["id"]),
    }
    at_once: dict[str, Callable[[dict[str, Any]], None]] = {
        "answer fault": room.spoil_answers,
        "notification fault": room.spoil_notifications,
        "other amount": lambda words: room.spoil_notifications({"fault": "OTHER_AMOUNT"} | words),
        "dump": lambda _: room.take_dump(),
    }
    if step.kind in at_once:
        at_once[step.kind](words)
    else:
        await by_kind[step.kind](words)


async def _weather(room: Room, way: str, seconds: float, **shares: float) -> None:
    """Bad weather for a while."""
    total = sum(shares.values())
    scale = min(1.0, 0.8 / total) if total else 1.0
    weather = Weather(**{kind: share * scale for kind, share in shares.items()})
    name = f"to_{way}"
    setattr(room.network, name, weather)
    room.history.count(f"bad weather on the way to {way}")
    await asyncio.sleep(seconds)
    if getattr(room.network, name) is weather:
        setattr(room.network, name, Weather())


async def _prune(room: Room, keep: float) -> None:
    """A server prunes, with a window of seconds in place of days."""
    servers = room.servers()
    if not servers:
        return
    now = servers[0].around.now
    windows = Windows(events=timedelta(seconds=keep))
    retention = Retention(servers[0].store._database, windows, now=now, batch_rows=3)
    try:
        await room.network.call(servers[0].process, lambda: prune_once(retention))
    except (Refused, Cut, StoreUnavailable):
        room.history.count("pruning was cut off")


async def _forge(room: Room, name: str) -> None:
    """Somebody tells a sidecar that a payment was paid, signed with a key of his own."""
    amount = worth(name)
    body = (
        f'{{"notifyType":"PAYMENT_RESULT","result":{{"resultCode":"SUCCESS","resultStatus":"S",'
        f'"resultMessage":"success."}},"paymentRequestId":"{name}","paymentId":"20260302forged",'
        f'"paymentAmount":{{"currency":"{amount.currency_code}","value":"{amount.minor_units}"}}}}'
    ).encode()
    time = room.now().isoformat()
    client_id = MERCHANTS["shop-a"]
    signer = Signer(replicas.merchant_key(), client_id)
    headers = {
        "client-id": client_id,
        "request-time": time,
        "signature": signer.signature_header("POST", NOTIFY_PATH, time, body),
        "content-type": "application/json",
    }
    request = httpx.Request("POST", NOTIFY_URL, headers=headers, content=body)
    sidecars = room.sidecars()
    if not sidecars:
        return
    one = sidecars[0]

    async def told() -> None:
        since = room.loop.time()
        room.audit.answered(request, await ask(one.app, request), one.process, since)

    try:
        await room.network.call(one.process, told)
    except (Refused, Cut):
        return
    room.history.count("forged notification")


def _closed(room: Room, plan: Plan) -> Outcome:
    """The end of the run."""
    history = room.history
    try:
        close(room)
    except Exception as error:  # noqa: BLE001 - of half a run, perhaps
        history.violated(_ENDS, in_few_words(error))
    for context in room.loop.unhandled:
        history.violated(
            "no error goes unheard", f"{context.get('message')} {context.get('exception')!r}"
        )
    for line in room.log_lines.unexpected:
        history.violated("nothing unexpected is logged", line[:400])
    history.counts["statements"] += room.disk.statements
    history.counts["waits for a lock"] += room.disk.busy
    history.counts["turns"] += room.loop.turns
    history.note(f"{room.loop.turns} turns, {room.disk.statements} statements")
    room.witness.close()
    counts = Counter(history.counts)
    return Outcome(
        room.seed, plan, history.hash, tuple(history.violations), counts, tuple(history.lines)
    )


@contextmanager
def _unmeasured() -> Iterator[None]:
    """Let no metric read from what is killed: it never says that it has ended."""
    kept = Observed.read_from

    def read_from(_: Observed, source: Callable[[], Any]) -> nullcontext[None]:
        # Held on to: to forget it would run the `finally` blocks of the killed in a later test.
        _OF_THE_KILLED.append(source)
        return nullcontext()

    Observed.read_from = read_from
    try:
        yield
    finally:
        Observed.read_from = kept


@contextmanager
def _without_garbage() -> Iterator[None]:
    """Collect no garbage within the run: what is forgotten would run its `finally` blocks.

    They run at the end, to no effect but complaints.
    """
    was_enabled, hook = gc.isenabled(), sys.unraisablehook
    loggers = [logging.getLogger(name) for name in ("sqlalchemy", "opentelemetry", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    gc.disable()
    # What was there before need not be looked through.
    gc.freeze()
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            finally:
                # Some wait once more in a `finally` block, and are forgotten anew.
                while gc.collect():
                    continue
    finally:
        gc.unfreeze()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        sys.unraisablehook = hook
        if was_enabled:
            gc.enable()


def _remove(file: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)
    file.with_suffix(".dump").unlink(missing_ok=True)
