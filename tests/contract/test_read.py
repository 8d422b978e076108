"""The readers of the projections, on a real database, as the role that may only read."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.stack import Servers
from windlass import ids
from windlass.errors import Misconfigured, Unavailable
from windlass.eventlog import read
from windlass.eventlog.migrate import migrate, steps
from windlass.eventlog.read import CompositeRow, Reader
from windlass.messages.jobs import Job, Task

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Tables:
    """Writes what a coordinator would have written."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True, options="-c search_path=windlass")

    def job(self, number: int = 0, state: str = "COMPLETED") -> str:
        """A job of the `number`th second."""
        job = ids.new(AT + timedelta(seconds=number))
        definition = msgspec.json.encode(Job(name=f"j{number}", tasks=(Task(name="t"),))).decode()
        self.connection.execute(
            "INSERT INTO jobs (id, shard, version, run, state, name, definition, created_by, position, task_count, progress, "
            "created_at, result, error) VALUES (%s, 0, 1, 1, %s, 'j', %s, 'guest', 1, 1, 0, %s, 'r', '')",
            (job, state, definition, AT + timedelta(seconds=number)),
        )
        return job

    def task(self, job: str, position: int, started_s: int | None) -> str:
        """A task row."""
        task = ids.new(AT)
        started = None if started_s is None else AT + timedelta(seconds=started_s)
        self.connection.execute(
            "INSERT INTO tasks (id, job, shard, run, key, position, attempt, retries, redelivered, state, queue, worker, "
            "definition, progress, created_at, started_at, result, error) "
            "VALUES (%s, %s, 0, 1, 'k', %s, 1, 0, 0, 'RUNNING', 'q', 'w', %s, 0, %s, %s, '', '')",
            (task, job, position, '{"name":"t"}', AT, started),
        )
        return task

    def part(self, job: str, task: str, attempt: int, number: int) -> None:
        """A part of output."""
        self.connection.execute(
            "INSERT INTO task_logs (task, attempt, number, job, contents, streams, at) VALUES (%s, %s, %s, %s, %s, '[]', %s)",
            (task, attempt, number, job, f"{attempt}.{number}", AT),
        )

    def node(self, name: str, service: str, seen_s: int) -> None:
        """A heartbeat."""
        self.connection.execute(
            "INSERT INTO nodes (id, name, service, hostname, version, port, status, cpu_percent, queues, task_count, started_at, "
            "last_heartbeat_at) VALUES (%s, %s, %s, 'h', '1', 0, 'UP', 50, '{}', 0, %s, %s)",
            (name, name, service, AT, AT + timedelta(seconds=seen_s)),
        )


@pytest.fixture
def tables(database: str) -> Tables:
    """The tables of a fresh installation."""
    migrate(database)
    return Tables(database)


@pytest.fixture
async def reader(tables: Tables, servers: Servers, database: str) -> AsyncIterator[Reader]:
    """A reader with the gateway's own role."""
    servers.postgres.admit()
    name = str(conninfo_to_dict(database)["dbname"])
    async with read.connect(servers.postgres.dsn_of(name, "windlass_gateway")) as found:
        yield found
    tables.connection.close()


async def test_the_shards_of_the_installation_are_known(reader: Reader) -> None:
    assert reader.shards == 16


async def test_a_job_is_read_with_its_tasks_in_order_and_its_variables(reader: Reader, tables: Tables) -> None:
    job, other = tables.job(), tables.job(1)
    waiting = tables.task(job, 2, None)
    late, early, first = tables.task(job, 2, 9), tables.task(job, 2, 5), tables.task(job, 1, 7)
    tables.task(other, 1, 1)
    tables.connection.execute("INSERT INTO job_vars (job, name, value) VALUES (%s, 'x', '{\"v\": 1}')", (job,))
    whole = await reader.job(job)
    assert whole is not None
    assert (whole.job.id, whole.job.state, whole.job.created_at) == (job, "COMPLETED", AT)
    assert [task.id for task in whole.tasks] == [first, early, late, waiting]
    assert [task.started_at for task in whole.tasks[:2]] == [AT + timedelta(seconds=7), AT + timedelta(seconds=5)]
    assert whole.tasks[0].job == job
    assert msgspec.json.decode(whole.tasks[0].definition) == {"name": "t"}
    assert whole.variables == {"x": '{"v": 1}'}


async def test_a_composite_is_read_with_what_is_counted(reader: Reader, tables: Tables) -> None:
    job, child = tables.job(), tables.job(1)
    above, below = tables.task(job, 1, 1), tables.task(job, 1, 2)
    tables.connection.execute("UPDATE tasks SET parent = %s WHERE id = %s", (above, below))
    tables.connection.execute("UPDATE jobs SET parent = %s, parent_job = %s WHERE id = %s", (below, job, child))
    tables.connection.execute("INSERT INTO composites VALUES (%s, %s, 3, 2, 1, 0, false, %s, '{}')", (above, job, child))
    whole, inner, alone = await reader.job(job), await reader.job(child), await reader.task(above)
    assert whole is not None
    assert inner is not None
    assert [(task.parent, task.composite) for task in whole.tasks] == [(None, CompositeRow(3, 2, 1, child)), (above, None)]
    assert (whole.job.parent, inner.job.parent) == (None, below)
    assert alone == whole.tasks[0]
    assert {row.id: row.parent for row in await reader.jobs(10, 0)} == {job: None, child: below}


async def test_what_waits_for_its_time_says_when_that_is_and_nothing_else_does(reader: Reader, tables: Tables) -> None:
    assert await reader.next_timer() is None
    job, other = tables.job(state="PENDING"), tables.job(1, state="RUNNING")
    retry, running = tables.task(other, 1, None), tables.task(other, 2, 1)
    tables.connection.execute("UPDATE tasks SET state = 'PENDING' WHERE id = %s", (retry,))
    for number, (row, kind) in enumerate([(job, "start"), (retry, "retry"), (running, "deadline")], 1):
        due_at = AT + timedelta(minutes=number)
        tables.connection.execute(
            "INSERT INTO timers (id, job, kind, number, due_at, fire_at) VALUES (%s, %s, %s, 1, %s, %s)",
            (row, other, kind, due_at, due_at),
        )
    first, second = await reader.job(job), await reader.job(other)
    assert first is not None
    assert second is not None
    assert (first.job.due_at, second.job.due_at) == (AT + timedelta(minutes=1), None)
    assert {task.id: task.due_at for task in second.tasks} == {retry: AT + timedelta(minutes=2), running: None}
    alone = await reader.task(retry)
    assert alone is not None
    assert alone.due_at == AT + timedelta(minutes=2)
    assert await reader.next_timer() == AT + timedelta(minutes=1)


async def test_what_is_not_there_is_none(reader: Reader) -> None:
    assert await reader.job("0" * 32) is None
    assert await reader.task("0" * 32) is None
    assert await reader.has_job("0" * 32) is False


async def test_pages_of_jobs_are_newest_first_and_do_not_overlap(reader: Reader, tables: Tables) -> None:
    made = [tables.job(number) for number in range(5)]
    pages = [await reader.jobs(2, offset) for offset in (0, 2, 4, 6)]
    assert [[row.id for row in page] for page in pages] == [made[:2:-1], made[2:0:-1], made[:1], []]


async def test_counts_are_added_up_over_the_shards(reader: Reader, tables: Tables) -> None:
    tables.connection.execute(
        "INSERT INTO job_counts (shard, state, jobs) VALUES (0, 'RUNNING', 2), (1, 'RUNNING', 3), (1, 'FAILED', 1)"
    )
    assert await reader.job_counts() == {"RUNNING": 5, "FAILED": 1}


async def test_of_some_jobs_those_that_ended(reader: Reader, tables: Tables) -> None:
    states = {state: tables.job(state=state) for state in ("PENDING", "SCHEDULED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")}
    ended = await reader.ended([*states.values(), "0" * 32])
    assert sorted(ended) == sorted(states[state] for state in ("COMPLETED", "FAILED", "CANCELLED"))


async def test_output_is_newest_first_over_all_attempts(reader: Reader, tables: Tables) -> None:
    job = tables.job()
    task, later = tables.task(job, 1, 1), tables.task(job, 2, 2)
    for attempt, number in [(1, 1), (1, 2), (2, 1)]:
        tables.part(job, task, attempt, number)
    tables.part(job, later, 1, 1)
    rows, total = await reader.task_logs(task, 2, 0)
    assert ([row.contents for row in rows], total) == (["2.1", "1.2"], 3)
    rows, total = await reader.job_logs(job, 3, 0)
    assert ([(row.task, row.contents) for row in rows], total) == ([(later, "1.1"), (task, "2.1"), (task, "1.2")], 4)
    assert [row.contents for row in (await reader.job_logs(job, 3, 3))[0]] == ["1.1"]


async def test_nodes_are_workers_and_coordinators_seen_lately(reader: Reader, tables: Tables) -> None:
    for name, service, seen in [("b", "worker", 10), ("a", "coordinator", 20), ("c", "gateway", 20), ("d", "worker", -1)]:
        tables.node(name, service, seen)
    assert [row.name for row in await reader.nodes(AT)] == ["a", "b"]


async def test_what_runs_now(reader: Reader, tables: Tables) -> None:
    tables.task(tables.job(state="RUNNING"), 1, 1)
    tables.node("w", "worker", 10)
    tables.connection.execute("INSERT INTO job_counts (shard, state, jobs) VALUES (0, 'RUNNING', 1)")
    row = await reader.metrics(AT)
    assert (row.jobs_running, row.tasks_running, row.nodes_online, row.cpu_percent) == (1, 1, 1, 50)


async def test_the_role_can_write_nothing(servers: Servers, tables: Tables, reader: Reader, database: str) -> None:
    dsn = servers.postgres.dsn_of(str(conninfo_to_dict(database)["dbname"]), "windlass_gateway")
    with psycopg.connect(dsn, autocommit=True, options="-c search_path=windlass") as connection:
        for statement in (b"DELETE FROM jobs", b"UPDATE jobs SET state = ''", b"DELETE FROM events", b"TRUNCATE events"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


async def test_a_lost_connection_is_followed_by_another(reader: Reader, tables: Tables) -> None:
    assert await reader.jobs(1, 0) == []
    tables.connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE usename = 'windlass_gateway' AND datname = current_database()"
    )
    assert await reader.jobs(1, 0) == []


async def test_a_read_that_takes_too_long_is_refused(reader: Reader, tables: Tables) -> None:
    with psycopg.connect(
        tables.connection.info.dsn, password=tables.connection.info.password, options="-c search_path=windlass"
    ) as locked:
        locked.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unavailable, match="within 5 s"):
            await reader.jobs(1, 0)


@pytest.mark.parametrize(("number", "remedy"), [(0, "windlass migrate"), (steps()[-1][0] + 1, "newer windlass")])
async def test_a_database_of_another_format_is_refused_with_the_remedy(
    tables: Tables, database: str, number: int, remedy: str
) -> None:
    tables.connection.execute("UPDATE installation SET format = %s", (number,))
    with pytest.raises(Misconfigured, match=remedy):
        async with read.connect(database):
            pass
    tables.connection.close()


async def test_an_empty_database_is_refused_with_the_remedy(database: str) -> None:
    with pytest.raises(Misconfigured, match="windlass migrate"):
        async with read.connect(database):
            pass


async def test_no_database_is_one_line() -> None:
    with pytest.raises(Misconfigured, match="PostgreSQL does not answer") as refused:
        async with read.connect("postgresql://127.0.0.1:1/x"):
            pass
    assert "\n" not in str(refused.value)
