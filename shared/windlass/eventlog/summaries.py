"""Jobs and tasks as Tork's clients and webhooks know them, made from rows; what there is nothing to say of is absent."""

from datetime import datetime

import msgspec

from windlass.eventlog import read
from windlass.eventlog.rows import JobRow, TaskRow
from windlass.messages.jobs import Job


class User(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Who submitted a job."""

    username: str


class JobSummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A job without its tasks."""

    id: str
    created_by: User | None = None
    parent_id: str = ""
    inputs: dict[str, str] = {}
    name: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    state: str = ""
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    position: int
    task_count: int = 0
    result: str = ""
    error: str = ""
    progress: float | None = None


class TaskSummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A task row without what it runs."""

    id: str
    job_id: str
    position: int = 0
    progress: float | None = None
    name: str = ""
    description: str = ""
    state: str = ""
    created_at: datetime
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    error: str = ""
    result: str = ""
    var: str = ""
    tags: tuple[str, ...] = ()


def job_summary(row: JobRow | read.JobRow, job: Job) -> JobSummary:
    """A job, from its row and its definition."""
    return JobSummary(
        id=row.id,
        created_by=User(username=row.created_by),
        parent_id=row.parent or "",
        inputs=job.inputs,
        name=job.name,
        description=job.description,
        tags=job.tags,
        state=row.state,
        created_at=row.created_at,
        started_at=row.started_at,
        completed_at=row.completed_at,
        failed_at=row.failed_at,
        position=row.position,
        task_count=row.task_count,
        result=row.result,
        error=row.error,
        progress=row.progress or None,
    )


def task_summary(row: TaskRow) -> TaskSummary:
    """A task, from its row."""
    task = row.definition
    return TaskSummary(
        id=row.id,
        job_id=row.job,
        position=row.position,
        progress=row.progress or None,
        name=task.name,
        description=task.description,
        state=row.state,
        created_at=row.created_at,
        scheduled_at=row.scheduled_at,
        started_at=row.started_at,
        completed_at=row.completed_at,
        error=row.error,
        result=row.result,
        var=task.var,
        tags=task.tags,
    )
