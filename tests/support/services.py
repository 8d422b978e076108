"""Services for tests: a coordinator in this process, and a worker played by hand."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg

from tests.support.waiting import until
from windlass import ids, service
from windlass.bus import streams
from windlass.bus.connection import Bus, connect
from windlass.bus.consume import Jetstream, Puller
from windlass.bus.streams import Names
from windlass.clock import Clock
from windlass.clock import system as clock
from windlass.coordinator.main import serve
from windlass.coordinator.settings import Settings
from windlass.errors import rebuild
from windlass.eventlog.connection import Connection
from windlass.eventlog.follow import IDLE_S
from windlass.ids import JobId, TaskId, WorkerId
from windlass.messages.commands import (
    ANSWERS,
    ORDERS,
    QUEUED,
    Answer,
    ClaimTask,
    CompleteTask,
    FailTask,
    Order,
    ReportProgress,
    RunTask,
    SubmitJob,
)
from windlass.messages.envelope import encode, open_envelope
from windlass.messages.jobs import Job
from windlass.messages.notices import NodeBeat, Running
from windlass.scheduler.main import keep_time
from windlass.scheduler.steady import boot_id
from windlass.settings import PROFILES, Node, Times

FAST = PROFILES["fast"]
WORDS: dict[type[Any], str] = {ClaimTask: "started", ReportProgress: "progress", CompleteTask: "completed", FailTask: "error"}


@asynccontextmanager
async def coordinator(nats_url: str, dsn: str, prefix: str = "", times: Times = FAST) -> AsyncIterator[None]:
    """A real coordinator in this process, once it owns every shard; the database is migrated."""
    node = _node(nats_url, prefix, times)
    stop = asyncio.Event()
    serving = asyncio.get_running_loop().create_task(serve(Settings(node=node, postgres=dsn), stop))
    try:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            async with asyncio.timeout(30):
                while not serving.done():
                    row = await (await connection.execute("SELECT bool_and(owner <> '') FROM windlass.shards")).fetchone()
                    if row is not None and row[0]:
                        break
                    await asyncio.sleep(0.02)
        yield
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await serving


def _node(nats_url: str, prefix: str, times: Times) -> Node:
    return Node(
        instance=f"i-{secrets.token_hex(3)}",
        nats_url=nats_url,
        http=("127.0.0.1", 0),
        times=times,
        log_format="console",
        log_level="info",
        prefix=prefix,
    )


@asynccontextmanager
async def scheduler(
    nats_url: str, dsn: str, prefix: str = "", times: Times = FAST, clock: Clock = clock, boot: str | None = None
) -> AsyncIterator[service.Health]:
    """A real scheduler in this process, by this clock and, for all that it knows, on a machine of this boot; its health."""
    node, name, stop = _node(nats_url, prefix, times), ids.new_node(), asyncio.Event()
    health = service.Health("scheduler", node.instance, clock)
    async with AsyncExitStack() as held:
        reading, store = (Connection(dsn, f"{role} {name}", IDLE_S) for role in ("scheduler", "timers"))
        held.push_async_callback(reading.close)
        held.push_async_callback(store.close)
        bus = await held.enter_async_context(connect(nats_url, "scheduler", node.instance, prefix))
        keeping = keep_time(
            name, node, 16, reading=reading, store=store, bus=bus, clock=clock, boot=boot or boot_id(), health=health, stop=stop
        )
        serving = asyncio.get_running_loop().create_task(keeping)
        try:
            yield health
        finally:
            stop.set()
            async with asyncio.timeout(20):
                await serving


class Desk:
    """Whoever submits, asks and looks: an operator."""

    def __init__(self, bus: Bus, shards: int = 16) -> None:
        self.bus, self._shards = bus, shards

    def shard_of(self, job: str) -> int:
        """The shard of a job or task."""
        return ids.shard_of(job, self._shards)

    def new(self) -> JobId:
        """The id of a job to be."""
        return JobId(ids.new(clock.now()))

    async def ask(self, subject: str, body: msgspec.Struct, within_s: float = 15) -> Answer:
        """Say something that is answered."""
        reply, future = self.bus.expect()
        await self.bus.publish(subject, encode(body, id=secrets.token_hex(4), at=clock.now(), reply=reply))
        async with asyncio.timeout(within_s):
            message = open_envelope(await future)
        return ANSWERS.decode(message.type, message.data)

    async def command(self, body: Any) -> dict[str, Any]:
        """A command to a job; what it was answered, or the error."""
        answer = await self.ask(self.bus.subjects.jobs(self.shard_of(body.job)), body)
        if answer.code is not None:
            raise rebuild(answer.code, answer.message or "")
        return {} if isinstance(answer.body, msgspec.UnsetType) else dict(msgspec.json.decode(answer.body))

    async def submit(self, definition: Job, job: JobId | None = None, **fields: Any) -> JobId:
        """Submit a job; its id once that is on record."""
        said = await self.command(SubmitJob(job=job or self.new(), definition=definition, **fields))
        return JobId(said["job"])


class Hand:
    """A worker played by hand: it takes tasks and orders when the test says so, and reports what the test says."""

    def __init__(self, bus: Bus, name: str | None = None, queue: str = "default") -> None:
        self.bus, self.id, self._queue = bus, WorkerId(name or f"hand-{secrets.token_hex(4)}"), queue
        self.orders: list[Order] = []
        self.tasks: list[tuple[RunTask, Jetstream]] = []
        self.running: tuple[Running, ...] = ()
        """What its heartbeats say that it runs."""
        self._counter = 0
        self._pullers: list[Puller] = []
        self._beating: asyncio.Task[None] | None = None
        self._acks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Speak, and take."""
        names = Names(self.bus.subjects)
        await streams.ensure_queue(self.bus, self._queue)
        await streams.ensure_worker(self.bus, self.id)
        self._pullers = [
            Puller(self.bus, names.orders(self.id), streams.ORDERS, self._on_order),
            *[
                Puller(self.bus, names.tasks, names.level(self._queue, level), self._on_task, wanted=8)
                for level in range(9, -1, -1)
            ],
        ]
        for puller in self._pullers:
            await puller.start()
        await self.beat()

    async def beat(self, status: str = "UP") -> None:
        """One heartbeat."""
        self._counter += 1
        body = NodeBeat(
            id=self.id, name="hand", service="worker", counter=self._counter, version="0", hostname="h", status=status,
            started_at=datetime(2026, 1, 1, tzinfo=UTC), queues={self._queue: 8}, running=self.running,
        )  # fmt: skip
        await self.bus.publish(self.bus.subjects.heartbeat(self.id), encode(body, id=f"b{self._counter}", at=clock.now()))

    def beat_on(self) -> None:
        """Beat until `silence`."""

        async def beats() -> None:
            while True:
                await self.beat()
                await asyncio.sleep(0.2)

        self._beating = asyncio.get_running_loop().create_task(beats())

    def silence(self) -> None:
        """Say no more."""
        if self._beating is not None:
            self._beating.cancel()

    async def stop(self) -> None:
        """Take no more."""
        self.silence()
        for puller in self._pullers:
            await puller.stop()

    def _on_order(self, delivery: Jetstream) -> None:
        message = open_envelope(delivery.payload)
        self.orders.append(ORDERS.decode(message.type, message.data))
        self._ack(delivery)

    def _on_task(self, delivery: Jetstream) -> None:
        message = open_envelope(delivery.payload)
        self.tasks.append((QUEUED.decode(message.type, message.data), delivery))
        self._ack(delivery)

    def _ack(self, delivery: Jetstream) -> None:
        task = asyncio.get_running_loop().create_task(delivery.ack())
        self._acks.add(task)
        task.add_done_callback(self._acks.discard)

    async def task(self, job: str, attempt: int = 1, key: str = "1") -> RunTask:
        """The dispatch of a job's step, once it came."""

        def find() -> RunTask | None:
            wanted = (job, attempt, key)
            return next((task for task, _ in self.tasks if (task.job, task.attempt, task.key) == wanted), None)

        return await until(f"attempt {attempt} of a task of {job} is dispatched", find)

    def fence(self, task: RunTask) -> dict[str, Any]:
        """What every report of a task says."""
        return {"job": task.job, "run": task.run, "task": task.task, "attempt": task.attempt, "worker": self.id}

    def payload(self, body: Any, reply: str | None = None) -> bytes:
        """A report as it travels."""
        return encode(body, id=secrets.token_hex(4), at=clock.now(), reply=reply)

    async def say(self, body: Any, word: str | None = None) -> None:
        """Report, and wait for nothing."""
        subject = self.bus.subjects.report(word or WORDS[type(body)], ids.shard_of(body.job, 16), self.id)
        await self.bus.publish(subject, self.payload(body))

    async def report(self, body: Any) -> Answer:
        """Report, and wait for the answer."""
        reply, future = self.bus.expect()
        subject = self.bus.subjects.report(WORDS[type(body)], ids.shard_of(body.job, 16), self.id)
        await self.bus.publish(subject, self.payload(body, reply))
        async with asyncio.timeout(15):
            message = open_envelope(await future)
        return ANSWERS.decode(message.type, message.data)

    async def order(self, kind: type[Order], task: TaskId, count: int = 1) -> Order:
        """The `count`th order of a kind for a task, once it came."""

        def find() -> Order | None:
            found = [order for order in self.orders if isinstance(order, kind) and order.task == task]
            return found[count - 1] if len(found) >= count else None

        return await until(f"{kind.__name__} number {count} for {task}", find)

    async def claim(self, task: RunTask) -> Order:
        """Claim a task; the answer."""
        before = len(self.orders)
        await self.say(ClaimTask(**self.fence(task), ticket=task.ticket))

        def find() -> Order | None:
            return next((order for order in self.orders[before:] if order.task == task.task), None)

        return await until(f"an answer to the claim of {task.task}", find)


@asynccontextmanager
async def desk(nats_url: str, prefix: str) -> AsyncIterator[Desk]:
    """An operator's connection; the streams of its prefix are gone afterwards."""
    async with connect(nats_url, "operator", "desk", prefix) as bus:
        try:
            yield Desk(bus)
        finally:
            for info in await bus.jetstream.streams_info():
                if prefix and info.config.name is not None and info.config.name.startswith(prefix.replace(".", "_")):
                    await bus.jetstream.delete_stream(info.config.name)
