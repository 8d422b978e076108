"""Wires a worker and serves."""

import argparse
import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress

from windlass import ids, service
from windlass import log as logs
from windlass.bus import connection
from windlass.bus.connection import Bus
from windlass.bus.consume import Puller
from windlass.bus.streams import ORDERS, Names
from windlass.clock import Clock
from windlass.clock import system as clock
from windlass.errors import WindlassError
from windlass.ids import WorkerId
from windlass.release import RELEASE
from windlass.settings import SHARDS
from windlass.worker.auto import KINDS, RuntimeSettings, make_runtime
from windlass.worker.levels import Levels
from windlass.worker.runner import Runner
from windlass.worker.runtime import Runtime
from windlass.worker.settings import Settings
from windlass.worker.spool import Spool

log = logs.get()

MISSED = 3
"""So many heartbeats the broker may not store until this worker is not ready."""
FIRST_BEAT_S = 0.15
"""How often a worker announces itself until a coordinator has made its orders' stream."""


def flags(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--name", help="its name in GET /nodes (default: worker)")
    parser.add_argument("--runtime", choices=KINDS, help="what runs tasks (default: docker)")
    parser.add_argument("--queue", metavar="NAME:SLOTS", action="append", default=[], help="a queue to serve; may be repeated")
    parser.add_argument("--http", metavar="HOST:PORT", help="where /health, /ready and /metrics answer (default: a free port)")
    parser.add_argument("--log-format", choices=("console", "json"))


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run until a signal; returns the exit code."""
    settings = Settings.load(
        environ, name=args.name, runtime=args.runtime, queues=args.queue, http=args.http, log_format=args.log_format
    )
    return service.run("worker", settings.node, lambda stop: serve(settings, stop))


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Take tasks until `stop`, then let what runs finish within the grace period, or hand it back."""
    node = settings.node
    worker = ids.new_start(settings.user) if settings.user else ids.new_node()
    async with AsyncExitStack() as held:
        spool = Spool(settings.spool)
        spool.open()
        runtime = make_runtime(
            settings.runtime,
            RuntimeSettings(
                worker=f"w-{spool.owner()}",
                instance=worker,
                concurrency=sum(settings.queues.values()),
                docker_host=settings.docker_host,
                shell_control_groups=settings.control_groups,
                docker_limits=settings.limits,
                docker_binds=settings.binds,
            ),
        )
        await runtime.prepare()
        held.push_async_callback(runtime.close)
        listening = service.listen(node.http, "--http")
        port = listening.getsockname()[1]
        bus = await held.enter_async_context(
            connection.connect(node.nats_url, "worker", node.instance, node.prefix, tls=node.nats_tls, worker=settings.user)
        )
        health = service.Health("worker", node.instance, clock)
        await held.enter_async_context(service.serve_http(health, listening))
        await work(
            worker, settings, SHARDS, bus=bus, runtime=runtime, spool=spool, clock=clock, health=health, port=port, stop=stop
        )


async def work(
    worker: WorkerId,
    settings: Settings,
    shards: int,
    *,
    bus: Bus,
    runtime: Runtime,
    spool: Spool,
    clock: Clock,
    health: service.Health,
    port: int,
    stop: asyncio.Event,
) -> None:
    """Take tasks until `stop`, then end as `serve` says."""
    times = settings.node.times
    async with asyncio.TaskGroup() as group:
        runner = Runner(
            worker=worker,
            bus=bus,
            runtime=runtime,
            spool=spool,
            clock=clock,
            shards=shards,
            worked=health.progressed,
            timeout=settings.timeout,
            keys=settings.keys,
        )
        pulse = service.Pulse(bus, worker, settings.name, "worker", RELEASE, clock)
        orders = Puller(bus, Names(bus.subjects).orders(worker), ORDERS, runner.order, wanted=256)
        levels = {queue: _levels(bus, queue, slots, runner) for queue, slots in settings.queues.items()}
        heard_at, well = clock.monotonic(), True
        heard = health.expect("broker", times.heartbeat_s * MISSED)

        async def beat() -> None:
            nonlocal heard_at, well
            payload = pulse.beat(queues=settings.queues, running=runner.running(), port=port, status="UP" if well else "DOWN")
            try:
                await bus.publish(pulse.subject(), payload, timeout_s=times.heartbeat_s)
                heard_at = clock.monotonic()
                heard()
            finally:
                well = await runtime.healthy()

        async def watch() -> None:
            runner.cut_off = clock.monotonic() - heard_at > times.lease_s
            if runner.cut_off and runner.running():
                log.error("lease_lost", lease_s=times.lease_s)
                runner.end_all("lost")

        health.check("nats", lambda: None if bus.connected else "not connected")
        health.check("runtime", lambda: None if well else "not healthy")
        health.check("orders", lambda: None if orders.asked else "no coordinator has answered yet")
        await orders.start()
        while not orders.accepted and not stop.is_set():
            with suppress(WindlassError):
                await beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_BEAT_S):
                    await stop.wait()
        runner.deliver_left()
        for level in levels.values():
            await level.start()
        log.info("worker_ready", worker=worker, name=settings.name, queues=settings.queues, runtime=settings.runtime)
        bus.on_connected(beat)  # a broker that lost the orders' stream gets it back at once
        ended = asyncio.Event()
        group.create_task(service.every(times.heartbeat_s, beat, ended))
        group.create_task(service.every(min(0.5, times.lease_s / 6), watch, ended))
        await stop.wait()
        for level in levels.values():
            await level.rest()
        try:
            async with asyncio.timeout(times.grace_s):
                await runner.quiet()
        except TimeoutError:
            runner.end_all("released")
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await runner.quiet()
        ended.set()
        await orders.stop()
        if runner.idle:
            await bus.tell(pulse.subject(), pulse.beat(status="OFFLINE"))


def _levels(bus: Bus, queue: str, slots: int, runner: Runner) -> Levels:
    levels: Levels

    def freed() -> None:
        levels.release()

    levels = Levels(bus, queue, slots, lambda delivery: runner.begin(delivery, freed))
    return levels
