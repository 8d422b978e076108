"""A job played to its end: the real rules, with workers that do as a table says, and whatever waits said again."""

import itertools
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import msgspec

from tests.support.memory.database import ended_of
from tests.support.scenario import JOB, NOW, W1
from windlass.coordinator.job import pasts
from windlass.coordinator.job.decide import may_open, run_to_end
from windlass.coordinator.job.evaluation import Context, Form
from windlass.coordinator.job.outgoing import advance_due
from windlass.coordinator.template import Costly, render, settle
from windlass.errors import Invalid, WindlassError
from windlass.eventlog.rows import ENDED, TaskRow
from windlass.eventlog.state import JobWork, evolve
from windlass.ids import JobId
from windlass.messages.commands import (
    AdvanceJob,
    ClaimTask,
    CompleteTask,
    ExpandTask,
    FailTask,
    How,
    JobCommand,
    QueueTask,
    RestartJob,
    SubmitJob,
)
from windlass.messages.events import JobEvent, JobSubmitted, TaskOpened
from windlass.messages.jobs import Job

Does = Callable[[TaskRow], str | Exception]
"""What a task's program does: its result, or an exception that holds its error."""


class Play:
    """Jobs in memory, decided one command at a time. The clock moves a millisecond each."""

    def __init__(self, does: Does | None = None) -> None:
        self.works: dict[JobId, JobWork] = {}
        self.whole: dict[JobId, JobWork] = {}
        """Each job's log folded from its beginning."""
        self.log: list[tuple[JobId, JobEvent]] = []
        self.now: datetime = NOW
        self.does: Does = does or (lambda row: "")
        self.restarts = self.biggest = 0
        """The most rows that were at work at a time."""

    def say(self, command: JobCommand) -> list[JobEvent]:
        """Decide a command; the events, of whatever job."""
        self.now += timedelta(milliseconds=1)
        self.works.setdefault(command.job, JobWork())
        steps = run_to_end(command, self.works, self.now, patient, evolve)
        for work, event in steps:
            job = event.job if isinstance(event, JobSubmitted) else _id(work)
            self.log.append((job, event))
            evolve(self.whole.setdefault(job, JobWork()), event)
        self.biggest = max(self.biggest, *(work.open for work in self.works.values()))
        self.tidy()
        return [event for _, event in steps]

    def tidy(self) -> None:
        """Forget what cannot change any more, as the shell does after a commit."""
        for work in self.works.values():
            for row in list(work.touched.values()):
                if row.state not in ("PENDING", "SCHEDULED", "RUNNING"):
                    work.tasks.pop(row.id, None)
                    work.lists.pop(row.id, None)
            work.touched.clear()
            work.listed.clear()
            work.set_variables.clear()

    def restart(self, how: How = "", job: JobId = JOB) -> "Play":
        """Somebody lets a job run again, and what it was is in memory then."""
        self.restarts += 1
        self.recall(job)
        self.say(RestartJob(job=job, key=f"restart-{self.restarts}", how=how))
        return self

    def recall(self, job: JobId) -> None:
        """What became of a job that has ended, and of its composites, and of the jobs below it."""
        whole, work = self.whole[job], self.works[job]
        rows = list(whole.tasks.values())
        ended = ended_of(rows, [job], [row.id for row in rows], whole.lists)
        assert whole.job is not None
        work.pasts[job] = pasts.of_job(whole.job, ended)
        for row in rows:
            if row.composite is not None:
                work.pasts[row.id] = pasts.of_composite(row.id, ended)
                if row.composite.subjob is not None and row.composite.subjob != job:
                    self.recall(row.composite.subjob)

    def submit(self, definition: Job, job: JobId = JOB) -> "Play":
        """A job comes in."""
        self.say(SubmitJob(job=job, definition=definition))
        return self

    def active(self, state: str) -> list[TaskRow]:
        """The rows in a state, of all jobs."""
        return [row for work in self.works.values() for row in work.active() if row.state == state]

    def due(self) -> list[JobCommand]:
        """What waiting rows would have said again."""
        found: list[JobCommand] = []
        for job, work in self.works.items():
            row = work.job
            if row is not None and advance_due(work, row):
                found.append(AdvanceJob(job=job, run=row.run, position=row.position))
            found += [
                ExpandTask(job=job, task=task.id, opened=task.composite.opened)
                for task in work.active()
                if task.composite is not None and may_open(work, task)
            ]
        return found

    def ready(self) -> list[TaskRow]:
        """The rows that a worker may start."""
        rows = [row for row in self.active("SCHEDULED") if row.composite is None]
        return [row for row in rows if self.works[row.job].job.paused_at is None]  # type: ignore[union-attr]

    def ring(self, row: TaskRow) -> None:
        """Its time has come."""
        self.say(QueueTask(job=row.job, task=row.id, attempt=row.attempt))

    def claim(self, row: TaskRow) -> None:
        """A worker starts it."""
        self.say(ClaimTask(job=row.job, run=row.run, task=row.id, attempt=row.attempt, worker=W1))

    def finish(self, row: TaskRow) -> None:
        """And its program ends."""
        fence = {"job": row.job, "run": row.run, "task": row.id, "attempt": row.attempt, "worker": W1}
        outcome = self.does(row)
        if isinstance(outcome, Exception):
            self.say(FailTask(**fence, error=str(outcome)))  # type: ignore[arg-type]  # the fence's fields
        else:
            self.say(CompleteTask(**fence, result=outcome))  # type: ignore[arg-type]

    def run(self, most: int = 100_000) -> "Play":
        """Go on until nothing is left to do."""
        for _ in range(most):
            if due := self.due():
                self.say(due[0])
            elif waiting := self.ready():
                self.claim(waiting[0])
                if waiting[0].state == "RUNNING":
                    self.finish(waiting[0])
            elif timed := self.active("PENDING"):
                self.ring(timed[0])
            else:
                return self
        raise AssertionError("it does not end")

    def row(self, job: JobId = JOB) -> "object":
        """A job's row."""
        return self.whole[job].job

    def state(self, job: JobId = JOB) -> str:
        """Of a job."""
        row = self.whole[job].job
        assert row is not None
        return row.state

    def tasks(self, job: JobId = JOB) -> dict[str, str]:
        """The state of each step's last row, by key."""
        return {row.key: row.state for row in self.whole[job].tasks.values()}

    def names(self, states: Iterable[str] = ("COMPLETED",), job: JobId = JOB) -> list[str]:
        """The names of rows in some states, in the order in which they came to be."""
        return [row.definition.name for row in self.whole[job].tasks.values() if row.state in states]

    def check(self) -> None:
        """What holds of every job at any time."""
        kept = {event.task: event.kept for _, event in self.log if isinstance(event, TaskOpened)}
        for job, whole in self.whole.items():
            work = self.works[job]
            assert whole.job is not None
            assert msgspec.to_builtins(work.job) == msgspec.to_builtins(whole.job)
            assert {row.id for row in work.active()} == {row.id for row in whole.active()}
            assert work.open == whole.open == len(work.active())
            if whole.job.state in ENDED:
                assert not whole.active(), job
            for row in whole.tasks.values():
                if row.composite is not None:
                    below = [one for one in whole.tasks.values() if one.parent == row.id]
                    last = {one.key: one for one in below}
                    assert row.composite.opened == kept.get(row.id, 0) + len(last)


def patient(template: str, context: Context, form: Form = "text") -> str:
    """The value of a template, also of one that takes long."""
    try:
        return render(template, context, form)
    except Costly as costly:
        answer = settle(costly.question)
        if isinstance(answer, Invalid):
            raise answer from None
        return answer


def refused(play: Play, command: JobCommand) -> WindlassError:
    """The error that a command meets."""
    try:
        play.say(command)
    except WindlassError as error:
        return error
    raise AssertionError("not refused")


def _id(work: JobWork) -> JobId:
    assert work.job is not None
    return work.job.id


def subjobs(play: Play) -> list[JobId]:
    """The jobs that others started, in their order."""
    return list(itertools.islice(play.whole, 1, None))
