"""Events of a job's stream: facts, in the past tense, kept for ever.

Each carries what was decided, so that nobody recomputes it. An event gains fields with defaults only; a change of meaning
is a new event. What holds secrets of its job shows none, and stands whole in `sealed`, by its field, sealed by the job's key.

`TIMED` events may set or end a timer; whether one does (`eventlog.state.is_timed`) is stored beside it at append,
and so is whether the job has webhooks that want to hear of it (`Job.is_hooked`), each with an index of its own.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from windlass.ids import JobId, TaskId, WorkerId
from windlass.messages import jobs
from windlass.messages.envelope import Vocabulary, tag_of
from windlass.messages.jobs import Job, Task
from windlass.messages.reruns import Redo


class JobSubmitted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="job.submitted"):
    """A job was accepted. `trace` is the W3C traceparent that it came with; task `parent` of `parent_job` waits for its end."""

    job: JobId
    definition: Job
    user: str
    at: datetime
    key: str | None = None
    digest: str | None = None
    trace: str | None = None
    parent: TaskId | None = None
    parent_job: JobId | None = None
    sealed: dict[str, str] = {}


class JobDelayed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="job.delayed"):
    """The job waits: its run `run` begins at `until`."""

    run: int
    until: datetime
    at: datetime


class JobStarted(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="job.started"):
    """A run of the job began, at its first task."""

    run: int
    at: datetime


class TaskDispatched(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="task.dispatched"):
    """A task row came to be and waits in a queue.

    `definition` is evaluated. `retries` counts the rows of this step before it that failed; `attempt` counts every
    execution of the step, over retries and lost workers. `parent` is the composite's row that this one is below.
    """

    task: TaskId
    key: str
    run: int
    position: int
    attempt: int
    queue: str
    definition: Task
    at: datetime
    retries: int = 0
    parent: TaskId | None = None
    sealed: dict[str, str] = {}


class TaskDelayed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="task.delayed"):
    """A task row came to be and waits until its time has come: a retry after a pause, or a task with a delay.

    Fields as in `task.dispatched`; for a composite `scope` and `again` as in `task.opened`, which follows when its time has come.
    """

    task: TaskId
    key: str
    run: int
    position: int
    attempt: int
    queue: str
    definition: Task
    until: datetime
    at: datetime
    retries: int = 0
    parent: TaskId | None = None
    scope: dict[str, Any] = {}
    again: TaskId | None = None
    sealed: dict[str, str] = {}


class TaskQueued(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="task.queued"):
    """The time of a delayed task has come: it waits in its queue."""

    task: TaskId
    attempt: int
    at: datetime


class TaskSkipped(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="task.skipped"):
    """A task row came to be and ended at once: its `if` said `false`. `job_progress` as in `task.completed`."""

    task: TaskId
    key: str
    run: int
    position: int
    definition: Task
    at: datetime
    parent: TaskId | None = None
    job_progress: float | None = None
    sealed: dict[str, str] = {}


class TaskRefused(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="task.refused"):
    """A task row came to be and failed at once: one of its templates could not be evaluated. The rest as in `task.failed`."""

    task: TaskId
    key: str
    run: int
    position: int
    definition: Task
    error: str
    at: datetime
    parent: TaskId | None = None
    counts: str = ""
    job_progress: float | None = None
    sealed: dict[str, str] = {}


class TaskOpened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="task.opened"):
    """A composite's row came to be: other tasks run in its place, `size` of them, or the job `subjob`.

    `scope` is what its tasks see of the lists around it: by the name of the loop's variable `index`, `value` and perhaps `key`.
    One that runs again in place of the row `again` keeps `kept` children that ended well there; its list has the others.
    """

    task: TaskId
    key: str
    run: int
    position: int
    definition: Task
    at: datetime
    size: int = 0
    parent: TaskId | None = None
    subjob: JobId | None = None
    scope: dict[str, Any] = {}
    kept: int = 0
    again: TaskId | None = None
    sealed: dict[str, str] = {}


class ItemsListed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="task.listed"):
    """A part of the list of an `each`, evaluated: a JSON array of elements, the first of which has the index `first`.

    The elements of a map are objects with `key` and `value`; `is_map` says so. Of a composite that runs again, `redo` says
    which of its children these are (of a `parallel`, the elements are null).
    """

    task: TaskId
    first: int
    items: msgspec.Raw
    is_map: bool
    at: datetime
    redo: Redo | None = None
    sealed: dict[str, str] = {}


class TaskStarted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="task.started"):
    """A worker was granted an attempt. If it has not ended by `deadline`, it is ended whatever its worker does."""

    task: TaskId
    attempt: int
    worker: WorkerId
    at: datetime
    deadline: datetime | None = None


class TaskProgressed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="task.progressed"):
    """A task said how far it is, and so how far its job is (both 0–100)."""

    task: TaskId
    attempt: int
    progress: float
    job_progress: float
    at: datetime


class TaskCompleted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="task.completed"):
    """An attempt, or what ran in a composite's place, ended well; a result and a `var` set the variable of that name.

    Of a row below a composite, `job_progress` says how far the job is then, 0–100.
    """

    task: TaskId
    attempt: int
    at: datetime
    result: str = ""
    job_progress: float | None = None
    sealed: dict[str, str] = {}


class TaskFailed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="task.failed"):
    """An attempt ended badly and its row with it; a retry is a row of its own.

    `reason` is that of the report, or `deadline`: its worker had not ended it in time, and is told to; a composite's is `child`.
    If the job goes on without a retry, `counts` says as what: `failed` or `ignored`. `job_progress` as in `task.completed`.
    `exit_code` is that of the program which failed, if one did.
    """

    task: TaskId
    attempt: int
    error: str
    reason: str
    at: datetime
    exit_code: int | None = None
    counts: str = ""
    job_progress: float | None = None


class TaskRedelivered(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="task.redelivered"):
    """An attempt ended without an outcome and the same row waits in its queue again, as `attempt`.

    `reason` is `lost` (its worker is gone) or `released` (its worker handed it back, which counts against no limit).
    """

    task: TaskId
    attempt: int
    worker: WorkerId
    reason: str
    at: datetime


class TaskCancelled(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="task.cancelled"):
    """A task ended because its job did."""

    task: TaskId
    at: datetime


class JobCompleted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="job.completed"):
    """All tasks ended and the output was evaluated."""

    at: datetime
    result: str = ""
    delete_at: datetime | None = None
    sealed: dict[str, str] = {}


class JobDeleted(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="job.deleted"):
    """A job that has ended is no more: nothing of it is kept but these events, and what they hold sealed nobody can read."""

    at: datetime


class JobFailed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="job.failed"):
    """A task failed for good, or the output could not be evaluated."""

    error: str
    at: datetime


class JobRestarted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="job.restarted"):
    """A job that had ended goes on, as run `run`, at the task where it ended. `key` is of the request.

    `anew`: from its first task, without the variables that were set. `redo`: through these positions, of which the last is where
    it ended; a job that is part of another has the row of `parent` that waits for it now.
    """

    run: int
    key: str
    at: datetime
    anew: bool = False
    redo: Redo | None = None
    parent: TaskId | None = None


class JobPaused(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="job.paused"):
    """Nothing new of the job starts; what runs goes on. `key` is of the request; empty if that was for a job above it."""

    at: datetime
    key: str = ""


class JobResumed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="job.resumed"):
    """What waits in a paused job may start again. `key` as of a pause."""

    at: datetime
    key: str = ""


class JobCancelled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="job.cancelled"):
    """Somebody ended the job. `key` is of the request; empty if that was for a job above it."""

    at: datetime
    key: str = ""


JobEvent = (
    JobSubmitted
    | JobDelayed
    | JobStarted
    | TaskDispatched
    | TaskDelayed
    | TaskQueued
    | TaskSkipped
    | TaskRefused
    | TaskOpened
    | ItemsListed
    | TaskStarted
    | TaskProgressed
    | TaskCompleted
    | TaskFailed
    | TaskRedelivered
    | TaskCancelled
    | JobCompleted
    | JobFailed
    | JobCancelled
    | JobRestarted
    | JobPaused
    | JobResumed
    | JobDeleted
)

JOB_EVENT_TYPES: tuple[type[JobEvent], ...] = (
    JobSubmitted,
    JobDelayed,
    JobStarted,
    TaskDispatched,
    TaskDelayed,
    TaskQueued,
    TaskSkipped,
    TaskRefused,
    TaskOpened,
    ItemsListed,
    TaskStarted,
    TaskProgressed,
    TaskCompleted,
    TaskFailed,
    TaskRedelivered,
    TaskCancelled,
    JobCompleted,
    JobFailed,
    JobCancelled,
    JobRestarted,
    JobPaused,
    JobResumed,
    JobDeleted,
)

JOB_EVENTS: Vocabulary[JobEvent] = Vocabulary(*JOB_EVENT_TYPES)
TIMED = frozenset(
    tag_of(kind)
    for kind in (
        JobDelayed,
        JobStarted,
        JobCancelled,
        JobCompleted,
        JobRestarted,
        JobDeleted,
        TaskDelayed,
        TaskQueued,
        TaskStarted,
        TaskRedelivered,
        TaskCompleted,
        TaskFailed,
        TaskCancelled,
    )
)

SINCE: Mapping[str, int] = {
    **{tag_of(kind): 4 for kind in (JobDelayed, TaskDelayed, TaskQueued)},
    tag_of(JobRestarted): 5,
    **{tag_of(kind): 11 for kind in (TaskOpened, ItemsListed)},
    **{tag_of(kind): 16 for kind in (JobPaused, JobResumed)},
    tag_of(JobDeleted): 17,
    "JobRestarted.anew": 15,
    "JobRestarted.redo": 15,
}
"""The format with which each type of event came that the first release did not write, and fields that change what one does."""


def unfinished(finished: int, since: Mapping[str, int] = {**SINCE, **jobs.SINCE}) -> frozenset[str]:
    """What may not be written before `windlass migrate --finish`, since a coordinator that still runs may not know it.

    That is types of events, and fields of a job's definition.
    """
    return frozenset(name for name, number in since.items() if number > finished)
