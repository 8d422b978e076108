"""Who is there, on a real broker: what a node said before its shard had an owner is stored once it has one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import cast

import nats.js.errors
import pytest

from tests.support.waiting import until
from windlass.bus import streams
from windlass.bus.connection import Bus, connect
from windlass.clock import system as clock
from windlass.coordinator.census import Census
from windlass.coordinator.lease import Leases
from windlass.coordinator.records import Records
from windlass.ids import WorkerId, byte_for
from windlass.messages.envelope import encode
from windlass.messages.notices import NodeBeat
from windlass.settings import SHARDS

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NODE = WorkerId("node-one")
SHARD = byte_for(NODE) % SHARDS


class Kept:
    """What was to be stored."""

    def __init__(self) -> None:
        self.beats: list[int] = []

    def keep_node(self, beat: NodeBeat, at: datetime) -> None:
        """See `Records.keep_node`."""
        self.beats.append(beat.counter)


@pytest.fixture
async def bus(nats_url: str, prefix: str) -> AsyncIterator[Bus]:
    async with connect(nats_url, "coordinator", "test", prefix) as found:
        await streams.ensure(found, SHARDS)
        yield found
        for config in streams.streams(found.subjects, SHARDS):
            await found.jetstream.delete_stream(config.name or "")


async def beat(bus: Bus, counter: int, status: str = "UP", node: str = NODE, service: str = "gateway") -> None:
    body = NodeBeat(
        id=WorkerId(node), name="n", service=service, counter=counter, version="1", hostname="h", started_at=NOW, status=status
    )
    await bus.publish(bus.subjects.heartbeat(node), encode(body, id=f"b-{counter}", at=NOW))


async def census(bus: Bus, kept: Kept, owned: set[int]) -> Census:
    leases = Leases(clock, 60)
    found = Census(
        name="c", bus=bus, clock=clock, peers=leases, workers=leases, records=cast(Records, kept), shards=SHARDS, owned=owned
    )
    await found.start()
    return found


async def test_what_a_node_said_before_its_shard_had_an_owner_is_stored_once_it_has_one(bus: Bus) -> None:
    kept, owned = Kept(), set[int]()
    found = await census(bus, kept, owned)
    await beat(bus, 1)
    await beat(bus, 2)
    await until("both heartbeats", lambda: found.heard >= 2)
    assert kept.beats == []
    owned.add(SHARD)
    found.shards_taken()
    found.shards_taken()
    assert kept.beats == [2]
    await beat(bus, 3)
    await until("the next one", lambda: kept.beats == [2, 3])


async def test_of_a_node_that_has_gone_nothing_is_kept_for_later(bus: Bus) -> None:
    kept, owned = Kept(), set[int]()
    found = await census(bus, kept, owned)
    await beat(bus, 1)
    await beat(bus, 2, status="OFFLINE")
    await until("both heartbeats", lambda: found.heard >= 2)
    owned.add(SHARD)
    found.shards_taken()
    assert kept.beats == []


async def _has_orders(bus: Bus, worker: str) -> bool:
    try:
        await bus.jetstream.stream_info(streams.Names(bus.subjects).orders(worker))
    except nats.js.errors.NotFoundError:
        return False
    return True


async def _orders(bus: Bus, worker: str, there: bool) -> None:
    async with asyncio.timeout(15):
        while await _has_orders(bus, worker) != there:
            await asyncio.sleep(0.01)


async def test_who_has_a_workers_user_passes_for_no_other_node(bus: Bus) -> None:
    kept = Kept()
    found = await census(bus, kept, set(range(SHARDS)))
    await beat(bus, 1, node="worker-gpu-1", service="coordinator")
    await beat(bus, 2, node="worker-gpu-1.start", service="coordinator")
    await beat(bus, 3)
    await until("the last one", lambda: kept.beats)
    assert (kept.beats, found.heard) == ([3], 1)


async def test_orders_stay_while_another_start_of_their_worker_lives(bus: Bus) -> None:
    found = await census(bus, Kept(), set())
    for number, start in enumerate(("former", "latter")):
        await beat(bus, number, node=f"worker-gpu-1.{start}", service="worker")
    await until("both are heard", lambda: found.heard == 2)
    await _orders(bus, "worker-gpu-1", there=True)
    await beat(bus, 3, status="OFFLINE", node="worker-gpu-1.former", service="worker")
    await beat(bus, 4, node="next", service="worker")
    await _orders(bus, "next", there=True)  # made after whatever the former's end led to
    assert await _has_orders(bus, "worker-gpu-1")
    await beat(bus, 5, status="OFFLINE", node="worker-gpu-1.latter", service="worker")
    await _orders(bus, "worker-gpu-1", there=False)
