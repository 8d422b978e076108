"""What must hold after every step, and what must hold when all is quiet again. Names are those of the guarantees."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from tests.simulation.telling import Telling
from tests.support.memory.database import Database
from tests.support.memory.runtime import Running
from windlass.coordinator.bare import USER
from windlass.eventlog.log import Appended, Batch
from windlass.eventlog.rows import ACTIVE, ENDED, JobRow, TaskRow
from windlass.eventlog.state import JobWork, evolve
from windlass.ids import JobId, shard_of
from windlass.messages.events import (
    JOB_EVENTS,
    JobCancelled,
    JobCompleted,
    JobDelayed,
    JobDeleted,
    JobEvent,
    JobFailed,
    JobRestarted,
    JobStarted,
    TaskCancelled,
    TaskCompleted,
    TaskDelayed,
    TaskDispatched,
    TaskFailed,
    TaskProgressed,
    TaskQueued,
    TaskRedelivered,
    TaskStarted,
)
from windlass.secrets.redaction import REDACTED

if TYPE_CHECKING:
    from tests.simulation.world import World

OPERATIONAL = ("drive_at", "drives", "stopping", "stored", "refused")
"""Columns that are not in the log."""


INSTANT_S = 1e-3
"""Two moments closer than this are one."""


class Checks:
    """Folds the log beside the services and compares; `fail` takes what is broken."""

    def __init__(
        self, fail: Callable[[str], None], time: Callable[[], float], true_s: Callable[[Appended], float], telling: Telling
    ) -> None:
        self._fail, self._time, self._true_s, self._telling = fail, time, true_s, telling
        self._due_s: dict[tuple[str, int], float] = {}
        """By row and attempt or run: when what waits for time to pass has waited as long as was decided, by the true clock."""
        self._works: dict[JobId, JobWork] = {}
        self._heads: Counter[int] = Counter()
        self._attempts: dict[tuple[JobId, int, str], int] = {}
        self._carried_out: set[tuple[str, str]] = set()
        """By message and job, what no fence protects."""
        self.refused: set[str] = set()
        """Messages whose sender was told that nothing comes of them."""
        self._started: dict[tuple[str, int], str] = {}
        self._ran: set[tuple[str, int]] = set()
        self.running: dict[tuple[str, int], Running] = {}
        """What runs now."""

    # -- after each commit ------------------------------------------------------------------------------------------

    def committed(self, database: Database, batch: Batch) -> None:
        """A batch was stored."""
        for stored in batch.events:
            job = JobId(stored.stream)
            work = self._works.setdefault(job, JobWork())
            self._heads[stored.shard] += 1
            if stored.position != self._heads[stored.shard]:
                self._fail(f"G9: shard {stored.shard} has {stored.position} after {self._heads[stored.shard] - 1}")
            if _message(stored) in self.refused:
                self._fail(f"G2: {_message(stored)} was refused, and then came {stored.type} of {stored.stream}")
            version = work.job.version if work.job is not None else 0
            if stored.version != version + 1:
                self._fail(f"G8: job {job} has version {stored.version} after {version}")
            event = JOB_EVENTS.decode(stored.type, stored.data)
            self._waits(stored, event)
            if isinstance(event, JobRestarted | JobCancelled):
                self._once(stored)
            self._follows(job, work, event)
            before = (work.job.state, work.job.progress) if work.job is not None else ("", 0.0)
            evolve(work, event)
            self._telling.committed(stored, before, work)
        for row in (*batch.new_jobs, *batch.changed_jobs):
            self._agrees(database, row)
            if row.state in ENDED:
                self._ends_whole(row)

    def _ends_whole(self, row: JobRow) -> None:
        """G11: with a job all those end that its tasks wait for."""
        for below in (work.job for work in self._works.values()):
            if below is not None and below.parent_job == row.id and below.state not in ENDED:
                self._fail(f"G11: job {row.id} is {row.state}, and job {below.id} below it is {below.state}")

    def _follows(self, job: JobId, work: JobWork, event: JobEvent) -> None:
        """Whether this may come after what there was."""
        name = type(event).__name__
        if work.deleted:
            self._fail(f"G8: {name} of job {job}, which is deleted")
        if work.job is not None and work.job.state in ENDED and not isinstance(event, JobRestarted | JobDeleted):
            self._fail(f"G8/G11: {name} of job {job} after its end as {work.job.state}")
        if isinstance(event, JobCompleted | JobFailed | JobCancelled):
            if work.active():
                self._fail(f"G4: job {job} ends while {work.active()[0].id} is {work.active()[0].state}")
        elif isinstance(event, TaskDispatched | TaskDelayed):
            self._newer(job, event.run, event.key, event.attempt)
        elif isinstance(event, TaskStarted | TaskProgressed | TaskCompleted | TaskFailed | TaskRedelivered | TaskCancelled):
            self._of_task(job, work, event)

    def _once(self, stored: Appended) -> None:
        """G4: what no fence protects is carried out once. (Numbers of what came by hand begin anew with a new broker.)"""
        message = _message(stored)
        if (message, stored.stream) in self._carried_out and not message.startswith(USER):
            self._fail(f"G4: {message} is carried out twice: {stored.type} of {stored.stream}")
        self._carried_out.add((message, stored.stream))

    def _waits(self, stored: Appended, event: JobEvent) -> None:
        """G18: nothing happens before its time, whatever clocks say."""
        match event:
            case JobDelayed():
                self._due_s[stored.stream, event.run] = self._true_s(stored) + (event.until - event.at).total_seconds()
            case TaskDelayed():
                self._due_s[event.task, event.attempt] = self._true_s(stored) + (event.until - event.at).total_seconds()
            case TaskStarted() if event.deadline is not None:
                self._due_s[event.task, event.attempt] = self._true_s(stored) + (event.deadline - event.at).total_seconds()
            case JobStarted():
                self._in_time(stored, stored.stream, event.run)
            case TaskQueued():
                self._in_time(stored, event.task, event.attempt)
            case TaskFailed() if event.reason == "deadline":
                self._in_time(stored, event.task, event.attempt)

    def _in_time(self, stored: Appended, row: str, number: int) -> None:
        early_s = self._due_s.get((row, number), 0.0) - self._time()
        if early_s > INSTANT_S:
            self._fail(f"G18: {stored.type} of {row} comes {early_s:.3f} s too soon")

    def _of_task(
        self,
        job: JobId,
        work: JobWork,
        event: TaskStarted | TaskProgressed | TaskCompleted | TaskFailed | TaskRedelivered | TaskCancelled,
    ) -> None:
        name, row = type(event).__name__, work.tasks.get(event.task)
        if row is None:
            self._fail(f"G4: {name} of task {event.task}, which is not there")
            return
        wanted = {"SCHEDULED"} if isinstance(event, TaskStarted) else ACTIVE if isinstance(event, TaskCancelled) else {"RUNNING"}
        if row.state not in wanted:
            self._fail(f"G4: {name} of task {event.task}, which is {row.state}")
        if isinstance(event, TaskStarted):
            if work.job is not None and work.job.paused_at is not None:
                self._fail(f"task {event.task} of job {job} starts while that is paused")
            self._started[event.task, event.attempt] = event.worker
        if isinstance(event, TaskRedelivered):
            self._newer(job, row.run, row.key, event.attempt)
        elif not isinstance(event, TaskCancelled) and event.attempt != row.attempt:
            self._fail(f"G5: {name} of attempt {event.attempt} of task {event.task}, which is at {row.attempt}")

    def _newer(self, job: JobId, run: int, key: str, attempt: int) -> None:
        before = self._attempts.get((job, run, key), 0)
        if attempt != before + 1:
            self._fail(f"G5: attempt {attempt} of step {key} of run {run} of job {job} after {before}")
        self._attempts[job, run, key] = attempt

    def _agrees(self, database: Database, row: JobRow) -> None:
        """G10 and G3 of one job."""
        work = self._works.get(row.id)
        if work is None or work.job is None or _plain(work.job) != _plain(row):
            self._fail(f"G10: job {row.id} is {row}, and its events say {work and work.job}")
            return
        for task in work.touched.values():
            stored = database.tasks.get(task.id)
            if stored is None or _plain(stored) != _plain(task):
                self._fail(f"G10: task {task.id} is {stored}, and its events say {task}")
        work.touched.clear()
        if work.variables != database.variables.get(row.id, {}):
            self._fail(f"G10: variables of job {row.id} are not those of its events")
        rows = [database.tasks[name] for name in database.tasks_of.get(row.id, ())]
        for stored in rows:
            waits = stored.state in ("SCHEDULED", "RUNNING") and stored.composite is None  # else those below it are waited for
            held = row.paused_at is not None and stored.state == "SCHEDULED"
            if (waits or stored.stopping) and stored.drive_at is None and not held:
                self._fail(f"G3: task {stored.id} is {stored.state} and nothing drives it")
        goes_on = row.state not in ENDED and row.run and row.paused_at is None
        if goes_on and row.drive_at is None and not any(stored.state in ACTIVE for stored in rows):
            self._fail(f"G3: job {row.id} waits for nothing")

    # -- running ----------------------------------------------------------------------------------------------------

    def began(self, running: Running) -> None:
        """A worker runs an attempt."""
        fence = (running.task.task, running.task.attempt)
        if REDACTED.encode() in msgspec.json.encode(running.task.definition):
            self._fail(f"attempt {fence[1]} of task {fence[0]} is not given its secrets")
        if fence in self._ran:
            self._fail(f"G5: attempt {fence[1]} of task {fence[0]} runs twice")
        if self._started.get(fence) != running.worker:
            self._fail(f"G5: {running.worker} runs attempt {fence[1]} of task {fence[0]}, granted to {self._started.get(fence)}")
        self._ran.add(fence)
        self.running[fence] = running

    def ended(self, running: Running) -> None:
        """It is over, whatever came of it."""
        self.running.pop((running.task.task, running.task.attempt), None)

    def all_ended(self, worker: str) -> None:
        """A worker died, and all that it ran with it."""
        for running in [running for running in self.running.values() if running.worker == worker]:
            self.ended(running)

    # -- at the end -------------------------------------------------------------------------------------------------

    def unquiet(self, database: Database) -> str | None:
        """What is still under way, if anything."""
        for job in database.jobs.values():
            if job.state not in ENDED:
                return f"G3: job {job.id} is {job.state}"
            if job.drive_at is not None:
                return f"an intent is left: job {job.id}"
        for task in database.tasks.values():
            if task.drive_at is not None or task.stopping:
                return f"an intent is left: task {task.id}, {task.state}, stopping {task.stopping!r}"
        if database.unswept:
            return f"of job {next(iter(database.unswept))}, which is deleted, something is left"
        for timer in database.following.timers.values():
            return f"a timer is left: {timer}"
        if owed := self._telling.unquiet():
            return owed
        if self.running:
            fence, program = next(iter(self.running.items()))
            return f"G6: attempt {fence[1]} of task {fence[0]} still runs on {program.worker}"
        return None

    def finished(self, world: "World") -> None:
        """All is quiet: the whole of the projections against the whole of the log."""
        database = world.database
        self._telling.finished()
        works: dict[JobId, JobWork] = {}
        for shard in database.events:
            for stored in shard:
                evolve(works.setdefault(JobId(stored.stream), JobWork()), JOB_EVENTS.decode(stored.type, stored.data))
        works = {job: work for job, work in works.items() if not work.deleted}
        if {job: _plain(row) for job, row in database.jobs.items()} != {job: _plain(work.job) for job, work in works.items()}:
            self._fail("G10: the rows of jobs are not the fold of the log")
        tasks = {name: _plain(row) for work in works.values() for name, row in work.tasks.items()}
        if {name: _plain(row) for name, row in database.tasks.items()} != tasks:
            self._fail("G10: the rows of tasks are not the fold of the log")
        counts = Counter((shard_of(job, len(database.shards)), row.state) for job, row in database.jobs.items())
        if +database.counts != +counts:
            self._fail(f"G10: counts are {+database.counts}, and the rows say {counts}")
        if set(database.variables) - set(database.jobs) or {part.job for part in database.logs.values()} - set(database.jobs):
            self._fail("of a deleted job variables or output are left")
        if set(database.job_keys) - set(database.jobs) or {whose for whose, _ in database.sealed} - {
            *database.jobs,
            *database.tasks,
        }:
            self._fail("of a deleted job a key is left, or what it sealed")
        for what, said in (
            ("deliveries", database.deliveries.shown()),
            ("output", list(database.logs.values())),
            ("quarantine", list(database.quarantined.values())),
        ):
            world.hears(what, repr(said).encode())
        world.hears("the trace", "\n".join(world.lines()).encode())
        if [shard.head for shard in database.shards] != [len(events) for events in database.events]:
            self._fail("G9: a head is not where its log ends")


def _message(stored: Appended) -> str:
    """From which message it came."""
    return str(msgspec.json.decode(stored.metadata).get("message", USER))


def _plain(row: JobRow | TaskRow | None) -> dict[str, object]:
    """A row without what is not in the log."""
    assert row is not None
    fields = msgspec.structs.asdict(row)
    for name in OPERATIONAL:
        fields.pop(name, None)
    return fields
