"""Going on with a job that has ended badly."""

import pytest

from tests.support.scenario import (
    JOB,
    NOW,
    THEN,
    begun,
    cancelled,
    claim,
    complete,
    completed,
    dispatched,
    expire,
    fail,
    failed,
    given,
    job,
    job_cancelled,
    job_completed,
    job_delayed,
    job_failed,
    job_restarted,
    queued,
    refused,
    running,
    skipped,
    started,
    submitted,
    task,
    task_id,
)
from windlass.errors import NotFound, Rejected, Stale
from windlass.messages.commands import RestartJob
from windlass.messages.events import JobEvent

RESTART = RestartJob(job=JOB, key="again")
ROW, SECOND = task_id(), task_id(2)
FAILED = [*running(job()), failed(ROW, "no"), job_failed("no", THEN)]


def test_a_failed_job_goes_on_at_the_task_that_failed_as_a_new_run() -> None:
    outcome = given(*FAILED).when(RESTART).then(job_restarted(), dispatched(task(), at=NOW, run=2))
    row = outcome.work.job
    assert row is not None
    assert (row.state, row.run, row.position, row.failed_at, row.error) == ("RUNNING", 2, 1, None, "")
    assert row.started_at == THEN


def test_what_was_done_before_is_kept() -> None:
    definition = job(task("a", var="x"), task("b", env={"X": "{{ tasks.x }}"}))
    history: list[JobEvent] = [*running(definition), completed(ROW, "1"), dispatched(definition.tasks[1], 2)]
    history += [started(SECOND), failed(SECOND, "no"), job_failed("no", THEN)]
    again = dispatched(task("b", env={"X": "1"}), 2, at=NOW, run=2)
    outcome = given(*history).when(RESTART).then(job_restarted(), again)
    assert outcome.work.job is not None
    assert outcome.work.job.progress == 50


def test_a_cancelled_job_goes_on() -> None:
    given(*queued(job()), cancelled(ROW), job_cancelled(THEN)).when(RESTART).then(
        job_restarted(), dispatched(task(), at=NOW, run=2)
    )


def test_a_job_that_was_cancelled_before_its_start_starts() -> None:
    definition = job(delay="1h")
    outcome = given(submitted(definition), job_delayed(NOW), job_cancelled(THEN)).when(RESTART)
    outcome.then(job_restarted(1), dispatched(task(), at=NOW))
    assert outcome.work.job is not None
    assert (outcome.work.job.position, outcome.work.job.started_at) == (1, NOW)


def test_a_template_that_could_not_be_evaluated_is_evaluated_again() -> None:
    definition = job(task("{{ tasks.x }}"))
    error = "unknown name tasks.x"
    history: list[JobEvent] = [
        submitted(definition),
        begun(),
        refused(definition.tasks[0], error),
        job_failed(f"task: {error}", THEN),
    ]
    outcome = given(*history).when(RESTART)
    assert [type(event).__name__ for event in outcome.events] == ["JobRestarted", "TaskRefused", "JobFailed"]


@pytest.mark.parametrize(
    ("history", "why"),
    [
        (queued(job()), "job is SCHEDULED and can not be restarted"),
        (running(job()), "job is RUNNING and can not be restarted"),
        ([*running(job()), completed(ROW), job_completed(at=THEN)], "job is COMPLETED and can not be restarted"),
        ([submitted(job(delay="1h")), job_delayed(NOW)], "job is PENDING and can not be restarted"),
        (
            [submitted(job(task(if_="false"))), begun(), skipped(task(if_="false")), job_failed("output", THEN)],
            "job has no more tasks to run",
        ),
    ],
)
def test_what_has_not_ended_badly_cannot_be_restarted(history: list[JobEvent], why: str) -> None:
    given(*history).when(RESTART).then_refused(Rejected, why)


def test_there_must_be_a_job() -> None:
    given().when(RESTART).then_refused(NotFound, "job not found")


def test_the_same_request_twice_restarts_once_even_if_the_job_has_failed_again() -> None:
    row = task_id(run=2)
    given(*FAILED, job_restarted(at=THEN), dispatched(task(), run=2)).when(RESTART).then_nothing()
    failed_again = [*FAILED, job_restarted(at=THEN), dispatched(task(), run=2), started(row), failed(row, "no"), job_failed("no")]
    given(*failed_again).when(RESTART).then_nothing()
    given(*failed_again).when(RestartJob(job=JOB, key="another")).then(
        job_restarted(3, "another"), dispatched(task(), at=NOW, run=3)
    )


def test_a_request_that_comes_again_after_another_restarts_nothing() -> None:
    """Its acknowledgement was lost, and the broker gives it once more after another was carried out."""
    history = [*FAILED]
    for run, key in ((2, "again"), (3, "another")):
        row = task_id(run=run)
        history += [
            job_restarted(run, key, at=THEN),
            dispatched(task(), run=run),
            started(row),
            failed(row, "no"),
            job_failed("no"),
        ]
    given(*history).when(RESTART).then_nothing()


@pytest.mark.parametrize("late", [claim(ROW), complete(ROW), fail(ROW), expire(ROW)])
def test_what_comes_late_from_the_run_before_changes_nothing(late: object) -> None:
    history = [*FAILED, job_restarted(at=THEN), dispatched(task(), run=2)]
    given(*history).when(late).then_refused(Stale, "")  # type: ignore[arg-type]  # one of the commands above
