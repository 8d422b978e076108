"""What is published of a job once it is committed, read off its rows, so that it can be said again at any time.

A row that waits for someone has a time to be driven again; its order goes out with the same fence until an effect of it is on
record. That state is the outbox.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from windlass.coordinator.job.decide import may_open
from windlass.eventlog.rows import ENDED, Composite, JobRow, TaskRow
from windlass.eventlog.state import JobWork
from windlass.ids import JobId, TaskId, WorkerId, shard_of
from windlass.messages.commands import AdvanceJob, ExpandTask, GrantTask, RunTask, StopTask
from windlass.settings import Times
from windlass.subjects import Subjects


class Redrive(msgspec.Struct, frozen=True, kw_only=True):
    """Say again what a job (`task` None) or a task waits for."""

    job: JobId
    task: TaskId | None


Outgoing = tuple[str, msgspec.Struct]
"""A subject and the body to publish on it."""


def outgoing(work: JobWork, now: datetime, times: Times, subjects: Subjects, shards: int) -> Iterator[Outgoing]:
    """The orders that a batch's changes make, and when to say them again."""
    job = work.job
    if job is None or work.deleted:
        return
    soon = now + timedelta(seconds=times.redrive_s)
    for task in work.touched.values():
        match task.state:
            case "SCHEDULED" if task.composite is None:
                task.drive_at, task.drives = (soon if job.paused_at is None else None), 0
                if job.paused_at is None:
                    yield _run(task, subjects)
            case "SCHEDULED" | "RUNNING" if task.composite is not None:
                due = may_open(work, task)
                task.drive_at, task.drives = (soon if due else None), 0
                if due:
                    yield _expand(task, task.composite, subjects, shards)
            case "RUNNING":
                task.drive_at, task.drives = soon, 0
            case "CANCELLED" | "FAILED" if task.id in work.to_stop:
                task.stopping, task.drive_at, task.drives = task.worker, soon, 0
                yield _stop(task, subjects)
            case _ if not task.stopping:
                task.drive_at = None
    due = advance_due(work, job)
    if due:
        yield _advance(job, subjects, shards)
    job.drive_at, job.drives = (soon if due else None), 0


def again(work: JobWork, what: Redrive, now: datetime, times: Times, subjects: Subjects, shards: int) -> Iterator[Outgoing]:
    """The order that a row still waits for, with the pause to the next time doubled."""
    job = work.job
    if job is None:
        return
    if what.task is None:
        job.drives += 1
        job.drive_at = _later(now, job.drives, times) if advance_due(work, job) else None
        if job.drive_at is not None:
            yield _advance(job, subjects, shards)
        return
    task = work.tasks.get(what.task)
    if task is None:
        return
    work.touched[task.id] = task
    task.drives += 1
    task.drive_at = _later(now, task.drives, times)
    if task.stopping:
        yield _stop(task, subjects)
    elif task.state == "SCHEDULED" and task.composite is None:
        task.drive_at = task.drive_at if job.paused_at is None else None
        if task.drive_at is not None:
            yield _run(task, subjects)
    elif task.composite is not None:
        task.drive_at = task.drive_at if may_open(work, task) else None
        if task.drive_at is not None:
            yield _expand(task, task.composite, subjects, shards)
    elif task.state == "RUNNING":
        fence = {"job": task.job, "run": task.run, "task": task.id, "attempt": task.attempt}
        yield subjects.orders(task.worker), GrantTask(**fence, worker=WorkerId(task.worker))  # type: ignore[arg-type]  # the fence's fields
    else:
        task.drive_at = None


def advance_due(work: JobWork, job: JobRow) -> bool:
    """Whether the job stands at a task that nothing has been decided for."""
    return job.run > 0 and job.state not in ENDED and job.paused_at is None and not work.open


def _later(now: datetime, drives: int, times: Times) -> datetime:
    return now + timedelta(seconds=min(times.redrive_s * 2.0 ** min(drives, 16), times.redrive_max_s))


def _run(task: TaskRow, subjects: Subjects) -> Outgoing:
    subject = subjects.queued(task.queue, task.definition.priority, task.id, task.attempt)
    return subject, RunTask(
        job=task.job, run=task.run, task=task.id, attempt=task.attempt, key=task.key, definition=task.definition
    )


def _stop(task: TaskRow, subjects: Subjects) -> Outgoing:
    return subjects.orders(task.stopping), StopTask(
        job=task.job, run=task.run, task=task.id, attempt=task.attempt, worker=WorkerId(task.stopping)
    )


def _advance(job: JobRow, subjects: Subjects, shards: int) -> Outgoing:
    return subjects.pending(shard_of(job.id, shards)), AdvanceJob(job=job.id, run=job.run, position=job.position)


def _expand(task: TaskRow, composite: Composite, subjects: Subjects, shards: int) -> Outgoing:
    return subjects.pending(shard_of(task.job, shards)), ExpandTask(job=task.job, task=task.id, opened=composite.opened)


def _stamp(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at is not None else None


def summary(job: JobRow) -> dict[str, object]:
    """The state of a job as the answer to its submission tells it; absent values are left out."""
    fields: dict[str, object] = {
        "job": job.id,
        "state": job.state,
        "position": job.position,
        "createdAt": _stamp(job.created_at),
        "startedAt": _stamp(job.started_at),
        "completedAt": _stamp(job.completed_at),
        "failedAt": _stamp(job.failed_at),
        "progress": job.progress,
        "result": job.result,
        "error": job.error,
    }
    return {name: value for name, value in fields.items() if value not in (None, "", 0.0) or name == "position"}
