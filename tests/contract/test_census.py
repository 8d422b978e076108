"""Who is there, on a real broker: what a node said before its shard had an owner is stored once it has one."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import cast

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


async def beat(bus: Bus, counter: int, status: str = "UP") -> None:
    body = NodeBeat(
        id=NODE, name="n", service="gateway", counter=counter, version="1", hostname="h", started_at=NOW, status=status
    )
    await bus.publish(bus.subjects.heartbeat(NODE), encode(body, id=f"b-{counter}", at=NOW))


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
