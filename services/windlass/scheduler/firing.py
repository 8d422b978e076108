"""Firing: what is due is claimed, and said as a command.

A timer that was said stays, and is said again after a pause, until the event that answers it ends it. So a command that is
lost is only late, and one that is said twice finds a row that waits no more.
"""

import itertools
from datetime import datetime

import psycopg

from windlass import log as logs
from windlass import metrics
from windlass.bus.connection import Bus
from windlass.clock import Clock
from windlass.eventlog.connection import Connection
from windlass.eventlog.statements import statement
from windlass.ids import JobId, WorkerId, shard_of
from windlass.messages.envelope import encode
from windlass.scheduler.steady import SteadyTime
from windlass.scheduler.timers import Kind, command

log = logs.get()

LOOK_S = 0.1
"""From one look for due timers to the next."""
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

    def trouble(self) -> str | None:
        """What keeps timers from firing, if anything does: for the service's health."""
        silent = self._clock.monotonic() - self._looked_at
        return f"no look for due timers in {silent:.0f} s" if silent > SILENT_S else None

    async def look(self) -> None:
        """Say all that is due.

        Raises:
            Unavailable: the database did not answer.
        """
        while self._bus.connected:
            claimed = await self._store.run(claim, self._time.now())
            self._looked_at = self._clock.monotonic()
            await self._say(claimed)
            if len(claimed) < CLAIM_MAX:
                return

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

    async def count(self) -> None:
        """Count what waits for its effect.

        Raises:
            Unavailable: the database did not answer.
        """
        DUE.set(await self._store.run(count_said))


def claim(connection: psycopg.Connection, now: datetime) -> list[Claimed]:
    """Take what is due, for this instance alone; it is due again later."""
    limits = {"now": now, "most": CLAIM_MAX, "pause": AGAIN_S, "pause_max": AGAIN_MAX_S}
    return connection.execute(statement("claim_timers"), limits).fetchall()


def say_again(connection: psycopg.Connection, now: datetime) -> None:
    """Make due what was said."""
    connection.execute(statement("fire_again"), {"now": now})


def count_said(connection: psycopg.Connection) -> int:
    """How many timers were said and wait for their effect."""
    row = connection.execute(statement("count_fired")).fetchone()
    assert row is not None
    return int(row[0])
