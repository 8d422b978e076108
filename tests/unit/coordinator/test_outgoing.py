"""What is published of a job, and when it is said again."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.scenario import (
    JOB,
    NOW,
    THEN,
    W1,
    begun,
    cancelled,
    completed,
    dispatched,
    expire,
    fail,
    failed,
    given,
    job,
    job_completed,
    queue,
    queued,
    running,
    skipped,
    submit,
    submitted,
    task,
    task_id,
)
from windlass import ids
from windlass.coordinator.job.decide import OPENED_MAX
from windlass.coordinator.job.outgoing import Outgoing, Redrive, again, outgoing, summary
from windlass.eventlog.state import JobWork, evolve
from windlass.messages.commands import AdvanceJob, CancelJob, GrantTask, RunTask, StopTask
from windlass.messages.events import JobEvent
from windlass.messages.jobs import Retry
from windlass.settings import Times
from windlass.subjects import Subjects

TIMES = Times(redrive_s=3, redrive_max_s=100)
SOON = NOW + timedelta(seconds=3)
SUBJECTS = Subjects()
ROW = task_id()
FENCE: dict[str, Any] = {"job": JOB, "run": 1, "task": ROW, "attempt": 1}


def _said(work: JobWork, now: datetime = NOW) -> list[Outgoing]:
    return list(outgoing(work, now, TIMES, SUBJECTS, 16))


def _again(work: JobWork, row: bool = True, now: datetime = NOW) -> list[Outgoing]:
    return list(again(work, Redrive(job=JOB, task=ROW if row else None), now, TIMES, SUBJECTS, 16))


def _folded(*events: JobEvent) -> JobWork:
    """As a batch leaves it: what these events touched is marked."""
    work = JobWork()
    for event in events:
        evolve(work, event)
    return work


def test_a_dispatched_task_goes_into_its_queue_at_its_priority() -> None:
    one = job(task("a", queue="gpu", priority=7))
    work = _folded(*queued(one))
    assert _said(work) == [
        (f"queues.gpu.7.{ROW}.1", RunTask(job=JOB, run=1, task=ROW, attempt=1, key="1", definition=one.tasks[0]))
    ]
    assert (work.tasks[ROW].drive_at, work.tasks[ROW].drives) == (SOON, 0)


def test_a_running_task_is_looked_after_but_nothing_is_said() -> None:
    work = _folded(*running(job()))
    assert _said(work) == []
    assert work.tasks[ROW].drive_at == SOON


def test_a_task_that_has_ended_waits_for_nothing() -> None:
    work = _folded(*running(job()), completed(ROW), job_completed())
    assert _said(work) == []
    assert work.tasks[ROW].drive_at is None
    assert work.job is not None
    assert work.job.drive_at is None


def test_a_retry_is_sent_under_its_own_attempt() -> None:
    again_ = job(task("a", retry=Retry(limit=1)))
    work = _folded(*running(again_), failed(ROW, "no"), dispatched(again_.tasks[0], attempt=2, retries=1))
    assert [subject for subject, _ in _said(work)] == [f"queues.default.0.{task_id(1, 2)}.2"]


def test_a_cancelled_task_that_runs_is_stopped_and_waited_for() -> None:
    outcome = given(*running(job())).when(CancelJob(job=JOB))
    assert _said(outcome.work) == [(f"x-{W1}", StopTask(**FENCE, worker=W1))]
    row = outcome.work.tasks[ROW]
    assert (row.stopping, row.drive_at) == (W1, SOON)


def test_a_task_past_its_deadline_is_stopped_and_waited_for() -> None:
    """What is said to its worker is not said to the worker that only reports a failure."""
    outcome = given(*running(job(task(timeout="1s")))).when(expire(ROW))
    assert _said(outcome.work) == [(f"x-{W1}", StopTask(**FENCE, worker=W1))]
    row = outcome.work.tasks[ROW]
    assert (row.state, row.stopping, row.drive_at) == ("FAILED", W1, SOON)
    assert _again(outcome.work) == [(f"x-{W1}", StopTask(**FENCE, worker=W1))]
    assert _said(given(*running(job())).when(fail(ROW, reason="timeout")).work) == []


def test_a_task_that_waits_for_its_time_is_in_no_queue_until_then() -> None:
    patient = job(task(retry=Retry(limit=1, delay="1s")))
    outcome = given(*running(patient)).when(fail(ROW))
    assert _said(outcome.work) == []
    retry = task_id(1, 2, NOW)
    assert outcome.work.tasks[retry].drive_at is None
    waiting = given(*running(patient), *outcome.events).when(queue(retry)).work
    assert [subject for subject, _ in _said(waiting)] == [f"queues.default.0.{retry}.2"]
    assert waiting.tasks[retry].drive_at == SOON


def test_a_job_that_waits_for_its_start_asks_itself_for_nothing() -> None:
    work = given().when(submit(job(delay="1m"))).work
    assert _said(work) == []
    assert work.job is not None
    assert work.job.drive_at is None


def test_a_cancelled_task_that_waits_in_its_queue_is_not_stopped() -> None:
    outcome = given(*queued(job())).when(CancelJob(job=JOB))
    assert _said(outcome.work) == []
    assert (outcome.work.tasks[ROW].stopping, outcome.work.tasks[ROW].drive_at) == ("", None)


def test_a_job_in_the_middle_of_a_long_row_asks_itself_to_go_on() -> None:
    row = job(*[task(f"t{i}", if_="false") for i in range(OPENED_MAX + 1)])
    outcome = given().when(submit(row))
    shard = ids.shard_of(JOB, 16)
    assert _said(outcome.work) == [(f"pending.{shard:02x}", AdvanceJob(job=JOB, run=1, position=OPENED_MAX + 1))]
    assert outcome.work.job is not None
    assert outcome.work.job.drive_at == SOON


def test_nothing_is_said_of_a_job_that_does_not_exist() -> None:
    assert _said(JobWork()) == []
    assert _again(JobWork()) == []


# -- said again -----------------------------------------------------------------------------------------------------


def test_a_task_in_its_queue_is_sent_again_with_the_same_fence() -> None:
    work = _folded(*queued(job()))
    first = _said(work)
    assert _again(work) == first


def test_a_running_task_is_granted_again_so_that_its_worker_says_if_it_knows_nothing_of_it() -> None:
    work = _folded(*running(job()))
    assert _again(work) == [(f"x-{W1}", GrantTask(**FENCE, worker=W1))]


def test_a_stop_that_nobody_confirmed_is_said_again() -> None:
    work = given(*running(job())).when(CancelJob(job=JOB)).work
    first = _said(work)
    assert _again(work) == first


def test_a_job_that_waits_to_go_on_is_asked_again() -> None:
    row, passed = job(task("a", if_="false"), task("b")), []
    passed.append(skipped(row.tasks[0]))
    work = _folded(submitted(row), begun(), *passed)
    assert [body for _, body in _again(work, row=False)] == [AdvanceJob(job=JOB, run=1, position=2)]


def test_a_job_whose_task_is_at_work_is_not_asked_to_go_on() -> None:
    work = _folded(*queued(job()))
    assert _again(work, row=False) == []
    assert work.job is not None
    assert work.job.drive_at is None


def test_a_task_that_has_ended_meanwhile_is_left_alone() -> None:
    work = _folded(*queued(job()), cancelled(ROW))
    work.tasks[ROW].drive_at = THEN
    assert _again(work) == []
    assert work.tasks[ROW].drive_at is None


def test_a_row_that_is_not_there_is_left_alone() -> None:
    work = _folded(submitted(job()), begun())
    assert _again(work) == []


@pytest.mark.parametrize(("times", "pause_s"), [(1, 6), (2, 12), (5, 96), (6, 100), (40, 100)])
def test_each_time_the_pause_doubles_up_to_its_limit(times: int, pause_s: float) -> None:
    work = _folded(*queued(job()))
    for _ in range(times):
        _again(work)
    assert work.tasks[ROW].drive_at == NOW + timedelta(seconds=pause_s)


def test_what_is_said_again_is_stored() -> None:
    work = given(*queued(job())).work
    _again(work)
    assert list(work.touched) == [ROW]


# -- the answer to a submission -------------------------------------------------------------------------------------


def test_the_summary_leaves_out_what_is_absent_but_the_position() -> None:
    work = given(*queued(job())).work
    assert work.job is not None
    assert summary(work.job) == {
        "job": JOB,
        "state": "SCHEDULED",
        "position": 1,
        "createdAt": "2026-03-01T12:00:00Z",
        "startedAt": "2026-03-01T12:00:00Z",
    }


def test_the_summary_of_an_ended_job_says_how() -> None:
    work = given(*running(job(task("a", var="x"), output="{{ tasks.x }}")), completed(ROW, "7"), job_completed("7")).work
    assert work.job is not None
    said = summary(work.job)
    assert (said["state"], said["result"], said["progress"]) == ("COMPLETED", "7", 100.0)
    assert said["completedAt"] == "2026-03-01T12:00:07Z"
