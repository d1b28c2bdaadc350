"""Group commit: what comes while a transaction is under way shares the next one.

A commit costs about the same for one member as for a hundred, and the log lets in one appending
transaction at a time: so the members of concurrent callers are gathered into one. There is no
timer. A member that comes while nothing is under way starts at once; the busier the database, the
larger the groups.

A call is the unit: its members are never in two transactions. When an error is about a member, the
transaction is rolled back and the group is halved until the call to blame stands alone and gets its
own error. No savepoint for each member: they cost more than everything else together.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from antom_payments import telemetry
from antom_payments.errors import StoreOverloaded, StoreUnavailable
from antom_payments.store.measures import count_failure, count_group
from antom_payments.store.outages import Trouble

Member = TypeVar("Member")
Answer = TypeVar("Answer")

_log = telemetry.logger(__name__)


@dataclass(slots=True)
class _Call(Generic[Member, Answer]):
    """One caller's members, and where its answers are waited for."""

    members: Sequence[Member]
    answers: asyncio.Future[list[Answer]]
    context: contextvars.Context

    def answer(self, answers: list[Answer]) -> None:
        """Give the caller its answers, if it still waits."""
        if not self.answers.done():
            self.answers.set_result(answers)

    def fail(self, error: Exception) -> None:
        """Give the caller its error, if it still waits."""
        if not self.answers.done():
            self.answers.set_exception(error)


_Group = list[_Call[Member, Answer]]


class GroupCommit(Generic[Member, Answer]):
    """Gathers the members of concurrent calls into one transaction at a time.

    Args:
        commit: commits members in one transaction and answers each, in order. Raises
            StoreUnavailable when the database cannot be used, anything else about a member.
        most_members: of a transaction; a single call may have more.
        most_waiting: members that wait for the next transactions; with more, calls are refused.
        limit: what the refusal calls that.
        patience_seconds: after which a call whose transaction has not begun is given up: neither it
            nor one that is cancelled is committed then. None for what must not be forgotten.
        pause: waits between a transaction and the next when calls wait already, to give other
            processes their turn. Whoever comes alone never waits for it.
        measure: is told the size of each group.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Member]], Coroutine[Any, Any, list[Answer]]],
        *,
        most_members: int = 128,
        most_waiting: int = 1024,
        limit: str = "store_writes",
        patience_seconds: float | None = None,
        pause: Callable[[], Coroutine[Any, Any, None]] | None = None,
        measure: Callable[[int], None] = count_group,
    ) -> None:
        self._commit = commit
        self._most_members = most_members
        self._most_waiting = most_waiting
        self._limit = limit
        self._patience_seconds = patience_seconds
        self._pause = pause
        self._measure = measure
        self._waiting: deque[_Call[Member, Answer]] = deque()
        self.members_waiting = 0
        """Members that wait for the next transactions."""
        self._running: asyncio.Task[None] | None = None
        self._is_closed = False

    async def submit(self, members: Sequence[Member]) -> list[Answer]:
        """Commit ``members`` in one transaction, with others'; one answer each, in order.

        A caller that is cancelled takes nothing back: its members are committed all the same,
        unless the group has patience and their transaction has not begun.

        Raises:
            StoreOverloaded: too much waits already; nothing was done.
            StoreUnavailable: nothing was committed, or nobody knows.
        """
        if self._is_closed:
            raise StoreUnavailable
        if self.members_waiting >= self._most_waiting:
            raise StoreOverloaded(self._limit)
        answers: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(members, answers, contextvars.copy_context()))
        self.members_waiting += len(members)
        if self._running is None:
            # In no caller's context: it goes on for others.
            self._running = asyncio.create_task(self._run(), context=contextvars.Context())
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await answers
        except TimeoutError:
            count_failure(Trouble.SLOW)
            raise StoreUnavailable from None

    def waiting(self) -> Iterable[tuple[float, dict[str, str]]]:
        """`members_waiting`, for metrics."""
        yield self.members_waiting, {}

    async def close(self) -> None:
        """Take nothing more, and wait until all that was taken has been committed or failed."""
        self._is_closed = True
        if self._running is not None:
            await asyncio.wait({self._running})

    async def _run(self) -> None:
        """Commit groups until nothing waits."""
        group: _Group[Member, Answer] = []
        try:
            while self._waiting:
                if group := self._next_group():
                    await self._settle(group)
                if self._waiting and self._pause:
                    await self._pause()
        except Exception as error:  # noqa: BLE001 - not about a member: `_settle` answers those
            _log.error("group_commit_broken", exc_info=error)
        finally:
            # Whatever ended it: nobody waits for ever, and the next call begins anew.
            self._running = None
            for call in (*group, *self._waiting):
                call.fail(StoreUnavailable())
            self._waiting.clear()
            self.members_waiting = 0

    def _next_group(self) -> _Group[Member, Answer]:
        """The calls that waited longest: as many as fit, at least one unless all were given up."""
        group: _Group[Member, Answer] = []
        size = 0
        while self._waiting:
            members = len(self._waiting[0].members)
            if group and size + members > self._most_members:
                break
            call = self._waiting.popleft()
            self.members_waiting -= members
            if self._patience_seconds is not None and call.answers.done():
                continue
            group.append(call)
            size += members
        return group

    async def _settle(self, group: _Group[Member, Answer]) -> None:
        """Commit a group; halve it when it fails because of a member."""
        members = [member for call in group for member in call.members]
        self._measure(len(members))
        try:
            # In the first caller's context: its trace shows the transaction.
            committing = asyncio.create_task(self._commit(members), context=group[0].context)
            answers = await committing
        except Exception as error:  # noqa: BLE001 - each caller gets its own
            failed = error
        else:
            told = iter(answers)
            for call in group:
                call.answer([next(told) for _ in call.members])
            return
        if isinstance(failed, StoreUnavailable):
            for call in group:
                call.fail(_unavailable(failed))
        elif len(group) == 1:
            group[0].fail(failed)
        else:
            half = len(group) // 2
            await self._settle(group[:half])
            await self._settle(group[half:])


def _unavailable(cause: StoreUnavailable) -> StoreUnavailable:
    """The same news as an error of the caller's own: a traceback belongs to one."""
    error = type(cause)()
    error.__cause__ = cause
    return error
