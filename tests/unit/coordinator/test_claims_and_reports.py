"""What workers ask and report: fences, progress, outcomes, retries, lost workers."""

import pytest

from tests.support.scenario import (
    JOB,
    NOW,
    THEN,
    W1,
    W2,
    claim,
    complete,
    completed,
    dispatched,
    fail,
    failed,
    given,
    job,
    job_cancelled,
    job_completed,
    job_failed,
    lose,
    progress,
    progressed,
    queued,
    redelivered,
    running,
    started,
    task,
    task_id,
)
from windlass.errors import Stale
from windlass.ids import WorkerId
from windlass.messages.commands import CancelJob, JobCommand
from windlass.messages.events import JobEvent
from windlass.messages.jobs import Job, Retry
from windlass.settings import LOST_ATTEMPTS_MAX

ONE = job(task("a"))
ROW = task_id()


# -- claims ---------------------------------------------------------------------------------------------------------


def test_the_first_worker_that_asks_is_granted_the_task() -> None:
    given(*queued(ONE)).when(claim(ROW)).then(started(ROW, at=NOW))


def test_a_worker_that_asks_again_makes_no_new_fact() -> None:
    given(*running(ONE)).when(claim(ROW)).then_nothing()


def test_a_second_worker_is_refused_what_the_first_one_runs() -> None:
    given(*running(ONE)).when(claim(ROW, worker=W2)).then_refused(Stale, "RUNNING", reason="worker")


@pytest.mark.parametrize(("attempt", "run"), [(2, 1), (0, 1), (1, 2)])
def test_a_claim_of_another_attempt_or_run_is_stale(attempt: int, run: int) -> None:
    given(*queued(ONE)).when(claim(ROW, attempt=attempt, run=run)).then_refused(Stale, "attempt 1", reason="attempt")


def test_a_task_that_has_ended_is_not_granted() -> None:
    given(*running(ONE), completed(ROW), job_completed(at=THEN)).when(claim(ROW)).then_refused(Stale, reason="ended")


def test_a_task_of_a_cancelled_job_is_not_granted() -> None:
    outcome = given(*queued(ONE)).when(CancelJob(job=JOB))
    given(*queued(ONE), *outcome.events).when(claim(ROW)).then_refused(Stale, "CANCELLED", reason="ended")


def test_the_job_runs_once_a_task_does() -> None:
    before, after = given(*queued(ONE)).work.job, given(*running(ONE)).work.job
    assert before is not None
    assert after is not None
    assert (before.state, after.state) == ("SCHEDULED", "RUNNING")


# -- fences of reports ----------------------------------------------------------------------------------------------


def _report(word: str, attempt: int = 1, worker: WorkerId = W1, run: int = 1) -> JobCommand:
    match word:
        case "progress":
            return progress(ROW, 5, attempt, worker, run)
        case "complete":
            return complete(ROW, "", attempt, worker, run)
        case "fail":
            return fail(ROW, "no", "failed", attempt, worker, run)
        case _:
            return lose(ROW, attempt, worker, run)


REPORTS = ("progress", "complete", "fail", "lose")


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize(
    ("attempt", "worker", "run", "reason"), [(2, W1, 1, "attempt"), (1, W1, 2, "attempt"), (1, W2, 1, "worker")]
)
def test_a_report_with_another_fence_changes_nothing(report: str, attempt: int, worker: WorkerId, run: int, reason: str) -> None:
    given(*running(ONE)).when(_report(report, attempt, worker, run)).then_refused(Stale, reason=reason)


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_on_a_task_that_nobody_claimed_changes_nothing(report: str) -> None:
    given(*queued(ONE)).when(_report(report)).then_refused(Stale, "SCHEDULED", reason="unclaimed")


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_that_comes_again_after_the_end_changes_nothing(report: str) -> None:
    history = [*running(ONE), completed(ROW), job_completed(at=THEN)]
    given(*history).when(_report(report)).then_refused(Stale, "COMPLETED", reason="ended")


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_of_the_attempt_before_changes_nothing(report: str) -> None:
    history = [*running(ONE), redelivered(ROW, 2), started(ROW, attempt=2, worker=W2)]
    given(*history).when(_report(report)).then_refused(Stale, "attempt 2", reason="attempt")


# -- progress -------------------------------------------------------------------------------------------------------


def test_progress_of_a_task_is_progress_of_its_job() -> None:
    two = job(task("a"), task("b"))
    given(*running(two)).when(progress(ROW, 50)).then(progressed(ROW, 50, 25, at=NOW))


@pytest.mark.parametrize(("said", "kept"), [(-3, 0.0), (250, 100.0), (99.999, 99.999)])
def test_progress_stays_within_0_and_100(said: float, kept: float) -> None:
    given(*running(ONE), progressed(ROW, 50, 50)).when(progress(ROW, said)).then(
        progressed(ROW, kept, max(50, round(kept, 2)), at=NOW)  # a job does not go backwards
    )


def test_the_same_progress_twice_is_one_fact() -> None:
    given(*running(ONE), progressed(ROW, 50, 50)).when(progress(ROW, 50)).then_nothing()


# -- ends and retries -----------------------------------------------------------------------------------------------


def test_a_result_loses_what_a_database_cannot_hold() -> None:
    given(*running(ONE)).when(complete(ROW, "a\0b")).then(completed(ROW, "ab", at=NOW), job_completed())


def test_a_failed_task_fails_its_job_with_the_name_and_the_reason() -> None:
    given(*running(ONE)).when(fail(ROW, "exit\0 code 1")).then(
        failed(ROW, "exit code 1", at=NOW), job_failed("task 'a': exit code 1")
    )


def test_the_exit_code_of_the_program_is_on_record() -> None:
    given(*running(ONE)).when(fail(ROW, "exit code 75", exit_code=75)).then(
        failed(ROW, "exit code 75", at=NOW, exit_code=75), job_failed("task 'a': exit code 75")
    )


def _retrying(limit: int) -> Job:
    return job(task("a", retry=Retry(limit=limit)))


def test_a_task_with_retries_left_gets_a_new_row_and_the_next_attempt() -> None:
    again = _retrying(2)
    given(*running(again)).when(fail(ROW)).then(
        failed(ROW, "exit code 1", at=NOW), dispatched(again.tasks[0], attempt=2, at=NOW, retries=1)
    )


def test_the_retry_is_evaluated_no_second_time() -> None:
    two = job(task("a", var="x"), task("b", env={"E": "{{ tasks.x }}"}, retry=Retry(limit=1)))
    middle = given(*running(two)).when(complete(ROW, "{{ tasks.x }}"))
    second = task_id(2, at=NOW)
    outcome = given(*running(two), *middle.events, started(second)).when(fail(second))
    assert outcome.work.tasks[task_id(2, 2, NOW)].definition.env == {"E": "{{ tasks.x }}"}


def test_when_the_limit_of_retries_is_reached_the_job_fails() -> None:
    again, second = _retrying(1), task_id(1, 2)
    history = [
        *running(again),
        failed(ROW, "exit code 1"),
        dispatched(again.tasks[0], attempt=2, retries=1),
        started(second, attempt=2),
    ]
    given(*history).when(fail(second, attempt=2)).then(
        failed(second, "exit code 1", attempt=2, at=NOW), job_failed("task 'a': exit code 1")
    )


@pytest.mark.parametrize("reason", ["timeout", "stopped", "failed"])
def test_a_retry_follows_every_bad_end(reason: str) -> None:
    again = _retrying(1)
    given(*running(again)).when(fail(ROW, "why", reason)).then(
        failed(ROW, "why", reason, at=NOW), dispatched(again.tasks[0], attempt=2, at=NOW, retries=1)
    )


# -- lost and released ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [lose(ROW), fail(ROW, "the worker knows nothing of it", "lost")])
def test_a_task_whose_worker_is_lost_waits_in_its_queue_again_in_the_same_row(command: JobCommand) -> None:
    outcome = given(*running(ONE)).when(command).then(redelivered(ROW, 2, at=NOW))
    row = outcome.work.tasks[ROW]
    assert (row.state, row.worker, row.started_at, row.redelivered) == ("SCHEDULED", "", None, 1)


def _lost(times: int, reason: str = "lost") -> list[JobEvent]:
    history = running(ONE)
    for attempt in range(2, times + 2):
        history += [redelivered(ROW, attempt, reason), started(ROW, attempt=attempt)]
    return history


def test_after_too_many_lost_workers_the_task_fails() -> None:
    tries = LOST_ATTEMPTS_MAX + 1
    error = f"its worker was lost, {tries} times over; the limit is {LOST_ATTEMPTS_MAX} more tries"
    given(*_lost(LOST_ATTEMPTS_MAX)).when(lose(ROW, attempt=tries)).then(
        failed(ROW, error, "lost", attempt=tries, at=NOW), job_failed(f"task 'a': {error}")
    )


def test_the_last_lost_worker_but_one_is_made_good() -> None:
    given(*_lost(LOST_ATTEMPTS_MAX - 1)).when(lose(ROW, attempt=LOST_ATTEMPTS_MAX)).then(
        redelivered(ROW, LOST_ATTEMPTS_MAX + 1, at=NOW)
    )


def test_a_task_that_was_handed_back_waits_in_its_queue_again() -> None:
    given(*running(ONE)).when(fail(ROW, "the worker shut down", "released")).then(redelivered(ROW, 2, "released", at=NOW))


def test_handing_back_has_no_limit() -> None:
    times = LOST_ATTEMPTS_MAX + 3
    given(*_lost(times, "released")).when(fail(ROW, "down", "released", attempt=times + 1)).then(
        redelivered(ROW, times + 2, "released", at=NOW)
    )


def test_handing_back_does_not_use_up_the_tries_for_lost_workers() -> None:
    times = LOST_ATTEMPTS_MAX + 3
    given(*_lost(times, "released")).when(lose(ROW, attempt=times + 1)).then(redelivered(ROW, times + 2, at=NOW))


def test_attempts_count_on_over_lost_workers_and_retries() -> None:
    again = _retrying(1)
    history = [*running(again), redelivered(ROW, 2), started(ROW, attempt=2, worker=W2)]
    given(*history).when(fail(ROW, attempt=2, worker=W2)).then(
        failed(ROW, "exit code 1", attempt=2, at=NOW), dispatched(again.tasks[0], attempt=3, at=NOW, retries=1)
    )


def test_a_worker_may_take_again_what_it_lost() -> None:
    given(*running(ONE), redelivered(ROW, 2)).when(claim(ROW, attempt=2, worker=W1)).then(started(ROW, attempt=2, at=NOW))


def test_an_attempt_begins_without_the_progress_of_the_one_before() -> None:
    history = [*running(ONE), progressed(ROW, 50, 50), redelivered(ROW, 2), started(ROW, attempt=2)]
    given(*history).when(progress(ROW, 50, attempt=2)).then(progressed(ROW, 50, 50, attempt=2, at=NOW))


def test_a_report_after_cancellation_changes_nothing() -> None:
    outcome = given(*running(ONE)).when(CancelJob(job=JOB))
    given(*running(ONE), *outcome.events).when(complete(ROW)).then_refused(Stale, "CANCELLED", reason="ended")
    assert job_cancelled() in outcome.events
