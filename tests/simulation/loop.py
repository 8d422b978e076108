"""An event loop whose time is virtual and whose order is drawn from a seed.

Everything runs on one thread. Time stands still while anything is ready and jumps to the next timer when nothing is. Each
callback belongs to a process, known by its context: a dead process's callbacks are dropped, wherever it was, and those of a
frozen one wait.
"""

import asyncio
import contextvars
import heapq
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVarTuple

Ts = TypeVarTuple("Ts")
EPOCH = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Process:
    """Something that can be killed or frozen at any await."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = self.frozen = False
        self.steps = 0
        """Callbacks that it has run."""
        self.dies_at: int | None = None
        """The number of callbacks after which it is killed."""
        self.on_death: list[Callable[[], None]] = []
        """What the world does when it is dead: its connections close."""
        self.parked: list[asyncio.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []
        """Kept, so that nothing of a dead process is finalised before the world ends."""

    def kill(self) -> None:
        """It never does anything again."""
        if not self.dead:
            self.dead = True
            self.parked.clear()
            for close in self.on_death:
                close()


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Loop(asyncio.BaseEventLoop):
    """Virtual time, one callback at a time; with `shuffles`, any of the ready ones is next."""

    def __init__(self, chance: Random, shuffles: bool) -> None:
        self._chance, self._shuffles = chance, shuffles
        self._now = 0.0
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._is_over = False
        self.failures: list[str] = []
        """What no code caught."""

    # -- what the library asks of a loop ----------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the world began."""
        return self._now

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always: nothing is called from outside."""
        return True

    def is_closed(self) -> bool:
        """Never."""
        return False

    def create_future(self) -> "asyncio.Future[Any]":
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: contextvars.Context | None = None) -> "asyncio.Task[Any]":
        """A task, which belongs to the process that makes it."""
        if self._is_over:
            coro.close()
            return self.create_future()  # type: ignore[return-value]  # nobody waits for it any more
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        process = _process.get() if context is None else context.get(_process)
        if process is not None:
            process.tasks.append(task)
        return task

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Ready now."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Ready after virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Ready at a virtual moment; those of one moment in the order of their making."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is dropped when its time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Something went wrong and nobody looked."""
        error = context.get("exception")
        if error is not None:
            process = _process.get()
            if process is None or not process.dead:
                self.failures.append(f"{context['message']}: {error!r}")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """See `call_exception_handler`."""
        self.call_exception_handler(context)

    def __del__(self) -> None:
        """There is nothing to close."""

    # -- processes --------------------------------------------------------------------------------------------------

    def spawn(self, process: Process, main: Any) -> "asyncio.Task[Any]":
        """Run a coroutine as a process."""
        context = contextvars.Context()
        context.run(_process.set, process)
        return self.create_task(main, context=context)

    def bury(self, processes: Iterable[Process]) -> None:
        """The world is over: close what still hangs at an await, so that nothing of it is finalised in another's time."""
        self._is_over = True
        asyncio._set_running_loop(self)
        for process in processes:
            process.dead = True
            for task in process.tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is pending, and that is meant
                with suppress(BaseException):
                    task.get_coro().close()
        asyncio._set_running_loop(None)

    def resume(self, process: Process) -> None:
        """Go on where a frozen process stood; all that came meanwhile is ready at once."""
        process.frozen = False
        self._ready.extend(process.parked)
        process.parked.clear()

    def run_until(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Run until `done`, which is asked before time moves on; False if virtual time came to `limit_s` before that."""
        asyncio._set_running_loop(self)
        try:
            while True:
                while self._ready:
                    self._step()
                if done():
                    return True
                while self._timers and self._timers[0][2]._cancelled:
                    heapq.heappop(self._timers)
                if not self._timers or self._timers[0][0] > limit_s:
                    return False
                self._now = max(self._now, self._timers[0][0])
                while self._timers and self._timers[0][0] <= self._now:
                    handle = heapq.heappop(self._timers)[2]
                    if not handle._cancelled:
                        self._ready.append(handle)
        finally:
            asyncio._set_running_loop(None)

    def _step(self) -> None:
        ready = self._ready
        handle = ready.pop(int(self._chance.random() * len(ready)) if self._shuffles and len(ready) > 1 else 0)
        if handle._cancelled:
            return
        process = handle._context.get(_process)  # type: ignore[attr-defined]  # where it was made
        if process is not None:
            if process.dead:
                return
            if process.frozen:
                process.parked.append(handle)
                return
            process.steps += 1
            if process.dies_at is not None and process.steps >= process.dies_at:
                process.kill()
                return
        handle._run()


class SimulatedClock:
    """The loop's time, off the true wall time by `skew_s`."""

    def __init__(self, loop: Loop, skew_s: float = 0.0) -> None:
        self._loop, self.epoch = loop, EPOCH + timedelta(seconds=skew_s)
        """What it says as the world begins."""

    def now(self) -> datetime:
        """See `Clock`."""
        return self.epoch + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        """See `Clock`."""
        return self._loop.time()
