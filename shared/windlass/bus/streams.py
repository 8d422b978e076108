"""Streams and consumers as data, each number with its reason, and the code that makes a server agree.

Only coordinators and `windlass bus apply` create anything. No setting here ever makes a message of the intake or of the
tasks disappear by itself: `max_deliver` is unlimited and counted by the consumer's reader.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import nats.errors
import nats.js.errors
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo

from windlass.bus.connection import Bus, connect
from windlass.errors import Misconfigured, Unavailable
from windlass.ids import issued_of
from windlass.settings import lookup, nats_tls, needed
from windlass.subjects import PRIORITIES, Subjects, queue_token

MESSAGE_MAX = 4 * 1024 * 1024
"""Of any message: a job of 500 KB, a result of 1 MiB and an envelope, with room."""
ACK_WAIT_S = 30.0
"""A message whose reader died is delivered again after this; a takeover resets the consumer and does not wait for it."""
BARE_ACK_WAIT_S = 5.0
"""What came by hand is passed on within moments, and its consumer is shared, so no takeover resets it."""
TASK_ACK_WAIT_S = 10.0
"""A task whose worker died before its claim, or left while the task was on its way to it, is given to another after this."""
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Names:
    """The names of streams and consumers of one installation."""

    subjects: Subjects

    def _name(self, base: str) -> str:
        return self.subjects.prefix.replace(".", "_") + base

    @property
    def intake(self) -> str:
        """Commands and reports."""
        return self._name("intake")

    @property
    def tasks(self) -> str:
        """Work."""
        return self._name("tasks")

    @property
    def heartbeats(self) -> str:
        """Who is alive."""
        return self._name("heartbeats")

    @property
    def canaries(self) -> str:
        """Whether the broker can write."""
        return self._name("canaries")

    @property
    def logs(self) -> str:
        """Output of tasks."""
        return self._name("logs")

    @property
    def changes(self) -> str:
        """What was committed."""
        return self._name("events")

    @property
    def bells(self) -> str:
        """Heads of shards."""
        return self._name("bells")

    def orders(self, worker: str) -> str:
        """One worker's orders."""
        return self._name(f"x-{issued_of(worker)}")

    @staticmethod
    def shard(shard: int) -> str:
        """The intake's consumer of one shard."""
        return f"shard-{shard:02x}"

    @staticmethod
    def level(queue: str, priority: int) -> str:
        """The tasks' consumer of one queue at one priority."""
        return f"{queue_token(queue)}-{priority}"


BARE = "bare"
"""The intake's consumer of what people publish, shared by all coordinators."""
LOGS = "store"
"""The logs' consumer, shared by all coordinators: storing a part twice is harmless."""
ORDERS = "orders"
"""The consumer of a worker's orders."""


def streams(subjects: Subjects, shards: int) -> list[StreamConfig]:
    """What the server must have."""
    names = Names(subjects)
    intake = subjects.personal() + [subject for shard in range(shards) for subject in subjects.shard_intake(shard)]
    return [
        StreamConfig(
            name=names.intake,
            subjects=intake,
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            max_msgs=1_000_000,  # then submitting is refused with 503 instead of filling the disk
            max_msg_size=MESSAGE_MAX,
            duplicate_window=120,  # deduplication is a courtesy to people who set Nats-Msg-Id; nothing rests on it
        ),
        StreamConfig(
            name=names.tasks,
            subjects=[subjects.queues()],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=1,  # sending a dispatch again while it waits is refused, so it is harmless
            max_msg_size=MESSAGE_MAX,
            duplicate_window=1,
        ),
        StreamConfig(
            name=names.heartbeats,
            subjects=[subjects.heartbeats()],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.MEMORY,
            max_msgs_per_subject=1,  # the newest of each node, so that a coordinator that starts knows who lives
            max_age=HOUR_S,
        ),
        StreamConfig(
            name=names.canaries,
            subjects=[subjects.canaries()],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,  # so that a disk that takes no writes is noticed
            max_msgs_per_subject=1,
            max_age=HOUR_S,
        ),
        StreamConfig(
            name=names.logs,
            subjects=[subjects.all_logs()],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_age=24 * HOUR_S,  # parts are stored within seconds; a day without a coordinator is survived
            max_bytes=512 * 1024 * 1024,  # a flood pushes out the oldest output, never state
            max_msg_size=512 * 1024,  # a part of 64 Ki characters, each of which JSON may write with six
        ),
        StreamConfig(
            name=names.changes,
            subjects=[subjects.changes("job")],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_age=HOUR_S,  # for a viewer that was away for a moment; the log itself is in PostgreSQL
            max_bytes=128 * 1024 * 1024,
        ),
        StreamConfig(
            name=names.bells,
            subjects=subjects.bells(),
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.MEMORY,
            max_msgs_per_subject=1,
        ),
    ]


def consumers(subjects: Subjects, shards: int) -> list[tuple[str, ConsumerConfig]]:
    """The durables that always exist, with their streams."""
    names = Names(subjects)

    def durable(name: str, *filters: str, ack_wait_s: float = ACK_WAIT_S, pending: int = 4096) -> ConsumerConfig:
        return ConsumerConfig(
            durable_name=name,
            filter_subjects=list(filters) or None,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ack_wait_s,
            max_deliver=-1,
            max_ack_pending=pending,  # what one reader may hold un-acked: several batches
        )

    found = [(names.intake, durable(names.shard(shard), *subjects.shard_intake(shard))) for shard in range(shards)]
    found.append((names.intake, durable(BARE, *subjects.personal(), ack_wait_s=BARE_ACK_WAIT_S)))
    found.append((names.logs, durable(LOGS)))
    return found


def queue_consumers(subjects: Subjects, queue: str) -> list[ConsumerConfig]:
    """One durable for each priority of a queue."""
    return [
        ConsumerConfig(
            durable_name=Names.level(queue, priority),
            filter_subject=subjects.queue_level(queue, priority),
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=TASK_ACK_WAIT_S,
            max_deliver=-1,
            max_ack_pending=100_000,  # tasks that workers hold while they ask for their grant
        )
        for priority in PRIORITIES
    ]


def worker_stream(subjects: Subjects, worker: str) -> tuple[StreamConfig, ConsumerConfig]:
    """A worker's orders: small, in memory, gone with the broker; orders are driven again from the rows they come from."""
    return (
        StreamConfig(
            name=Names(subjects).orders(worker),
            subjects=[subjects.orders(worker)],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.MEMORY,
            discard=DiscardPolicy.OLD,
            max_msgs=100_000,
            max_age=HOUR_S,
        ),
        ConsumerConfig(
            durable_name=ORDERS, ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S, max_deliver=-1, max_ack_pending=100_000
        ),
    )


async def _ensure_stream(bus: Bus, config: StreamConfig) -> StreamInfo:
    """Make a stream or bring an existing one to `config`; several coordinators may do so at once."""
    js = bus.jetstream
    assert config.name is not None
    try:
        return await js.add_stream(config)
    except nats.js.errors.BadRequestError as error:
        if error.err_code != 10058:  # the name is in use with another configuration
            raise
        return await js.update_stream(config)


async def ensure(bus: Bus, shards: int) -> str:
    """Make the server agree with this file; returns the incarnation of its streams, which changes when they were lost.

    Raises:
        Unavailable: the server did not do it now.
        Misconfigured: it never will, and why.
    """
    try:
        created = [await _ensure_stream(bus, config) for config in streams(bus.subjects, shards)]
        for stream, consumer in consumers(bus.subjects, shards):
            await bus.jetstream.add_consumer(stream, consumer)
    except nats.js.errors.ServiceUnavailableError as error:
        raise Unavailable(f"JetStream is not available: {error}") from error
    except nats.js.errors.APIError as error:
        raise Misconfigured(f"NATS refused a stream or consumer: {error.description}") from error
    except (nats.errors.Error, TimeoutError) as error:
        raise Unavailable(f"NATS did not make the streams: {error or type(error).__name__}") from error
    return "/".join(info.created.isoformat() for info in created[:2] if info.created is not None)


async def ensure_queue(bus: Bus, queue: str) -> None:
    """Make the consumers of a queue.

    Raises:
        Unavailable: the server did not do it now.
    """
    try:
        for consumer in queue_consumers(bus.subjects, queue):
            await bus.jetstream.add_consumer(Names(bus.subjects).tasks, consumer)
    except (nats.errors.Error, TimeoutError) as error:
        raise Unavailable(f"NATS did not make the consumers of queue {queue}: {error or type(error).__name__}") from error


async def ensure_worker(bus: Bus, worker: str) -> None:
    """Make the stream of a worker's orders.

    Raises:
        Unavailable: the server did not do it now.
    """
    stream, consumer = worker_stream(bus.subjects, worker)
    assert stream.name is not None
    try:
        await bus.jetstream.add_stream(stream)
        await bus.jetstream.add_consumer(stream.name, consumer)
    except (nats.errors.Error, TimeoutError) as error:
        raise Unavailable(f"NATS did not make the orders of worker {worker}: {error or type(error).__name__}") from error


async def remove_worker(bus: Bus, worker: str) -> None:
    """Drop the stream of a worker that is gone; not finding it is fine."""
    try:
        await bus.jetstream.delete_stream(Names(bus.subjects).orders(worker))
    except (nats.errors.Error, TimeoutError):
        return


async def apply(environ: Mapping[str, str], shards: int) -> str:
    """What `windlass bus apply` does: connect as the environment says, and `ensure`."""
    url = needed(environ, "NATS_URL", "the address of the NATS server")
    prefix, tls = lookup(environ, "SUBJECT_PREFIX"), nats_tls(environ)
    async with connect(url, "coordinator", "bus-apply", prefix, tls=tls) as bus:
        return await ensure(bus, shards)
