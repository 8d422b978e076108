"""Timers as events tell of them: which row waits until when, and what is said when its time has come."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from windlass.eventlog.follow import Recorded
from windlass.ids import JobId, TaskId
from windlass.messages.commands import DeleteJob, ExpireTask, QueueTask, StartJob
from windlass.messages.commands import Timer as Command
from windlass.messages.events import (
    JOB_EVENTS,
    JobCancelled,
    JobCompleted,
    JobDelayed,
    JobDeleted,
    JobEvent,
    JobRestarted,
    JobStarted,
    TaskCancelled,
    TaskCompleted,
    TaskDelayed,
    TaskFailed,
    TaskQueued,
    TaskRedelivered,
    TaskStarted,
)


class Kind(StrEnum):
    """What a timer is for."""

    START = "start"
    RETRY = "retry"
    DEADLINE = "deadline"
    DELETE = "delete"


PROMPT = timedelta(seconds=10)
"""An event that is read so soon is timed from its reading, and nobody's clock is asked."""


class Timer(msgspec.Struct, frozen=True, kw_only=True):
    """A row that waits: a task, or a job before its start.

    `number` is the run that is to start, the attempt, or the version of a job that is to be deleted: the fence of what will be
    said. The moments are by the clock of the coordinator that decided them.
    """

    id: str
    job: JobId
    kind: Kind
    number: int
    shard: int
    set_at: datetime
    due_at: datetime


def changes(events: Iterable[Recorded]) -> dict[str, Timer | None]:
    """What a page of events leaves of the timers of those rows that it speaks of: the last one set, or None."""
    found: dict[str, Timer | None] = {}
    for event in events:
        if event.kind == "job" and event.type in JOB_EVENTS:  # an unknown type is of a later release, which has other timers
            found.update(_change(event, JOB_EVENTS.decode(event.type, event.data)))
    return found


def _change(recorded: Recorded, event: JobEvent) -> dict[str, Timer | None]:
    job = JobId(recorded.stream)

    def timer(row: str, kind: Kind, number: int, due_at: datetime) -> dict[str, Timer | None]:
        made = Timer(id=row, job=job, kind=kind, number=number, shard=recorded.shard, set_at=event.at, due_at=due_at)
        return {row: made}

    match event:
        case JobDelayed():
            return timer(job, Kind.START, event.run, event.until)
        case TaskDelayed():
            return timer(event.task, Kind.RETRY, event.attempt, event.until)
        case TaskStarted() if event.deadline is not None:
            return timer(event.task, Kind.DEADLINE, event.attempt, event.deadline)
        case JobCompleted() if event.delete_at is not None:
            return timer(job, Kind.DELETE, recorded.version, event.delete_at)
        case JobStarted() | JobCancelled() | JobRestarted() | JobDeleted():
            return {job: None}
        case TaskStarted() | TaskQueued() | TaskCompleted() | TaskFailed() | TaskRedelivered() | TaskCancelled():
            return {event.task: None}
        case _:
            return {}


def fires_at(timer: Timer, now: datetime, level: datetime | None) -> datetime:
    """When a timer fires, in the schedulers' time, which is `now` as its event is read.

    It lasts as long as was decided, whatever the clocks of two machines say. `level` is when the log had no such event yet
    (None: nobody knows), so the event was written between then and now. If that is no long time, the timer lasts from now: it
    is late by what reading took, and never early. Where nobody has read for longer, the event's own stamp decides, if it is
    from that time; any other is of a clock that is wrong.
    """
    lasts = timer.due_at - timer.set_at
    is_believed = level is not None and now - level > PROMPT and level <= timer.set_at <= now
    return timer.due_at if is_believed else now + lasts


def command(kind: Kind, job: JobId, row: str, number: int) -> Command:
    """What is said when a timer fires."""
    match kind:
        case Kind.START:
            return StartJob(job=job, run=number)
        case Kind.RETRY:
            return QueueTask(job=job, task=TaskId(row), attempt=number)
        case Kind.DEADLINE:
            return ExpireTask(job=job, task=TaskId(row), attempt=number)
        case Kind.DELETE:
            return DeleteJob(job=job, version=number)
