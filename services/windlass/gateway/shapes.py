"""What the API answers with, and how it is made from rows: Tork's shapes, absent keys where there is nothing to say."""

from datetime import datetime, timedelta

import msgspec
from msgspec.structs import asdict, replace

from windlass import ids
from windlass.eventlog.read import ROWS_MAX, CompositeRow, JobRow, LogRow, NodeRow, TaskRow, WholeJob
from windlass.eventlog.summaries import JobSummary, User, job_summary
from windlass.messages.jobs import (
    AutoDelete,
    AuxTask,
    Defaults,
    Each,
    Job,
    Limits,
    Mount,
    Parallel,
    Permission,
    Registry,
    Retry,
    SidecarTask,
    SubJob,
    Task,
    Webhook,
)
from windlass.secrets.redaction import by_name, presentable


class RetryView(Retry, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How often and after which pause a task may be tried again, and how often it was."""

    attempts: int = 0


class ParallelView(Parallel, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Tasks side by side, and how many have ended well."""

    completions: int = 0


class EachView(Each, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A task for each element of a list: how many there are, have ended well, and which is the next."""

    size: int = 0
    completions: int = 0
    index: int = 0


class SubJobView(SubJob, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A job in a task's place, and its id once there is one."""

    id: str = ""


class TaskView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A task row: one try of one step. One that waits for its time says when that is, as `due_at`."""

    id: str
    job_id: str = ""
    parent_id: str = ""
    position: int = 0
    name: str = ""
    description: str = ""
    state: str = ""
    created_at: datetime
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    due_at: datetime | None = None
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    run: str = ""
    image: str = ""
    registry: Registry | None = None
    env: dict[str, str] = {}
    files: dict[str, str] = {}
    queue: str = ""
    redelivered: int = 0
    error: str = ""
    pre: tuple[AuxTask, ...] = ()
    post: tuple[AuxTask, ...] = ()
    sidecars: tuple[SidecarTask, ...] = ()
    mounts: tuple[Mount, ...] = ()
    networks: tuple[str, ...] = ()
    node_id: str = ""
    retry: RetryView | None = None
    limits: Limits | None = None
    timeout: str = ""
    result: str = ""
    var: str = ""
    if_: str = msgspec.field(name="if", default="")
    parallel: ParallelView | None = None
    each: EachView | None = None
    subjob: SubJobView | None = None
    gpus: str = ""
    tags: tuple[str, ...] = ()
    workdir: str = ""
    priority: int = 0
    progress: float | None = None
    on_error: str = ""
    delay: str = ""
    run_at: str = ""


class JobContext(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a job's templates see."""

    job: dict[str, str] = {}
    inputs: dict[str, str] = {}
    secrets: dict[str, str] = {}
    tasks: dict[str, str] = {}


class JobView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A whole job: `tasks` as submitted, `execution` as it went; where that has more than 10,000 rows, it has a page of them, and
    `execution_total` says how many there are. One that waits for its start says when that is, as `due_at`;
    one that is paused since when, as `paused_at`; one that is to be deleted when, as `delete_at`.
    """

    id: str
    parent_id: str = ""
    name: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    state: str = ""
    created_at: datetime
    created_by: User | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    due_at: datetime | None = None
    paused_at: datetime | None = None
    delete_at: datetime | None = None
    tasks: tuple[Task, ...]
    execution: list[TaskView]
    execution_total: int = 0
    position: int
    inputs: dict[str, str] = {}
    secrets: dict[str, str] = {}
    context: JobContext
    task_count: int = 0
    output: str = ""
    result: str = ""
    error: str = ""
    progress: float | None = None
    defaults: Defaults | None = None
    webhooks: tuple[Webhook, ...] = ()
    permissions: tuple[Permission, ...] = ()
    auto_delete: AutoDelete | None = None
    delay: str = ""
    run_at: str = ""


class LogPart(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A numbered part of a task's output; numbers count from 1 within an attempt."""

    id: str
    number: int
    task_id: str
    attempt: int = 0
    contents: str = ""
    created_at: datetime


class NodeView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A worker or coordinator."""

    id: str
    name: str = ""
    started_at: datetime
    cpu_percent: float
    last_heartbeat_at: datetime
    queue: str = ""
    status: str = ""
    hostname: str = ""
    port: int = 0
    task_count: int = 0
    version: str


class JobPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of jobs; `size` is how many are in it."""

    items: list[JobSummary]
    number: int
    size: int
    total_pages: int
    total_items: int


class LogPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of output; `size` is how many parts are in it."""

    items: list[LogPart]
    number: int
    size: int
    total_pages: int
    total_items: int


class Committed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a coordinator answers to a submitted job: its state after the commit."""

    job: str
    created_at: datetime
    state: str
    position: int
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    result: str = ""
    error: str = ""
    progress: float | None = None


_UNCOUNTED = CompositeRow(size=0, opened=0, completions=0, subjob=None)
_jobs = msgspec.json.Decoder(Job)
_tasks = msgspec.json.Decoder(Task)


def summary_of_commit(committed: Committed, job: Job, user: str) -> JobSummary:
    """A submitted job."""
    return JobSummary(
        id=committed.job,
        created_by=User(username=user),
        inputs=by_name(job.inputs),
        name=job.name,
        description=job.description,
        tags=job.tags,
        state=committed.state,
        created_at=committed.created_at,
        started_at=committed.started_at,
        completed_at=committed.completed_at,
        failed_at=committed.failed_at,
        position=committed.position,
        task_count=len(job.tasks),
        result=committed.result,
        error=committed.error,
        progress=committed.progress or None,
    )


def summary(row: JobRow) -> JobSummary:
    """A job of a list."""
    job = _jobs.decode(row.definition)
    return job_summary(row, replace(job, inputs=by_name(job.inputs)) if job.inputs else job)


def job_view(whole: WholeJob) -> JobView:
    """A whole job."""
    row, job = whole.job, presentable(_jobs.decode(whole.job.definition))
    return JobView(
        id=row.id,
        parent_id=row.parent or "",
        name=job.name,
        description=job.description,
        tags=job.tags,
        state=row.state,
        created_at=row.created_at,
        created_by=User(username=row.created_by),
        started_at=row.started_at,
        completed_at=row.completed_at,
        failed_at=row.failed_at,
        due_at=row.due_at,
        paused_at=row.paused_at,
        delete_at=row.delete_at,
        tasks=job.tasks,
        execution=[task_view(task) for task in whole.tasks],
        execution_total=whole.rows if whole.rows > ROWS_MAX else 0,
        position=row.position,
        inputs=job.inputs,
        secrets=job.secrets,
        context=JobContext(
            job={"id": row.id, "name": job.name}, inputs=job.inputs, secrets=job.secrets, tasks=by_name(whole.variables)
        ),
        task_count=row.task_count,
        output=job.output,
        result=row.result,
        error=row.error,
        progress=row.progress or None,
        defaults=job.defaults,
        webhooks=job.webhooks,
        permissions=job.permissions,
        auto_delete=job.auto_delete,
        delay=job.delay,
        run_at=job.run_at,
    )


def task_view(row: TaskRow) -> TaskView:
    """A task row, its templates replaced by their values."""
    task = presentable(_tasks.decode(row.definition))
    defined = asdict(task)
    defined["queue"] = row.queue or task.queue
    defined["retry"] = None if task.retry is None else RetryView(**asdict(task.retry), attempts=row.retries)
    counted = row.composite or _UNCOUNTED
    if task.parallel is not None:
        defined["parallel"] = ParallelView(**asdict(task.parallel), completions=counted.completions)
    if task.each is not None:
        size, completions, index = counted.size, counted.completions, counted.opened
        defined["each"] = EachView(**asdict(task.each), size=size, completions=completions, index=index)
    if task.subjob is not None:
        defined["subjob"] = SubJobView(**asdict(task.subjob), id=counted.subjob or "")
    return TaskView(
        id=row.id,
        job_id=row.job,
        parent_id=row.parent or "",
        position=row.position,
        state=row.state,
        created_at=row.created_at,
        scheduled_at=row.scheduled_at,
        started_at=row.started_at,
        completed_at=row.completed_at,
        failed_at=row.failed_at,
        due_at=row.due_at,
        redelivered=row.redelivered,
        error=row.error,
        node_id=row.worker,
        result=row.result,
        progress=row.progress or None,
        **defined,
    )


def log_part(row: LogRow) -> LogPart:
    """A part of output; its id is derived from what it is."""
    return LogPart(
        id=ids.derive(row.at, None, row.task, row.attempt, row.number),
        number=row.number,
        task_id=row.task,
        attempt=row.attempt,
        contents=row.contents,
        created_at=row.at,
    )


def node_view(row: NodeRow, now: datetime, lease_s: float) -> NodeView:
    """A node; one that was silent for a lease is OFFLINE, whatever it said last."""
    silent = now - row.last_heartbeat_at > timedelta(seconds=lease_s)
    return NodeView(
        id=row.id,
        name=row.name,
        started_at=row.started_at,
        cpu_percent=row.cpu_percent,
        last_heartbeat_at=row.last_heartbeat_at,
        queue=f"x-{ids.issued_of(row.id)}" if row.service == "worker" else "",
        status="OFFLINE" if silent and row.status == "UP" else row.status,
        hostname=row.hostname,
        port=row.port,
        task_count=row.task_count,
        version=row.version,
    )
