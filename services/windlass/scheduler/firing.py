"""Firing: what is due is claimed, and said as a command.

A timer that was said stays, and is said again after a pause, until the event that answers it ends it. So a command that is
lost is only late, and one that is said twice finds a row that waits no more.
"""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import cast

import psycopg

from windlass import log as logs
from windlass import metrics
from windlass.bus.connection import Bus
from windlass.clock import Clock
from windlass.errors import Unavailable
from windlass.eventlog.connection import Connection
from windlass.eventlog.pipeline import Exchange, Pipelined
from windlass.eventlog.statements import statement
from windlass.ids import JobId, WorkerId, shard_of
from windlass.messages.envelope import encode
from windlass.scheduler.steady import SteadyTime
from windlass.scheduler.timers import Kind, command
from windlass.service import AFTER_FAILURE_S

log = logs.get()

LOOK_S = 0.1
"""From one look for due timers to the next, at the least."""
LOOK_MAX_S = 1.0
"""The same, at the most: another instance may have set a timer and died."""
CLAIM_MAX = 1000
"""Timers claimed at a time."""
AGAIN_S = 2.0
"""When a timer without effect is said again; doubles from there."""
AGAIN_MAX_S = 60.0
PUBLISH_S = 2.0
SILENT_S = 5.0
"""Without a look for this long, this service is not ready."""

FIRED = metrics.TIMERS_FIRED.counter()
REPEATED = metrics.TIMERS_REPEATED.counter()
LATENESS_S = metrics.TIMER_LATENESS_S.histogram()
DUE = metrics.TIMERS_DUE.gauge()

Claimed = tuple[str, JobId, str, int, datetime, int]
"""A due timer: row, job, kind, number, when it was due, how often it was said, this time included."""


class Firing:
    """Says what is due."""

    def __init__(self, *, name: WorkerId, store: Connection, bus: Bus, clock: Clock, time: SteadyTime, shards: int) -> None:
        self._name, self._store, self._bus, self._clock, self._time = name, store, bus, clock, time
        self._shards = shards
        self._numbers = itertools.count(1)
        self._looked_at = clock.monotonic()
        self._wake = asyncio.Event()
        self.progressed: Callable[[], None] = lambda: None
        """Called after each look."""

    def wake(self) -> None:
        """There may be a timer that is due sooner than those that were known."""
        self._wake.set()

    def trouble(self) -> str | None:
        """What keeps timers from firing, if anything does: for the service's health."""
        silent = self._clock.monotonic() - self._looked_at
        return f"no look for due timers in {silent:.0f} s" if silent > SILENT_S else None

    async def serve(self, stop: asyncio.Event) -> None:
        """Say what is due until `stop`: a look when the next timer is due, when it is woken, and now and then."""
        ended = asyncio.ensure_future(stop.wait())
        ended.add_done_callback(lambda _: self._wake.set())
        try:
            while not stop.is_set():
                self._wake.clear()
                pause_s = await self._step()
                await asyncio.sleep(LOOK_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s - LOOK_S):
                        await self._wake.wait()
        finally:
            ended.cancel()

    async def _step(self) -> float:
        """One look; in how many seconds the next is worth it."""
        try:
            next_at = await self._look()
        except Unavailable as error:
            log.warning("firing_postponed", error=str(error))
            return AFTER_FAILURE_S
        self.progressed()
        if next_at is None:
            return LOOK_MAX_S
        return min(max((next_at - self._time.now()).total_seconds(), LOOK_S), LOOK_MAX_S)

    async def _look(self) -> datetime | None:
        """Say all that is due; when more will be."""
        while self._bus.connected:
            claimed, next_at = await self._store.run(claim, self._time.now())
            self._looked_at = self._clock.monotonic()
            await self._say(claimed)
            if len(claimed) < CLAIM_MAX:
                return next_at
        return None

    async def _say(self, claimed: list[Claimed]) -> None:
        subjects, messages = self._bus.subjects, []
        for row, job, kind, number, _, _ in claimed:
            body = command(Kind(kind), job, row, number)
            message = encode(body, id=f"{self._name}-{next(self._numbers)}", at=self._clock.now())
            messages.append((subjects.pending(shard_of(job, self._shards)), message))
        failures = await self._bus.publish_all(messages, timeout_s=PUBLISH_S)
        if failures:
            log.warning("timers_not_said", timers=len(failures), error=str(next(iter(failures.values()))))
        now = self._time.now()
        for index, (_, _, kind, _, due_at, fires) in enumerate(claimed):
            (FIRED if fires == 1 else REPEATED).labels(kind).inc()
            if fires == 1 and index not in failures:
                LATENESS_S.observe(max(0.0, (now - due_at).total_seconds()))

    async def again(self) -> None:
        """The broker is back: what was said may be lost with its streams, so say it now.

        Raises:
            Unavailable: the database did not answer.
        """
        await self._store.run(say_again, self._time.now())
        self.wake()

    async def count(self) -> None:
        """Count what waits for its effect.

        Raises:
            Unavailable: the database did not answer.
        """
        DUE.set(await self._store.run(count_said))


@Pipelined
def claim(now: datetime) -> Exchange[tuple[list[Claimed], datetime | None]]:
    """Take what is due, for this instance alone; it is due again later. The second result is when the next is due, if any is."""
    limits = {"now": now, "most": CLAIM_MAX, "pause": AGAIN_S, "pause_max": AGAIN_MAX_S}
    claimed, ((next_at,),) = yield [("claim_timers", limits), ("read_next_timer", {})]
    return cast("list[Claimed]", claimed), cast("datetime | None", next_at)


def say_again(connection: psycopg.Connection, now: datetime) -> None:
    """Make due what was said."""
    connection.execute(statement("fire_again"), {"now": now})


@Pipelined
def count_said() -> Exchange[int]:
    """How many timers were said and wait for their effect."""
    (((said,),),) = yield [("count_fired", {})]
    return int(said)
