"""A follower for tests, which writes down what it saw.

As a process of its own, it dies or freezes between projecting and moving on.
"""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import psycopg

from windlass.clock import system as clock
from windlass.eventlog import log
from windlass.eventlog.connection import Connection
from windlass.eventlog.follow import IDLE_S, Follower, Project, Recorded
from windlass.eventlog.log import Appended, Batch

SHARDS = 4
TABLES = """
    CREATE TABLE seen_cursors (shard smallint PRIMARY KEY, position bigint NOT NULL);
    INSERT INTO seen_cursors SELECT shard, 0 FROM shards;
    CREATE TABLE seen (
        shard smallint NOT NULL, position bigint NOT NULL, type text NOT NULL, number bigint GENERATED ALWAYS AS IDENTITY
    )
"""


def write_down(connection: psycopg.Connection, events: Sequence[Recorded]) -> None:
    """Project: a row an event, so that one which is missing, or was seen twice, shows."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO seen SELECT * FROM unnest(%s::smallint[], %s::bigint[], %s::text[])",
            ([e.shard for e in events], [e.position for e in events], [e.type for e in events]),
        )


def follower(store: Connection, project: Project = write_down, **options: int) -> Follower:
    """A follower of timed events into `seen`."""
    return Follower(cursors="seen_cursors", wanted="timed", store=store, clock=clock, shards=SHARDS, project=project, **options)


class Pen:
    """The writer of the log: appends events that say nothing, of which every `nth` is timed."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self.heads = dict.fromkeys(range(SHARDS), 0)
        self.timed: list[tuple[int, int]] = []
        """Shard and position of what a follower wants."""

    def append(self, shard: int, count: int = 1, nth: int = 1, type_: str = "test.happened", data: bytes = b"{}") -> None:
        """One commit."""
        head, stream = self.heads[shard], secrets.token_hex(16)
        batch = Batch(shards=SHARDS, heads={shard: (head, head + count)})
        for number in range(1, count + 1):
            timed = number % nth == 0
            batch.events.append(
                Appended(
                    kind="test",
                    stream=stream,
                    version=number,
                    shard=shard,
                    position=head + number,
                    type=type_,
                    data=data,
                    metadata=b"{}",
                    at=clock.now(),
                    timed=timed,
                    hooked=False,
                )
            )
            if timed:
                self.timed.append((shard, head + number))
        log.commit(self.connection, batch)
        self.heads[shard] += count


def interrupted(signal_number: int, amid: str) -> Callable[[psycopg.Connection, Sequence[Recorded]], None]:
    """Project, and before the cursor moves, be killed or frozen: between two statements, or `amid` a "pipeline"."""

    def project(connection: psycopg.Connection, events: Sequence[Recorded]) -> None:
        with connection.pipeline() if amid == "pipeline" else nullcontext():
            write_down(connection, events)
            print("projected", flush=True)
            os.kill(os.getpid(), signal_number)

    return project


async def main(dsn: str, schema: str, signal_name: str, amid: str) -> None:
    """Follow until the first event, and beyond it if that was survived."""
    store = Connection(dsn, "interrupted", IDLE_S, schema)
    await follower(store, interrupted(signal.Signals[signal_name], amid)).serve(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
