"""Following the log: a cursor a shard, and a projection that moves with it in one transaction.

The positions of a shard have no gaps and are committed in order by its only writer, so all up to its head is there and
nothing comes below it any more: reading in order skips nothing and needs no lock. The instances of a follower share the
shards. Each shard has one at a time, by a session lock on the connection that projects, so a dead session cannot project;
the expected position of the cursor is the second fence.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import psycopg

from windlass import log as logs
from windlass import metrics
from windlass.clock import Clock
from windlass.errors import Unavailable
from windlass.eventlog.connection import Connection
from windlass.eventlog.statements import composed, statement

log = logs.get()

LOOK_S = 0.9
"""How often a follower looks without being told: a bell that was lost costs this much."""
IDLE_S = 3
"""Of the projecting connection: its session is ended when it was silent for this long, and its shards are free."""
PAGE_MAX = 4000
"""Events that are read and projected together: well within the time that a session may idle in its transaction."""
PAGE_SIZE = 8 * 1024 * 1024
"""Characters of data that are read together, but for one event more of each shard: a result may be large."""
SILENT_S = 10.0
"""Without a look for this long, a follower is not well."""
LIVING = 1 << 16
"""The lock that every living instance holds together with the others; no shard has this number."""

FOLLOWED = metrics.FOLLOWED.counter()
BEHIND = metrics.BEHIND.gauge()


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as the log has it; `data` and `metadata` are JSON."""

    shard: int
    position: int
    stream: str
    version: int
    kind: str
    type: str
    data: str
    metadata: str
    at: datetime


Project = Callable[[psycopg.Connection, Sequence[Recorded]], None]
"""Turns events into rows, inside the transaction that moves the cursors. They are of several shards, each in order. What it
does not know it skips. It may neither commit nor change anything outside that transaction, since it may be called again."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a follower reads, and into what."""

    cursors: str
    """The table of positions, a row for each shard."""
    wanted: str
    """The column of `events` that says whether an event matters here."""
    page_max: int
    project: Project


class Stuck(Exception):
    """The next events of one of these shards cannot be projected, whatever is tried."""


@dataclass(frozen=True, slots=True)
class Advance:
    """What one reading came to."""

    events: int = 0
    distance: int = 0
    """How many positions the cursors were behind before it."""
    behind: frozenset[int] = frozenset()
    """Shards that have more."""


# -- what the connection is asked ---------------------------------------------------------------------------------------


def begin(connection: psycopg.Connection, cursors: str) -> int:
    """Be one of the instances of a follower as long as this session lasts; the class of its locks."""
    row = connection.execute("SELECT hashtext(current_schema() || '.' || %s) & 2147483647", (cursors,)).fetchone()
    assert row is not None
    connection.execute("SELECT pg_advisory_lock_shared(%s::integer, %s::integer)", (row[0], LIVING))
    return int(row[0])


def balance(connection: psycopg.Connection, lock_class: int, shards: int, held: frozenset[int]) -> frozenset[int]:
    """Take of the free shards up to an even share, or give back what is above it; what is held then."""
    leases = connection.execute(statement("read_leases"), {"class": lock_class}).fetchall()
    taken = {key for key, _ in leases}
    living = sorted(process for key, process in leases if key == LIVING)
    least, over = divmod(shards, len(living))
    share = least + (living.index(connection.info.backend_pid) < over)
    for shard in sorted(held)[share:]:
        connection.execute("SELECT pg_advisory_unlock(%s::integer, %s::integer)", (lock_class, shard))
    found = set(sorted(held)[:share])
    for shard in range(shards):
        if len(found) < share and shard not in taken:
            row = connection.execute("SELECT pg_try_advisory_lock(%s::integer, %s::integer)", (lock_class, shard)).fetchone()
            if row is not None and row[0]:
                found.add(shard)
    return frozenset(found)


def advance(connection: psycopg.Connection, reading: Reading, shards: frozenset[int]) -> Advance:
    """Project the next events of some shards and move their cursors, in one transaction.

    Raises:
        Stuck: a projection refused; nothing was stored.
        Unavailable: somebody else moved a cursor; nothing was stored.
    """
    try:
        with connection.transaction():
            return _advance(connection, reading, shards)
    except (psycopg.OperationalError, psycopg.InterfaceError, Unavailable):
        raise  # nobody's event's fault: trying again, on a new connection, may mend it
    except Exception as error:
        raise Stuck(repr(error)) from error


def _advance(connection: psycopg.Connection, reading: Reading, shards: frozenset[int]) -> Advance:
    news = connection.execute(composed("read_news", cursors=reading.cursors), {"shards": sorted(shards)}).fetchall()
    if not news:
        return Advance()
    numbers, seen, heads = (list(column) for column in zip(*news, strict=True))
    most, size = max(1, reading.page_max // len(news)), max(1, PAGE_SIZE // len(news))
    places = {"shards": numbers, "seen": seen, "heads": heads, "most": most, "size": size}
    events = [Recorded(*row) for row in connection.execute(composed("read_wanted", wanted=reading.wanted), places).fetchall()]
    if events:
        reading.project(connection, events)
    reached = _reached(events, dict(zip(numbers, heads, strict=True)), most, size)
    places = {"shards": numbers, "seen": seen, "reached": [reached[number] for number in numbers]}
    if connection.execute(composed("move_cursors", cursors=reading.cursors), places).rowcount != len(numbers):
        raise Unavailable(f"somebody else moved {reading.cursors}")
    behind = frozenset(number for number, head in zip(numbers, heads, strict=True) if reached[number] < head)
    return Advance(len(events), sum(heads) - sum(seen), behind)


def _reached(events: Iterable[Recorded], heads: dict[int, int], most: int, size: int) -> dict[int, int]:
    """How far each shard was read: to the last event of a page that is full, else to the head that was known before."""
    pages: dict[int, list[Recorded]] = {}
    for event in events:
        pages.setdefault(event.shard, []).append(event)
    reached = dict(heads)
    for shard, page in pages.items():
        if len(page) >= most or sum(len(event.data) for event in page) >= size:
            reached[shard] = page[-1].position
    return reached


# -- the loop -----------------------------------------------------------------------------------------------------------


class Follower:
    """Keeps the tables of one service up with the log.

    `store` is a connection for this alone, made with `IDLE_S`. `wanted` is the column of `events` that says whether an event
    matters here: `timed` or `hooked`. `cursors` is the table of positions, a row for each shard; only this follower writes it.
    """

    def __init__(
        self,
        *,
        cursors: str,
        wanted: str,
        store: Connection,
        clock: Clock,
        shards: int,
        project: Project,
        page_max: int = PAGE_MAX,
    ) -> None:
        self._reading = Reading(cursors, wanted, page_max, project)
        self._store, self._clock, self._shards = store, clock, shards
        self._generation: int | None = None
        """Of the session that holds the shards."""
        self._class = 0
        self._balanced_at = self._looked_at = clock.monotonic()
        self._rung = asyncio.Event()
        self.held: frozenset[int] = frozenset()
        """The shards that are followed here."""
        self.stuck: dict[int, str] = {}
        """Shards whose next events cannot be projected, and why: a person has to look."""
        self.passed: Callable[[], None] = lambda: None
        """Called after each look at the log, when what it found is committed."""
        self.level: dict[int, float] = {}
        """When each shard was last followed to its head, by the monotonic clock: what is read later happened later."""

    def ring(self, shard: int) -> None:
        """The log of a shard has something new."""
        if shard in self.held:
            self._rung.set()

    def trouble(self) -> str | None:
        """What keeps it from following, if anything does: for the service's health."""
        if self.stuck:
            return "; ".join(f"shard {shard}: {why}" for shard, why in sorted(self.stuck.items()))
        silent = self._clock.monotonic() - self._looked_at
        return f"has not read the log for {silent:.0f} s" if silent > SILENT_S else None

    async def serve(self, stop: asyncio.Event) -> None:
        """Follow until `stop`, then let others have the shards."""
        ended = asyncio.ensure_future(stop.wait())
        ended.add_done_callback(lambda _: self._rung.set())
        try:
            while not stop.is_set():
                self._rung.clear()
                if not await self._step():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_S * random.uniform(0.9, 1.1)):  # noqa: S311 jitter, not secrecy
                            await self._rung.wait()
        finally:
            ended.cancel()
            await self._leave()

    async def _leave(self) -> None:
        """End the session, and with it what is held."""
        self.held, self._generation = frozenset(), None
        self.stuck.clear()
        self.level.clear()
        await self._store.drop()

    async def _step(self) -> bool:
        """One pass; whether there is more to do at once."""
        try:
            more = await self._pass()
        except Unavailable as error:
            log.warning("following_postponed", follower=self._reading.cursors, error=str(error))
            await self._leave()
            return False
        self._looked_at = self._clock.monotonic()
        self.passed()
        return more

    async def _pass(self) -> bool:
        more = False
        if self._generation is None:
            self._class = await self._store.run(begin, self._reading.cursors)
            self._generation = self._store.generation
            await self._balance()
        elif self._clock.monotonic() - self._balanced_at >= LOOK_S:
            await self._balance()
            more = await self._follow_each(self.held & self.stuck.keys())
        sound = self.held - self.stuck.keys()
        try:
            return await self._follow(sound) or more
        except Stuck:
            return await self._follow_each(sound)

    def _check(self) -> None:
        if self._store.generation != self._generation:
            raise Unavailable("the session that held the shards is gone")

    async def _balance(self) -> None:
        self._balanced_at = self._clock.monotonic()
        held = await self._store.run(balance, self._class, self._shards, self.held)
        self._check()
        if held != self.held:
            log.info("shards_followed", follower=self._reading.cursors, shards=sorted(held))
        for shard in self.held - held:
            self.stuck.pop(shard, None)
            self.level.pop(shard, None)
        self.held = held

    async def _follow(self, shards: frozenset[int]) -> bool:
        """Go on with some shards; whether they have more.

        Raises:
            Stuck: one of them cannot go on.
        """
        began_at = self._clock.monotonic()
        done = await self._store.run(advance, self._reading, shards)
        self._check()
        FOLLOWED.labels(self._reading.cursors).inc(done.events)
        BEHIND.labels(self._reading.cursors).set(done.distance)
        self.level.update(dict.fromkeys(shards - done.behind, began_at))
        return bool(done.behind)

    async def _follow_each(self, shards: frozenset[int]) -> bool:
        """The same, shard by shard; one that cannot go on is left where it is until a person has looked."""
        more = False
        for shard in sorted(shards):
            try:
                more |= await self._follow(frozenset({shard}))
                self.stuck.pop(shard, None)
            except Stuck as error:
                if self.stuck.get(shard) != str(error):
                    log.error("shard_stuck", follower=self._reading.cursors, shard=shard, error=str(error), exc_info=True)
                self.stuck[shard] = str(error)
        return more
