"""Wires a coordinator and serves."""

import argparse
import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from windlass import ids, service
from windlass import log as logs
from windlass.bus import connection, streams
from windlass.bus.connection import Bus
from windlass.bus.consume import Puller
from windlass.bus.streams import Names
from windlass.clock import Clock
from windlass.clock import system as clock
from windlass.coordinator.bare import Forwarder
from windlass.coordinator.census import Census
from windlass.coordinator.evaluator import Evaluator
from windlass.coordinator.handler import Coordinator
from windlass.coordinator.lease import Leases
from windlass.coordinator.ownership import Ownership
from windlass.coordinator.records import Records
from windlass.coordinator.settings import Settings
from windlass.coordinator.sweeper import Sweeper
from windlass.coordinator.template import Settle, render
from windlass.coordinator.tickets import Tickets
from windlass.coordinator.vaults import Vaults
from windlass.coordinator.watch import CANARY_S, COUNT_S, Watch
from windlass.eventlog import job_keys
from windlass.eventlog import log as eventlog
from windlass.eventlog.connection import SILENT_S, Connection, end_silent
from windlass.eventlog.migrate import Outdated
from windlass.ids import WorkerId
from windlass.release import RELEASE
from windlass.settings import Node

log = logs.get()

PEER_BEAT_S = 0.7
"""Coordinators say more often than others that they live, since shards wait for it."""
PEER_LEASE_S = 2.5
"""Without a word for this long a coordinator's shards are free to take; with the lock's own end, within 5 s."""
OWNER_IDLE_S = 3
"""A session that was silent for this long is ended by the server, and its locks with it."""
BALANCE_S = 0.5
PARTITIONS_S = 6 * 3600.0
WRAP_S = 0.5
"""How often a coordinator with an older master key looks for keys of jobs that it wraps."""


def flags(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--http", metavar="HOST:PORT", help="where /health, /ready and /metrics answer (default: a free port)")
    parser.add_argument("--log-format", choices=("console", "json"))


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run until a signal; returns the exit code."""
    settings = Settings.load(environ, args.http, args.log_format)
    return service.run("coordinator", settings.node, lambda stop: serve(settings, stop))


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Connect, answer about its health, and lead until `stop`."""
    node, name = settings.node, ids.new_node()
    async with AsyncExitStack() as held:
        store = Connection(settings.postgres, f"coordinator {name}", OWNER_IDLE_S)
        held.push_async_callback(store.close)
        aside = Connection(settings.postgres, f"records {name}")
        held.push_async_callback(aside.close)
        shards = await service.first(lambda: store.run(eventlog.shard_count), stop)
        bus = await held.enter_async_context(
            connection.connect(node.nats_url, "coordinator", node.instance, node.prefix, tls=node.nats_tls)
        )
        health = service.Health("coordinator", node.instance, clock)
        await held.enter_async_context(service.serve_http(health, service.listen(node.http, "--http")))
        await service.first(lambda: aside.run(job_keys.check, settings.master), stop)
        await lead(
            name,
            node,
            shards,
            store=store,
            aside=aside,
            bus=bus,
            clock=clock,
            settle=Evaluator().settle,
            vaults=Vaults(settings.master),
            health=health,
            stop=stop,
        )


async def lead(
    name: WorkerId,
    node: Node,
    shards: int,
    *,
    store: Connection,
    aside: Connection,
    bus: Bus,
    clock: Clock,
    settle: Settle,
    vaults: Vaults,
    health: service.Health,
    stop: asyncio.Event,
) -> None:
    """Own a share of the shards until `stop`.

    `store` is the session that owns them, `aside` one for all else; `settle` evaluates what is costly.
    `vaults` has the keys for secrets.

    Raises:
        Outdated: a newer release has migrated the database; the shards were handed over.
    """
    async with AsyncExitStack() as held, asyncio.TaskGroup() as group:
        peers, workers = Leases(clock, PEER_LEASE_S), Leases(clock, node.times.lease_s)
        tickets = Tickets(await service.first(lambda: aside.run(eventlog.ticket_key), stop))
        records = Records(aside, bus, clock, tickets)
        coordinator = Coordinator(
            name=name,
            store=store,
            bus=bus,
            clock=clock,
            shards=shards,
            render=render,
            settle=settle,
            times=node.times,
            aside=records,
            tickets=tickets,
            vaults=vaults,
        )
        coordinator.granted = workers.expect
        ownership = Ownership(
            name=name,
            coordinator=coordinator,
            store=store,
            bus=bus,
            clock=clock,
            shards=shards,
            peers=peers,
            workers=workers,
            times=node.times,
        )
        forwarder = Forwarder(bus, records, shards, vaults.gateway)
        census = Census(
            name=name, bus=bus, clock=clock, peers=peers, workers=workers, records=records, shards=shards, owned=coordinator.heads
        )
        ownership.running = census.running
        ownership.gone, ownership.taken = census.remove, census.shards_taken
        pulse = service.Pulse(bus, name, node.instance, "coordinator", RELEASE, clock)
        coordinator.progressed = health.progressed
        watch = Watch(
            name=name,
            coordinator=coordinator,
            ownership=ownership,
            leases={"worker": workers, "coordinator": peers},
            aside=aside,
            bus=bus,
            clock=clock,
            shards=shards,
            health=health,
        )
        balanced = health.expect("database", BALANCE_S * 10)

        async def agree() -> None:
            incarnation = forwarder.incarnation = await streams.ensure(bus, shards)
            await census.broker_returned()
            await ownership.broker_returned(incarnation)

        outdated: list[Outdated] = []

        async def balance() -> None:
            try:
                await ownership.balance()
                balanced()
            except Outdated as error:
                outdated.append(error)
                stop.set()

        async def beat() -> None:
            if not bus.connected or census.is_deaf:
                workers.suspend()
            elif workers.suspended:
                workers.resume()
            await bus.tell(pulse.subject(), pulse.beat(port=0))

        async def wrap() -> None:
            assert vaults.master is not None
            if wrapped := await aside.run(job_keys.wrap_anew, vaults.master):
                log.info("job_keys_wrapped", keys=wrapped, by=vaults.master.first.id)

        await service.first(agree, stop)
        bus.on_connected(agree)
        await census.start()
        bare = Puller(bus, Names(bus.subjects).intake, streams.BARE, forwarder.take, wanted=64)
        await bare.start()
        held.push_async_callback(bare.stop)
        await service.first(lambda: aside.run(eventlog.ensure_partitions, clock.now()), stop)
        group.create_task(service.every(PEER_BEAT_S, beat, stop))
        group.create_task(service.every(BALANCE_S, balance, stop))
        group.create_task(service.every(SILENT_S / 3, lambda: store.run(end_silent), stop))
        group.create_task(service.every(min(0.5, node.times.lease_s / 6), ownership.lose_workers, stop))
        group.create_task(service.every(node.times.sweep_s, ownership.redrive, stop))
        group.create_task(service.every(node.times.lease_s, ownership.stop_strays, stop))
        group.create_task(service.every(PARTITIONS_S, lambda: aside.run(eventlog.ensure_partitions, clock.now()), stop))
        group.create_task(service.every(CANARY_S, watch.canary, stop))
        group.create_task(service.every(COUNT_S, watch.count, stop))
        if vaults.master is not None and len(vaults.master.ids) > 1:
            group.create_task(service.every(WRAP_S, wrap, stop))
        group.create_task(Sweeper(aside, coordinator, coordinator.heads).serve(stop))
        group.create_task(records.store_logs(stop))
        await coordinator.serve(stop)
        await ownership.leave()
        await bus.tell(pulse.subject(), pulse.beat(status="OFFLINE"))
        for error in outdated:
            raise error
