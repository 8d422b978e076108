"""Jobs that are paused: nothing new of them starts, and what runs goes on."""

from datetime import timedelta

import pytest

from tests.support.play import Play, refused, subjobs
from tests.support.scenario import JOB, NOW, W1, task
from tests.unit.coordinator.test_composites import each, fails, parallel, subjob
from windlass.coordinator.job.outgoing import Redrive, again, outgoing
from windlass.errors import NotFound, Stale
from windlass.eventlog.rows import TaskRow
from windlass.eventlog.state import JobWork, evolve
from windlass.messages.commands import (
    AdvanceJob,
    CancelJob,
    ClaimTask,
    ExpandTask,
    LoseTask,
    PauseJob,
    RestartJob,
    ResumeJob,
    RunTask,
    StartJob,
)
from windlass.messages.envelope import tag_of
from windlass.messages.events import JobPaused, JobResumed
from windlass.messages.jobs import Job, Retry, Task
from windlass.settings import Times
from windlass.subjects import Subjects

TIMES = Times(redrive_s=3, redrive_max_s=100)
PAUSE, RESUME = PauseJob(job=JOB, key="p"), ResumeJob(job=JOB, key="r")


def begun(*tasks: Task, **fields: object) -> Play:
    return Play().submit(Job(name="j", tasks=tasks, **fields))  # type: ignore[arg-type]


def claimed(play: Play, row: TaskRow) -> str:
    """Why its worker may not start a row."""
    error = refused(play, ClaimTask(job=row.job, run=row.run, task=row.id, attempt=row.attempt, worker=W1))
    assert isinstance(error, Stale)
    return error.reason


def said(work: JobWork) -> list[str]:
    """What is published of a job as it is."""
    work.touched = {row.id: row for row in work.active()}
    return [tag_of(type(body)) for _, body in outgoing(work, NOW, TIMES, Subjects(), 16)]


def test_what_waits_is_not_started_and_is_said_again_when_it_goes_on() -> None:
    play = begun(task("a"))
    (row,) = play.ready()
    play.say(PAUSE)
    work = play.works[JOB]
    assert (work.job.paused_at, work.job.state) == (play.now, "SCHEDULED")  # type: ignore[union-attr]
    assert claimed(play, row) == "paused"
    assert said(work) == []
    assert row.drive_at is None
    assert list(again(work, Redrive(job=JOB, task=row.id), NOW, TIMES, Subjects(), 16)) == []
    assert play.run().tasks() == {"1": "SCHEDULED"}
    work.touched.clear()
    evolve(work, JobResumed(at=NOW))
    assert set(work.touched) == {row.id}
    assert said(work) == [tag_of(RunTask)]
    assert row.drive_at == NOW + timedelta(seconds=3)


def test_it_goes_on_where_it_was() -> None:
    play = begun(task("a"), task("b"))
    play.say(PAUSE)
    play.say(RESUME)
    assert play.works[JOB].job.paused_at is None  # type: ignore[union-attr]
    play.run().check()
    assert play.state() == "COMPLETED"


def test_what_runs_goes_on_and_its_end_is_recorded() -> None:
    play = begun(task("a", var="v"), task("b"))
    (row,) = play.ready()
    play.claim(row)
    play.say(PAUSE)
    play.does = lambda one: "made"
    play.finish(row)
    assert play.tasks() == {"1": "COMPLETED"}
    assert play.whole[JOB].variables == {"v": "made"}
    job = play.works[JOB].job
    assert job is not None
    assert job.position == 2
    assert said(play.works[JOB]) == []
    assert play.say(AdvanceJob(job=JOB, run=1, position=2)) == []
    play.say(RESUME)
    assert [one.definition.name for one in play.ready()] == ["b"]
    play.run().check()


def test_one_whose_last_task_ran_ends() -> None:
    play = begun(task("a"))
    (row,) = play.ready()
    play.claim(row)
    play.say(PAUSE)
    play.finish(row)
    assert play.state() == "COMPLETED"
    assert play.whole[JOB].job.paused_at is None  # type: ignore[union-attr]


def test_a_failure_ends_it_and_a_retry_waits() -> None:
    play = begun(parallel(task("a"), task("b", retry=Retry(limit=1))))
    play.does = fails("a", "b")
    a, b = play.ready()
    play.claim(a)
    play.claim(b)
    play.say(PAUSE)
    play.finish(b)
    (waits,) = [row for row in play.active("SCHEDULED") if row.attempt == 2]
    assert claimed(play, waits) == "paused"
    play.finish(a)
    play.check()
    assert play.state() == "FAILED"


def test_a_run_that_was_lost_waits() -> None:
    play = begun(task("a"))
    (row,) = play.ready()
    play.claim(row)
    play.say(PAUSE)
    play.say(LoseTask(job=JOB, run=1, task=row.id, attempt=1, worker=W1))
    assert play.active("SCHEDULED")
    assert said(play.works[JOB]) == []
    play.say(RESUME)
    play.run().check()
    assert play.state() == "COMPLETED"


def test_composites_open_no_more() -> None:
    play = begun(each("[1, 2, 3, 4]", task("n{{ item.value }}"), concurrency=2), task("after"))
    first, second = play.ready()
    play.claim(first)
    play.claim(second)
    play.say(PAUSE)
    play.finish(first)
    play.finish(second)
    assert not play.ready()
    assert play.due() == []
    assert said(play.works[JOB]) == []
    play.say(RESUME)
    assert said(play.works[JOB]) == [tag_of(ExpandTask)]
    play.run().check()
    assert play.names() == ["e", "n1", "n2", "n3", "n4", "after"]


def test_a_retry_and_a_task_whose_time_comes_wait_for_the_job() -> None:
    late = Task(name="late", delay="1h", parallel=parallel(task("x")).parallel)
    play = begun(parallel(task("a", delay="1h"), late), task("after"))
    play.say(PAUSE)
    for row in play.active("PENDING"):
        play.ring(row)
    assert {row.definition.name for row in play.active("SCHEDULED")} == {"a", "late"}
    assert play.due() == []
    assert said(play.works[JOB]) == []
    play.say(RESUME)
    assert sorted(said(play.works[JOB])) == sorted([tag_of(ExpandTask), tag_of(RunTask)])
    play.run().check()
    assert play.state() == "COMPLETED"
    assert {"a", "late", "x", "after"} <= set(play.names())


def test_a_job_that_waits_for_its_start_begins_when_it_goes_on() -> None:
    play = begun(task("a"), delay="1h")
    play.say(PAUSE)
    play.say(StartJob(job=JOB, run=1))
    assert (play.state(), play.tasks()) == ("SCHEDULED", {})
    play.say(RESUME)
    play.run().check()
    assert play.state() == "COMPLETED"
    early = begun(task("a"), delay="1h")
    early.say(PAUSE)
    early.say(RESUME)
    assert early.state() == "PENDING"
    early.say(StartJob(job=JOB, run=1))
    assert early.run().state() == "COMPLETED"


def test_the_jobs_below_wait_with_it() -> None:
    play = begun(subjob(task("x"), subjob(task("y"))), task("after"))
    (one,) = subjobs(play)
    (x,) = play.ready()
    play.claim(x)
    events = play.say(PAUSE)
    assert [type(event) for event in events] == [JobPaused, JobPaused]
    assert [event.key for event in events if isinstance(event, JobPaused)] == ["p", ""]
    play.finish(x)
    assert play.tasks(one) == {"1": "COMPLETED"}
    assert str(refused(play, PauseJob(job=one, key="q"))) == f"job {one} is part of job {JOB}; pause that one"
    assert str(refused(play, ResumeJob(job=one, key="q"))) == f"job {one} is part of job {JOB}; resume that one"
    play.say(RESUME)
    play.run().check()
    assert play.state() == "COMPLETED"


def test_one_below_that_ends_as_it_goes_on_takes_the_one_above_on() -> None:
    play = begun(subjob(task("x"), task("y", if_="false")), task("after"))
    (x,) = play.ready()
    play.claim(x)
    play.say(PAUSE)
    play.finish(x)
    play.say(RESUME)
    assert [row.definition.name for row in play.ready()] == ["after"]
    play.run().check()


def test_it_is_cancelled_and_restarted_without_the_pause() -> None:
    play = begun(task("a"))
    play.say(PAUSE)
    play.say(CancelJob(job=JOB, key="c"))
    assert (play.state(), play.works[JOB].job.paused_at) == ("CANCELLED", None)  # type: ignore[union-attr]
    play.say(RestartJob(job=JOB, key="again"))
    assert play.run().state() == "COMPLETED"


def test_asking_twice_changes_nothing_and_a_word_that_comes_again_late_is_not_carried_out() -> None:
    play = begun(task("a"))
    assert play.say(RESUME) == []
    assert len(play.say(PAUSE)) == 1
    assert play.say(PauseJob(job=JOB, key="other")) == []
    assert len(play.say(ResumeJob(job=JOB, key="r2"))) == 1
    assert play.say(PAUSE) == []
    play.run()
    for command in (PauseJob(job=JOB, key="x"), ResumeJob(job=JOB, key="y")):
        assert str(refused(play, command)) == "job is not running"


@pytest.mark.parametrize("command", [PAUSE, RESUME])
def test_there_must_be_a_job(command: PauseJob | ResumeJob) -> None:
    error = refused(Play(), command)
    assert isinstance(error, NotFound)
    assert str(error) == "job not found"
