"""The log as its writer sees it: take shards, load a working set, commit a batch.

One transaction a batch: heads from expected to new, events, rows, variables, counts, keys. A head that moved, or a version
or key that was taken, refuses all of it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from windlass.errors import Corrupt, WindlassError
from windlass.eventlog.rows import JobRow, TaskRow
from windlass.eventlog.statements import statement
from windlass.ids import JobId, TaskId, shard_of
from windlass.messages.jobs import Job, Task

LOCK_CLASS = 0x77696E64
"""First half of the session locks' keys ("wind"); the second is the shard."""
HEAD_MOVED = "WL001"

_encode = msgspec.json.Encoder().encode
_jobs = msgspec.json.Decoder(Job)
_tasks = msgspec.json.Decoder(Task)


class Overtaken(WindlassError):
    """Somebody else committed to a shard of this batch: nothing of it was stored."""

    code = "overtaken"
    http = 503


class Taken(WindlassError):
    """A row of this batch exists already: nothing of it was stored, and it is to be decided again from what is there."""

    code = "taken"
    http = 503


class Unfit(WindlassError):
    """The database refused a value of this batch: nothing of it was stored, and one of its messages is to blame."""

    code = "unfit"
    http = 500


@dataclass(slots=True)
class Appended:
    """One event on its way into the log."""

    kind: str
    stream: str
    version: int
    shard: int
    position: int
    type: str
    data: bytes
    metadata: bytes
    at: datetime
    timed: bool
    hooked: bool


@dataclass(slots=True)
class Batch:
    """All that one transaction stores."""

    shards: int = 1
    """How many the installation has."""
    heads: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Shard: the position expected, the position after."""
    events: list[Appended] = field(default_factory=list)
    new_jobs: list[JobRow] = field(default_factory=list)
    changed_jobs: list[JobRow] = field(default_factory=list)
    new_tasks: list[TaskRow] = field(default_factory=list)
    changed_tasks: list[TaskRow] = field(default_factory=list)
    variables: list[tuple[JobId, str, str]] = field(default_factory=list)
    counts: Counter[tuple[int, str]] = field(default_factory=Counter)
    keys: list[tuple[str, str, JobId, str]] = field(default_factory=list)
    """Owner, key, job, digest of the body."""


@dataclass(slots=True)
class Loaded:
    """What the database holds of some jobs."""

    jobs: list[JobRow]
    tasks: list[TaskRow]
    variables: list[tuple[JobId, str, str]]
    keys: dict[tuple[str, str], tuple[JobId, str]]


def _uuids(ids: Iterable[str]) -> list[UUID]:
    return [UUID(i) for i in ids]


def take(connection: psycopg.Connection, shard: int, owner: str) -> tuple[int, str] | None:
    """Try to become the owner of a shard; its head and the incarnation last driven, or None while another session holds it."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s::integer, %s::integer)", (LOCK_CLASS, shard)).fetchone()
    if row is None or not row[0]:
        return None
    found = connection.execute(statement("take_shard"), {"owner": owner, "shard": shard}).fetchone()
    if found is None:
        raise Corrupt(f"shard {shard} has no row")
    return int(found[0]), str(found[1])


def release(connection: psycopg.Connection, shard: int) -> None:
    """Give a shard back."""
    connection.execute("SELECT pg_advisory_unlock(%s::integer, %s::integer)", (LOCK_CLASS, shard))


def ping(connection: psycopg.Connection) -> None:
    """Keep the session from idling out."""
    connection.execute("SELECT 1")


def shard_count(connection: psycopg.Connection) -> int:
    """How many shards this installation has."""
    row = connection.execute("SELECT shards FROM installation").fetchone()
    assert row is not None
    return int(row[0])


def load(
    connection: psycopg.Connection, jobs: Sequence[JobId], tasks: Sequence[TaskId], keys: Sequence[tuple[str, str]]
) -> Loaded:
    """Read the working sets of `jobs`, with the task rows asked for, and the jobs of some Idempotency-Keys: one round trip."""
    ids = _uuids(jobs)
    with connection.pipeline():
        job_rows = connection.execute(statement("load_jobs"), {"ids": ids})
        task_rows = connection.execute(statement("load_tasks"), {"jobs": ids, "tasks": _uuids(tasks)})
        var_rows = connection.execute(statement("load_variables"), {"jobs": ids})
        key_rows = (
            connection.execute(statement("load_keys"), {"owner": [k[0] for k in keys], "key": [k[1] for k in keys]})
            if keys
            else None
        )
    return Loaded(
        jobs=[_job_row(row) for row in job_rows],
        tasks=[_task_row(row) for row in task_rows],
        variables=[(JobId(job), name, value) for job, name, value in var_rows],
        keys={(owner, key): (JobId(job), digest) for owner, key, job, digest in key_rows or ()},
    )


_JOB_FIELDS = (
    "created_by", "created_at", "task_count", "version", "run", "state", "position", "progress",
    "started_at", "completed_at", "failed_at", "result", "error", "drive_at", "drives",
)  # fmt: skip
_TASK_FIELDS = (
    "created_at", "state", "retries", "redelivered", "queue", "worker", "progress",
    "scheduled_at", "started_at", "completed_at", "failed_at", "result", "error", "drive_at", "drives", "stopping",
)  # fmt: skip


def _job_row(row: tuple[object, ...]) -> JobRow:
    return JobRow(id=row[0], definition=_jobs.decode(row[1]), **dict(zip(_JOB_FIELDS, row[2:], strict=True)))  # type: ignore[arg-type]  # as selected


def _task_row(row: tuple[object, ...]) -> TaskRow:
    names = ("id", "job", "run", "key", "position", "attempt")
    return TaskRow(
        **dict(zip(names, row[:6], strict=True)),  # type: ignore[arg-type]  # as selected
        definition=_tasks.decode(row[6]),  # type: ignore[arg-type]
        **dict(zip(_TASK_FIELDS, row[7:], strict=True)),  # type: ignore[arg-type]
        stored=True,
    )


def commit(connection: psycopg.Connection, batch: Batch) -> None:
    """Store a batch, whole or not at all; durable when it returns.

    Raises:
        Overtaken: a head had moved.
        Taken: a job, version or key existed.
        Unfit: a value that the database cannot hold.
    """
    try:
        with connection.pipeline(), connection.transaction(), connection.cursor() as cursor:
            store(cursor, batch)
    except psycopg.errors.UniqueViolation as error:
        raise Taken(f"a row existed already: {error}") from error
    except (psycopg.DataError, psycopg.IntegrityError, UnicodeEncodeError) as error:
        raise Unfit(f"PostgreSQL cannot hold a value: {error}") from error
    except psycopg.DatabaseError as error:
        if error.sqlstate == HEAD_MOVED:
            raise Overtaken(str(error)) from error
        raise


def store(cursor: psycopg.Cursor, batch: Batch) -> None:
    """All that a batch holds, within the transaction of whoever calls."""
    if batch.heads:
        cursor.execute(
            statement("move_heads"),
            {
                "shards": list(batch.heads),
                "expected": [before for before, _ in batch.heads.values()],
                "next": [after for _, after in batch.heads.values()],
            },
        )
    if batch.events:
        e = batch.events
        cursor.execute(
            statement("append_events"),
            {
                "kind": [x.kind for x in e],
                "stream": _uuids(x.stream for x in e),
                "version": [x.version for x in e],
                "shard": [x.shard for x in e],
                "position": [x.position for x in e],
                "type": [x.type for x in e],
                "data": [x.data.decode() for x in e],
                "metadata": [x.metadata.decode() for x in e],
                "at": [x.at for x in e],
                "timed": [x.timed for x in e],
                "hooked": [x.hooked for x in e],
            },
        )
    if batch.new_jobs:
        cursor.execute(statement("insert_jobs"), new_jobs(batch.new_jobs, batch.shards))
    if batch.changed_jobs:
        cursor.execute(statement("update_jobs"), _changing_jobs(batch.changed_jobs))
    if batch.new_tasks:
        cursor.execute(statement("insert_tasks"), new_tasks(batch.new_tasks, batch.shards))
    if batch.changed_tasks:
        cursor.execute(statement("update_tasks"), _changing_tasks(batch.changed_tasks))
    if batch.variables:
        v = batch.variables
        cursor.execute(
            statement("set_variables"),
            {"job": _uuids(x[0] for x in v), "name": [x[1] for x in v], "value": [x[2] for x in v]},
        )
    counts = [(shard, state, n) for (shard, state), n in batch.counts.items() if n]
    if counts:
        cursor.execute(
            statement("count_jobs"),
            {"shard": [x[0] for x in counts], "state": [x[1] for x in counts], "jobs": [x[2] for x in counts]},
        )
    if batch.keys:
        k = batch.keys
        cursor.execute(
            statement("keep_keys"),
            {
                "owner": [x[0] for x in k],
                "key": [x[1] for x in k],
                "job": _uuids(x[2] for x in k),
                "digest": [x[3] for x in k],
            },
        )


def new_jobs(j: list[JobRow], shards: int) -> dict[str, list[Any]]:
    """New rows of `jobs`, a list for each column."""
    return {
        **_changing_jobs(j),
        "shard": [shard_of(x.id, shards) for x in j],
        "name": [x.definition.name for x in j],
        "definition": [_encode(x.definition).decode() for x in j],
        "created_by": [x.created_by for x in j],
        "task_count": [x.task_count for x in j],
        "created_at": [x.created_at for x in j],
    }


def new_tasks(t: list[TaskRow], shards: int) -> dict[str, list[Any]]:
    """New rows of `tasks`, a list for each column."""
    return {
        **_changing_tasks(t),
        "job": _uuids(x.job for x in t),
        "shard": [shard_of(x.id, shards) for x in t],
        "run": [x.run for x in t],
        "key": [x.key for x in t],
        "position": [x.position for x in t],
        "retries": [x.retries for x in t],
        "queue": [x.queue for x in t],
        "definition": [_encode(x.definition).decode() for x in t],
        "created_at": [x.created_at for x in t],
    }


def _changing_jobs(j: list[JobRow]) -> dict[str, list[Any]]:
    return {
        "id": _uuids(x.id for x in j),
        "version": [x.version for x in j],
        "run": [x.run for x in j],
        "state": [x.state for x in j],
        "position": [x.position for x in j],
        "progress": [x.progress for x in j],
        "started_at": [x.started_at for x in j],
        "completed_at": [x.completed_at for x in j],
        "failed_at": [x.failed_at for x in j],
        "result": [x.result for x in j],
        "error": [x.error for x in j],
        "drive_at": [x.drive_at for x in j],
        "drives": [x.drives for x in j],
    }


def _changing_tasks(t: list[TaskRow]) -> dict[str, list[Any]]:
    return {
        "id": _uuids(x.id for x in t),
        "attempt": [x.attempt for x in t],
        "redelivered": [x.redelivered for x in t],
        "state": [x.state for x in t],
        "worker": [x.worker for x in t],
        "progress": [x.progress for x in t],
        "scheduled_at": [x.scheduled_at for x in t],
        "started_at": [x.started_at for x in t],
        "completed_at": [x.completed_at for x in t],
        "failed_at": [x.failed_at for x in t],
        "result": [x.result for x in t],
        "error": [x.error for x in t],
        "drive_at": [x.drive_at for x in t],
        "drives": [x.drives for x in t],
        "stopping": [x.stopping for x in t],
    }


def due(connection: psycopg.Connection, shards: Sequence[int], now: datetime, most: int) -> list[tuple[JobId, TaskId | None]]:
    """What is to be driven again, at most `most` of each kind."""
    return connection.execute(statement("find_due"), {"shards": list(shards), "now": now, "most": most}).fetchall()


def drive_all(connection: psycopg.Connection, shard: int, incarnation: str, now: datetime) -> None:
    """The broker's streams are new: whatever waits in this shard is due, and that is on record."""
    with connection.transaction():
        connection.execute(statement("drive_all"), {"shard": shard, "now": now})
        connection.execute(statement("drive_all_jobs"), {"shard": shard, "now": now})
        connection.execute(statement("keep_incarnation"), {"shard": shard, "incarnation": incarnation})


def running(connection: psycopg.Connection, shards: Sequence[int]) -> list[tuple[str, JobId, TaskId, int, int]]:
    """What workers hold in these shards: worker, job, task, run, attempt."""
    return connection.execute(statement("find_running"), {"shards": list(shards)}).fetchall()


def ensure_partitions(connection: psycopg.Connection, now: datetime, months: int = 3) -> None:
    """Make the partitions of this month and of the next ones."""
    connection.execute("SELECT ensure_partitions(%s::date, %s::integer)", (now.date(), months))
