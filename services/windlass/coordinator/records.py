"""Operational rows: task logs, nodes, quarantine. On a connection of their own, so that a flood of output delays no decision."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from windlass import log as logs
from windlass import metrics
from windlass.bus.connection import Bus
from windlass.bus.consume import Jetstream, Puller
from windlass.bus.streams import LOGS, Names
from windlass.clock import Clock
from windlass.coordinator.handler import IGNORED
from windlass.coordinator.tickets import Tickets
from windlass.errors import Invalid, Unavailable
from windlass.eventlog import operational
from windlass.eventlog.connection import Connection
from windlass.eventlog.log import Unfit
from windlass.ids import is_id
from windlass.messages.envelope import open_envelope
from windlass.messages.notices import NOTICES, LogPart, NodeBeat

log = logs.get()

PARTS_MAX = 200
"""Parts stored in one transaction."""
QUARANTINED = metrics.QUARANTINED.counter()


class Records:
    """Keeps what is not in the log."""

    def __init__(self, store: Connection, bus: Bus, clock: Clock, tickets: Tickets) -> None:
        self._store, self._bus, self._clock, self._tickets = store, bus, clock, tickets
        self._parts: deque[Jetstream] = deque()
        self._alone = 0
        """How many of the next parts are stored one by one."""
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    def quarantine(self, delivery: Jetstream, reason: str) -> None:
        """Keep a message with its reason, then end its delivery; until both are done it comes again."""
        QUARANTINED.inc()
        log.warning("message_quarantined", subject=delivery.subject, reason=reason)
        self._spawn(self._quarantine(delivery, reason))

    async def _quarantine(self, delivery: Jetstream, reason: str) -> None:
        try:
            await self._store.run(
                operational.quarantine, delivery.subject, delivery.payload, delivery.headers, reason, self._clock.now()
            )
        except Unavailable as error:
            log.warning("quarantine_postponed", error=str(error))
            await delivery.nak(5)
        else:
            await delivery.term()

    def keep_node(self, beat: NodeBeat, at: datetime) -> None:
        """Store a heartbeat that came at a moment; losing one is harmless."""
        self._spawn(self._keep_node(beat, at))

    async def _keep_node(self, beat: NodeBeat, at: datetime) -> None:
        try:
            await self._store.run(operational.keep_node, beat, at)
        except (Unavailable, Unfit) as error:
            log.warning("node_not_stored", error=str(error))

    async def store_logs(self, stop: asyncio.Event) -> None:
        """Store output as it comes, until `stop`."""

        def take(delivery: Jetstream) -> None:
            self._parts.append(delivery)
            self._wake.set()

        puller = Puller(self._bus, Names(self._bus.subjects).logs, LOGS, take, wanted=PARTS_MAX)
        await puller.start()
        ended = asyncio.ensure_future(stop.wait())
        ended.add_done_callback(lambda _: self._wake.set())
        try:
            while not stop.is_set():
                await self._wake.wait()
                self._wake.clear()
                while self._parts:
                    await self._store_parts()
        finally:
            ended.cancel()
            await puller.stop()

    async def _store_parts(self) -> None:
        together = 1 if self._alone else PARTS_MAX
        self._alone = max(0, self._alone - 1)
        deliveries = [self._parts.popleft() for _ in range(min(together, len(self._parts)))]
        parts, sound = [], []
        for delivery in deliveries:
            try:
                message = open_envelope(delivery.payload)
                part = NOTICES.decode(message.type, message.data)
                if not isinstance(part, LogPart) or not is_id(part.job) or not is_id(part.task):
                    raise Invalid("not a part of a task's output")
                if not delivery.subject.endswith(f".{part.job}.{part.task}"):
                    raise Invalid(f"a part of task {part.task} of job {part.job} on another's subject")
            except Invalid as error:
                self.quarantine(delivery, str(error))
            else:
                if not self._tickets.fits(part):
                    IGNORED.labels("ticket").inc()
                    self._spawn(delivery.term())
                    continue
                parts.append((part, self._clock.now()))
                sound.append(delivery)
        if not parts:
            return
        try:
            await self._store.run(operational.keep_logs, parts)
        except Unfit as error:
            if len(sound) == 1:
                self.quarantine(sound[0], str(error))
                return
            for delivery in reversed(sound):  # one of them is to blame: each by itself
                self._parts.appendleft(delivery)
            self._alone = len(sound)
        except Unavailable as error:
            log.warning("logs_postponed", error=str(error), parts=len(parts))
            for delivery in sound:
                await delivery.nak(1)
        else:
            for delivery in sound:
                await delivery.ack()
            log.debug("logs_stored", parts=len(sound))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
