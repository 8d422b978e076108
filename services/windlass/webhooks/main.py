"""Wires the webhooks service and serves."""

import argparse
import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from windlass import ids, service
from windlass.bus import bells, connection
from windlass.bus.connection import Bus
from windlass.clock import Clock
from windlass.clock import system as clock
from windlass.eventlog import follow
from windlass.eventlog import log as eventlog
from windlass.eventlog.connection import Connection
from windlass.eventlog.follow import Follower
from windlass.ids import WorkerId
from windlass.release import RELEASE
from windlass.webhooks import sender
from windlass.webhooks.addresses import Resolver
from windlass.webhooks.call import Caller
from windlass.webhooks.projection import Projection
from windlass.webhooks.sender import Post, Sender
from windlass.webhooks.settings import Settings

PAGE_MAX = 1000
"""Events projected together: each may bring several conditions and headers to evaluate."""
FREE_S = 1.0
MEASURE_S = 5.0
FORGET_S = 60.0


def flags(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--http", metavar="HOST:PORT", help="where /health, /ready and /metrics answer (default: a free port)")
    parser.add_argument("--log-format", choices=("console", "json"))


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run until a signal; returns the exit code."""
    settings = Settings.load(environ, args.http, args.log_format)
    return service.run("webhooks", settings.node, lambda stop: serve(settings, stop))


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Connect, answer about its health, and tell of what happens until `stop`."""
    node, name = settings.node, ids.new_node()
    async with AsyncExitStack() as held:
        reading = Connection(settings.postgres, f"webhooks follower {name}", follow.IDLE_S)
        held.push_async_callback(reading.close)
        sending = Connection(settings.postgres, f"webhooks sender {name}", sender.IDLE_S)
        held.push_async_callback(sending.close)
        shards = await service.first(lambda: reading.run(eventlog.shard_count), stop)
        bus = await held.enter_async_context(
            connection.connect(node.nats_url, "webhooks", node.instance, node.prefix, tls=node.nats_tls)
        )
        health = service.Health("webhooks", node.instance, clock)
        await held.enter_async_context(service.serve_http(health, service.listen(node.http, "--http")))
        caller = Caller(
            resolver=Resolver(settings.allow_private), keys=settings.signing_keys, clock=clock, secret_keys=settings.keys
        )
        await tell(
            name,
            settings,
            shards,
            reading=reading,
            sending=sending,
            post=caller.post,
            bus=bus,
            clock=clock,
            health=health,
            stop=stop,
        )


async def tell(
    name: WorkerId,
    settings: Settings,
    shards: int,
    *,
    reading: Connection,
    sending: Connection,
    post: Post,
    bus: Bus,
    clock: Clock,
    health: service.Health,
    stop: asyncio.Event,
) -> None:
    """Follow the log and send what is owed until `stop`: `reading` is the session that follows, `sending` holds the lanes."""
    node = settings.node
    sends = Sender(store=sending, post=post, clock=clock, attempts_max=settings.attempts_max, retention_s=settings.retention_s)
    follower = Follower(
        cursors="webhook_cursors",
        wanted="hooked",
        store=reading,
        clock=clock,
        shards=shards,
        project=Projection(clock, settings.keys),
        page_max=PAGE_MAX,
    )
    follower.passed = sends.wake
    pulse = service.Pulse(bus, name, node.instance, "webhooks", RELEASE, clock)
    sends.progressed = health.progressed
    health.check("nats", lambda: None if bus.connected else "not connected")
    health.check("follower", follower.trouble)
    health.check("sender", sends.trouble)

    async def beat() -> None:
        await bus.tell(pulse.subject(), pulse.beat(port=0))

    await bells.listen(bus, "hooked", follower.ring)
    async with asyncio.TaskGroup() as group:
        group.create_task(service.every(node.times.heartbeat_s, beat, stop))
        group.create_task(service.every(FREE_S, sends.free, stop))
        group.create_task(service.every(MEASURE_S, sends.measure, stop))
        group.create_task(service.every(FORGET_S, sends.forget, stop))
        group.create_task(follower.serve(stop))
        await sends.serve(stop)
    await bus.tell(pulse.subject(), pulse.beat(status="OFFLINE"))
