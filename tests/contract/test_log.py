"""The log on a real PostgreSQL: one writer a shard, all of a batch or nothing, nothing ever changed."""

import asyncio
import json
import secrets
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import psycopg
import pytest

from tests.support.scenario import (
    JOB,
    NOW,
    THEN,
    W1,
    begun,
    completed,
    dispatched,
    job,
    job_completed,
    progressed,
    queued,
    running,
    started,
    submitted,
    task,
    task_id,
)
from tests.support.stack import Servers
from windlass import ids
from windlass.errors import Misconfigured, Unavailable
from windlass.eventlog import log, operational
from windlass.eventlog.connection import SILENT_S, Connection, end_silent
from windlass.eventlog.log import Appended, Batch, Overtaken, Taken, Unfit
from windlass.eventlog.migrate import migrate, newest
from windlass.eventlog.rows import ACTIVE
from windlass.eventlog.state import JobWork, evolve, is_timed
from windlass.eventlog.statements import statement
from windlass.ids import JobId, TaskId
from windlass.messages.envelope import tag_of
from windlass.messages.events import JOB_EVENTS, JobEvent, JobSubmitted
from windlass.messages.jobs import Job
from windlass.messages.notices import LogPart

SHARDS = 4
SHARD = ids.shard_of(JOB, SHARDS)
ROW = task_id()
ONE = job(task("a", var="x", timeout="1m"), output="{{ tasks.x }}")


@pytest.fixture(scope="module")
def shared(servers: Servers) -> Iterator[str]:
    """A database for all of these tests; each has a schema of its own in it, which is made much faster."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(servers.postgres.dsn, autocommit=True) as superuser:
        superuser.execute(f"CREATE DATABASE {name}".encode())
        yield servers.postgres.dsn_of(name)
        superuser.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


class Installation:
    """An installation of this release's format, in a schema of the test's own."""

    def __init__(self, dsn: str) -> None:
        self.dsn, self.schema = dsn, f"s{secrets.token_hex(6)}"
        migrate(dsn, self.schema, SHARDS)
        self._stores: list[Connection] = []

    def connect(self, name: str = "test", owner_s: int | None = 30) -> Connection:
        """A connection as a coordinator has it; closed with the test."""
        store = Connection(self.dsn, name, owner_s, self.schema)
        self._stores.append(store)
        return store

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    def session(self, role: str) -> psycopg.Connection:
        """A session with the rights of a role."""
        connection = psycopg.connect(self.dsn, autocommit=True)
        connection.execute(f"SET ROLE {role}".encode())
        connection.execute(f"SET search_path TO {self.schema}".encode())
        return connection


@pytest.fixture
def installation(shared: str) -> Iterator[Installation]:
    """An installation of the test's own."""
    found = Installation(shared)
    yield found
    asyncio.run(found.close())


@pytest.fixture
def connection(installation: Installation) -> Iterator[psycopg.Connection]:
    """A session as a coordinator has it."""
    opened = installation.connect()._open()
    yield opened
    opened.close()


class Writer:
    """Folds events and stores them, as the shard's owner does."""

    def __init__(self, connection: psycopg.Connection | None = None) -> None:
        self.connection = connection
        self.heads: dict[int, int] = {}
        self.works: dict[JobId, JobWork] = {}

    def batch(self, *events: JobEvent, of: JobId = JOB) -> Batch:
        """What storing these events of a job takes."""
        shard = ids.shard_of(of, SHARDS)
        work = self.works.setdefault(of, JobWork())
        is_new = work.job is None
        version, head, state = 0, self.heads.get(shard, 0), ""
        if work.job is not None:
            version, state = work.job.version, work.job.state
        batch = Batch(shards=SHARDS, heads={shard: (head, head + len(events))})
        for number, event in enumerate(events, 1):
            evolve(work, event)
            tag = tag_of(event)
            batch.events.append(
                Appended(
                    kind="job",
                    stream=of,
                    version=version + number,
                    shard=shard,
                    position=head + number,
                    type=tag,
                    data=msgspec.json.encode(event),
                    metadata=b"{}",
                    at=THEN,
                    timed=is_timed(work, event),
                    hooked=work.job is not None and work.job.definition.is_hooked,
                )
            )
        assert work.job is not None
        (batch.new_jobs if is_new else batch.changed_jobs).append(work.job)
        for row in work.touched.values():
            (batch.changed_tasks if row.stored else batch.new_tasks).append(row)
            row.stored = True
        batch.variables.extend((of, name, value) for name, value in work.set_variables.items())
        if state != work.job.state:
            batch.counts[shard, work.job.state] += 1
            if state:
                batch.counts[shard, state] -= 1
        work.touched.clear()
        work.set_variables.clear()
        return batch

    def store(self, *events: JobEvent, of: JobId = JOB) -> None:
        """Commit these events of a job."""
        batch = self.batch(*events, of=of)
        assert self.connection is not None
        log.commit(self.connection, batch)
        self.heads.update({shard: after for shard, (_, after) in batch.heads.items()})


def _other(number: int, byte: int = 0x2A) -> JobId:
    return JobId(ids.derive(THEN + timedelta(seconds=number), byte, "other", number))


def _history(of: JobId, definition: Job) -> list[JobEvent]:
    first = JobSubmitted(job=of, definition=definition, user="guest", at=THEN)
    return [first, begun()]


def _count(connection: psycopg.Connection, table: str) -> int:
    found = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert found is not None
    return int(found[0])


TABLES = ("events", "jobs", "tasks", "job_vars", "job_counts", "idempotency_keys")


def _all_counts(connection: psycopg.Connection) -> list[int]:
    return [_count(connection, table) for table in TABLES]


# -- commit ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_stored_with_events_rows_variables_and_counts(connection: psycopg.Connection) -> None:
    writer = Writer(connection)
    writer.store(*running(ONE))
    writer.store(completed(ROW, "7"), job_completed("7"))
    loaded = log.load(connection, [JOB], [ROW], [])
    assert loaded.jobs == [writer.works[JOB].job]
    assert loaded.tasks == [writer.works[JOB].tasks[ROW]]
    assert loaded.variables == [(JOB, "x", "7")]
    positions = connection.execute("SELECT version, position, type, timed FROM events ORDER BY position").fetchall()
    assert positions == [
        (1, 1, "job.submitted", False),
        (2, 2, "job.started", False),
        (3, 3, "task.dispatched", False),
        (4, 4, "task.started", False),
        (5, 5, "task.completed", True),
        (6, 6, "job.completed", False),
    ]
    counts: dict[str, int] = dict(connection.execute("SELECT state, jobs FROM job_counts WHERE jobs <> 0").fetchall())
    assert counts == {"COMPLETED": 1}
    assert connection.execute("SELECT head FROM shards WHERE shard = %s", (SHARD,)).fetchone() == (6,)


def test_an_event_is_stored_as_the_bytes_that_were_said(connection: psycopg.Connection) -> None:
    event = submitted(job(task('ö 😀 \\ " \n'), inputs={"a": "\u2028"}))
    Writer(connection).store(event)
    row = connection.execute("SELECT data::text FROM events").fetchone()
    assert row is not None
    assert row[0].encode() == msgspec.json.encode(event)


def test_an_empty_batch_is_nothing(connection: psycopg.Connection) -> None:
    log.commit(connection, Batch())
    assert _all_counts(connection) == [0] * len(TABLES)


def test_a_head_that_moved_refuses_all_of_a_batch(connection: psycopg.Connection) -> None:
    writer = Writer(connection)
    writer.store(*queued(ONE))
    before = _all_counts(connection)
    behind = Writer(connection)
    batch = behind.batch(*_history(_other(1), ONE), of=_other(1))
    batch.keys.append(("guest", "k", _other(1), "d"))
    batch.variables.append((_other(1), "x", "1"))
    with pytest.raises(Overtaken, match="moved"):
        log.commit(connection, batch)
    assert _all_counts(connection) == before


def test_one_head_that_moved_refuses_the_other_shards_too(connection: psycopg.Connection) -> None:
    writer = Writer(connection)
    writer.store(*queued(ONE))
    both = writer.batch(*_history(_other(1, 0x2B), ONE), of=_other(1, 0x2B))
    both.heads[SHARD] = (0, 1)
    with pytest.raises(Overtaken):
        log.commit(connection, both)
    assert _count(connection, "jobs") == 1


def test_a_version_that_is_taken_refuses_all_of_a_batch(connection: psycopg.Connection) -> None:
    writer = Writer(connection)
    writer.store(*queued(ONE))
    before = _all_counts(connection)
    batch = writer.batch(progressed(ROW, 1, 1))
    batch.events[0].version = 3
    with pytest.raises(Taken):
        log.commit(connection, batch)
    assert _all_counts(connection) == before
    assert connection.execute("SELECT head FROM shards WHERE shard = %s", (SHARD,)).fetchone() == (3,)


def test_a_job_that_exists_refuses_all_of_a_batch(connection: psycopg.Connection) -> None:
    writer = Writer(connection)
    writer.store(*queued(ONE))
    again = Writer(connection)
    again.heads = dict(writer.heads)
    with pytest.raises(Taken):
        log.commit(connection, again.batch(*queued(ONE)))


def test_an_idempotency_key_that_is_taken_refuses_all_of_a_batch(connection: psycopg.Connection) -> None:
    writer = Writer(connection)
    batch = writer.batch(*queued(ONE))
    batch.keys.append(("ann", "k", JOB, "d"))
    log.commit(connection, batch)
    writer.heads[SHARD] = 3
    second = writer.batch(*_history(_other(1), ONE), of=_other(1))
    second.keys.append(("ann", "k", _other(1), "d2"))
    with pytest.raises(Taken):
        log.commit(connection, second)
    assert _count(connection, "jobs") == 1
    found = log.load(connection, [], [], [("ann", "k"), ("bob", "k"), ("ann", "l")])
    assert found.keys == {("ann", "k"): (JOB, "d")}


@pytest.mark.parametrize(
    "worse", [lambda b: setattr(b.new_jobs[0], "error", "a\0b"), lambda b: setattr(b.events[0], "version", 2**40)]
)
def test_a_value_that_no_column_holds_refuses_all_of_a_batch(connection: psycopg.Connection, worse: object) -> None:
    batch = Writer(connection).batch(*queued(ONE))
    assert callable(worse)
    worse(batch)
    with pytest.raises(Unfit):
        log.commit(connection, batch)
    assert _all_counts(connection) == [0] * len(TABLES)


def test_after_a_refusal_the_session_goes_on(connection: psycopg.Connection) -> None:
    behind = Writer(connection)
    behind.heads[SHARD] = 9
    with pytest.raises(Overtaken):
        log.commit(connection, behind.batch(*queued(ONE)))
    Writer(connection).store(*queued(ONE))
    assert _count(connection, "events") == 3


def test_a_later_value_of_a_variable_wins(connection: psycopg.Connection) -> None:
    two = job(task("a", var="x"), task("b", var="x"))
    writer = Writer(connection)
    writer.store(*running(two), completed(ROW, "1"), dispatched(two.tasks[1], 2))
    writer.store(started(task_id(2)), completed(task_id(2), "2"), job_completed())
    assert log.load(connection, [JOB], [], []).variables == [(JOB, "x", "2")]


# -- load, due, running ---------------------------------------------------------------------------------------------


def test_a_working_set_is_what_can_change_and_what_was_asked_for(connection: psycopg.Connection) -> None:
    two = job(task("a"), task("b"))
    writer = Writer(connection)
    writer.store(*running(two), completed(ROW), dispatched(two.tasks[1], 2))
    assert [row.id for row in log.load(connection, [JOB], [], []).tasks] == [task_id(2)]
    assert {row.id for row in log.load(connection, [JOB], [ROW], []).tasks} == {ROW, task_id(2)}
    assert {row.id for row in log.load(connection, [], [ROW], []).tasks} == {ROW}
    nothing = log.load(connection, [_other(1)], [TaskId(_other(2))], [])
    assert (nothing.jobs, nothing.tasks, nothing.variables) == ([], [], [])


def test_what_was_loaded_is_what_was_folded(connection: psycopg.Connection) -> None:
    writer = Writer(connection)
    writer.store(*running(ONE), progressed(ROW, 33.3, 33.3))
    loaded = log.load(connection, [JOB], [], [])
    assert loaded.jobs == [writer.works[JOB].job]
    assert loaded.tasks == writer.works[JOB].active()


def _driven(connection: psycopg.Connection) -> Writer:
    writer = Writer(connection)
    for number in range(4):
        of = _other(number)
        batch = writer.batch(*_history(of, ONE), of=of)
        batch.new_jobs[0].drive_at = NOW + timedelta(seconds=number)
        log.commit(connection, batch)
        writer.heads.update({shard: after for shard, (_, after) in batch.heads.items()})
    batch = writer.batch(*queued(ONE))
    batch.new_tasks[0].drive_at = NOW + timedelta(seconds=1)
    log.commit(connection, batch)
    writer.heads.update({shard: after for shard, (_, after) in batch.heads.items()})
    return writer


def test_what_is_due_is_found_oldest_first_and_nothing_else(connection: psycopg.Connection) -> None:
    _driven(connection)
    due = log.due(connection, [SHARD], NOW + timedelta(seconds=2), 10)
    assert due[0] == (JOB, ROW)
    assert due[1:] == [(_other(n), None) for n in range(3)]
    assert log.due(connection, [SHARD], NOW + timedelta(seconds=9), 2)[1:] == [(_other(0), None), (_other(1), None)]
    assert log.due(connection, [(SHARD + 1) % SHARDS], NOW + timedelta(seconds=9), 10) == []
    assert log.due(connection, [], NOW + timedelta(seconds=9), 10) == []


def test_when_the_broker_came_back_empty_all_that_waits_is_due_and_that_is_on_record(connection: psycopg.Connection) -> None:
    _driven(connection)
    log.drive_all(connection, SHARD, "second", NOW - timedelta(days=1))
    assert len(log.due(connection, [SHARD], NOW - timedelta(days=1), 10)) == 5
    assert connection.execute("SELECT incarnation FROM shards WHERE shard = %s", (SHARD,)).fetchone() == ("second",)


def test_what_a_former_owner_planned_by_a_clock_that_was_ahead_is_planned_anew(connection: psycopg.Connection) -> None:
    _driven(connection)
    connection.execute("UPDATE jobs SET drives = 2 WHERE id = %s", (UUID(_other(0)),))
    ours = NOW - timedelta(hours=1)
    log.rearm(connection, SHARD, ours, 3, 10)
    assert log.due(connection, [SHARD], ours + timedelta(seconds=2.9), 10) == []
    assert len(log.due(connection, [SHARD], ours + timedelta(seconds=3), 10)) == 4
    assert len(log.due(connection, [SHARD], ours + timedelta(seconds=10), 10)) == 5


def test_what_is_due_soon_by_our_clock_too_stays_as_it_was(connection: psycopg.Connection) -> None:
    _driven(connection)
    before = log.due(connection, [SHARD], NOW + timedelta(seconds=9), 10)
    log.rearm(connection, SHARD, NOW, 9, 9)
    assert log.due(connection, [SHARD], NOW + timedelta(seconds=3), 10) == before


def test_what_a_worker_runs_is_found_and_what_it_ran_is_not(connection: psycopg.Connection) -> None:
    writer = Writer(connection)
    writer.store(*running(ONE))
    assert log.running(connection, [SHARD]) == [(W1, JOB, ROW, 1, 1)]
    assert log.running(connection, [(SHARD + 1) % SHARDS]) == []
    writer.store(completed(ROW), job_completed())
    assert log.running(connection, [SHARD]) == []


def test_a_stop_that_a_worker_has_not_confirmed_is_something_that_it_holds(connection: psycopg.Connection) -> None:
    writer = Writer(connection)
    writer.store(*running(ONE))
    connection.execute("UPDATE tasks SET state = 'CANCELLED', stopping = worker, drive_at = now()")
    assert log.running(connection, [SHARD]) == [(W1, JOB, ROW, 1, 1)]


# -- the whole log --------------------------------------------------------------------------------------------------


def test_folding_the_log_again_gives_the_rows(connection: psycopg.Connection) -> None:
    writer = Writer(connection)
    writer.store(*queued(ONE))
    for number in range(3):
        writer.store(*_history(_other(number, number), ONE), of=_other(number, number))
    writer.store(started(ROW), progressed(ROW, 50, 50))
    writer.store(completed(ROW, "7"), job_completed("7"))
    works: dict[str, JobWork] = {}
    stored = connection.execute("SELECT stream, type, data::text FROM events ORDER BY shard, position").fetchall()
    for stream, tag, data in stored:
        evolve(works.setdefault(stream, JobWork()), JOB_EVENTS.decode(tag, data))
    loaded = log.load(connection, [JobId(stream) for stream in works], [ROW], [])
    assert {row.id: row for row in loaded.jobs} == {stream: work.job for stream, work in works.items()}
    folded = [row for work in works.values() for row in work.tasks.values()]
    assert [msgspec.structs.replace(row, stored=False) for row in loaded.tasks] == folded
    assert {(j, n): v for j, n, v in loaded.variables} == {
        (stream, name): value for stream, work in works.items() for name, value in work.variables.items()
    }


# -- ownership ------------------------------------------------------------------------------------------------------


async def test_a_shard_has_one_owner_until_it_is_given_back(installation: Installation) -> None:
    one, other = installation.connect("one"), installation.connect("other")
    assert await one.run(log.take, 0, "one") == (0, "")
    assert await other.run(log.take, 0, "other") is None
    assert await other.run(log.take, 1, "other") == (0, "")
    await one.run(log.release, 0)
    assert await other.run(log.take, 0, "other") == (0, "")
    assert await other.run(log.shard_count) == SHARDS


async def test_a_session_that_ends_lets_go(installation: Installation) -> None:
    one, other = installation.connect("one"), installation.connect("other")
    await one.run(log.take, 0, "one")
    await one.drop()
    async with asyncio.timeout(10):
        while await other.run(log.take, 0, "other") is None:
            await asyncio.sleep(0.01)
    generation = one.generation
    assert await one.run(log.formats) == (newest(), newest())
    assert one.generation == generation + 1


@pytest.mark.parametrize("how", ["SELECT pg_terminate_backend(%s)", "SELECT pg_cancel_backend(%s)"])
async def test_a_session_that_is_ended_in_the_middle_of_a_commit_has_committed_nothing(
    installation: Installation, how: str
) -> None:
    owner = installation.connect("owner")
    process = await owner.run(lambda connection: connection.info.backend_pid)
    with installation.session("postgres") as other, other.transaction():
        other.execute("UPDATE shards SET owner = 'me'")
        under_way = asyncio.ensure_future(owner.run(log.commit, Writer().batch(*queued(ONE))))
        async with asyncio.timeout(10):
            while other.execute("SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted", (process,)).fetchone() is None:
                await asyncio.sleep(0.01)
            other.execute(how.encode(), (process,))
            with pytest.raises(Unavailable):
                await under_way
    assert (await owner.run(log.load, [JOB], [], [])).jobs == []
    await owner.run(log.commit, Writer().batch(*queued(ONE)))


async def test_what_needs_the_locks_of_a_session_is_not_done_in_another(installation: Installation) -> None:
    owner = installation.connect("owner")
    await owner.run(log.take, 0, "owner")
    generation = owner.generation
    await owner.run_in(generation, log.commit, Batch())
    await owner.drop()
    with pytest.raises(Unavailable, match="is gone"):
        await owner.run_in(generation, log.commit, Writer().batch(*queued(ONE)))
    await owner.run(log.formats)
    with pytest.raises(Unavailable, match="is gone"):
        await owner.run_in(generation, log.commit, Writer().batch(*queued(ONE)))
    assert (await owner.run_in(generation + 1, log.load, [JOB], [], [])).jobs == []


async def test_a_session_that_is_silent_loses_its_shards_and_notices(installation: Installation) -> None:
    frozen, other = installation.connect("frozen", 1), installation.connect("other")
    await frozen.run(log.take, 0, "frozen")
    generation = frozen.generation
    async with asyncio.timeout(15):
        while await other.run(log.take, 0, "other") is None:
            await asyncio.sleep(0.05)
    with pytest.raises(Unavailable, match="did not answer"):
        await frozen.run(log.formats)
    await frozen.run(log.formats)
    assert frozen.generation == generation + 1
    assert await frozen.run(log.take, 0, "frozen") is None


async def test_a_session_that_is_silent_amid_a_message_is_ended_by_whoever_looks(installation: Installation) -> None:
    """There the server's own time-outs do not count: it waits for the rest."""
    frozen, other = installation.connect("frozen", 1), installation.connect("other")
    await frozen.run(log.take, 0, "frozen")
    writer = Writer()

    def freeze(connection: psycopg.Connection) -> None:
        pgconn = connection.pgconn
        pgconn.enter_pipeline_mode()
        pgconn.send_query_params(b"UPDATE shards SET owner = 'frozen'", None)  # and no Sync: nothing ends here
        pgconn.flush()

    await frozen.run(freeze)
    async with asyncio.timeout(20):
        while await other.run(log.take, 0, "other") is None:
            await other.run(end_silent)
            await asyncio.sleep(0.05)
    await other.run(log.commit, writer.batch(*queued(ONE)))


async def test_a_session_that_is_slow_to_take_what_it_asked_for_is_left_alone(installation: Installation) -> None:
    slow, other = installation.connect("slow", 1), installation.connect("other")

    def ask(connection: psycopg.Connection) -> int:
        connection.pgconn.send_query_params(b"SELECT repeat('x', 1000) FROM generate_series(1, 100000)", None)
        return connection.info.backend_pid

    process = await slow.run(ask)
    waits = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s AND state_change < clock_timestamp() - %s * interval '1 s'"
    with installation.session("postgres") as look:
        async with asyncio.timeout(20):
            while look.execute(waits, (process, SILENT_S + 0.5)).fetchone() != ("ClientWrite",):
                await asyncio.sleep(0.05)
    await other.run(end_silent)
    taken = await slow.run(lambda connection: connection.pgconn.get_result())
    assert taken is not None
    assert taken.ntuples == 100_000


async def test_installations_in_one_database_own_their_shards_apart(installation: Installation, shared: str) -> None:
    second = Installation(shared)
    one, other = installation.connect("one"), second.connect("other")
    assert await one.run(log.take, 0, "one") == (0, "")
    assert await other.run(log.take, 0, "other") == (0, "")
    await second.close()


async def test_coordinators_of_two_releases_exclude_each_other(database: str) -> None:
    """The releases before had this number in their code."""
    migrate(database)
    store = Connection(database, "new", 30)
    with psycopg.connect(database, autocommit=True) as old:
        assert old.execute("SELECT pg_try_advisory_lock(2003398244, 0)").fetchone() == (True,)
        assert await store.run(log.take, 0, "new") is None
        assert await store.run(log.take, 1, "new") == (0, "")
        assert old.execute("SELECT pg_try_advisory_lock(2003398244, 1)").fetchone() == (False,)
    await store.close()


async def test_a_former_owner_cannot_commit_after_its_successor_has(installation: Installation) -> None:
    former, successor = installation.connect("former"), installation.connect("successor")
    late = Writer().batch(*queued(ONE))
    await successor.run(log.commit, Writer().batch(*_history(_other(1), ONE), of=_other(1)))
    with pytest.raises(Overtaken):
        await former.run(log.commit, late)


async def test_whatever_goes_wrong_with_a_database_is_something_to_try_again(database: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    migrate(database)
    store = Connection(database, "test", 30)
    try:
        await store.run(log.take, 0, "me")
        with psycopg.connect(database, autocommit=True) as superuser:
            superuser.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
            await store.drop()
            with pytest.raises(Unavailable, match="read-only"):
                await store.run(log.take, 0, "me")
            superuser.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
            assert await store.run(log.take, 0, "me") == (0, "")
            superuser.execute(f"ALTER DATABASE {name} SET synchronous_commit = off".encode())
            await store.drop()
            with pytest.raises(Misconfigured, match="synchronous_commit"):
                await store.run(log.formats)
    finally:
        await store.close()


async def test_a_text_is_a_text_whatever_the_database_was_made_with(servers: Servers) -> None:
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(servers.postgres.dsn, autocommit=True) as superuser:
        superuser.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0".encode())
    dsn = servers.postgres.dsn_of(name)
    migrate(dsn)
    store = Connection(dsn, "test", 30)
    try:
        await store.run(log.commit, Writer().batch(*queued(job(task("é")))))
        loaded = await store.run(log.load, [JOB], [], [])
        assert [(row.state, row.definition.name) for row in loaded.tasks] == [("SCHEDULED", "é")]
    finally:
        await store.close()
        with psycopg.connect(servers.postgres.dsn, autocommit=True) as superuser:
            superuser.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


async def test_a_database_without_an_installation_or_of_another_release_is_said_so(installation: Installation) -> None:
    nothing = Connection(installation.dsn, "test", None, "nowhere")
    with pytest.raises(Misconfigured, match="windlass migrate"):
        await nothing.run(log.formats)
    await nothing.close()
    with installation.session("postgres") as superuser:
        superuser.execute("UPDATE installation SET format = 999")
    with pytest.raises(Misconfigured, match=r"format 999.*newer windlass"):
        await installation.connect().run(log.formats)


# -- roles ----------------------------------------------------------------------------------------------------------


COORDINATOR_MAY_NOT = [
    "UPDATE events SET type = 'x'", "DELETE FROM events", "TRUNCATE events", "DELETE FROM events_job_rest",
    "UPDATE events_job SET data = '{}'", "DROP TABLE events", "ALTER TABLE events DISABLE TRIGGER ALL", "TRUNCATE jobs",
    "UPDATE installation SET shards = 1", "DELETE FROM shards", "CREATE TABLE mine ()",
]  # fmt: skip
READERS_MAY_NOT = [
    *COORDINATOR_MAY_NOT, "INSERT INTO events SELECT * FROM events", "UPDATE jobs SET state = 'x'", "DELETE FROM tasks",
    "UPDATE shards SET head = 0", "SELECT move_heads('{0}', '{0}', '{1}')", "SELECT ensure_partitions('2026-01-01'::date, 1)",
    "INSERT INTO quarantine SELECT * FROM quarantine", "DELETE FROM task_logs",
]  # fmt: skip


def test_the_coordinator_may_change_or_delete_no_event(installation: Installation) -> None:
    with installation.session("windlass_coordinator") as connection:
        for attempt in COORDINATOR_MAY_NOT:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(attempt.encode())


@pytest.mark.parametrize("role", ["windlass_gateway", "windlass_scheduler", "windlass_webhooks"])
def test_all_others_may_only_read(installation: Installation, role: str) -> None:
    with installation.session(role) as connection:
        for attempt in READERS_MAY_NOT:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(attempt.encode())
        for table in (*TABLES, "nodes", "task_logs", "quarantine", "shards", "installation"):
            _count(connection, table)


def test_with_its_own_rights_the_coordinator_does_all_it_must(installation: Installation) -> None:
    with installation.session("windlass_coordinator") as connection:
        log.ensure_partitions(connection, THEN)
        assert log.take(connection, SHARD, "me") == (0, "")
        writer = Writer(connection)
        writer.store(*running(ONE))
        writer.store(completed(ROW, "7"), job_completed("7"))
        log.drive_all(connection, SHARD, "x", NOW)
        operational.quarantine(connection, "jobs", b"\0\xff", None, "why", NOW)
        operational.keep_logs(connection, [(LogPart(job=JOB, task=ROW, attempt=1, number=1, contents="hi"), NOW)])


# -- operational ----------------------------------------------------------------------------------------------------


def test_a_part_of_output_is_kept_once(connection: psycopg.Connection) -> None:
    part = LogPart(job=JOB, task=ROW, attempt=1, number=1, contents="a\0b", streams=(("out", 2),))
    operational.keep_logs(connection, [(part, NOW)])
    operational.keep_logs(connection, [(part, NOW), (msgspec.structs.replace(part, number=2, contents="c"), NOW)])
    assert connection.execute("SELECT number, contents, streams FROM task_logs ORDER BY number").fetchall() == [
        (1, "ab", [["out", 2]]),
        (2, "c", [["out", 2]]),
    ]


def test_a_message_in_quarantine_is_there_once_with_all_its_bytes(connection: psycopg.Connection) -> None:
    name = operational.quarantine(connection, "jobs.00", b"\0\xff{", {"a": "b"}, "no\0 good", NOW)
    assert operational.quarantine(connection, "jobs.00", b"\0\xff{", {"a": "b"}, "no\0 good", NOW) == name
    found = connection.execute("SELECT id, subject, payload, headers, reason FROM quarantine").fetchall()
    assert found == [(name, "jobs.00", b"\0\xff{", {"a": "b"}, "no good")]


# -- partitions -----------------------------------------------------------------------------------------------------


def _partition_of(connection: psycopg.Connection, stream: str) -> str:
    row = connection.execute("SELECT tableoid::regclass::text FROM events WHERE stream = %s", (UUID(stream),)).fetchone()
    assert row is not None
    return str(row[0])


def test_a_stream_lives_in_the_month_of_its_birth(connection: psycopg.Connection) -> None:
    log.ensure_partitions(connection, THEN, 1)
    log.ensure_partitions(connection, THEN, 1)
    later = JobId(ids.derive(THEN.replace(month=4, day=1, hour=0, minute=0), 0x2A, "april"))
    writer = Writer(connection)
    writer.store(*queued(ONE))
    writer.store(*_history(later, ONE), of=later)
    assert (_partition_of(connection, JOB), _partition_of(connection, later)) == ("events_job_2026_03", "events_job_2026_04")


def test_a_job_of_a_far_time_does_not_hinder_the_partition_of_that_time(connection: psycopg.Connection) -> None:
    log.ensure_partitions(connection, THEN, 1)
    far = JobId(ids.derive(THEN.replace(month=9), 0x2A, "far"))
    writer = Writer(connection)
    writer.store(*_history(far, ONE), of=far)
    log.ensure_partitions(connection, THEN.replace(month=8), 2)
    near = JobId(ids.derive(THEN.replace(month=8), 0x2A, "near"))
    writer.store(*_history(near, ONE), of=near)
    assert _partition_of(connection, near) == "events_job_2026_08"
    assert _count(connection, "events") == 4


# -- plans ----------------------------------------------------------------------------------------------------------

PARAMETERS: dict[str, Mapping[str, object]] = {
    "load_jobs": {"ids": [UUID(JOB)]},
    "load_tasks": {"jobs": [UUID(JOB)], "tasks": [UUID(ROW)]},
    "load_variables": {"jobs": [UUID(JOB)]},
    "load_keys": {"owner": ["guest"], "key": ["k"]},
    "find_due": {"shards": [0, 1], "now": NOW, "most": 10},
    "find_running": {"shards": [0, 1]},
    "update_jobs": log._changed_jobs([]),
    "load_past_rows": {"jobs": [UUID(JOB)], "whole": [UUID(JOB)], "tasks": [UUID(ROW)]},
    "load_past_composites": {"tasks": [UUID(ROW)]},
    "load_whole_lists": {"tasks": [UUID(ROW)]},
    "clear_variables": {"jobs": [UUID(JOB)]},
    "update_tasks": log._columns([], log._TASK_CHANGES),
}


def _scans(plan: dict[str, object]) -> Iterator[str]:
    if "Scan" in str(plan["Node Type"]) and "Relation Name" in plan:
        yield f"{plan['Node Type']} on {plan['Relation Name']}"
    for inner in plan.get("Plans", []):  # type: ignore[attr-defined]  # a list where it is there
        yield from _scans(inner)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_statements_of_the_hot_path_use_their_indexes(connection: psycopg.Connection, name: str) -> None:
    row = connection.execute(b"EXPLAIN (FORMAT JSON) " + statement(name), PARAMETERS[name]).fetchone()
    assert row is not None
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    found = list(_scans(plan[0]["Plan"]))
    assert found
    assert [one for one in found if one.startswith("Seq Scan")] == []


FOLLOWERS = {
    "events_in_order": "SELECT data FROM events WHERE shard = 1 AND position > 5 ORDER BY position LIMIT 100",
    "events_timed": "SELECT data FROM events WHERE shard = 1 AND position > 5 AND timed ORDER BY position LIMIT 100",
    "events_hooked": "SELECT data FROM events WHERE shard = 1 AND position > 5 AND hooked ORDER BY position LIMIT 100",
}


@pytest.mark.parametrize("index", FOLLOWERS)
def test_a_follower_reads_by_an_index_of_its_own(connection: psycopg.Connection, index: str) -> None:
    plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {FOLLOWERS[index]}".encode()))
    wanted = {
        "events_in_order": "shard_position_idx ",
        "events_timed": "shard_position_idx1",
        "events_hooked": "shard_position_idx2",
    }
    assert wanted[index] in plan, plan
    assert "Seq Scan" not in plan


def test_every_statement_of_the_log_is_in_a_file_with_its_duty() -> None:
    folder = Path(log.__file__).parent / "sql"
    for file in folder.glob("*.sql"):
        assert file.read_text().startswith("-- "), file.name


def test_the_states_that_a_working_set_loads_are_the_active_ones() -> None:
    text = statement("load_tasks").decode()
    assert all(f"'{state}'" in text for state in ACTIVE)
