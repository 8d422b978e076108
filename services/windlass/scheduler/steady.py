"""The schedulers' time: it goes on steadily over their restarts, whatever happens to wall clocks meanwhile.

A process never sees its clock stepped (`windlass.clock`), but one that starts reads the wall clock anew. So the time is kept
in a row, with the boot-time clock of the machine that wrote it. On the same machine a new scheduler goes on from there exactly;
on another one it takes over the time of whoever lives. If nobody does, the wall clock is all there is, but time never goes back:
a timer then lasts at most as long again as it was meant to.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import psycopg

from windlass import log as logs
from windlass.clock import Clock
from windlass.eventlog.connection import Connection
from windlass.eventlog.pipeline import Exchange, Pipelined
from windlass.eventlog.statements import statement

log = logs.get()

KEEP_S = 1.0
"""How often the time is written down."""
LISTEN_S = 2.5
"""How long to listen for another machine that writes it."""
LOOK_S = 0.05
TOLD_S = 1.0
"""A difference between the wall clock and the schedulers' time from which on it is worth a line in the log."""

NOTHING: Mapping[int, float] = {}
Kept = tuple[datetime, str, float]
"""Time, boot and boot-time clock as they were written down."""


def boot_id() -> str:
    """What tells one boot of one machine from every other; empty where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class SteadyTime:
    """The schedulers' time, once `align` has found it."""

    def __init__(self, store: Connection, clock: Clock, boot: str) -> None:
        self._store, self._clock, self._boot = store, clock, boot
        self._ahead = timedelta()

    def now(self) -> datetime:
        """The time."""
        return self._clock.now() + self._ahead

    def at(self, monotonic_s: float) -> datetime:
        """The time at a moment of this process's monotonic clock."""
        return self.now() - timedelta(seconds=self._clock.monotonic() - monotonic_s)

    async def align(self) -> None:
        """Go on from where the time is.

        Raises:
            Unavailable: the database did not answer.
        """
        kept = await self._store.run(read_time)
        if kept is not None and not (self._boot and kept[1] == self._boot):
            kept = await self._listen(kept)
        if kept is not None:
            at, boot, boot_s = kept
            if boot and boot == self._boot:
                at += timedelta(seconds=self._clock.monotonic() - boot_s)
            self._ahead = at - self._clock.now()
        if abs(self._ahead.total_seconds()) >= TOLD_S:
            log.warning("wall_clock_not_followed", ahead_s=round(-self._ahead.total_seconds(), 1))
        await self.keep()

    async def _listen(self, kept: Kept) -> Kept | None:
        """The time of another machine: as it says itself if it lives, else only if it is past our own."""
        until = self._clock.monotonic() + LISTEN_S
        while self._clock.monotonic() < until:
            await asyncio.sleep(LOOK_S)
            found = await self._store.run(read_time)
            if found != kept:
                return found
        return kept if kept[0] > self._clock.now() else None

    async def keep(self, level: Mapping[int, float] = NOTHING) -> None:
        """Write the time down, and when each shard was followed to its head last, by the monotonic clock.

        Raises:
            Unavailable: the database did not answer.
        """
        kept = (self.now(), self._boot, self._clock.monotonic())
        await self._store.run(keep_time, kept, {shard: self.at(moment) for shard, moment in level.items()})


def read_time(connection: psycopg.Connection) -> Kept | None:
    """What was written down, if anything was."""
    return connection.execute(statement("read_time")).fetchone()


@Pipelined
def keep_time(kept: Kept, level: Mapping[int, datetime]) -> Exchange[None]:
    """Write it down, with when shards were followed to their heads."""
    at, boot, boot_s = kept
    yield [
        ("keep_time", {"at": at, "boot": boot, "boot_s": boot_s}),
        ("keep_levels", {"shard": list(level), "level_at": list(level.values())}),
    ]
