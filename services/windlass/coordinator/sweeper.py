"""Removes what is left of deleted jobs: first the jobs that were part of them, then rows, a part at a time, then their keys."""

import asyncio
from collections.abc import Collection

from windlass import log as logs
from windlass.coordinator.handler import Coordinator, Item
from windlass.errors import Unavailable
from windlass.eventlog import deletions
from windlass.eventlog.connection import Connection
from windlass.ids import JobId
from windlass.messages.commands import DeleteJob

log = logs.get()

LOOK_S = 5.0
"""How often somebody looks for what another left undone, or what waited for webhooks."""
AGAIN_S = 0.2
JOBS_MAX = 50
ROWS_MAX = 2_000
"""Rows removed in one transaction, of each kind."""


class Sweeper:
    """Of the shards that a coordinator owns. Whatever it does, another may do as well."""

    def __init__(self, store: Connection, coordinator: Coordinator, owned: Collection[int]) -> None:
        self._store, self._coordinator, self._owned = store, coordinator, owned

    async def serve(self, stop: asyncio.Event) -> None:
        """Sweep until `stop`, at once where this coordinator has deleted something."""
        deleted = self._coordinator.deleted
        ended = asyncio.ensure_future(stop.wait())
        ended.add_done_callback(lambda _: deleted.set())
        pause_s = LOOK_S
        try:
            while not stop.is_set():
                try:
                    async with asyncio.timeout(pause_s):
                        await deleted.wait()
                except TimeoutError:
                    pass
                deleted.clear()
                try:
                    pause_s = AGAIN_S if await self._look() else LOOK_S
                except Unavailable as error:
                    log.warning("sweep_postponed", error=str(error))
                    pause_s = LOOK_S
        finally:
            ended.cancel()

    async def _look(self) -> bool:
        """Sweep what there is; whether there was more than this once took."""
        found: list[JobId] = await self._store.run(deletions.unswept, list(self._owned), JOBS_MAX) if self._owned else []
        more = len(found) == JOBS_MAX
        for job in found:
            if below := await self._store.run(deletions.below, job, JOBS_MAX):
                self._coordinator.say([Item(job=one, command=DeleteJob(job=one)) for one in below])
                more = True
                continue
            while await self._store.run(deletions.sweep, job, ROWS_MAX):
                pass
            await self._store.run(deletions.end, job)
        return more
