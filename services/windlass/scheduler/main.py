"""Wires a scheduler and serves."""

import argparse
import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from windlass import ids, service
from windlass.bus import bells, connection
from windlass.bus.connection import Bus
from windlass.clock import Clock
from windlass.clock import system as clock
from windlass.eventlog import log as eventlog
from windlass.eventlog.connection import Connection
from windlass.eventlog.follow import IDLE_S, Follower
from windlass.ids import WorkerId
from windlass.release import RELEASE
from windlass.scheduler.firing import Firing
from windlass.scheduler.projection import Projection
from windlass.scheduler.settings import Settings
from windlass.scheduler.steady import KEEP_S, SteadyTime, boot_id
from windlass.settings import Node

COUNT_S = 5.0
"""How often it is counted what was said without effect so far."""


def flags(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--http", metavar="HOST:PORT", help="where /health, /ready and /metrics answer (default: a free port)")
    parser.add_argument("--log-format", choices=("console", "json"))


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run until a signal; returns the exit code."""
    settings = Settings.load(environ, args.http, args.log_format)
    return service.run("scheduler", settings.node, lambda stop: serve(settings, stop))


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Connect, answer about its health, and keep time until `stop`."""
    node, name = settings.node, ids.new_node()
    async with AsyncExitStack() as held:
        reading = Connection(settings.postgres, f"scheduler {name}", IDLE_S)
        held.push_async_callback(reading.close)
        store = Connection(settings.postgres, f"timers {name}", IDLE_S)
        held.push_async_callback(store.close)
        shards = await service.first(lambda: store.run(eventlog.shard_count), stop)
        bus = await held.enter_async_context(
            connection.connect(node.nats_url, "scheduler", node.instance, node.prefix, tls=node.nats_tls)
        )
        health = service.Health("scheduler", node.instance, clock)
        await held.enter_async_context(service.serve_http(health, service.listen(node.http, "--http")))
        await keep_time(
            name, node, shards, reading=reading, store=store, bus=bus, clock=clock, boot=boot_id(), health=health, stop=stop
        )


async def keep_time(
    name: WorkerId,
    node: Node,
    shards: int,
    *,
    reading: Connection,
    store: Connection,
    bus: Bus,
    clock: Clock,
    boot: str,
    health: service.Health,
    stop: asyncio.Event,
) -> None:
    """Follow the log and fire what is due until `stop`: `reading` is the session that follows, `store` one for all else."""
    time = SteadyTime(store, clock, boot)
    firing = Firing(name=name, store=store, bus=bus, clock=clock, time=time, shards=shards)
    firing.progressed = health.progressed
    project = Projection(time, lambda: follower.level)
    follower = Follower(cursors="timer_cursors", wanted="timed", store=reading, clock=clock, shards=shards, project=project)
    follower.passed = firing.wake
    pulse = service.Pulse(bus, name, node.instance, "scheduler", RELEASE, clock)
    health.check("nats", lambda: None if bus.connected else "not connected")
    health.check("log", follower.trouble)
    health.check("timers", firing.trouble)

    async def keep() -> None:
        await time.keep(follower.level)

    async def beat() -> None:
        await bus.tell(pulse.subject(), pulse.beat(port=0))

    await service.first(time.align, stop)
    bus.on_connected(firing.again)
    await bells.listen(bus, "timed", follower.ring)
    async with asyncio.TaskGroup() as group:
        group.create_task(follower.serve(stop))
        group.create_task(firing.serve(stop))
        group.create_task(service.every(KEEP_S, keep, stop))
        group.create_task(service.every(COUNT_S, firing.count, stop))
        group.create_task(service.every(node.times.heartbeat_s, beat, stop))
    await bus.tell(pulse.subject(), pulse.beat(status="OFFLINE"))
