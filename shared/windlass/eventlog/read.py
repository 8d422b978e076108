"""Reading the projections: a pool of connections that may only read, and a method for each question.

Rows are written together with their events, so what is read here is never behind the log.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NoReturn, TypeVar

import msgspec
import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import AsyncRowFactory, args_row, scalar_row, tuple_row
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from windlass.errors import Misconfigured, Unavailable
from windlass.eventlog.migrate import SCHEMA, steps
from windlass.eventlog.statements import statement

Row = TypeVar("Row")
Connection = psycopg.AsyncConnection[Any]

POOL_MAX = 4
"""Connections of one reader: reads are short, and the server's connections are dear."""
WAITING_MAX = 500
"""Reads that may wait for a connection; more are refused, so that a slow database is not buried."""
READ_TIMEOUT_S = 5.0


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


class TaskRow(msgspec.Struct, frozen=True):
    """A row of `tasks`; `definition` is a `messages.jobs.Task` as JSON, evaluated."""

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


class WholeJob(msgspec.Struct, frozen=True):
    """A job with its tasks and variables, all of one moment."""

    job: JobRow
    tasks: list[TaskRow]
    variables: dict[str, str]


_task_rows = msgspec.json.Decoder(list[TaskRow])
_variables = msgspec.json.Decoder(dict[str, str])


class _IdLoader(Loader):
    """A uuid as this system prints ids: 32 hex digits."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode().replace("-", "")


class Reader:
    """Answers questions about jobs, tasks, output and nodes; make it with `connect`.

    Every method may raise `Unavailable`: the database did not answer in time.
    """

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        self._pool = pool
        self.shards = 0

    async def job(self, job: str) -> WholeJob | None:
        """A job and all that belongs to it, at one moment."""
        for *columns, tasks, variables in await self._all(tuple_row, "read_whole_job", {"job": job}):
            return WholeJob(
                JobRow(*columns),
                [] if tasks is None else _task_rows.decode(tasks),
                {} if variables is None else _variables.decode(variables),
            )
        return None

    async def jobs(self, limit: int, offset: int) -> list[JobRow]:
        """A page of jobs, newest first."""
        return await self._all(args_row(JobRow), "read_jobs", {"limit": limit, "offset": offset})

    async def job_counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        return dict(await self._all(tuple_row, "read_job_counts"))

    async def has_job(self, job: str) -> bool:
        """Whether there is such a job."""
        return bool(await self._all(args_row(JobRow), "read_job", {"job": job}))

    async def ended(self, jobs: Sequence[str]) -> list[str]:
        """Those of some jobs that have ended."""
        return await self._all(scalar_row, "read_ended", {"jobs": list(jobs)})

    async def task(self, task: str) -> TaskRow | None:
        """One task row."""
        return next(iter(await self._all(args_row(TaskRow), "read_task", {"task": task})), None)

    async def task_logs(self, task: str, limit: int, offset: int) -> tuple[list[LogRow], int]:
        """A page of a task's output, newest first, and how many parts there are."""
        page = {"task": task, "limit": limit, "offset": offset}
        count = await self._all(scalar_row, "read_count_of_task_logs", page)
        return await self._all(args_row(LogRow), "read_logs_of_task", page), count[0]

    async def job_logs(self, job: str, limit: int, offset: int) -> tuple[list[LogRow], int]:
        """A page of the output of a job's tasks, newest first, and how many parts there are."""
        page = {"job": job, "limit": limit, "offset": offset}
        count = await self._all(scalar_row, "read_count_of_job_logs", page)
        return await self._all(args_row(LogRow), "read_logs_of_job", page), count[0]

    async def nodes(self, since: datetime) -> list[NodeRow]:
        """The workers and coordinators heard of since a moment."""
        return await self._all(args_row(NodeRow), "read_nodes", {"since": since})

    async def metrics(self, since: datetime) -> MetricsRow:
        """What runs now; nodes count when they were heard of since a moment."""
        return (await self._all(args_row(MetricsRow), "read_metrics", {"since": since}))[0]

    async def installation(self) -> tuple[int, int]:
        """The format of the database and the number of shards."""
        return (await self._all(tuple_row, "read_installation"))[0]

    async def _all(self, rows: AsyncRowFactory[Row], name: str, parameters: dict[str, Any] | None = None) -> list[Row]:
        """All rows of one statement, asked a second time if the connection was lost: reading twice is harmless."""
        for attempt in (1, 2):
            try:
                async with self._pool.connection() as connection:
                    return await (await self._ask(connection, rows, name, parameters)).fetchall()
            except psycopg.OperationalError as error:
                _retry_or_refuse(error, attempt)
        raise AssertionError("unreachable")

    @staticmethod
    async def _ask(
        connection: Connection, rows: AsyncRowFactory[Row], name: str, parameters: dict[str, Any] | None
    ) -> psycopg.AsyncCursor[Row]:
        cursor = connection.cursor(row_factory=rows)
        return await cursor.execute(statement(name), parameters)


def _retry_or_refuse(error: psycopg.OperationalError, attempt: int) -> None:
    final = isinstance(error, PoolTimeout | TooManyRequests | psycopg.errors.QueryCanceled)
    if final or attempt > 1:
        _refuse(error)


def _refuse(error: psycopg.Error) -> NoReturn:
    if isinstance(error, psycopg.errors.QueryCanceled):
        raise Unavailable(f"the database did not answer within {READ_TIMEOUT_S:g} s; ask again") from error
    raise Unavailable("the database does not answer; ask again") from error


async def _configure(connection: Connection) -> None:
    connection.adapters.register_loader("uuid", _IdLoader)
    set_json_loads(msgspec.Raw, connection)


@asynccontextmanager
async def connect(dsn: str, schema: str = SCHEMA) -> AsyncIterator[Reader]:
    """A reader for the time of the block, for a database of this release's format.

    Raises:
        Misconfigured: no database answers there, or it needs another release or `windlass migrate`.
    """
    options = f"-c search_path={schema} -c timezone=UTC -c statement_timeout={int(READ_TIMEOUT_S * 1000)}"
    # A statement prepared while the tables were small must not scan them when they have grown.
    options += " -c enable_seqscan=off -c jit=off"
    pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
        dsn,
        kwargs={"autocommit": True, "connect_timeout": 5, "options": f"{options} -c default_transaction_read_only=on"},
        configure=_configure,
        min_size=1,
        max_size=POOL_MAX,
        max_waiting=WAITING_MAX,
        timeout=READ_TIMEOUT_S,
        open=False,
        name="reader",
    )
    await _open(pool, dsn)
    try:
        reader = Reader(pool)
        await _check(reader)
        yield reader
    finally:
        await pool.close(2)


async def _open(pool: AsyncConnectionPool[Connection], dsn: str) -> None:
    try:
        probe = await psycopg.AsyncConnection.connect(dsn, connect_timeout=5)
        await probe.close()
        await pool.open(wait=True, timeout=READ_TIMEOUT_S)
    except psycopg.Error as error:
        await pool.close(2)
        reason = str(error).strip().splitlines()[-1]
        raise Misconfigured(f"PostgreSQL does not answer ({reason}); is it running? see WINDLASS_POSTGRES_DSN") from error


async def _check(reader: Reader) -> None:
    known = steps()[-1][0]
    try:
        found, reader.shards = await reader.installation()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege) as error:
        raise Misconfigured("the database holds no windlass installation; run: windlass migrate") from error
    if found > known:
        raise Misconfigured(f"the database has format {found} and this release knows {known}; install a newer windlass")
    if found < known:
        raise Misconfigured(f"the database has format {found} and this release needs {known}; run: windlass migrate")
