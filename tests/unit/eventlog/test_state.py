"""What each event does to the rows."""

from tests.support.scenario import (
    NOW,
    THEN,
    W1,
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
    progressed,
    queued,
    redelivered,
    refused,
    running,
    skipped,
    submitted,
    task,
    task_id,
)
from windlass.eventlog.rows import JobRow, TaskRow
from windlass.eventlog.state import JobWork, evolve
from windlass.messages.events import JobEvent

TWO = job(task("a", var="x"), task("b"))
ROW = task_id()


def _job(*events: JobEvent) -> JobRow:
    found = given(*events).work.job
    assert found is not None
    return found


def _task(*events: JobEvent) -> TaskRow:
    return given(*events).work.tasks[ROW]


def test_a_submitted_job_is_pending() -> None:
    row = _job(submitted(TWO))
    assert (row.state, row.run, row.position, row.task_count, row.created_at) == ("PENDING", 0, 0, 2, THEN)


def test_a_started_job_stands_at_its_first_task() -> None:
    row = _job(submitted(TWO), begun())
    assert (row.state, row.run, row.position, row.started_at) == ("SCHEDULED", 1, 1, THEN)


def test_every_event_is_a_version() -> None:
    history: list[JobEvent] = [*running(TWO), completed(ROW)]
    assert _job(*history).version == len(history)


def test_a_dispatched_task_is_scheduled() -> None:
    row = _task(*queued(TWO))
    assert (row.state, row.queue, row.attempt, row.scheduled_at) == ("SCHEDULED", "default", 1, THEN)


def test_a_started_task_runs_on_its_worker() -> None:
    row = _task(*running(TWO))
    assert (row.state, row.worker, row.started_at) == ("RUNNING", W1, THEN)


def test_progress_is_kept_at_task_and_job() -> None:
    history: list[JobEvent] = [*running(TWO), progressed(ROW, 50, 25)]
    assert (_task(*history).progress, _job(*history).progress) == (50, 25)


def test_a_completed_task_moves_its_job_on() -> None:
    history: list[JobEvent] = [*running(TWO), completed(ROW, "7", at=NOW)]
    task_row, job_row = _task(*history), _job(*history)
    assert (task_row.state, task_row.result, task_row.completed_at) == ("COMPLETED", "7", NOW)
    assert (job_row.position, job_row.progress) == (2, 50.0)
    assert given(*history).work.variables == {"x": "7"}


def test_a_skipped_task_moves_its_job_on() -> None:
    history: list[JobEvent] = [submitted(TWO), begun(), skipped(TWO.tasks[0])]
    task_row = _task(*history)
    assert (task_row.state, task_row.started_at, task_row.completed_at) == ("SKIPPED", THEN, THEN)
    assert _job(*history).position == 2


def test_a_refused_task_has_failed() -> None:
    row = _task(submitted(TWO), begun(), refused(TWO.tasks[0], "why"))
    assert (row.state, row.error, row.failed_at) == ("FAILED", "why", THEN)


def test_a_failed_task_keeps_its_reason() -> None:
    row = _task(*running(TWO), failed(ROW, "why", at=NOW))
    assert (row.state, row.error, row.failed_at) == ("FAILED", "why", NOW)


def test_a_redelivered_task_is_scheduled_anew() -> None:
    row = _task(*running(TWO), progressed(ROW, 50, 25), redelivered(ROW, 2, at=NOW))
    assert (row.state, row.attempt, row.worker, row.scheduled_at, row.started_at) == ("SCHEDULED", 2, "", NOW, None)
    assert (row.progress, row.redelivered) == (0, 1)


def test_a_cancelled_task_keeps_the_name_of_its_worker() -> None:
    row = _task(*running(TWO), cancelled(ROW))
    assert (row.state, row.worker) == ("CANCELLED", W1)


def test_the_ends_of_a_job() -> None:
    ends: list[JobEvent] = [job_completed("out"), job_failed("why"), job_cancelled()]
    found = [_job(*running(TWO), end) for end in ends]
    assert [row.state for row in found] == ["COMPLETED", "FAILED", "CANCELLED"]
    assert (found[0].result, found[0].completed_at) == ("out", NOW)
    assert (found[1].error, found[1].failed_at) == ("why", NOW)


def test_what_changed_is_remembered_until_the_commit() -> None:
    work = JobWork()
    for event in [*running(TWO), completed(ROW, "7"), dispatched(TWO.tasks[1], 2)]:
        evolve(work, event)
    assert list(work.touched) == [ROW, task_id(2)]
    assert work.set_variables == {"x": "7"}


def test_only_rows_that_can_change_are_active() -> None:
    work = given(*running(TWO), completed(ROW), dispatched(TWO.tasks[1], 2)).work
    assert [row.id for row in work.active()] == [task_id(2)]


def test_an_event_of_a_job_that_was_never_submitted_changes_nothing() -> None:
    work = JobWork()
    evolve(work, begun())
    assert work == JobWork()
