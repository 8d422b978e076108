"""Commands: requests to the one owner of a stream. They may be refused, and are not kept.

A command that a worker sends is a *report* and carries its whole fence: the work it speaks for. A fence that is not the
task's current one changes nothing.
"""

from typing import Literal

import msgspec

from windlass.ids import JobId, TaskId, WorkerId
from windlass.messages.envelope import Vocabulary
from windlass.messages.jobs import Job, Task


class SubmitJob(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type", tag="job.submit"
):
    """Make a job. `key` is the caller's Idempotency-Key and `digest` the hash of the body it came with.

    `trace` is the envelope's, which is where it travels. Of a job with secrets, `sealed` is the definition as it was written,
    sealed with the gateways' key.
    """

    job: JobId
    definition: Job
    user: str = "guest"
    key: str | None = None
    digest: str | None = None
    trace: str | None = None
    sealed: str = ""


class CancelJob(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type", tag="job.cancel"
):
    """End a job now: what is queued never starts, what runs is stopped; once for each `key`, which is the request's."""

    job: JobId
    key: str = ""


class AdvanceJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="job.advance"):
    """The task at `position` is due: go on from there (a long row of skipped tasks is taken in slices)."""

    job: JobId
    run: int
    position: int


class ExpandTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="task.expand"):
    """The child with the index `opened` of a composite is due: open it and the next ones (a long list is taken in slices)."""

    job: JobId
    task: TaskId
    opened: int


class Fence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which execution is meant: one attempt of one task of one run of one job, by one worker."""

    job: JobId
    run: int
    task: TaskId
    attempt: int
    worker: WorkerId


class ClaimTask(
    Fence, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type", tag="task.claim"
):
    """A worker asks to start an attempt; it runs nothing before the grant. `ticket` is that of the dispatch."""

    ticket: str = ""


class ReportProgress(Fence, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="task.progress"):
    """How far a task says it is, 0–100."""

    progress: float


class CompleteTask(
    Fence, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type", tag="task.complete"
):
    """An attempt ended well. `result` is the text of its output file; if that held secrets, `sealed` is all of it."""

    result: str = ""
    sealed: str = ""


class FailTask(
    Fence, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type", tag="task.fail"
):
    """An attempt ended badly, with the sentence people see.

    `reason`: `failed` (the program's or the definition's fault), `timeout`, `stopped` (a stop order was carried out), `lost`
    (the worker knows nothing of it any more) or `released` (handed back by a worker that shuts down); the last two run again.
    `exit_code` is that of the program which failed, 1–255; absent if none ran, or none ended by itself.
    """

    error: str
    reason: str = "failed"
    exit_code: int | None = None


class LoseTask(Fence, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="task.lose"):
    """The lease of the worker that ran it has run out (said by the coordinator itself)."""


How = Literal["", "start", "failed"]
"""Which tasks of a job run again: from the one where it ended, all, or those that did not end well."""


class RestartJob(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type", tag="job.restart"
):
    """Go on with a job that failed or was cancelled, at the task where it ended; once for each `key`, which is the request's.

    Without `how` the job has failed or was cancelled; with it, it may have ended in any way.
    """

    job: JobId
    key: str
    how: How = ""


class PauseJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="job.pause"):
    """Start nothing new of a job until it is resumed; once for each `key`, which is the request's."""

    job: JobId
    key: str


class ResumeJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="job.resume"):
    """Go on with a job that was paused; once for each `key`, which is the request's."""

    job: JobId
    key: str


class DeleteJob(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type", tag="job.delete"
):
    """Let nothing be left of a job that has ended. With a `version`, which a timer says, only if nothing happened since.

    `key` is the request's, if it is one of somebody's.
    """

    job: JobId
    version: int = 0
    key: str = ""


class StartJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="job.start"):
    """The time has come at which a delayed job begins its run `run`."""

    job: JobId
    run: int


class Due(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose time has come: one attempt of one task. (A task belongs to one run, and here no worker speaks.)"""

    job: JobId
    task: TaskId
    attempt: int


class QueueTask(Due, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="task.queue"):
    """The pause before a delayed task is over: put it in its queue."""


class ExpireTask(Due, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="task.expire"):
    """The deadline of a running task has passed: end it, whatever its worker does."""


Report = ClaimTask | ReportProgress | CompleteTask | FailTask
Timer = StartJob | QueueTask | ExpireTask | DeleteJob
"""What the scheduler says when a timer has fired. Said late, twice or in vain it changes nothing."""
Request = CancelJob | RestartJob | PauseJob | ResumeJob | DeleteJob
"""What people ask of a job that is there. What is refused stays refused, though it is said again at a better moment."""
JobCommand = (
    SubmitJob | Request | AdvanceJob | ExpandTask | ClaimTask | ReportProgress | CompleteTask | FailTask | LoseTask | Timer
)

JOB_COMMANDS: Vocabulary[JobCommand] = Vocabulary(
    SubmitJob,
    CancelJob,
    RestartJob,
    PauseJob,
    ResumeJob,
    DeleteJob,
    AdvanceJob,
    ExpandTask,
    ClaimTask,
    ReportProgress,
    CompleteTask,
    FailTask,
    LoseTask,
    StartJob,
    QueueTask,
    ExpireTask,
)


class RunTask(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type", tag="task.run"
):
    """What a queue carries: a task to run, evaluated, with its fence (less the worker, who is not known yet).

    `key` names the step itself: the same over all attempts, retries and restarts. Of a job with secrets, `sealed` holds, for
    workers, the definition whole and what is to be redacted of all that the task says.
    `ticket` is what a claim has to bring.
    """

    job: JobId
    run: int
    task: TaskId
    attempt: int
    key: str
    definition: Task
    sealed: str = ""
    ticket: str = ""


class GrantTask(Fence, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="task.grant"):
    """The start of this attempt is on record: run it."""


class RefuseTask(Fence, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="task.refuse"):
    """This attempt is not to be run by this worker; drop it."""

    why: str


class StopTask(Fence, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="task.stop"):
    """Kill what runs for this fence and report it; repeated until it is reported."""


Order = GrantTask | RefuseTask | StopTask

QUEUED: Vocabulary[RunTask] = Vocabulary(RunTask)
ORDERS: Vocabulary[Order] = Vocabulary(GrantTask, RefuseTask, StopTask)


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="answer"):
    """What comes back on a message's reply inbox: `code` and `message` of an error, else `body`.

    For a report, `body` is absent and `code` is absent (`recorded`) or `stale`; either way the worker may forget it.
    """

    code: str | None = None
    message: str | None = None
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


ANSWERS: Vocabulary[Answer] = Vocabulary(Answer)
