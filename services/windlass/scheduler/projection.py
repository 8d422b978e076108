"""Timers as rows: projected from the log as a follower reads it."""

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import psycopg

from windlass.eventlog.follow import Recorded
from windlass.eventlog.statements import statement
from windlass.scheduler.steady import SteadyTime
from windlass.scheduler.timers import changes, fires_at


class Projection:
    """Sets and ends the rows of `timers`.

    `level` is when each shard was followed to its head here last, by the monotonic clock. What is missing there was just taken
    over, and its last follower has written it down.
    """

    def __init__(self, time: SteadyTime, level: Callable[[], Mapping[int, float]]) -> None:
        self._time, self._level = time, level

    def __call__(self, connection: psycopg.Connection, events: Sequence[Recorded]) -> None:
        """Project a page of events."""
        now = self._time.now()
        found = changes(events)
        ended = [UUID(row) for row, timer in found.items() if timer is None]
        timers = [timer for timer in found.values() if timer is not None]
        if ended:
            connection.execute(statement("end_timers"), {"ids": ended})
        if timers:
            level = {shard: self._time.at(moment) for shard, moment in self._level().items()}
            if taken_over := {timer.shard for timer in timers} - level.keys():
                level.update(connection.execute(statement("read_levels"), {"shards": sorted(taken_over)}).fetchall())
            connection.execute(
                statement("set_timers"),
                {
                    "id": [UUID(timer.id) for timer in timers],
                    "job": [UUID(timer.job) for timer in timers],
                    "kind": [timer.kind.value for timer in timers],
                    "number": [timer.number for timer in timers],
                    "due_at": [fires_at(timer, now, level.get(timer.shard)) for timer in timers],
                },
            )
