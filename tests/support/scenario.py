"""Given events, when a command, then events: how the rules of a job are told as tests."""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import msgspec

from windlass import ids
from windlass.coordinator.job.decide import Fold, run_to_end
from windlass.coordinator.job.evaluation import Render
from windlass.errors import Invalid, WindlassError
from windlass.eventlog.state import JobWork, evolve
from windlass.ids import JobId, TaskId, WorkerId
from windlass.messages.commands import (
    ClaimTask,
    CompleteTask,
    ExpireTask,
    FailTask,
    JobCommand,
    LoseTask,
    QueueTask,
    ReportProgress,
    SubmitJob,
)
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
from windlass.messages.jobs import Job, Task

THEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
"""When what is given happened."""
NOW = THEN + timedelta(seconds=7)
"""When a scenario decides."""
JOB = JobId(ids.derive(THEN, 0x2A, "the job"))
W1, W2 = WorkerId("worker-one"), WorkerId("worker-two")


def render(template: str, context: Mapping[str, object], form: str = "text") -> str:
    """A stand-in for the template engine: `{{ tasks.x }}`, `{{ inputs.x }}` and `{{ job.x }}`, or a refusal."""

    def value(match: re.Match[str]) -> str:
        words: Any = context.get(match[1])
        if not isinstance(words, Mapping) or match[2] not in words:
            raise Invalid(f"unknown name {match[1]}.{match[2]}")
        return str(words[match[2]])

    return re.sub(r"\{\{ *(\w+)\.(\w+) *\}\}", value, template)


def job(*tasks: Task, **fields: Any) -> Job:
    """A job of these tasks, or of one."""
    return Job(name=fields.pop("name", "j"), tasks=tasks or (task(),), **fields)


def task(name: str = "t", **fields: Any) -> Task:
    """A task that runs something."""
    return Task(name=name, run=fields.pop("run", "true"), **fields)


def task_id(position: int = 1, attempt: int = 1, at: datetime = THEN, run: int = 1) -> TaskId:
    """The id that the rules give to the row of a step."""
    return TaskId(ids.derive(at, ids.byte_of(JOB), JOB, run, str(position), attempt))


# -- events ---------------------------------------------------------------------------------------------------------


def submitted(definition: Job, at: datetime = THEN, **fields: Any) -> JobSubmitted:
    """The job came to be."""
    return JobSubmitted(job=JOB, definition=definition, user="guest", at=at, **fields)


def begun(at: datetime = THEN) -> JobStarted:
    """Its first run began."""
    return JobStarted(run=1, at=at)


def dispatched(
    definition: Task, position: int = 1, attempt: int = 1, at: datetime = THEN, run: int = 1, **fields: Any
) -> TaskDispatched:
    """A row waits in its queue."""
    return TaskDispatched(
        task=task_id(position, attempt, at, run),
        key=str(position),
        run=run,
        position=position,
        attempt=attempt,
        queue=definition.queue or "default",
        definition=definition,
        at=at,
        **fields,
    )


def job_delayed(until: datetime, at: datetime = THEN) -> JobDelayed:
    """The job waits for its start."""
    return JobDelayed(run=1, until=until, at=at)


def delayed(
    definition: Task, until: datetime, position: int = 1, attempt: int = 2, at: datetime = THEN, **fields: Any
) -> TaskDelayed:
    """A row waits for its time."""
    row = dispatched(definition, position, attempt, at, **fields)
    return TaskDelayed(**msgspec.structs.asdict(row), until=until)


def task_queued(row: TaskId, attempt: int = 2, at: datetime = THEN) -> TaskQueued:
    """Its time has come."""
    return TaskQueued(task=row, attempt=attempt, at=at)


def skipped(definition: Task, position: int = 1, at: datetime = THEN) -> TaskSkipped:
    """A row ended at once."""
    return TaskSkipped(task=task_id(position, 1, at), key=str(position), run=1, position=position, definition=definition, at=at)


def refused(definition: Task, error: str, position: int = 1, at: datetime = THEN) -> TaskRefused:
    """A row failed at once."""
    return TaskRefused(
        task=task_id(position, 1, at), key=str(position), run=1, position=position, definition=definition, error=error, at=at
    )


def started(
    row: TaskId, attempt: int = 1, worker: WorkerId = W1, at: datetime = THEN, deadline: datetime | None = None
) -> TaskStarted:
    """A worker was granted an attempt."""
    return TaskStarted(task=row, attempt=attempt, worker=worker, at=at, deadline=deadline)


def progressed(row: TaskId, progress: float, job_progress: float, attempt: int = 1, at: datetime = THEN) -> TaskProgressed:
    """An attempt said how far it is."""
    return TaskProgressed(task=row, attempt=attempt, progress=progress, job_progress=job_progress, at=at)


def completed(row: TaskId, result: str = "", attempt: int = 1, at: datetime = THEN) -> TaskCompleted:
    """An attempt ended well."""
    return TaskCompleted(task=row, attempt=attempt, result=result, at=at)


def failed(
    row: TaskId, error: str, reason: str = "failed", attempt: int = 1, at: datetime = THEN, exit_code: int | None = None
) -> TaskFailed:
    """A row ended badly."""
    return TaskFailed(task=row, attempt=attempt, error=error, reason=reason, at=at, exit_code=exit_code)


def redelivered(row: TaskId, attempt: int, reason: str = "lost", worker: WorkerId = W1, at: datetime = THEN) -> TaskRedelivered:
    """A row waits in its queue again."""
    return TaskRedelivered(task=row, attempt=attempt, worker=worker, reason=reason, at=at)


def cancelled(row: TaskId, at: datetime = THEN) -> TaskCancelled:
    """A row ended with its job."""
    return TaskCancelled(task=row, at=at)


def job_completed(result: str = "", at: datetime = NOW) -> JobCompleted:
    """The job ended well."""
    return JobCompleted(result=result, at=at)


def job_failed(error: str, at: datetime = NOW) -> JobFailed:
    """The job ended badly."""
    return JobFailed(error=error, at=at)


def job_cancelled(at: datetime = NOW, key: str = "") -> JobCancelled:
    """Somebody ended the job."""
    return JobCancelled(at=at, key=key)


def job_restarted(run: int = 2, key: str = "again", at: datetime = NOW) -> JobRestarted:
    """The job goes on where it ended."""
    return JobRestarted(run=run, key=key, at=at)


def queued(definition: Job) -> list[JobEvent]:
    """The history of a job whose first task waits in its queue."""
    return [submitted(definition), begun(), dispatched(definition.tasks[0])]


def running(definition: Job, worker: WorkerId = W1) -> list[JobEvent]:
    """The history of a job whose first task runs."""
    return [*queued(definition), started(task_id(), worker=worker)]


# -- commands -------------------------------------------------------------------------------------------------------


def submit(definition: Job, **fields: Any) -> SubmitJob:
    """A request for this job."""
    return SubmitJob(job=JOB, definition=definition, **fields)


def _fence(row: TaskId, attempt: int, worker: WorkerId, run: int) -> dict[str, Any]:
    return {"job": JOB, "run": run, "task": row, "attempt": attempt, "worker": worker}


def claim(row: TaskId, attempt: int = 1, worker: WorkerId = W1, run: int = 1) -> ClaimTask:
    """A worker asks to start."""
    return ClaimTask(**_fence(row, attempt, worker, run))


def progress(row: TaskId, value: float, attempt: int = 1, worker: WorkerId = W1, run: int = 1) -> ReportProgress:
    """A worker says how far it is."""
    return ReportProgress(**_fence(row, attempt, worker, run), progress=value)


def complete(row: TaskId, result: str = "", attempt: int = 1, worker: WorkerId = W1, run: int = 1) -> CompleteTask:
    """A worker reports success."""
    return CompleteTask(**_fence(row, attempt, worker, run), result=result)


def fail(
    row: TaskId,
    error: str = "exit code 1",
    reason: str = "failed",
    attempt: int = 1,
    worker: WorkerId = W1,
    run: int = 1,
    exit_code: int | None = None,
) -> FailTask:
    """A worker reports failure."""
    return FailTask(**_fence(row, attempt, worker, run), error=error, reason=reason, exit_code=exit_code)


def lose(row: TaskId, attempt: int = 1, worker: WorkerId = W1, run: int = 1) -> LoseTask:
    """The worker's lease has run out."""
    return LoseTask(**_fence(row, attempt, worker, run))


def queue(row: TaskId, attempt: int = 2) -> QueueTask:
    """The pause before a retry is over."""
    return QueueTask(job=JOB, task=row, attempt=attempt)


def expire(row: TaskId, attempt: int = 1) -> ExpireTask:
    """The deadline has passed."""
    return ExpireTask(job=JOB, task=row, attempt=attempt)


def decided(command: JobCommand, work: JobWork, render: Render = render, fold: Fold = evolve) -> list[JobEvent]:
    """The events of one job that a command makes."""
    return [event for _, event in run_to_end(command, {command.job: work}, NOW, render, fold)]


# -- the sentence itself --------------------------------------------------------------------------------------------


class Outcome:
    """What a command made of a working set."""

    def __init__(self, work: JobWork, command: JobCommand, at: datetime) -> None:
        self._before = deepcopy(work)
        self.work = work
        self.events: Sequence[JobEvent] = []
        self.error: WindlassError | None = None
        self.works = {command.job: work}
        """Of the job, and of jobs that it started."""
        try:
            self.steps = run_to_end(command, self.works, at, render, evolve)
            self.events = [event for of, event in self.steps if of is work]
        except WindlassError as error:
            self.error = error

    def then(self, *events: JobEvent) -> Self:
        """Exactly these events."""
        assert self.error is None, f"refused: {self.error!r}"
        assert list(self.events) == list(events), f"decided {self.events}, not {events}"
        return self

    def then_nothing(self) -> Self:
        """No new fact."""
        return self.then()

    def then_refused(self, kind: type[WindlassError], message: str = "", reason: str | None = None) -> Self:
        """An error of this kind whose message holds these words, and nothing changed."""
        assert self.error is not None, f"not refused: {self.events}"
        assert type(self.error) is kind, repr(self.error)
        assert message in str(self.error)
        if reason is not None:
            assert getattr(self.error, "reason", None) == reason
        assert self.work == self._before
        return self


class Given:
    """A working set with a history."""

    def __init__(self, events: Sequence[JobEvent]) -> None:
        self.work = JobWork()
        for event in events:
            evolve(self.work, event)
        self.work.touched.clear()
        self.work.set_variables.clear()
        self.work.listed.clear()
        self.work.to_stop.clear()

    def when(self, command: JobCommand, at: datetime = NOW) -> Outcome:
        """Decide a command."""
        return Outcome(self.work, command, at)


def given(*events: JobEvent) -> Given:
    """A job with this history; none: a job that does not exist."""
    return Given(events)


def rows(work: JobWork) -> bytes:
    """All that a working set holds, as bytes that can be compared."""
    return msgspec.json.encode([work.job, work.tasks, work.variables], order="deterministic")
