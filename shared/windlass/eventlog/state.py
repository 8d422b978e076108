"""The working set of a job, and `evolve`: what each event does to it.

`evolve` never refuses and reads no clock; what is in the log happened. It is all that ever changes a row, but for the
operational columns (`drive_at`, `drives`, `stopping`), which the shell keeps. Whoever follows the log of jobs may fold with it.
"""

from dataclasses import dataclass, field
from typing import assert_never

from windlass.eventlog.rows import ACTIVE, JobRow, TaskRow
from windlass.ids import TaskId
from windlass.messages.events import (
    JobCancelled,
    JobCompleted,
    JobDelayed,
    JobEvent,
    JobFailed,
    JobRestarted,
    JobStarted,
    JobSubmitted,
    TaskCancelled,
    TaskCompleted,
    TaskDelayed,
    TaskDispatched,
    TaskFailed,
    TaskProgressed,
    TaskQueued,
    TaskRedelivered,
    TaskRefused,
    TaskSkipped,
    TaskStarted,
)


@dataclass(slots=True)
class JobWork:
    """What deciding for one job needs: its row, the task rows that can still change or were asked for, its variables."""

    job: JobRow | None = None
    tasks: dict[TaskId, TaskRow] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    touched: dict[TaskId, TaskRow] = field(default_factory=dict)
    """Task rows that changed since the last commit, in the order of their change."""
    set_variables: dict[str, str] = field(default_factory=dict)
    """Variables that were set since the last commit."""
    to_stop: set[TaskId] = field(default_factory=set)
    """Tasks that a worker still runs though they have ended, since the last commit."""

    def active(self) -> list[TaskRow]:
        """The task rows that can still change."""
        return [task for task in self.tasks.values() if task.state in ACTIVE]


def evolve(work: JobWork, event: JobEvent) -> None:
    """Fold one event into the working set."""
    if isinstance(event, JobSubmitted):
        work.job = JobRow(
            id=event.job,
            definition=event.definition,
            created_by=event.user,
            created_at=event.at,
            task_count=len(event.definition.tasks),
            trace=event.trace or "",
        )
    job = work.job
    if job is None:
        return
    job.version += 1
    match event:
        case JobSubmitted() | JobDelayed():
            pass
        case JobStarted():
            job.run, job.state, job.started_at, job.position = event.run, "SCHEDULED", event.at, 1
        case TaskDispatched():
            row = _row(job, event, "SCHEDULED", event.attempt)
            row.retries, row.queue, row.scheduled_at = event.retries, event.queue, event.at
            _add(work, row)
        case TaskDelayed():
            row = _row(job, event, "PENDING", event.attempt)
            row.retries, row.queue = event.retries, event.queue
            _add(work, row)
        case TaskQueued():
            task = _touch(work, event.task)
            task.state, task.scheduled_at = "SCHEDULED", event.at
        case TaskSkipped():
            row = _row(job, event, "SKIPPED")
            row.scheduled_at = row.started_at = row.completed_at = event.at
            _add(work, row)
            _passed(job, event.position)
        case TaskRefused():
            row = _row(job, event, "FAILED")
            row.failed_at, row.error = event.at, event.error
            _add(work, row)
        case TaskStarted():
            task = _touch(work, event.task)
            task.state, task.attempt, task.worker, task.started_at = "RUNNING", event.attempt, event.worker, event.at
            job.state = "RUNNING"
        case TaskProgressed():
            _touch(work, event.task).progress = event.progress
            job.progress = event.job_progress
        case TaskCompleted():
            task = _touch(work, event.task)
            task.state, task.completed_at, task.result = "COMPLETED", event.at, event.result
            if event.result and task.definition.var:
                work.variables[task.definition.var] = work.set_variables[task.definition.var] = event.result
            _passed(job, task.position)
        case TaskFailed():
            task = _touch(work, event.task)
            task.state, task.failed_at, task.error = "FAILED", event.at, event.error
            if event.reason == "deadline":
                work.to_stop.add(task.id)
        case TaskRedelivered():
            task = _touch(work, event.task)
            task.state, task.attempt, task.scheduled_at = "SCHEDULED", event.attempt, event.at
            task.worker, task.started_at, task.progress = "", None, 0.0
            if event.reason == "lost":  # what was handed back counts against no limit
                task.redelivered += 1
        case TaskCancelled():
            task = _touch(work, event.task)
            if task.state == "RUNNING":
                work.to_stop.add(task.id)
            task.state = "CANCELLED"
        case JobCompleted():
            job.state, job.completed_at, job.result = "COMPLETED", event.at, event.result
        case JobFailed():
            job.state, job.failed_at, job.error = "FAILED", event.at, event.error
        case JobCancelled():
            job.state = "CANCELLED"
        case JobRestarted():
            job.run, job.state, job.failed_at, job.error, job.restarted_by = event.run, "RUNNING", None, "", event.key
            job.position, job.started_at = max(job.position, 1), job.started_at or event.at
        case _:
            assert_never(event)


def is_timed(work: JobWork, event: JobEvent) -> bool:
    """Whether an event, once folded, has set or ended a timer; most jobs have none, and cost whoever follows timers nothing."""
    match event:
        case JobDelayed() | TaskDelayed() | TaskQueued():
            return True
        case JobStarted() | JobCancelled():
            return work.job is not None and work.job.definition.is_delayed
        case TaskStarted():
            return event.deadline is not None
        case TaskCompleted() | TaskFailed() | TaskRedelivered() | TaskCancelled():
            return work.tasks[event.task].definition.is_timed
        case _:
            return False


def _row(job: JobRow, event: TaskDispatched | TaskDelayed | TaskSkipped | TaskRefused, state: str, attempt: int = 1) -> TaskRow:
    """The row that an event brings into being."""
    return TaskRow(
        id=event.task,
        job=job.id,
        run=event.run,
        key=event.key,
        position=event.position,
        attempt=attempt,
        definition=event.definition,
        created_at=event.at,
        state=state,
    )


def _add(work: JobWork, task: TaskRow) -> None:
    work.tasks[task.id] = work.touched[task.id] = task


def _touch(work: JobWork, task: TaskId) -> TaskRow:
    row = work.touched[task] = work.tasks[task]
    return row


def _passed(job: JobRow, position: int) -> None:
    """A top-level task ended well: the job stands at the next."""
    job.position = position + 1
    job.progress = round(position / job.task_count * 100, 2)
