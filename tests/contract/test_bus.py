"""The bus on a real NATS server and on the one in memory: streams as data, publishing, pulls, what comes of a loss."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js.api import RetentionPolicy, StreamConfig

from tests.support.memory.broker import Broker
from tests.support.memory.client import MemoryClient
from tests.support.stack import EmbeddedNats
from tests.support.waiting import until
from windlass.bus import streams
from windlass.bus.connection import ALREADY_QUEUED, CONNECT_S, Bus, NotStored, connect
from windlass.bus.consume import Jetstream, Puller
from windlass.bus.permissions import permissions
from windlass.bus.streams import Names
from windlass.errors import Misconfigured, Unavailable
from windlass.subjects import Subjects

SHARDS = 4
pytestmark = pytest.mark.timeout(60)


class Real:
    """A NATS server; one of the test's own may be stopped, killed and emptied."""

    def __init__(self, url: str, server: EmbeddedNats | None = None) -> None:
        self.url, self._server = url, server

    def connect(self, service: str, instance: str, prefix: str = "") -> AbstractAsyncContextManager[Bus]:
        return connect(self.url, service, instance, prefix)

    def stop(self) -> None:
        assert self._server is not None
        self._server.stop()

    def start(self) -> None:
        assert self._server is not None
        self._server.start()

    def lose_everything(self) -> None:
        assert self._server is not None
        self._server.kill()
        shutil.rmtree(self._server.data.nats / "store", ignore_errors=True)


class Memory:
    """The double."""

    def __init__(self) -> None:
        self._broker = Broker()

    def connect(self, service: str, instance: str, prefix: str = "") -> AbstractAsyncContextManager[Bus]:
        return connect("memory", service, instance, prefix, make_client=lambda: MemoryClient(self._broker))

    def stop(self) -> None:
        self._broker.stop()

    def start(self) -> None:
        self._broker.start()

    def lose_everything(self) -> None:
        self._broker.stop(forget=True)


Server = Real | Memory


@pytest.fixture(params=["nats", "memory"])
async def server(request: pytest.FixtureRequest) -> Server:
    """A server that tests share."""
    return Memory() if request.param == "memory" else Real(request.getfixturevalue("nats_url"))


@pytest.fixture
async def bus(server: Server, prefix: str) -> AsyncIterator[Bus]:
    """A connection of the test's own, with its streams; they are gone afterwards."""
    async with server.connect("coordinator", "test", prefix) as found:
        await streams.ensure(found, SHARDS)
        yield found
        for info in await found.jetstream.streams_info():
            if info.config.name is not None and info.config.name.startswith(prefix.replace(".", "_")):
                await found.jetstream.delete_stream(info.config.name)


@pytest.fixture(params=["nats", "memory"])
async def own(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    """A server that the test may stop, kill and empty."""
    if request.param == "memory":
        yield Memory()
        return
    request.getfixturevalue("servers")
    server = EmbeddedNats(tmp_path)
    try:
        yield Real(server.url, server)
    finally:
        server.stop()


async def _is_emptied(bus: Bus, stream: str) -> None:
    """Wait until a stream holds nothing: the server takes an ack in its own time."""
    async with asyncio.timeout(10):
        while (await bus.jetstream.stream_info(stream)).state.messages:
            await asyncio.sleep(0.01)


# -- streams --------------------------------------------------------------------------------------------------------


async def test_the_server_is_made_to_agree_with_the_file(bus: Bus) -> None:
    names = Names(bus.subjects)
    intake = (await bus.jetstream.stream_info(names.intake)).config
    tasks = (await bus.jetstream.stream_info(names.tasks)).config
    assert (intake.retention, tasks.retention) == (RetentionPolicy.WORK_QUEUE, RetentionPolicy.WORK_QUEUE)
    assert (tasks.max_msgs_per_subject, tasks.discard_new_per_subject) == (1, True)
    consumers = {info.name: info.config for info in await bus.jetstream.consumers_info(names.intake)}
    assert set(consumers) == {"bare", *[Names.shard(shard) for shard in range(SHARDS)]}
    assert all(config.max_deliver == -1 for config in consumers.values())


async def test_ensuring_again_changes_nothing_and_gives_the_same_incarnation(bus: Bus) -> None:
    first = await streams.ensure(bus, SHARDS)
    await bus.publish(bus.subjects.jobs(0), b"kept")
    assert await streams.ensure(bus, SHARDS) == first
    assert (await bus.jetstream.stream_info(Names(bus.subjects).intake)).state.messages == 1


async def test_several_may_ensure_at_once(server: Server, bus: Bus) -> None:
    async with AsyncExitStack() as held:
        others = [await held.enter_async_context(server.connect("coordinator", str(i), bus.subjects.prefix)) for i in range(3)]
        found = await asyncio.gather(*[streams.ensure(one, SHARDS) for one in others])
    assert len(set(found)) == 1


async def test_a_stream_that_was_lost_is_made_again_and_the_incarnation_changes(bus: Bus) -> None:
    first = await streams.ensure(bus, SHARDS)
    await bus.jetstream.delete_stream(Names(bus.subjects).tasks)
    second = await streams.ensure(bus, SHARDS)
    assert second != first
    assert await streams.ensure(bus, SHARDS) == second


async def test_a_stream_with_other_limits_is_brought_to_agree(bus: Bus) -> None:
    wanted = next(one for one in streams.streams(bus.subjects, SHARDS) if one.name == Names(bus.subjects).intake)
    await bus.jetstream.update_stream(wanted.evolve(max_msgs=7))
    await streams.ensure(bus, SHARDS)
    assert (await bus.jetstream.stream_info(Names(bus.subjects).intake)).config.max_msgs == wanted.max_msgs


async def test_a_stream_that_can_never_agree_is_said_so(server: Server, prefix: str) -> None:
    async with server.connect("coordinator", "test", prefix) as bus:
        names = Names(bus.subjects)
        other = StreamConfig(name=names.intake, subjects=[f"{prefix}else"], retention=RetentionPolicy.LIMITS)
        await bus.jetstream.add_stream(other)
        try:
            with pytest.raises(Misconfigured, match="NATS refused a stream"):
                await streams.ensure(bus, SHARDS)
        finally:
            await bus.jetstream.delete_stream(names.intake)


async def test_a_queue_has_a_consumer_for_each_priority(bus: Bus) -> None:
    await streams.ensure_queue(bus, "a.b")
    await streams.ensure_queue(bus, "a.b")
    found = {info.name for info in await bus.jetstream.consumers_info(Names(bus.subjects).tasks)}
    assert found == {Names.level("a.b", priority) for priority in range(10)}


async def test_a_workers_orders_come_and_go_with_it(bus: Bus) -> None:
    await streams.ensure_worker(bus, "w1")
    await streams.ensure_worker(bus, "w1")
    await bus.publish(bus.subjects.orders("w1"), b"x")
    await streams.remove_worker(bus, "w1")
    await streams.remove_worker(bus, "w1")
    with pytest.raises(Unavailable, match="no stream"):
        await bus.publish(bus.subjects.orders("w1"), b"x")


# -- publishing -----------------------------------------------------------------------------------------------------


async def test_many_are_published_together_and_all_are_stored(bus: Bus) -> None:
    assert await bus.publish_all([(bus.subjects.jobs(i % SHARDS), b"%d" % i) for i in range(500)]) == {}
    assert (await bus.jetstream.stream_info(Names(bus.subjects).intake)).state.messages == 500


async def test_publishing_nothing_is_done_at_once(bus: Bus) -> None:
    assert await bus.publish_all([]) == {}


async def test_a_dispatch_that_still_waits_is_refused_a_second_time_and_the_rest_is_stored(bus: Bus) -> None:
    first, other = bus.subjects.queued("default", 3, "t1", 1), bus.subjects.queued("default", 3, "t2", 1)
    await bus.publish(first, b"once")
    failures = await bus.publish_all([(first, b"twice"), (other, b"x"), (f"{bus.subjects.prefix}nowhere.x", b"y")])
    assert set(failures) == {0, 2}
    refused, lost = failures[0], failures[2]
    assert isinstance(refused, NotStored)
    assert refused.number == ALREADY_QUEUED
    assert isinstance(lost, Unavailable)
    assert "no stream takes this subject" in str(lost)
    assert (await bus.jetstream.stream_info(Names(bus.subjects).tasks)).state.messages == 2


async def test_once_it_was_taken_the_same_attempt_could_be_dispatched_again(bus: Bus) -> None:
    await streams.ensure_queue(bus, "default")
    subject, came = bus.subjects.queued("default", 3, "t1", 1), asyncio.Queue[Jetstream]()
    puller = Puller(bus, Names(bus.subjects).tasks, Names.level("default", 3), came.put_nowait)
    await puller.start()
    await bus.publish(subject, b"once")
    await (await came.get()).ack()
    await _is_emptied(bus, Names(bus.subjects).tasks)
    await bus.publish(subject, b"again")
    await puller.stop()


async def test_a_message_that_is_too_large_is_a_failure_of_that_message_alone(bus: Bus) -> None:
    failures = await bus.publish_all([(bus.subjects.jobs(0), b"x" * (5 * 1024 * 1024)), (bus.subjects.jobs(0), b"fine")])
    assert set(failures) == {0}


async def test_without_a_server_publishing_says_that_the_outcome_is_unknown(own: Server) -> None:
    async with own.connect("coordinator", "test") as bus:
        await streams.ensure(bus, SHARDS)
        own.stop()
        await until("the loss is noticed", lambda: not bus.connected)
        with pytest.raises(Unavailable):
            await bus.publish(bus.subjects.jobs(0), b"x", timeout_s=0.2)


async def test_an_answer_finds_who_asked(bus: Bus, server: Server) -> None:
    async with server.connect("gateway", "other", bus.subjects.prefix) as other:
        await other.client.flush()  # its inbox is known to the server
        reply, answer = other.expect()
        late, never = other.expect()
        await bus.tell(reply, b"yes")
        async with asyncio.timeout(5):
            assert await answer == b"yes"
        never.cancel()
        await bus.tell(late, b"too late")
        await bus.tell(reply, b"twice")
        last, heard = other.expect()
        await bus.tell(last, b"and on")
        async with asyncio.timeout(5):
            assert await heard == b"and on"


async def _refusal(url: str) -> str:
    with pytest.raises(Misconfigured) as caught:
        async with connect(url, "coordinator", "test"):
            raise AssertionError("connected")
    return str(caught.value)


async def test_no_server_and_a_wrong_password_are_one_line_with_the_remedy(nats_url: str) -> None:
    async with asyncio.timeout(CONNECT_S):  # no second try
        wrong = await _refusal(nats_url.replace("operator:", "operator:wrong"))
    nobody = await _refusal("nats://someone:secret@127.0.0.1:1")
    assert re.fullmatch(r"NATS at 127\.0\.0\.1:\d+ refuses user 'operator'; check user and password in WINDLASS_NATS_URL", wrong)
    assert re.fullmatch(r"NATS at 127\.0\.0\.1:1 does not answer \(.*Connect call failed.*see WINDLASS_NATS_URL", nobody)


# -- taking ---------------------------------------------------------------------------------------------------------


class Taker:
    """Collects what a consumer gives; acknowledges at once if told to."""

    def __init__(self, bus: Bus, consumer: str, wanted: int = 512, acks: bool = True) -> None:
        self.came: list[Jetstream] = []
        self._bus, self._acks = bus, acks
        self._tasks: set[asyncio.Task[None]] = set()
        self.puller = Puller(bus, Names(bus.subjects).intake, consumer, self._take, wanted=wanted)

    def _take(self, delivery: Jetstream) -> None:
        self.came.append(delivery)
        if self._acks:
            task = asyncio.get_running_loop().create_task(delivery.ack())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def number(self, count: int) -> Jetstream | None:
        return self.came[count - 1] if len(self.came) >= count else None

    @property
    def payloads(self) -> list[bytes]:
        return [delivery.payload for delivery in self.came]


@asynccontextmanager
async def _taking(bus: Bus, shard: int = 0, wanted: int = 512, acks: bool = True) -> AsyncIterator[Taker]:
    taker = Taker(bus, Names.shard(shard), wanted, acks)
    await taker.puller.start()
    try:
        yield taker
    finally:
        await taker.puller.stop()


async def test_messages_come_in_order_however_few_are_asked_for_at_a_time(bus: Bus) -> None:
    sent = [b"%d" % i for i in range(100)]
    async with _taking(bus, wanted=4) as taker:
        await bus.publish_all([(bus.subjects.jobs(0), payload) for payload in sent])
        await until("all came", lambda: len(taker.came) == 100)
    assert taker.payloads == sent


async def test_a_consumer_that_is_gone_is_noticed_and_one_that_is_back_too(bus: Bus) -> None:
    names, taken = Names(bus.subjects), list[Jetstream]()
    puller = Puller(bus, names.intake, Names.shard(1), taken.append, wanted=2)
    for _ in range(5):
        await bus.publish(bus.subjects.jobs(1), b"{}")
    assert puller.pending == 0
    await puller.start()
    await until("all came", lambda: len(taken) == 5)
    assert [delivery.pending for delivery in taken] == [4, 3, 2, 1, 0]
    assert (puller.stalled, puller.pending) == (False, 0)
    await bus.jetstream.delete_consumer(names.intake, Names.shard(1))
    await until("it is noticed", lambda: puller.stalled)
    await streams.ensure(bus, SHARDS)
    await bus.publish(bus.subjects.jobs(1), b"{}")
    await until("it is back", lambda: len(taken) > 5 and not puller.stalled)
    await puller.stop()


async def test_a_message_knows_where_it_stands(bus: Bus) -> None:
    await bus.publish_all([(bus.subjects.report("error", 0, "w1"), b"x"), (bus.subjects.jobs(0), b"y")], {"A": "b"})
    async with _taking(bus) as taker:
        await until("both came", lambda: len(taker.came) == 2)
    first, second = taker.came
    assert (first.subject, first.headers) == (bus.subjects.report("error", 0, "w1"), {"A": "b"})
    assert (first.sequence, second.sequence) == (1, 2)
    assert (first.deliveries, first.pending, second.pending) == (1, 1, 0)
    assert second.stamp_ns >= first.stamp_ns > 1_700_000_000 * 10**9


async def test_a_shard_gets_its_own_messages_alone(bus: Bus) -> None:
    await bus.publish_all([(bus.subjects.jobs(1), b"other"), (bus.subjects.jobs(0), b"mine"), (bus.subjects.jobs(2), b"x")])
    async with _taking(bus, shard=0) as taker, _taking(bus, shard=1) as other:
        await until("both came", lambda: taker.came and other.came)
    assert (taker.payloads, other.payloads) == ([b"mine"], [b"other"])


async def test_not_now_brings_it_again_and_never_does_not(bus: Bus) -> None:
    async with _taking(bus, acks=False) as taker:
        await bus.publish(bus.subjects.jobs(0), b"x")
        first = await until("it came", lambda: taker.number(1))
        await first.nak()
        again = await until("it came again", lambda: taker.number(2))
        assert (again.deliveries, again.payload) == (2, b"x")
        await again.nak(0.05)
        third = await until("it came a third time", lambda: taker.number(3))
        await third.term()
        await bus.publish(bus.subjects.jobs(0), b"y")
        await until("the next came", lambda: len(taker.came) > 3)
    assert taker.payloads == [b"x", b"x", b"x", b"y"]


async def test_what_is_acknowledged_leaves_the_stream(bus: Bus) -> None:
    async with _taking(bus) as taker:
        await bus.publish(bus.subjects.jobs(0), b"x")
        await until("it came", lambda: taker.came)
        await _is_emptied(bus, Names(bus.subjects).intake)


async def test_who_takes_over_gets_what_was_not_acknowledged_first_and_in_order(bus: Bus) -> None:
    sent = [b"%d" % i for i in range(5)]
    await bus.publish_all([(bus.subjects.jobs(0), payload) for payload in sent])
    async with _taking(bus, acks=False) as former:
        await until("all came", lambda: len(former.came) == 5)
        await former.came[2].ack()
        await bus.client.flush()
    await bus.publish(bus.subjects.jobs(0), b"later")
    await bus.jetstream.reset_consumer(Names(bus.subjects).intake, Names.shard(0))
    async with _taking(bus) as successor:
        await until("the rest came", lambda: len(successor.came) == 5)
    assert successor.payloads == [b"0", b"1", b"3", b"4", b"later"]


async def test_a_consumer_that_is_made_later_is_found(bus: Bus) -> None:
    await streams.ensure_worker(bus, "w1")
    stream = Names(bus.subjects).orders("w2")
    came: list[Jetstream] = []
    puller = Puller(bus, stream, streams.ORDERS, came.append)
    await puller.start()
    assert not puller.accepted
    await streams.ensure_worker(bus, "w2")
    await bus.publish(bus.subjects.orders("w2"), b"go")
    await until("the order came", lambda: came)
    await until("it is accepted", lambda: puller.accepted)
    await puller.stop()


async def test_a_consumer_that_was_deleted_and_made_again_is_found(bus: Bus) -> None:
    names = Names(bus.subjects)
    async with _taking(bus) as taker:
        await until("the request stands", lambda: taker.puller.accepted)
        await bus.jetstream.delete_consumer(names.intake, Names.shard(0))
        await streams.ensure(bus, SHARDS)
        await bus.publish(bus.subjects.jobs(0), b"x")
        await until("it came", lambda: taker.came)


# -- the server goes away -------------------------------------------------------------------------------------------


async def test_after_a_restart_everything_goes_on(own: Server) -> None:
    heard: list[bytes] = []
    returned = asyncio.Event()

    async def listen(message: Msg) -> None:
        heard.append(message.data)

    async def back() -> None:
        returned.set()

    async with own.connect("coordinator", "test") as bus:
        first = await streams.ensure(bus, SHARDS)
        await bus.subscribe(bus.subjects.heartbeats(), listen)
        bus.on_connected(back)
        async with _taking(bus) as taker:
            await bus.publish(bus.subjects.jobs(0), b"before")
            await until("the first came", lambda: taker.came)
            own.stop()
            own.start()
            await asyncio.wait_for(returned.wait(), 15)
            assert await streams.ensure(bus, SHARDS) == first
            await bus.publish(bus.subjects.jobs(0), b"after")
            await bus.tell(bus.subjects.heartbeat("n"), b"beat")
            await until("the second came", lambda: len(taker.came) > 1)
            await until("the beat came", lambda: heard)
    assert taker.payloads == [b"before", b"after"]


async def test_after_a_crash_that_lost_everything_the_incarnation_is_another_and_everything_goes_on(own: Server) -> None:
    async with own.connect("coordinator", "test") as bus:
        found = [await streams.ensure(bus, SHARDS)]

        async def agree() -> None:
            found.append(await streams.ensure(bus, SHARDS))

        bus.on_connected(agree)
        async with _taking(bus) as taker:
            await bus.publish(bus.subjects.jobs(0), b"before")
            await until("the first came", lambda: taker.came)
            own.lose_everything()
            own.start()
            await until("the streams are made again", lambda: len(found) > 1)
            assert found[1] != found[0]
            await bus.publish(bus.subjects.jobs(0), b"after")
            await until("the second came", lambda: len(taker.came) > 1)
    assert taker.payloads == [b"before", b"after"]


async def test_a_step_after_a_reconnect_that_fails_is_tried_again(own: Server) -> None:
    tries: list[int] = []

    async def stumble() -> None:
        tries.append(len(tries))
        if len(tries) < 3:
            raise Unavailable("the streams are not there yet")

    async with own.connect("coordinator", "test") as bus:
        bus.on_connected(stumble)
        own.stop()
        own.start()
        await until("it succeeds", lambda: len(tries) == 3)


# -- who may do what ------------------------------------------------------------------------------------------------

MAY_NOT_SAY = {
    "gateway": [
        "pending.00", "started.00.w", "completed.00.w", "queues.default.0.t.1", "x-w", "events.job.j", "logs.00.j.t", "jobs",
        "$JS.API.STREAM.DELETE.intake", "$JS.API.CONSUMER.MSG.NEXT.intake.shard-00", "$JS.API.CONSUMER.MSG.NEXT.tasks.default-0",
        "$JS.ACK.intake.shard-00.1.1.1.1.1", "_INBOX_worker.x",
    ],
    "coordinator": ["logs.00.j.t", "api.jobs", "_INBOX_operator.x"],
    "scheduler": [
        "started.00.w", "control.00", "queues.default.0.t.1", "x-w", "events.job.j", "$JS.API.STREAM.PURGE.intake",
        "$JS.API.CONSUMER.MSG.NEXT.intake.shard-00",
    ],
    "worker": [
        "jobs", "jobs.00", "pending.00", "control.00", "schedules.00", "queues.default.0.t.1", "x-w", "events.job.j",
        "completed", "completed.00", "$JS.API.STREAM.CREATE.x", "$JS.API.STREAM.DELETE.tasks", "$JS.API.STREAM.MSG.GET.tasks",
        "$JS.API.CONSUMER.CREATE.tasks.mine", "$JS.API.CONSUMER.MSG.NEXT.intake.shard-00", "$JS.ACK.intake.shard-00.1.1.1.1.1",
        "_INBOX_gateway.x",
    ],
    "webhooks": ["jobs.00", "control.00", "completed.00.w", "queues.default.0.t.1", "x-w", "$JS.API.STREAM.NAMES"],
}  # fmt: skip
MAY_NOT_HEAR = {
    "gateway": [">", "jobs.>", "completed.>", "queues.>", "x-w", "*", "_INBOX_worker.>", "_INBOX.>", "$JS.>"],
    "coordinator": [">", "jobs.>", "completed.>", "queues.>", "x-w", "_INBOX_gateway.>"],
    "scheduler": [">", "jobs.>", "events.>", "events.hooked.*", "logs.>", "_INBOX_gateway.>"],
    "worker": [
        ">", "jobs.>", "completed.>", "queues.>", "queues.default.0.>", "x-w", "*", "events.>", "logs.>", "heartbeat.*",
        "_INBOX_gateway.>",
    ],
    "webhooks": [">", "jobs.>", "events.>", "events.timed.*", "logs.>"],
}  # fmt: skip
MUST_SAY = {
    "gateway": ["jobs.0f", "control.00", "schedules.00", "heartbeat.n", "_INBOX_operator.x"],
    "coordinator": [
        "queues.default.0.t.1", "x-w", "events.job.j", "events.timed.00", "heartbeat.n", "_INBOX_gateway.r", "_INBOX_worker.r",
        "jobs.00", "pending.00", "error.00.w",
    ],
    "scheduler": ["jobs.00", "pending.00", "schedules.00", "heartbeat.n"],
    "worker": [
        "started.00.w", "completed.00.w", "error.00.w", "progress.00.w", "logs.00.j.t", "heartbeat.n",
        "$JS.API.CONSUMER.MSG.NEXT.tasks.default-0", "$JS.ACK.tasks.default-0.1.1.1.1.1",
    ],
    "webhooks": ["heartbeat.n"],
}  # fmt: skip


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, servers: object) -> Iterator[EmbeddedNats]:
    """A server without a prefix, whose users have their rights."""
    server = EmbeddedNats(tmp_path_factory.mktemp("nats"))
    try:
        yield server
    finally:
        server.stop()


async def _violations(server: EmbeddedNats, user: str, say: list[str], hear: list[str]) -> list[str]:
    """What the server refuses a user."""
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(server.url_of(user), error_cb=note, inbox_prefix=f"_INBOX_{user}", allow_reconnect=False)
    for subject in say:
        await client.publish(subject, b"x")
    for subject in hear:
        await client.subscribe(subject)
    await client.flush()
    await client.flush()  # the last refusal is told after the answer to the first
    await client.close()
    return refused


@pytest.mark.parametrize("user", MAY_NOT_SAY)
async def test_a_service_may_not_say_what_is_not_its_own(locked: EmbeddedNats, user: str) -> None:
    refused = await _violations(locked, user, MAY_NOT_SAY[user], [])
    missing = [subject for subject in MAY_NOT_SAY[user] if not any(f'"{subject}"'.lower() in one.lower() for one in refused)]
    assert missing == []


@pytest.mark.parametrize("user", MAY_NOT_HEAR)
async def test_a_service_may_not_hear_what_is_not_its_own(locked: EmbeddedNats, user: str) -> None:
    refused = await _violations(locked, user, [], MAY_NOT_HEAR[user])
    missing = [subject for subject in MAY_NOT_HEAR[user] if not any(f'"{subject}"'.lower() in one.lower() for one in refused)]
    assert missing == []


@pytest.mark.parametrize("user", MUST_SAY)
async def test_a_service_may_say_what_it_must(locked: EmbeddedNats, user: str) -> None:
    assert await _violations(locked, user, MUST_SAY[user], []) == []


@pytest.mark.parametrize("user", MUST_SAY)
def test_rights_stay_within_their_prefix(user: str) -> None:
    shared = permissions(user, Subjects("team.00.a."))
    plain = permissions(user, Subjects())
    for here, there in ((shared.publish, plain.publish), (shared.subscribe, plain.subscribe)):
        assert len(here) == len(there)
        for one in here:
            if not one.startswith(("$", "_INBOX")):
                assert one.startswith("team.00.a."), one


async def test_with_its_own_rights_a_worker_takes_and_reports_work(locked: EmbeddedNats) -> None:
    async with (
        connect(locked.url_of("coordinator"), "coordinator", "c") as coordinator,
        connect(locked.url_of("worker"), "worker", "w") as worker,
    ):
        await streams.ensure(coordinator, SHARDS)
        await streams.ensure_queue(coordinator, "default")
        await streams.ensure_worker(coordinator, "w")
        came, orders, reports = list[Jetstream](), list[Jetstream](), list[Jetstream]()
        names = Names(worker.subjects)
        pullers = [
            Puller(worker, names.tasks, Names.level("default", 0), came.append),
            Puller(worker, names.orders("w"), streams.ORDERS, orders.append),
            Puller(coordinator, names.intake, Names.shard(0), reports.append),
        ]
        for puller in pullers:
            await puller.start()
        await coordinator.publish(coordinator.subjects.queued("default", 0, "t", 1), b"task")
        await coordinator.publish(coordinator.subjects.orders("w"), b"order")
        await until("task and order came", lambda: came and orders)
        await came[0].ack()
        await orders[0].ack()
        await worker.publish(worker.subjects.report("started", 0, "w"), b"claim")
        await until("the claim came", lambda: reports)
        await _is_emptied(coordinator, names.tasks)
        await _is_emptied(coordinator, names.orders("w"))
        for puller in pullers:
            await puller.stop()


async def test_the_worker_that_is_asked_cannot_make_or_drop_a_stream(locked: EmbeddedNats) -> None:
    async with connect(locked.url_of("worker"), "worker", "w") as worker:
        js = worker.client.jetstream(timeout=0.3)
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await js.add_stream(name="mine", subjects=["mine"])
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await js.delete_stream("tasks")
