"""Waiting for jobs to end: told by the coordinators' notices, and looked up, since a notice may be lost.

The notices of all jobs are subscribed to once a process, and only while somebody waits: a gateway that nobody waits at pays
nothing for the jobs of others.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nats.aio.msg import Msg

from windlass import log as logs
from windlass.bus.connection import Bus
from windlass.errors import Invalid
from windlass.eventlog.read import Reader
from windlass.eventlog.rows import ENDED
from windlass.messages.envelope import open_envelope
from windlass.messages.notices import NOTICES, StreamChanged

LOOK_S = 1.0
"""How often the states of all jobs somebody waits for are read, in one query."""
LINGER = 30
"""Looks without anybody waiting until the notices are no longer subscribed to."""

log = logs.get()


class Waiting:
    """Who waits for which job."""

    def __init__(self, bus: Bus, reader: Reader) -> None:
        self._bus, self._reader = bus, reader
        self._ends: dict[str, list[asyncio.Future[None]]] = {}
        self._subscription: object | None = None
        self._lock = asyncio.Lock()
        self._idle = 0

    async def listen(self) -> None:
        """Hear of jobs that end from now on; call it before the job is submitted."""
        self._idle = 0
        if self._subscription is None:
            async with self._lock:
                if self._subscription is None:
                    self._subscription = await self._bus.subscribe(self._bus.subjects.changes("job"), self._on_notice)

    @contextmanager
    def end_of(self, job: str) -> Iterator["asyncio.Future[None]"]:
        """A future that is done when the job has ended."""
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends.setdefault(job, []).append(end)
        try:
            yield end
        finally:
            end.cancel()
            ends = self._ends.get(job, [])
            with suppress(ValueError):
                ends.remove(end)
            if not ends:
                self._ends.pop(job, None)

    async def look(self) -> None:
        """Read which of the jobs have ended; to be called every `LOOK_S`.

        Raises:
            Unavailable: the database did not answer.
        """
        if self._ends:
            self._idle = 0
            for job in await self._reader.ended(list(self._ends)):
                self._ended(job)
            return
        self._idle += 1
        if self._idle > LINGER and self._subscription is not None:
            async with self._lock:
                subscription, self._subscription = self._subscription, None
                await self._bus.unsubscribe(subscription)  # type: ignore[arg-type]  # the bus keeps its class to itself

    def _ended(self, job: str) -> None:
        for end in self._ends.get(job, ()):
            if not end.done():
                end.set_result(None)

    async def _on_notice(self, message: Msg) -> None:
        job = message.subject.rpartition(".")[2]
        if job not in self._ends:
            return
        try:
            envelope = open_envelope(message.data)
            notice = NOTICES.decode(envelope.type, envelope.data)
        except Invalid as error:
            log.warning("notice_unreadable", subject=message.subject, error=str(error))
            return
        if isinstance(notice, StreamChanged) and notice.state in ENDED:
            self._ended(job)
