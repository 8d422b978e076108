"""A worker on a real NATS server: its slots and priorities, its claims and reports; the coordinator is played by hand."""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.scenario import task
from tests.support.waiting import until
from windlass import ids
from windlass.bus import streams
from windlass.bus.connection import Bus, connect
from windlass.bus.consume import Jetstream, Puller
from windlass.bus.streams import Names
from windlass.clock import system as clock
from windlass.ids import JobId, TaskId, WorkerId
from windlass.messages.commands import (
    JOB_COMMANDS,
    Answer,
    ClaimTask,
    CompleteTask,
    FailTask,
    GrantTask,
    RefuseTask,
    RunTask,
    StopTask,
)
from windlass.messages.envelope import Message, encode, open_envelope
from windlass.messages.jobs import Task
from windlass.messages.sealing import open_result, seal_task
from windlass.secrets import keys
from windlass.secrets.keys import Keys
from windlass.secrets.redaction import REDACTED
from windlass.worker.levels import Levels
from windlass.worker.runner import Runner
from windlass.worker.runtime import Failed, Outcome, Sink, Stopped, Succeeded, TimedOut
from windlass.worker.spool import Spool

WORKER = WorkerId("w-1")
KEYS = keys.transport(Keys([keys.new()]), "worker")
JOB = JobId(ids.derive(clock.now(), 0, "job"))


@pytest.fixture
async def bus(nats_url: str, prefix: str) -> AsyncIterator[Bus]:
    """A connection of the test's own, with the streams it needs."""
    async with connect(nats_url, "worker", "test", prefix) as found:
        await streams.ensure(found, 1)
        await streams.ensure_queue(found, "default")
        await streams.ensure_worker(found, WORKER)
        yield found
        for info in await found.jetstream.streams_info():
            if info.config.name is not None and info.config.name.startswith(prefix.replace(".", "_")):
                await found.jetstream.delete_stream(info.config.name)


class Runs:
    """A runtime whose tasks end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[RunTask] = []
        self.go_on = asyncio.Event()
        self.outcome: Outcome = Succeeded("")

    async def prepare(self) -> None: ...

    def refusal(self, task: RunTask) -> str | None:
        return None

    async def run(self, task: RunTask, worker: str, sink: Sink, stop: asyncio.Event) -> Outcome:
        self.begun.append(task)
        ends = [asyncio.ensure_future(one.wait()) for one in (self.go_on, stop)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        return Stopped() if stop.is_set() else self.outcome

    async def healthy(self) -> bool:
        return True

    async def close(self) -> None: ...


class Stage:
    """A runner, and the coordinator's part."""

    def __init__(self, bus: Bus, folder: Path, slots: int = 4, timeout: str = "") -> None:
        self.bus, self.runtime = bus, Runs()
        self.spool = Spool(folder)
        self.spool.open()
        self.runner = Runner(
            worker=WORKER,
            bus=bus,
            runtime=self.runtime,
            spool=self.spool,
            clock=clock,
            shards=1,
            worked=lambda: None,
            keys=KEYS,
            timeout=timeout,
        )
        names = Names(bus.subjects)
        self.said: list[tuple[Message, Any]] = []
        self._orders = Puller(bus, names.orders(WORKER), streams.ORDERS, self.runner.order)
        self._intake = Puller(bus, names.intake, names.shard(0), self._on_said)
        self.levels = Levels(bus, "default", slots, self._begin)
        self.taken = 0
        """How many orders came from the queue."""

    async def __aenter__(self) -> "Stage":
        await self._orders.start()
        await self._intake.start()
        await self.levels.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.runtime.go_on.set()
        await self.levels.rest()
        await self._orders.stop()
        await self._intake.stop()

    def _begin(self, delivery: Jetstream) -> None:
        self.taken += 1
        self.runner.begin(delivery, self.levels.release)

    def _on_said(self, delivery: Jetstream) -> None:
        message = open_envelope(delivery.payload)
        self.said.append((message, JOB_COMMANDS.decode(message.type, message.data)))
        asyncio.get_running_loop().create_task(delivery.ack())

    async def dispatch(self, number: int = 1, priority: int = 0, attempt: int = 1, definition: Task | None = None) -> RunTask:
        """Put a task in the queue."""
        row = TaskId(ids.derive(clock.now(), 0, number, secrets.token_hex(4)))
        what = definition or task(f"t{number}")
        run = RunTask(job=JOB, run=1, task=row, attempt=attempt, key=str(number), definition=what, ticket=secrets.token_hex(4))
        await self.send(run, priority)
        return run

    async def send(self, run: RunTask, priority: int = 0) -> None:
        """Put it in the queue, perhaps again."""
        subject = self.bus.subjects.queued("default", priority, run.task, run.attempt)
        await self.bus.publish(subject, encode(run, id=secrets.token_hex(4), at=clock.now()))

    def fence(self, run: RunTask) -> dict[str, Any]:
        """Of a task in this worker's hands."""
        return {"job": run.job, "run": run.run, "task": run.task, "attempt": run.attempt, "worker": WORKER}

    async def order(self, order: Any) -> None:
        """Say something to the worker."""
        await self.bus.publish(self.bus.subjects.orders(WORKER), encode(order, id=secrets.token_hex(4), at=clock.now()))

    async def heard(self, kind: type[Any], run: RunTask, count: int = 1) -> tuple[Message, Any]:
        """The `count`th word of a kind about a task."""

        def find() -> tuple[Message, Any] | None:
            found = [(message, body) for message, body in self.said if type(body) is kind and body.task == run.task]
            return found[count - 1] if len(found) >= count else None

        return await until(f"{kind.__name__} number {count}", find)

    async def start(self, run: RunTask) -> None:
        """Grant what was claimed."""
        await self.heard(ClaimTask, run)
        await self.order(GrantTask(**self.fence(run)))
        await until("it runs", lambda: run in self.runtime.begun)

    async def answer(self, message: Message, code: str | None = None) -> None:
        """Answer a report."""
        assert message.reply is not None
        await self.bus.tell(message.reply, encode(Answer(code=code), id="a", at=clock.now()))

    async def settled(self) -> None:
        """Wait until every report was answered."""
        await until("every report was answered", lambda: self.runner.idle)


@pytest.fixture
async def stage(bus: Bus, tmp_path: Path) -> AsyncIterator[Stage]:
    """A runner with four slots."""
    async with Stage(bus, tmp_path) as found:
        yield found


# -- claim, run, report ---------------------------------------------------------------------------------------------


async def test_a_task_is_run_when_it_was_granted_and_not_before(stage: Stage) -> None:
    run = await stage.dispatch()
    _, claim = await stage.heard(ClaimTask, run)
    assert claim == ClaimTask(**stage.fence(run), ticket=run.ticket)
    await stage.heard(ClaimTask, run, 2)  # asked again, and still nothing runs
    assert stage.runtime.begun == []
    await stage.order(GrantTask(**stage.fence(run)))
    await until("it runs", lambda: stage.runtime.begun)
    assert [running.task for running in stage.runner.running()] == [run.task]


async def test_a_refused_task_is_not_run_and_leaves_no_word_behind(stage: Stage) -> None:
    run = await stage.dispatch()
    await stage.heard(ClaimTask, run)
    await stage.order(RefuseTask(**stage.fence(run), why="no"))
    await stage.settled()
    assert stage.runtime.begun == []
    assert stage.spool.left() == []
    assert stage.levels.free == 4


async def test_a_report_is_kept_and_said_again_until_it_is_on_record(stage: Stage) -> None:
    stage.runtime.outcome = Succeeded("7")
    run = await stage.dispatch()
    await stage.start(run)
    stage.runtime.go_on.set()
    _, report = await stage.heard(CompleteTask, run)
    assert report == CompleteTask(**stage.fence(run), result="7")
    message, _ = await stage.heard(CompleteTask, run, 2)
    assert [name for name, _, _ in stage.spool.left()] == [f"{run.task}-1"]
    await stage.answer(message)
    await stage.settled()
    assert stage.spool.left() == []


@pytest.mark.parametrize("code", ["stale", "invalid", "corrupt", "not_found"])
async def test_a_report_that_can_never_be_recorded_is_given_up(stage: Stage, code: str) -> None:
    run = await stage.dispatch()
    await stage.start(run)
    stage.runtime.go_on.set()
    message, _ = await stage.heard(CompleteTask, run)
    await stage.answer(message, code)
    await stage.settled()
    assert stage.spool.left() == []


async def test_a_report_that_found_the_database_away_is_said_again(stage: Stage) -> None:
    run = await stage.dispatch()
    await stage.start(run)
    stage.runtime.go_on.set()
    message, _ = await stage.heard(CompleteTask, run)
    await stage.answer(message, "unavailable")
    message, _ = await stage.heard(CompleteTask, run, 2)
    await stage.answer(message)
    await stage.settled()


async def test_reporting_leaves_no_task_of_the_loop_behind(stage: Stage) -> None:
    before = len(asyncio.all_tasks())
    stage.runtime.go_on.set()
    for number in range(5):
        run = await stage.dispatch(number)
        await stage.start(run)
        message, _ = await stage.heard(CompleteTask, run)
        await stage.answer(message)
        await stage.settled()
    await until("all is over", lambda: len(asyncio.all_tasks()) <= before)


@pytest.mark.parametrize("code", [None, "stale"], ids=["recorded", "its first answer was lost"])
async def test_the_same_dispatch_twice_is_one_run(stage: Stage, code: str | None) -> None:
    run = await stage.dispatch()
    await stage.start(run)
    await stage.send(run)
    other = await stage.dispatch(2)
    await stage.start(other)
    assert stage.runtime.begun == [run, other]
    stage.runtime.go_on.set()
    message, _ = await stage.heard(CompleteTask, run)
    await stage.answer(message, code)
    await until("it is on record", lambda: all(not name.startswith(run.task) for name, _, _ in stage.spool.left()))
    await stage.send(run)
    await stage.order(GrantTask(**stage.fence(run)))  # of the first time, late
    third = await stage.dispatch(3)
    await stage.start(third)
    assert stage.runtime.begun == [run, other, third]


async def test_an_attempt_that_was_given_up_before_its_start_was_on_record_can_be_had_again(stage: Stage) -> None:
    run = await stage.dispatch()
    await stage.heard(ClaimTask, run)
    stage.runner.end_all("lost")  # cut off for too long
    message, report = await stage.heard(FailTask, run)
    assert report.reason == "lost"
    claims = sum(isinstance(body, ClaimTask) for _, body in stage.said)  # it went back, and comes again meanwhile
    await stage.answer(message, "stale")  # nobody ever started it
    await stage.heard(ClaimTask, run, claims + 1)
    await stage.order(GrantTask(**stage.fence(run)))
    await until("it runs", lambda: stage.runtime.begun)


async def test_a_result_that_fits_no_message_is_a_clear_failure(stage: Stage) -> None:
    stage.runtime.outcome = Succeeded("\x01" * 1024 * 1024)
    run = await stage.dispatch()
    await stage.start(run)
    stage.runtime.go_on.set()
    message, report = await stage.heard(FailTask, run)
    assert "its result takes" in report.error
    await stage.answer(message)
    await stage.settled()


async def test_a_failure_is_reported_with_the_exit_code_of_its_program(stage: Stage) -> None:
    stage.runtime.outcome = Failed("exit code 75: later", 75)
    run = await stage.dispatch()
    await stage.start(run)
    stage.runtime.go_on.set()
    message, report = await stage.heard(FailTask, run)
    assert report == FailTask(**stage.fence(run), error="exit code 75: later", exit_code=75)
    await stage.answer(message)


async def test_a_task_without_a_timeout_has_the_workers(bus: Bus, tmp_path: Path) -> None:
    async with Stage(bus, tmp_path, timeout="90m") as stage:
        for own in ("", "1h"):
            run = await stage.dispatch(definition=task("t", timeout=own))
            await stage.heard(ClaimTask, run)
            await stage.order(GrantTask(**stage.fence(run)))
        await until("both run", lambda: len(stage.runtime.begun) == 2)
        assert {run.definition.timeout for run in stage.runtime.begun} == {"90m", "1h"}


async def test_a_task_that_took_too_long_has_timed_out(stage: Stage) -> None:
    stage.runtime.outcome = TimedOut("context deadline exceeded")
    run = await stage.dispatch()
    await stage.start(run)
    stage.runtime.go_on.set()
    message, report = await stage.heard(FailTask, run)
    assert (report.reason, report.error) == ("timeout", "context deadline exceeded")
    await stage.answer(message)


async def test_rubbish_in_a_queue_is_handed_to_the_coordinator(stage: Stage) -> None:
    rubbish: list[bytes] = []
    names = Names(stage.bus.subjects)
    await stage._intake.stop()
    taker = Puller(stage.bus, names.intake, names.shard(0), lambda delivery: rubbish.append(delivery.payload))
    await taker.start()
    await stage.bus.publish(stage.bus.subjects.queued("default", 0, "t", 1), b"\xff rubbish")
    await until("the coordinator has it", lambda: rubbish)
    await until("the slot is free", lambda: stage.levels.free == 4)
    await taker.stop()
    assert rubbish == [b"\xff rubbish"]


# -- orders ---------------------------------------------------------------------------------------------------------


async def test_a_stop_kills_what_runs_and_is_reported(stage: Stage) -> None:
    run = await stage.dispatch()
    await stage.start(run)
    await stage.order(StopTask(**stage.fence(run)))
    message, report = await stage.heard(FailTask, run)
    assert report.reason == "stopped"
    await stage.answer(message, "stale")
    await stage.settled()


async def test_a_stop_for_what_is_not_there_is_confirmed(stage: Stage) -> None:
    run = RunTask(job=JOB, run=1, task=TaskId("0" * 32), attempt=3, key="1", definition=task())
    await stage.order(StopTask(**stage.fence(run)))
    message, report = await stage.heard(FailTask, run)
    assert report.reason == "stopped"
    await stage.answer(message)


async def test_a_worker_that_nobody_may_have_heard_begins_nothing_until_it_is_heard_again(stage: Stage) -> None:
    stage.runner.cut_off = True
    run = await stage.dispatch()
    other = await stage.dispatch(2)
    await until("both came and went back", lambda: stage.taken >= 2 and stage.levels.free == 4)
    stage.runner.cut_off = False
    await stage.heard(ClaimTask, run)
    await stage.heard(ClaimTask, other)
    assert [type(body) for _, body in stage.said] == [ClaimTask] * len(stage.said)


async def test_a_grant_for_what_is_not_there_is_answered_that_it_is_lost(stage: Stage) -> None:
    run = RunTask(job=JOB, run=1, task=TaskId("0" * 32), attempt=3, key="1", definition=task())
    await stage.order(GrantTask(**stage.fence(run)))
    message, report = await stage.heard(FailTask, run)
    assert report.reason == "lost"
    await stage.answer(message)


async def test_an_order_for_another_worker_is_nobodys(stage: Stage) -> None:
    run = await stage.dispatch()
    await stage.heard(ClaimTask, run)
    await stage.order(GrantTask(**{**stage.fence(run), "worker": "somebody"}))
    await stage.heard(ClaimTask, run, 2)
    assert stage.runtime.begun == []


async def test_what_a_forerunner_left_is_reported(bus: Bus, tmp_path: Path) -> None:
    former = Spool(tmp_path)
    former.open()
    run = RunTask(job=JOB, run=1, task=TaskId("1" * 32), attempt=2, key="1", definition=task())
    fence = {"job": JOB, "run": 1, "task": run.task, "attempt": 2, "worker": "former"}
    report = CompleteTask(**fence, result="7")  # type: ignore[arg-type]  # the fields of a fence
    former.keep(f"{run.task}-2", bus.subjects.report("completed", 0, "former"), encode(report, id="x", at=clock.now()))
    former.keep("rubbish", "nowhere", b"rubbish")
    async with Stage(bus, tmp_path) as stage:
        stage.runner.deliver_left()
        message, heard = await stage.heard(CompleteTask, run)
        assert heard == report
        await stage.answer(message)
        await stage.settled()
        assert former.left() == []


# -- slots and priorities -------------------------------------------------------------------------------------------


class Shop:
    """Levels whose tasks end when the test says so."""

    def __init__(self, bus: Bus, slots: int) -> None:
        self.levels = Levels(bus, "default", slots, self._begin)
        self.begun: list[Jetstream] = []
        self.most = 0
        self._running = 0

    def _begin(self, delivery: Jetstream) -> None:
        self.begun.append(delivery)
        self._running += 1
        self.most = max(self.most, self._running)

    async def end(self, delivery: Jetstream) -> None:
        """A task is over."""
        await delivery.ack()
        self._running -= 1
        self.levels.release()


async def _fill(bus: Bus, priorities: list[int]) -> None:
    subjects = [bus.subjects.queued("default", priority, f"t{i}", 1) for i, priority in enumerate(priorities)]
    assert await bus.publish_all([(subject, b"%d" % i) for i, subject in enumerate(subjects)]) == {}


async def test_there_are_never_more_tasks_than_slots_and_all_are_taken(bus: Bus) -> None:
    shop = Shop(bus, 3)
    await shop.levels.start()
    await _fill(bus, [i % 10 for i in range(60)])
    for number in range(60):
        await until(f"task {number} begins", lambda: len(shop.begun) > number)  # noqa: B023 awaited in the loop
        assert shop.most <= 3
        await shop.end(shop.begun[number])
    assert sorted(int(one.payload) for one in shop.begun if one.deliveries >= 1) == list(range(60))
    await shop.levels.rest()


async def _work_off(shop: Shop, count: int, start: int = 0) -> list[int]:
    """End each task as it begins; the priorities in that order."""
    for number in range(start, count):
        await until(f"task {number} begins", lambda: len(shop.begun) > number)  # noqa: B023 awaited in the loop
        await shop.end(shop.begun[number])
    return [int(one.subject.split(".")[-3]) for one in shop.begun]


async def test_a_worker_that_starts_takes_the_highest_priority_first(bus: Bus) -> None:
    await _fill(bus, [0, 0, 5, 5, 5, 9, 9, 9, 1, 1])
    shop = Shop(bus, 1)
    await shop.levels.start()
    taken = await _work_off(shop, 10)
    # The first that comes is taken, since at the start every level has a request standing and none is known to hold more.
    rest = taken[1:]
    assert rest == sorted(rest, reverse=True)
    await shop.levels.rest()


async def test_what_comes_at_a_higher_priority_overtakes_a_row_that_waits(bus: Bus) -> None:
    shop = Shop(bus, 1)
    await shop.levels.start()
    await _fill(bus, [9, *[5] * 20])
    await _work_off(shop, 4)
    await bus.publish(bus.subjects.queued("default", 9, "urgent", 1), b"urgent")
    await bus.client.flush()
    begun = len(shop.begun)
    taken = await _work_off(shop, 22, 4)
    payloads = [one.payload for one in shop.begun]
    assert sorted(taken, reverse=True)[:2] == [9, 9]
    assert payloads.index(b"urgent") <= begun + 2
    await shop.levels.rest()


async def test_a_task_that_comes_when_no_slot_is_free_goes_back(bus: Bus) -> None:
    full, idle = Shop(bus, 1), Shop(bus, 1)
    await full.levels.start()
    await _fill(bus, [3])
    await until("it is full", lambda: full.begun)
    await bus.publish(bus.subjects.queued("default", 3, "next", 1), b"next")
    await idle.levels.start()
    await until("another has it", lambda: idle.begun)
    assert idle.begun[0].payload == b"next"
    await full.levels.rest()
    await idle.levels.rest()


async def test_a_worker_that_rests_takes_nothing_more(bus: Bus) -> None:
    resting, other = Shop(bus, 2), Shop(bus, 2)
    await resting.levels.start()
    await until("its requests stand", lambda: resting.levels._pullers[0].accepted)
    await resting.levels.rest()
    await _fill(bus, [0])
    await other.levels.start()
    await until("another has it", lambda: other.begun)
    assert resting.begun == []
    await other.levels.rest()


async def test_what_was_sent_to_a_worker_that_rests_goes_to_another_at_once(bus: Bus, nats_url: str) -> None:
    resting, other = Shop(bus, 5), Shop(bus, 5)
    await resting.levels.start()
    await until("its requests stand", lambda: resting.levels._pullers[0].accepted)

    async def fill_from_elsewhere() -> None:
        async with connect(nats_url, "worker", "elsewhere", bus.subjects.prefix) as elsewhere:
            await _fill(elsewhere, [0, 3, 5, 0, 9])
            levels = [Names.level("default", priority) for priority in (0, 3, 5, 9)]
            async with asyncio.timeout(10):
                while sum([await _held(elsewhere, level) for level in levels]) < 5:
                    await asyncio.sleep(0.01)

    # Meanwhile this loop stands still: the server has sent everything, and the worker has seen nothing of it.
    thread = threading.Thread(target=lambda: asyncio.run(fill_from_elsewhere()))
    thread.start()
    thread.join(20)
    await resting.levels.rest()
    await other.levels.start()
    soon_s = streams.TASK_ACK_WAIT_S / 2  # what was dropped would come again only after all of it
    await until("every task is with the other one", lambda: len(other.begun) == 5, soon_s)
    assert resting.begun == []
    await other.levels.rest()


async def _held(bus: Bus, consumer: str) -> int:
    """How many messages the server has sent and not seen acknowledged."""
    return (await bus.jetstream.consumer_info(Names(bus.subjects).tasks, consumer)).num_ack_pending or 0


async def test_what_a_dead_worker_was_sent_goes_to_another_after_the_ack_wait(bus: Bus, nats_url: str) -> None:
    async with connect(nats_url, "worker", "dead", bus.subjects.prefix) as its:
        dead, other = Shop(its, 1), Shop(bus, 1)
        await dead.levels.start()
        await _fill(bus, [4])
        await until("the task is with it", lambda: len(dead.begun) == 1)
    await other.levels.start()
    await until("another has it", lambda: len(other.begun) == 1, streams.TASK_ACK_WAIT_S + 10)
    await other.levels.rest()


# -- secrets --------------------------------------------------------------------------------------------------------


async def _sealed(stage: Stage, by: Keys = KEYS) -> tuple[RunTask, Task]:
    """A task whose definition holds a secret, put in the queue as it may travel."""
    whole = task("t", env={"TOKEN": "hunter2"})
    shown = task("t", env={"TOKEN": REDACTED})
    row = TaskId(ids.derive(clock.now(), 0, secrets.token_hex(4)))
    run = seal_task(RunTask(job=JOB, run=1, task=row, attempt=1, key="1", definition=whole), shown, ["hunter2"], by)
    assert b"hunter2" not in encode(run, id="m", at=clock.now())
    await stage.send(run)
    await stage.heard(ClaimTask, run)
    await stage.order(GrantTask(**stage.fence(run)))
    return run, whole


async def test_a_task_sees_its_secrets_and_nobody_sees_them_in_its_result(stage: Stage) -> None:
    stage.runtime.outcome = Succeeded("it is hunter2")
    run, whole = await _sealed(stage)
    await until("it runs", lambda: stage.runtime.begun)
    assert stage.runtime.begun[0].definition == whole
    stage.runtime.go_on.set()
    message, report = await stage.heard(CompleteTask, run)
    assert report.result == f"it is {REDACTED}"
    assert open_result(report, KEYS).result == "it is hunter2"
    assert all(b"hunter2" not in payload for _, _, payload in stage.spool.left())
    await stage.answer(message)


async def test_an_error_shows_no_secret(stage: Stage) -> None:
    stage.runtime.outcome = Failed("exit code 1: aHVudGVyMg== is hunter2", 1)
    run, _ = await _sealed(stage)
    stage.runtime.go_on.set()
    message, report = await stage.heard(FailTask, run)
    assert report.error == f"exit code 1: {REDACTED} is {REDACTED}"
    await stage.answer(message)


async def test_a_task_that_was_sealed_with_another_key_fails_and_says_so(stage: Stage) -> None:
    run, _ = await _sealed(stage, Keys([keys.new()]))
    message, report = await stage.heard(FailTask, run)
    assert "sealed with key" in report.error
    assert "WINDLASS_SECRET_KEY" in report.error
    assert stage.runtime.begun == []
    await stage.answer(message)


def test_a_task_that_is_large_fits_a_message_though_it_is_sealed() -> None:
    whole = task("t", env={"TOKEN": "hunter2" * 300_000})
    order = RunTask(job=JOB, run=1, task=TaskId(JOB), attempt=1, key="1", definition=whole)
    sealed = seal_task(order, task("t", env={"TOKEN": REDACTED * 300_000}), ["hunter2"], KEYS)
    assert len(encode(sealed, id="m", at=clock.now())) < streams.MESSAGE_MAX - 64 * 1024
