"""What a worker does with a task: claim it, wait for the grant, run it, report it until that is on record."""

import asyncio
import itertools
import random
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from windlass import log as logs
from windlass import metrics
from windlass.bus.connection import Bus
from windlass.bus.consume import Jetstream
from windlass.bus.streams import MESSAGE_MAX, TASK_ACK_WAIT_S
from windlass.clock import Clock
from windlass.errors import Invalid
from windlass.ids import TaskId, WorkerId, issued_of, shard_of
from windlass.messages.commands import (
    ANSWERS,
    ORDERS,
    QUEUED,
    ClaimTask,
    CompleteTask,
    FailTask,
    GrantTask,
    Order,
    RefuseTask,
    ReportProgress,
    RunTask,
    StopTask,
)
from windlass.messages.envelope import encode, open_envelope, trace_of
from windlass.messages.notices import LogPart, Running
from windlass.messages.sealing import open_task, seal_result
from windlass.secrets.keys import Keys, Unopened
from windlass.secrets.redaction import Redactor
from windlass.worker.output import Output
from windlass.worker.runtime import Failed, Runtime, Stopped, Succeeded, TimedOut, Vanished
from windlass.worker.spool import Spool

log = logs.get()

RAN, HELD = metrics.TASKS_RAN.counter(), metrics.TASKS_HELD.gauge()

AGAIN_S = 1.0
"""When a claim or report that was not answered is sent again for the first time; doubles from there."""
AGAIN_MAX_S = 10.0
CLAIM_AGAIN_MAX_S = TASK_ACK_WAIT_S / 3
"""The longest pause between two claims: with each, the broker hears that the task is still held here."""
REPORT_MAX = MESSAGE_MAX - 64 * 1024
"""Bytes of a report, with room for what the broker adds."""
ERROR_MAX = 16 * 1024
"""Characters of an error; more is cut in the middle."""
DONE_MAX = 2000
"""How many ended attempts are remembered, so that a late order for one is known as such."""

ELSEWHERE_MAX, ELSEWHERE_S = 5, 0.05
"""How often, and after what pause, an order for another start of this worker is left to that one; then it is taken for dead."""

TRACE = "TRACEPARENT"
"""The variable by which a program learns which trace it is part of."""
RECORDED = "recorded"
FINAL = frozenset({RECORDED, "stale", "not_found", "invalid", "corrupt"})
"""Codes of answers after which a report need not be kept; what is invalid or corrupt is in the quarantine."""

Key = tuple[TaskId, int]


class Attempt:
    """One attempt that this worker holds."""

    def __init__(self, task: RunTask) -> None:
        self.task = task
        self.ordered: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        self.stop = asyncio.Event()
        self.why = ""
        self.granted = False

    def end(self, why: str) -> None:
        """Kill what runs; the first reason counts."""
        if not self.why:
            self.why = why
        self.stop.set()
        if not self.ordered.done():
            self.ordered.cancel()


class Runner:
    """Runs tasks and answers for them."""

    def __init__(
        self,
        *,
        worker: WorkerId,
        bus: Bus,
        runtime: Runtime,
        spool: Spool,
        clock: Clock,
        shards: int,
        worked: Callable[[], None],
        timeout: str = "",
        keys: Keys | None = None,
    ) -> None:
        self._worker, self._bus, self._runtime, self._spool = worker, bus, runtime, spool
        self._clock, self._shards, self._worked, self._timeout, self._keys = clock, shards, worked, timeout, keys
        self.cut_off = False
        """Whether nobody may have heard of this worker for a lease: what it began now would be taken for lost."""
        self._held: dict[Key, Attempt] = {}
        self._reporting: dict[Key, asyncio.Event] = {}
        self._done: OrderedDict[Key, None] = OrderedDict()
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- what the worker says of itself -----------------------------------------------------------------------------

    def running(self) -> tuple[Running, ...]:
        """What is held now, for the heartbeat."""
        return tuple(
            Running(task=task, attempt=attempt, job=held.task.job, run=held.task.run)
            for (task, attempt), held in self._held.items()
            if held.granted
        )

    @property
    def idle(self) -> bool:
        """Nothing runs and every report is on record."""
        return not self._held and not self._reporting

    def end_all(self, why: str) -> None:
        """Kill everything that runs; `why` is a reason of `FailTask`."""
        for attempt in list(self._held.values()):
            attempt.end(why)

    async def quiet(self) -> None:
        """Wait until nothing runs and every report is on record."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # -- tasks ------------------------------------------------------------------------------------------------------

    def begin(self, delivery: Jetstream, freed: Callable[[], None]) -> None:
        """Take a task that a queue gave; calls `freed` when its slot is free again."""
        self._spawn(self._take(delivery, freed))

    async def _take(self, delivery: Jetstream, freed: Callable[[], None]) -> None:
        try:
            try:
                message = open_envelope(delivery.payload)
                task = _completed(QUEUED.decode(message.type, message.data), message.trace, self._timeout)
            except Invalid:
                # Not ours to judge: the coordinator puts it in the quarantine.
                await self._bus.tell(self._bus.subjects.report("error", 0, self._worker), delivery.payload)
                await delivery.term()
                return
            await self._hold(task, delivery)
        finally:
            freed()

    async def _hold(self, task: RunTask, delivery: Jetstream) -> None:
        key = (task.task, task.attempt)
        if self.cut_off and key not in self._held and key not in self._done:
            await delivery.nak(AGAIN_S)
            return
        if key in self._reporting:  # how that ends decides: recorded, it is over; stale, this worker may have it again
            await delivery.nak(AGAIN_S)
            return
        if key in self._held or key in self._done:
            await delivery.ack()
            return
        attempt = self._held[key] = Attempt(task)
        HELD.set(len(self._held))
        self._foretell(task)
        try:
            order = await self._claim(attempt, delivery)
            if isinstance(order, RefuseTask):
                await delivery.ack()
                self._spool.drop(_name(task))
                log.info("task_refused", job=task.job, task=task.task, attempt=task.attempt, why=order.why)
                return
            if order is None:
                await delivery.nak()
                report: CompleteTask | FailTask = self._ended(attempt)  # the grant may be on record all the same
            else:
                await delivery.ack()
                attempt.granted = True
                self._remember(key)
                report = await self._run(attempt)
        finally:
            del self._held[key]
            HELD.set(len(self._held))
        self._report(key, report, task)

    async def _claim(self, attempt: Attempt, delivery: Jetstream) -> Order | None:
        """Ask until there is an answer; None when the worker is ending first."""
        claim = ClaimTask(**self._fence(attempt.task), ticket=attempt.task.ticket)
        subject = self._subject("started", attempt.task)
        pause = AGAIN_S
        while True:
            await self._bus.tell(subject, self._message(claim, attempt.task))
            try:
                async with asyncio.timeout(pause):
                    return await asyncio.shield(attempt.ordered)
            except TimeoutError:
                pause = min(pause * 2, CLAIM_AGAIN_MAX_S)
                await delivery.working()
            except asyncio.CancelledError:
                if attempt.ordered.cancelled():
                    return None
                raise

    async def _run(self, attempt: Attempt) -> CompleteTask | FailTask:
        fence = self._fence(attempt.task)
        try:
            task, secrets = open_task(attempt.task, self._keys)
        except Unopened as error:
            return FailTask(**fence, error=f"this worker cannot read its secrets: {error}")
        task = _completed(task, attempt.task.definition.env.get(TRACE), self._timeout)
        redactor = Redactor(secrets)
        refusal = self._runtime.refusal(task)
        if refusal is not None:
            return FailTask(**fence, error=redactor.text(refusal))
        output = Output(task.job, task.task, task.attempt, lambda part: self._send_part(part, task.ticket), redactor)
        output.on_progress = lambda value: self._progress(task, value)
        started = self._clock.monotonic()
        try:
            outcome = await self._runtime.run(task, self._worker, output, attempt.stop)
        except Exception as error:
            log.error("runtime_broke", task=task.task, error=redactor.text(repr(error)), exc_info=not secrets)
            outcome = Failed(f"the worker could not run it: {error!r}")
        finally:
            if (rest := await output.close()) is not None:
                self._keep(rest)
        self._worked()
        RAN.labels(type(outcome).__name__.lower()).inc()
        log.info(
            "task_ran",
            job=task.job,
            task=task.task,
            attempt=task.attempt,
            outcome=type(outcome).__name__.lower(),
            duration_ms=round((self._clock.monotonic() - started) * 1000),
        )
        match outcome:
            case Succeeded():
                return seal_result(CompleteTask(**fence, result=outcome.result), redactor.text(outcome.result), self._keys)
            case Failed():
                return FailTask(**fence, error=_shortened(redactor.text(outcome.error)), exit_code=outcome.exit_code)
            case TimedOut():
                return FailTask(**fence, error=_shortened(redactor.text(outcome.error)), reason="timeout")
            case Vanished():
                return FailTask(**fence, error=_shortened(redactor.text(outcome.error)), reason="lost")
            case Stopped():
                return self._ended(attempt)

    def _ended(self, attempt: Attempt) -> FailTask:
        why = attempt.why or "stopped"
        return FailTask(**self._fence(attempt.task), error=_ENDINGS[why], reason=why)

    def _progress(self, task: RunTask, value: float) -> None:
        report = ReportProgress(**self._fence(task), progress=value)
        self._spawn(self._bus.tell(self._subject("progress", task), self._message(report, task)))

    async def _send_part(self, part: LogPart, ticket: str) -> bool:
        part = msgspec.structs.replace(part, ticket=ticket)
        subject = self._bus.subjects.logs(shard_of(part.job, self._shards), part.job, part.task)
        return not await self._bus.publish_all([(subject, self._message(part))])

    # -- reports ----------------------------------------------------------------------------------------------------

    def _foretell(self, task: RunTask) -> None:
        """Leave word for whoever starts here after us: if we die, this attempt is lost. Its real outcome replaces it."""
        report = FailTask(**self._fence(task), error="its worker was killed", reason="lost")
        with suppress(OSError):  # then its lease has to run out
            self._spool.keep(_name(task), self._subject("error", task), self._message(report, task))

    def _report(self, key: Key, report: CompleteTask | FailTask, task: RunTask | None = None) -> None:
        word = "completed" if isinstance(report, CompleteTask) else "error"
        subject = self._bus.subjects.report(word, shard_of(report.job, self._shards), self._worker)
        payload = self._message(report, task)
        if len(payload) > REPORT_MAX:
            error = f"its result takes {len(payload)} bytes as JSON and {REPORT_MAX} are allowed; write less to TORK_OUTPUT"
            fence = {field: getattr(report, field) for field in ("job", "run", "task", "attempt", "worker")}
            self._report(key, FailTask(**fence, error=error), task)
            return
        name = _name(report)
        try:
            self._spool.keep(name, subject, payload)
        except OSError as error:
            log.error("spool_failed", error=str(error))  # the report is still delivered if this process lives on
        self.deliver(key, name, subject, payload)

    def deliver(self, key: Key, name: str, subject: str, payload: bytes) -> None:
        """Send a kept report until the coordinator has answered it."""
        again = self._reporting[key] = asyncio.Event()
        self._spawn(self._deliver(key, name, subject, payload, again))

    async def _deliver(self, key: Key, name: str, subject: str, payload: bytes, again: asyncio.Event) -> None:
        message, pause, code = open_envelope(payload), AGAIN_S, ""
        try:
            while code not in FINAL:
                reply, answered = self._bus.expect()
                await self._bus.tell(subject, msgspec.json.encode(msgspec.structs.replace(message, reply=reply)))
                waits: tuple[asyncio.Future[Any], ...] = (answered, asyncio.ensure_future(again.wait()))
                await asyncio.wait(waits, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                again.clear()
                if answered.done():
                    with suppress(Invalid):
                        answer = open_envelope(answered.result())
                        code = ANSWERS.decode(answer.type, answer.data).code or RECORDED
                for wait in waits:
                    wait.cancel()
                pause = min(pause * 2, AGAIN_MAX_S)
        finally:
            del self._reporting[key]
        self._spool.drop(name)
        if code == RECORDED:
            self._remember(key)  # else, if it was given up before its start was on record, it is free to be claimed here again

    def _remember(self, key: Key) -> None:
        """It never begins here again, whatever comes late: a dispatch, or a grant of the first time."""
        self._done[key] = None
        while len(self._done) > DONE_MAX:
            self._done.popitem(last=False)

    def deliver_left(self) -> None:
        """Take up the reports that a forerunner left."""
        for name, subject, payload in self._spool.left():
            task, _, attempt = name.rpartition("-")
            try:
                open_envelope(payload)
                key = (TaskId(task), int(attempt))
                issued = issued_of(self._worker)
                if issued != self._worker and self._bus.subjects.place(subject).worker != issued:
                    raise Invalid("a report of another worker, in whose name this one's user may not speak")
            except (Invalid, ValueError) as error:
                log.warning("spool_entry_dropped", name=name, error=str(error))
                self._spool.drop(name)
                continue
            log.info("report_taken_up", name=name)
            self.deliver(key, name, subject, payload)

    # -- orders -----------------------------------------------------------------------------------------------------

    def order(self, delivery: Jetstream) -> None:
        """An order for this worker came, or for another start of it."""
        try:
            message = open_envelope(delivery.payload)
            order = ORDERS.decode(message.type, message.data)
        except Invalid as error:
            log.warning("order_ignored", error=str(error))
            self._spawn(delivery.ack())
            return
        if order.worker != self._worker and delivery.deliveries < ELSEWHERE_MAX:
            # Should that one be alive still, it takes its turn. By chance, since the server gives two orders that come back
            # together to two readers in turn: each would get the other's again, for ever.
            self._spawn(delivery.nak(ELSEWHERE_S * random.uniform(0.5, 1.5)))  # noqa: S311
            return
        self._spawn(delivery.ack())
        if order.worker == self._worker:
            log.debug("order_handled", message_id=message.id, type=message.type, job=order.job, task=order.task)
            self._obey(order)

    def _obey(self, order: Order) -> None:
        key = (order.task, order.attempt)
        held = self._held.get(key)
        if isinstance(order, GrantTask | RefuseTask):
            if held is not None:
                if not held.ordered.done():
                    held.ordered.set_result(order)
                return
            if isinstance(order, RefuseTask):
                return
        elif held is not None:
            held.end("stopped")
            return
        if key in self._reporting:
            self._reporting[key].set()
        elif key not in self._done or isinstance(order, StopTask):
            reason, error = (
                ("stopped", "context canceled") if isinstance(order, StopTask) else ("lost", "the worker knows nothing of it")
            )
            fence = {name: getattr(order, name) for name in ("job", "run", "task", "attempt", "worker")}
            self._report(key, FailTask(**fence, error=error, reason=reason))

    # -- shared -----------------------------------------------------------------------------------------------------

    def _fence(self, task: RunTask) -> dict[str, Any]:
        return {"job": task.job, "run": task.run, "task": task.task, "attempt": task.attempt, "worker": self._worker}

    def _subject(self, word: str, task: RunTask) -> str:
        return self._bus.subjects.report(word, shard_of(task.job, self._shards), self._worker)

    def _message(self, body: msgspec.Struct, task: RunTask | None = None) -> bytes:
        """A message as it travels, with the trace of the task that it speaks of."""
        trace = None if task is None else trace_of(task.definition.env.get(TRACE))
        return encode(body, id=f"{self._worker}-{next(self._numbers)}", at=self._clock.now(), trace=trace)

    def _spawn(self, work: Any) -> None:
        self._keep(asyncio.get_running_loop().create_task(work))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _name(what: RunTask | CompleteTask | FailTask) -> str:
    return f"{what.task}-{what.attempt}"


def _completed(task: RunTask, trace: str | None, timeout: str) -> RunTask:
    """The task with its trace where programs look for it, and the worker's timeout, unless it has its own."""
    definition = task.definition
    if trace is not None and TRACE not in definition.env:
        definition = msgspec.structs.replace(definition, env={**definition.env, TRACE: trace})
    if timeout and not definition.timeout:
        definition = msgspec.structs.replace(definition, timeout=timeout)
    return task if definition is task.definition else msgspec.structs.replace(task, definition=definition)


def _shortened(error: str) -> str:
    if len(error) <= ERROR_MAX:
        return error
    half = ERROR_MAX // 2
    return f"{error[:half]} [{len(error) - ERROR_MAX} characters left out] {error[-half:]}"


_ENDINGS = {
    "stopped": "context canceled",
    "released": "the worker shut down",
    "lost": "the worker was cut off from the broker",
}
