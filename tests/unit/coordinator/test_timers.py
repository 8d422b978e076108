"""What waits for time to pass: a job's start, a retry's pause, a task's deadline."""

from datetime import timedelta
from typing import Any

import pytest

from tests.support.scenario import (
    JOB,
    NOW,
    THEN,
    W2,
    begun,
    cancelled,
    claim,
    complete,
    delayed,
    dispatched,
    expire,
    fail,
    failed,
    given,
    job,
    job_cancelled,
    job_delayed,
    job_failed,
    lose,
    queue,
    queued,
    redelivered,
    running,
    started,
    submit,
    submitted,
    task,
    task_id,
    task_queued,
)
from windlass.coordinator.job import waits
from windlass.coordinator.job.waits import DEADLINE_GRACE_S, RETRY_PAUSE_MAX_S
from windlass.errors import Stale
from windlass.eventlog.state import JobWork, evolve, is_timed
from windlass.messages.commands import AdvanceJob, CancelJob, StartJob
from windlass.messages.envelope import tag_of
from windlass.messages.events import TIMED, JobEvent
from windlass.messages.jobs import AFTERCARE_S, AuxTask, Job, Retry, Task

MINUTE = timedelta(minutes=1)
LATER = job(task("a"), delay="1m")
WAITING: list[JobEvent] = [submitted(LATER), job_delayed(THEN + MINUTE)]
START = StartJob(job=JOB, run=1)

# -- a job's start --------------------------------------------------------------------------------------------------


def test_a_job_with_a_delay_waits_that_long() -> None:
    given().when(submit(LATER)).then(submitted(LATER, at=NOW), job_delayed(NOW + MINUTE, at=NOW))


def test_a_job_waits_until_the_moment_that_it_names() -> None:
    tomorrow = job(run_at="2026-03-02T13:00:00+01:00")
    until = THEN + timedelta(days=1)
    given().when(submit(tomorrow)).then(submitted(tomorrow, at=NOW), job_delayed(until, at=NOW))


@pytest.mark.parametrize("start", [{"delay": "0"}, {"delay": "-1s"}, {"run_at": "2026-03-01T11:59:59Z"}, {"run_at": "rubbish"}])
def test_a_job_whose_time_has_come_starts_at_once(start: dict[str, str]) -> None:
    now = job(task("a"), **start)
    given().when(submit(now)).then(submitted(now, at=NOW), begun(at=NOW), dispatched(now.tasks[0], at=NOW))


def test_a_waiting_job_is_pending_and_not_begun() -> None:
    row = given(*WAITING).work.job
    assert row is not None
    assert (row.state, row.run, row.position, row.started_at) == ("PENDING", 0, 0, None)


def test_a_job_starts_when_its_timer_fires_once() -> None:
    first = given(*WAITING).when(START).then(begun(at=NOW), dispatched(LATER.tasks[0], at=NOW))
    given(*WAITING, *first.events).when(START).then_refused(Stale, "does not wait", reason="timer")


def test_a_start_of_another_run_or_of_nothing_is_stale() -> None:
    given(*WAITING).when(StartJob(job=JOB, run=2)).then_refused(Stale, reason="timer")
    given().when(START).then_refused(Stale, reason="timer")
    given(*queued(LATER)).when(START).then_refused(Stale, reason="timer")


def test_a_waiting_job_can_be_cancelled_and_then_never_starts() -> None:
    given(*WAITING).when(CancelJob(job=JOB)).then(job_cancelled())
    given(*WAITING, job_cancelled()).when(START).then_refused(Stale, reason="timer")


def test_nothing_else_starts_a_waiting_job() -> None:
    given(*WAITING).when(AdvanceJob(job=JOB, run=0, position=0)).then_nothing()
    given(*WAITING).when(submit(LATER)).then_nothing()


# -- a retry's pause ------------------------------------------------------------------------------------------------

PATIENT = job(task("a", retry=Retry(limit=2, delay="10s", scaling_factor=3)))
FIRST = [*running(PATIENT), failed(task_id(), "e")]
RETRY = task_id(1, 2)


@pytest.mark.parametrize(
    ("retry", "pauses"),
    [
        (Retry(limit=3), [0, 0, 0]),
        (Retry(limit=3, delay="2s"), [2, 4, 8]),
        (Retry(limit=3, scaling_factor=3), [1, 3, 9]),
        (Retry(limit=3, delay="1.5s", scaling_factor=1), [1.5, 1.5, 1.5]),
        (Retry(limit=3, delay="0", scaling_factor=9), [0, 0, 0]),
        (Retry(limit=3, delay="rubbish"), [0, 0, 0]),
        (Retry(limit=10, delay="5m", scaling_factor=10), [300, 3000, 30000, RETRY_PAUSE_MAX_S, RETRY_PAUSE_MAX_S]),
    ],
)
def test_pauses_grow_by_their_factor(retry: Retry, pauses: list[float]) -> None:
    assert [waits.pause_s(retry, number) for number in range(1, len(pauses) + 1)] == pauses


def test_a_retry_with_a_pause_is_a_row_that_waits() -> None:
    until = NOW + timedelta(seconds=10)
    outcome = given(*running(PATIENT)).when(fail(task_id(), "e"))
    outcome.then(failed(task_id(), "e", at=NOW), delayed(PATIENT.tasks[0], until, at=NOW, retries=1))
    row = outcome.work.tasks[task_id(1, 2, NOW)]
    assert (row.state, row.scheduled_at, row.attempt, row.retries) == ("PENDING", None, 2, 1)


def test_the_second_pause_is_longer() -> None:
    waited = [*FIRST, delayed(PATIENT.tasks[0], NOW, retries=1), task_queued(RETRY), started(RETRY, 2)]
    until = NOW + timedelta(seconds=30)
    given(*waited).when(fail(RETRY, "e", attempt=2)).then(
        failed(RETRY, "e", attempt=2, at=NOW), delayed(PATIENT.tasks[0], until, attempt=3, at=NOW, retries=2)
    )


WAITS = [*FIRST, delayed(PATIENT.tasks[0], NOW, retries=1)]


def test_it_is_queued_when_its_timer_fires_once() -> None:
    given(*WAITS).when(queue(RETRY)).then(task_queued(RETRY, at=NOW))
    given(*WAITS, task_queued(RETRY)).when(queue(RETRY)).then_refused(Stale, "not PENDING", reason="timer")
    given(*WAITS, task_queued(RETRY), started(RETRY, 2)).when(queue(RETRY)).then_refused(Stale, reason="timer")


@pytest.mark.parametrize("command", [queue(RETRY, 1), queue(RETRY, 3), queue(task_id()), queue(task_id(2))])
def test_a_pause_of_another_row_or_attempt_is_stale(command: Any) -> None:
    given(*WAITS).when(command).then_refused(Stale, reason="timer")


def test_a_waiting_retry_cannot_be_claimed_and_ends_with_its_job() -> None:
    given(*WAITS).when(claim(RETRY, 2)).then_refused(Stale, "PENDING")
    given(*WAITS).when(CancelJob(job=JOB)).then(cancelled(RETRY, at=NOW), job_cancelled())


# -- a task's deadline ----------------------------------------------------------------------------------------------

SHORT = job(task("a", timeout="30s"))
DEADLINE = NOW + timedelta(seconds=30 + DEADLINE_GRACE_S)
LATE = "context deadline exceeded: it ran for longer than 30s and its worker did not end it"


def test_a_task_with_a_timeout_has_a_deadline_a_little_after_it() -> None:
    given(*queued(SHORT)).when(claim(task_id())).then(started(task_id(), at=NOW, deadline=DEADLINE))


@pytest.mark.parametrize(("timeout", "after_s"), [("-5s", 0), ("0", 0), ("1h", 3600)])
def test_a_timeout_in_the_past_is_no_time_at_all(timeout: str, after_s: float) -> None:
    assert waits.deadline(Task(name="t", timeout=timeout), NOW) == NOW + timedelta(seconds=after_s + DEADLINE_GRACE_S)


def test_what_always_runs_after_a_task_has_its_time_on_top() -> None:
    post = (AuxTask(name="p"), AuxTask(name="q", always=True), AuxTask(name="r", always=True, timeout="5s"))
    after_s = 30 + AFTERCARE_S + 5 + DEADLINE_GRACE_S
    assert waits.deadline(Task(name="t", timeout="30s", post=post), NOW) == NOW + timedelta(seconds=after_s)
    assert waits.deadline(Task(name="t", post=post), NOW) is None


RUNS = [*queued(SHORT), started(task_id(), deadline=NOW)]


def test_a_task_that_is_past_its_deadline_fails_and_its_worker_is_told_to_stop() -> None:
    outcome = given(*RUNS).when(expire(task_id()))
    outcome.then(failed(task_id(), LATE, "deadline", at=NOW), job_failed(f"task 'a': {LATE}"))
    assert outcome.work.to_stop == {task_id()}


def test_it_is_retried_as_after_any_failure() -> None:
    again = job(task("a", timeout="30s", retry=Retry(limit=1)))
    given(*queued(again), started(task_id(), deadline=NOW)).when(expire(task_id())).then(
        failed(task_id(), LATE, "deadline", at=NOW), dispatched(again.tasks[0], 1, 2, NOW, retries=1)
    )


def test_what_its_worker_says_after_that_is_stale() -> None:
    over = [*RUNS, failed(task_id(), LATE, "deadline"), job_failed(LATE)]
    given(*over).when(complete(task_id())).then_refused(Stale, reason="ended")
    given(*over).when(expire(task_id())).then_refused(Stale, reason="timer")


def test_a_deadline_of_an_earlier_attempt_ends_nothing() -> None:
    again = [*RUNS, redelivered(task_id(), 2), started(task_id(), 2, W2)]
    given(*again).when(expire(task_id(), 1)).then_refused(Stale, "attempt 1", reason="timer")
    given(*RUNS, redelivered(task_id(), 2)).when(expire(task_id(), 1)).then_refused(Stale, reason="timer")


# -- which events whoever follows timers must see -------------------------------------------------------------------


def _timed(definition: Job, *commands: Any) -> list[str]:
    """The types of the events marked as timed, of a job that takes these commands one after the other."""
    work, found = JobWork(), []
    for event in given().when(submit(definition)).events:
        evolve(work, event)
        found += [tag_of(event)] * is_timed(work, event)
    history = list(given().when(submit(definition)).events)
    for command in commands:
        outcome = given(*history).when(command)
        for event in outcome.events:
            evolve(work, event)
            found += [tag_of(event)] * is_timed(work, event)
        history += outcome.events
    assert set(found) <= TIMED
    return found


def test_a_job_without_timers_costs_those_who_follow_them_nothing() -> None:
    row = task_id(1, 1, NOW)
    assert _timed(job(task("a", retry=Retry(limit=1))), claim(row), lose(row), claim(row, 2), complete(row, attempt=2)) == []


def test_what_sets_or_ends_a_timer_is_marked() -> None:
    assert _timed(LATER, START) == ["job.delayed", "job.started"]
    assert _timed(LATER, CancelJob(job=JOB)) == ["job.delayed", "job.cancelled"]
    row = task_id(1, 1, NOW)
    assert _timed(SHORT, claim(row), lose(row), claim(row, 2), complete(row, attempt=2)) == [
        "task.started", "task.redelivered", "task.started", "task.completed",
    ]  # fmt: skip
    retry = task_id(1, 2, NOW)
    assert _timed(PATIENT, claim(row), fail(row), queue(retry)) == ["task.failed", "task.delayed", "task.queued"]
    assert _timed(PATIENT, claim(row), fail(row), CancelJob(job=JOB)) == ["task.failed", "task.delayed", "task.cancelled"]
