"""The working set of a job, and `evolve`: what each event does to it.

`evolve` never refuses and reads no clock; what is in the log happened. It is all that ever changes a row, but for the
operational columns (`drive_at`, `drives`, `stopping`), which the shell keeps. Whoever follows the log of jobs may fold with it.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

import msgspec

from windlass.eventlog.rows import ACTIVE, Composite, JobRow, TaskRow
from windlass.ids import JobId, TaskId
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
from windlass.messages.reruns import Redo
from windlass.secrets.redaction import WHOLE

if TYPE_CHECKING:
    from windlass.secrets.vault import Vault  # what it is made of is needed by those alone who have keys

REQUESTS_KEPT = 20
"""Requests to cancel or restart a job that are remembered: one that comes again after others is not carried out twice."""

_decode = msgspec.json.Decoder(list[Any]).decode


@dataclass(slots=True)
class Items:
    """A part of the list of an `each`: its elements as plain data, and the index of the first."""

    first: int
    values: list[Any]
    is_map: bool
    redo: Redo | None = None
    """Of a composite that runs again: which of its children these are."""

    @property
    def next(self) -> int:
        """The index after the last."""
        return self.first + len(self.values)


class Element(NamedTuple):
    """What a child of a composite is for: its index (`at`), the element, whether the list is a map, the row that it was."""

    at: int
    value: Any
    is_map: bool
    again: TaskId | None


@dataclass(slots=True)
class Past:
    """What became of a composite, or of the steps of a job: `redo` is what did not end well, `values` the elements of it."""

    redo: Redo
    size: int = 0
    values: list[Any] = field(default_factory=list)
    is_map: bool = False
    subjob: JobId | None = None


@dataclass(slots=True)
class JobWork:
    """What deciding for one job needs: its row, the task rows that can still change or were asked for, its variables.

    Its bookkeeping is kept by `evolve` and by the methods here, so that no decision has to look at all tasks.
    """

    job: JobRow | None = None
    tasks: dict[TaskId, TaskRow] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    variables_size: int = 0
    """Characters of all variables."""
    open: int = 0
    """How many task rows can still change."""
    subjobs: dict[TaskId, JobId] = field(default_factory=dict)
    """Of the tasks that wait for the end of another job, that job."""
    lists: dict[TaskId, list[Items]] = field(default_factory=dict)
    """What is in memory of the lists of `each`, in their order."""
    pasts: dict[str, Past | None] = field(default_factory=dict)
    """Of what runs again, what it was before, by the id of the row, or of the job; None where nothing is known."""
    touched: dict[TaskId, TaskRow] = field(default_factory=dict)
    """Task rows that changed since the last commit, in the order of their change."""
    set_variables: dict[str, str] = field(default_factory=dict)
    """Variables that were set since the last commit."""
    cleared: bool = False
    """Whether all variables were forgotten since the last commit, before these."""
    listed: list[tuple[TaskId, Items]] = field(default_factory=list)
    """Parts of lists that were evaluated since the last commit."""
    vault: "Vault | None" = None
    """What its secrets are sealed with, for whoever may see them: the rows here are whole then, and shown without when stored."""
    sealed: dict[tuple[str, str], str] = field(default_factory=dict)
    """Texts with secrets, by whose they are and the field, as table `sealed_texts` holds them."""
    set_sealed: dict[tuple[str, str], str] = field(default_factory=dict)
    """Those that were set since the last commit."""
    to_stop: set[TaskId] = field(default_factory=set)
    """Tasks that a worker still runs though they have ended, since the last commit."""
    deleted: bool = False
    """Whether the job is no more; its row is what it was."""

    def active(self) -> list[TaskRow]:
        """The task rows that can still change."""
        return [task for task in self.tasks.values() if task.state in ACTIVE]

    def put(self, task: TaskRow) -> None:
        """A row that was stored, or has just come to be."""
        self.tasks[task.id] = task
        if task.state not in ACTIVE:
            return
        self.open += 1
        if task.composite is not None:
            self.watch(task, task.composite)

    def watch(self, task: TaskRow, composite: Composite) -> None:
        """A composite that can change is in memory: with its job below, or with what there is of its list."""
        if composite.subjob is not None:
            self.subjobs[task.id] = composite.subjob
            self.lists.pop(task.id, None)
        elif task.definition.each is not None or composite.again is not None:
            self.lists.setdefault(task.id, [])

    def set(self, name: str, value: str) -> None:
        """A variable has this value."""
        self.variables_size += len(value) - len(self.variables.get(name, ""))
        self.variables[name] = value

    def clear(self) -> None:
        """All variables are forgotten, and what the job gave."""
        assert self.job is not None
        self.variables.clear()
        self.set_variables.clear()
        self.variables_size, self.cleared = 0, True
        for owner, name in list(self.sealed):
            if owner == self.job.id and name.startswith("var "):
                self._seal(owner, name, "")

    def keep_sealed(self, event: JobEvent) -> None:
        """Keep what an event holds sealed, once it is folded; what shows all by now has nothing sealed any more."""
        assert self.job is not None
        found: dict[str, str] = getattr(event, "sealed", {})
        owner = getattr(event, "task", self.job.id)
        for name in event.__struct_fields__:
            if name in WHOLE:
                self._seal(owner, f"items {event.first}" if isinstance(event, ItemsListed) else name, found.get(name, ""))
        if isinstance(event, TaskCompleted) and event.result and (var := self.tasks[event.task].definition.var):
            self._seal(self.job.id, f"var {var}", found.get("result", ""))

    def _seal(self, owner: str, name: str, text: str) -> None:
        if text or (owner, name) in self.sealed:
            self.sealed[owner, name] = self.set_sealed[owner, name] = text

    def element(self, task: TaskId, at: int) -> Element | None:
        """The element at a place of a list; None if it is not in memory."""
        for part in self.lists.get(task, ()):
            if part.first <= at < part.next:
                index = at if part.redo is None else part.redo.indexes[at - part.first]
                again = None if part.redo is None else part.redo.again.get(index)
                return Element(index, part.values[at - part.first], part.is_map, again)
        return None


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
            parent=event.parent,
            parent_job=event.parent_job,
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
            if event.definition.is_composite:
                row.composite = Composite(size=0, scope=event.scope, again=event.again)
            _add(work, row)
        case TaskQueued():
            task = _touch(work, event.task)
            task.state, task.scheduled_at = "SCHEDULED", event.at
        case TaskSkipped():
            row = _row(job, event, "SKIPPED")
            row.scheduled_at = row.started_at = row.completed_at = event.at
            _add(work, row)
            _counted(work, row, event.job_progress)
        case TaskRefused():
            row = _row(job, event, "FAILED")
            row.failed_at, row.error = event.at, event.error
            _add(work, row)
            _failed(work, row, event)
        case TaskOpened():
            waited = work.tasks.get(event.task)
            row = _row(job, event, "RUNNING") if waited is None else waited
            row.state, row.started_at, row.scheduled_at = "RUNNING", event.at, row.scheduled_at or event.at
            row.composite = Composite(
                size=event.size,
                opened=event.kept,
                completions=event.kept,
                subjob=event.subjob,
                scope=event.scope,
                again=event.again,
            )
            if waited is None:
                _add(work, row)
            else:
                work.touched[row.id] = row
                work.watch(row, row.composite)
        case ItemsListed():
            part = Items(event.first, _decode(event.items), event.is_map, event.redo)
            work.lists.setdefault(event.task, []).append(part)
            work.listed.append((event.task, part))
        case TaskStarted():
            task = _touch(work, event.task)
            task.state, task.attempt, task.worker, task.started_at = "RUNNING", event.attempt, event.worker, event.at
            job.state = "RUNNING"
        case TaskProgressed():
            _touch(work, event.task).progress = event.progress
            job.progress = event.job_progress
        case TaskCompleted():
            task = _end(work, event.task, "COMPLETED")
            task.completed_at, task.result = event.at, event.result
            if event.result and task.definition.var:
                work.set(task.definition.var, event.result)
                work.set_variables[task.definition.var] = event.result
            _counted(work, task, event.job_progress)
        case TaskFailed():
            task = _end(work, event.task, "FAILED")
            task.failed_at, task.error = event.at, event.error
            if event.reason == "deadline":
                work.to_stop.add(task.id)
            _failed(work, task, event)
        case TaskRedelivered():
            task = _touch(work, event.task)
            task.state, task.attempt, task.scheduled_at = "SCHEDULED", event.attempt, event.at
            task.worker, task.started_at, task.progress = "", None, 0.0
            if event.reason == "lost":  # what was handed back counts against no limit
                task.redelivered += 1
        case TaskCancelled():
            task = work.tasks[event.task]
            if task.state == "RUNNING" and task.worker:
                work.to_stop.add(task.id)
            _end(work, event.task, "CANCELLED")
        case JobCompleted():
            job.state, job.completed_at, job.result, job.paused_at = "COMPLETED", event.at, event.result, None
        case JobFailed():
            job.state, job.failed_at, job.error, job.paused_at = "FAILED", event.at, event.error, None
        case JobCancelled():
            job.state, job.paused_at = "CANCELLED", None
            _remember(job, event.key)
        case JobDeleted():
            work.deleted = True
        case JobPaused() | JobResumed():
            job.paused_at = event.at if isinstance(event, JobPaused) else None
            _remember(job, event.key)
            for row in work.active():  # what is said of them changes
                if row.state == "SCHEDULED" or row.composite is not None:
                    work.touched[row.id] = row
        case JobRestarted():
            _restart(work, job, event)
        case _:
            assert_never(event)
    if work.sealed or getattr(event, "sealed", None):
        work.keep_sealed(event)


def _restart(work: JobWork, job: JobRow, event: JobRestarted) -> None:
    job.run, job.state, job.failed_at, job.error = event.run, "RUNNING", None, ""
    job.completed_at, job.result = None, ""
    if (job.id, "result") in work.sealed:
        work.sealed[job.id, "result"] = work.set_sealed[job.id, "result"] = ""
    _remember(job, event.key)
    if event.parent is not None:
        job.parent = event.parent
    if event.anew:
        job.position, job.progress, job.started_at, job.redo = 1, 0.0, event.at, None
        work.clear()
        return
    job.started_at = job.started_at or event.at
    if event.redo is not None:
        job.redo, job.position = event.redo, event.redo.indexes[0]
    else:
        job.position = max(job.position, 1)
        if job.redo is not None:  # the task where it ended runs whole, and what ended well after it is kept
            again = {index: row for index, row in job.redo.again.items() if index != job.position}
            job.redo = Redo(indexes=job.redo.indexes, again=again)


def _remember(job: JobRow, request: str) -> None:
    """Of what no fence protects, the row knows what was carried out."""
    if request:
        job.restarted_by = remembered(job.restarted_by, request)


def remembered(requests: str, request: str) -> str:
    """The last requests with another one."""
    return " ".join([*requests.split(), request][-REQUESTS_KEPT:])


def is_timed(work: JobWork, event: JobEvent) -> bool:
    """Whether an event, once folded, has set or ended a timer; most jobs have none, and cost whoever follows timers nothing."""
    match event:
        case JobDelayed() | TaskDelayed() | TaskQueued():
            return True
        case JobStarted() | JobCancelled():
            return work.job is not None and work.job.definition.is_delayed
        case TaskStarted():
            return event.deadline is not None
        case JobCompleted():
            return event.delete_at is not None
        case JobRestarted() | JobDeleted():
            return work.job is not None and work.job.definition.auto_delete is not None
        case TaskCompleted() | TaskFailed() | TaskRedelivered() | TaskCancelled():
            return work.tasks[event.task].definition.is_timed
        case _:
            return False


def _row(
    job: JobRow, event: TaskDispatched | TaskDelayed | TaskSkipped | TaskRefused | TaskOpened, state: str, attempt: int = 1
) -> TaskRow:
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
        parent=event.parent,
    )


def _add(work: JobWork, task: TaskRow) -> None:
    work.put(task)
    work.touched[task.id] = task
    if task.attempt == 1 and (composite := _parent(work, task)) is not None:
        composite.opened += 1


def _touch(work: JobWork, task: TaskId) -> TaskRow:
    row = work.touched[task] = work.tasks[task]
    return row


def _end(work: JobWork, task: TaskId, state: str) -> TaskRow:
    row = _touch(work, task)
    row.state = state
    work.open -= 1
    if row.composite is not None:
        work.subjobs.pop(task, None)
    return row


def _parent(work: JobWork, task: TaskRow) -> Composite | None:
    """The composite that a row is below, about to change; a follower of the log may not know it."""
    row = work.tasks.get(task.parent) if task.parent is not None else None
    if row is None:
        return None
    work.touched[row.id] = row
    return row.composite


def _counted(work: JobWork, task: TaskRow, job_progress: float | None, *, well: bool = True) -> None:
    """A row ended and its job goes on: the composite above counts it, or the job stands at the next task."""
    job = work.job
    assert job is not None
    if task.parent is None:
        job.position = _next(job, task.position)
        job.progress = max(job.progress, round(task.position / job.task_count * 100, 2))
        return
    composite = _parent(work, task)
    if composite is not None and well:
        composite.completions += 1
    elif composite is not None:
        composite.failures += 1
    if job_progress is not None:
        job.progress = job_progress


def _next(job: JobRow, position: int) -> int:
    """The position after one whose task has ended."""
    if job.redo is None:
        return position + 1
    left = job.redo.indexes
    while left and left[0] <= position:
        left = left[1:]
    job.redo = Redo(indexes=left, again=job.redo.again) if left else None
    return left[0] if left else position + 1


def _failed(work: JobWork, task: TaskRow, event: TaskFailed | TaskRefused) -> None:
    if not event.counts:
        return
    well = event.counts == "ignored"
    if not well and task.parent is None and work.job is not None and not work.job.error:
        work.job.error = blame(task.definition.name, event.error)
    _counted(work, task, event.job_progress, well=well)


def blame(name: str, error: str) -> str:
    """A task's error as its job tells it."""
    return f"task {name!r}: {error}"
