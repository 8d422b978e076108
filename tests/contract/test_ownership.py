"""Which shards are held, on real servers: what a coordinator does not know that it holds would belong to nobody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, cast

import pytest

from tests.support.scenario import job, task
from tests.support.services import Desk, Hand
from tests.support.waiting import until
from windlass.bus import streams
from windlass.bus.connection import Bus, connect
from windlass.clock import system as clock
from windlass.coordinator.handler import Aside, Coordinator
from windlass.coordinator.lease import Leases
from windlass.coordinator.ownership import Ownership
from windlass.coordinator.template import render
from windlass.coordinator.tickets import Tickets
from windlass.coordinator.vaults import Vaults
from windlass.errors import Unavailable
from windlass.eventlog import log as eventlog
from windlass.eventlog.connection import Connection
from windlass.eventlog.migrate import migrate
from windlass.messages.commands import CompleteTask, SubmitJob
from windlass.messages.jobs import Parallel
from windlass.settings import PROFILES

SHARDS = 16
NAME, OTHER = "node-a", "node-b"


@pytest.fixture
async def bus(nats_url: str, prefix: str) -> AsyncIterator[Bus]:
    async with connect(nats_url, "coordinator", "test", prefix) as found:
        yield found
        for config in streams.streams(found.subjects, SHARDS):
            await found.jetstream.delete_stream(config.name or "")


class Fickle(Connection):
    """A session that ends right after it was asked for the formats, the first time."""

    _whole = True

    async def run(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        """See `Connection`."""
        found = await super().run(work, *args, **kwargs)
        if work is eventlog.formats and self._whole:
            self._whole = False
            await self.drop()
        return found


def _owner(store: Connection, bus: Bus, peers: Leases, render: Any) -> tuple[Coordinator, Ownership]:
    """A coordinator that decides only when it is told to, and what owns its shards."""
    times = PROFILES["fast"]
    coordinator = Coordinator(
        name=NAME, store=store, bus=bus, clock=clock, shards=SHARDS, render=render, settle=_never, times=times,
        aside=cast(Aside, None), tickets=Tickets(b"k"), vaults=Vaults(None),
    )  # fmt: skip
    ownership = Ownership(
        name=NAME, coordinator=coordinator, store=store, bus=bus, clock=clock, shards=SHARDS, peers=peers,
        workers=Leases(clock, 60), times=times,
    )  # fmt: skip
    return coordinator, ownership


async def test_a_session_that_ends_before_shards_are_taken_leaves_none_that_nobody_knows_of(bus: Bus, database: str) -> None:
    migrate(database, shards=SHARDS)
    store, other = Fickle(database, "one", 30), Connection(database, "other", 30)
    peers = Leases(clock, 60)
    _, ownership = _owner(store, bus, peers, _never)
    ownership.incarnation = await streams.ensure(bus, SHARDS)
    with suppress(Unavailable):
        await ownership.balance()
    for _ in range(2):
        await ownership.balance()
    assert ownership.owned == list(range(SHARDS))
    peers.beat(OTHER, 1)
    await ownership.balance()
    for shard in set(range(SHARDS)) - set(ownership.owned):
        assert await other.run(eventlog.take, shard, OTHER) is not None
    assert len(ownership.owned) == SHARDS // 2
    await ownership.leave()
    await store.close()
    await other.close()


async def test_a_submission_that_comes_again_beside_a_report_of_its_job_is_not_taken_for_new(bus: Bus, database: str) -> None:
    """What memory had of the job was lost; the report was decided without what is stored, and the job was frozen."""
    migrate(database, shards=SHARDS)
    store = Connection(database, "one", 30)
    coordinator, ownership = _owner(store, bus, Leases(clock, 60), render)
    ownership.incarnation = await streams.ensure(bus, SHARDS)
    await ownership.balance()
    hand, desk = Hand(bus), Desk(bus, SHARDS)
    await hand.start()

    name = desk.new()
    submission = hand.payload(SubmitJob(job=name, definition=job(task(run="", parallel=Parallel(tasks=(task(),))))))
    subject = bus.subjects.jobs(desk.shard_of(name))
    await bus.publish(subject, submission)
    await _decided(coordinator, 1)
    run = await hand.task(name, key="1.0")
    claim = asyncio.ensure_future(hand.claim(run))
    await _decided(coordinator, 1)
    await claim
    coordinator.forget()
    await bus.publish(subject, submission)
    report = asyncio.ensure_future(hand.report(CompleteTask(**hand.fence(run), result="done")))
    await _decided(coordinator, 2)
    assert (await report).code is None
    await hand.stop()
    await ownership.leave()
    await store.close()


async def _decided(coordinator: Coordinator, messages: int) -> None:
    """Wait until so many messages have come, and decide them in one batch."""
    await until(f"{messages} have come", lambda: coordinator.taken()[0] == messages)
    await coordinator.step()


def _never(*_: Any) -> Any:
    raise AssertionError("nothing is decided here")
