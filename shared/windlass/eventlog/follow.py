"""Following the log: a cursor a shard, and a projection that moves with it in one transaction.

The positions of a shard have no gaps and are committed in order by its only writer, so all up to its head is there and
nothing comes below it any more: reading in order skips nothing and needs no lock. The instances of a follower share the
shards. Each shard has one at a time, by a session lock on the connection that projects, so a dead session cannot project;
the expected position of the cursor is the second fence.
"""

import asyncio
import math
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import psycopg

from windlass import log as logs
from windlass import metrics
from windlass.clock import Clock
from windlass.errors import Unavailable
from windlass.eventlog.connection import Connection, end_silent
from windlass.eventlog.pipeline import Exchange, Pipelined
from windlass.eventlog.statements import composed

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


class News(NamedTuple):
    """A shard with more than was read: up to where it was, and where its log ends."""

    shard: int
    seen: int
    head: int


class Lease(NamedTuple):
    """A lock of a follower that a session holds: of a shard, or `LIVING`."""

    key: int
    session: int


@dataclass(frozen=True, slots=True)
class Advance:
    """What one reading came to."""

    events: int = 0
    distance: int = 0
    """How many positions the cursors were behind before it."""
    behind: frozenset[int] = frozenset()
    """Shards that have more."""


# -- what the connection is asked ---------------------------------------------------------------------------------------


def begin(connection: psycopg.Connection, cursors: str) -> tuple[int, int]:
    """Be one of the instances of a follower as long as this session lasts: the class of its locks, and which session it is."""
    row = connection.execute("SELECT hashtext(current_schema() || '.' || %s) & 2147483647", (cursors,)).fetchone()
    assert row is not None
    connection.execute("SELECT pg_advisory_lock_shared(%s::integer, %s::integer)", (row[0], LIVING))
    return int(row[0]), connection.info.backend_pid


@Pipelined
def look(cursors: str, shards: Collection[int], lock_class: int | None) -> Exchange[tuple[list[News], list[Lease]]]:
    """What some shards have that was not read yet and, if a class of locks is given, which of them are held: one round trip."""
    news, *leases = yield [
        ("read_news", {"shards": sorted(shards)}, (("cursors", cursors),)),
        *([("read_leases", {"class": lock_class})] if lock_class is not None else ()),
    ]
    return [News(*row) for row in news], [Lease(*row) for rows in leases for row in rows]


def share(shards: int, session: int, leases: Iterable[Lease]) -> int:
    """How many shards a session should have for all that live to have as many, give or take one."""
    living = sorted(other for key, other in leases if key == LIVING)
    least, over = divmod(shards, len(living))
    return least + (living.index(session) < over)


def balance(connection: psycopg.Connection, lock_class: int, give: Collection[int], take: Iterable[int], most: int) -> set[int]:
    """Give some shards back and take of others as many as are free, `most` at most; which were taken."""
    for shard in give:
        connection.execute("SELECT pg_advisory_unlock(%s::integer, %s::integer)", (lock_class, shard))
    found: set[int] = set()
    for shard in take:
        if len(found) >= most:
            break
        row = connection.execute("SELECT pg_try_advisory_lock(%s::integer, %s::integer)", (lock_class, shard)).fetchone()
        if row is not None and row[0]:
            found.add(shard)
    return found


def advance(connection: psycopg.Connection, reading: Reading, news: Sequence[News]) -> Advance:
    """Project the next events of some shards and move their cursors, in one transaction.

    Raises:
        Stuck: a projection refused; nothing was stored.
        Unavailable: somebody else moved a cursor; nothing was stored.
    """
    try:
        with connection.transaction():
            return _advance(connection, reading, news)
    except (psycopg.OperationalError, psycopg.InterfaceError, Unavailable):
        raise  # nobody's event's fault: trying again, on a new connection, may mend it
    except Exception as error:
        raise Stuck(repr(error)) from error


def _advance(connection: psycopg.Connection, reading: Reading, news: Sequence[News]) -> Advance:
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
        self._class = self._session = 0
        self._balanced_at = self._looked_at = clock.monotonic()
        self._rung = asyncio.Event()
        self.held: frozenset[int] = frozenset()
        """The shards that are followed here."""
        self.stuck: dict[int, str] = {}
        """Shards whose next events cannot be projected, and why: a person has to look."""
        self.passed: Callable[[], None] = lambda: None
        """Called when something of the log was projected and is committed."""
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
        return more

    async def _pass(self) -> bool:
        if self._generation is None:
            self._class, self._session = await self._store.run(begin, self._reading.cursors)
            self._generation = self._store.generation
            self._balanced_at = -math.inf
        began_at = self._clock.monotonic()
        balances = began_at - self._balanced_at >= LOOK_S
        news, leases = await self._store.run(look, self._reading.cursors, self.held, self._class if balances else None)
        self._check()
        self.level.update(dict.fromkeys(self.held - {of.shard for of in news}, began_at))
        more = False
        if balances:
            self._balanced_at = began_at
            await self._store.run(end_silent)
            more = await self._balance(leases)
            news = [of for of in news if of.shard in self.held]
            for shard in self.stuck.keys() - {of.shard for of in news}:
                del self.stuck[shard]  # a person has moved its cursor on
            more |= await self._follow_each([of for of in news if of.shard in self.stuck], began_at)
        news = [of for of in news if of.shard not in self.stuck]
        try:
            return await self._follow(news, began_at) or more
        except Stuck:
            return await self._follow_each(news, began_at)

    def _check(self) -> None:
        if self._store.generation != self._generation:
            raise Unavailable("the session that held the locks is gone")

    async def _balance(self, leases: Sequence[Lease]) -> bool:
        """Have no more than a share of the shards and no less, as far as they are free; whether that changed what is held."""
        most = share(self._shards, self._session, leases)
        give = sorted(self.held)[most:]
        leased = {lease.key for lease in leases}
        free = [shard for shard in range(self._shards) if shard not in leased]
        if not (give or (free and len(self.held) < most)):
            return False
        taken = await self._store.run(balance, self._class, give, free, most - len(self.held))
        self._check()
        held = self.held - set(give) | taken
        if held == self.held:
            return False
        log.info("shards_followed", follower=self._reading.cursors, shards=sorted(held))
        for shard in self.held - held:
            self.stuck.pop(shard, None)
            self.level.pop(shard, None)
        self.held = held
        return True

    async def _follow(self, news: Sequence[News], began_at: float) -> bool:
        """Go on with some shards, as they were seen at a moment or later; whether they have more.

        Raises:
            Stuck: one of them cannot go on.
        """
        done = await self._store.run(advance, self._reading, news) if news else Advance()
        self._check()
        FOLLOWED.labels(self._reading.cursors).inc(done.events)
        BEHIND.labels(self._reading.cursors).set(done.distance)
        self.level.update(dict.fromkeys({of.shard for of in news} - done.behind, began_at))
        if done.events:
            self.passed()
        return bool(done.behind)

    async def _follow_each(self, news: Sequence[News], began_at: float) -> bool:
        """The same, shard by shard; one that cannot go on is left where it is until a person has looked."""
        more = False
        for of in news:
            try:
                more |= await self._follow([of], began_at)
                self.stuck.pop(of.shard, None)
            except Stuck as error:
                if self.stuck.get(of.shard) != str(error):
                    log.error("shard_stuck", follower=self._reading.cursors, shard=of.shard, error=str(error), exc_info=True)
                self.stuck[of.shard] = str(error)
        return more
