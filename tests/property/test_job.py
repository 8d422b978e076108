"""A job under any interleaving of commands, repeated, late and wrong ones included."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.scenario import JOB, THEN, W1, W2, render, rows, submit
from windlass import ids
from windlass.coordinator.job.decide import OPENED_MAX, run_to_end
from windlass.coordinator.job.outgoing import advance_due
from windlass.errors import NotFound, Rejected
from windlass.eventlog.follow import Recorded
from windlass.eventlog.rows import ACTIVE, ENDED, TaskRow
from windlass.eventlog.state import JobWork, evolve, is_timed
from windlass.ids import TaskId, WorkerId
from windlass.messages.commands import (
    AdvanceJob,
    CancelJob,
    ClaimTask,
    CompleteTask,
    ExpireTask,
    FailTask,
    Fence,
    JobCommand,
    LoseTask,
    QueueTask,
    ReportProgress,
    StartJob,
)
from windlass.messages.envelope import tag_of
from windlass.messages.events import (
    JOB_EVENTS,
    JobEvent,
    TaskDelayed,
    TaskDispatched,
    TaskRedelivered,
    TaskRefused,
    TaskSkipped,
    TaskStarted,
)
from windlass.messages.jobs import Job, Retry, Task
from windlass.scheduler.timers import Kind, Timer, changes, command
from windlass.settings import LOST_ATTEMPTS_MAX

JOB_ENDS = {"job.completed", "job.failed", "job.cancelled"}
TASK_ENDS = {"task.completed", "task.failed", "task.cancelled", "task.skipped", "task.refused"}
WORKERS = (W1, W2)

_tasks = st.builds(
    Task,
    name=st.sampled_from(["a", "b"]),
    run=st.just("true"),
    var=st.sampled_from(["", "x", "y"]),
    if_=st.sampled_from(["", "", "", "true", "false", "{{ tasks.x }}"]),
    env=st.sampled_from([{}, {}, {}, {"E": "{{ tasks.x }}"}]),
    retry=st.sampled_from([None, None, Retry(limit=1), Retry(limit=3), Retry(limit=2, delay="3s")]),
    timeout=st.sampled_from(["", "", "10s"]),
)
_row = st.sampled_from([0, 0, 0, 0, 0, OPENED_MAX - 1, OPENED_MAX, 2 * OPENED_MAX + 1])


class Life(RuleBasedStateMachine):
    """One job, its owner's working set, and its log."""

    def __init__(self) -> None:
        super().__init__()
        self.now: datetime = THEN
        self.work = JobWork()
        self.whole = JobWork()
        """The log folded from its beginning, never thrown away."""
        self.log: list[JobEvent] = []
        self.timers: dict[str, Timer] = {}
        """What the scheduler knows, who is told of the marked events alone."""
        self.said: list[JobCommand] = []
        self.definition = Job(name="j", tasks=())

    @initialize(
        is_first=st.sampled_from([True, True, True, False]),
        tasks=st.lists(_tasks, min_size=0, max_size=4),
        row=_row,
        output=st.sampled_from(["", "done", "{{ tasks.y }}"]),
        delay=st.sampled_from(["", "", "", "1m"]),
    )
    def choose(self, is_first: bool, tasks: list[Task], row: int, output: str, delay: str) -> None:
        skipped = (Task(name="s", run="true", if_="false"),) * row
        first = (Task(name="first", run="true", var="x", retry=Retry(limit=2, delay="1s"), timeout="1m"),) * is_first
        self.definition = Job(name="j", tasks=first + skipped + tuple(tasks), output=output, delay=delay)
        self.command(submit(self.definition))

    # -- what may come ----------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.said) > 15)
    @rule(chance=st.integers(0, 5))
    def cancel(self, chance: int) -> None:
        if chance == 0:
            self.command(CancelJob(job=JOB))

    @precondition(lambda self: self.work.job is not None and len(self.definition.tasks) > OPENED_MAX)
    @rule(back=st.sampled_from([0, 0, 0, 1, OPENED_MAX]))
    def advance(self, back: int) -> None:
        assert self.work.job is not None
        self.command(AdvanceJob(job=JOB, run=1, position=max(0, self.work.job.position - back)))

    @precondition(lambda self: self.timers)
    @rule()
    def fire(self) -> None:
        """The scheduler says what is due."""
        for timer in list(self.timers.values()):
            self.command(command(timer.kind, timer.job, timer.id, timer.number))

    @precondition(lambda self: self.work.job is not None and self.whole.tasks)
    @rule(data=st.data(), attempts=st.integers(-1, 1), runs=st.integers(0, 2))
    def fire_out_of_turn(self, data: st.DataObject, attempts: int, runs: int) -> None:
        """Timers of other attempts, other runs and rows that do not wait."""
        row = data.draw(st.sampled_from(list(self.whole.tasks.values())))
        timed = {timer.id: timer for timer in self.timers.values()}
        for kind in (QueueTask, ExpireTask):
            timer, attempt = timed.get(row.id), row.attempt + attempts
            if timer is None or timer.number != attempt:
                before = len(self.log)
                if row.state in ("PENDING", "RUNNING") and attempts == 0:
                    continue  # a deadline that it does not have: nobody says that
                self.command(kind(job=JOB, task=row.id, attempt=attempt))
                assert len(self.log) == before
        if not any(timer.kind is Kind.START for timer in self.timers.values()):
            before = len(self.log)
            self.command(StartJob(job=JOB, run=runs))
            assert len(self.log) == before

    @precondition(lambda self: self.in_state("SCHEDULED"))
    @rule(worker=st.sampled_from(WORKERS))
    def claim(self, worker: WorkerId) -> None:
        for row in self.in_state("SCHEDULED"):
            self.command(ClaimTask(job=JOB, run=row.run, task=row.id, attempt=row.attempt, worker=worker))

    @precondition(lambda self: self.in_state("RUNNING"))
    @rule(value=st.floats(-5, 120) | st.sampled_from([10.0, 20.0]))
    def progress(self, value: float) -> None:
        for row in self.in_state("RUNNING"):
            self.command(ReportProgress(**self.fence(row), progress=value))

    @precondition(lambda self: self.in_state("RUNNING"))
    @rule(result=st.sampled_from(["", "false", "7", "a\0b"]))
    def complete(self, result: str) -> None:
        for row in self.in_state("RUNNING"):
            self.command(CompleteTask(**self.fence(row), result=result))

    @precondition(lambda self: self.in_state("RUNNING"))
    @rule(reason=st.sampled_from(["failed", "timeout", "stopped", "lost", "released"]), times=st.sampled_from([1, 1, 2, 4]))
    def fail(self, reason: str, times: int) -> None:
        for _ in range(times):
            for row in self.in_state("RUNNING"):
                self.command(FailTask(**self.fence(row), error="e", reason=reason))
            if times > 1:
                self.claim(W1)

    @precondition(lambda self: self.in_state("RUNNING"))
    @rule(times=st.sampled_from([1, 1, 1, LOST_ATTEMPTS_MAX + 1]))
    def lose(self, times: int) -> None:
        for _ in range(times):
            for row in self.in_state("RUNNING"):
                self.command(LoseTask(**self.fence(row)))
            if times > 1:
                self.claim(W1)

    @precondition(lambda self: self.in_state("RUNNING"))
    @rule()
    def another_worker_speaks(self) -> None:
        for row in self.in_state("RUNNING"):
            other = {**self.fence(row), "worker": W2 if row.worker == W1 else W1}
            self.command(ClaimTask(**other))
            self.command(ReportProgress(**other, progress=33))
            self.command(FailTask(**other, error="e"))

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def say_again(self, data: st.DataObject) -> None:
        """The broker delivers something once more, however late."""
        self.command(data.draw(st.sampled_from(self.said)))

    @precondition(lambda self: any(isinstance(one, Fence) for one in self.said))
    @rule(data=st.data(), attempts=st.integers(-1, 1), runs=st.integers(0, 1), worker=st.sampled_from(WORKERS))
    def say_with_another_fence(self, data: st.DataObject, attempts: int, runs: int, worker: WorkerId) -> None:
        said = data.draw(st.sampled_from([one for one in self.said if isinstance(one, Fence)]))
        wrong = msgspec.structs.replace(said, attempt=said.attempt + attempts, run=said.run + runs, worker=worker)
        self.command(wrong)

    @rule()
    def lose_the_cache(self) -> None:
        """Another owner loads what it needs: the job, what can change of its tasks, its variables."""
        fresh = JobWork(job=self.whole.job, variables=dict(self.whole.variables))
        fresh.tasks = {row.id: row for row in self.whole.tasks.values() if row.state in ACTIVE}
        self.work = msgspec_copy(fresh)

    def fire_waits(self) -> None:
        for timer in list(self.timers.values()):
            if timer.kind is not Kind.DEADLINE:
                self.command(command(timer.kind, timer.job, timer.id, timer.number))

    # -- how it is decided ------------------------------------------------------------------------------------------

    def in_state(self, state: str) -> list[TaskRow]:
        return [row for row in self.work.active() if row.state == state]

    @staticmethod
    def fence(row: TaskRow) -> dict[str, Any]:
        return {"job": JOB, "run": row.run, "task": row.id, "attempt": row.attempt, "worker": row.worker}

    def command(self, command: JobCommand) -> None:
        self.said.append(command)
        self.now += timedelta(milliseconds=1)
        if isinstance(command, Fence) and command.task not in self.work.tasks and command.task in self.whole.tasks:
            self.work.put(msgspec_row(self.whole.tasks[command.task]))  # as the shell loads what is named
        try:
            steps = run_to_end(command, {JOB: self.work}, self.now, render, evolve)
            events = [event for _, event in steps]
        except Rejected:
            return
        except NotFound:
            assert self.work.job is None
            return
        if isinstance(command, Fence) and not isinstance(command, ClaimTask) and events:
            granted = [event for event in self.log if isinstance(event, TaskStarted) and event.task == command.task]
            assert (granted[-1].attempt, granted[-1].worker) == (command.attempt, command.worker)
        for event in events:
            data = msgspec.json.encode(event).decode()
            self.log.append(JOB_EVENTS.decode(tag_of(event), data))
            evolve(self.whole, self.log[-1])
            if is_timed(self.work, event):
                self.follow(Recorded(0x2A % 16, len(self.log), JOB, len(self.log), "job", tag_of(event), data, "{}", self.now))
        self.decide_again(command)

    def follow(self, event: Recorded) -> None:
        for row, timer in changes([event]).items():
            if timer is None:
                self.timers.pop(row, None)
            else:
                self.timers[row] = timer

    def decide_again(self, command: JobCommand) -> None:
        """Deciding twice adds nothing."""
        try:
            assert run_to_end(command, {JOB: self.work}, self.now + timedelta(seconds=1), render, evolve) == []
        except Rejected:
            return

    # -- what always holds ------------------------------------------------------------------------------------------

    @invariant()
    def memory_is_what_the_log_says(self) -> None:
        assert self.work.job == self.whole.job
        assert self.work.variables == self.whole.variables
        for row in self.work.tasks.values():
            assert row == self.whole.tasks[row.id]
        assert {row.id for row in self.work.active()} == {row.id for row in self.whole.active()}

    @invariant()
    def what_waits_for_time_has_a_timer_and_nothing_else_has(self) -> None:
        job = self.work.job
        waiting: dict[str, tuple[Kind, int]] = {}
        if job is not None and job.state == "PENDING":
            waiting[job.id] = (Kind.START, job.run + 1)
        for row in self.work.active():
            if row.state == "PENDING":
                waiting[row.id] = (Kind.RETRY, row.attempt)
            elif row.state == "RUNNING" and row.definition.timeout:
                waiting[row.id] = (Kind.DEADLINE, row.attempt)
        assert {row: (timer.kind, timer.number) for row, timer in self.timers.items()} == waiting

    @invariant()
    def versions_have_no_gap(self) -> None:
        assert (self.work.job.version if self.work.job is not None else 0) == len(self.log)

    @invariant()
    def it_ends_once_and_then_nothing_happens(self) -> None:
        tags = [tag_of(event) for event in self.log]
        ends = [index for index, tag in enumerate(tags) if tag in JOB_ENDS]
        assert len(ends) <= 1
        if ends:
            assert ends[0] == len(tags) - 1
            assert self.work.job is not None
            assert self.work.job.state in ENDED
            assert not self.work.active()

    @invariant()
    def a_row_ends_once_and_an_attempt_starts_once(self) -> None:
        ended = Counter(event.task for event in self.log if tag_of(event) in TASK_ENDS)  # type: ignore[union-attr]  # of a task
        assert not ended or max(ended.values()) == 1
        begun = Counter((event.task, event.attempt) for event in self.log if isinstance(event, TaskStarted))
        assert not begun or max(begun.values()) == 1

    @invariant()
    def attempts_count_up_within_their_limits(self) -> None:
        attempts: dict[str, int] = {}
        keys: dict[TaskId, str] = {}
        made, lost = Counter[str](), Counter[TaskId]()
        for event in self.log:
            match event:
                case TaskDispatched() | TaskDelayed():
                    keys[event.task] = event.key
                    made[event.key] += 1
                    assert event.attempt == attempts.get(event.key, 0) + 1
                    attempts[event.key] = event.attempt
                case TaskRedelivered():
                    key = keys[event.task]
                    lost[event.task] += event.reason == "lost"
                    assert event.attempt == attempts[key] + 1
                    attempts[key] = event.attempt
                case TaskSkipped() | TaskRefused():
                    made[event.key] += 1
        for key, rows_made in made.items():
            retry = self.definition.tasks[int(key) - 1].retry
            assert rows_made <= 1 + (retry.limit if retry is not None else 0)
        assert not lost or max(lost.values()) <= LOST_ATTEMPTS_MAX

    @invariant()
    def somebody_is_waited_for_until_it_ends(self) -> None:
        job = self.work.job
        if job is not None and job.state not in ENDED:
            assert len(self.work.active()) == 1 or job.state == "PENDING" or advance_due(self.work, job)
            assert all(row.position == job.position for row in self.work.active())

    @invariant()
    def everything_is_in_the_shard_of_the_job(self) -> None:
        assert {ids.byte_of(row) for row in self.whole.tasks} <= {ids.byte_of(JOB)}

    def teardown(self) -> None:
        """Folding in parts equals folding whole, and whatever happened, the job can be brought to its end."""
        parts = JobWork()
        for start in range(0, len(self.log), 3):
            for event in self.log[start : start + 3]:
                evolve(parts, event)
            parts.touched.clear()
            parts.to_stop.clear()
        assert rows(parts) == rows(self.whole)
        if self.work.job is None:
            return
        for _ in range(4 * len(self.definition.tasks) + 4):
            if self.work.job.state in ENDED:
                break
            self.fire_waits()
            if not self.work.active():
                self.command(AdvanceJob(job=JOB, run=1, position=self.work.job.position))
            if self.in_state("SCHEDULED"):
                self.claim(W1)
            if self.in_state("RUNNING"):
                self.complete("7")
        assert self.work.job.state in ENDED
        self.it_ends_once_and_then_nothing_happens()


def msgspec_row(row: TaskRow) -> TaskRow:
    """A row as it comes back from where it is stored."""
    return msgspec.structs.replace(row)


def msgspec_copy(work: JobWork) -> JobWork:
    """A working set of its own rows."""
    copy = JobWork(job=msgspec.structs.replace(work.job) if work.job is not None else None)
    for name, value in work.variables.items():
        copy.set(name, value)
    for row in work.tasks.values():
        copy.put(msgspec_row(row))
    return copy


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
