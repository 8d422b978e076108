"""The gateway: HTTP and NATS requests in, commands out; answers from projections."""

import argparse
import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from windlass import ids, service
from windlass import log as logs
from windlass.bus import connection
from windlass.clock import system
from windlass.eventlog import read
from windlass.gateway import settings
from windlass.gateway.app import App
from windlass.gateway.commands import Commands
from windlass.gateway.endpoint import Endpoint
from windlass.gateway.intake import Intake
from windlass.gateway.waiting import LOOK_S, Waiting
from windlass.release import RELEASE

log = logs.get()


ASK_S = 5.0
"""How often both servers are asked to do something, only to see that they do."""
MISSED = 3
"""So many times in a row that may fail until this service is not ready."""
KEEP_ALIVE_S = 75
"""How long an idle connection of a client is kept; longer than most proxies keep theirs, so that they close first."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `windlass gateway`."""
    parser.add_argument("--port", type=int, metavar="N", help="where the API answers (default 8000; 0 picks one)")
    parser.add_argument("--http", metavar="ADDR", help="where health and metrics answer (default 127.0.0.1:0)")
    parser.add_argument("--log-format", choices=("console", "json"), help="how to log (default console)")


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run a gateway; returns its exit code.

    Raises:
        Misconfigured: a setting is missing or wrong.
    """
    chosen = settings.read(environ, args.port, args.http, args.log_format)
    return service.run("gateway", chosen.node, lambda stop: serve(chosen, stop))


async def serve(chosen: settings.Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`."""
    node = chosen.node
    async with AsyncExitStack() as held:
        listening = held.enter_context(service.listen(chosen.address, "--port"))
        inside = held.enter_context(service.listen(node.http, "--http"))
        reader = await held.enter_async_context(read.connect(chosen.postgres_dsn))
        bus = await held.enter_async_context(
            connection.connect(node.nats_url, "gateway", node.instance, node.prefix, tls=node.nats_tls)
        )
        commands = Commands(bus, system, reader.shards, node.times.commit_timeout_s, keys=chosen.keys)
        waiting = Waiting(bus, reader)
        intake = Intake(commands, waiting, reader, stop)
        health = service.Health("gateway", node.instance)
        health.check("nats", lambda: None if bus.connected else "NATS does not answer")
        parts = {"reader": reader, "commands": commands, "bus": bus, "clock": system, "times": node.times}
        pulse = service.Pulse(bus, ids.new_node(), node.instance, "gateway", RELEASE)

        stored, asked = health.expect("broker", ASK_S * MISSED), health.expect("database", ASK_S * MISSED)

        async def beat() -> None:
            await bus.publish(pulse.subject(), pulse.beat(port=listening.getsockname()[1]), timeout_s=ASK_S)
            stored()
            health.progressed()

        async def ask() -> None:
            await reader.installation()
            asked()

        async with asyncio.TaskGroup() as group:
            endpoint = Endpoint(bus, intake, group)
            await endpoint.open()
            group.create_task(service.every(LOOK_S, waiting.look, stop))
            group.create_task(service.every(min(ASK_S, node.times.heartbeat_s), beat, stop))
            group.create_task(service.every(ASK_S, ask, stop))
            async with (
                service.serve_http(health, inside),
                service.serve_http(App(intake, parts, RELEASE), listening, lifespan="off", timeout_keep_alive=KEEP_ALIVE_S),
            ):
                host, port = listening.getsockname()[:2]
                log.info("gateway_ready", url=f"http://{host}:{port}", health=f"http://127.0.0.1:{inside.getsockname()[1]}")
                await stop.wait()
            endpoint.close()
        log.info("gateway_stopped")
