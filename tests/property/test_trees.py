"""Jobs of any shape under any interleaving: they end as a reader of their definition would say who knows nothing of time."""

import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from itertools import count
from typing import NamedTuple

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.support.play import Play
from tests.support.scenario import JOB, W1
from windlass.errors import WindlassError
from windlass.eventlog.rows import ENDED, TaskRow
from windlass.eventlog.state import JobWork
from windlass.ids import JobId
from windlass.messages.commands import CancelJob, How, JobCommand, LoseTask, PauseJob, ResumeJob
from windlass.messages.envelope import tag_of
from windlass.messages.jobs import Each, Job, Parallel, Retry, SubJob, Task

TASK_ENDS = {"task.completed", "task.failed", "task.cancelled", "task.skipped", "task.refused"}
JOB_ENDS = {"job.completed", "job.failed", "job.cancelled"}
WELL = {"COMPLETED", "SKIPPED"}
FAILS = (0, 0, 0, 1, 9)
"""How often a program fails before it does not."""


# -- what jobs there are ----------------------------------------------------------------------------------------------


@st.composite
def trees(draw: st.DrawFn) -> tuple[Task, ...]:
    """The tasks of a job; every name is another, that of an element has its index."""
    numbers = count(1)

    def task(depth: int, around: str) -> Task:
        name = f"t{next(numbers)}"
        shown = name + around
        how = draw(st.sampled_from(["", "", "", "continue", "ignore"]))
        kind = draw(st.sampled_from(["leaf", "leaf", "parallel", "each", "subjob"])) if depth else "leaf"
        if kind == "parallel":
            children = tuple(task(depth - 1, around) for _ in range(draw(st.integers(1, 3))))
            needed = draw(st.sampled_from([0, 0, len(children) - 1]))
            return Task(name=shown, parallel=Parallel(tasks=children, min_success=needed), on_error=how)
        if kind == "each":
            size, var = draw(st.integers(0, 4)), f"i{next(numbers)}"
            inner = task(depth - 1, f"{around}.{{{{ {var}.value }}}}")
            needed = draw(st.sampled_from([0, 0, max(size - 1, 0)]))
            concurrency = draw(st.sampled_from([0, 1, 2]))
            each = Each(list=f"sequence(0, {size})", var=var, task=inner, concurrency=concurrency, min_success=needed)
            return Task(name=shown, each=each, on_error=how)
        if kind == "subjob":
            below = tuple(task(depth - 1, "") for _ in range(draw(st.integers(1, 2))))
            detached = draw(st.sampled_from([False, False, True]))
            return Task(name=shown, subjob=SubJob(name=f"job {name}", tasks=below, detached=detached), on_error=how)
        return Task(
            name=shown,
            run="true",
            if_=draw(st.sampled_from(["", "", "", "false"])),
            var=draw(st.sampled_from(["", f"v_{name}{around.replace('.value', '.index')}"])),
            retry=draw(st.sampled_from([None, None, Retry(limit=1), Retry(limit=2, delay="1s")])),
            delay=draw(st.sampled_from(["", "", "1s"])),
            on_error=how,
        )

    return tuple(task(3, "") for _ in range(draw(st.integers(1, 3))))


def fails(table: Sequence[int], name: str) -> int:
    """How often the program of a task fails."""
    return table[zlib.crc32(name.encode()) % len(table)]


# -- the reference ----------------------------------------------------------------------------------------------------


class Expected(NamedTuple):
    """Whether a step ends well, and what is sure to be below it, whatever comes first: by key, whether that ends well."""

    well: bool
    below: dict[str, bool]
    variables: dict[str, str]


def step(task: Task, key: str, around: dict[str, int], table: Sequence[int]) -> Expected:
    """One step, and all that runs in its place; nothing is cancelled from above."""
    name = _evaluated(task.name, around)
    if task.subjob is not None:
        return Expected(task.subjob.detached or sequence(task.subjob.tasks, table).well, {}, {})
    if task.parallel is not None:
        needed = task.parallel.min_success
        return _together(
            [step(child, f"{key}.{at}", around, table) for at, child in enumerate(task.parallel.tasks)],
            [child.on_error for child in task.parallel.tasks],
            needed,
            key,
        )
    if task.each is not None:
        size = int(task.each.list.split(", ")[1].rstrip(")"))
        inner = [step(task.each.task, f"{key}.{at}", {**around, task.each.var: at}, table) for at in range(size)]
        return _together(inner, [task.each.task.on_error] * size, task.each.min_success, key)
    if task.if_ == "false":
        return Expected(True, {}, {})
    well = fails(table, name) <= (task.retry.limit if task.retry is not None else 0)
    return Expected(well, {}, {_evaluated(task.var, around): name} if task.var and well else {})


def _together(children: list[Expected], how: list[str], needed: int, key: str) -> Expected:
    """A composite: it ends badly with too many children, and only where none of those ends it early is all below it sure."""
    strict = sum(not child.well and on_error == "" for child, on_error in zip(children, how, strict=True))
    lenient = sum(not child.well and on_error == "continue" for child, on_error in zip(children, how, strict=True))
    spare = len(children) - needed if needed else 0
    if strict and strict + lenient > spare:
        return Expected(False, {}, {})
    below, variables = {}, {}
    for at, child in enumerate(children):
        below[f"{key}.{at}"] = child.well
        below.update(child.below)
        variables.update(child.variables)
    return Expected(strict + lenient <= spare, below, variables)


def sequence(tasks: Sequence[Task], table: Sequence[int]) -> Expected:
    """The steps of a job: one that ends badly ends it, unless it says otherwise."""
    well, below, variables = True, dict[str, bool](), dict[str, str]()
    for at, task in enumerate(tasks, 1):
        found = step(task, str(at), {}, table)
        below[str(at)] = found.well
        below.update(found.below)
        variables.update(found.variables)
        if not found.well and task.on_error != "ignore":
            well = False
            if task.on_error != "continue":
                break
    return Expected(well, below, variables)


def _evaluated(text: str, around: dict[str, int]) -> str:
    for var, at in around.items():
        text = text.replace(f"{{{{ {var}.index }}}}", str(at)).replace(f"{{{{ {var}.value }}}}", str(at))
    return text


# -- the machine ------------------------------------------------------------------------------------------------------


class Trees(RuleBasedStateMachine):
    """One job and those below it, their owner's memory, workers, and whoever says things twice."""

    @initialize(tasks=trees(), table=st.lists(st.sampled_from(FAILS), min_size=1, max_size=7))
    def choose(self, tasks: tuple[Task, ...], table: list[int]) -> None:
        self.tasks, self.table = tasks, table
        self.play = Play(self._does)
        self.said: list[JobCommand] = []
        self.lost: Counter[str] = Counter()
        self.disturbed = False
        self.requests = count(1)
        say = self.play.say

        def noted(command: JobCommand) -> list:  # type: ignore[type-arg]  # of events
            self.said.append(command)
            return say(command)

        self.play.say = noted  # type: ignore[method-assign]  # also for what the player says itself
        self.play.submit(Job(name="j", tasks=tasks))

    def _does(self, row: TaskRow) -> str | Exception:
        name = row.definition.name
        return Exception("exit code 1") if row.retries < fails(self.table, name) else name

    # -- what may come --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.play.ready())
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        """A worker takes a task."""
        self.play.claim(data.draw(st.sampled_from(self.play.ready())))

    def _running(self) -> list[TaskRow]:
        return [row for row in self.play.active("RUNNING") if row.composite is None]

    @precondition(lambda self: self._running())
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A program ends."""
        self.play.finish(data.draw(st.sampled_from(self._running())))

    @precondition(lambda self: self._running())
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """A worker dies; not so often that a task is given up."""
        row = data.draw(st.sampled_from(self._running()))
        if self.lost[row.id] < 3:
            self.lost[row.id] += 1
            self.play.say(LoseTask(job=row.job, run=row.run, task=row.id, attempt=row.attempt, worker=W1))

    @precondition(lambda self: self.play.due())
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """What waits is said again."""
        self.play.say(data.draw(st.sampled_from(self.play.due())))

    @precondition(lambda self: self.play.active("PENDING"))
    @rule(data=st.data())
    def ring(self, data: st.DataObject) -> None:
        """The time of a task has come."""
        self.play.ring(data.draw(st.sampled_from(self.play.active("PENDING"))))

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """Something that was said comes once more, however late: it is refused, or changes nothing that it has changed before."""
        command = data.draw(st.sampled_from(self.said))
        if isinstance(command, PauseJob | ResumeJob | CancelJob):
            return  # what these may do late is told elsewhere
        with suppress(WindlassError):
            self.play.say(command)

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """Another coordinator takes over, who knows what is stored."""
        job = data.draw(st.sampled_from(list(self.play.works)))
        self.play.works[job] = _loaded(self.play.whole[job])

    @rule(chance=st.integers(0, 15))
    def cancel(self, chance: int) -> None:
        if not chance:
            self._ask(CancelJob(job=JOB, key=f"c{next(self.requests)}"))

    @rule(resume=st.booleans())
    def pause(self, resume: bool) -> None:
        """For a while: whatever else happens, it goes on in the end."""
        key = f"p{next(self.requests)}"
        try:
            self.play.say(ResumeJob(job=JOB, key=key) if resume else PauseJob(job=JOB, key=key))
        except WindlassError:
            assert self.play.state() in ENDED

    @precondition(lambda self: self.play.state() in ENDED)
    @rule(how=st.sampled_from(["", "start", "failed"]))
    def restart(self, how: How) -> None:
        """Somebody lets it run again; then nobody knows any more how it ends."""
        self.disturbed = True
        with suppress(WindlassError):
            self.play.restart(how)

    def _ask(self, command: JobCommand) -> None:
        self.disturbed = True
        try:
            self.play.say(command)
        except WindlassError:
            assert self.play.state() in ENDED

    # -- what must hold -------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "play"):
            return
        if self.play.whole[JOB].job.paused_at is not None:  # type: ignore[union-attr]  # it was submitted
            self.play.say(ResumeJob(job=JOB, key="last"))
        while running := self._running():
            self.play.finish(running[0])
        self.play.run()
        self.play.check()
        self._ended_once()
        if not self.disturbed:
            self._as_expected()

    def _ended_once(self) -> None:
        ends: Counter[str] = Counter()
        job_ends: Counter[tuple[JobId, int]] = Counter()
        runs: Counter[JobId] = Counter()
        for job, event in self.play.log:
            tag = tag_of(event)
            if tag in TASK_ENDS:
                ends[event.task] += 1  # type: ignore[union-attr]  # it is a task's
            runs[job] += tag in ("job.started", "job.restarted")
            if tag in JOB_ENDS:
                job_ends[job, runs[job]] += 1
        for job, work in self.play.whole.items():
            row = work.job
            assert row is not None
            assert row.state in ENDED
            assert [job_ends[job, run] for run in range(1, row.run + 1)] == [1] * row.run
            assert all(ends[task] == 1 for task in work.tasks)
            assert work.variables_size == sum(map(len, work.variables.values()))

    def _as_expected(self) -> None:
        expected = sequence(self.tasks, self.table)
        whole = self.play.whole[JOB]
        assert self.play.state() == ("COMPLETED" if expected.well else "FAILED")
        last = {row.key: row for row in sorted(whole.tasks.values(), key=lambda row: row.attempt)}
        found = {key: last[key].state in WELL for key in expected.below if key in last}
        assert found == expected.below
        assert {name: whole.variables.get(name) for name in expected.variables} == expected.variables
        if all(expected.below.values()):
            assert whole.variables == expected.variables
            assert set(last) == set(expected.below)
        for row in last.values():
            below = row.composite.subjob if row.composite is not None else None
            if row.definition.subjob is not None and row.definition.subjob.detached and below is not None:
                inner = sequence(row.definition.subjob.tasks, self.table)
                assert self.play.state(below) == ("COMPLETED" if inner.well else "FAILED")


def _loaded(whole: JobWork) -> JobWork:
    """The working set of a job as its rows give it."""
    work = JobWork(job=copy(whole.job))
    for name, value in whole.variables.items():
        work.set(name, value)
    for row in whole.active():
        work.put(msgspec.structs.replace(row, composite=copy(row.composite)))
    for name in work.lists:
        composite = work.tasks[name].composite
        assert composite is not None
        work.lists[name] = [part for part in whole.lists.get(name, ()) if part.next > composite.opened][:2]
    return work


Trees.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestTrees = Trees.TestCase
