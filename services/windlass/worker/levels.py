"""Taking tasks from one queue: never more than its free slots, the highest priority first.

Each priority has a consumer. While a slot is free, every level has a request standing, so an idle worker hears of a task at
once. A task that comes when no slot is free goes back, and its level is remembered as one that has something, as is one whose
message says that more wait behind it; such levels are emptied from 9 down before lower ones are asked, with a request standing
at each level above. So a level known to be empty costs nothing to skip, and strictness leaks by one message at the most.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from windlass.bus.connection import Bus
from windlass.bus.consume import Jetstream, Puller
from windlass.bus.streams import Names
from windlass.subjects import PRIORITIES


class Levels:
    """The ten priorities of a queue and its free slots."""

    def __init__(self, bus: Bus, queue: str, slots: int, begin: Callable[[Jetstream], None]) -> None:
        self.free = slots
        self._begin = begin
        self._filled: set[int] = set()
        """Levels that are known to hold a task."""
        self._probing: int | None = None
        self._awaited = 0
        self._resting = False
        self._tasks: set[asyncio.Task[Any]] = set()
        stream = Names(bus.subjects).tasks
        self._pullers = {
            priority: Puller(bus, stream, Names.level(queue, priority), self._taker(priority), ended=self._ender(priority))
            for priority in PRIORITIES
        }

    async def start(self) -> None:
        """Begin to ask."""
        for puller in self._pullers.values():
            await puller.start()
        self._ask()

    async def rest(self) -> None:
        """End the requests; what was sent already goes back at once, since what is dropped comes again only after a while."""
        self._resting = True
        await asyncio.gather(*[puller.stop(drain=True) for puller in self._pullers.values()])

    def release(self) -> None:
        """A slot is free again."""
        self.free += 1
        self._ask()

    def _taker(self, priority: int) -> Callable[[Jetstream], None]:
        def take(delivery: Jetstream) -> None:
            if self._probing == priority:
                self._awaited -= 1
                if self._awaited == 0 or delivery.pending == 0:
                    self._probing = None
                    if delivery.pending == 0:
                        self._filled.discard(priority)
            elif delivery.pending:
                self._filled.add(priority)
            if self.free > 0 and not self._resting:
                self.free -= 1
                self._begin(delivery)
            else:
                self._filled.add(priority)
                self._spawn(delivery.nak())
            self._ask()

        return take

    def _ender(self, priority: int) -> Callable[[], None]:
        def ended() -> None:
            if self._probing == priority:
                self._probing = None
                self._filled.discard(priority)
            self._ask()

        return ended

    def _ask(self) -> None:
        if self.free <= 0 or self._resting or self._probing is not None:
            return
        highest = max(self._filled, default=0)
        for priority, puller in self._pullers.items():
            if priority == highest > 0:
                break
            # Also while a lower level is emptied: what comes above it meanwhile goes first.
            lacking = (self.free if priority == 0 else 1) - puller.asked
            if lacking > 0:
                self._want(priority, lacking)
        if highest > 0:
            self._probing = highest
            self._awaited = self.free
            self._want(highest, self.free, no_wait=True)

    def _want(self, priority: int, count: int, no_wait: bool = False) -> None:
        puller = self._pullers[priority]
        puller.reserve(count)
        self._spawn(puller.want(count, no_wait))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
