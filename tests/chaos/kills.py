"""Processes that die by kill -9, wherever they are; that are frozen, and that are told to go."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial

from chaos import failpoints
from chaos.process import NotInjected, Process
from chaos.scene import Fault, Scene
from chaos.town import Town

REACHED_SECONDS = 20.0
"""How long a process may take until it comes to its kill point, with traffic flowing."""

Some = Callable[[Town], list[Process]]


def faults() -> list[Fault]:
    """Each kill point, and what else ends or stops a process."""
    some: dict[str, tuple[Some, tuple[str, ...], tuple[str, ...]]] = {
        "server": (
            *(lambda town: town.servers, failpoints.OF_SERVERS),
            failpoints.OF_DRAINING_SERVERS,
        ),
        "sidecar": (
            *(lambda town: town.sidecars, failpoints.OF_SIDECARS),
            failpoints.OF_DRAINING_SIDECARS,
        ),
    }
    found = []
    for name, (which, points, while_draining) in some.items():
        found += [
            Fault("kill -9", f"{name}: {point}", partial(at_point, which, point))
            for point in points
        ]
        found += [
            Fault("kill -9", f"{name}: anywhere", partial(anywhere, which)),
            *(
                Fault(
                    "kill -9", f"{name}: while it drains: {point}", partial(draining, which, point)
                )
                for point in while_draining
            ),
            Fault("kill -9", f"both {name}s at once", partial(both, which)),
            Fault("SIGTERM", f"{name}", partial(told, which)),
            Fault("SIGSTOP", f"{name}", partial(frozen, which)),
        ]
    found.append(Fault("SIGSTOP", "Antom", partial(frozen, lambda town: [town.emulator])))
    found += [
        Fault("kill -9", f"pruning: {point}", partial(pruning, point))
        for point in failpoints.OF_PRUNING
    ]
    found.append(Fault("kill -9", "servers, sidecars and PostgreSQL at once", everything))
    return found


@contextlib.asynccontextmanager
async def at_point(which: Some, point: str, scene: Scene) -> AsyncIterator[None]:
    """The first that comes there dies; both, when they do so in the same moment."""
    candidates = which(scene.town)
    for one in candidates:
        one.arm(point)
    ends = [asyncio.create_task(one.has_ended.wait()) for one in candidates]
    await asyncio.wait(ends, timeout=REACHED_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    for one in candidates:
        scene.town.board.arm(one.slot, 0)
    for end in ends:
        end.cancel()
    await scene.hold(0.1, 0.5)
    victims = [one for one in candidates if scene.town.board.is_dying(one.slot)]
    await asyncio.gather(*(victim.ended() for victim in victims))
    if not victims:
        raise NotInjected(f"nobody came to: {point}")
    yield
    await asyncio.gather(*(victim.start() for victim in victims))
    codes = {victim.name: victim.codes[-1] for victim in victims}
    if set(codes.values()) != {-signal.SIGKILL}:
        raise NotInjected(f"they ended otherwise: {codes}")


@contextlib.asynccontextmanager
async def anywhere(which: Some, scene: Scene) -> AsyncIterator[None]:
    victim = scene.random.choice(which(scene.town))
    await victim.kill()
    await scene.hold(0, 0.5)
    yield
    await victim.start()


@contextlib.asynccontextmanager
async def both(which: Some, scene: Scene) -> AsyncIterator[None]:
    victims = which(scene.town)
    await asyncio.gather(*(victim.kill() for victim in victims))
    await scene.hold(0, 0.5)
    yield
    await asyncio.gather(*(victim.start() for victim in victims))


@contextlib.asynccontextmanager
async def draining(which: Some, point: str, scene: Scene) -> AsyncIterator[None]:
    """Told to go, and dead on its way out; what it says when it went all its way is no kill."""
    victim = scene.random.choice(which(scene.town))
    victim.arm(point)
    victim.signal(signal.SIGTERM)
    code = await victim.ended()
    yield
    await victim.start()
    if code != -signal.SIGKILL:
        raise NotInjected(f"{victim.name} ended with {code}: {victim.last_words()}")


@contextlib.asynccontextmanager
async def told(which: Some, scene: Scene) -> AsyncIterator[None]:
    """A rolling restart: nothing is to be mended but by starting it again."""
    victim = scene.random.choice(which(scene.town))
    victim.signal(signal.SIGTERM)
    code = await victim.ended()
    yield
    await victim.start()
    assert code == 0, f"{victim.name} ended with {code} when told to go: {victim.last_words()}"


@contextlib.asynccontextmanager
async def frozen(which: Some, scene: Scene) -> AsyncIterator[None]:
    victim = scene.random.choice(which(scene.town))
    victim.signal(signal.SIGSTOP)
    try:
        await scene.hold(1, 3)
        if not victim.is_there:
            raise NotInjected(f"{victim.name} was not there to be frozen")
        yield
    finally:
        victim.signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def pruning(point: str, scene: Scene) -> AsyncIterator[None]:
    """An operator's pruning dies with rows deleted: nothing may be gone.

    Its clock is beyond the window of private data; of events, whose time is the database's, those
    of a moment ago are said to be old.
    """
    town = scene.town
    process = town.process("pruning", "prune", settings=town.settings_of("server-0"))
    process.order["events_are_old"] = "events" in point
    town.board.put_ahead(process.slot, 0 if "events" in point else 400 * 86_400)
    await process.launch(point=point)
    try:
        code = await process.ended()
    except TimeoutError:
        await process.kill()
        raise NotInjected(f"pruning never came to: {point}") from None
    if code != -signal.SIGKILL:
        raise NotInjected(f"pruning ended with {code}: {process.last_words()}")
    yield


@contextlib.asynccontextmanager
async def everything(scene: Scene) -> AsyncIterator[None]:
    """As when the power is cut, but for what the operating system had not written."""
    town = scene.town
    victims = [*town.servers, *town.sidecars]
    await asyncio.gather(
        asyncio.to_thread(town.cluster.crash), *(victim.kill() for victim in victims)
    )
    await scene.hold(0, 0.5)
    yield
    await asyncio.to_thread(town.cluster.start)
    await asyncio.gather(*(victim.start() for victim in victims))
