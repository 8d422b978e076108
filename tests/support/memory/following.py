"""What a follower of the log and a scheduler ask of the database, in memory: leases, cursors, timers, the kept time."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import psycopg

from windlass.errors import Unavailable
from windlass.eventlog import follow
from windlass.eventlog.follow import LIVING, Advance, Lease, News, Reading, Recorded, Stuck
from windlass.eventlog.statements import statement
from windlass.scheduler import firing, steady
from windlass.scheduler.firing import AGAIN_MAX_S, AGAIN_S, CLAIM_MAX, Claimed
from windlass.scheduler.steady import Kept

if TYPE_CHECKING:
    from tests.support.memory.database import Database, Session


@dataclass(slots=True)
class Timer:
    """A row of `timers`."""

    id: str
    job: str
    kind: str
    number: int
    due_at: datetime
    fire_at: datetime
    fires: int = 0


class Following:
    """The statements of `follow.py`, of the scheduler, and of whoever else follows."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._names: list[str] = []
        self._processes = 0
        self._living: dict[tuple[int, int], Session] = {}
        """By the follower's number and the session's."""
        self._leases: dict[tuple[int, int], Session] = {}
        self._cursors: dict[str, list[int]] = {}
        self.timers: dict[str, Timer] = {}
        self._time: Kept | None = None
        self._levels: dict[int, datetime] = {}
        """When each shard was last known to be followed to its head."""
        self.statements: dict[Any, Callable[..., Any]] = {
            follow.begin: self._begin,
            follow.look: self._look,
            follow.balance: self._balance,
            follow.advance: self._advance,
            firing.claim: self._claim,
            firing.say_again: self._say_again,
            firing.count_said: lambda session: sum(timer.fires > 0 for timer in self.timers.values()),
            steady.read_time: lambda session: self._time,
            steady.keep_time: self._keep_time,
            **database.deliveries.statements,
        }
        self.reads = {statement("read_levels"): self._read_levels, **database.deliveries.reads}
        self.writes = {
            statement("end_timers"): self._end_timers,
            statement("set_timers"): self._set_timers,
            **database.deliveries.writes,
        }
        """The statements of projections."""

    # -- following --------------------------------------------------------------------------------------------------

    def _begin(self, session: "Session", cursors: str) -> tuple[int, int]:
        if cursors not in self._names:
            self._names.append(cursors)
        number = self._names.index(cursors)
        self._processes += 1
        self._living[number, self._processes] = session
        return number, self._processes

    def _look(
        self, session: "Session", cursors: str, shards: Collection[int], number: int | None
    ) -> tuple[list[News], list[Lease]]:
        seen, events = self.seen(cursors), self._database.events
        news = [News(shard, seen[shard], len(events[shard])) for shard in sorted(shards) if len(events[shard]) > seen[shard]]
        processes = {other: process for (_, process), other in self._living.items()}
        leases = [Lease(LIVING, process) for (of, process), other in self._living.items() if of == number and other.live]
        leases += [Lease(key, processes[other]) for (of, key), other in self._leases.items() if of == number and other.live]
        return news, leases

    def _balance(self, session: "Session", number: int, give: Collection[int], take: Iterable[int], most: int) -> set[int]:
        for shard in give:
            del self._leases[number, shard]
        found: set[int] = set()
        for shard in take:
            owner = self._leases.get((number, shard))
            if len(found) < most and (owner is None or not owner.live):
                self._leases[number, shard] = session
                found.add(shard)
        return found

    def seen(self, cursors: str) -> list[int]:
        """How far the followers of a kind are, by shard."""
        return self._cursors.setdefault(cursors, [0] * len(self._database.shards))

    def _advance(self, session: "Session", reading: Reading, news: Sequence[News]) -> Advance:
        cursors = self.seen(reading.cursors)
        events = [
            Recorded(e.shard, e.position, e.stream, e.version, e.kind, e.type, e.data.decode(), e.metadata.decode(), e.at)
            for of in news
            for e in self._database.events[of.shard][of.seen : of.head]
            if getattr(e, reading.wanted)
        ]
        if any(cursors[of.shard] != of.seen for of in news):
            raise Unavailable(f"somebody else moved {reading.cursors}")
        if events:
            tables = _Tables(self)
            try:
                reading.project(cast("psycopg.Connection", tables), events)
            except Exception as error:
                raise Stuck(repr(error)) from error
            tables.commit()
        for of in news:
            cursors[of.shard] = of.head
        return Advance(len(events), sum(of.head - of.seen for of in news), frozenset())

    # -- timers -----------------------------------------------------------------------------------------------------

    def _claim(self, session: "Session", now: datetime) -> tuple[list[Claimed], datetime | None]:
        due = sorted((timer for timer in self.timers.values() if timer.fire_at <= now), key=lambda timer: timer.fire_at)
        for timer in due[:CLAIM_MAX]:
            timer.fire_at = now + timedelta(seconds=min(AGAIN_S * 2.0 ** min(timer.fires, 16), AGAIN_MAX_S))
            timer.fires += 1
        claimed = cast("list[Claimed]", [(t.id, t.job, t.kind, t.number, t.due_at, t.fires) for t in due[:CLAIM_MAX]])
        return claimed, min((timer.fire_at for timer in self.timers.values()), default=None)

    def _say_again(self, session: "Session", now: datetime) -> None:
        for timer in self.timers.values():
            if timer.fires and timer.fire_at > now:
                timer.fire_at, timer.fires = now, 1

    def _keep_time(self, session: "Session", kept: Kept, level: Mapping[int, datetime]) -> None:
        self._time = kept
        for shard, at in level.items():
            self._levels[shard] = max(at, self._levels.get(shard, at))

    def _read_levels(self, parameters: Mapping[str, Any]) -> "_Rows":
        return _Rows((shard, self._levels[shard]) for shard in parameters["shards"] if shard in self._levels)

    def _end_timers(self, parameters: Mapping[str, Any]) -> None:
        for row in parameters["ids"]:
            self.timers.pop(row.hex, None)

    def _set_timers(self, parameters: Mapping[str, Any]) -> None:
        columns = (parameters[name] for name in ("id", "job", "kind", "number", "due_at"))
        for row, job, kind, number, due_at in zip(*columns, strict=True):
            self.timers[row.hex] = Timer(row.hex, job.hex, kind, number, due_at, due_at)


class _Rows(list[Any]):
    """What a statement found, as psycopg gives it."""

    def fetchall(self) -> list[Any]:
        """See psycopg."""
        return self


class _Tables:
    """What a projection reads and writes, inside the transaction of an advance: what it writes is there once it is committed."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._done: list[tuple[Callable[[Any], None], Any]] = []

    def pipeline(self) -> AbstractContextManager[None]:
        """See psycopg."""
        return nullcontext()

    def execute(self, query: bytes, parameters: Any) -> list[Any]:
        """One of the statements that a projection has."""
        if query in self._following.reads:
            return self._following.reads[query](parameters)
        self._done.append((self._following.writes[query], parameters))
        return []

    def commit(self) -> None:
        """All of it is stored."""
        for write, parameters in self._done:
            write(parameters)
