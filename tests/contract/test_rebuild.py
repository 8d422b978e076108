"""Projecting everything from the log again, on a real PostgreSQL: what was changed by hand is found, and mended."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest

from tests.support import scenario as s
from tests.support.play import Play
from tests.support.stack import windlass
from windlass import ids
from windlass.coordinator import rebuild
from windlass.errors import Corrupt, Misconfigured
from windlass.eventlog import export, log
from windlass.eventlog.log import Appended, Batch
from windlass.eventlog.migrate import migrate
from windlass.eventlog.state import JobWork, evolve
from windlass.ids import JobId, shard_of
from windlass.messages.commands import DeleteJob
from windlass.messages.envelope import tag_of
from windlass.messages.events import JobEvent, JobSubmitted
from windlass.messages.jobs import Each, Job, Parallel, SubJob, Task

SHARDS = 4
OTHER = JobId(ids.derive(s.THEN, 0x13, "another job"))
DEEP = JobId(ids.derive(s.THEN, 0x13, "a deep one"))
GONE = JobId(ids.derive(s.THEN, 0x23, "a deleted one"))
LATER = s.NOW + timedelta(hours=1)


def keep(connection: psycopg.Connection, job: JobId, events: list[JobEvent]) -> None:
    """Append a history and store the rows that it comes to, as a coordinator does."""
    work, shard, batch = JobWork(), shard_of(job, SHARDS), Batch(shards=SHARDS)
    for version, event in enumerate(events, 1):
        evolve(work, event)
        batch.events.append(
            Appended("job", job, version, shard, version, tag_of(event), msgspec.json.encode(event), b"{}", s.NOW, False, False)
        )
        if isinstance(event, JobSubmitted) and event.key is not None:
            batch.keys.append((event.user, event.key, job, event.digest or ""))
    assert work.job is not None
    (head,) = connection.execute("SELECT head FROM shards WHERE shard = %s", (shard,)).fetchone() or (0,)
    batch.events = [replace(one, position=head + one.position) for one in batch.events]
    work.job.drive_at, batch.heads[shard] = s.NOW, (head, head + len(events))
    if work.deleted:
        batch.deleted.append((job, shard, head, False, events[-1].at))
        log.commit(connection, batch)
        return
    batch.new_jobs, batch.new_tasks = [work.job], list(work.tasks.values())
    batch.new_composites = [task for task in batch.new_tasks if task.composite is not None]
    batch.items = [(job, name, part) for name, parts in work.lists.items() for part in parts]
    for task in batch.new_tasks:
        task.drive_at, task.drives, task.stopping = s.NOW, 3, "someone"
    batch.variables = [(job, name, value) for name, value in work.variables.items()]
    batch.counts[shard, work.job.state] += 1
    log.commit(connection, batch)


@pytest.fixture
def here(database: str) -> Iterator[psycopg.Connection]:
    """A database with a job that has ended and one that runs."""
    migrate(database, shards=SHARDS)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET search_path TO windlass")
        ended = s.job(s.task("a", var="v"), s.task("b", if_="false"))
        history: list[JobEvent] = [
            s.submitted(ended, key="k", digest="d"),
            s.begun(),
            s.dispatched(ended.tasks[0]),
            s.started(s.task_id()),
            s.progressed(s.task_id(), 12.3, 6.15),
            s.completed(s.task_id(), "a result"),
            s.skipped(ended.tasks[1], 2),
            s.job_completed("so"),
        ]
        keep(connection, s.JOB, history)
        running = s.running(s.job(name="é \u2028"))
        assert isinstance(running[0], JobSubmitted)
        keep(connection, OTHER, [msgspec.structs.replace(running[0], job=OTHER), *_moved(running[1:])])
        yield connection


def _moved(events: list[JobEvent]) -> list[JobEvent]:
    """The same events, of tasks of their own."""
    return [
        msgspec.structs.replace(event, task=ids.derive(s.THEN, 0x13, "task")) if hasattr(event, "task") else event
        for event in events
    ]


def compare(database: str) -> tuple[rebuild.Result, list[str]]:
    told: list[str] = []
    with export.snapshot(database, alone=False) as connection:
        return rebuild.verify(connection, told.append), told


def mend(database: str) -> None:
    with export.snapshot(database, alone=True) as connection:
        rebuild.replace(connection, LATER)


def rows(connection: psycopg.Connection, query: str) -> list[Any]:
    return connection.execute(query.encode()).fetchall()


def test_what_a_coordinator_stored_is_what_the_log_says(here: psycopg.Connection, database: str) -> None:
    result, told = compare(database)
    assert (told, result.events, result.differing) == ([], 12, 0)
    assert {name: n for name, n in result.rows.items() if n} == {
        "jobs": 2, "tasks": 3, "job_vars": 1, "idempotency_keys": 1, "job_counts": 2
    }  # fmt: skip


@pytest.fixture
def deep(here: psycopg.Connection) -> psycopg.Connection:
    """And one with composites, lists and a job below, of which what failed ran again; and one that was deleted."""
    inner = Task(name="p", parallel=Parallel(tasks=(s.task("x"), s.task("y"))), on_error="continue")
    below = Task(name="s", subjob=SubJob(name="below", tasks=(s.task("x"),)))
    tasks = (Task(name="e", each=Each(list='{"a": 1, "b": [2]}', task=inner)), below)
    play = Play(lambda row: Exception("no") if row.definition.name == "y" else "r")
    play.submit(Job(name="deep", tasks=tasks), DEEP).run()
    play.does = lambda row: "r"
    play.restart("failed", DEEP).run()
    assert play.state(DEEP) == "COMPLETED"
    play.submit(Job(name="gone", tasks=(s.task("x"),)), GONE).run()
    play.say(DeleteJob(job=GONE))
    for job in play.whole:
        keep(here, job, [event for of, event in play.log if of == job])
    return here


def test_composites_lists_and_deleted_jobs_too_are_what_the_log_says(deep: psycopg.Connection, database: str) -> None:
    result, told = compare(database)
    assert (told, result.differing) == ([], 0)
    assert (result.rows["composites"], result.rows["each_items"], result.rows["deleted_jobs"]) == (7, 4, 1)


DEEP_CHANGES = {
    "a counter": "UPDATE composites SET completions = completions + 1 WHERE task = (SELECT task FROM composites LIMIT 1)",
    "what a composite stands for": "UPDATE composites SET again = NULL WHERE again IS NOT NULL",
    "a part of a list": "DELETE FROM each_items WHERE redo IS NOT NULL",
    "an element": "UPDATE each_items SET items = '[]' WHERE redo IS NULL",
    "a scope": "UPDATE composites SET scope = '{}' WHERE scope::text <> '{}'",
    "a deleted job": "DELETE FROM deleted_jobs",
    "what is left of one that is swept": "UPDATE deleted_jobs SET swept = true;"
    " INSERT INTO job_vars SELECT job, 'x', 'y' FROM deleted_jobs",
}


@pytest.mark.parametrize("change", DEEP_CHANGES.values(), ids=DEEP_CHANGES)
def test_what_differs_there_is_found_and_mended(deep: psycopg.Connection, database: str, change: str) -> None:
    deep.execute(change.encode())
    result, told = compare(database)
    assert result.differing > 0
    assert told
    mend(database)
    assert compare(database)[0].differing == 0


def test_what_is_left_of_a_deleted_job_is_no_difference_until_it_is_swept(deep: psycopg.Connection, database: str) -> None:
    deep.execute("INSERT INTO job_vars SELECT job, 'x', 'y' FROM deleted_jobs")
    assert compare(database)[0].differing == 0


CHANGES = {
    "a state": "UPDATE jobs SET state = 'FAILED' WHERE state = 'COMPLETED'",
    "a blank in a definition": "UPDATE jobs SET definition = (' ' || definition::text)::json WHERE state = 'COMPLETED'",
    "a column that is computed": "UPDATE jobs SET shard = 0 WHERE state = 'COMPLETED'",
    "a microsecond": "UPDATE tasks SET started_at = started_at + interval '1 microsecond' WHERE state = 'RUNNING'",
    "the last bit of a number": "UPDATE tasks SET progress = 12.300000000000002 WHERE progress = 12.3",
    "a task less": "DELETE FROM tasks WHERE state = 'SKIPPED'",
    "a task more": "INSERT INTO tasks SELECT (jsonb_populate_record(t, jsonb_build_object('id', gen_random_uuid()))).*"
    " FROM tasks AS t LIMIT 1",
    "a job less": "DELETE FROM jobs WHERE state = 'RUNNING'",
    "a variable less": "DELETE FROM job_vars",
    "a variable more": "INSERT INTO job_vars SELECT id, 'w', 'x' FROM jobs",
    "a variable of nobody": "INSERT INTO job_vars VALUES (gen_random_uuid(), 'w', 'x')",
    "a key of another job": "UPDATE idempotency_keys SET job = (SELECT id FROM jobs WHERE state = 'RUNNING')",
    "a key less": "DELETE FROM idempotency_keys",
    "a count": "UPDATE job_counts SET jobs = jobs + 1 WHERE state = 'RUNNING'",
    "a count of nothing": "INSERT INTO job_counts VALUES (1, 'FAILED', 2)",
    "everything": "TRUNCATE jobs, tasks, job_vars, job_counts, idempotency_keys",
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_by_hand_is_found_and_mended(here: psycopg.Connection, database: str, what: str) -> None:
    before = rows(here, "SELECT to_jsonb(t) - 'drive_at' - 'drives' - 'stopping' FROM tasks AS t ORDER BY id")
    here.execute(CHANGES[what].encode())
    result, told = compare(database)
    assert result.differing > 0
    assert told
    mend(database)
    again, told = compare(database)
    assert (again.events, again.rows, again.differing, told) == (result.events, result.rows, 0, [])
    assert rows(here, "SELECT to_jsonb(t) - 'drive_at' - 'drives' - 'stopping' FROM tasks AS t ORDER BY id") == before


def test_what_does_not_follow_from_the_log_is_left_alone(here: psycopg.Connection, database: str) -> None:
    here.execute("UPDATE tasks SET drives = 9, drive_at = NULL, stopping = 'w'")
    assert compare(database)[0].differing == 0
    here.execute("UPDATE tasks SET result = 'forged', drive_at = %s", (s.THEN,))
    mend(database)
    assert rows(here, "SELECT DISTINCT drives, drive_at, stopping, result FROM tasks WHERE state <> 'COMPLETED'") == [
        (9, s.THEN, "w", "")
    ]


def test_what_was_gone_and_waits_for_something_is_driven_again(here: psycopg.Connection, database: str) -> None:
    here.execute("TRUNCATE jobs, tasks")
    mend(database)
    due = "SELECT state, drive_at FROM {} ORDER BY state"
    assert rows(here, due.format("tasks")) == [("COMPLETED", None), ("RUNNING", LATER), ("SKIPPED", None)]
    assert rows(here, due.format("jobs")) == [("COMPLETED", None), ("RUNNING", LATER)]


def test_nothing_is_replaced_while_somebody_owns_a_shard(here: psycopg.Connection, database: str) -> None:
    assert log.take(here, 2, "me") is not None
    with pytest.raises(Misconfigured, match=r"stop them first.*--verify"):
        mend(database)
    assert compare(database)[0].differing == 0


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("DELETE FROM events WHERE type = 'task.skipped'", "is not whole"),
        ("UPDATE shards SET head = head + 1 WHERE shard = 2", "is not whole"),
        ("UPDATE events SET version = 99 WHERE type = 'task.skipped'", "has no event 7"),
    ],
)
def test_a_log_with_a_gap_is_said_to_be_broken(here: psycopg.Connection, database: str, harm: str, words: str) -> None:
    here.execute(harm.encode())
    with pytest.raises(Corrupt, match=words):
        compare(database)


def test_an_event_of_a_newer_release_is_said_to_be_one(here: psycopg.Connection, database: str) -> None:
    here.execute("UPDATE events SET type = 'task.dreamt' WHERE type = 'task.skipped'")
    with pytest.raises(Misconfigured, match=r"event 7.*task\.dreamt.*newer release"):
        compare(database)


def test_the_two_sides_may_hold_other_jobs(here: psycopg.Connection, database: str) -> None:
    here.execute("UPDATE jobs SET id = %s WHERE id = %s", (UUID(int=7), UUID(s.JOB)))
    _, told = compare(database)
    assert sorted(line.rpartition(": ")[2] for line in told) == ["missing", "the log knows nothing of it"]
    mend(database)
    assert compare(database)[0].differing == 0


def test_the_command_says_how_much_differs_and_ends_accordingly(here: psycopg.Connection, database: str) -> None:
    def said(*options: str) -> tuple[int, str]:
        done = windlass("rebuild", *options, environ={"WINDLASS_POSTGRES_DSN": database})
        return done.returncode, done.stdout.splitlines()[-1] if done.stdout else done.stderr

    assert said("--verify") == (0, "12 events, 9 projections, 0 bytes differ")
    here.execute("UPDATE tasks SET result = 'A result' WHERE result = 'a result'")
    assert said("--verify") == (1, "12 events, 9 projections, 1 bytes differ")
    assert said() == (0, "12 events, 9 projections, 0 bytes differ")
    assert said("--verify") == (0, "12 events, 9 projections, 0 bytes differ")
    assert log.take(here, 2, "me") is not None
    code, complaint = said()
    assert code == 1
    assert "stop them first" in complaint
