"""A client of the broker in memory, with the face of nats-py's: what `Bus` uses of it."""

import asyncio
import contextvars
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StreamConfig

from tests.support.memory.broker import API, Broker, Headers, Session

RECONNECT_S = 0.25
BEHIND_S = 1e-6
"""From one message of a connection to the next: no two arrive at one moment, where their order would be anybody's."""
MESSAGE_MAX = 4 * 1024 * 1024


class Link:
    """A client's way to the broker; while it is `cut`, what is said waits on both sides."""

    def __init__(self) -> None:
        self.cut = False
        self.held: list[Callable[[], None]] = []
        self.clients: list[MemoryClient] = []

    def heal(self) -> None:
        """What waits goes on."""
        self.cut = False
        held, self.held = self.held, []
        for go in held:
            go()

    def sever(self) -> None:
        """Both sides take the other for dead; what waits is lost."""
        self.held.clear()
        for client in self.clients:
            client.lose()


class _Subscription:
    """A subscription, whose messages are handled one after the other."""

    def __init__(
        self, client: "MemoryClient", sid: int, subject: str, queue: str, handler: Callable[[Msg], Awaitable[None]]
    ) -> None:
        self._client, self.sid, self.subject, self.queue, self._handler = client, sid, subject, queue, handler
        self._waiting: deque[Msg] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    def take(self, message: Msg) -> None:
        if self._closed:
            return
        self._waiting.append(message)
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._handle())

    async def _handle(self) -> None:
        try:
            while self._waiting:
                await self._handler(self._waiting.popleft())
        finally:
            self._running = None

    async def unsubscribe(self, limit: int = 0) -> None:
        self._closed = True
        self._waiting.clear()
        self._client.drop(self)

    async def drain(self) -> None:
        self._client.drop(self, keep=True)
        await self._client.flush()
        while self._running is not None:
            await asyncio.wait({self._running})
        await self.unsubscribe()


class MemoryClient(Client):
    """One connection; it reconnects for ever, as the real one is told to."""

    def __init__(self, broker: Broker, link: Link | None = None) -> None:
        self._broker, self._link = broker, link or Link()
        self._link.clients.append(self)
        self._session: Session | None = None
        self._context = contextvars.copy_context()
        self._sids = itertools.count(1)
        self._subscriptions: dict[int, _Subscription] = {}
        self._buffer: list[tuple[str, str, bytes, Headers]] = []
        self._closed = False
        self._there_at = self._here_at = 0.0
        self._inboxes = itertools.count()
        self._callbacks: dict[str, Any] = {}
        self._name = ""

    # -- life -------------------------------------------------------------------------------------------------------

    async def connect(self, servers: Any = None, **options: Any) -> None:  # type: ignore[override]  # only what is used
        """Connect, once."""
        self._callbacks, self._name = options, f"{options.get('inbox_prefix', '_INBOX')}.{next(self._broker.clients)}"
        await asyncio.sleep(self._broker.wire.delay_s())
        if not self._broker.up or self._link.cut:
            raise nats.errors.NoServersError
        self._session = self._broker.open(self._from_server, self.lose)

    @property
    def is_connected(self) -> bool:
        """See nats-py."""
        return self._session is not None

    def lose(self) -> None:
        """The connection is broken, as the server knows already; the client hears of it, and tries until it has another."""
        if self._session is not None:
            self._broker.close(self._session)
            asyncio.get_running_loop().call_soon(self._on_loss, self._session, context=self._context)

    def _on_loss(self, session: Session) -> None:
        if session is self._session and not self._closed:
            self._session = None
            self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect())

    async def _reconnect(self) -> None:
        await self._call("disconnected_cb")
        while not self._broker.up or self._link.cut:
            await asyncio.sleep(RECONNECT_S)
        await asyncio.sleep(self._broker.wire.delay_s())
        if self._closed:
            return
        self._session = self._broker.open(self._from_server, self.lose)
        for subscription in self._subscriptions.values():
            self._subscribe(subscription)
        buffered, self._buffer = self._buffer, []
        for message in buffered:
            self._say(*message)
        await self._call("reconnected_cb")

    async def _call(self, name: str) -> None:
        callback = self._callbacks.get(name)
        if callback is not None:
            await callback()

    def vanish(self) -> None:
        """The process is dead: the server finds its connection closed."""
        self._closed = True
        if self._session is not None:
            session, self._session = self._session, None
            self._broker.arrive(self._broker.time() + self._broker.wire.delay_s(), self._broker.close, session)

    async def close(self) -> None:
        """See nats-py."""
        self.vanish()

    async def flush(self, timeout: float = 10) -> None:
        """See nats-py: once this returns, the server has all that was said before, and we what it said before that."""
        done = asyncio.get_running_loop().create_future()
        self._send(lambda: self._from_server("status", 0, "", "", b"", None, done))
        async with asyncio.timeout(timeout):
            await done

    # -- sending ----------------------------------------------------------------------------------------------------

    def _send(self, arrive: Callable[..., None], *args: Any, kind: str = "tell") -> None:
        """Something travels to the server, behind what is on its way already."""
        link, broker = self._link, self._broker
        if link.cut:
            link.held.append(lambda: self._send(arrive, *args, kind=kind))
            return
        for number, late_s in enumerate(broker.wire.fate(kind)):
            when = broker.time() + broker.wire.delay_s()
            if number == 0 and not late_s:
                when = self._there_at = max(self._there_at + BEHIND_S, when)
            broker.arrive(when + late_s, arrive, *args)

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "", headers: Any = None) -> None:
        """See nats-py: what is said while there is no connection is said later."""
        if self._closed:
            raise nats.errors.ConnectionClosedError
        if len(payload) > MESSAGE_MAX:
            raise nats.errors.MaxPayloadError
        if self._session is None:
            self._buffer.append((subject, reply, payload, headers))
        else:
            self._say(subject, reply, payload, headers)

    def _say(self, subject: str, reply: str, payload: bytes, headers: Headers) -> None:
        kind = "tell"
        if subject.startswith("$"):
            kind = "pull" if subject.startswith(API) else "ack"
        elif reply:
            kind = "publish"
        elif subject.startswith("_INBOX"):
            kind = "answer"
        self._send(self._broker.receive, self._session, subject, reply, payload, headers, kind=kind)

    # -- receiving --------------------------------------------------------------------------------------------------

    def new_inbox(self) -> str:
        """See nats-py."""
        return f"{self._name}-{next(self._inboxes)}"

    async def subscribe(self, subject: str, queue: str = "", cb: Any = None, *_: Any, **__: Any) -> Any:
        """See nats-py."""
        subscription = _Subscription(self, next(self._sids), subject, queue, cb)
        self._subscriptions[subscription.sid] = subscription
        if self._session is not None:
            self._subscribe(subscription)
        return subscription

    def _subscribe(self, subscription: _Subscription) -> None:
        assert self._session is not None
        self._send(self._session.subscribe, subscription.sid, subscription.subject, subscription.queue, kind="control")

    def drop(self, subscription: _Subscription, keep: bool = False) -> None:
        """A subscription ends; with `keep`, what the server sent before it heard of that is still taken."""
        if not keep:
            self._subscriptions.pop(subscription.sid, None)
        if self._session is not None:
            self._send(self._session.unsubscribe, subscription.sid, kind="control")

    def _from_server(
        self, kind: str, sid: int, subject: str, reply: str, payload: bytes, headers: Headers, done: Any = None
    ) -> None:
        """The server sends something, behind what is on its way already."""
        link, broker = self._link, self._broker
        if link.cut:
            link.held.append(lambda: self._from_server(kind, sid, subject, reply, payload, headers, done))
            return
        session = self._session
        for number, late_s in enumerate(broker.wire.fate(kind) if kind != "status" else (0.0,)):
            when = broker.time() + broker.wire.delay_s()
            if number == 0 and not late_s:
                when = self._here_at = max(self._here_at + BEHIND_S, when)
            broker_message = (session, sid, subject, reply, payload, headers, done)
            asyncio.get_running_loop().call_at(when + late_s, self._take, *broker_message, context=self._context)

    def _take(
        self, session: Session | None, sid: int, subject: str, reply: str, payload: bytes, headers: Headers, done: Any
    ) -> None:
        if session is not self._session or self._closed:
            return
        if done is not None:
            if not done.done():
                done.set_result(None)
            return
        subscription = self._subscriptions.get(sid)
        if subscription is not None:
            subscription.take(Msg(self, subject, reply, payload, dict(headers) if headers else None))

    # -- administration ---------------------------------------------------------------------------------------------

    def jetstream(self, **options: Any) -> JetStreamContext:
        """See nats-py."""
        return Administration(self, options.get("timeout", 5.0))

    async def ask(self, work: Callable[[], Any], timeout_s: float) -> Any:
        """Have the server do something and answer."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        here = contextvars.copy_context()

        def settle(result: Any, error: Exception | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

        def serve(session: Session) -> None:
            if not session.live:
                return
            result, error = None, None
            try:
                result = work()
            except nats.errors.Error as refused:
                error = refused
            except LookupError:
                return  # the server does not answer such a request
            when = self._broker.time() + self._broker.wire.delay_s()
            asyncio.get_running_loop().call_at(when, settle, result, error, context=here)

        if self._session is not None:
            self._send(serve, self._session, kind="control")
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise nats.errors.TimeoutError from None


class Administration(JetStreamContext):
    """JetStream's administration: what `streams.py` and its tests use."""

    def __init__(self, client: MemoryClient, timeout_s: float) -> None:
        self._memory, self._broker, self._timeout_s = client, client._broker, timeout_s

    async def _ask(self, work: Callable[[], Any]) -> Any:
        return await self._memory.ask(work, self._timeout_s)

    async def add_stream(self, config: StreamConfig | None = None, timeout: Any = None, **_: Any) -> Any:
        """See nats-py."""
        assert config is not None
        return _info(await self._ask(lambda: self._broker.add_stream(config)))

    async def update_stream(self, config: StreamConfig | None = None, timeout: Any = None, **_: Any) -> Any:
        """See nats-py."""
        assert config is not None
        return _info(await self._ask(lambda: self._broker.update_stream(config)))

    async def delete_stream(self, name: str, timeout: Any = None) -> bool:
        """See nats-py."""
        await self._ask(lambda: self._broker.delete_stream(name))
        return True

    async def stream_info(self, name: str, subjects_filter: Any = None, timeout: Any = None) -> Any:
        """See nats-py."""
        return _info(await self._ask(lambda: self._broker.stream(name)))

    async def streams_info(self, offset: int = 0, timeout: Any = None) -> Any:
        """See nats-py."""
        return [_info(stream) for stream in await self._ask(lambda: list(self._broker.streams.values()))]

    async def add_consumer(self, stream: str, config: ConsumerConfig | None = None, timeout: Any = None, **_: Any) -> Any:
        """See nats-py."""
        assert config is not None
        return await self._ask(lambda: self._broker.stream(stream).add(config))

    async def delete_consumer(self, stream: str, consumer: str, timeout: Any = None) -> bool:
        """See nats-py."""
        await self._ask(lambda: self._broker.stream(stream).remove(consumer))
        return True

    async def consumers_info(self, stream: str, offset: Any = None, timeout: Any = None) -> Any:
        """See nats-py."""
        found = await self._ask(lambda: list(self._broker.stream(stream).consumers.values()))
        return [SimpleNamespace(name=consumer.name, config=consumer.config) for consumer in found]

    async def reset_consumer(self, stream: str, consumer: str, seq: Any = None, timeout: Any = None) -> Any:
        """See nats-py; the server says nothing at all where there is no such consumer."""
        return await self._ask(lambda: self._broker.streams[stream].consumers[consumer].reset())  # noqa: PLW0108 looked up there


def _info(stream: Any) -> Any:
    state = SimpleNamespace(messages=len(stream.messages))
    return SimpleNamespace(config=stream.config, state=state, created=stream.created)
