"""Taking messages from a durable consumer by standing pull requests.

The server sends as messages come, up to what was asked for; asking again by count makes batches without timers or polls.
Pull requests live on the server's side of a connection: after a reconnect, or when the consumer was made anew, they must be
sent again, and a request that the server forgot is noticed by its age.
"""

import asyncio
import itertools
from collections.abc import Callable

import msgspec
import nats.errors
from nats.aio.msg import Msg

from windlass.bus.connection import Bus

EXPIRES_S = 30
"""How long the server keeps a pull request."""
WATCH_S = 5
"""Beyond that, how long until a request that was not answered is taken for lost."""
MISSES_MAX = 4
"""A consumer that refused so many requests in a row is not coming back by itself."""
ACCEPTED_S = 0.1
"""A request that was not refused within this is taken to be accepted."""


class Jetstream:
    """A message of a consumer, and its ends: `ack`, never again; `nak`, again later; `term`, it can never succeed."""

    __slots__ = ("_bus", "_reply", "headers", "payload", "subject")

    def __init__(self, bus: Bus, message: Msg) -> None:
        self._bus = bus
        self._reply = message.reply
        self.subject = message.subject
        self.payload = message.data
        self.headers = message.headers

    def _field(self, index: int) -> int:
        """A number of the ack subject: `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>`,
        or the longer form with a domain and an account in front (ADR-15)."""
        fields = self._reply.split(".")
        return int(fields[index if len(fields) == 9 else index + 2])

    @property
    def deliveries(self) -> int:
        """How often it was delivered, this time included."""
        return self._field(4)

    @property
    def sequence(self) -> int:
        """Its number in the stream."""
        return self._field(5)

    @property
    def pending(self) -> int:
        """How many more the consumer had to give when it sent this one."""
        return self._field(8)

    @property
    def stamp_ns(self) -> int:
        """When the stream stored it, in nanoseconds since 1970."""
        return self._field(7)

    async def ack(self) -> None:
        """Done."""
        await self._bus.tell(self._reply, b"+ACK")

    async def nak(self, delay_s: float = 0) -> None:
        """Not now: again after `delay_s`."""
        await self._bus.tell(self._reply, b'-NAK {"delay": %d}' % int(delay_s * 1e9) if delay_s else b"-NAK")

    async def term(self) -> None:
        """Never again."""
        await self._bus.tell(self._reply, b"+TERM")

    async def working(self) -> None:
        """Still at it: start the ack wait anew."""
        await self._bus.tell(self._reply, b"+WPI")


class _Pull(msgspec.Struct, omit_defaults=True):
    batch: int
    expires: int = 0
    no_wait: bool = False


_encode = msgspec.json.Encoder().encode


class Puller:
    """Standing pulls on one consumer; hands each message to `deliver`, in order, from the event loop.

    `wanted` is how many messages may be on their way: all of it is asked for at once, and again when half has come. Given
    `ended`, it asks only when `want` is called, and `ended` is called when a request is over before all of it has come.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        deliver: Callable[[Jetstream], None],
        *,
        wanted: int = 512,
        ended: Callable[[], None] | None = None,
    ) -> None:
        self._bus = bus
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._deliver = deliver
        self._wanted = wanted
        self._ended = ended
        self._asked = 0
        self._heard_at = 0.0
        self._inbox = ""
        self._numbers = itertools.count()
        self._subscription: object = None
        self._watch: asyncio.Task[None] | None = None
        self._misses = 0
        self._last: Jetstream | None = None
        self._stopped = False
        self._forget: Callable[[], None] = lambda: None
        self.consumer = consumer

    async def start(self) -> None:
        """Begin to take."""
        self._inbox = self._bus.new_inbox()
        self._subscription = await self._bus.subscribe(f"{self._inbox}.*", self._on_message)
        self._forget = self._bus.on_connected(self._again)
        self._watch = asyncio.get_running_loop().create_task(self._watchdog())
        await self._fill()

    async def stop(self, drain: bool = False) -> None:
        """Take no more; what the server already sent is dropped and comes again, or with `drain` still delivered."""
        self._stopped = True
        self._forget()
        if self._watch is not None:
            self._watch.cancel()
        if self._subscription is not None:
            await self._bus.unsubscribe(self._subscription, drain)  # type: ignore[arg-type]  # made by subscribe

    @property
    def asked(self) -> int:
        """How many messages are asked for and have not come."""
        return self._asked

    @property
    def pending(self) -> int:
        """How many messages waited in the consumer when it last gave one."""
        return 0 if self._last is None else self._last.pending

    @property
    def stalled(self) -> bool:
        """Whether the server has refused our requests again and again, or forgotten them."""
        silent_s = asyncio.get_running_loop().time() - self._heard_at
        if silent_s < WATCH_S:  # else our last request was accepted after all
            return self._misses >= MISSES_MAX
        return self._asked > 0 and silent_s > EXPIRES_S + 2 * WATCH_S

    @property
    def accepted(self) -> bool:
        """Whether the server has kept our last request for a moment, so that there is such a consumer."""
        return self._asked > 0 and asyncio.get_running_loop().time() - self._heard_at > ACCEPTED_S

    async def _again(self) -> None:
        self._asked = 0
        if self._ended is not None:
            self._ended()
        await self._fill()

    async def _fill(self) -> None:
        if self._ended is None and not self._stopped and self._asked <= self._wanted // 2:
            batch = self._wanted - self._asked
            self.reserve(batch)
            await self.want(batch)

    def reserve(self, batch: int) -> None:
        """Count messages as asked for, before `want` asks."""
        self._asked += batch
        self._heard_at = asyncio.get_running_loop().time()  # `accepted` counts from here: nothing can have been refused before

    async def want(self, batch: int, no_wait: bool = False) -> None:
        """Ask for `batch` more, which `reserve` has counted; with `no_wait`, only for what is there now."""
        self._heard_at = asyncio.get_running_loop().time()
        request = _Pull(batch=batch, expires=0 if no_wait else EXPIRES_S * 1_000_000_000, no_wait=no_wait)
        try:
            await self._bus.client.publish(self._subject, _encode(request), reply=f"{self._inbox}.{next(self._numbers):x}")
        except nats.errors.Error:
            self._asked -= batch  # the reconnect asks again

    async def _on_message(self, message: Msg) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        headers = message.headers
        if headers and "Status" in headers and not message.reply:
            await self._on_status(headers)
            return
        self._asked = max(0, self._asked - 1)
        self._misses = 0
        self._last = delivery = Jetstream(self._bus, message)
        self._deliver(delivery)
        if self._ended is None and self._asked <= self._wanted // 2:
            await self._fill()

    async def _on_status(self, headers: dict[str, str]) -> None:
        status = headers["Status"]
        if status == "100" or self._stopped:
            return
        pending = headers.get("Nats-Pending-Messages")
        self._asked = max(0, self._asked - int(pending)) if pending is not None else 0
        if status not in ("404", "408"):  # no such consumer (yet), or it was deleted: pause, longer each time
            self._misses += 1
            await asyncio.sleep(min(2.0, 0.05 * 2**self._misses))
        if self._ended is not None:
            self._ended()
        await self._fill()

    async def _watchdog(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            silent = asyncio.get_running_loop().time() - self._heard_at
            if self._asked and silent > EXPIRES_S + WATCH_S and self._bus.connected:
                await self._again()
