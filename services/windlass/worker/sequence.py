"""One attempt as a row of programs: what runs before the task, the task, what runs after it; each within its time."""

import asyncio
import math
from collections.abc import Awaitable
from typing import Protocol

import msgspec

from windlass.durations import NotADuration, seconds
from windlass.messages.jobs import AFTERCARE_S, Task
from windlass.worker.runtime import Failed, Outcome, Program, Stopped, Succeeded, TimedOut, Vanished

LATE = "context deadline exceeded"


class RunOne(Protocol):
    """Runs one program; `role` is `pre`, `main` or `post`, and `stop` kills it."""

    def __call__(self, program: Program, role: str, stop: asyncio.Event) -> Awaitable[Outcome]: ...


async def run_in_turn(task: Task, one: RunOne, stop: asyncio.Event) -> Outcome:
    """Run the programs of an attempt one after the other until one fails; the first failure is the attempt's.

    The task's `timeout` covers all of them but a `post` that is `always` run: also after a failure or timeout, though not
    after a stop or a loss, and for as long as its own `timeout` says.
    """
    try:
        for timeout in (task.timeout, *(program.timeout for program in (*task.pre, *task.post))):
            _limit_s(timeout)
    except NotADuration as error:
        return Failed(f"invalid timeout duration: {error}")
    turns = _Turns(task, one, stop)
    for before in task.pre:
        await turns.take(before, "pre", _limit_s(before.timeout))
    await turns.take(task, "main", math.inf)
    for after in task.post:
        if after.always:
            await turns.take_always(after, _limit_s(after.timeout, AFTERCARE_S))
        else:
            await turns.take(after, "post", _limit_s(after.timeout))
    return turns.outcome


class _Turns:
    """`outcome` is what the attempt comes to as far as it has come."""

    def __init__(self, task: Task, one: RunOne, stop: asyncio.Event) -> None:
        self.outcome: Outcome = Succeeded("")
        self._one, self._stop = one, stop
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + _limit_s(task.timeout)

    async def take(self, program: Program, role: str, limit_s: float) -> None:
        """Run one if all went well so far, for `limit_s` and what is left of the task's time."""
        if isinstance(self.outcome, Succeeded):
            await self._run(program, role, min(limit_s, self._ends_at - self._loop.time()))

    async def take_always(self, program: Program, limit_s: float) -> None:
        """Run one unless somebody else is to decide what runs."""
        if not isinstance(self.outcome, Stopped | Vanished):
            await self._run(program, "post", limit_s)

    async def _run(self, program: Program, role: str, limit_s: float) -> None:
        outcome = await self._within(limit_s, program, role)
        if role == "main" or isinstance(outcome, Stopped):
            self.outcome = outcome
        elif not isinstance(outcome, Succeeded) and isinstance(self.outcome, Succeeded):
            self.outcome = msgspec.structs.replace(outcome, error=f"{role} task {program.name}: {outcome.error}")

    async def _within(self, limit_s: float, program: Program, role: str) -> Outcome:
        """Run one, and stop it when its time is over."""
        if limit_s == math.inf:
            return await self._one(program, role, self._stop)
        ending = asyncio.Event()
        timer = self._loop.call_later(max(limit_s, 0), ending.set)
        passing_on = asyncio.ensure_future(_pass_on(self._stop, ending))
        try:
            outcome = await self._one(program, role, ending)
        finally:
            timer.cancel()
            passing_on.cancel()
        return TimedOut(LATE) if isinstance(outcome, Stopped) and not self._stop.is_set() else outcome


async def _pass_on(stop: asyncio.Event, ending: asyncio.Event) -> None:
    await stop.wait()
    ending.set()


def _limit_s(timeout: str, default_s: float = math.inf) -> float:
    return seconds(timeout) if timeout else default_s
