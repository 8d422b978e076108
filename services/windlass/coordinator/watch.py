"""What a coordinator shows of itself: its metrics, and whether its parts have really worked lately."""

from collections.abc import Callable

from windlass import metrics
from windlass.bus.connection import Bus
from windlass.clock import Clock
from windlass.coordinator.handler import Coordinator
from windlass.coordinator.lease import Leases
from windlass.coordinator.ownership import Ownership
from windlass.eventlog import operational
from windlass.eventlog.connection import Connection
from windlass.ids import WorkerId
from windlass.service import Health

CANARY_S = 2.0
"""How often something is written to the broker's disk, only to see that it can be."""
COUNT_S = 5.0
"""How often is counted what waits."""
MISSED = 4
"""So many times in a row something may fail until this service is not ready."""

SHARD_OWNED, SHARD_HEAD = metrics.SHARD_OWNED.gauge(), metrics.SHARD_HEAD.gauge()
INTAKE_WAITING, INTAKE_TAKEN = metrics.INTAKE_WAITING.gauge(), metrics.INTAKE_TAKEN.gauge()
INTAKE_OLDEST_S = metrics.INTAKE_OLDEST_S.gauge()
QUEUED, QUEUED_OLDEST_S = metrics.QUEUED.gauge(), metrics.QUEUED_OLDEST_S.gauge()
LEASES = metrics.LEASES.gauge()


class Watch:
    """Looks now and then."""

    def __init__(
        self,
        *,
        name: WorkerId,
        coordinator: Coordinator,
        ownership: Ownership,
        leases: dict[str, Leases],
        aside: Connection,
        bus: Bus,
        clock: Clock,
        shards: int,
        health: Health,
    ) -> None:
        self._coordinator, self._ownership, self._leases = coordinator, ownership, leases
        self._aside, self._bus, self._clock, self._shards = aside, bus, clock, shards
        self._canary = bus.subjects.canary(name)
        self._queues: set[str] = set()
        """Those that were ever seen to have something waiting: they say 0 when it has gone."""
        health.check("nats", lambda: None if bus.connected else "not connected")
        health.check("shards", lambda: None if coordinator.heads or ownership.share() == set() else "owns none yet")
        health.check("consumers", ownership.stalled)
        self._wrote: Callable[[], None] = health.expect("broker", CANARY_S * MISSED)
        self._counted: Callable[[], None] = health.expect("records", COUNT_S * MISSED)

    async def canary(self) -> None:
        """Write to the broker: one whose disk failed may take no message and say nothing.

        Raises:
            NotStored, Unavailable: it did not take it.
        """
        await self._bus.publish(self._canary, b"{}", timeout_s=CANARY_S)
        self._wrote()

    async def count(self) -> None:
        """Set the gauges.

        Raises:
            Unavailable: the database did not answer.
        """
        heads, pending, now = self._coordinator.heads, self._ownership.pending(), self._clock.now()
        for shard in range(self._shards):
            SHARD_OWNED.labels(shard).set(shard in heads)
            for gauge, values in ((SHARD_HEAD, heads), (INTAKE_WAITING, pending)):
                if shard in values:
                    gauge.labels(shard).set(values[shard])
                else:
                    gauge.remove(shard)
        taken, oldest_at = self._coordinator.taken()
        INTAKE_TAKEN.set(taken)
        INTAKE_OLDEST_S.set(max(0.0, now.timestamp() - oldest_at) if taken else 0.0)
        for service, leases in self._leases.items():
            LEASES.labels(service).set(len(leases.alive()))
        found = {queue: (tasks, since) for queue, tasks, since in await self._aside.run(operational.waiting, sorted(heads))}
        self._queues.update(found)
        for queue in self._queues:
            tasks, since = found.get(queue, (0, now))
            QUEUED.labels(queue).set(tasks)
            QUEUED_OLDEST_S.labels(queue).set(max(0.0, (now - since).total_seconds()))
        self._counted()
