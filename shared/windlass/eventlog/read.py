"""Reading the projections: connections that may only read, and a method for each question.

Rows are written together with their events, so what is read here is never behind the log.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec
import psycopg

from windlass.errors import Misconfigured, Unavailable
from windlass.eventlog.connection import Connection, refusal
from windlass.eventlog.migrate import SCHEMA
from windlass.eventlog.pipeline import Exchange, Pipelined, Rows

CONNECTIONS_MAX = 4
"""Of one reader: reads are short, and the server's connections are dear."""
WAITING_MAX = 500
"""Reads that may wait for a connection; more are refused, so that a slow database is not buried."""
READ_TIMEOUT_S = 5


class JobRow(msgspec.Struct, frozen=True):
    """A row of `jobs`; `definition` is a `messages.jobs.Job` as JSON."""

    id: str
    state: str
    definition: msgspec.Raw
    created_by: str
    position: int
    task_count: int
    progress: float
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    result: str
    error: str
    parent: str | None
    """The task that waits for its end."""
    due_at: datetime | None = None
    """Of one that waits for its time, read by itself: when that comes, by the schedulers' clock."""
    paused_at: datetime | None = None
    """Of one that is paused, read by itself."""
    delete_at: datetime | None = None
    """Of one that has completed, read by itself: when it is deleted, by the schedulers' clock."""


class CompositeRow(msgspec.Struct, frozen=True):
    """A row of `composites`: how many tasks run in a task's place, the index of the next, how many ended well; or which job."""

    size: int
    opened: int
    completions: int
    subjob: str | None


class TaskRow(msgspec.Struct, frozen=True):
    """A row of `tasks`, with that of `composites` if it has one; `definition` is a `messages.jobs.Task` as JSON, evaluated."""

    id: str
    job: str
    position: int
    state: str
    definition: msgspec.Raw
    queue: str
    worker: str
    attempt: int
    retries: int
    redelivered: int
    progress: float
    created_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    result: str
    error: str
    parent: str | None
    due_at: datetime | None
    """Of one that waits for its time: when that comes, by the schedulers' clock."""
    composite: CompositeRow | None


class LogRow(msgspec.Struct, frozen=True):
    """A part of a task's output."""

    task: str
    attempt: int
    number: int
    contents: str
    at: datetime


class NodeRow(msgspec.Struct, frozen=True):
    """A worker or coordinator as it last spoke of itself."""

    id: str
    name: str
    service: str
    hostname: str
    version: str
    port: int
    status: str
    cpu_percent: float
    task_count: int
    started_at: datetime
    last_heartbeat_at: datetime


class MetricsRow(msgspec.Struct, frozen=True):
    """What runs now, and the nodes it runs on."""

    jobs_running: int
    tasks_running: int
    nodes_online: int
    cpu_percent: float


class ShardRow(msgspec.Struct, frozen=True):
    """A shard, and the coordinator that owns it now: its id, and the name of its instance; None while nobody does."""

    shard: int
    head: int
    node: str | None
    owner: str | None


class WholeJob(msgspec.Struct, frozen=True):
    """A job with its tasks and variables, all of one moment."""

    job: JobRow
    tasks: list[TaskRow]
    variables: dict[str, str]
    rows: int = 0
    """How many task rows there are."""


ROWS_MAX = 10_000
"""Task rows of a job that are read at once."""
_TASK, _VARIABLE = 1, 2
_COUNTED = 4
"""Columns of `composites` at the end of a row."""
_NAMED = slice(-8, -6)
"""Where a variable has its name and value."""


def _task_of(columns: Sequence[Any]) -> TaskRow:
    own, counted = columns[:-_COUNTED], columns[-_COUNTED:]
    composite = None if counted[0] is None else CompositeRow(*counted)
    return TaskRow(*(*own, composite))


def _job_of(row: TaskRow) -> JobRow:
    """The job that `read_whole_job` gives in the columns of a task."""
    return JobRow(
        row.id,
        row.state,
        row.definition,
        row.queue,
        row.position,
        row.attempt,
        row.progress,
        row.created_at,
        row.started_at,
        row.completed_at,
        row.failed_at,
        row.result,
        row.error,
        row.parent,
        row.due_at if row.state == "PENDING" else None,
        row.scheduled_at,
        row.due_at if row.state != "PENDING" else None,
    )


@Pipelined
def _ask(name: str, parameters: Mapping[str, Any]) -> Exchange[Rows]:
    """The rows of one statement."""
    (rows,) = yield [(name, parameters)]
    return rows


class Reader:
    """Answers questions about jobs, tasks, output and nodes; make it with `connect`.

    Every method may raise `Unavailable`: the database did not answer in time.
    """

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections
        self.shards = 0

    async def job(self, job: str, page: int = 1) -> WholeJob | None:
        """A job and all that belongs to it, at one moment; of its tasks a page of `ROWS_MAX`, in the order people see."""
        found: JobRow | None = None
        tasks: list[TaskRow] = []
        variables: dict[str, str] = {}
        rows = 0
        asked = {"job": job, "limit": ROWS_MAX if page else 0, "offset": max(page - 1, 0) * ROWS_MAX}
        for kind, *columns in await self._all("read_whole_job", asked):
            if kind == _TASK:
                tasks.append(_task_of(columns))
            elif kind == _VARIABLE:
                variable, value = columns[_NAMED]
                variables[variable] = value
            else:
                row = _task_of(columns)
                found, rows = _job_of(row), row.retries
        return WholeJob(found, tasks, variables, rows) if found is not None else None

    async def jobs(self, limit: int, offset: int) -> list[JobRow]:
        """A page of jobs, newest first."""
        return [JobRow(*row) for row in await self._all("read_jobs", {"limit": limit, "offset": offset})]

    async def job_counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        return dict(await self._all("read_job_counts"))

    async def has_job(self, job: str) -> bool:
        """Whether there is such a job."""
        return bool(await self._all("read_job", {"job": job}))

    async def ended(self, jobs: Sequence[str]) -> list[str]:
        """Those of some jobs that have ended."""
        return [job for (job,) in await self._all("read_ended", {"jobs": jobs})]

    async def task(self, task: str) -> TaskRow | None:
        """One task row."""
        return next((_task_of(row) for row in await self._all("read_task", {"task": task})), None)

    async def task_logs(self, task: str, limit: int, offset: int) -> tuple[list[LogRow], int]:
        """A page of a task's output, newest first, and how many parts there are."""
        page = {"task": task, "limit": limit, "offset": offset}
        ((count,),) = await self._all("read_count_of_task_logs", page)
        return [LogRow(*row) for row in await self._all("read_logs_of_task", page)], count

    async def job_logs(self, job: str, limit: int, offset: int) -> tuple[list[LogRow], int]:
        """A page of the output of a job's tasks, newest first, and how many parts there are."""
        page = {"job": job, "limit": limit, "offset": offset}
        ((count,),) = await self._all("read_count_of_job_logs", page)
        return [LogRow(*row) for row in await self._all("read_logs_of_job", page)], count

    async def nodes(self, since: datetime) -> list[NodeRow]:
        """The workers and coordinators heard of since a moment."""
        return [NodeRow(*row) for row in await self._all("read_nodes", {"since": since})]

    async def metrics(self, since: datetime) -> MetricsRow:
        """What runs now; nodes count when they were heard of since a moment."""
        return MetricsRow(*(await self._all("read_metrics", {"since": since}))[0])

    async def owners(self) -> list[ShardRow]:
        """Who owns which shard, in the order of the shards."""
        return [ShardRow(*row) for row in await self._all("read_shards")]

    async def next_timer(self) -> datetime | None:
        """When a scheduler says the next timer, if there is one."""
        ((at,),) = await self._all("read_next_timer")
        return at  # type: ignore[no-any-return]  # as selected

    async def installation(self) -> tuple[int, int]:
        """The format of the database and the number of shards."""
        number, shards = (await self._all("read_installation"))[0]
        return number, shards

    async def _all(self, name: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """All rows of one statement, asked a second time if the connection was lost: reading twice is harmless."""
        if sum(connection.waiting for connection in self._connections) >= WAITING_MAX:
            raise Unavailable(f"{WAITING_MAX} reads wait for the database already; ask again later")
        for attempt in (1, 2):
            try:
                async with asyncio.timeout(READ_TIMEOUT_S + 1):
                    return await min(self._connections, key=_waiting).run(_ask, name, parameters or {})
            except TimeoutError as error:
                raise _too_slow() from error
            except Unavailable as error:
                if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                    raise _too_slow() from error
                if attempt == 2:
                    raise Unavailable("the database does not answer; ask again") from error
        raise AssertionError("unreachable")


def _waiting(connection: Connection) -> int:
    return connection.waiting


def _too_slow() -> Unavailable:
    return Unavailable(f"the database did not answer within {READ_TIMEOUT_S} s; ask again")


@asynccontextmanager
async def connect(dsn: str, schema: str = SCHEMA) -> AsyncIterator[Reader]:
    """A reader for the time of the block, for a database of this release's format.

    Raises:
        Misconfigured: no database answers there, or it needs another release or `windlass migrate`.
    """
    connections = [Connection(dsn, "reader", schema=schema, reads_only_s=READ_TIMEOUT_S) for _ in range(CONNECTIONS_MAX)]
    try:
        reader = Reader(connections)
        try:
            _, reader.shards = await reader.installation()
        except Unavailable as error:
            raise _unreachable(error) from error
        yield reader
    finally:
        for connection in connections:
            await connection.close()


def _unreachable(error: BaseException) -> Misconfigured:
    """What the database itself said, in one line, and what to do."""
    while error.__cause__ is not None and not isinstance(error, psycopg.Error):
        error = error.__cause__
    if isinstance(error, psycopg.Error) and (hopeless := refusal(error)):
        return hopeless
    reason = str(error).strip().splitlines()[-1]
    return Misconfigured(f"PostgreSQL does not answer ({reason}); is it running? see WINDLASS_POSTGRES_DSN")
