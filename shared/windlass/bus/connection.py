"""A service's connection to NATS: it reconnects for ever, publishes pipelined, and takes answers on an inbox of its own.

The client library gives up on some errors and restores only plain subscriptions; here a closed connection is followed by
a new one with the same subscriptions, and whoever keeps state on the server (pull requests, memory streams) registers
with `on_connected`.
"""

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from windlass import log as logs
from windlass.errors import Misconfigured, Unavailable, WindlassError
from windlass.settings import Tls
from windlass.subjects import Subjects, inbox_of

log = logs.get()

PING_S = 5
"""A connection that answers no ping for two of these is dead."""
RECONNECT_S = 0.25
CONNECT_S = 5
"""How long the first connection is tried for."""
AGAIN_MAX_S = 5.0
"""The longest pause until a step that failed after a reconnect is tried again."""
ACK_TIMEOUT_S = 5.0
DRAIN_S = 2.0
PENDING_BYTES = 64 * 1024 * 1024
"""What may wait in the client while the server is away; beyond it publishing fails and callers try again."""
ALREADY_QUEUED = 10077
"""The server's code for a message on a subject that still has one waiting."""

Handler = Callable[[Msg], Awaitable[None]]


class NotStored(WindlassError):
    """The server refused to store a message."""

    code = "not_stored"
    http = 503

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class _Client(Client):
    """The library's client, less its trust in a server that says it has no TLS: it would send the password in the clear."""

    def _connect_command(self) -> bytes:
        server = self._current_server
        if server is not None and server.uri.scheme == "tls" and not self._server_info.get("tls_required"):
            raise nats.errors.SecureConnRequiredError
        return super()._connect_command()


class _PubError(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct):
    error: _PubError | None = None


_acks = msgspec.json.Decoder(_PubAck)


class _Batch:
    """Acks that one `publish_all` waits for."""

    __slots__ = ("done", "failures", "remaining")

    def __init__(self, remaining: int) -> None:
        self.remaining = remaining
        self.failures: dict[int, WindlassError] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Subscription:
    """A subscription that outlives connections."""

    def __init__(self, subject: str, queue: str, handler: Handler) -> None:
        self.subject, self.queue, self.handler = subject, queue, handler
        self.live: Any = None

    async def close(self, drain: bool) -> None:
        """End it; messages on their way are dropped, or with `drain` still handled."""
        if self.live is None:
            return
        with suppress(nats.errors.Error, TimeoutError):
            if drain:
                async with asyncio.timeout(DRAIN_S):
                    await self.live.drain()
            else:
                await self.live.unsubscribe()


class Bus:
    """One connection; make it with `connect`."""

    def __init__(
        self,
        url: str,
        service: str,
        instance: str,
        subjects: Subjects,
        make_client: Callable[[], Client],
        tls: Tls,
        worker: str,
    ) -> None:
        self.subjects = subjects
        self.service = service
        self._url = url
        self._instance = instance
        self._make_client = make_client
        self._client = make_client()
        self._tls = _context(url, tls)
        self._inboxes = inbox_of(service, worker)
        self._refusal: asyncio.Future[Misconfigured] | None = None
        """While the first connection is made: what waiting will not mend."""
        self._subscriptions: list[_Subscription] = []
        self._listeners: list[Callable[[], Awaitable[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._said: dict[str, None] = {}
        """What went wrong since there was a connection, each once."""
        self._steps: asyncio.Task[None] | None = None
        self._tokens = itertools.count()
        self._acks: dict[str, tuple[_Batch, int]] = {}
        self._answers: dict[str, asyncio.Future[bytes]] = {}
        self._inbox = ""

    @property
    def client(self) -> Client:
        """The live client; another one after a permanent close."""
        return self._client

    @property
    def jetstream(self) -> JetStreamContext:
        """JetStream's administration, for those who may use it."""
        return self._client.jetstream(timeout=ACK_TIMEOUT_S)

    @property
    def connected(self) -> bool:
        """Whether the server answers right now."""
        return self._client.is_connected

    def new_inbox(self) -> str:
        """A subject of one's own."""
        return str(self._client.new_inbox())

    # -- life -------------------------------------------------------------------------------------------------------

    async def _open_first(self) -> None:
        """Open the first connection, or give up at once where trying again will not help.

        Raises:
            Misconfigured: the server refuses this user, or one does not trust the other's certificate.
        """

        async def open_and_ask() -> None:
            await self._open()
            await self._client.flush()  # by then it is said whether the inbox is ours
            await self._client.flush()

        self._refusal = asyncio.get_running_loop().create_future()
        opening = asyncio.get_running_loop().create_task(open_and_ask())
        try:
            waits: set[asyncio.Future[Any]] = {opening, self._refusal}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if self._refusal.done():
                raise self._refusal.result()
            await opening
        finally:
            self._refusal = None
            opening.cancel()

    async def _open(self) -> None:
        self._client = self._make_client()
        await self._client.connect(
            self._url,
            name=f"{self.service} {self._instance}",
            inbox_prefix=self._inboxes,
            tls=self._tls,
            ping_interval=PING_S,
            max_outstanding_pings=2,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_S,  # type: ignore[arg-type]  # seconds, also fractions of one
            connect_timeout=2,
            pending_size=PENDING_BYTES,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnect,
            reconnected_cb=self._on_reconnect,
            closed_cb=self._on_closed,
        )
        self._inbox = self.new_inbox()
        await self._client.subscribe(f"{self._inbox}.a.*", cb=self._on_ack)
        await self._client.subscribe(f"{self._inbox}.r.*", cb=self._on_answer)
        for subscription in self._subscriptions:
            await self._attach(subscription)

    async def _attach(self, subscription: _Subscription) -> None:
        subscription.live = await self._client.subscribe(
            subscription.subject,
            queue=subscription.queue,
            cb=subscription.handler,
            pending_msgs_limit=1_000_000,
            pending_bytes_limit=PENDING_BYTES * 4,
        )

    async def _on_error(self, error: Exception) -> None:
        said = str(error) or type(error).__name__
        if self._refusal is not None and (why := self._hopeless(error)):
            if not self._refusal.done():
                self._refusal.set_result(Misconfigured(why))
            return
        if said in self._said:
            return
        if not self._client.is_connected:
            self._said[said] = None  # the library says the same four times a second while a server is away
        log.warning("bus_error", error=said)

    def _hopeless(self, error: Exception) -> str | None:
        """What is wrong and what to do, if it is something that waiting does not mend."""
        said, place = str(error).lower(), _place(self._url)
        if "authorization violation" in said:
            user = urlsplit(self._url).username
            return f"NATS at {place} refuses user {user!r}; check user and password in WINDLASS_NATS_URL"
        if "permissions violation for subscription" in said and self._inboxes.lower() in said:
            return (
                f"NATS at {place} does not let user {urlsplit(self._url).username!r} have the inbox {self._inboxes}; "
                "WINDLASS_NATS_URL names the user of another service, or that of a worker whose id is not WINDLASS_WORKER_ID"
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"the certificate of NATS at {place} is not trusted ({error.verify_message}); WINDLASS_NATS_CA is to name the "
                "certificate of the authority that signed it, and WINDLASS_NATS_URL a host that it was made for"
            )
        if isinstance(error, ssl.SSLError):
            return (
                f"NATS at {place} does not agree to TLS ({error.reason or error}); if it asks for a certificate, name one with "
                "WINDLASS_NATS_CERT and WINDLASS_NATS_KEY"
            )
        if isinstance(error, nats.errors.SecureConnRequiredError):
            return f"NATS at {place} offers no TLS; give the server a certificate, or write nats:// in WINDLASS_NATS_URL"
        return None

    async def _on_disconnect(self) -> None:
        if not self._closing:
            log.warning("bus_disconnected")

    async def _on_reconnect(self) -> None:
        log.info("bus_reconnected")
        self._came_back()

    async def _on_closed(self) -> None:
        if not self._closing:
            self._spawn(self._reopen())

    async def _reopen(self) -> None:
        """The library gave this connection up: make another until one lives."""
        while not self._closing:
            try:
                await self._open()
            except (nats.errors.Error, OSError, TimeoutError) as error:
                log.warning("bus_unreachable", error=str(error) or type(error).__name__)
                await asyncio.sleep(1)
            else:
                self._came_back()
                return

    def _came_back(self) -> None:
        """Take the steps of a reconnect; those of the one before are given up if they are not through."""
        self._said.clear()
        if self._steps is not None:
            self._steps.cancel()
        self._steps = self._spawn(self._tell())

    async def _tell(self) -> None:
        """Call every listener, in order, each until it succeeds: nobody else would do so before the next reconnect."""
        for listener in list(self._listeners):
            pause_s = 0.1
            while listener in self._listeners:
                try:
                    await listener()
                    break
                except (WindlassError, nats.errors.Error, TimeoutError) as error:
                    log.warning("bus_reconnect_step_failed", error=str(error) or type(error).__name__)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, AGAIN_MAX_S)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def on_connected(self, listener: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Call `listener` after every reconnect, until it succeeds; returns how to stop that."""
        self._listeners.append(listener)

        def forget() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return forget

    async def close(self) -> None:
        """Send what is buffered, then close."""
        self._closing = True
        for task in list(self._tasks):
            task.cancel()
        with suppress(nats.errors.Error, TimeoutError, OSError):
            if self._client.is_connected:
                await self._client.flush(2)
        with suppress(nats.errors.Error, OSError):
            await self._client.close()

    # -- subscribing ------------------------------------------------------------------------------------------------

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> _Subscription:
        """Take plain messages; survives every reconnect. `handler` must not raise."""
        subscription = _Subscription(subject, queue, handler)
        self._subscriptions.append(subscription)
        await self._attach(subscription)
        return subscription

    async def unsubscribe(self, subscription: _Subscription, drain: bool = False) -> None:
        """End a subscription; with `drain`, return once all that the server has sent is handled."""
        with suppress(ValueError):
            self._subscriptions.remove(subscription)
        await subscription.close(drain)

    # -- publishing -------------------------------------------------------------------------------------------------

    async def tell(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        """Publish and forget: for notices and answers, whose loss does no harm."""
        with suppress(nats.errors.Error):
            await self._client.publish(subject, payload, headers=headers)

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None, timeout_s: float = ACK_TIMEOUT_S
    ) -> None:
        """Publish one message and wait until it is stored.

        Raises:
            NotStored: the server refused it.
            Unavailable: no answer in time; it may or may not be stored.
        """
        for failure in (await self.publish_all([(subject, payload)], headers, timeout_s)).values():
            raise failure

    async def publish_all(
        self, messages: Sequence[tuple[str, bytes]], headers: dict[str, str] | None = None, timeout_s: float = ACK_TIMEOUT_S
    ) -> dict[int, WindlassError]:
        """Publish many, pipelined, and wait until all are stored; returns the failures by index."""
        if not messages:
            return {}
        batch = _Batch(len(messages))
        tokens = []
        for index, (subject, payload) in enumerate(messages):
            token = f"{next(self._tokens):x}"
            tokens.append(token)
            self._acks[token] = (batch, index)
            try:
                await self._client.publish(subject, payload, reply=f"{self._inbox}.a.{token}", headers=headers)
            except nats.errors.Error as error:
                self._settle(token, Unavailable(f"NATS did not take a message on {subject}: {error or type(error).__name__}"))
        try:
            async with asyncio.timeout(timeout_s):
                await batch.done
        except TimeoutError:
            for index, token in enumerate(tokens):
                if self._acks.pop(token, None) is not None:
                    batch.failures[index] = Unavailable(
                        f"NATS did not confirm a message on {messages[index][0]} within {timeout_s:g} s"
                    )
        finally:
            for token in tokens:
                self._acks.pop(token, None)
        return batch.failures

    def _settle(self, token: str, failure: WindlassError | None) -> None:
        entry = self._acks.pop(token, None)
        if entry is None:
            return
        batch, index = entry
        if failure is not None:
            batch.failures[index] = failure
        batch.remaining -= 1
        if batch.remaining == 0 and not batch.done.done():
            batch.done.set_result(None)

    async def _on_ack(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        if message.headers and message.headers.get("Status") == "503":
            self._settle(token, Unavailable("no stream takes this subject; is a coordinator running?"))
            return
        if b'"error"' not in message.data:
            self._settle(token, None)
            return
        try:
            error = _acks.decode(message.data).error or _PubError()
        except msgspec.MsgspecError:
            error = _PubError(description="unreadable answer")
        self._settle(token, NotStored(f"NATS refused a message: {error.description}", error.err_code))

    # -- asking -----------------------------------------------------------------------------------------------------

    def expect(self) -> tuple[str, asyncio.Future[bytes]]:
        """A subject for one answer and the future that gets it; the caller cancels what it no longer waits for."""
        token = f"{next(self._tokens):x}"
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[token] = future
        future.add_done_callback(lambda _: self._answers.pop(token, None))
        return f"{self._inbox}.r.{token}", future

    async def _on_answer(self, message: Msg) -> None:
        future = self._answers.get(message.subject.rpartition(".")[2])
        if future is not None and not future.done():
            future.set_result(message.data)


def _place(url: str) -> str:
    """The server in an address, without the password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _context(url: str, tls: Tls) -> ssl.SSLContext | None:
    """What to trust and to show; None leaves it to the library, which trusts what the system trusts."""
    if not (tls.ca or tls.cert or tls.key):
        return None
    if urlsplit(url).scheme != "tls":
        raise Misconfigured("files for TLS with NATS are set, but not TLS; write tls:// in WINDLASS_NATS_URL")
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
    except OSError as error:
        raise Misconfigured(f"WINDLASS_NATS_CA is {tls.ca}: {error.strerror or error}; it is a file of certificates") from error
    if tls.cert or tls.key:
        try:
            context.load_cert_chain(tls.cert, tls.key or None)
        except OSError as error:
            raise Misconfigured(
                f"WINDLASS_NATS_CERT is {tls.cert} and WINDLASS_NATS_KEY {tls.key or 'not set'}: {error.strerror or error}; "
                "they are a certificate and its private key, as PEM files"
            ) from error
    return context


@asynccontextmanager
async def connect(
    url: str,
    service: str,
    instance: str,
    prefix: str = "",
    make_client: Callable[[], Client] = _Client,
    *,
    tls: Tls | None = None,
    worker: str = "",
) -> AsyncIterator[Bus]:
    """A connection for the time of the block.

    `make_client` gives the library's client, or one for another kind of server; `worker` is the name of the
    worker's own user, if that is who `url` names.

    Raises:
        Misconfigured: there is no NATS server at `url`, it refuses this user, or one does not trust the other's certificate.
    """
    bus = Bus(url, service, instance, Subjects(prefix), make_client, tls or Tls(), worker)
    try:
        async with asyncio.timeout(CONNECT_S):
            await bus._open_first()
    except (Misconfigured, nats.errors.Error, OSError, TimeoutError, ValueError) as error:
        bus._closing = True
        with suppress(nats.errors.Error, OSError):
            await bus._client.close()
        if isinstance(error, Misconfigured):
            raise
        reason = "; ".join(bus._said) or str(error) or type(error).__name__
        raise Misconfigured(f"NATS at {_place(url)} does not answer ({reason}); is it running? see WINDLASS_NATS_URL") from error
    try:
        yield bus
    finally:
        await bus.close()
