"""Who is there: heartbeats become leases, rows, and the streams and consumers that a worker needs."""

import asyncio
from collections.abc import Container
from datetime import datetime
from typing import Any

from nats.aio.msg import Msg

from windlass import log as logs
from windlass.bus import streams
from windlass.bus.connection import Bus
from windlass.clock import Clock
from windlass.coordinator.lease import Leases
from windlass.coordinator.records import Records
from windlass.errors import Invalid, Unavailable
from windlass.ids import ISSUED, WORKER, WorkerId, byte_for, issued_of
from windlass.messages.envelope import open_envelope
from windlass.messages.notices import NOTICES, NodeBeat, Running
from windlass.subjects import check_queue

log = logs.get()

DEAF_S = 1.5
"""Longer than two of our own heartbeats take, and shorter than any lease: whoever hears nobody may call nobody lost."""
GONE = "OFFLINE"
"""The status of a node's last heartbeat."""


class Census:
    """Listens to every heartbeat."""

    def __init__(
        self,
        *,
        name: str,
        bus: Bus,
        clock: Clock,
        peers: Leases,
        workers: Leases,
        records: Records,
        shards: int,
        owned: Container[int],
    ) -> None:
        self._name, self._bus, self._clock, self._peers, self._workers = name, bus, clock, peers, workers
        self._records, self._shards, self._owned = records, shards, owned
        self._ready: set[str] = set()
        """Workers and queues whose streams and consumers this process has made or found."""
        self._unkept: dict[WorkerId, tuple[NodeBeat, datetime]] = {}
        """The last heartbeat of each node whose shard is not ours, and when it came: perhaps nobody owned it then."""
        self._starts: dict[str, tuple[str, str]] = {}
        """By the users of workers that have their own: whose heartbeat came last, and whose before."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self.heard = 0
        """Heartbeats that were understood."""
        self.running: dict[WorkerId, tuple[Running, ...]] = {}
        """What each worker says that it runs."""
        self._heard_myself_at = clock.monotonic()

    async def start(self) -> None:
        """Begin to listen."""
        await self._bus.subscribe(self._bus.subjects.heartbeats(), self._on_beat)

    @property
    def is_deaf(self) -> bool:
        """Whether our own heartbeats do not come back: the broker may be out of reach though the connection stands."""
        return self._clock.monotonic() - self._heard_myself_at > DEAF_S

    def shards_taken(self) -> None:
        """Store what nodes of shards that are ours now said before; the newest word of a node wins."""
        for beat, at in [kept for node, kept in self._unkept.items() if self._is_ours(node)]:
            del self._unkept[beat.id]
            self._records.keep_node(beat, at)

    def _is_ours(self, node: str) -> bool:
        return byte_for(node) % self._shards in self._owned

    async def broker_returned(self) -> None:
        """Orders' streams live in the broker's memory and are gone: make them again as their workers speak."""
        self._ready.clear()

    async def remove(self, worker: str) -> None:
        """A worker was lost and holds nothing any more; orders go on where another start of it lives."""
        self._ready.discard(worker)
        self.running.pop(WorkerId(worker), None)
        if all(issued_of(other) != issued_of(worker) for other in self._workers.alive()):
            await streams.remove_worker(self._bus, worker)

    async def ensure_queue(self, queue: str) -> None:
        """Make a queue's consumers, if this process has not yet."""
        if f"queue {queue}" not in self._ready:
            await streams.ensure_queue(self._bus, queue)
            self._ready.add(f"queue {queue}")

    async def _on_beat(self, message: Msg) -> None:
        try:
            envelope = open_envelope(message.data)
            beat = NOTICES.decode(envelope.type, envelope.data)
            if (
                not isinstance(beat, NodeBeat)
                or not WORKER.fullmatch(beat.id)
                or message.subject != self._bus.subjects.heartbeat(beat.id)
                or (beat.id.startswith(ISSUED) and beat.service != "worker")  # whom else would it pass for?
            ):
                raise Invalid("not a heartbeat of that node")
        except Invalid as error:
            log.warning("heartbeat_ignored", subject=message.subject, reason=str(error))
            return
        if beat.id == self._name:
            self._heard_myself_at = self._clock.monotonic()
        leases = {"worker": self._workers, "coordinator": self._peers}.get(beat.service)
        if leases is not None and beat.id != self._name:
            if beat.status == GONE:
                leases.end(beat.id)
            elif leases.beat(beat.id, beat.counter):
                self._ready.discard(beat.id)  # new here, or back from the dead: its orders' stream may be gone
        self.heard += 1
        if self._is_ours(beat.id):
            self._unkept.pop(beat.id, None)
            self._records.keep_node(beat, self._clock.now())
        else:
            self._unkept[beat.id] = (beat, self._clock.now())
        if beat.status == GONE:
            self._unkept.pop(beat.id, None)
        if beat.service == "worker":
            self.running[beat.id] = beat.running
            self._compare(beat)
            self._spawn(self._serve_worker(beat))

    def _compare(self, beat: NodeBeat) -> None:
        """Tell when two processes have one user: a former start of a worker speaks again after its successor."""
        user = issued_of(beat.id)
        last, former = self._starts.get(user, ("", ""))
        if beat.status == GONE or user == beat.id:
            self._starts.pop(user, None)
        elif beat.id != last:
            self._starts[user] = (beat.id, last)
            if beat.id == former:
                log.warning("worker_runs_twice", worker=user, remedy="stop one of the two, or issue it an id of its own")

    async def _serve_worker(self, beat: NodeBeat) -> None:
        try:
            if beat.status == GONE:
                await self.remove(beat.id)
                return
            if beat.id not in self._ready:
                await streams.ensure_worker(self._bus, beat.id)
                self._ready.add(beat.id)
            for queue in beat.queues:
                await self.ensure_queue(check_queue(queue))
        except Invalid as error:
            log.warning("queue_refused", worker=beat.id, reason=str(error))
        except Unavailable as error:
            log.warning("worker_not_served", worker=beat.id, error=str(error))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
