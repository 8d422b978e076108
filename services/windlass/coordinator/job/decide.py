"""The rules of a job: which events a command makes, of the job and of those that wait for it or that it waits for.

`decide` yields events one by one, each with the working set that it belongs to, and its caller folds each before asking for the
next, so that a decision which goes on (a row of skipped tasks, the task after a completed one) reads the state it has just made.
It refuses before its first event or not at all, and a command already carried out yields nothing.
"""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple, assert_never

import msgspec

from windlass import ids
from windlass.coordinator.job import waits
from windlass.coordinator.job.evaluation import Context, Listed, Render, evaluate, list_of, with_defaults
from windlass.errors import Conflict, Corrupt, Invalid, NotFound, Rejected, Stale
from windlass.eventlog.rows import ENDED, Composite, JobRow, TaskRow
from windlass.eventlog.state import JobWork, Past, blame
from windlass.ids import JobId, TaskId
from windlass.messages.commands import (
    AdvanceJob,
    CancelJob,
    ClaimTask,
    CompleteTask,
    DeleteJob,
    Due,
    ExpandTask,
    ExpireTask,
    FailTask,
    Fence,
    JobCommand,
    LoseTask,
    PauseJob,
    QueueTask,
    ReportProgress,
    Request,
    RestartJob,
    ResumeJob,
    StartJob,
    SubmitJob,
)
from windlass.messages.envelope import tag_of
from windlass.messages.events import (
    ItemsListed,
    JobCancelled,
    JobCompleted,
    JobDelayed,
    JobDeleted,
    JobEvent,
    JobFailed,
    JobPaused,
    JobRestarted,
    JobResumed,
    JobStarted,
    JobSubmitted,
    TaskCancelled,
    TaskCompleted,
    TaskDelayed,
    TaskDispatched,
    TaskFailed,
    TaskOpened,
    TaskProgressed,
    TaskQueued,
    TaskRedelivered,
    TaskRefused,
    TaskSkipped,
    TaskStarted,
)
from windlass.messages.jobs import Job, Retry, SubJob, Task, every, used
from windlass.messages.reruns import Redo
from windlass.secrets.redaction import Redactor
from windlass.settings import LOST_ATTEMPTS_MAX
from windlass.subjects import check_queue

OPENED_MAX = 500
"""How many rows one decision makes before it leaves the rest to an `AdvanceJob` or `ExpandTask`."""
ACTIVE_MAX = 1_000
"""Rows of one job that may be at work at a time; a composite has one all the same, so that each goes on."""
ITEMS_MAX = 500
ITEMS_SIZE = 256 * 1024
"""Elements of a list, and their bytes as JSON, that are kept together: one event, one row."""
EACH_MAX = 1_000_000
"""Elements of a list."""
RESULT_MAX = 1024 * 1024
CONTEXT_MAX = 16 * 1024 * 1024
"""Bytes of a task's result, and of all variables of a job."""
DEFAULT_QUEUE = "default"
ITEM = "item"
"""What an element is called where its `each` does not say."""

Fold = Callable[[JobWork, JobEvent], None]
Works = MutableMapping[JobId, JobWork]
"""The working sets in memory: of the job of a command, of the jobs above it, and of those below it that are at work."""
Step = tuple[JobWork, JobEvent]
Steps = Iterator[Step]

_encode = msgspec.json.Encoder().encode
_NOWHERE: Mapping[str, Any] = MappingProxyType({})


def decide(command: JobCommand, works: Works, now: datetime, render: Render) -> Steps:
    """The events that a command makes.

    Raises:
        NotFound: there is no such job or task.
        Rejected: its state does not allow it now.
        Stale: the fence is not the task's current one.
        Conflict: the id was taken by another body.
    """
    yield from _Decision(works, now, render).of(command)


class _Place(NamedTuple):
    """Where a row comes to be: the step's key, the job's position, the composite above, and the elements of the lists around.

    `again` is the row that was there before, if that was a composite whose children that ended well are kept.
    """

    key: str
    position: int
    parent: TaskRow | None = None
    scope: Mapping[str, Any] = _NOWHERE
    again: TaskId | None = None


class _Failure(NamedTuple):
    """What the failure of a row means where the job goes on: the composite that fails with it, if one does, and what counts."""

    counts: str
    composite: TaskRow | None


class _Decision:
    """One command, decided."""

    def __init__(self, works: Works, now: datetime, render: Render) -> None:
        self._works, self._now, self._render = works, now, render
        self._left = OPENED_MAX

    def of(self, command: JobCommand) -> Steps:
        work = self._works[command.job]
        if isinstance(command, Request) and work.job is not None and command.key in work.job.refused.split():
            raise Rejected("this request was refused when it was first heard; ask anew")
        match command:
            case SubmitJob():
                yield from self._submit(command, work)
            case CancelJob():
                yield from self._cancel(command, work)
            case RestartJob():
                yield from self._restart(command, work)
            case PauseJob() | ResumeJob():
                yield from self._pause(command, work)
            case DeleteJob():
                yield from self._delete(command, work)
            case StartJob():
                yield from self._start(command, work)
            case AdvanceJob():
                job = work.job
                if job is None or not job.run or job.state in ENDED or work.open:
                    return  # also when this was carried out before: the position stays while its task is at work
                if (job.run, job.position) == (command.run, command.position):
                    yield from self._go_on(work, None)
            case ExpandTask():
                row = work.tasks.get(command.task)
                if row is None or row.composite is None or row.composite.opened != command.opened:
                    return  # carried out before
                if row.state == "SCHEDULED":
                    yield from self._open_waiting(work, row)
                elif row.state == "RUNNING":
                    yield from self._go_on(work, row)
            case ClaimTask():
                yield from self._claim(command, work)
            case ReportProgress():
                yield from self._progress(command, work)
            case CompleteTask():
                yield from self._complete(command, work)
            case FailTask() | LoseTask():
                yield from self._fail(command, work)
            case QueueTask():
                row = _due(command, work, "PENDING")
                yield work, TaskQueued(task=row.id, attempt=row.attempt, at=self._now)
                if row.composite is not None:
                    yield from self._open_waiting(work, row)
            case ExpireTask():
                row = _due(command, work, "RUNNING")
                error = (
                    f"context deadline exceeded: it ran for longer than {row.definition.timeout} and its worker did not end it"
                )
                yield from self._end_badly(row, error, "deadline", work)
            case _:
                assert_never(command)

    # -- a job ------------------------------------------------------------------------------------------------------

    def _submit(self, command: SubmitJob, work: JobWork) -> Steps:
        if work.deleted:
            raise Conflict(f"job {command.job} was deleted; choose another Idempotency-Key")
        if work.job is not None:
            if work.job.definition != command.definition:
                raise Conflict(f"job {command.job} exists with another definition; choose another Idempotency-Key")
            return
        yield (
            work,
            JobSubmitted(
                job=command.job,
                definition=command.definition,
                user=command.user,
                at=self._now,
                key=command.key,
                digest=command.digest,
                trace=command.trace,
            ),
        )
        until = waits.start_at(command.definition, self._now)
        if until is not None:
            yield work, JobDelayed(run=1, until=until, at=self._now)
            return
        yield work, JobStarted(run=1, at=self._now)
        yield from self._advance(work)

    def _start(self, command: StartJob, work: JobWork) -> Steps:
        job = work.job
        if job is None or (job.state, job.run + 1) != ("PENDING", command.run):
            raise Stale(f"job {command.job} does not wait for run {command.run}", "timer")
        yield work, JobStarted(run=command.run, at=self._now)
        yield from self._advance(work)

    def _advance(self, work: JobWork) -> Steps:
        """Go on from the job's position: open its task, and the next where that has ended at once, or end the job."""
        job = _job(work)
        while job.state not in ENDED and self._left > 0:
            if job.position > job.task_count:
                yield from self._finish(work)
                return
            if job.paused_at is not None:
                return
            position = job.position
            again = job.redo.again.get(position) if job.redo is not None else None
            if again is not None and again not in work.pasts:
                return  # what it was is not in memory; it will be when this goes on
            yield from self._open(work, job.definition.tasks[position - 1], _Place(str(position), position, again=again))
            if job.position == position:
                return

    def _finish(self, work: JobWork) -> Steps:
        job = _job(work)
        if job.error:  # of a task that the others did not wait for
            yield work, JobFailed(error=job.error, at=self._now)
            return
        try:
            output = job.definition.output
            result = self._render(output, self._context(work), "text") if output else ""
            if refusal := _too_large("", result, work):
                raise Invalid(f"the job's output: {refusal}")
        except Invalid as error:
            yield work, JobFailed(error=str(error), at=self._now)
            return
        yield work, JobCompleted(result=result, at=self._now, delete_at=waits.delete_at(job.definition, self._now))

    def _cancel(self, command: CancelJob, work: JobWork) -> Steps:
        job = _job(work)
        if job.state == "CANCELLED" or command.key in job.restarted_by.split():
            return
        if job.state in ENDED:
            raise Rejected("job is not running")
        while job.parent_job is not None:  # who waits for it is cancelled with it, all the way up
            work = self._works[job.parent_job]
            job = _job(work)
        yield from self._cancel_job(work, command.key)

    def _pause(self, command: PauseJob | ResumeJob, work: JobWork) -> Steps:
        job = _job(work)
        if command.key in job.restarted_by.split():
            return
        verb = "pause" if isinstance(command, PauseJob) else "resume"
        if job.parent_job is not None:
            raise Rejected(f"job {job.id} is part of job {job.parent_job}; {verb} that one")
        if job.state in ENDED:
            raise Rejected("job is not running")
        if (job.paused_at is not None) == (verb == "pause"):
            return
        for number, each in enumerate(self._at_work(work)):
            key = "" if number else command.key
            how = JobPaused if verb == "pause" else JobResumed
            yield each, how(at=self._now, key=key)
        if verb == "resume":
            for each in self._at_work(work):
                job = _job(each)
                if job.run and not each.open and job.state not in ENDED:
                    yield from self._go_on(each, None)

    def _delete(self, command: DeleteJob, work: JobWork) -> Steps:
        job = _job(work)
        if command.version and job.version != command.version:
            raise Stale(f"job {job.id} is at version {job.version}", "timer")
        above = self._works.get(job.parent_job) if job.parent_job is not None else None
        if not command.version and above is not None and above.job is not None and not above.deleted:
            raise Rejected(f"job {job.id} is part of job {job.parent_job}; delete that one")
        if job.state not in ENDED:
            raise Rejected(f"job is {job.state} and can not be deleted; cancel it first")
        if any(row.stopping for row in work.tasks.values()):
            raise Rejected("tasks of the job are being stopped yet; ask again in a moment")
        yield work, JobDeleted(at=self._now)

    def _at_work(self, work: JobWork) -> list[JobWork]:
        """A job, and those below it that it waits for."""
        found = [work]
        for one in found:
            found += [self._works[below] for below in one.subjobs.values()]
        return found

    def _cancel_job(self, work: JobWork, key: str = "") -> Steps:
        yield from self._cancel_rows(work, work.active())
        yield work, JobCancelled(at=self._now, key=key)

    def _cancel_rows(self, work: JobWork, rows: list[TaskRow]) -> Steps:
        """End rows of a job with the jobs that they wait for."""
        for row in rows:
            below = work.subjobs.get(row.id)
            yield work, TaskCancelled(task=row.id, at=self._now)
            if below is not None:
                yield from self._cancel_job(self._works[below])

    def _restart(self, command: RestartJob, work: JobWork) -> Steps:
        job = _job(work)
        past = work.pasts.pop(job.id, None)
        if command.key in job.restarted_by.split():
            return
        if job.parent_job is not None:
            raise Rejected(f"job {job.id} is part of job {job.parent_job}; restart that one")
        if job.state not in ENDED or (job.state == "COMPLETED" and not command.how):
            raise Rejected(f"job is {job.state} and can not be restarted")
        redo = None
        if command.how == "failed":
            if past is None:
                raise Rejected("job has only just ended; restart it again")
            redo = past.redo
            if redo.indexes == (job.task_count + 1,):
                raise Rejected("job has no failed tasks to run again")
        elif not command.how and job.position > job.task_count:
            raise Rejected("job has no more tasks to run")
        yield work, JobRestarted(run=job.run + 1, key=command.key, at=self._now, anew=command.how == "start", redo=redo)
        yield from self._advance(work)

    # -- a task comes to be -----------------------------------------------------------------------------------------

    def _open(self, work: JobWork, written: Task, place: _Place) -> Steps:
        """Make the row of a step: it waits in its queue, or ends at once, or other tasks run in its place."""
        self._left -= 1
        job, parent = _job(work), place.parent
        task = written if written.is_composite else with_defaults(written, job.definition.defaults)
        row: dict[str, Any] = {
            "task": _task_id(job, place.key, 1, self._now),
            "key": place.key,
            "run": job.run,
            "position": place.position,
            "at": self._now,
            "parent": parent.id if parent is not None else None,
        }
        try:
            context = self._context(work, place.scope)
            task = evaluate(task, context, self._render)
            _check_readable(work, task)
            if task.if_.strip() == "false":
                yield work, TaskSkipped(**row, definition=task, job_progress=self._reached(work, parent, 1.0))
                return
            queue = check_queue(task.queue or DEFAULT_QUEUE)
            until = waits.start_at(task, self._now)
            listed, past = (None, None) if until is not None else self._listed(work, task, place)
        except Invalid as problem:
            error = str(problem)
            failure = self._failure(work, written, parent)
            yield (
                work,
                TaskRefused(**row, definition=task, error=error, **self._counted(work, failure, parent)),
            )
            yield from self._spread(work, failure, blame(written.name, error))
            return
        if until is not None:
            yield (
                work,
                TaskDelayed(
                    **row,
                    attempt=1,
                    queue=queue,
                    definition=task,
                    until=until,
                    scope=dict(place.scope) if task.is_composite else {},
                    again=place.again,
                ),
            )
        elif task.is_composite:
            yield from self._open_composite(work, task, row, place, listed, past)
        else:
            yield work, TaskDispatched(**row, attempt=1, queue=queue, definition=task)

    def _listed(self, work: JobWork, task: Task, place: _Place) -> tuple[Listed | None, Past | None]:
        """What a composite goes through: a list, or what did not end well before.

        Raises:
            Invalid: the list cannot be evaluated, or is too long.
        """
        past = work.pasts.pop(place.again, None) if place.again is not None else None
        if task.each is None or past is not None:
            return None, past
        listed = list_of(task.each.list, self._context(work, place.scope), self._render)
        if len(listed.items) > EACH_MAX:
            raise Invalid(f"each.list has {len(listed.items):,} elements, and may have {EACH_MAX:,}; split the job")
        return listed, None

    def _open_waiting(self, work: JobWork, row: TaskRow) -> Steps:
        """The time of a composite has come."""
        composite, above = row.composite, self._above(work, row)
        assert composite is not None
        if _job(work).paused_at is not None or (composite.again is not None and composite.again not in work.pasts):
            return  # it will be opened when the job is resumed, or what it was is in memory
        place = _Place(row.key, row.position, above, composite.scope, composite.again)
        try:
            listed, past = self._listed(work, row.definition, place)
        except Invalid as problem:
            failure = self._failure(work, row.definition, above)
            yield from self._failed(row, str(problem), "failed", failure, work)
        else:
            fields = {"task": row.id, "key": row.key, "run": row.run, "position": row.position, "parent": row.parent}
            yield from self._open_composite(work, row.definition, {**fields, "at": self._now}, place, listed, past)
        if row.state != "RUNNING":
            yield from self._go_on(work, above)

    def _open_composite(
        self, work: JobWork, task: Task, row: dict[str, Any], place: _Place, listed: Listed | None, past: Past | None
    ) -> Steps:
        if past is not None:
            size, kept = past.size, past.size - len(past.redo.indexes)
        else:
            size = len(listed.items) if listed is not None else len(task.parallel.tasks) if task.parallel is not None else 1
            kept = 0
        below, under = None, None
        if task.subjob is not None:
            under = self._works.get(past.subjob) if past is not None and past.subjob is not None else None
            below = under.job.id if under is not None and under.job is not None else None
            below = below or JobId(ids.derive(self._now, ids.byte_of(_job(work).id), row["task"], "subjob"))
        again = place.again if past is not None else None
        yield work, TaskOpened(**row, definition=task, size=size, subjob=below, scope=dict(place.scope), kept=kept, again=again)
        opened = work.tasks[row["task"]]
        if listed is not None:
            for at, items in _parts(listed.items):
                yield work, ItemsListed(task=opened.id, first=at.start, items=items, is_map=listed.is_map, at=self._now)
        elif past is not None:
            for at, items in _parts(past.values):
                yield (
                    work,
                    ItemsListed(
                        task=opened.id,
                        first=kept + at.start,
                        items=items,
                        is_map=past.is_map,
                        at=self._now,
                        redo=_part_of(past.redo, at),
                    ),
                )
        if task.subjob is not None and below is not None:
            if under is not None and under.job is not None:
                yield from self._restart_below(work, opened, under)
            else:
                yield from self._submit_below(work, opened, task.subjob, below)
        else:
            yield from self._fill(work, opened)

    def _submit_below(self, work: JobWork, row: TaskRow, definition: SubJob, below: JobId) -> Steps:
        """Begin the job that a task stands for."""
        job, attached = _job(work), not definition.detached
        if not attached:
            yield (
                work,
                TaskCompleted(
                    task=row.id, attempt=1, at=self._now, job_progress=self._reached(work, self._above(work, row), 1.0)
                ),
            )
        under = self._works.setdefault(below, JobWork())
        yield (
            under,
            JobSubmitted(
                job=below,
                definition=Job(
                    name=definition.name,
                    description=definition.description,
                    tasks=definition.tasks,
                    inputs=definition.inputs,
                    secrets=definition.secrets,
                    output=definition.output,
                    webhooks=definition.webhooks,
                    auto_delete=definition.auto_delete,
                    permissions=job.definition.permissions,
                ),
                user=job.created_by,
                at=self._now,
                trace=job.trace or None,
                parent=row.id if attached else None,
                parent_job=job.id if attached else None,
            ),
        )
        yield under, JobStarted(run=1, at=self._now)
        yield from self._advance(under)
        if attached:
            yield from self._end_with(work, row, under)

    def _restart_below(self, work: JobWork, row: TaskRow, under: JobWork) -> Steps:
        """Go on with the job that a task stood for before."""
        job = _job(under)
        past = under.pasts.pop(job.id, None)
        redo = past.redo if past is not None else None
        yield under, JobRestarted(run=job.run + 1, key="", at=self._now, redo=redo, parent=row.id)
        yield from self._advance(under)
        yield from self._end_with(work, row, under)

    def _end_with(self, work: JobWork, row: TaskRow, under: JobWork) -> Steps:
        """End a task with the job that it waited for, if that has ended."""
        below = _job(under)
        if row.state != "RUNNING" or below.state not in ENDED:
            return
        error = _handed_up(below.error, under, work)
        if below.state == "COMPLETED":
            result = _handed_up(below.result, under, work)
            error = _too_large(row.definition.var, result, work)
            if not error:
                yield from self._end_well(row, result, work)
                return
        failure = self._failure(work, row.definition, self._above(work, row))
        yield from self._failed(row, error, "child", failure, work)

    # -- a composite goes on ----------------------------------------------------------------------------------------

    def _go_on(self, work: JobWork, composite: TaskRow | None) -> Steps:
        """Something below a composite, or the job itself (None), ended: open what is next there, and above where that ended."""
        job = _job(work)
        while composite is not None and job.state not in ENDED:
            yield from self._fill(work, composite)
            if composite.state == "RUNNING":
                return
            composite = self._above(work, composite)
        yield from self._advance(work)
        if job.state in ENDED and job.parent_job is not None and job.parent is not None:
            above = self._works[job.parent_job]
            waiting = above.tasks.get(job.parent)
            if waiting is not None and waiting.state == "RUNNING":
                yield from self._end_with(above, waiting, work)
                yield from self._go_on(above, self._above(above, waiting))

    def _fill(self, work: JobWork, row: TaskRow) -> Steps:
        """Open the next children of a composite while there is room, or end it with its last."""
        composite = row.composite
        assert composite is not None
        while row.state == "RUNNING" and composite.subjob is None:
            if composite.ended == composite.size:
                yield from self._close(work, row)
                return
            if self._left <= 0 or not may_open(work, row):
                return
            child = self._child(work, row, composite)
            if child is None:
                return  # its element is not in memory; it will be when this goes on
            yield from self._open(work, *child)

    def _child(self, work: JobWork, row: TaskRow, composite: Composite) -> tuple[Task, _Place] | None:
        each, parallel, at = row.definition.each, row.definition.parallel, composite.opened
        if parallel is not None and composite.again is None:
            return parallel.tasks[at], _Place(f"{row.key}.{at}", row.position, row, composite.scope)
        found = work.element(row.id, at)
        if found is None or (found.again is not None and found.again not in work.pasts):
            return None
        index, value, is_map, again = found
        place = _Place(f"{row.key}.{index}", row.position, row, composite.scope, again)
        if each is None:
            assert parallel is not None
            return parallel.tasks[index], place
        element = {"index": str(index), **value} if is_map else {"index": str(index), "value": value}
        return each.task, place._replace(scope={**composite.scope, each.var or ITEM: element})

    def _close(self, work: JobWork, row: TaskRow) -> Steps:
        """All children of a composite have ended."""
        composite = row.composite
        assert composite is not None
        if composite.completions >= (_needed(row.definition) or composite.size):
            yield from self._end_well(row, "", work)
            return
        needed = _needed(row.definition)
        error = f"{composite.failures} of its {composite.size} tasks failed" + (
            f", and {needed} have to end well" if needed else ""
        )
        failure = self._failure(work, row.definition, self._above(work, row))
        yield from self._failed(row, error, "child", failure, work)

    # -- a task ends ------------------------------------------------------------------------------------------------

    def _end_well(self, row: TaskRow, result: str, work: JobWork) -> Steps:
        reached = self._reached(work, self._above(work, row), 1.0)
        yield work, TaskCompleted(task=row.id, attempt=row.attempt, result=result, at=self._now, job_progress=reached)

    def _end_badly(self, row: TaskRow, error: str, reason: str, work: JobWork, exit_code: int | None = None) -> Steps:
        """An attempt failed: try the step again, or go on as its failure is to be taken."""
        job, retry, number = _job(work), row.definition.retry, row.retries + 1
        if retry is not None and number <= retry.limit and _is_retried(retry, reason, exit_code):
            yield (
                work,
                TaskFailed(task=row.id, attempt=row.attempt, error=error, reason=reason, at=self._now, exit_code=exit_code),
            )
            again = TaskDispatched(
                task=_task_id(job, row.key, row.attempt + 1, self._now),
                key=row.key,
                run=row.run,
                position=row.position,
                attempt=row.attempt + 1,
                retries=number,
                queue=row.queue,
                definition=row.definition,
                at=self._now,
                parent=row.parent,
            )
            pause_s = waits.pause_s(retry, number)
            if pause_s:
                yield work, TaskDelayed(**msgspec.structs.asdict(again), until=self._now + timedelta(seconds=pause_s))
            else:
                yield work, again
            return
        above = self._above(work, row)
        failure = self._failure(work, row.definition, above)
        yield from self._failed(row, error, reason, failure, work, exit_code)
        yield from self._go_on(work, above)

    def _failure(self, work: JobWork, definition: Task, above: TaskRow | None) -> _Failure | None:
        """What a failure of a step means; None if its job fails."""
        composite = None
        while True:
            if definition.on_error in ("continue", "ignore"):
                return _Failure("ignored" if definition.on_error == "ignore" else "failed", composite)
            if above is None:
                return None
            counted, needed = above.composite, _needed(above.definition)
            if counted is not None and needed and counted.size - counted.failures - 1 >= needed:
                return _Failure("failed", composite)
            composite, definition, above = above, above.definition, self._above(work, above)

    def _failed(
        self, row: TaskRow, error: str, reason: str, failure: _Failure | None, work: JobWork, exit_code: int | None = None
    ) -> Steps:
        how = {"error": error, "reason": reason, "exit_code": exit_code, **self._counted(work, failure, self._above(work, row))}
        yield work, TaskFailed(task=row.id, attempt=row.attempt, at=self._now, **how)
        yield from self._spread(work, failure, blame(row.definition.name, error))

    def _counted(self, work: JobWork, failure: _Failure | None, above: TaskRow | None) -> dict[str, Any]:
        """What the event of a failed row says of how it counts."""
        if failure is None or failure.composite is not None:
            return {}
        return {"counts": failure.counts, "job_progress": self._reached(work, above, 1.0)}

    def _spread(self, work: JobWork, failure: _Failure | None, error: str) -> Steps:
        """End what a failed row takes with it: nothing, a composite above it, or the job."""
        if failure is None:
            yield from self._cancel_rows(work, work.active())
            yield work, JobFailed(error=error, at=self._now)
        elif failure.composite is not None:
            row = failure.composite
            below = [other for other in work.active() if other.key.startswith(f"{row.key}.")]
            yield from self._cancel_rows(work, below)
            reached = self._reached(work, self._above(work, row), 1.0)
            yield (
                work,
                TaskFailed(
                    task=row.id,
                    attempt=row.attempt,
                    error=error,
                    reason="child",
                    at=self._now,
                    counts=failure.counts,
                    job_progress=reached,
                ),
            )

    # -- what workers say -------------------------------------------------------------------------------------------

    def _claim(self, command: ClaimTask, work: JobWork) -> Steps:
        row = _fenced(command, work)
        if row.state == "RUNNING" and row.worker == command.worker:
            return  # asking twice: no new fact; the shell grants again from the row
        if row.state != "SCHEDULED":
            raise Stale(f"task {row.id} is {row.state}", _why(row, command))
        if _job(work).paused_at is not None:
            raise Stale(f"job {row.job} is paused", "paused")
        yield (
            work,
            TaskStarted(
                task=row.id,
                attempt=command.attempt,
                worker=command.worker,
                at=self._now,
                deadline=waits.deadline(row.definition, self._now),
            ),
        )

    def _progress(self, command: ReportProgress, work: JobWork) -> Steps:
        row, job = _running(command, work), _job(work)
        progress = min(max(command.progress, 0.0), 100.0)
        if progress == row.progress:
            return
        above = self._above(work, row)
        whole = self._reached(work, above, progress / 100)
        if whole is None:
            whole = max(job.progress, round(((job.position - 1) + progress / 100) / job.task_count * 100, 2))
        yield work, TaskProgressed(task=row.id, attempt=row.attempt, progress=progress, job_progress=whole, at=self._now)

    def _complete(self, command: CompleteTask, work: JobWork) -> Steps:
        row = _running(command, work)
        result = command.result.replace("\0", "")
        refusal = _too_large(row.definition.var, result, work)
        if refusal:
            yield from self._end_badly(row, refusal, "failed", work)
            return
        yield from self._end_well(row, result, work)
        yield from self._go_on(work, self._above(work, row))

    def _fail(self, command: FailTask | LoseTask, work: JobWork) -> Steps:
        row = _running(command, work)
        reason = "lost" if isinstance(command, LoseTask) else command.reason
        error = "its worker was lost" if isinstance(command, LoseTask) else command.error.replace("\0", "")
        if reason == "released" or (reason == "lost" and row.redelivered < LOST_ATTEMPTS_MAX):
            yield work, TaskRedelivered(task=row.id, attempt=row.attempt + 1, worker=command.worker, reason=reason, at=self._now)
            return
        if reason == "lost":
            error = f"{error}, {row.redelivered + 1} times over; the limit is {LOST_ATTEMPTS_MAX} more tries"
        exit_code = command.exit_code if isinstance(command, FailTask) else None
        yield from self._end_badly(row, error, reason, work, exit_code)

    # -- what the rules share ---------------------------------------------------------------------------------------

    @staticmethod
    def _above(work: JobWork, row: TaskRow) -> TaskRow | None:
        """The composite that a row is below."""
        return work.tasks[row.parent] if row.parent is not None else None

    @staticmethod
    def _context(work: JobWork, scope: Mapping[str, Any] = _NOWHERE) -> Context:
        job = _job(work)
        return {
            "inputs": job.definition.inputs,
            "tasks": work.variables,
            "secrets": job.definition.secrets,
            "job": {"id": job.id, "name": job.definition.name},
            "items": scope,
        }

    @staticmethod
    def _reached(work: JobWork, composite: TaskRow | None, part: float) -> float | None:
        """How far a job is, 0–100, when `part` of a row below a composite is done; None if the row is the job's own."""
        if composite is None:
            return None
        job = _job(work)
        above: TaskRow | None = composite
        while above is not None and above.composite is not None:
            part = (above.composite.ended + part) / above.composite.size
            above = _Decision._above(work, above)
        return max(job.progress, round(((job.position - 1) + min(part, 1.0)) / job.task_count * 100, 2))


def may_open(work: JobWork, row: TaskRow) -> bool:
    """Whether the next child of a composite is due."""
    composite = row.composite
    if composite is None or work.job is None or work.job.paused_at is not None:
        return False
    if row.state == "SCHEDULED":  # it waited for its time
        return True
    if composite.subjob is not None or row.state != "RUNNING" or composite.opened >= composite.size:
        return False
    at_work, each = composite.opened - composite.ended, row.definition.each
    if each is not None and 0 < each.concurrency <= at_work:
        return False
    return not at_work or work.open < ACTIVE_MAX


def _is_retried(retry: Retry, reason: str, exit_code: int | None) -> bool:
    """Whether what ended in this way is tried again."""
    ended = {"deadline": "timeout"}.get(reason, reason)
    return not retry.on or ended in retry.on or (exit_code is not None and str(exit_code) in retry.on)


def _needed(definition: Task) -> int:
    """How many children of a composite have to end well; 0 for all."""
    how = definition.parallel or definition.each
    return how.min_success if how is not None else 0


def _parts(items: Sequence[Any]) -> Iterator[tuple[slice, msgspec.Raw]]:
    """A list in parts, each as JSON with what it is of the list."""
    first, part, size = 0, list[bytes](), 0
    for index, item in enumerate(items):
        text = _encode(item)
        if part and (len(part) == ITEMS_MAX or size + len(text) > ITEMS_SIZE):
            yield slice(first, index), msgspec.Raw(b"[" + b",".join(part) + b"]")
            first, part, size = index, [], 0
        part.append(text)
        size += len(text)
    if part:
        yield slice(first, len(items)), msgspec.Raw(b"[" + b",".join(part) + b"]")


def _part_of(redo: Redo, at: slice) -> Redo:
    indexes = redo.indexes[at]
    return Redo(indexes=indexes, again={index: redo.again[index] for index in indexes if index in redo.again})


def _too_large(var: str, result: str, work: JobWork) -> str:
    """Why a result cannot be kept; empty if it can."""
    size = len(result) if result.isascii() else len(result.encode())
    if size > RESULT_MAX:
        return f"its result takes {size} bytes, and {RESULT_MAX} are kept; hand large values on as a file or an address"
    if var and result and work.variables_size + size > CONTEXT_MAX:
        return f"the variables of this job would take more than {CONTEXT_MAX} bytes; hand large values on as files or addresses"
    return ""


def _job(work: JobWork) -> JobRow:
    if work.job is None or work.deleted:
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


def _check_readable(work: JobWork, task: Task) -> None:
    """Whether what everybody must be able to read of a task holds no secret.

    Raises:
        Invalid: it does.
    """
    if work.vault is None:
        return
    for name in ("queue", "var"):
        text = getattr(task, name)
        if work.vault.redactor.text(text) != text:
            raise Invalid(f"its {name} holds a secret, and everybody can read that; choose another name")


def _handed_up(text: str, under: JobWork, above: JobWork) -> str:
    """What a job gives to the one that waits for it: without secrets that only the lower one knows to be some."""
    if under.vault is None:
        return text
    known = above.vault.redactor.values if above.vault is not None else ()
    return Redactor(value for value in under.vault.redactor.values if value not in known).text(text)


def run_to_end(command: JobCommand, works: Works, now: datetime, render: Render, fold: Fold) -> list[Step]:
    """Decide a command whole, folding each event as it comes; returns the events with what they belong to.

    Raises:
        Corrupt: a rule refused after its first event.
    """
    events: list[Step] = []
    try:
        for step in decide(command, works, now, render):
            fold(*step)
            events.append(step)
    except (NotFound, Rejected, Invalid) as error:
        if events:
            raise Corrupt(f"a decision on {type(command).__name__} broke off after {len(events)} events: {error}") from error
        raise
    return events


def foreseen(event: JobEvent) -> frozenset[str]:
    """What an event holds or may lead to when nobody can refuse it any more: fields of it or of a job, and types of events."""
    if isinstance(event, JobRestarted):
        return frozenset(f"JobRestarted.{name}" for name in ("anew", "redo") if getattr(event, name))
    if not isinstance(event, JobSubmitted):
        return frozenset()
    definition = event.definition
    found = set(used(definition))
    if definition.is_delayed:
        found.add(tag_of(JobDelayed))
    if definition.auto_delete is not None:
        found.add(tag_of(JobDeleted))
    for task in every(definition.tasks):
        if task.is_composite:
            found |= {tag_of(TaskOpened), tag_of(ItemsListed)}
        if task.is_delayed or with_defaults(task, definition.defaults).retry_is_delayed:
            found |= {tag_of(TaskDelayed), tag_of(TaskQueued)}
    return frozenset(found)


def refusing(names: frozenset[str], fold: Fold) -> Fold:
    """The fold for as long as events of some types, or jobs with some fields, may not be written: their command is refused."""
    if not names:
        return fold

    def refuse(work: JobWork, event: JobEvent) -> None:
        for name in sorted({tag_of(event), *foreseen(event)} & names):
            raise Rejected(f"{name} is written only once every coordinator knows it; run: windlass migrate --finish")
        fold(work, event)

    return refuse
