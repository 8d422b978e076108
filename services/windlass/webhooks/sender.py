"""Sends what is owed: takes lanes that are due, calls, records what came of it, and lets the lanes go.

Recording and taking are one transaction, one at a time, so the more calls end together the fewer transactions it takes.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Concatenate, ParamSpec, TypeVar

import psycopg

from windlass import log as logs
from windlass import metrics
from windlass.clock import Clock
from windlass.errors import Unavailable
from windlass.eventlog import deliveries
from windlass.eventlog.connection import Connection
from windlass.eventlog.deliveries import Room, Settled, Taken
from windlass.webhooks.call import TooLate
from windlass.webhooks.policy import Answer, judge

log = logs.get()

P = ParamSpec("P")
R = TypeVar("R")

IDLE_S = 3
"""The session that holds lanes is ended when it was silent for this long, and its lanes are free."""
FENCE_S = 2.5
"""How long after a word from the server our lanes are still surely ours."""
LOOK_S = 1.0
"""How often it looks for what is due without being told."""
CALLS_MAX = 256
"""Calls of one instance that may be under way."""
HOST_CALLS_MAX = 32
"""Of them, to one host and port."""
ENDPOINT_CALLS_MAX = 8
"""Of them, to one path there: one that hangs holds no more places than this."""
ERROR_MAX = 300
"""Characters that are kept of why a call failed."""
FORGET_MAX = 500
"""Deliveries and jobs that are forgotten at a time, some milliseconds' work."""
FORGET_PAUSE_S = 0.1
"""Between two such times, while there is more: what is to be sent goes first."""
ENDPOINTS_MAX = 200
"""Endpoints that one look goes through, a fraction of a millisecond each; the next look goes on from there."""

OUTCOMES = metrics.DELIVERIES.counter()
ATTEMPTS = metrics.DELIVERY_ATTEMPTS.counter()
CALL_SECONDS = metrics.DELIVERY_S.histogram()
OLDEST_S = metrics.DELIVERY_OLDEST_S.gauge()

Post = Callable[[Taken, Callable[[], bool]], Awaitable[Answer]]
"""Makes a call, if the second argument still says yes at the last moment before the first byte; raises `TooLate` if not."""


class Sender:
    """One instance that sends. `store` is a connection for this alone, made with `IDLE_S`."""

    def __init__(self, *, store: Connection, post: Post, clock: Clock, attempts_max: int, retention_s: float) -> None:
        self._store, self._post, self._clock = store, post, clock
        self._attempts_max, self._retention_s = attempts_max, retention_s
        self._owner = 0
        """By which this session takes lanes; 0 while there is no session."""
        self._session = 0
        """Which of the connection's it is."""
        self._heard_at = 0.0
        """When the session was last known to live."""
        self._settled: list[Settled] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._hosts: Counter[str] = Counter()
        self._endpoints: Counter[str] = Counter()
        self._after = ""
        self._wake = asyncio.Event()
        self.progressed: Callable[[], None] = lambda: None
        """Called after each look."""

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    def trouble(self) -> str | None:
        """What keeps it from sending, if anything does: for the service's health."""
        silent = self._clock.monotonic() - self._heard_at
        return f"has not looked for deliveries for {silent:.0f} s" if silent > 10 else None

    async def serve(self, stop: asyncio.Event) -> None:
        """Send until `stop`; calls under way then are finished and recorded."""
        ended = asyncio.ensure_future(stop.wait())
        ended.add_done_callback(lambda _: self._wake.set())
        try:
            while not stop.is_set() or self._calls or self._settled:
                self._wake.clear()
                await self._step(CALLS_MAX - len(self._calls) if not stop.is_set() else 0)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._wake.wait()
        finally:
            ended.cancel()
            for call in self._calls:
                call.cancel()
            await self._store.drop()

    async def _step(self, most: int) -> None:
        """Record what has ended, and begin at most `most` calls."""
        settled, self._settled = self._settled, []
        try:
            if self._owner == 0:
                self._owner = await self._store.run(deliveries.enter)
                self._session = self._store.generation
            asked_at = self._clock.monotonic()
            room = Room(
                most=most,
                endpoint_max=ENDPOINT_CALLS_MAX,
                host_max=HOST_CALLS_MAX,
                endpoints=dict(self._endpoints),
                hosts=dict(self._hosts),
                look=ENDPOINTS_MAX,
                after=self._after,
            )
            lanes, self._after = await self._ask(deliveries.step, self._owner, settled, self._clock.now(), room)
            taken = await self._ask(deliveries.first, lanes) if lanes else []
        except Unavailable as error:
            # What had ended is not on record, and sent again under the same id by whoever takes those lanes.
            log.warning("sending_postponed", error=str(error), unrecorded=len(settled))
            self._owner = 0
            return
        self._heard_at = asked_at
        for done in settled:
            if done.state != "WAITING":
                OUTCOMES.labels(done.state.lower()).inc()
        for delivery in taken:
            self._begin(delivery)
        if self._after and most > 0:
            self._wake.set()  # there are more endpoints to look at
        self.progressed()

    async def _ask(self, work: Callable[Concatenate[psycopg.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """In the session that holds our lanes, or not at all."""
        return await self._store.run_in(self._session, work, *args, **kwargs)

    def _begin(self, delivery: Taken) -> None:
        self._count(delivery, 1)
        call = asyncio.get_running_loop().create_task(self._call(delivery, self._owner))
        self._calls.add(call)

        def end(_: "asyncio.Task[None]") -> None:
            self._calls.discard(call)
            self._count(delivery, -1)
            self._wake.set()

        call.add_done_callback(end)

    def _count(self, delivery: Taken, change: int) -> None:
        for calls, receiver in ((self._hosts, delivery.host), (self._endpoints, delivery.endpoint)):
            calls[receiver] += change
            if not calls[receiver]:
                del calls[receiver]

    async def _call(self, delivery: Taken, owner: int) -> None:
        at, began = self._clock.now(), self._clock.monotonic()
        try:
            answer = await self._post(
                delivery, lambda: owner == self._owner and self._clock.monotonic() - self._heard_at < FENCE_S
            )
        except TooLate:
            log.warning("delivery_left", delivery=delivery.id, job=delivery.job)
            with suppress(Unavailable):  # then the session is gone, and the lane with it
                await self._ask(deliveries.release, owner, delivery.lane)
            return
        except Exception as error:  # whatever a receiver brings about, its lane must be let go
            log.exception("call_failed", delivery=delivery.id, job=delivery.job)
            answer = Answer(None, repr(error))
        took_s = self._clock.monotonic() - began
        ATTEMPTS.labels(str(answer.status or 0)).inc()
        CALL_SECONDS.observe(took_s)
        state, pause_s = judge(answer, delivery.attempts + 1, self._attempts_max, random.random())  # noqa: S311 jitter
        level = log.info if state == "DELIVERED" else log.warning
        level(
            "webhook_called",
            job=delivery.job,
            delivery=delivery.id,
            host=delivery.host,
            attempt=delivery.attempts + 1,
            outcome=state.lower(),
            status=answer.status,
            error=answer.error,
            duration_ms=round(took_s * 1000),
        )
        if owner != self._owner:
            return  # another session's lane by now
        due_at = self._clock.now() + timedelta(seconds=pause_s)
        self._settled.append(Settled(delivery, state, at, round(took_s * 1000), answer.status, _storable(answer.error), due_at))

    async def free(self) -> None:
        """Take from sessions that have ended what they held."""
        if self._owner:
            freed = await self._store.run(deliveries.free)
            if freed:
                log.info("lanes_freed", lanes=freed)
                self._wake.set()

    async def forget(self) -> None:
        """Forget what has been over for long, a little at a time."""
        before = self._clock.now() - timedelta(seconds=self._retention_s)
        while await self._store.run(deliveries.forget, before, FORGET_MAX) == FORGET_MAX:
            await asyncio.sleep(FORGET_PAUSE_S)

    async def measure(self) -> None:
        """Tell how old the oldest delivery is that waits."""
        since = await self._store.run(deliveries.oldest)
        OLDEST_S.set(0 if since is None else max(0.0, (self._clock.now() - since).total_seconds()))


def _storable(text: str) -> str:
    """What a receiver made us say, as a database can hold it."""
    return text[:ERROR_MAX].replace("\0", "").encode(errors="replace").decode()
