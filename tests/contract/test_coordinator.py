"""A whole coordinator on real servers: what is said to it, what it stores, what it says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import psycopg
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from tests.support.scenario import job, task
from tests.support.services import Desk, Hand, coordinator, desk
from tests.support.waiting import until
from windlass import ids
from windlass.clock import system as clock
from windlass.coordinator.job.decide import OPENED_MAX
from windlass.coordinator.tickets import Tickets
from windlass.errors import Conflict, NotFound, Rejected
from windlass.eventlog import log as eventlog
from windlass.eventlog.connection import Connection
from windlass.eventlog.migrate import migrate
from windlass.eventlog.state import JobWork, evolve
from windlass.ids import JobId, TaskId
from windlass.messages.commands import (
    AdvanceJob,
    CancelJob,
    ClaimTask,
    CompleteTask,
    DeleteJob,
    FailTask,
    GrantTask,
    RefuseTask,
    ReportProgress,
    RestartJob,
    StopTask,
    SubmitJob,
)
from windlass.messages.envelope import encode
from windlass.messages.events import JOB_EVENTS
from windlass.messages.jobs import Retry
from windlass.messages.notices import LogPart, Running

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("coordinator")]
PREFIX = "tcoord."


class Here:
    """A coordinator, its database and a desk."""

    def __init__(self, dsn: str, at: Desk) -> None:
        self.dsn, self.desk, self.bus = dsn, at, at.bus
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def rows(self, query: str, *parameters: object) -> list[Any]:
        """What the database holds."""
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(self.dsn, autocommit=True)
            await self._connection.execute("SET search_path TO windlass")
        return list(await (await self._connection.execute(query.encode(), parameters)).fetchall())

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def events(self, of: str) -> list[str]:
        """The types of a job's events."""
        return [row[0] for row in await self.rows("SELECT type FROM events WHERE stream = %s::uuid ORDER BY version", of)]

    async def tickets(self) -> Tickets:
        """Those of this installation."""
        ((key,),) = await self.rows("SELECT key FROM ticket_key")
        return Tickets(key)

    async def state(self, of: str) -> str:
        """Of a job."""
        found = await self.rows("SELECT state FROM jobs WHERE id = %s::uuid", of)
        return str(found[0][0]) if found else ""

    async def until_rows(self, what: str, query: str, *parameters: object) -> list[Any]:
        """Wait until a query finds something."""
        try:
            async with asyncio.timeout(15):
                while not (found := await self.rows(query, *parameters)):
                    await asyncio.sleep(0.02)
                return found
        except TimeoutError:
            raise AssertionError(f"not within 15 s: {what}") from None

    async def until_quarantined(self, words: str) -> list[Any]:
        """Wait until a message is in quarantine whose reason holds these words."""
        return await self.until_rows(
            f"quarantined: {words}", "SELECT subject, payload, reason FROM quarantine WHERE reason LIKE %s", f"%{words}%"
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(servers: Any) -> AsyncIterator[Here]:
    """One coordinator for all of these tests."""
    name = "tcoordinator"
    with psycopg.connect(servers.postgres.dsn, autocommit=True) as superuser:
        superuser.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        superuser.execute(f"CREATE DATABASE {name}".encode())
        dsn = servers.postgres.dsn_of(name)
        migrate(dsn)
        async with desk(servers.nats.url, PREFIX) as at, coordinator(servers.nats.url, dsn, PREFIX):
            found = Here(dsn, at)
            yield found
            await found.close()
        superuser.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hand(here: Here) -> AsyncIterator[Hand]:
    """One worker for all of these tests."""
    found = Hand(here.bus)
    await found.start()
    found.beat_on()
    yield found
    await found.stop()


def _ignored(reason: str) -> float:
    return REGISTRY.get_sample_value("windlass_reports_ignored_total", {"reason": reason}) or 0.0


async def test_a_submission_is_answered_once_it_is_on_record(here: Here) -> None:
    name = here.desk.new()
    said = await here.desk.command(SubmitJob(job=name, definition=job()))
    assert (said["job"], said["state"], said["position"]) == (name, "SCHEDULED", 1)
    assert await here.events(name) == ["job.submitted", "job.started", "task.dispatched"]


async def test_a_job_runs_to_its_end(here: Here, hand: Hand) -> None:
    name = await here.desk.submit(job(task("a", var="x"), task("b", priority=9), output="{{ tasks.x }}"))
    first = await hand.task(name)
    assert isinstance(await hand.claim(first), GrantTask)
    assert (await hand.report(CompleteTask(**hand.fence(first), result="7"))).code is None
    second = await hand.task(name, key="2")
    assert isinstance(await hand.claim(second), GrantTask)
    assert (await hand.report(CompleteTask(**hand.fence(second)))).code is None
    assert await here.rows("SELECT state, result, progress FROM jobs WHERE id = %s::uuid", name) == [("COMPLETED", "7", 100.0)]


async def test_a_claim_that_is_made_twice_is_granted_twice_and_is_one_fact(here: Here, hand: Hand) -> None:
    name = await here.desk.submit(job())
    run = await hand.task(name)
    for _ in range(2):
        assert isinstance(await hand.claim(run), GrantTask)
    assert (await here.events(name)).count("task.started") == 1


async def test_a_second_worker_is_refused(here: Here, hand: Hand) -> None:
    other = Hand(here.bus, queue="other")
    await other.start()
    name = await here.desk.submit(job())
    run = await hand.task(name)
    await hand.claim(run)
    refusal = await other.claim(run)
    assert isinstance(refusal, RefuseTask)
    assert "RUNNING" in refusal.why
    await other.stop()


async def test_a_report_said_again_in_any_way_changes_nothing_and_is_counted(here: Here, hand: Hand) -> None:
    name = await here.desk.submit(job())
    run = await hand.task(name)
    await hand.claim(run)
    report = CompleteTask(**hand.fence(run), result="x")
    assert (await hand.report(report)).code is None
    events, before = await here.events(name), _ignored("ended")
    assert (await hand.report(report)).code == "stale"
    await here.bus.publish(f"{PREFIX}completed", hand.payload(report))
    await _until_counted("ended", before + 2)
    assert await here.events(name) == events


async def _until_counted(reason: str, count: float) -> None:
    async with asyncio.timeout(15):
        while _ignored(reason) < count:
            await asyncio.sleep(0.02)


async def test_a_report_under_the_name_of_another_worker_changes_nothing_and_is_counted(here: Here, hand: Hand) -> None:
    name = await here.desk.submit(job())
    run = await hand.task(name)
    await hand.claim(run)
    before = _ignored("sender")
    subject = here.bus.subjects.report("completed", here.desk.shard_of(name), "somebody")
    await here.bus.publish(subject, hand.payload(CompleteTask(**hand.fence(run))))
    await _until_counted("sender", before + 1)
    assert await here.state(name) == "RUNNING"


# -- stops ----------------------------------------------------------------------------------------------------------


async def test_a_stop_is_said_until_the_worker_reports_the_end(here: Here, hand: Hand) -> None:
    name = await here.desk.submit(job())
    run = await hand.task(name)
    await hand.claim(run)
    assert await here.desk.command(CancelJob(job=name)) == {}
    await hand.order(StopTask, run.task)
    assert await here.rows("SELECT stopping FROM tasks WHERE id = %s::uuid", run.task) == [(hand.id,)]
    await hand.order(StopTask, run.task, 2)
    assert (await hand.report(FailTask(**hand.fence(run), error="context canceled", reason="stopped"))).code == "stale"
    assert await here.rows("SELECT stopping, drive_at, state FROM tasks WHERE id = %s::uuid", run.task) == [
        ("", None, "CANCELLED")
    ]


async def test_a_word_of_progress_is_not_the_end_of_a_task_that_is_stopped(here: Here, hand: Hand) -> None:
    name = await here.desk.submit(job())
    run = await hand.task(name)
    await hand.claim(run)
    await here.desk.command(CancelJob(job=name))
    assert (await hand.report(ReportProgress(**hand.fence(run), progress=50))).code == "stale"
    assert await here.rows("SELECT stopping FROM tasks WHERE id = %s::uuid", run.task) == [(hand.id,)]


async def test_a_stop_ends_with_the_lease_of_its_worker(here: Here) -> None:
    mortal = Hand(here.bus, queue="mortal")
    await mortal.start()
    name = await here.desk.submit(job(task(queue="mortal")))
    run = await mortal.task(name)
    await mortal.claim(run)
    await here.desk.command(CancelJob(job=name))
    await mortal.order(StopTask, run.task)
    await mortal.stop()
    await here.until_rows(
        "the stop is over", "SELECT 1 FROM tasks WHERE id = %s::uuid AND stopping = '' AND drive_at IS NULL", run.task
    )


async def test_what_a_silent_worker_ran_runs_again_elsewhere(here: Here) -> None:
    mortal, heir = Hand(here.bus, queue="heirs"), Hand(here.bus, queue="heirs")
    await mortal.start()
    name = await here.desk.submit(job(task(queue="heirs")))
    run = await mortal.task(name)
    assert isinstance(await mortal.claim(run), GrantTask)
    await mortal.stop()
    await heir.start()
    heir.beat_on()
    again = await heir.task(name, attempt=2)
    assert isinstance(await heir.claim(again), GrantTask)
    assert (await heir.report(CompleteTask(**heir.fence(again)))).code is None
    assert (await mortal.report(CompleteTask(**mortal.fence(run)))).code == "stale"
    assert await here.state(name) == "COMPLETED"
    await heir.stop()


async def test_a_worker_that_runs_what_no_row_knows_of_is_told_to_stop_it(here: Here) -> None:
    zombie = Hand(here.bus, queue="zombies")
    await zombie.start()
    name = await here.desk.submit(job(task(queue="zombies")))
    run = await zombie.task(name)
    assert isinstance(await zombie.claim(run), GrantTask)
    assert (await zombie.report(CompleteTask(**zombie.fence(run)))).code is None
    other = await here.desk.submit(job(task(queue="zombies")))
    mine = await zombie.task(other)
    assert isinstance(await zombie.claim(mine), GrantTask)
    zombie.running = tuple(Running(task=one.task, attempt=1, job=one.job, run=1) for one in (run, mine))
    zombie.beat_on()
    stop = await zombie.order(StopTask, run.task)
    assert (stop.job, stop.attempt) == (name, 1)
    assert not any(isinstance(order, StopTask) and order.task == mine.task for order in zombie.orders)
    await zombie.stop()


# -- keys and conflicts ---------------------------------------------------------------------------------------------


async def test_an_idempotency_key_gives_the_same_job_for_the_same_body_and_refuses_another(here: Here) -> None:
    byte = ids.byte_for("ann", "k1")
    names = [JobId(ids.new(clock.now(), byte)) for _ in range(3)]
    first = await here.desk.submit(job(), names[0], user="ann", key="k1", digest="d")
    assert await here.desk.submit(job(), names[1], user="ann", key="k1", digest="d") == first
    with pytest.raises(Conflict, match="another body"):
        await here.desk.submit(job(task("else")), names[2], user="ann", key="k1", digest="e")
    assert await here.rows("SELECT count(*) FROM jobs WHERE created_by = 'ann'") == [(1,)]


async def test_two_with_the_same_key_at_once_make_one_job(here: Here) -> None:
    byte = ids.byte_for("bob", "k2")
    names = [JobId(ids.new(clock.now(), byte)) for _ in range(8)]
    found = await asyncio.gather(*[here.desk.submit(job(), name, user="bob", key="k2", digest="d") for name in names])
    assert len(set(found)) == 1
    assert await here.rows("SELECT count(*) FROM jobs WHERE created_by = 'bob'") == [(1,)]


async def test_a_submission_that_comes_twice_is_one_job(here: Here) -> None:
    name = here.desk.new()
    found = await asyncio.gather(*[here.desk.submit(job(), name) for _ in range(5)])
    assert set(found) == {name}
    assert len(await here.events(name)) == 3
    with pytest.raises(Conflict):
        await here.desk.submit(job(task("else")), name)


async def test_what_cannot_be_is_refused_with_its_code(here: Here) -> None:
    with pytest.raises(NotFound):
        await here.desk.command(CancelJob(job=here.desk.new()))
    name = await here.desk.submit(job(task(if_="false")))
    with pytest.raises(Rejected, match="not running"):
        await here.desk.command(CancelJob(job=name))


async def test_what_was_refused_stays_so_though_it_is_said_again_when_it_could_be_done(here: Here, hand: Hand) -> None:
    """A message comes again when its ack was lost or its shard has a new owner, and its sender was told by then."""
    name = await here.desk.submit(job())
    run = await hand.task(name)
    requests = [DeleteJob(job=name, key="delete"), RestartJob(job=name, key="restart")]
    for request in requests:
        with pytest.raises(Rejected, match="job is"):
            await here.desk.command(request)
    await hand.claim(run)
    await hand.report(FailTask(**hand.fence(run), error="no"))
    await here.until_rows("it has failed", "SELECT 1 FROM jobs WHERE id = %s::uuid AND state = 'FAILED'", name)
    for request in requests:
        with pytest.raises(Rejected, match="refused when it was first heard"):
            await here.desk.command(request)
    assert await here.rows("SELECT run, refused FROM jobs WHERE id = %s::uuid", name) == [(1, "delete restart")]
    assert await here.desk.command(RestartJob(job=name, key="another")) == {}


# -- what can never succeed -----------------------------------------------------------------------------------------


async def test_rubbish_on_any_subject_is_quarantined_and_the_next_message_goes_through(here: Here) -> None:
    subjects = [
        here.bus.subjects.jobs(3), here.bus.subjects.pending(3), here.bus.subjects.report("started", 3, "w"),
        here.bus.subjects.report("completed", 3, "w"), *[s for s in here.bus.subjects.personal() if "restart" not in s],
    ]  # fmt: skip
    for subject in subjects:
        await here.bus.publish(subject, b"\xff\x00 rubbish of " + subject.encode())
    await here.desk.submit(job())
    for subject in subjects:
        await here.until_rows(f"rubbish of {subject}", "SELECT 1 FROM quarantine WHERE subject = %s", subject)


async def test_a_worker_can_give_no_commands(here: Here, hand: Hand) -> None:
    name = await here.desk.submit(job(task("to be left alone")))
    run = await hand.task(name)
    await hand.claim(run)
    shard = here.desk.shard_of(name)
    for word in ("started", "completed", "error", "progress"):
        subject = here.bus.subjects.report(word, shard, hand.id)
        await here.bus.publish(subject, hand.payload(CancelJob(job=name)))
    other = JobId(ids.new(clock.now(), ids.byte_of(name)))
    await here.bus.publish(
        here.bus.subjects.report("completed", shard, hand.id), hand.payload(SubmitJob(job=other, definition=job()))
    )
    await here.until_rows(
        "all five are quarantined", "SELECT 1 FROM quarantine WHERE reason LIKE %s HAVING count(*) >= 5", "%is not said on%"
    )
    assert await here.state(name) == "RUNNING"
    assert await here.state(other) == ""


async def test_a_report_is_taken_on_its_own_word_alone(here: Here, hand: Hand) -> None:
    name = await here.desk.submit(job())
    run = await hand.task(name)
    await hand.claim(run)
    await hand.say(FailTask(**hand.fence(run), error="no"), "completed")
    await here.until_quarantined("task.fail is not said on completed")
    assert await here.state(name) == "RUNNING"


async def test_a_message_that_no_database_holds_hurts_nobody_else(here: Here) -> None:
    good = [here.desk.new() for _ in range(5)]
    byte = ids.byte_for("eve", "k3")
    bad = [JobId(ids.new(clock.now(), byte)) for _ in range(2)]
    found = await asyncio.gather(
        *[here.desk.submit(job(), name) for name in good],
        *[here.desk.submit(job(name="a\0b"), name, user="eve", key="k3", digest="d") for name in bad],
        return_exceptions=True,
    )
    assert found[:5] == good
    assert all(isinstance(error, Exception) for error in found[5:]), found[5:]
    await here.desk.submit(job())


async def test_a_part_of_output_that_no_database_holds_is_quarantined_and_the_next_is_stored(here: Here) -> None:
    name, row = here.desk.new(), TaskId(ids.new(clock.now()))
    shard = here.desk.shard_of(name)
    subject = here.bus.subjects.logs(shard, name, row)
    tickets = await here.tickets()
    part = LogPart(job=name, task=row, attempt=1, number=1, contents="fine")
    worse = [msgspec.structs.replace(part, attempt=2**40), part, msgspec.structs.replace(part, number=2**62)]
    for number, one in enumerate(worse):
        said = msgspec.structs.replace(one, ticket=tickets.of(one))
        await here.bus.publish(subject, encode(said, id=f"p{number}", at=clock.now()))
    await here.until_rows("the good part", "SELECT 1 FROM task_logs WHERE task = %s::uuid", row)
    await here.until_rows("both bad ones", "SELECT 1 FROM quarantine WHERE subject = %s HAVING count(*) = 2", subject)


async def test_a_part_of_output_on_the_subject_of_another_task_is_quarantined(here: Here) -> None:
    name, row, other = here.desk.new(), TaskId(ids.new(clock.now())), TaskId(ids.new(clock.now()))
    subject = here.bus.subjects.logs(here.desk.shard_of(name), name, row)
    part = LogPart(job=name, task=other, attempt=1, number=1, contents="fine")
    await here.bus.publish(subject, encode(part, id="p", at=clock.now()))
    await here.until_quarantined(f"a part of task {other}")
    assert await here.rows("SELECT 1 FROM task_logs WHERE task = %s::uuid", other) == []


async def test_a_job_of_another_shard_than_its_subject_is_quarantined(here: Here) -> None:
    name = here.desk.new()
    await here.bus.publish(
        here.bus.subjects.jobs((here.desk.shard_of(name) + 1) % 16), Hand(here.bus).payload(SubmitJob(job=name, definition=job()))
    )
    await here.until_quarantined(f"{name} is not of the shard")
    assert await here.state(name) == ""


async def test_a_job_whose_own_rows_are_broken_is_frozen_and_the_others_go_on(here: Here, hand: Hand) -> None:
    name = await here.desk.submit(job(task("a"), task("b")))
    run = await hand.task(name)
    await hand.claim(run)
    await here.rows("UPDATE jobs SET task_count = 0 WHERE id = %s::uuid RETURNING 1", name)
    await here.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'windlass coordinator%%'")
    byte = ids.byte_of(name)
    others = [JobId(ids.new(clock.now(), byte)) for _ in range(20)]
    report = asyncio.ensure_future(hand.report(CompleteTask(**hand.fence(run))))
    found = await asyncio.gather(*[here.desk.submit(job(), other) for other in others])
    answer = await report
    assert answer.code == "corrupt", answer
    assert found == others
    await here.until_quarantined(f"job {name} is frozen")
    assert await here.events(name) == ["job.submitted", "job.started", "task.dispatched", "task.started"]
    await here.rows("UPDATE jobs SET task_count = 2 WHERE id = %s::uuid RETURNING 1", name)


# -- by hand --------------------------------------------------------------------------------------------------------


async def test_documents_published_by_hand_become_jobs(here: Here, hand: Hand) -> None:
    await here.bus.publish(f"{PREFIX}jobs", b'{"name":"by hand 1","tasks":[{"name":"t","run":"true"}]}')
    await here.bus.publish(f"{PREFIX}jobs", b"name: by hand 2\ntasks:\n  - name: t\n    run: 'true'\n")
    await here.bus.publish(f"{PREFIX}pending", b'{"name":"by hand 3","run":"true"}')
    for number in (1, 2, 3):
        ((name,),) = await here.until_rows("the job", "SELECT id::text FROM jobs WHERE name = %s", f"by hand {number}")
        await hand.task(name.replace("-", ""))
    await here.bus.publish(f"{PREFIX}jobs.cancel", name.replace("-", "").encode())
    await here.until_rows("cancelled", "SELECT 1 FROM jobs WHERE id = %s AND state = 'CANCELLED'", name)


async def test_a_message_id_of_nats_makes_one_job_however_often_it_is_published(here: Here) -> None:
    document = b'{"name":"once","tasks":[{"name":"t","run":"true"}]}'
    for _ in range(3):
        await here.bus.publish(f"{PREFIX}jobs", document, {"Nats-Msg-Id": "mine"})
    await here.until_rows("the job", "SELECT 1 FROM jobs WHERE name = 'once'")
    await here.bus.publish(f"{PREFIX}jobs", b'{"name":"after once","tasks":[{"name":"t","run":"true"}]}')
    await here.until_rows("the next job", "SELECT 1 FROM jobs WHERE name = 'after once'")
    assert await here.rows("SELECT count(*) FROM jobs WHERE name = 'once'") == [(1,)]


async def test_what_waits_is_counted_by_queue_and_shard(here: Here) -> None:
    name = await here.desk.submit(job(task("waits", queue="counted")))
    queue = {"queue": "counted"}
    await until("it is counted", lambda: REGISTRY.get_sample_value("windlass_queue_tasks", queue) == 1)
    assert (REGISTRY.get_sample_value("windlass_queue_oldest_seconds", queue) or 0) > 0
    shards = [REGISTRY.get_sample_value("windlass_shard_owned", {"shard": str(shard)}) for shard in range(16)]
    assert shards == [1] * 16
    assert (REGISTRY.get_sample_value("windlass_shard_head", {"shard": str(here.desk.shard_of(name))}) or 0) >= 3
    await here.desk.command(CancelJob(job=name))
    await until("it waits no more", lambda: REGISTRY.get_sample_value("windlass_queue_tasks", queue) == 0)


# -- the whole ------------------------------------------------------------------------------------------------------


async def test_a_long_row_of_skipped_tasks_ends_by_itself(here: Here) -> None:
    name = await here.desk.submit(job(*[task(f"t{i}", if_="false") for i in range(2 * OPENED_MAX + 3)]))
    await here.until_rows("it ends", "SELECT 1 FROM jobs WHERE id = %s::uuid AND state = 'COMPLETED'", name)
    tags = await here.events(name)
    assert tags.count("task.skipped") == 2 * OPENED_MAX + 3


async def test_going_on_twice_dispatches_once(here: Here) -> None:
    name = await here.desk.submit(job(*[task(f"t{i}", if_="false") for i in range(OPENED_MAX)], task("last", queue="nobody")))
    await here.until_rows("it waits", "SELECT 1 FROM tasks WHERE job = %s::uuid AND state = 'SCHEDULED'", name)
    go_on = AdvanceJob(job=name, run=1, position=OPENED_MAX + 1)
    for _ in range(3):
        await here.desk.ask(here.bus.subjects.pending(here.desk.shard_of(name)), go_on)
    assert (await here.events(name)).count("task.dispatched") == 1


async def test_retries_follow_each_other_under_rising_attempts(here: Here, hand: Hand) -> None:
    name = await here.desk.submit(job(task("a", retry=Retry(limit=2))))
    for attempt in (1, 2, 3):
        run = await hand.task(name, attempt)
        assert isinstance(await hand.claim(run), GrantTask)
        assert (await hand.report(FailTask(**hand.fence(run), error="no"))).code is None
    assert await here.state(name) == "FAILED"


async def test_a_claim_for_a_job_that_never_was_is_refused(here: Here, hand: Hand) -> None:
    name = here.desk.new()
    row = TaskId(ids.new(clock.now(), ids.byte_of(name)))
    claim = ClaimTask(job=name, run=1, task=row, attempt=1, worker=hand.id)
    await hand.say(msgspec.structs.replace(claim, ticket=(await here.tickets()).of(claim)))
    refusal = await hand.order(RefuseTask, row)
    assert isinstance(refusal, RefuseTask)
    assert "ticket" not in refusal.why


async def test_everything_that_was_stored_is_what_the_log_says(here: Here) -> None:
    """Last: over all that the tests before have left."""
    works: dict[str, JobWork] = {}
    heads: dict[int, int] = {}
    for shard, position, stream, version, tag, data in await here.rows(
        "SELECT shard, position, stream::text, version, type, data::text FROM events ORDER BY shard, position"
    ):
        assert position == heads.get(shard, 0) + 1
        heads[shard] = position
        work = works.setdefault(stream.replace("-", ""), JobWork())
        evolve(work, JOB_EVENTS.decode(tag, data))
        assert work.job is not None
        assert work.job.version == version
    assert {row[0]: row[1] for row in await here.rows("SELECT shard, head FROM shards WHERE head > 0")} == heads
    store = Connection(here.dsn, "rebuild")
    names = [JobId(name) for name in works]
    every = [row.id for work in works.values() for row in work.tasks.values()]
    loaded = await store.run(eventlog.load, names, every, [])
    await store.close()
    plain = {"drive_at": None, "drives": 0}
    for row in loaded.jobs:
        assert msgspec.structs.replace(row, **plain, refused="") == works[row.id].job
    assert len(loaded.jobs) == len(works)
    tasks = {row.id: row for work in works.values() for row in work.tasks.values()}
    for one in loaded.tasks:
        assert msgspec.structs.replace(one, **plain, stopping="", stored=False) == tasks[one.id]
    assert len(loaded.tasks) == len(tasks)
    assert {(j, n): v for j, n, v in loaded.variables} == {
        (name, variable): value for name, work in works.items() for variable, value in work.variables.items()
    }
    states = [work.job.state for work in works.values() if work.job is not None]
    counts = {row[0]: int(row[1]) for row in await here.rows("SELECT state, sum(jobs) FROM job_counts GROUP BY state")}
    assert {state: n for state, n in counts.items() if n} == {state: states.count(state) for state in set(states)}
