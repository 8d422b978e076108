"""Tasks that wait when their turn has come: for a while, or until a moment."""

from datetime import timedelta

import pytest

from tests.support.play import Play, refused, subjobs
from tests.support.scenario import JOB, NOW, W1, task
from tests.unit.coordinator.test_composites import each, fails, parallel, subjob
from windlass.coordinator.job.decide import foreseen
from windlass.errors import Stale
from windlass.eventlog.rows import TaskRow
from windlass.eventlog.state import is_timed
from windlass.messages.commands import CancelJob, LoseTask, QueueTask
from windlass.messages.events import JobSubmitted, TaskCancelled, TaskDelayed, TaskOpened, TaskQueued
from windlass.messages.jobs import Each, Job, Parallel, Retry, Task


def begun(*tasks: Task, **fields: object) -> Play:
    return Play().submit(Job(name="j", tasks=tasks, **fields))  # type: ignore[arg-type]


def the(play: Play, name: str) -> TaskRow:
    """The last row with a name."""
    return [row for row in play.whole[JOB].tasks.values() if row.definition.name == name][-1]


def test_a_task_waits_after_its_turn_has_come_and_then_in_its_queue() -> None:
    play = begun(task("a"), task("b", delay="1h"))
    play.claim(play.ready()[0])
    play.finish(play.active("RUNNING")[0])
    (row,) = play.active("PENDING")
    (delayed,) = [event for _, event in play.log if isinstance(event, TaskDelayed)]
    assert delayed.until == play.now + timedelta(hours=1)
    assert is_timed(play.works[JOB], delayed)
    play.ring(row)
    assert [one.definition.name for one in play.ready()] == ["b"]
    assert play.whole[JOB].tasks[row.id].scheduled_at == play.now
    play.run().check()
    assert play.names() == ["a", "b"]


def test_until_a_moment() -> None:
    moment = NOW + timedelta(days=2)
    play = begun(task("a", run_at=moment.isoformat()))
    (delayed,) = [event for _, event in play.log if isinstance(event, TaskDelayed)]
    assert delayed.until == moment
    assert begun(task("a", run_at=NOW.isoformat())).ready()


def test_one_that_is_skipped_does_not_wait() -> None:
    assert begun(task("a", if_="false", delay="1h"), task("b")).tasks() == {"1": "SKIPPED", "2": "SCHEDULED"}


def test_a_retry_and_a_run_after_a_lost_one_wait_no_second_time() -> None:
    play = begun(task("a", delay="1h", retry=Retry(limit=1)))
    play.ring(play.active("PENDING")[0])
    play.claim(play.ready()[0])
    (row,) = play.active("RUNNING")
    play.say(LoseTask(job=JOB, run=1, task=row.id, attempt=1, worker=W1))
    (row,) = play.ready()
    play.claim(row)
    play.does = fails("a")
    play.finish(row)
    assert len(play.ready()) == 1
    assert not play.active("PENDING")


def test_it_is_cancelled_while_it_waits() -> None:
    play = begun(task("a", delay="1h"))
    row = play.active("PENDING")[0]
    play.say(CancelJob(job=JOB, key="c"))
    assert play.tasks() == {"1": "CANCELLED"}
    (cancelled,) = [event for _, event in play.log if isinstance(event, TaskCancelled)]
    assert is_timed(play.whole[JOB], cancelled)
    assert isinstance(refused(play, QueueTask(job=JOB, task=row.id, attempt=1)), Stale)


@pytest.mark.parametrize("inner", ["parallel", "each", "subjob"])
def test_a_composite_waits_and_its_children_come_when_its_time_has_come(inner: str) -> None:
    made = {
        "parallel": Task(name="c", delay="1h", parallel=Parallel(tasks=(task("x"), task("y")))),
        "each": Task(name="c", delay="1h", each=Each(list='["x", "y"]', task=task("{{ item.value }}"))),
        "subjob": Task(name="c", delay="1h", subjob=subjob(task("x"), task("y")).subjob),
    }[inner]
    play = begun(made, task("after"))
    (row,) = play.active("PENDING")
    assert play.tasks() == {"1": "PENDING"}
    play.ring(row)
    assert [type(event) for _, event in play.log if isinstance(event, TaskQueued | TaskOpened)] == [TaskQueued, TaskOpened]
    opened = the(play, "c")
    assert (opened.id, opened.state, opened.started_at) == (row.id, "RUNNING", play.now)
    play.run().check()
    assert play.state() == "COMPLETED"
    inside = play.names(job=subjobs(play)[0]) if inner == "subjob" else play.names()[1:3]
    assert inside == ["x", "y"]
    assert play.names()[-1] == "after"


def test_within_lists_it_knows_the_elements_around_it() -> None:
    deep = Task(name="p", delay="1h", parallel=Parallel(tasks=(task("{{ item.value }}{{ n.value }}"),)))
    play = begun(each("[1, 2]", Task(name="e", each=Each(list="[3]", var="n", task=deep))))
    assert len(play.active("PENDING")) == 2
    play.run().check()
    assert sorted(play.names()[3:]) == ["13", "23", "p", "p"] or sorted(name for name in play.names() if name.isdigit()) == [
        "13",
        "23",
    ]


def test_a_list_is_evaluated_when_its_time_has_come() -> None:
    play = begun(
        parallel(
            task("a", var="l", run="[1, 2]"),
            Task(name="e", delay="1h", each=Each(list="{{ tasks.l }}", task=task("n{{ item.value }}"))),
        )
    )
    play.does = lambda row: row.definition.run
    play.run().check()
    assert {"n1", "n2"} <= set(play.names())


def test_an_empty_list_ends_what_is_around_it() -> None:
    play = begun(parallel(Task(name="e", delay="1h", each=Each(list="[]", task=task("t")))), task("after"))
    play.run().check()
    assert play.names() == ["p", "e", "after"]


def test_a_list_that_cannot_be_evaluated_fails_its_task() -> None:
    bad = Task(name="e", delay="1h", each=Each(list="{{ 1 }}", task=task("t")), on_error="ignore")
    play = begun(parallel(bad), task("after")).run()
    play.check()
    assert play.tasks() == {"1": "COMPLETED", "1.0": "FAILED", "2": "COMPLETED"}
    strict = begun(Task(name="e", delay="1h", each=Each(list="{{ 1 }}", task=task("t")))).run()
    strict.check()
    assert strict.state() == "FAILED"


def test_one_that_was_cancelled_before_its_time_runs_whole_again() -> None:
    late = Task(name="late", delay="1h", parallel=Parallel(tasks=(task("x"), task("y"))))
    play = begun(parallel(task("a"), late))
    play.claim(play.ready()[0])
    play.finish(play.active("RUNNING")[-1])
    play.say(CancelJob(job=JOB, key="c"))
    play.restart("failed").run().check()
    assert play.state() == "COMPLETED"
    assert [row.definition.name for row in play.whole[JOB].tasks.values() if row.run == 2] == ["p", "late", "x", "y"]


def test_what_ended_well_is_kept_over_a_run_that_was_cancelled_while_it_waited() -> None:
    late = Task(name="late", delay="1h", parallel=Parallel(tasks=(task("x"), task("y"))), on_error="continue")
    play = begun(parallel(late, task("a")))
    play.does = fails("y")
    play.run().check()
    assert play.state() == "FAILED"
    play.restart("failed")
    assert [row.definition.name for row in play.active("PENDING")] == ["late"]
    play.say(CancelJob(job=JOB, key="c"))
    play.does = fails()
    play.restart("failed").run().check()
    assert play.state() == "COMPLETED"
    assert [row.definition.name for row in play.whole[JOB].tasks.values() if row.run == 3] == ["p", "late", "y"]


def test_that_it_may_wait_is_foreseen_at_its_submission() -> None:
    definition = Job(name="j", tasks=(parallel(task("a", delay="1s")),))
    submitted = JobSubmitted(job=JOB, definition=definition, user="u", at=NOW)
    assert {"task.delayed", "task.queued", "Task.delay"} <= foreseen(submitted)
