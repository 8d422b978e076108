"""NATS with JetStream in memory: the server's side.

Streams with subjects, limits, work queues and ages; pull consumers with standing requests, explicit acks, ack waits and
resets. What a client says travels over its `Wire`. Only what the system uses is here, and it answers as the server does
(`tests/contract/test_bus.py` runs on both).
"""

import asyncio
import contextvars
import itertools
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StreamConfig
from nats.js.errors import APIError, BadRequestError, NotFoundError

from tests.support.memory.wire import Perfect, Wire

Thing = TypeVar("Thing")
Headers = Mapping[str, str] | None

API = "$JS.API.CONSUMER.MSG.NEXT."
ACK = "$JS.ACK."
NO_RESPONDERS = {"Status": "503"}
IN_USE, TOO_MANY, TOO_LARGE, FULL, NO_STREAM, NO_CONSUMER, OVERLAP = 10058, 10077, 10054, 10047, 10059, 10014, 10100


class Subscribed(Generic[Thing]):
    """Things by subject pattern; a wildcard can only be the last token."""

    def __init__(self) -> None:
        self._things: dict[str, list[Thing]] = {}

    def add(self, pattern: str, thing: Thing) -> None:
        """File a thing under a pattern."""
        assert "*" not in pattern[:-1], pattern
        self._things.setdefault(pattern, []).append(thing)

    def remove(self, pattern: str, thing: Thing) -> None:
        """Take it out again."""
        self._things[pattern].remove(thing)

    def matching(self, subject: str) -> list[Thing]:
        """All that a subject reaches."""
        found = list(self._things.get(subject, ()))
        end = subject.rfind(".")
        found += self._things.get(subject[: end + 1] + "*", ())
        while end > 0:
            found += self._things.get(subject[:end] + ".>", ())
            end = subject.rfind(".", 0, end)
        return found


class Stored(msgspec.Struct):
    """A message of a stream."""

    sequence: int
    subject: str
    payload: bytes
    headers: Headers
    stamp_ns: int


class Request:
    """A client's standing pull."""

    def __init__(self, session: "Session", inbox: str, batch: int) -> None:
        self.session, self.inbox, self.left = session, inbox, batch


class Consumer:
    """A durable of a stream."""

    def __init__(self, broker: "Broker", stream: "Stream", config: ConsumerConfig) -> None:
        assert config.durable_name is not None
        self._broker, self._stream, self.config, self.name = broker, stream, config, config.durable_name
        self.filters = config.filter_subjects or ([config.filter_subject] if config.filter_subject else [">"])
        self._queue: deque[int] = deque(number for number, one in sorted(stream.messages.items()) if self._takes(one.subject))
        self._again: list[int] = []
        self._pending: dict[int, float] = {}
        """Sequences that were delivered, and when their ack is overdue."""
        self._deliveries: Counter[int] = Counter()
        self._delivered = 0
        self._requests: deque[Request] = deque()

    def _takes(self, subject: str) -> bool:
        found: Subscribed[bool] = Subscribed()
        for one in self.filters:
            found.add(one, True)
        return ">" in self.filters or bool(found.matching(subject))

    def stored(self, sequence: int) -> None:
        """A message came that is for this consumer."""
        self._queue.append(sequence)
        self.serve()

    def ask(self, request: Request, expires_s: float, no_wait: bool) -> None:
        """A client asks for messages."""
        self._requests.append(request)
        self.serve()
        if request.left == 0:
            return
        if no_wait:
            self._requests.remove(request)
            self._refuse(request, "404", "No Messages")
        elif expires_s:
            self._broker.later(expires_s, lambda: self._expire(request))

    def _expire(self, request: Request) -> None:
        if request in self._requests:
            self._requests.remove(request)
            self._refuse(request, "408", "Request Timeout", {"Nats-Pending-Messages": str(request.left)})

    def _refuse(self, request: Request, status: str, why: str, more: Mapping[str, str] | None = None) -> None:
        request.session.deliver("status", request.inbox, "", b"", {"Status": status, "Description": why, **(more or {})})

    def end(self) -> None:
        """It is deleted: whoever waits is told."""
        for request in self._requests:
            self._refuse(request, "409", "Consumer Deleted")
        self._requests.clear()

    def forget(self, session: "Session") -> None:
        """A client is gone."""
        self._requests = deque(request for request in self._requests if request.session is not session)

    def serve(self) -> None:
        """Give what there is to who asked, in turns; what comes again goes first."""
        most = self.config.max_ack_pending or 1000
        while self._requests and (self._again or self._queue) and len(self._pending) < most:
            sequence = self._again.pop(0) if self._again else self._queue.popleft()
            message = self._stream.messages.get(sequence)
            if message is None:
                continue
            request = self._requests.popleft()
            if not request.session.hears(request.inbox):
                insort(self._again, sequence)
                continue
            request.left -= 1
            if request.left:
                self._requests.append(request)
            self._deliver(message, request)

    def _deliver(self, message: Stored, request: Request) -> None:
        sequence = message.sequence
        self._deliveries[sequence] += 1
        self._delivered += 1
        self._await_ack(sequence)
        fields = (self._deliveries[sequence], sequence, self._delivered, message.stamp_ns, len(self._queue))
        reply = f"{ACK}{self._stream.name}.{self.name}.{'.'.join(map(str, fields))}"
        request.session.deliver("deliver", request.inbox, reply, message.payload, message.headers, message.subject)

    def _await_ack(self, sequence: int) -> None:
        wait_s = self.config.ack_wait or 30.0
        overdue = self._pending[sequence] = self._broker.time() + wait_s
        self._broker.later(wait_s, lambda: self._overdue(sequence, overdue))

    def _overdue(self, sequence: int, overdue: float) -> None:
        if self._pending.get(sequence) == overdue:
            self._return(sequence)

    def _return(self, sequence: int) -> None:
        if sequence in self._stream.messages:
            insort(self._again, sequence)
        self._pending.pop(sequence, None)
        self.serve()

    def answered(self, sequence: int, word: bytes) -> None:
        """An end of a delivery, or word that it is still held."""
        if word == b"+ACK" or word == b"+TERM":
            if self._pending.pop(sequence, None) is not None:
                self._deliveries.pop(sequence, None)
                if self._stream.is_work_queue:
                    self._stream.drop(sequence)
                self.serve()
        elif sequence not in self._pending:
            return
        elif word == b"+WPI":
            self._await_ack(sequence)
        elif word.startswith(b"-NAK"):
            delay_s = msgspec.json.decode(word[4:])["delay"] / 1e9 if len(word) > 4 else 0.0
            if not delay_s:
                self._return(sequence)
                return
            held = self._pending[sequence] = self._broker.time() + delay_s
            self._broker.later(delay_s, lambda: self._overdue(sequence, held))

    def recover(self) -> None:
        """The server was started again: what was delivered has its time anew."""
        for sequence in self._pending:
            self._await_ack(sequence)

    def reset(self) -> None:
        """All that is not acknowledged comes again, in order, as if for the first time."""
        left = sorted({*self._queue, *self._again, *self._pending})
        self._queue = deque(number for number in left if number in self._stream.messages)
        self._again.clear()
        self._pending.clear()
        self._deliveries.clear()
        self._delivered = 0
        self.serve()


class Stream:
    """A stream."""

    def __init__(self, broker: "Broker", config: StreamConfig) -> None:
        assert config.name is not None
        self._broker, self.config, self.name = broker, config, config.name
        self.created = broker.now()
        self.messages: dict[int, Stored] = {}
        self.consumers: dict[str, Consumer] = {}
        self._filters: Subscribed[Consumer] = Subscribed()
        self._all: list[Consumer] = []
        self._by_subject: Counter[str] = Counter()
        self._last = 0

    @property
    def is_work_queue(self) -> bool:
        """Whether what is acknowledged leaves it."""
        return self.config.retention == RetentionPolicy.WORK_QUEUE

    def store(self, subject: str, payload: bytes, headers: Headers) -> tuple[int, str] | int:
        """Keep a message: its sequence, or the error's number and text."""
        config = self.config
        if config.max_msg_size and 0 < config.max_msg_size < len(payload):
            return TOO_LARGE, "message size exceeds maximum allowed"
        most = config.max_msgs_per_subject or -1
        if 0 < most <= self._by_subject[subject]:
            if config.discard_new_per_subject:
                return TOO_MANY, "maximum messages per subject exceeded"
            self.drop(next(number for number, one in self.messages.items() if one.subject == subject))
        if config.max_msgs and 0 < config.max_msgs <= len(self.messages):
            if config.discard == DiscardPolicy.NEW:
                return FULL, "maximum messages exceeded"
            self.drop(next(iter(self.messages)))
        self._last += 1
        self.messages[self._last] = Stored(self._last, subject, payload, headers, self._broker.stamp_ns())
        self._by_subject[subject] += 1
        for consumer in (*self._filters.matching(subject), *self._all):
            consumer.stored(self._last)
        return self._last

    def drop(self, sequence: int) -> None:
        """Forget a message."""
        message = self.messages.pop(sequence, None)
        if message is not None:
            self._by_subject[message.subject] -= 1

    def add(self, config: ConsumerConfig) -> Consumer:
        """Make a consumer, or find it."""
        assert config.durable_name is not None
        found = self.consumers.get(config.durable_name)
        if found is None:
            found = self.consumers[config.durable_name] = Consumer(self._broker, self, config)
            for one in found.filters:
                if one == ">":
                    self._all.append(found)
                else:
                    self._filters.add(one, found)
        return found

    def remove(self, name: str) -> None:
        """Delete a consumer."""
        found = self.consumers.pop(name)
        for one in found.filters:
            if one == ">":
                self._all.remove(found)
            else:
                self._filters.remove(one, found)
        found.end()


class Session:
    """The server's side of one connection."""

    def __init__(self, broker: "Broker", deliver: Callable[..., None], lost: Callable[[], None]) -> None:
        self._broker, self._deliver, self.lost = broker, deliver, lost
        self.live = True
        self._patterns: dict[int, tuple[str, str]] = {}
        self._mine: Subscribed[int] = Subscribed()

    def subscribe(self, sid: int, pattern: str, queue: str) -> None:
        """The client wants to hear of these subjects; of one queue, one client hears."""
        if self.live and sid not in self._patterns:
            self._patterns[sid] = (pattern, queue)
            self._mine.add(pattern, sid)
            self._broker.interest.add(pattern, (self, sid, queue))

    def unsubscribe(self, sid: int) -> None:
        """No more of that."""
        if sid in self._patterns:
            pattern, queue = self._patterns.pop(sid)
            self._mine.remove(pattern, sid)
            self._broker.interest.remove(pattern, (self, sid, queue))

    def hears(self, subject: str) -> bool:
        """Whether this client would get a message on a subject."""
        return self.live and bool(self._mine.matching(subject))

    def deliver(self, kind: str, subject: str, reply: str, payload: bytes, headers: Headers, shown: str = "") -> None:
        """To this client alone, as an answer to its pull; it sees the subject `shown`."""
        for sid in self._mine.matching(subject):
            self.to(kind, sid, shown or subject, reply, payload, headers)

    def to(self, kind: str, sid: int, subject: str, reply: str, payload: bytes, headers: Headers) -> None:
        """To one subscription of this client."""
        if self.live:
            self._deliver(kind, sid, subject, reply, payload, headers)

    def end(self) -> None:
        """The connection is gone, and with it all that it asked for."""
        if self.live:
            self.live = False
            for sid in list(self._patterns):
                self.unsubscribe(sid)
            for consumer in self._broker.consumers():
                consumer.forget(self)


class Broker:
    """The server; `wire` is asked about every message on its way to or from it."""

    def __init__(
        self,
        wire: Wire | None = None,
        seen: Callable[[str, bytes], None] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.wire: Wire = wire or Perfect()
        self._seen = seen
        """Told of every message that reaches the broker."""
        self._context = contextvars.Context()
        self._loop = loop or asyncio.get_running_loop()
        self._started_at = datetime(2026, 3, 1, tzinfo=UTC)
        self.up = True
        self.generation = 0
        """Grows with each restart."""
        self.streams: dict[str, Stream] = {}
        self._subjects: Subscribed[Stream] = Subscribed()
        self.interest: Subscribed[tuple[Session, int, str]] = Subscribed()
        self.sessions: list[Session] = []
        self._turn = 0
        self.clients = itertools.count()
        """Numbers for the names of those who connect."""
        self.refused = 0
        """Messages on a subject that still had one waiting."""

    # -- time -------------------------------------------------------------------------------------------------------

    def time(self) -> float:
        """Of the loop."""
        return self._loop.time()

    def now(self) -> datetime:
        """The server's wall clock."""
        return datetime.fromtimestamp(self.stamp_ns() / 1e9, UTC)

    def stamp_ns(self) -> int:
        """The same in nanoseconds since 1970."""
        return int(self._started_at.timestamp() * 1e9) + int(self._loop.time() * 1e9)

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        """Do something of the server's own in a while."""
        generation = self.generation

        def unless_restarted() -> None:
            if self.generation == generation:
                work()

        self._loop.call_later(delay_s, unless_restarted, context=self._context)

    def arrive(self, when: float, work: Callable[..., None], *args: Any) -> None:
        """Something reaches the server at a moment."""
        self._loop.call_at(when, work, *args, context=self._context)

    # -- life -------------------------------------------------------------------------------------------------------

    def open(self, deliver: Callable[..., None], lost: Callable[[], None]) -> Session:
        """A client connects; it is told what comes for it, and when the server breaks the connection."""
        session = Session(self, deliver, lost)
        self.sessions.append(session)
        return session

    def close(self, session: Session) -> None:
        """A connection is gone."""
        session.end()
        if session in self.sessions:
            self.sessions.remove(session)

    def stop(self, forget: bool = False) -> None:
        """Every connection breaks. Streams in memory are lost, and with `forget` all of them."""
        self.up = False
        self.generation += 1
        for session in list(self.sessions):
            self.close(session)
            session.lost()
        kept = [] if forget else [stream for stream in self.streams.values() if (stream.config.storage or "file") == "file"]
        old, self.streams, self._subjects = kept, {}, Subscribed()
        for stream in old:
            self._file(stream)
            for consumer in stream.consumers.values():
                consumer.recover()

    def start(self) -> None:
        """It answers again."""
        self.up = True

    def consumers(self) -> Iterable[Consumer]:
        """All there are."""
        return [consumer for stream in self.streams.values() for consumer in stream.consumers.values()]

    # -- messages ---------------------------------------------------------------------------------------------------

    def receive(self, session: Session, subject: str, reply: str, payload: bytes, headers: Headers) -> None:
        """A client says something."""
        if not session.live:
            return
        if subject.startswith(ACK):
            fields = subject.split(".")
            stream = self.streams.get(fields[2])
            if stream is not None and fields[3] in stream.consumers:
                stream.consumers[fields[3]].answered(int(fields[5]), payload)
            return
        if subject.startswith(API):
            self._pull(session, subject[len(API) :], reply, payload)
            return
        if self._seen is not None:
            self._seen(subject, payload)
        heard = self._tell(subject, reply, payload, headers)
        streams = self._subjects.matching(subject)
        for found in streams:
            answer = found.store(subject, payload, headers)
            if isinstance(answer, int):
                document = f'{{"stream":"{found.name}","seq":{answer}}}'
            else:
                self.refused += answer[0] == TOO_MANY
                error = f'{{"code":503,"err_code":{answer[0]},"description":"{answer[1]}"}}'
                document = f'{{"error":{error},"stream":"{found.name}","seq":0}}'
            if reply:
                session.deliver("stored", reply, "", document.encode(), None)
        if reply and not streams and not heard:
            session.deliver("stored", reply, "", b"", NO_RESPONDERS)

    def _tell(self, subject: str, reply: str, payload: bytes, headers: Headers) -> bool:
        queues: dict[str, list[tuple[Session, int]]] = {}
        found = self.interest.matching(subject)
        for session, sid, queue in found:
            if queue:
                queues.setdefault(queue, []).append((session, sid))
            else:
                session.to("answer" if subject.startswith("_INBOX") else "tell", sid, subject, reply, payload, headers)
        for members in queues.values():
            self._turn += 1
            session, sid = members[self._turn % len(members)]
            session.to("tell", sid, subject, reply, payload, headers)
        return bool(found)

    def _pull(self, session: Session, path: str, reply: str, payload: bytes) -> None:
        name, _, consumer = path.partition(".")
        stream = self.streams.get(name)
        if stream is None or consumer not in stream.consumers:
            session.deliver("status", reply, "", b"", NO_RESPONDERS)
            return
        asked = msgspec.json.decode(payload)
        request = Request(session, reply, asked["batch"])
        stream.consumers[consumer].ask(request, asked.get("expires", 0) / 1e9, asked.get("no_wait", False))

    # -- administration ---------------------------------------------------------------------------------------------

    def _file(self, stream: Stream) -> None:
        self.streams[stream.name] = stream
        for subject in stream.config.subjects or ():
            self._subjects.add(subject, stream)

    def add_stream(self, config: StreamConfig) -> Stream:
        """Make a stream, or find it.

        Raises:
            APIError: it is there with another configuration.
        """
        assert config.name is not None
        found = self.streams.get(config.name)
        if found is None:
            found = Stream(self, config)
            self._file(found)
        elif found.config != config:
            raise BadRequestError(
                code=400, err_code=IN_USE, description="stream name already in use with a different configuration"
            )
        return found

    def update_stream(self, config: StreamConfig) -> Stream:
        """Change a stream.

        Raises:
            APIError: there is none, or it cannot be changed so.
        """
        assert config.name is not None
        found = self.stream(config.name)
        if found.config.retention != config.retention:
            raise APIError(code=500, err_code=10052, description="stream configuration update can not change retention policy")
        for subject in found.config.subjects or ():
            self._subjects.remove(subject, found)
        found.config = config
        self._file(found)
        return found

    def delete_stream(self, name: str) -> None:
        """Drop a stream with its consumers.

        Raises:
            APIError: there is none.
        """
        found = self.stream(name)
        for consumer in list(found.consumers):
            found.remove(consumer)
        for subject in found.config.subjects or ():
            self._subjects.remove(subject, found)
        del self.streams[name]

    def stream(self, name: str) -> Stream:
        """A stream.

        Raises:
            NotFoundError: there is none.
        """
        if name not in self.streams:
            raise NotFoundError(code=404, err_code=NO_STREAM, description="stream not found")
        return self.streams[name]
