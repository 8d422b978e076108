"""What the owner of a shard relies on, on a real PostgreSQL and on the log in memory alike."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest

from tests.contract.test_log import SHARD, SHARDS, Installation, Writer
from tests.support.memory.database import Database, MemoryConnection, MemoryReader, ended_of
from tests.support.play import Play
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
    job_failed,
    progressed,
    queued,
    running,
    started,
    task,
    task_id,
)
from tests.support.stack import Servers
from windlass import ids
from windlass.clock import system
from windlass.coordinator.job import pasts
from windlass.errors import Unavailable
from windlass.eventlog import deletions, deliveries, follow, log, operational, read
from windlass.eventlog.connection import Connection
from windlass.eventlog.deliveries import Delivery, Projected, Room, Settled
from windlass.eventlog.deliveries import Taken as Call
from windlass.eventlog.follow import Reading, Stuck
from windlass.eventlog.log import Overtaken, Taken, Unfit
from windlass.eventlog.statements import statement
from windlass.ids import JobId, TaskId
from windlass.messages.events import JobDeleted, JobEvent, JobRestarted, JobSubmitted, TaskOpened
from windlass.messages.jobs import Each, Job, Parallel, Task, Webhook
from windlass.messages.notices import LogPart, NodeBeat
from windlass.messages.reruns import Redo
from windlass.scheduler import firing, steady
from windlass.webhooks.projection import Projection

ROW = task_id()
ONE = job(task("a", var="x"), output="{{ tasks.x }}")
Connect = Callable[..., Connection]


@pytest.fixture(scope="module")
def dsn(servers: Servers) -> Iterator[str]:
    """A database for all of these tests."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(servers.postgres.dsn, autocommit=True) as superuser:
        superuser.execute(f"CREATE DATABASE {name}".encode())
        yield servers.postgres.dsn_of(name)
        superuser.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(params=["postgres", "memory"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Database | Installation]:
    """An empty installation of the test's own."""
    if request.param == "memory":
        yield Database(SHARDS)
        return
    installation = Installation(request.getfixturevalue("dsn"))
    yield installation
    await installation.close()


@pytest.fixture
def connect(place: Database | Installation) -> Connect:
    """Makes connections to it: `connect(name, owner_s)`."""
    if isinstance(place, Installation):
        return place.connect
    return lambda name="test", owner_s=30: MemoryConnection(place, owner_s)


@pytest.fixture
async def reader(place: Database | Installation) -> AsyncIterator[read.Reader]:
    """Who answers from it."""
    if isinstance(place, Database):
        yield MemoryReader(place)
        return
    async with read.connect(place.dsn, place.schema) as found:
        yield found


class Owner:
    """Folds events and stores them through a connection."""

    def __init__(self, store: Connection) -> None:
        self.store, self.writer = store, Writer()

    async def commit(self, *events: JobEvent, of: JobId = JOB, change: Callable[[Any], None] = lambda batch: None) -> None:
        """Store these events of a job; `change` may spoil the batch before."""
        batch = self.writer.batch(*events, of=of)
        change(batch)
        await self.store.run(log.commit, batch)
        self.writer.heads.update({shard: after for shard, (_, after) in batch.heads.items()})


@pytest.fixture
def owner(connect: Connect) -> Owner:
    """Who writes."""
    return Owner(connect())


def _other(number: int) -> JobId:
    return JobId(ids.derive(THEN + timedelta(seconds=number), 0x2A, "other", number))


def _born(of: JobId) -> tuple[JobEvent, JobEvent]:
    return JobSubmitted(job=of, definition=ONE, user="guest", at=THEN), begun()


async def test_what_was_committed_is_loaded(owner: Owner) -> None:
    await owner.commit(*running(ONE), progressed(ROW, 33.3, 33.3))
    loaded = await owner.store.run(log.load, [JOB], [], [])
    assert (loaded.jobs, loaded.tasks) == ([owner.writer.works[JOB].job], [owner.writer.works[JOB].tasks[ROW]])
    await owner.commit(completed(ROW, "7"), job_completed("7"))
    loaded = await owner.store.run(log.load, [JOB], [ROW], [])
    assert (loaded.jobs[0].state, loaded.tasks[0].state, loaded.variables) == ("COMPLETED", "COMPLETED", [(JOB, "x", "7")])


async def test_what_was_committed_is_read(owner: Owner, reader: read.Reader) -> None:
    assert reader.shards == SHARDS
    two = job(task("a", var="x"), task("b"))
    await owner.commit(*running(two), completed(ROW, "7"), dispatched(two.tasks[1], 2))
    whole = await reader.job(JOB)
    assert whole is not None
    assert [(row.id, row.state, row.result, row.worker) for row in whole.tasks] == [
        (ROW, "COMPLETED", "7", W1),
        (task_id(2), "SCHEDULED", "", ""),
    ]
    assert (whole.job.state, whole.job.position, whole.variables) == ("RUNNING", 2, {"x": "7"})
    assert msgspec.json.decode(whole.job.definition, type=type(two)) == two
    assert await reader.job(_other(1)) is None
    assert await reader.ended([JOB, _other(1)]) == []
    await owner.commit(job_completed())
    assert await reader.ended([JOB, _other(1)]) == [JOB]


async def test_a_working_set_is_what_can_change_and_what_was_asked_for(owner: Owner) -> None:
    two = job(task("a"), task("b"))
    await owner.commit(*running(two), completed(ROW), dispatched(two.tasks[1], 2))
    assert [row.id for row in (await owner.store.run(log.load, [JOB], [], [])).tasks] == [task_id(2)]
    assert {row.id for row in (await owner.store.run(log.load, [JOB], [ROW], [])).tasks} == {ROW, task_id(2)}
    nothing = await owner.store.run(log.load, [_other(1)], [TaskId(_other(2))], [("ann", "k")])
    assert (nothing.jobs, nothing.tasks, nothing.variables, nothing.keys) == ([], [], [], {})


async def test_what_did_not_end_well_is_found_by_the_last_rows(owner: Owner) -> None:
    """Of a job that was run again twice, below composites and as steps of its own."""
    inner = Task(name="p", parallel=Parallel(tasks=(task("x"), task("y"), task("z"))), on_error="continue")
    outer = Task(name="e", each=Each(list="[1, 2, 3]", task=inner, concurrency=2), on_error="continue")
    play = Play(lambda row: Exception("no") if row.definition.name != "x" else "")
    play.submit(Job(name="j", tasks=(task("a", on_error="ignore"), outer, task("x", var="v")))).run()
    play.restart("failed").run()
    await owner.commit(*(event for _, event in play.log), change=_with_composites(owner, play))
    work = play.whole[JOB]
    composites = [row.id for row in work.tasks.values() if row.composite is not None]
    found = await owner.store.run(log.load_past, [JOB], [JOB], composites)
    expected = ended_of(list(work.tasks.values()), [JOB], composites, work.lists)
    assert sorted(found.unwell) == sorted(expected.unwell)
    assert len(found.unwell) == 2 + 2 * 3 + 6 * 2
    for name in composites:
        assert pasts.of_composite(name, found) == pasts.of_composite(name, expected)
    assert work.job is not None
    assert pasts.of_job(work.job, found).redo.indexes == (1, 2, 4)
    none = await owner.store.run(log.load_past, [JOB], [], [])
    assert (none.unwell, none.composites, none.parts) == ([], {}, [])


def _with_composites(owner: Owner, play: Play) -> Callable[[Any], None]:
    def change(batch: Any) -> None:
        batch.new_composites = [row for row in batch.new_tasks if row.composite is not None]
        batch.items = [(JOB, name, part) for name, parts in play.whole[JOB].lists.items() for part in parts]

    return change


async def test_a_deleted_job_is_known_as_such_and_swept_a_part_at_a_time(
    owner: Owner, connect: Connect, reader: read.Reader
) -> None:
    two = job(task("a", var="x"), task("b"))
    below = JobSubmitted(job=_other(1), definition=two, user="guest", at=THEN, parent=ROW, parent_job=JOB)
    begin = [*running(two), completed(ROW, "7"), dispatched(two.tasks[1], 2), completed(task_id(2)), job_completed()]
    await owner.commit(*begin)
    await owner.commit(below, of=_other(1))
    part = LogPart(job=JOB, task=ROW, attempt=1, number=1, contents="out")
    await owner.store.run(operational.keep_logs, [(part, NOW)])

    def delete(batch: Any) -> None:
        batch.changed_jobs.clear()
        batch.counts[SHARD, "COMPLETED"] -= 1
        batch.deleted.append((JOB, SHARD, owner.writer.heads[SHARD] + 1, False, NOW))

    await owner.commit(JobDeleted(at=NOW), change=delete)
    loaded = await owner.store.run(log.load, [JOB, _other(1)], [], [])
    assert ([row.id for row in loaded.jobs], loaded.deleted) == ([_other(1)], [JOB])
    assert await reader.job(JOB) is None
    aside = connect("aside", None)
    await aside.run(operational.keep_logs, [(msgspec.structs.replace(part, number=2), NOW)])  # too late: it is not kept
    assert await aside.run(deletions.unswept, [SHARD], 10) == [JOB]
    assert await aside.run(deletions.unswept, [SHARD + 1], 10) == []
    assert await aside.run(deletions.below, JOB, 10) == [_other(1)]
    swept = [await aside.run(deletions.sweep, JOB, 1) for _ in range(4)]
    assert (sum(swept), swept[-1]) == (3, 0)
    assert await aside.run(deletions.end, JOB)
    assert await aside.run(deletions.unswept, [SHARD], 10) == []
    assert await owner.store.run(log.load, [], [ROW, task_id(2)], []) == log.Loaded([], [], [], {}, [])


async def test_the_key_of_a_deleted_job_stays_until_its_webhooks_need_it_no_more(owner: Owner) -> None:
    hooked = job(webhooks=(Webhook(url="http://a/"),))
    await owner.commit(
        *running(hooked), completed(ROW), job_completed(), change=lambda b: b.job_keys.append((JOB, "m", "w", "h"))
    )

    def delete(batch: Any) -> None:
        batch.changed_jobs.clear()
        batch.deleted.append((JOB, SHARD, owner.writer.heads[SHARD] + 1, True, NOW))

    await owner.commit(JobDeleted(at=NOW), change=delete)
    assert not await owner.store.run(deletions.end, JOB)
    assert await owner.store.run(deletions.unswept, [SHARD], 10) == [JOB]
    await _advance(owner.store, Reading("webhook_cursors", "hooked", 100, Projection(system)))
    assert await owner.store.run(deletions.end, JOB)
    assert await owner.store.run(deletions.unswept, [SHARD], 10) == []


async def test_variables_that_are_cleared_are_gone_and_those_set_after_it_are_there(owner: Owner) -> None:
    await owner.commit(*running(ONE), completed(ROW, "7"), job_completed("7"))
    await owner.commit(JobRestarted(run=2, key="k", at=THEN, anew=True), change=lambda batch: batch.cleared.append(JOB))
    loaded = await owner.store.run(log.load, [JOB], [], [])
    assert (loaded.jobs[0].position, loaded.jobs[0].result, loaded.variables) == (1, "", [])

    def both(batch: Any) -> None:
        batch.cleared.append(JOB)
        batch.variables.append((JOB, "y", "2"))

    await owner.commit(progressed(ROW, 1, 1), change=both)
    assert (await owner.store.run(log.load, [JOB], [], [])).variables == [(JOB, "y", "2")]


async def test_what_a_run_goes_through_is_kept_with_its_job(owner: Owner) -> None:
    redo = Redo(indexes=(1, 3), again={1: ROW})
    await owner.commit(*running(ONE), job_failed("no"))
    await owner.commit(JobRestarted(run=2, key="k", at=THEN, redo=redo, parent=ROW))
    (row,) = (await owner.store.run(log.load, [JOB], [], [])).jobs
    assert (row.redo, row.position, row.parent) == (redo, 1, ROW)
    await owner.commit(JobRestarted(run=3, key="l", at=THEN, anew=True))
    (row,) = (await owner.store.run(log.load, [JOB], [], [])).jobs
    assert row.redo is None


async def test_what_was_loaded_is_nobody_elses(owner: Owner) -> None:
    await owner.commit(*queued(ONE))
    mine = await owner.store.run(log.load, [JOB], [], [])
    mine.jobs[0].state = mine.tasks[0].state = "CHANGED"
    owner.writer.works[JOB].tasks[ROW].error = "changed too"
    found = await owner.store.run(log.load, [JOB], [], [])
    assert (found.jobs[0].state, found.tasks[0].state, found.tasks[0].error) == ("SCHEDULED", "SCHEDULED", "")


def _of_an_old_version(batch: Any) -> None:
    batch.events[0].version = 3


def _far_too_large(batch: Any) -> None:
    batch.events[0].version = 2**40


def _with_nul(batch: Any) -> None:
    batch.changed_jobs[0].error = "a\0b"


@pytest.mark.parametrize(("spoil", "error"), [(_of_an_old_version, Taken), (_far_too_large, Unfit), (_with_nul, Unfit)])
async def test_a_batch_that_is_refused_leaves_nothing(owner: Owner, spoil: Callable[[Any], None], error: type[Exception]) -> None:
    await owner.commit(*queued(ONE))
    before = await owner.store.run(log.load, [JOB], [ROW], [])
    heads = dict(owner.writer.heads)
    with pytest.raises(error):
        await owner.commit(progressed(ROW, 1, 1), change=spoil)
    assert await owner.store.run(log.load, [JOB], [ROW], []) == before
    other = Owner(owner.store)
    other.writer.heads = heads
    await other.commit(*_born(_other(1)), of=_other(1))  # its head did not move, and the session goes on


async def test_a_head_that_moved_and_a_job_that_exists_refuse_a_batch(owner: Owner) -> None:
    await owner.commit(*queued(ONE))
    behind = Owner(owner.store)
    with pytest.raises(Overtaken):
        await behind.commit(*_born(_other(1)), of=_other(1))
    again = Owner(owner.store)
    again.writer.heads = dict(owner.writer.heads)
    with pytest.raises(Taken):
        await again.commit(*queued(ONE))


async def test_an_idempotency_key_belongs_to_the_first(owner: Owner) -> None:
    await owner.commit(*queued(ONE), change=lambda batch: batch.keys.append(("ann", "k", JOB, "d")))
    with pytest.raises(Taken):
        await owner.commit(*_born(_other(1)), of=_other(1), change=lambda batch: batch.keys.append(("ann", "k", _other(1), "e")))
    assert (await owner.store.run(log.load, [], [], [("ann", "k"), ("bob", "k")])).keys == {("ann", "k"): (JOB, "d")}


async def _driven(owner: Owner) -> None:
    """Four jobs and a task that wait, each a second later than the one before."""
    for number in range(4):

        def wait(batch: Any, number: int = number) -> None:
            batch.new_jobs[0].drive_at = NOW + timedelta(seconds=number)
            batch.new_jobs[0].drives = number

        await owner.commit(*_born(_other(number)), of=_other(number), change=wait)

    def wait_too(batch: Any) -> None:
        batch.new_tasks[0].drive_at = NOW + timedelta(seconds=1)

    await owner.commit(*queued(ONE), change=wait_too)


async def test_what_is_due_is_found_oldest_first_and_nothing_else(owner: Owner) -> None:
    await _driven(owner)

    async def due(seconds: int, most: int = 10, shard: int = SHARD) -> Any:
        return await owner.store.run(log.due, [shard], NOW + timedelta(seconds=seconds), most)

    assert await due(2) == [(JOB, ROW), *[(_other(n), None) for n in range(3)]]
    assert await due(9, 2) == [(JOB, ROW), (_other(0), None), (_other(1), None)]
    assert await due(9, shard=(SHARD + 1) % SHARDS) == []


async def test_all_is_due_when_the_broker_is_new_and_within_its_pause_when_the_owner_is(owner: Owner) -> None:
    await _driven(owner)
    ours = NOW - timedelta(hours=1)

    async def count(seconds: float) -> int:
        return len(await owner.store.run(log.due, [SHARD], ours + timedelta(seconds=seconds), 10))

    await owner.store.run(log.rearm, SHARD, ours, 3.0, 10.0)
    assert [await count(seconds) for seconds in (2.9, 3, 6, 10)] == [0, 2, 3, 5]
    await owner.store.run(log.drive_all, SHARD, "second", ours - timedelta(days=1))
    assert await count(-86400) == 5
    assert await owner.store.run(log.take, SHARD, "me") == (11, "second")


async def test_what_a_worker_runs_or_has_not_stopped_is_found(owner: Owner) -> None:
    beside = task("beside", parallel=Parallel(tasks=(task(),)))  # runs, but nowhere
    opened = TaskOpened(task=task_id(2), key="2", run=1, position=2, definition=beside, at=THEN, size=1)
    await owner.commit(*running(ONE), opened)
    assert await owner.store.run(log.running, [SHARD]) == [(W1, JOB, ROW, 1, 1)]
    assert await owner.store.run(log.running, [(SHARD + 1) % SHARDS]) == []

    def unconfirmed(batch: Any) -> None:
        batch.changed_tasks[0].stopping = W1

    await owner.commit(completed(ROW), job_completed(), change=unconfirmed)
    assert await owner.store.run(log.running, [SHARD]) == [(W1, JOB, ROW, 1, 1)]


async def test_a_shard_has_one_owner_until_it_is_given_back_or_its_session_ends(connect: Connect) -> None:
    one, other = connect("one"), connect("other")
    assert await one.run(log.take, 0, "one") == (0, "")
    assert await one.run(log.take, 0, "one") == (0, "")
    assert await other.run(log.take, 0, "other") is None
    assert await other.run(log.take, 1, "other") == (0, "")
    await one.drop()
    await _until_taken(other)
    generation = one.generation
    assert await one.run(log.take, 0, "one") is None
    assert one.generation == generation + 1
    await other.run(log.take, 0, "other")
    await other.run(log.release, 0)
    assert await one.run(log.take, 0, "one") is None  # taken twice, it has to be given back twice
    await other.run(log.release, 0)
    assert await one.run(log.take, 0, "one") is not None


async def _until_taken(store: Connection) -> None:
    async with asyncio.timeout(15):
        while await store.run(log.take, 0, "me") is None:
            await asyncio.sleep(0.02)


async def test_a_session_that_is_silent_loses_its_shards_and_notices(connect: Connect) -> None:
    frozen, other = connect("frozen", 1), connect("other")
    await frozen.run(log.take, 0, "frozen")
    await _until_taken(other)
    with pytest.raises(Unavailable, match="did not answer"):
        await frozen.run(log.shard_count)
    assert await frozen.run(log.shard_count) == SHARDS
    assert await frozen.run(log.take, 0, "frozen") is None


async def test_what_no_column_holds_is_refused_aside_too_and_the_same_message_is_kept_once(connect: Connect) -> None:
    store = connect()
    part = LogPart(job=JOB, task=ROW, attempt=1, number=1, contents="a\0b")
    await store.run(operational.keep_logs, [(part, NOW), (part, NOW)])
    with pytest.raises(Unfit):
        await store.run(operational.keep_logs, [(msgspec.structs.replace(part, number=2**62), NOW)])
    beat = NodeBeat(id=W1, name="a\0b", service="worker", version="1", hostname="h", started_at=NOW, counter=1, cpu_percent=0)
    with pytest.raises(Unfit):
        await store.run(operational.keep_node, beat, NOW)
    name = await store.run(operational.quarantine, "jobs.00", b"\0\xff{", {"a": "b"}, "no\0 good", NOW)
    assert await store.run(operational.quarantine, "jobs.00", b"\0\xff{", {"a": "b"}, "no\0 good", NOW) == name


# -- following and timers -------------------------------------------------------------------------------------------

CURSORS = "timer_cursors"
TIMED = [*queued(job(task("a", timeout="5s"))), started(ROW, deadline=NOW)]
"""The history of a job whose only task runs and has a deadline."""


class Page:
    """A projection that remembers, and refuses while it is told to."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.refuses = False
        self.writes: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, connection: Any, events: Any) -> None:
        if self.refuses:
            raise ValueError("no")
        self.seen += [(event.type, event.position) for event in events]
        for name, parameters in self.writes:
            connection.execute(statement(name), parameters)


async def test_followers_share_the_shards_and_what_a_dead_one_held_is_free(connect: Connect) -> None:
    one, other = connect("one"), connect("other")
    number, session = await one.run(follow.begin, CURSORS)
    assert await one.run(follow.balance, number, [], range(SHARDS), SHARDS) == set(range(SHARDS))
    same, second = await other.run(follow.begin, CURSORS)
    assert same == number
    assert await other.run(follow.balance, number, [], range(SHARDS), 1) == set()
    _, leases = await other.run(follow.look, CURSORS, [], number)
    assert sorted(leases) == sorted(
        [*((shard, session) for shard in range(SHARDS)), (follow.LIVING, session), (follow.LIVING, second)]
    )
    assert [follow.share(SHARDS, which, leases) for which in (session, second)] == [SHARDS // 2] * 2
    assert await one.run(follow.balance, number, [0, 1], [], 0) == set()
    assert await other.run(follow.balance, number, [], range(SHARDS), 1) == {0}
    await one.drop()
    async with asyncio.timeout(10):
        while len(leases) > 2:
            _, leases = await other.run(follow.look, CURSORS, [], number)
    assert sorted(leases) == [(0, second), (follow.LIVING, second)]
    assert await other.run(follow.balance, number, [], range(1, SHARDS), SHARDS) == set(range(1, SHARDS))


async def _news(store: Connection) -> list[follow.News]:
    return (await store.run(follow.look, CURSORS, [SHARD], None))[0]


async def test_what_is_wanted_is_projected_once_in_order_and_what_is_refused_comes_again(owner: Owner) -> None:
    page = Page()
    reading = Reading(CURSORS, "timed", 100, page)
    await owner.commit(*TIMED)
    news = await _news(owner.store)
    assert news == [(SHARD, 0, 4)]
    page.refuses = True
    with pytest.raises(Stuck):
        await owner.store.run(follow.advance, reading, news)
    page.refuses = False
    assert (await owner.store.run(follow.advance, reading, news)).events == 1
    assert await _news(owner.store) == []
    await owner.commit(completed(ROW), job_completed())
    done = await owner.store.run(follow.advance, reading, await _news(owner.store))
    assert (done.distance, done.behind) == (2, frozenset())
    assert page.seen == [("task.started", 4), ("task.completed", 5)]


async def test_a_due_timer_is_claimed_once_a_pause_until_it_is_ended(owner: Owner) -> None:
    page = Page()
    row, of = UUID(ROW), UUID(JOB)
    page.writes = [("set_timers", {"id": [row], "job": [of], "kind": ["retry"], "number": [2], "due_at": [NOW]})]
    await owner.commit(*TIMED)
    await owner.store.run(follow.advance, Reading(CURSORS, "timed", 100, page), await _news(owner.store))

    async def claimed(seconds: float) -> list[int]:
        found, next_at = await owner.store.run(firing.claim, NOW + timedelta(seconds=seconds))
        assert next_at is None or next_at > NOW + timedelta(seconds=seconds)
        assert all(one[:5] == (ROW, JOB, "retry", 2, NOW) for one in found)
        return [one[5] for one in found]

    assert [await claimed(seconds) for seconds in (-1, 0, 1, 2, 3, 6)] == [[], [1], [], [2], [], [3]]
    assert await owner.store.run(firing.count_said) == 1
    await owner.store.run(firing.say_again, NOW + timedelta(seconds=7))
    assert await claimed(7) == [2]
    page.writes = [("end_timers", {"ids": [row]})]
    await owner.commit(completed(ROW), job_completed())
    await owner.store.run(follow.advance, Reading(CURSORS, "timed", 100, page), await _news(owner.store))
    assert await claimed(1000) == []


async def test_the_kept_time_is_the_last_that_was_written(connect: Connect) -> None:
    store = connect()
    assert await store.run(steady.read_time) is None
    await store.run(steady.keep_time, (NOW, "boot", 1.5), {})
    await store.run(steady.keep_time, (THEN, "other", 2.5), {})
    assert await store.run(steady.read_time) == (THEN, "other", 2.5)


async def test_a_shards_level_never_falls(owner: Owner) -> None:
    found: list[Any] = []

    def project(connection: Any, _: Any) -> None:
        found[:] = connection.execute(statement("read_levels"), {"shards": [0, 1, 2]}).fetchall()

    store, later = owner.store, NOW + timedelta(seconds=1)
    for level in ({0: later, 1: NOW}, {0: NOW, 1: later}):
        await store.run(steady.keep_time, (NOW, "boot", 1.5), level)
    await owner.commit(*TIMED)
    await _advance(store, Reading(CURSORS, "timed", 100, project))
    assert sorted(found) == [(0, later), (1, later)]


# -- webhooks -------------------------------------------------------------------------------------------------------


async def _advance(store: Connection, reading: Reading) -> None:
    news, _ = await store.run(follow.look, reading.cursors, range(SHARDS), None)
    await store.run(follow.advance, reading, news)


class Sending:
    """A session that has lanes, and what it is owed."""

    def __init__(self, store: Connection, owner: Owner) -> None:
        self._store, self._owner, self._owed = store, owner, Projected()
        self._count = self._sender = 0

    async def owe(self, endpoint: str = "e", count: int = 1, host: str = "a:80") -> list[str]:
        """Owe deliveries more, in a lane of their own; their ids in order."""
        self._owed, self._count = Projected(), self._count + 1
        of, lane = _other(self._count), ids.derive(THEN, None, "lane", self._count)
        for hook in range(count):
            made = Delivery(
                id=ids.derive(THEN, None, lane, hook),
                lane=lane,
                host=host,
                endpoint=endpoint,
                job=of,
                version=1,
                hook=hook,
                event="job.StateChange",
                url="http://a/",
                headers={"a": "b"},
                body=b"{}",
                created_at=THEN,
            )
            self._owed.deliveries.append(made)
        hooked = msgspec.structs.replace(ONE, webhooks=(Webhook(url="http://a/"),))
        await self._owner.commit(JobSubmitted(job=of, definition=hooked, user="guest", at=THEN), of=of)
        reading = Reading("webhook_cursors", "hooked", 9, lambda connection, _: deliveries.store(connection, self._owed, NOW))
        await _advance(self._owner.store, reading)
        return [one.id for one in self._owed.deliveries]

    async def step(self, *done: Settled, seconds: float = 0, **limits: Any) -> tuple[list[Call], str]:
        """Settle calls, and take what is due so many seconds after `NOW`."""
        self._sender = self._sender or await self._store.run(deliveries.enter)
        room = {"most": 9, "endpoint_max": 9, "host_max": 9, "endpoints": {}, "hosts": {}, "look": 9, **limits}
        lanes, last = await self._store.run(deliveries.step, self._sender, done, NOW + timedelta(seconds=seconds), Room(**room))
        return await self._store.run(deliveries.first, lanes), last

    async def take(self, *done: Settled, **limits: Any) -> list[Call]:
        """The same without the endpoint that was looked at last."""
        return (await self.step(*done, **limits))[0]

    async def release(self, taken: Call) -> None:
        """Let its lane go."""
        await self._store.run(deliveries.release, self._sender, taken.lane)


@pytest.fixture
def sending(owner: Owner) -> Sending:
    """One that sends."""
    return Sending(owner.store, owner)


def _settled(taken: Call, state: str, due_s: float = 0) -> Settled:
    return Settled(taken, state, NOW, 5, 200, "", NOW + timedelta(seconds=due_s))


async def test_what_webhooks_are_owed_follows_from_events_however_many_are_read_together(owner: Owner, sending: Sending) -> None:
    hooks = (
        Webhook(url="http://a/", headers={"x": "{{ tasks.x }}"}),
        Webhook(url="http://a/", event="task.StateChange", if_="task.State != 'SCHEDULED'"),
    )
    reading = Reading("webhook_cursors", "hooked", 100, Projection(system))
    for events in (running(job(task("a", var="x"), webhooks=hooks)), [completed(ROW, "7"), job_completed("7")]):
        await owner.commit(*events)
        await _advance(owner.store, reading)
    told, done = [], list[Settled]()
    while found := await sending.take(*done, seconds=1e9):
        (taken,) = found
        told.append((taken.event, msgspec.json.decode(taken.body)["state"], dict(taken.headers)))
        done = [_settled(taken, "DELIVERED")]
    assert told == [
        ("job.StateChange", "PENDING", {"x": ""}),
        ("job.StateChange", "RUNNING", {"x": ""}),
        ("task.StateChange", "RUNNING", {}),
        ("task.StateChange", "COMPLETED", {}),
        ("job.StateChange", "COMPLETED", {"x": "7"}),
    ]


async def test_a_lane_gives_its_first_delivery_to_one_at_a_time_until_that_is_over(owner: Owner, sending: Sending) -> None:
    first, second = await sending.owe(count=2)
    assert await owner.store.run(deliveries.oldest) == THEN
    assert await sending.take(seconds=-1) == []
    (taken,) = await sending.take()
    assert (taken.id, taken.attempts, taken.headers) == (first, 0, {"a": "b"})
    assert await sending.take() == []
    await sending.release(taken)
    assert await sending.take() == [taken]
    assert await sending.take(_settled(taken, "WAITING", 2), seconds=1) == []
    (again,) = await sending.take(seconds=2)
    assert (again.id, again.attempts) == (first, 1)
    (next_one,) = await sending.take(_settled(again, "EXHAUSTED"))
    assert (next_one.id, next_one.attempts) == (second, 0)
    assert await sending.take(_settled(next_one, "DELIVERED"), seconds=9) == []
    assert await owner.store.run(deliveries.oldest) is None


async def test_what_a_dead_session_held_is_free_and_what_it_says_later_counts_for_nothing(
    connect: Connect, owner: Owner, sending: Sending
) -> None:
    await sending.owe()
    gone = Sending(connect("gone"), owner)
    (taken,) = await gone.take()
    assert await owner.store.run(deliveries.free) == 0
    await gone._store.drop()
    async with asyncio.timeout(10):
        while not await owner.store.run(deliveries.free):
            await asyncio.sleep(0.02)
    assert await sending.take() == [taken]
    gone._sender = 0
    assert await gone.take(_settled(taken, "DELIVERED")) == []
    await gone.release(taken)
    assert await gone.take() == []


async def test_endpoints_have_their_turns_and_their_limits(sending: Sending) -> None:
    owed = [await sending.owe(endpoint, host=f"{endpoint[0]}:80") for endpoint in ("a1", "a2", "b1") for _ in range(3)]

    async def taken(**limits: Any) -> list[str]:
        found = await sending.take(**limits)
        for one in found:
            await sending.release(one)
        return sorted(one.endpoint for one in found)

    assert await taken(most=0) == []
    assert len(await taken(most=4)) == 4
    assert await taken(endpoint_max=2, endpoints={"a1": 1, "b1": 2}) == ["a1", "a2", "a2"]
    assert [one[0] for one in await taken(host_max=4, hosts={"a:80": 2})] == ["a", "a", "b", "b", "b"]
    assert await taken(look=1) == ["a1"] * 3
    assert await taken(look=1, after="a1") == ["a2"] * 3
    assert sorted(one.id for one in await sending.take()) == sorted(name for (name,) in owed)
    assert (await sending.step(look=9, most=1))[1] == ""
    await sending.owe("c1")
    assert (await sending.step(look=1, most=1))[1] == "c1"
