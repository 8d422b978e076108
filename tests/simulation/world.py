"""One seed's world: the services as processes on one virtual loop, their servers in memory, people, and faults."""

import asyncio
import contextlib
import contextvars
import gc
import random
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import structlog
from prometheus_client import REGISTRY

from tests.simulation.checks import Checks
from tests.simulation.faults import CALM, LASTS_S, MACHINES, UNITS, Fault, FaultyWire, Plan, draw
from tests.simulation.hush import MASTER, SECRET
from tests.simulation.loop import Loop, Process, SimulatedClock
from tests.simulation.receivers import KEYS, Receivers
from tests.simulation.telling import ATTEMPTS, Telling
from tests.simulation.users import DEAF, Asked, Gateway, Person, User
from tests.support.memory.broker import Broker
from tests.support.memory.client import Link, MemoryClient
from tests.support.memory.database import Database, MemoryConnection, MemoryReader, Route
from tests.support.memory.runtime import MemoryRuntime, MemorySpool
from windlass import service
from windlass.bus import connection
from windlass.bus.connection import Bus
from windlass.coordinator import main as coordinator
from windlass.coordinator.template import Rendered, settle
from windlass.coordinator.vaults import Vaults
from windlass.errors import Misconfigured, Unavailable
from windlass.eventlog import log as eventlog
from windlass.eventlog.follow import IDLE_S
from windlass.eventlog.log import Appended, Batch
from windlass.eventlog.rows import JobRow, TaskRow
from windlass.gateway.endpoint import Endpoint
from windlass.gateway.intake import Intake
from windlass.gateway.waiting import LOOK_S, Waiting
from windlass.ids import WorkerId
from windlass.scheduler import main as scheduler
from windlass.secrets.keys import transport
from windlass.settings import PROFILES, Node
from windlass.subjects import Subjects
from windlass.webhooks import main as webhooks
from windlass.webhooks import sender
from windlass.webhooks.settings import Settings as WebhookSettings
from windlass.worker import main as worker
from windlass.worker.docker.containers import Amounts
from windlass.worker.settings import Settings as WorkerSettings

SHARDS = 2
SLOTS = 2
SETTLED_AFTER_S = 1.0
"""How long a costly template takes."""
QUIET_WITHIN_S = 150.0
"""From the end of all faults until nothing may be under way any more."""
LOOK_EVERY_S = 0.25
DEAD_AFTER_S = 10.0
"""A connection that is cut for so long is given up by both sides."""
TIMES = msgspec.structs.replace(PROFILES["fast"], grace_s=2.0)
LEEWAY_S = 5.0
"""Beyond the grace period, until a service that was asked to end is ended."""
ZOMBIE_S = TIMES.lease_s + 1.5
"""After this long without the broker a worker runs nothing any more that does as it is told."""
NOTED = {"task.refuse": "refused claim", "job.start": "timer", "task.queue": "timer", "task.expire": "timer"}
"""Messages that are counted, and as what."""
ROWS = ("new_jobs", "new_tasks", "new_composites", "variables", "items", "keys")
"""Of a batch, what is stored beside events and what is sealed."""
_TYPE = re.compile(rb'"type":"([a-z.]+)"')

COUNTERS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "stale fence": [
        ("windlass_reports_ignored_total", {"reason": reason})
        for reason in ("attempt", "ended", "worker", "unclaimed", "unknown", "sender")
    ],
    "re-drive": [("windlass_redrives_total", {})],
    "quarantine": [("windlass_quarantined_total", {})],
    "costly template": [("windlass_templates_costly_total", {})],
}  # fmt: skip
SOMETIMES = (
    "stale fence", "duplicate dropped", "version conflict", "lease expiry", "re-drive", "unknown commit", "refused claim",
    "amnesia", "quarantine", "costly template", "timer", "webhook again", "webhook exhausted",
    "restart", "released", "composite", "webhook sealed",
)  # fmt: skip
"""What must have happened in a campaign, or it has shown nothing."""


async def _settle(question: bytes) -> Rendered:
    """Evaluates a costly template in no time at all, but later."""
    await asyncio.sleep(SETTLED_AFTER_S)
    return settle(question)


def _counted() -> dict[str, float]:
    return {
        name: sum(REGISTRY.get_sample_value(metric, labels) or 0.0 for metric, labels in metrics)
        for name, metrics in COUNTERS.items()
    }


class Unit:
    """A service that is started again whenever it ends, as a supervisor does."""

    def __init__(self, world: "World", name: str, serve: Callable[["Unit"], Coroutine[Any, Any, None]]) -> None:
        self._world, self.name, self._serve = world, name, serve
        self.clock = SimulatedClock(world.loop, world.plan.skew_s.get(MACHINES.get(name, name), 0.0))
        self.link, self.route = Link(), Route()
        self.spool: dict[str, tuple[str, bytes]] = {}
        self.starts = 0
        self.process, self.stop = Process(name), asyncio.Event()

    @property
    def id(self) -> WorkerId:
        """Of this start."""
        return WorkerId(f"{self.name}-{self.starts}")

    def start(self) -> None:
        """A new process."""
        self.starts += 1
        self.process, self.stop = Process(self.name), asyncio.Event()
        self.process.on_death.append(self._on_death)
        self._world.say(self.name, f"starts as {self.id}")
        self._world.loop.spawn(self.process, self._live(self.process))

    async def _live(self, process: Process) -> None:
        try:
            await self._serve(self)
        except (Misconfigured, Unavailable, BaseExceptionGroup) as error:
            if not _is_outage(error) and not process.dead:
                self._world.fail(f"{self.name} broke: {error!r}")
            self._world.say(self.name, f"ends: {error}")
        process.kill()

    def _on_death(self) -> None:
        world = self._world
        world.say(self.name, "is dead")
        for client in self.link.clients:
            client.vanish()
        for session in self.route.connections:
            session.vanish()
        self.link.clients.clear()
        self.route.connections.clear()
        world.checks.all_ended(self.id)
        world.graves.append(self.process)
        world.at(world.loop.time() + world.chance.choice((0.1, 0.5, 3.0)), self.start)


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_outage, error.exceptions))
    return isinstance(error, Misconfigured | Unavailable)


class World:
    """All of it; `run` says what went wrong, if anything."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.seed = seed
        self.chance, self.hush = Random(f"{seed}/world"), Random(f"{seed}/secrets")
        self.plan = plan or draw(Random(f"{seed}/faults"))
        self.loop = Loop(Random(f"{seed}/order"), self.plan.shuffles)
        self.trace: list[tuple[float, str, str]] = []
        self.violation: str | None = None
        self.happened: Counter[str] = Counter()
        self.graves: list[Process] = []
        self.shards, self.subjects = SHARDS, Subjects()
        self.telling = Telling(self.fail, self.loop.time, lambda: self.database.deliveries)
        self.telling.is_calm = self.plan == CALM
        self.checks = Checks(self.fail, self.loop.time, self.true_s, self.telling)
        self.receivers = Receivers(self)
        self.wire = FaultyWire(self.plan, Random(f"{seed}/wire"))
        self.broker = Broker(self.wire, self._heard, self.loop)
        self.database = Database(SHARDS, self.wire, self._committed, self.loop)
        self._link = Link()
        """Of people."""
        self.gateway = Gateway(self)
        serves = {
            "gateway": self._gateway,
            "coordinator": self._coordinator,
            "worker": self._worker,
            "scheduler": self._scheduler,
            "webhooks": self._webhooks,
        }
        self.units = {name: Unit(self, name, serves[name.partition("-")[0]]) for name in UNITS}
        self.users = [User(self, number) for number in range(self.chance.randrange(2, 6))]
        self.person = Person(self)
        self._people: list[asyncio.Task[None]] = []
        self._looked_at = 0.0
        self._healed_at: float | None = None

    @property
    def is_healed(self) -> bool:
        """Whether all faults are over."""
        return self.wire.healed

    # -- telling ----------------------------------------------------------------------------------------------------

    def say(self, who: str, what: str) -> None:
        """A line of the trace."""
        self.trace.append((self.loop.time(), who, what))

    def fail(self, what: str) -> None:
        """Something that was promised does not hold; the first is the one that counts."""
        self.say("!", what)
        if self.violation is None:
            self.violation = what

    def lines(self) -> Iterator[str]:
        """The trace, for people."""
        for at_s, who, what in self.trace:
            yield f"{at_s:10.4f} {who:14} {what}"

    def hears(self, what: str, said: bytes) -> None:
        """Whoever listens there, or reads it, learns no secret."""
        if SECRET.encode() in said:
            self.fail(f"a secret is in clear in {what}: {said[:200]!r}")

    def _heard(self, subject: str, payload: bytes) -> None:
        self.hears(f"a message on {subject}", payload)
        self.person.heard[subject, payload] += 1
        found = _TYPE.search(payload, 0, 400)
        tag = found[1].decode() if found else "?"
        if tag in NOTED:
            self.happened[NOTED[tag]] += 1
        if tag != "node.beat":
            self.say("broker", f"{subject} {tag}")

    def _committed(self, batch: Batch) -> None:
        new = [getattr(batch, name) for name in ROWS]
        rows: list[JobRow | TaskRow] = [*batch.changed_jobs, *batch.changed_tasks, *batch.changed_composites]
        changed = [(row.result, row.error) for row in rows]  # what else they say is stored already
        self.hears("rows", msgspec.json.encode((new, changed)))
        for event in batch.events:
            self.hears(event.type, event.data)
            self.say("log", f"{event.shard}/{event.position} {event.stream} {event.version} {event.type}")
            self.happened["composite"] += event.type == "task.opened"
            self.happened["restart"] += event.type == "job.restarted"
            self.happened["released"] += event.type == "task.redelivered" and b'"released"' in event.data
        self.checks.committed(self.database, batch)

    def true_s(self, event: Appended) -> float:
        """When an event was decided, by the world's time: its stamp is by the clock of its shard's owner."""
        owner = self.database.shards[event.shard].owner
        return (event.at - self.units[owner.rpartition("-")[0]].clock.epoch).total_seconds()

    def _logged(self, logger: Any, method: str, event: dict[str, Any]) -> Any:
        name = event.pop("event")
        self.say(str(event.pop("instance", "log")), f"{name} {event}")
        if name == "worker_lost":
            self.happened["lease expiry"] += 1
            if self.plan.is_gentle:
                self.fail(f"G19: {event} though workers were only asked to end")
        if name in ("job_frozen", "runtime_broke", "request_failed", "shard_stuck"):
            self.fail(f"{name}: {event}")
        raise structlog.DropEvent

    # -- life -------------------------------------------------------------------------------------------------------

    def at(self, when: float, work: Callable[[], None]) -> None:
        """Let something happen that is no process's own doing."""
        self.loop.call_at(when, work, context=contextvars.Context())

    def run(self) -> str | None:
        """Run to the end; what was broken first, or None."""
        before = _counted()
        with _quietly(self._logged, self.seed):
            for number, unit in enumerate(self.units.values()):
                self.at(0.01 * number, unit.start)
            for fault in self.plan.faults:
                self.at(fault.at_s, partial(self._strike, fault))
            crowd = Process("people")
            self.graves.append(crowd)
            for user in self.users:
                self._people.append(self.loop.spawn(crowd, user.live()))
            self._people.append(self.loop.spawn(crowd, self.person.live()))
            self.at(max(LASTS_S, 0.0), self._heal)
            quiet = self.loop.run_until(self._is_over, LASTS_S + QUIET_WITHIN_S)
            if self.violation is None and not quiet:
                self.fail(f"not quiet within {QUIET_WITHIN_S:g} s of virtual time: {self._unquiet()}")
            if self.violation is None:
                self.checks.finished(self)
                for user in self.users:
                    user.judge()
                self.person.judge()
            if self.violation is None and self.loop.failures:
                self.fail(f"nobody caught: {self.loop.failures[0]}")
            self._bury()
        for name, count in _counted().items():
            self.happened[name] += int(count - before[name])
        self.happened.update(self.telling.happened)
        self.happened["duplicate dropped"] += self.broker.refused
        self.happened["version conflict"] += self.database.conflicts
        self.happened["unknown commit"] += self.database.unknown
        return self.violation

    def _bury(self) -> None:
        """Close what still hangs at an await, so that nothing is finalised in another world's time."""
        for unit in self.units.values():
            self.graves.append(unit.process)
        self.loop.bury(self.graves)

    def _is_over(self) -> bool:
        if self.violation is not None:
            return True
        if self._healed_at is None or self.loop.time() - self._looked_at < LOOK_EVERY_S:
            return False
        self._looked_at = self.loop.time()
        return self._unquiet() is None

    def _unquiet(self) -> str | None:
        for person in self._people:
            if not person.done():
                return f"somebody still waits: {person.get_coro()}"
        for unit in self.units.values():
            if unit.spool:
                return f"G3: the spool of {unit.name} holds {list(unit.spool)}"
        for stream in ("intake", "tasks"):
            left = self.broker.streams[stream].messages if stream in self.broker.streams else {}
            if left:
                return f"stream {stream} holds {[message.subject for message in left.values()]}"
        return self.checks.unquiet(self.database)

    # -- faults -----------------------------------------------------------------------------------------------------

    def _strike(self, fault: Fault) -> None:
        self.say("fault", f"{fault.kind} {fault.unit} for {fault.lasts_s:.2f} s")
        unit = self.units.get(fault.unit)
        over_s = self.loop.time() + fault.lasts_s
        match fault.kind:
            case "kill":
                assert unit is not None
                unit.process.dies_at = unit.process.steps + int(fault.lasts_s * 40)
            case "stop":
                assert unit is not None
                unit.stop.set()
                self.at(self.loop.time() + TIMES.grace_s + LEEWAY_S, partial(self._must_have_ended, unit.process))
            case "lose":
                assert unit is not None
                unit.spool.clear()  # its machine is gone, disk and all
                unit.process.kill()
            case "freeze":
                assert unit is not None
                process = unit.process
                process.frozen = True
                self.at(over_s, lambda: self._thaw(process))
            case "cut-broker":
                assert unit is not None
                link = unit.link
                link.cut = True
                self.at(self.loop.time() + DEAD_AFTER_S, lambda: link.sever() if link.cut else None)
                self.at(over_s, link.heal)
                if fault.unit.startswith("worker") and fault.lasts_s > ZOMBIE_S:
                    self.at(self.loop.time() + ZOMBIE_S, partial(self._is_gone, unit.id, link))
            case "cut-database":
                assert unit is not None
                unit.route.cut = True
                self.at(over_s, unit.route.heal)
            case "database-restart":
                self.database.restart()
            case "broker-restart" | "amnesia":
                self._stop_broker(fault.kind == "amnesia", over_s)
            case "kill-all":
                for one in self.units.values():
                    one.process.kill()
                self.database.restart()
                self._stop_broker(False, over_s)

    def _must_have_ended(self, process: Process) -> None:
        """G19; a service that does not end in time is ended."""
        if not process.dead and self.plan.is_gentle:
            self.fail(f"G19: {process.name} was asked to end {TIMES.grace_s + LEEWAY_S:g} s ago")
        process.kill()

    def _is_gone(self, worker: WorkerId, link: Link) -> None:
        """G6: whoever could not renew its lease for so long has killed all that it ran."""
        unit = self.units[worker.rpartition("-")[0]]
        if link.cut and unit.id == worker and not unit.process.frozen:
            for program in self.checks.running.values():
                if program.worker == worker and DEAF not in program.task.definition.run:
                    self.fail(f"G6: {worker} is cut off for {ZOMBIE_S:g} s and runs task {program.task.task}")

    def _stop_broker(self, forget: bool, over_s: float) -> None:
        self.happened["amnesia"] += forget
        self.broker.stop(forget)
        for unit in self.units.values():
            unit.link.held.clear()
        self.at(over_s, self.broker.start)

    def _thaw(self, process: Process) -> None:
        if process.frozen:
            self.say("fault", f"{process.name} goes on")
            self.loop.resume(process)

    def _heal(self) -> None:
        self.say("fault", "all is healed")
        self.wire.healed, self._healed_at = True, self.loop.time()
        self.broker.start()
        for unit in self.units.values():
            unit.process.dies_at = None
            self._thaw(unit.process)
            if unit.link.cut:
                unit.link.heal()
            if unit.route.cut:
                unit.route.heal()

    # -- services ---------------------------------------------------------------------------------------------------

    def connect(self, name: str, link: Link | None = None) -> AbstractAsyncContextManager[Bus]:
        """A connection to the broker."""
        way = link or self._link
        return connection.connect("memory", name, name, make_client=lambda: MemoryClient(self.broker, way))

    def _node(self, unit: Unit) -> Node:
        return Node(
            instance=unit.name, nats_url="memory", http=("127.0.0.1", 0), times=TIMES, log_format="console", log_level="info"
        )

    async def _gateway(self, unit: Unit) -> None:
        reader, stop = MemoryReader(self.database), unit.stop
        async with AsyncExitStack() as held, asyncio.TaskGroup() as group:
            bus = await held.enter_async_context(self.connect("gateway", unit.link))
            chance = Random(f"{self.seed}/{unit.id}")
            commands = Asked(
                self.checks.refused,
                bus,
                unit.clock,
                SHARDS,
                TIMES.commit_timeout_s,
                chance=chance.randbytes,
                keys=transport(MASTER, "gateway"),
            )
            waiting = Waiting(bus, reader)
            self.gateway.process, self.gateway.commands = unit.process, commands
            self.gateway.intake = intake = Intake(commands, waiting, reader, stop)
            endpoint = Endpoint(bus, intake, group)
            await endpoint.open()
            await service.every(LOOK_S, waiting.look, stop)
            await self.gateway.close()
            endpoint.close()

    async def _coordinator(self, unit: Unit) -> None:
        store = MemoryConnection(self.database, coordinator.OWNER_IDLE_S, unit.route)
        aside = MemoryConnection(self.database, None, unit.route)
        shards = await service.first(lambda: store.run(eventlog.shard_count), unit.stop)
        async with self.connect("coordinator", unit.link) as bus:
            health = service.Health("coordinator", unit.name, unit.clock)
            await coordinator.lead(
                unit.id,
                self._node(unit),
                shards,
                store=store,
                aside=aside,
                bus=bus,
                clock=unit.clock,
                settle=_settle,
                vaults=Vaults(MASTER),
                health=health,
                stop=unit.stop,
            )

    async def _scheduler(self, unit: Unit) -> None:
        reading = MemoryConnection(self.database, IDLE_S, unit.route)
        store = MemoryConnection(self.database, IDLE_S, unit.route)
        shards = await service.first(lambda: store.run(eventlog.shard_count), unit.stop)
        async with self.connect("scheduler", unit.link) as bus:
            await scheduler.keep_time(
                unit.id,
                self._node(unit),
                shards,
                reading=reading,
                store=store,
                bus=bus,
                clock=unit.clock,
                boot=MACHINES.get(unit.name, unit.name),
                health=service.Health("scheduler", unit.name, unit.clock),
                stop=unit.stop,
            )

    async def _webhooks(self, unit: Unit) -> None:
        reading = MemoryConnection(self.database, IDLE_S, unit.route)
        sending = MemoryConnection(self.database, sender.IDLE_S, unit.route)
        shards = await service.first(lambda: reading.run(eventlog.shard_count), unit.stop)
        settings = WebhookSettings(
            node=self._node(unit),
            postgres="memory",
            allow_private=True,
            signing_keys=[],
            keys=KEYS,
            attempts_max=ATTEMPTS,
            retention_s=86400,
        )
        async with self.connect("webhooks", unit.link) as bus:
            await webhooks.tell(
                unit.id,
                settings,
                shards,
                reading=reading,
                sending=sending,
                post=self.receivers.post,
                bus=bus,
                clock=unit.clock,
                health=service.Health("webhooks", unit.name, unit.clock),
                stop=unit.stop,
            )

    async def _worker(self, unit: Unit) -> None:
        settings = WorkerSettings(
            node=self._node(unit), name=unit.name, user="", runtime="memory", queues={"default": SLOTS}, spool=Path("memory"),
            docker_host="", control_groups=False, limits=Amounts(), timeout="", binds=(),
            keys=transport(MASTER, "worker"),
        )  # fmt: skip
        async with self.connect("worker", unit.link) as bus:
            await worker.work(
                unit.id,
                settings,
                SHARDS,
                bus=bus,
                runtime=MemoryRuntime(self.checks.began, self.checks.ended),
                spool=MemorySpool(unit.spool),
                clock=unit.clock,
                health=service.Health("worker", unit.name, unit.clock),
                port=0,
                stop=unit.stop,
            )


@contextmanager
def _quietly(logged: Any, seed: int) -> Iterator[None]:
    """The log goes into the trace, chance comes from the seed, and nothing is finalised while the world lives."""
    before, state = structlog.get_config(), random.getstate()
    structlog.configure(
        processors=[logged], wrapper_class=structlog.make_filtering_bound_logger(20), cache_logger_on_first_use=False
    )
    random.seed(seed)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        random.setstate(state)
        with contextlib.suppress(Exception):
            structlog.configure(**before)
