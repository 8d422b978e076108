"""Which shards are held, on real servers: what a coordinator does not know that it holds would belong to nobody."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, cast

import pytest

from windlass.bus import streams
from windlass.bus.connection import Bus, connect
from windlass.clock import system as clock
from windlass.coordinator.handler import Aside, Coordinator
from windlass.coordinator.lease import Leases
from windlass.coordinator.ownership import Ownership
from windlass.coordinator.tickets import Tickets
from windlass.coordinator.vaults import Vaults
from windlass.errors import Unavailable
from windlass.eventlog import log as eventlog
from windlass.eventlog.connection import Connection
from windlass.eventlog.migrate import migrate
from windlass.settings import PROFILES

SHARDS = 4
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


async def test_a_session_that_ends_before_shards_are_taken_leaves_none_that_nobody_knows_of(bus: Bus, database: str) -> None:
    migrate(database, shards=SHARDS)
    store, other = Fickle(database, "one", 30), Connection(database, "other", 30)
    peers, times = Leases(clock, 60), PROFILES["fast"]
    coordinator = Coordinator(
        name=NAME, store=store, bus=bus, clock=clock, shards=SHARDS, render=_never, settle=_never, times=times,
        aside=cast(Aside, None), tickets=Tickets(b"k"), vaults=Vaults(None),
    )  # fmt: skip
    ownership = Ownership(
        name=NAME, coordinator=coordinator, store=store, bus=bus, clock=clock, shards=SHARDS, peers=peers,
        workers=Leases(clock, 60), times=times,
    )  # fmt: skip
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


def _never(*_: Any) -> Any:
    raise AssertionError("nothing is decided here")
