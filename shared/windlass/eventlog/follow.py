"""Following the log: a cursor a shard, and a projection that moves with it in one transaction.

The positions of a shard have no gaps and are committed in order by its only writer, so all up to its head is there and
nothing comes below it any more: reading in order skips nothing and needs no lock. The instances of a follower share the
shards. Each shard has one at a time, by a session lock on the connection that projects, so a dead session cannot project;
the expected position of the cursor is the second fence.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Sequence
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


PASSING = (psycopg.OperationalError, psycopg.InterfaceError, Unavailable)
"""Errors that are nobody's event's fault: trying again, on a new connection, may mend them."""


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
        self._cursors, self._store, self._clock, self._shards = cursors, store, clock, shards
        self._project, self._page_max = project, page_max
        self._news, self._move = composed("read_news", cursors=cursors), composed("move_cursors", cursors=cursors)
        self._read = composed("read_wanted", wanted=wanted)
        self._generation, self._class = 0, 0
        self._balanced_at = self._looked_at = clock.monotonic()
        self._rung = asyncio.Event()
        self.held: set[int] = set()
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
            return "; ".join(f"shard {shard}: {why}" for shard, why in sorted(dict(self.stuck).items()))
        silent = self._clock.monotonic() - self._looked_at
        return f"has not read the log for {silent:.0f} s" if silent > 10 else None

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
            await self._store.drop()
            self.held.clear()

    async def _step(self) -> bool:
        """One pass; whether there is more to do at once."""
        try:
            more = await self._store.run(self._pass)
        except Unavailable as error:
            log.warning("following_postponed", follower=self._cursors, error=str(error))
            self.held.clear()
            await self._store.drop()
            return False
        self._looked_at = self._clock.monotonic()
        self.passed()
        return more

    # -- on the connection's thread ---------------------------------------------------------------------------------

    def _pass(self, connection: psycopg.Connection) -> bool:
        more = False
        if self._generation != self._store.generation:  # another session, which holds nothing yet
            self._begin(connection)
        elif self._clock.monotonic() - self._balanced_at >= LOOK_S:
            self._balance(connection)
            more = self._follow_each(connection, self.stuck.keys() & self.held)
        sound = self.held - self.stuck.keys()
        try:
            return self._follow(connection, sound) or more
        except PASSING:
            raise
        except Exception:  # noqa: BLE001 one shard's events cannot be projected; which, and why, shows one by one
            return self._follow_each(connection, sound)

    def _begin(self, connection: psycopg.Connection) -> None:
        for known in (self.held, self.stuck, self.level):
            known.clear()
        row = connection.execute("SELECT hashtext(current_schema() || '.' || %s) & 2147483647", (self._cursors,)).fetchone()
        assert row is not None
        self._class = row[0]
        connection.execute("SELECT pg_advisory_lock_shared(%s::integer, %s::integer)", (self._class, LIVING))
        self._generation = self._store.generation
        self._balance(connection)

    def _balance(self, connection: psycopg.Connection) -> None:
        """Take of the free shards up to an even share, or give back what is above it."""
        self._balanced_at = self._clock.monotonic()
        leases = connection.execute(statement("read_leases"), {"class": self._class}).fetchall()
        taken = {key for key, _ in leases}
        living = sorted(process for key, process in leases if key == LIVING)
        least, over = divmod(self._shards, len(living))
        share = least + (living.index(connection.info.backend_pid) < over)
        before = set(self.held)
        for shard in sorted(self.held)[share:]:
            connection.execute("SELECT pg_advisory_unlock(%s::integer, %s::integer)", (self._class, shard))
            self.held.discard(shard)
            self.stuck.pop(shard, None)
            self.level.pop(shard, None)
        for shard in range(self._shards):
            if len(self.held) < share and shard not in taken:
                row = connection.execute("SELECT pg_try_advisory_lock(%s::integer, %s::integer)", (self._class, shard)).fetchone()
                if row is not None and row[0]:
                    self.held.add(shard)
        if self.held != before:
            log.info("shards_followed", follower=self._cursors, shards=sorted(self.held))

    def _follow(self, connection: psycopg.Connection, shards: Collection[int]) -> bool:
        """Project the next events of some shards and move their cursors; whether there are more."""
        began_at = self._clock.monotonic()
        with connection.transaction():
            news = connection.execute(self._news, {"shards": list(shards)}).fetchall()
            BEHIND.labels(self._cursors).set(sum(head - seen for _, seen, head in news))
            if not news:
                self.level.update(dict.fromkeys(shards, began_at))
                return False
            numbers, seen, heads = (list(column) for column in zip(*news, strict=True))
            most, size = max(1, self._page_max // len(news)), max(1, PAGE_SIZE // len(news))
            places = {"shards": numbers, "seen": seen, "heads": heads}
            events = [Recorded(*row) for row in connection.execute(self._read, {**places, "most": most, "size": size}).fetchall()]
            if events:
                self._project(connection, events)
            reached = _reached(events, dict(zip(numbers, heads, strict=True)), most, size)
            moved = connection.execute(self._move, {"shards": numbers, "seen": seen, "reached": [reached[n] for n in numbers]})
            if moved.rowcount != len(numbers):
                raise Unavailable(f"somebody else moved {self._cursors}")
        FOLLOWED.labels(self._cursors).inc(len(events))
        behind = {number for number, head in zip(numbers, heads, strict=True) if reached[number] < head}
        self.level.update(dict.fromkeys(set(shards) - behind, began_at))
        return bool(behind)

    def _follow_each(self, connection: psycopg.Connection, shards: Collection[int]) -> bool:
        """The same, shard by shard; one that cannot be projected is left where it is until a person has looked."""
        more = False
        for shard in sorted(shards):
            try:
                more |= self._follow(connection, [shard])
                self.stuck.pop(shard, None)
            except PASSING:
                raise
            except Exception as error:  # whatever a projection raises, the other shards go on
                if self.stuck.get(shard) != repr(error):
                    log.error("shard_stuck", follower=self._cursors, shard=shard, error=repr(error), exc_info=True)
                self.stuck[shard] = repr(error)
        return more


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
