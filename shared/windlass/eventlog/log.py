"""The log as its writer sees it: take shards, load a working set, commit a batch.

One transaction a batch: heads from expected to new, events, rows, variables, counts, keys. A head that moved, or a version
or key that was taken, refuses all of it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple, cast

import msgspec
import psycopg

from windlass.errors import Corrupt, WindlassError
from windlass.eventlog.pipeline import Call, Exchange, Pipelined
from windlass.eventlog.rows import ACTIVE, Composite, JobRow, TaskRow
from windlass.eventlog.state import Items
from windlass.eventlog.statements import statement
from windlass.ids import JobId, TaskId, shard_of
from windlass.messages.jobs import Job, Task
from windlass.messages.reruns import Redo

HEAD_MOVED = "WL001"

_encode = msgspec.json.Encoder().encode
_jobs = msgspec.json.Decoder(Job)
_tasks = msgspec.json.Decoder(Task)
_redo = msgspec.json.Decoder(Redo)
_values = msgspec.json.Decoder(list[Any])


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
    cleared: list[JobId] = field(default_factory=list)
    """Jobs whose variables are forgotten, before others are set."""
    variables: list[tuple[JobId, str, str]] = field(default_factory=list)
    new_composites: list[TaskRow] = field(default_factory=list)
    """Of the tasks, those that others run in place of; so below."""
    changed_composites: list[TaskRow] = field(default_factory=list)
    items: list[tuple[JobId, TaskId, Items]] = field(default_factory=list)
    """Parts of the lists of `each`."""
    sealed: list[tuple[str, str, JobId, str]] = field(default_factory=list)
    """Whose, field, job, text: what holds secrets."""
    job_keys: list[tuple[JobId, str, str, str]] = field(default_factory=list)
    """Of new jobs with secrets: job, id of the master key, the job's key wrapped, and wrapped for webhooks."""
    deleted: list[tuple[JobId, int, int, bool, datetime]] = field(default_factory=list)
    """Job, shard, the shard's head, whether it has webhooks, when."""
    refused: list[tuple[JobId, str]] = field(default_factory=list)
    """Job, its last requests that were refused."""
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
    deleted: list[JobId] = field(default_factory=list)


class Unwell(NamedTuple):
    """A step that did not end well: whose it is (a composite or a job), its key, its last row, whether that is a composite."""

    of: str
    key: str
    row: TaskId
    is_composite: bool


@dataclass(slots=True)
class Ended:
    """What the database holds of steps that have ended."""

    composites: dict[TaskId, Composite]
    unwell: list[Unwell]
    parts: list[tuple[TaskId, Items]]


def lock(connection: psycopg.Connection, shard: int) -> bool:
    """Try to own a shard for as long as this session lasts; whether it does."""
    row = connection.execute("SELECT pg_try_advisory_lock(shard_locks(), %s::integer)", (shard,)).fetchone()
    return row is not None and bool(row[0])


def take(connection: psycopg.Connection, shard: int, owner: str) -> tuple[int, str] | None:
    """Try to become the owner of a shard; its head and the incarnation last driven, or None while another session holds it."""
    if not lock(connection, shard):
        return None
    found = connection.execute(statement("take_shard"), {"owner": owner, "shard": shard}).fetchone()
    if found is None:
        raise Corrupt(f"shard {shard} has no row")
    return int(found[0]), str(found[1])


def release(connection: psycopg.Connection, shard: int) -> None:
    """Give a shard back."""
    connection.execute("SELECT pg_advisory_unlock(shard_locks(), %s::integer)", (shard,))


@Pipelined
def formats() -> Exchange[tuple[int, int]]:
    """The format of the database, and the one whose event types may be written; also keeps the session from idling out."""
    (((found, finished),),) = yield [("read_formats", {})]
    return int(found), int(finished)


def shard_count(connection: psycopg.Connection) -> int:
    """How many shards this installation has."""
    row = connection.execute("SELECT shards FROM installation").fetchone()
    assert row is not None
    return int(row[0])


def ticket_key(connection: psycopg.Connection) -> bytes:
    """What tickets of this installation are made with; for coordinators alone."""
    row = connection.execute("SELECT key FROM ticket_key").fetchone()
    assert row is not None
    return bytes(row[0])


@Pipelined
def load(jobs: Sequence[JobId], tasks: Sequence[TaskId], keys: Sequence[tuple[str, str]]) -> Exchange[Loaded]:
    """Read the working sets of `jobs`, with the task rows asked for, and the jobs of some Idempotency-Keys: one round trip."""
    job_rows, task_rows, composite_rows, variables, deleted, *key_rows = yield [
        ("load_jobs", {"ids": jobs}),
        ("load_tasks", {"jobs": jobs, "tasks": tasks}),
        ("load_composites", {"jobs": jobs, "tasks": tasks}),
        ("load_variables", {"jobs": jobs}),
        ("load_deleted_jobs", {"jobs": jobs}),
        *([("load_keys", {"owner": [k[0] for k in keys], "key": [k[1] for k in keys]})] if keys else ()),
    ]
    composites = {row[0]: _composite(row) for row in composite_rows}
    return Loaded(
        jobs=[_job_row(row) for row in job_rows],
        tasks=[_task_row(row, composites.get(row[0])) for row in task_rows],
        variables=[(JobId(job), name, value) for job, name, value in variables],
        keys={(owner, key): (JobId(job), digest) for rows in key_rows for owner, key, job, digest in rows},
        deleted=[JobId(job) for (job,) in deleted],
    )


_JOB_FIELDS = (
    "created_by", "created_at", "task_count", "version", "run", "state", "position", "progress",
    "started_at", "completed_at", "failed_at", "result", "error", "restarted_by", "trace", "parent", "parent_job",
    "paused_at", "redo", "drive_at", "drives", "refused",
)  # fmt: skip
_TASK_FIELDS = (
    "created_at", "state", "retries", "redelivered", "queue", "worker", "progress",
    "scheduled_at", "started_at", "completed_at", "failed_at", "result", "error", "parent", "drive_at", "drives", "stopping",
)  # fmt: skip


@Pipelined
def load_items(wanted: Mapping[TaskId, int]) -> Exchange[list[tuple[TaskId, Items]]]:
    """Of each of some lists, the part with the element of an index and the part after it."""
    (rows,) = yield [("load_items", {"task": list(wanted), "index": list(wanted.values())})]
    return [(TaskId(task), _items(*row)) for task, *row in rows]


def _items(first: int, is_map: bool, items: str, redo: str | None) -> Items:
    return Items(first, _values.decode(items), is_map, None if redo is None else _redo.decode(redo))


@Pipelined
def load_past(jobs: Sequence[JobId], whole: Sequence[JobId], tasks: Sequence[TaskId]) -> Exchange[Ended]:
    """What became of some composites, of `jobs`, and of the steps of the jobs `whole`, which are among these."""
    composites, rows, parts = yield [
        ("load_past_composites", {"tasks": tasks}),
        ("load_past_rows", {"jobs": jobs, "whole": whole, "tasks": tasks}),
        ("load_whole_lists", {"tasks": tasks}),
    ]
    return Ended(
        composites={row[0]: Composite(size=row[1], opened=row[2], subjob=row[3], again=row[4]) for row in composites},
        unwell=[Unwell(*row) for row in rows],
        parts=[(TaskId(task), _items(*row)) for task, *row in parts],
    )


@Pipelined
def load_secrets(jobs: Sequence[JobId], owners: Sequence[str]) -> Exchange[tuple[dict[JobId, str], dict[tuple[str, str], str]]]:
    """The wrapped keys of some jobs, and the sealed texts of some jobs and tasks by whose they are and their field."""
    keys, texts = yield [("load_job_keys", {"jobs": jobs}), ("load_sealed_texts", {"owners": owners})]
    return dict(keys), {(owner, name): text for owner, name, text in texts}


@Pipelined
def load_sealed_items(wanted: Sequence[tuple[TaskId, str]]) -> Exchange[dict[tuple[str, str], str]]:
    """Sealed parts of lists, of those tasks and with those fields."""
    (rows,) = yield [("load_sealed_items", {"owner": [task for task, _ in wanted], "field": [name for _, name in wanted]})]
    return {(owner, name): text for owner, name, text in rows}


def _job_row(row: tuple[object, ...]) -> JobRow:
    fields: dict[str, Any] = dict(zip(_JOB_FIELDS, row[2:], strict=True))
    if fields["redo"] is not None:
        fields["redo"] = _redo.decode(fields["redo"])
    return JobRow(id=row[0], definition=_jobs.decode(row[1]), **fields)  # type: ignore[arg-type]  # as selected


def _composite(row: tuple[Any, ...]) -> Composite:
    names = ("size", "opened", "completions", "failures", "subjob")
    return Composite(**dict(zip(names, row[1:6], strict=True)), scope=msgspec.json.decode(row[6]), again=row[7])


def _task_row(row: tuple[object, ...], composite: Composite | None) -> TaskRow:
    names = ("id", "job", "run", "key", "position", "attempt")
    return TaskRow(
        **dict(zip(names, row[:6], strict=True)),  # type: ignore[arg-type]  # as selected
        definition=_tasks.decode(row[6]),  # type: ignore[arg-type]
        **dict(zip(_TASK_FIELDS, row[7:], strict=True)),  # type: ignore[arg-type]
        composite=composite,
        stored=True,
    )


@Pipelined
def commit(batch: Batch) -> Exchange[None]:
    """Store a batch, whole or not at all; durable when it returns.

    Raises:
        Overtaken: a head had moved.
        Taken: a job, version or key existed.
        Unfit: a value that the database cannot hold.
    """
    try:
        yield list(_calls(batch))
    except psycopg.errors.UniqueViolation as error:
        raise Taken(f"a row existed already: {error}") from error
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise Unfit(f"PostgreSQL cannot hold a value: {error}") from error
    except psycopg.DatabaseError as error:
        if error.sqlstate == HEAD_MOVED:
            raise Overtaken(str(error)) from error
        raise


def _calls(batch: Batch) -> Iterator[Call]:
    if batch.heads:
        befores, afters = zip(*batch.heads.values(), strict=True)
        yield "move_heads", {"shards": list(batch.heads), "expected": befores, "next": afters}
    if batch.events:
        yield "append_events", _columns(batch.events, _EVENT_COLUMNS)
    if batch.new_jobs:
        yield "insert_jobs", new_jobs(batch.new_jobs, batch.shards)
    if batch.changed_jobs:
        yield "update_jobs", _changed_jobs(batch.changed_jobs)
    if batch.new_tasks:
        yield "insert_tasks", new_tasks(batch.new_tasks, batch.shards)
    if batch.changed_tasks:
        yield "update_tasks", _columns(batch.changed_tasks, _TASK_CHANGES)
    if batch.new_composites:
        yield "insert_composites", new_composites(batch.new_composites)
    if batch.changed_composites:
        yield "update_composites", _composites(batch.changed_composites)
    if batch.items:
        yield "insert_items", new_items(batch.items)
    if batch.sealed:
        yield "keep_sealed_texts", _named(("owner", "field", "job", "sealed"), batch.sealed)
    if batch.job_keys:
        yield "keep_job_keys", _named(("job", "master", "wrapped", "webhooks"), batch.job_keys)
    if batch.deleted:
        yield "delete_jobs", {"jobs": [job for job, *_ in batch.deleted]}
        yield "keep_deleted_jobs", deleted_jobs(batch.deleted)
    if batch.refused:
        yield "keep_refused", _named(("id", "refused"), batch.refused)
    if batch.cleared:
        yield "clear_variables", {"jobs": batch.cleared}
    if batch.variables:
        yield "set_variables", _named(("job", "name", "value"), batch.variables)
    if counts := [(shard, state, n) for (shard, state), n in batch.counts.items() if n]:
        yield "count_jobs", _named(("shard", "state", "jobs"), counts)
    if batch.keys:
        yield "keep_keys", _named(("owner", "key", "job", "digest"), batch.keys)


_EVENT_COLUMNS = ("kind", "stream", "version", "shard", "position", "type", "data", "metadata", "at", "timed", "hooked")
_JOB_CHANGES = (
    "id", "version", "run", "state", "position", "progress", "started_at", "completed_at", "failed_at", "result", "error",
    "restarted_by", "parent", "paused_at", "drive_at", "drives",
)  # fmt: skip
_TASK_CHANGES = (
    "id", "attempt", "redelivered", "state", "worker", "progress", "scheduled_at", "started_at", "completed_at", "failed_at",
    "result", "error", "drive_at", "drives", "stopping",
)  # fmt: skip


def _changed_jobs(jobs: Sequence[JobRow]) -> dict[str, list[Any]]:
    return {**_columns(jobs, _JOB_CHANGES), "redo": [_text(x.redo) for x in jobs]}


def _text(redo: Redo | None) -> bytes | None:
    return None if redo is None else _encode(redo)


def new_jobs(jobs: Sequence[JobRow], shards: int) -> dict[str, list[Any]]:
    """New rows of `jobs`, a list for each column."""
    return {
        **_changed_jobs(jobs),
        **_columns(jobs, ("created_by", "task_count", "created_at", "trace", "parent_job")),
        "shard": [shard_of(x.id, shards) for x in jobs],
        "name": [x.definition.name for x in jobs],
        "definition": [_encode(x.definition) for x in jobs],
    }


def new_tasks(tasks: Sequence[TaskRow], shards: int) -> dict[str, list[Any]]:
    """New rows of `tasks`, a list for each column."""
    return {
        **_columns(tasks, (*_TASK_CHANGES, "job", "run", "key", "position", "retries", "queue", "created_at", "parent")),
        "shard": [shard_of(x.id, shards) for x in tasks],
        "definition": [_encode(x.definition) for x in tasks],
    }


def _composites(tasks: Sequence[TaskRow]) -> dict[str, list[Any]]:
    """What can change of composites, a list for each column."""
    found = [task.composite for task in tasks if task.composite is not None]
    return {
        **_columns(found, ("size", "opened", "completions", "failures", "subjob")),
        "task": [task.id for task in tasks],
        "ended": [task.state not in ACTIVE for task in tasks],
    }


def new_composites(tasks: Sequence[TaskRow]) -> dict[str, list[Any]]:
    """New rows of `composites`, of tasks that are some, a list for each column."""
    found = [task.composite for task in tasks if task.composite is not None]
    return {
        **_composites(tasks),
        **_columns(found, ("again",)),
        "job": [task.job for task in tasks],
        "scope": [_encode(composite.scope) for composite in found],
    }


def new_items(items: Sequence[tuple[JobId, TaskId, Items]]) -> dict[str, list[Any]]:
    """New rows of `each_items`, a list for each column."""
    parts = [part for _, _, part in items]
    return {
        **_columns(parts, ("first", "next", "is_map")),
        "job": [job for job, _, _ in items],
        "task": [task for _, task, _ in items],
        "items": [_encode(part.values) for part in parts],
        "redo": [_text(part.redo) for part in parts],
    }


def deleted_jobs(jobs: Sequence[tuple[JobId, int, int, bool, datetime]]) -> dict[str, list[Any]]:
    """New rows of `deleted_jobs`, a list for each column."""
    return {name: [job[at] for job in jobs] for at, name in enumerate(("job", "shard", "head", "hooked", "at"))}


def _columns(rows: Sequence[object], names: Iterable[str]) -> dict[str, list[Any]]:
    """An array a column, of attributes with the columns' names."""
    return {name: list(map(attrgetter(name), rows)) for name in names}


def _named(names: Sequence[str], rows: Sequence[tuple[object, ...]]) -> dict[str, Sequence[object]]:
    return dict(zip(names, zip(*rows, strict=True), strict=True))


@Pipelined
def due(shards: Sequence[int], now: datetime, most: int) -> Exchange[list[tuple[JobId, TaskId | None]]]:
    """What is to be driven again, at most `most` of each kind."""
    (rows,) = yield [("find_due", {"shards": shards, "now": now, "most": most})]
    return cast("list[tuple[JobId, TaskId | None]]", rows)


def drive_all(connection: psycopg.Connection, shard: int, incarnation: str, now: datetime) -> None:
    """The broker's streams are new: whatever waits in this shard is due, and that is on record."""
    with connection.transaction():
        connection.execute(statement("drive_all"), {"shard": shard, "now": now})
        connection.execute(statement("drive_all_jobs"), {"shard": shard, "now": now})
        connection.execute(statement("keep_incarnation"), {"shard": shard, "incarnation": incarnation})


def rearm(connection: psycopg.Connection, shard: int, now: datetime, first_s: float, most_s: float) -> None:
    """A shard has a new owner: what waits is driven again within its pause from now, whatever the last owner's clock said.

    The pause is `first_s`, doubled each time, and `most_s` at most.
    """
    pause = {"shard": shard, "now": now, "first_s": float(first_s), "most_s": float(most_s)}
    with connection.transaction():
        connection.execute(statement("rearm_tasks"), pause)
        connection.execute(statement("rearm_jobs"), pause)


def running(connection: psycopg.Connection, shards: Sequence[int]) -> list[tuple[str, JobId, TaskId, int, int]]:
    """What workers hold in these shards: worker, job, task, run, attempt."""
    return connection.execute(statement("find_running"), {"shards": list(shards)}).fetchall()


def ensure_partitions(connection: psycopg.Connection, now: datetime, months: int = 3) -> None:
    """Make the partitions of this month and of the next ones."""
    connection.execute("SELECT ensure_partitions(%s::date, %s::integer)", (now.date(), months))
