"""Which shards this coordinator owns: it takes its share, gives back the rest, and notices when it has lost all.

A shard is owned by whoever holds its session lock on the connection that commits, so a dead session cannot commit, and a
frozen one is ended by the server or, in the middle of a message, by the others. Every coordinator knows the others by their
heartbeats and computes the same shares.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import nats.errors

from windlass import log as logs
from windlass import metrics
from windlass.bus.connection import Bus
from windlass.bus.consume import Puller
from windlass.bus.streams import Names
from windlass.clock import Clock
from windlass.coordinator.handler import Coordinator, Item
from windlass.coordinator.job.decide import refusing
from windlass.coordinator.job.outgoing import Redrive
from windlass.coordinator.lease import Leases
from windlass.errors import Unavailable
from windlass.eventlog import log as eventlog
from windlass.eventlog.connection import Connection
from windlass.eventlog.migrate import Outdated, newest
from windlass.eventlog.state import evolve
from windlass.ids import JobId, TaskId, WorkerId, is_id, shard_of
from windlass.messages.commands import LoseTask, StopTask
from windlass.messages.envelope import encode
from windlass.messages.events import unfinished
from windlass.messages.notices import Running
from windlass.settings import Times

log = logs.get()

LEASES_LOST = metrics.LEASES_LOST.counter()
DRIVEN_MAX = 500
"""Orders said again in one sweep, of tasks and of jobs each."""


async def _nothing(worker: str) -> None:
    """Nobody wants to know."""


class Ownership:
    """Shards, their consumers, and the sweeps over what they hold."""

    def __init__(
        self,
        *,
        name: str,
        coordinator: Coordinator,
        store: Connection,
        bus: Bus,
        clock: Clock,
        shards: int,
        peers: Leases,
        workers: Leases,
        times: Times,
    ) -> None:
        self._name, self._coordinator, self._store, self._bus, self._clock = name, coordinator, store, bus, clock
        self._shards, self._peers, self._workers, self._times = shards, peers, workers, times
        self._pullers: dict[int, Puller] = {}
        self.incarnation = ""
        self.running: Mapping[WorkerId, Sequence[Running]] = {}
        """What each worker says that it runs."""
        self._strays: frozenset[tuple[str, TaskId, int]] = frozenset()
        """What no row said at the last look: worker, task, attempt."""
        self.gone: Callable[[str], Awaitable[None]] = _nothing
        """Called with each worker that was lost and holds nothing any more."""
        self.taken: Callable[[], None] = lambda: None
        """Called when shards became ours."""

    @property
    def owned(self) -> list[int]:
        """The shards that are owned, in order."""
        return sorted(self._coordinator.heads)

    def pending(self) -> dict[int, int]:
        """How many messages wait in the broker for each owned shard."""
        return {shard: puller.pending for shard, puller in self._pullers.items()}

    def stalled(self) -> str | None:
        """The shards whose consumers do not answer, in words; None if all do."""
        shards = [shard for shard, puller in self._pullers.items() if puller.stalled]
        return f"those of shards {shards} do not answer" if shards else None

    def share(self) -> set[int]:
        """The shards that are ours by right, of those who are alive."""
        alive = sorted({*self._peers.alive(), self._name})
        mine = alive.index(self._name)
        return {shard for shard in range(self._shards) if shard % len(alive) == mine}

    async def balance(self) -> None:
        """Take what is ours and free, give back what is another's; after a lost session, start from nothing.

        Raises:
            Unavailable: the database or the broker did not answer; the next call tries again.
            Outdated: the database is newer than this release, which has to leave.
        """
        found, finished = await self._store.run(eventlog.formats)
        if found > newest():
            raise Outdated(found, newest())
        self._coordinator.fold = refusing(unfinished(finished), evolve)
        async with self._coordinator.lock:
            if self._store.generation != self._coordinator.generation:
                await self._lose()
                self._coordinator.generation = self._store.generation
            for shard in [shard for shard in self._pullers if shard not in self._coordinator.heads]:
                await self._pullers.pop(shard).stop()
            share = self.share()
            for shard in self.owned:
                if shard not in share:
                    await self._give(shard)
            taken = [shard for shard in sorted(share) if shard not in self._coordinator.heads and await self._take(shard)]
        if taken:
            log.info("shards_taken", shards=taken)
            self.taken()
            await self._know_workers(taken)

    async def _take(self, shard: int) -> bool:
        if not self._bus.connected or not self.incarnation:
            return False
        found = await self._store.run_in(self._coordinator.generation, eventlog.take, shard, self._name)
        if found is None:
            return False
        head, incarnation = found
        names = Names(self._bus.subjects)
        try:
            # What a former owner took and did not finish comes again, in order, before all that came later.
            await self._bus.jetstream.reset_consumer(names.intake, Names.shard(shard))
        except (nats.errors.Error, TimeoutError) as error:
            await self._store.run(eventlog.release, shard)
            raise Unavailable(f"the consumer of shard {shard} was not reset: {error or type(error).__name__}") from error
        now = self._clock.now()
        if incarnation != self.incarnation:
            await self._store.run(eventlog.drive_all, shard, self.incarnation, now)
        else:
            await self._store.run(eventlog.rearm, shard, now, self._times.redrive_s, self._times.redrive_max_s)
        self._coordinator.heads[shard] = head
        puller = self._pullers[shard] = Puller(self._bus, names.intake, Names.shard(shard), self._coordinator.take)
        await puller.start()
        return True

    async def _give(self, shard: int) -> None:
        """Hand a shard over: no batch is under way, and what waits in memory comes again to the next owner."""
        await self._pullers.pop(shard).stop()
        del self._coordinator.heads[shard]
        self._coordinator.forget_shard(shard)
        await self._store.run(eventlog.release, shard)
        log.info("shard_given", shard=shard)

    async def _lose(self) -> None:
        for puller in self._pullers.values():
            await puller.stop()
        if self._pullers:
            log.warning("shards_lost", shards=sorted(self._pullers))
        self._pullers.clear()
        self._coordinator.heads.clear()
        self._coordinator.forget()

    async def leave(self) -> None:
        """Give everything back, at the end."""
        async with self._coordinator.lock:
            for shard in list(self._pullers):
                await self._pullers.pop(shard).stop()
            self._coordinator.heads.clear()
        await self._store.drop()

    async def broker_returned(self, incarnation: str) -> None:
        """The broker is back; if its streams are new, everything that waits is due at once."""
        if incarnation == self.incarnation:
            return
        self.incarnation = incarnation
        for shard in self.owned:
            await self._store.run(eventlog.drive_all, shard, incarnation, self._clock.now())
        await self.redrive()

    async def redrive(self) -> None:
        """Say again what has waited too long."""
        due = await self._store.run(eventlog.due, self.owned, self._clock.now(), DRIVEN_MAX)
        self._coordinator.say(Item(job=job, command=Redrive(job=job, task=task)) for job, task in due)

    async def lose_workers(self) -> None:
        """End the attempts of workers whose lease has run out."""
        lost = set(self._workers.expired())
        if not lost:
            return
        held = [row for row in await self._store.run(eventlog.running, self.owned) if row[0] in lost]
        for worker in sorted({row[0] for row in held}):
            LEASES_LOST.inc()
            log.warning("worker_lost", worker=worker, tasks=sum(row[0] == worker for row in held))
        self._coordinator.say(
            Item(job=job, command=LoseTask(job=job, run=run, task=task, attempt=attempt, worker=WorkerId(worker)))
            for worker, job, task, run, attempt in held
        )
        for worker in sorted(lost - {row[0] for row in held}):
            self._workers.forget(worker)
            await self.gone(worker)

    async def stop_strays(self) -> None:
        """Stop what a worker runs and no row knows of: it was taken for lost, lives, and would run that to its end.

        What is found at two looks in a row is meant; to one, a heartbeat may be older than the row.
        """
        said = {
            (worker, held.task, held.attempt): held
            for worker, running in self.running.items()
            for held in running
            if self._is_owned(held.job)
        }
        known = {(row[0], row[2], row[4]) for row in await self._store.run(eventlog.running, self.owned)} if said else set()
        strays = frozenset(key for key, held in said.items() if key not in known and self._is_owned(held.job))
        for worker, task, attempt in sorted(strays & self._strays):
            held = said[worker, task, attempt]
            log.warning("stray_stopped", worker=worker, task=task, attempt=attempt)
            order = StopTask(job=held.job, run=held.run, task=task, attempt=attempt, worker=WorkerId(worker))
            subject, name = self._bus.subjects.orders(worker), f"{self._name}-stop-{task}-{attempt}"
            await self._bus.publish(subject, encode(order, id=name, at=self._clock.now()))
        self._strays = strays

    def _is_owned(self, job: JobId) -> bool:
        return is_id(job) and shard_of(job, self._shards) in self._coordinator.heads

    async def _know_workers(self, shards: list[int]) -> None:
        """Workers that hold something of new shards have a lease from now on, whether they speak or not."""
        for worker, *_ in await self._store.run(eventlog.running, shards):
            self._workers.expect(worker)
