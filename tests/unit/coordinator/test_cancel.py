"""Ending a job from outside."""

import pytest

from tests.support.scenario import (
    JOB,
    NOW,
    THEN,
    begun,
    cancelled,
    completed,
    dispatched,
    failed,
    given,
    job,
    job_cancelled,
    job_completed,
    job_failed,
    job_restarted,
    queued,
    running,
    submitted,
    task,
    task_id,
)
from windlass.errors import NotFound, Rejected
from windlass.messages.commands import CancelJob
from windlass.messages.events import JobEvent
from windlass.messages.jobs import Retry

CANCEL = CancelJob(job=JOB)
ROW = task_id()


def test_cancelling_ends_the_job_and_the_task_that_runs() -> None:
    outcome = given(*running(job())).when(CANCEL).then(cancelled(ROW, NOW), job_cancelled())
    assert outcome.work.to_stop == {ROW}


def test_a_task_that_only_waits_is_cancelled_without_a_stop() -> None:
    outcome = given(*queued(job())).when(CANCEL).then(cancelled(ROW, NOW), job_cancelled())
    assert outcome.work.to_stop == set()


def test_a_job_between_two_slices_can_be_cancelled() -> None:
    given(submitted(job()), begun()).when(CANCEL).then(job_cancelled())


def test_a_retry_that_waits_is_cancelled_and_the_failed_row_left_alone() -> None:
    again = job(task("a", retry=Retry(limit=1)))
    history = [*running(again), failed(ROW, "no"), dispatched(again.tasks[0], attempt=2, retries=1)]
    given(*history).when(CANCEL).then(cancelled(task_id(1, 2), NOW), job_cancelled())


def test_cancelling_twice_makes_nothing_new() -> None:
    given(*running(job()), cancelled(ROW), job_cancelled(THEN)).when(CANCEL).then_nothing()


def test_a_request_that_comes_again_does_not_cancel_what_was_restarted_since() -> None:
    request = CancelJob(job=JOB, key="request")
    given(*running(job())).when(request).then(cancelled(ROW, NOW), job_cancelled(key="request"))
    history = [*running(job()), cancelled(ROW), job_cancelled(THEN, "request"), job_restarted(at=THEN), dispatched(task(), run=2)]
    given(*history).when(request).then_nothing()
    given(*history).when(CancelJob(job=JOB, key="another")).then(cancelled(task_id(run=2), NOW), job_cancelled(key="another"))


@pytest.mark.parametrize("end", [[completed(ROW), job_completed(at=THEN)], [failed(ROW, "no"), job_failed("no", THEN)]])
def test_a_job_that_has_ended_cannot_be_cancelled(end: list[JobEvent]) -> None:
    given(*running(job()), *end).when(CANCEL).then_refused(Rejected, "job is not running")


def test_a_job_that_does_not_exist_cannot_be_cancelled() -> None:
    given().when(CANCEL).then_refused(NotFound, "job not found")


def test_the_end_of_the_job_is_its_last_event() -> None:
    assert given(*running(job())).when(CANCEL).events[-1] == job_cancelled()
