"""The rules of a job: which events a command makes.

`decide` yields events one by one, and its caller folds each into the working set before asking for the next, so that a
decision which goes on (a row of skipped tasks, the task after a completed one) reads the state it has just made. It refuses
before its first event or not at all, and a command already carried out yields nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import assert_never

import msgspec

from windlass import ids
from windlass.coordinator.job import waits
from windlass.errors import Conflict, Corrupt, Invalid, NotFound, Rejected, Stale
from windlass.eventlog.rows import ENDED, JobRow, TaskRow
from windlass.eventlog.state import JobWork
from windlass.ids import TaskId
from windlass.messages.commands import (
    AdvanceJob,
    CancelJob,
    ClaimTask,
    CompleteTask,
    Due,
    ExpireTask,
    FailTask,
    Fence,
    JobCommand,
    LoseTask,
    QueueTask,
    ReportProgress,
    RestartJob,
    StartJob,
    SubmitJob,
)
from windlass.messages.envelope import tag_of
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
from windlass.messages.jobs import Defaults, Task
from windlass.settings import LOST_ATTEMPTS_MAX
from windlass.subjects import check_queue

SKIPS_MAX = 500
"""How many tasks in a row one decision skips before it leaves the rest to an `AdvanceJob`."""
DEFINITION_MAX = 3 * 1024 * 1024
"""Bytes of a task's definition once its templates are evaluated: it must fit a message, and results may be large."""
DEFAULT_QUEUE = "default"
_DEFAULTED = ("queue", "timeout", "retry", "priority")

Fold = Callable[[JobWork, JobEvent], None]
Context = Mapping[str, Mapping[str, str]]
Render = Callable[[str, Context], str]
"""Evaluates a template against a job's context; raises `Invalid` with the sentence that the task fails with."""


def decide(command: JobCommand, work: JobWork, now: datetime, render: Render) -> Iterator[JobEvent]:
    """The events that a command makes of a job.

    Raises:
        NotFound: there is no such job or task.
        Rejected: its state does not allow it now.
        Stale: the fence is not the task's current one.
        Conflict: the id was taken by another body.
    """
    match command:
        case SubmitJob():
            yield from _submit(command, work, now, render)
        case CancelJob():
            yield from _cancel(work, now)
        case RestartJob():
            yield from _restart(command, work, now, render)
        case StartJob():
            yield from _start(command, work, now, render)
        case AdvanceJob():
            job = work.job
            if job is None or not job.run or job.state in ENDED or work.active():
                return  # also when this was carried out before: the position stays while its task is at work
            if (job.run, job.position) == (command.run, command.position):
                yield from _advance(job, work, now, render)
        case ClaimTask():
            yield from _claim(command, work, now)
        case ReportProgress():
            yield from _progress(command, work, now)
        case CompleteTask():
            yield from _complete(command, work, now, render)
        case FailTask() | LoseTask():
            yield from _fail(command, work, now, render)
        case QueueTask():
            task = _due(command, work, "PENDING")
            yield TaskQueued(task=task.id, attempt=task.attempt, at=now)
        case ExpireTask():
            task = _due(command, work, "RUNNING")
            error = f"context deadline exceeded: it ran for longer than {task.definition.timeout} and its worker did not end it"
            yield from _end_badly(task, error, "deadline", work, now)
        case _:
            assert_never(command)


def _submit(command: SubmitJob, work: JobWork, now: datetime, render: Render) -> Iterator[JobEvent]:
    if work.job is not None:
        if work.job.definition != command.definition:
            raise Conflict(f"job {command.job} exists with another definition; choose another Idempotency-Key")
        return
    yield JobSubmitted(
        job=command.job,
        definition=command.definition,
        user=command.user,
        at=now,
        key=command.key,
        digest=command.digest,
        trace=command.trace,
    )
    until = waits.start_at(command.definition, now)
    if until is not None:
        yield JobDelayed(run=1, until=until, at=now)
        return
    yield JobStarted(run=1, at=now)
    yield from _advance(_job(work), work, now, render)


def _start(command: StartJob, work: JobWork, now: datetime, render: Render) -> Iterator[JobEvent]:
    job = work.job
    if job is None or (job.state, job.run + 1) != ("PENDING", command.run):
        raise Stale(f"job {command.job} does not wait for run {command.run}", "timer")
    yield JobStarted(run=command.run, at=now)
    yield from _advance(job, work, now, render)


def _advance(job: JobRow, work: JobWork, now: datetime, render: Render) -> Iterator[JobEvent]:
    """Go on from the job's position: dispatch its task, skip it, or end the job."""
    for _ in range(SKIPS_MAX):
        if job.position > job.task_count:
            yield from _finish(job, work, now, render)
            return
        position = job.position
        written = _with_defaults(job.definition.tasks[position - 1], job.definition.defaults)
        key = str(position)
        try:
            task = _evaluate(written, _context(job, work), render)
            if task.if_.strip() == "false":
                yield TaskSkipped(
                    task=_task_id(job, key, 1, now), key=key, run=job.run, position=position, definition=task, at=now
                )
                continue
            queue = check_queue(task.queue or DEFAULT_QUEUE)
        except Invalid as error:
            failure = str(error)
            yield TaskRefused(
                task=_task_id(job, key, 1, now),
                key=key,
                run=job.run,
                position=position,
                definition=written,
                error=failure,
                at=now,
            )
            yield JobFailed(error=_blame(written.name, failure), at=now)
            return
        yield TaskDispatched(
            task=_task_id(job, key, 1, now),
            key=key,
            run=job.run,
            position=position,
            attempt=1,
            queue=queue,
            definition=task,
            at=now,
        )
        return


def _finish(job: JobRow, work: JobWork, now: datetime, render: Render) -> Iterator[JobEvent]:
    try:
        result = render(job.definition.output, _context(job, work)) if job.definition.output else ""
    except Invalid as error:
        yield JobFailed(error=str(error), at=now)
        return
    yield JobCompleted(result=result, at=now)


def _cancel(work: JobWork, now: datetime) -> Iterator[JobEvent]:
    job = _job(work)
    if job.state == "CANCELLED":
        return
    if job.state in ENDED:
        raise Rejected("job is not running")
    for task in work.active():
        yield TaskCancelled(task=task.id, at=now)
    yield JobCancelled(at=now)


def _restart(command: RestartJob, work: JobWork, now: datetime, render: Render) -> Iterator[JobEvent]:
    job = _job(work)
    if job.restarted_by == command.key:
        return
    if job.state not in ("FAILED", "CANCELLED"):
        raise Rejected(f"job is {job.state} and can not be restarted")
    if job.position > job.task_count:
        raise Rejected("job has no more tasks to run")
    yield JobRestarted(run=job.run + 1, key=command.key, at=now)
    yield from _advance(job, work, now, render)


def _claim(command: ClaimTask, work: JobWork, now: datetime) -> Iterator[JobEvent]:
    task = _fenced(command, work)
    if task.state == "RUNNING" and task.worker == command.worker:
        return  # asking twice: no new fact; the shell grants again from the row
    if task.state != "SCHEDULED":
        raise Stale(f"task {task.id} is {task.state}", _why(task, command))
    yield TaskStarted(
        task=task.id,
        attempt=command.attempt,
        worker=command.worker,
        at=now,
        deadline=waits.deadline(task.definition, now),
    )


def _progress(command: ReportProgress, work: JobWork, now: datetime) -> Iterator[JobEvent]:
    task, job = _running(command, work), _job(work)
    progress = min(max(command.progress, 0.0), 100.0)
    if progress == task.progress:
        return
    whole = round(((job.position - 1) + progress / 100) / job.task_count * 100, 2)
    yield TaskProgressed(task=task.id, attempt=task.attempt, progress=progress, job_progress=whole, at=now)


def _complete(command: CompleteTask, work: JobWork, now: datetime, render: Render) -> Iterator[JobEvent]:
    task, job = _running(command, work), _job(work)
    yield TaskCompleted(task=task.id, attempt=task.attempt, result=command.result.replace("\0", ""), at=now)
    yield from _advance(job, work, now, render)


def _fail(command: FailTask | LoseTask, work: JobWork, now: datetime, render: Render) -> Iterator[JobEvent]:
    task = _running(command, work)
    reason = "lost" if isinstance(command, LoseTask) else command.reason
    error = "its worker was lost" if isinstance(command, LoseTask) else command.error.replace("\0", "")
    if reason == "released" or (reason == "lost" and task.redelivered < LOST_ATTEMPTS_MAX):
        yield TaskRedelivered(task=task.id, attempt=task.attempt + 1, worker=command.worker, reason=reason, at=now)
        return
    if reason == "lost":
        error = f"{error}, {task.redelivered + 1} times over; the limit is {LOST_ATTEMPTS_MAX} more tries"
    exit_code = command.exit_code if isinstance(command, FailTask) else None
    yield from _end_badly(task, error, reason, work, now, exit_code)


def _end_badly(
    task: TaskRow, error: str, reason: str, work: JobWork, now: datetime, exit_code: int | None = None
) -> Iterator[JobEvent]:
    job = _job(work)
    yield TaskFailed(task=task.id, attempt=task.attempt, error=error, reason=reason, at=now, exit_code=exit_code)
    retry, number = task.definition.retry, task.retries + 1
    if retry is not None and number <= retry.limit:
        row = TaskDispatched(
            task=_task_id(job, task.key, task.attempt + 1, now),
            key=task.key,
            run=task.run,
            position=task.position,
            attempt=task.attempt + 1,
            retries=number,
            queue=task.queue,
            definition=task.definition,
            at=now,
        )
        pause_s = waits.pause_s(retry, number)
        if pause_s:
            yield TaskDelayed(**msgspec.structs.asdict(row), until=now + timedelta(seconds=pause_s))
        else:
            yield row
        return
    for other in work.active():
        yield TaskCancelled(task=other.id, at=now)
    yield JobFailed(error=_blame(task.definition.name, error), at=now)


# -- what the rules share -----------------------------------------------------------------------------------------------


def _job(work: JobWork) -> JobRow:
    if work.job is None:
        raise NotFound("job not found")
    return work.job


def _task_id(job: JobRow, key: str, attempt: int, now: datetime) -> TaskId:
    return TaskId(ids.derive(now, ids.byte_of(job.id), job.id, job.run, key, attempt))


def _fenced(command: Fence, work: JobWork) -> TaskRow:
    """The task that a fence speaks of, if it is the current one."""
    if work.job is None:
        raise Stale("there is no such job", "unknown")
    task = work.tasks.get(command.task)
    if task is None:
        raise Stale(f"job {command.job} has no task {command.task}", "unknown")
    if (task.run, task.attempt) != (command.run, command.attempt) or task.job != command.job:
        raise Stale(f"task {task.id} is at run {task.run}, attempt {task.attempt}", "attempt")
    return task


def _due(command: Due, work: JobWork, state: str) -> TaskRow:
    """The task whose timer has fired, if it is still in the state that the timer was for."""
    task = work.tasks.get(command.task)
    if task is None or (task.attempt, task.state) != (command.attempt, state):
        raise Stale(f"attempt {command.attempt} of task {command.task} is not {state} any more", "timer")
    return task


def _running(command: Fence, work: JobWork) -> TaskRow:
    """The running task that its worker speaks of."""
    task = _fenced(command, work)
    if task.state != "RUNNING" or task.worker != command.worker:
        raise Stale(f"task {task.id} is {task.state}", _why(task, command))
    return task


def _why(task: TaskRow, command: Fence) -> str:
    """The reason label under which an ignored report is counted."""
    if task.state not in ("SCHEDULED", "RUNNING"):
        return "ended"
    return "worker" if task.worker and task.worker != command.worker else "unclaimed"


def _blame(name: str, error: str) -> str:
    return f"task {name!r}: {error}"


def _context(job: JobRow, work: JobWork) -> Context:
    return {
        "inputs": job.definition.inputs,
        "tasks": work.variables,
        "secrets": {},
        "job": {"id": job.id, "name": job.definition.name},
    }


def _with_defaults(task: Task, defaults: Defaults | None) -> Task:
    """The task, with what its job says for all of them where it says nothing itself."""
    if defaults is None:
        return task
    missing = {name: value for name in _DEFAULTED if (value := getattr(defaults, name)) and not getattr(task, name)}
    return msgspec.structs.replace(task, **missing)


def _evaluate(task: Task, context: Context, render: Render) -> Task:
    """The task with its templates replaced by their values, in the order that Tork has: name, var, image, queue, env, if, cmd."""
    changes: dict[str, object] = {}
    for name in ("name", "var", "image", "queue", "if_"):
        text = getattr(task, name)
        if "{{" in text:
            changes[name] = render(text, context)
    if any("{{" in value for value in task.env.values()):
        changes["env"] = {key: render(value, context) if "{{" in value else value for key, value in task.env.items()}
    if any("{{" in item for item in task.cmd):
        changes["cmd"] = tuple(render(item, context) if "{{" in item else item for item in task.cmd)
    if not changes:
        return task
    evaluated = msgspec.structs.replace(task, **changes)
    size = len(msgspec.json.encode(evaluated))
    if size > DEFINITION_MAX:
        raise Invalid(
            f"its definition takes {size} bytes with its templates evaluated, and a worker can be sent {DEFINITION_MAX}; "
            "hand large values on as a file or an address"
        )
    return evaluated


def run_to_end(command: JobCommand, work: JobWork, now: datetime, render: Render, fold: Fold) -> list[JobEvent]:
    """Decide a command whole, folding each event as it comes; returns the events.

    Raises:
        Corrupt: a rule refused after its first event.
    """
    events: list[JobEvent] = []
    try:
        for event in decide(command, work, now, render):
            fold(work, event)
            events.append(event)
    except (NotFound, Rejected, Invalid) as error:
        if events:
            raise Corrupt(f"a decision on {type(command).__name__} broke off after {len(events)} events: {error}") from error
        raise
    return events


def foreseen(event: JobEvent) -> frozenset[str]:
    """The types of events that may follow from one when nobody can refuse them any more."""
    if not isinstance(event, JobSubmitted):
        return frozenset()
    found = {tag_of(JobDelayed)} if event.definition.is_delayed else set()
    definition = event.definition
    if any(_with_defaults(task, definition.defaults).retry_is_delayed for task in definition.tasks):
        found |= {tag_of(TaskDelayed), tag_of(TaskQueued)}
    return frozenset(found)


def refusing(tags: frozenset[str], fold: Fold) -> Fold:
    """The fold for as long as events of some types may not be written: the command that would lead to one is refused."""
    if not tags:
        return fold

    def refuse(work: JobWork, event: JobEvent) -> None:
        for tag in sorted({tag_of(event), *foreseen(event)} & tags):
            raise Rejected(f"{tag} is written only once every coordinator knows it; run: windlass migrate --finish")
        fold(work, event)

    return refuse
