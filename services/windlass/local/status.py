"""`windlass status`: what runs, how it is, and who owns which shard."""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import msgspec

from windlass.errors import Misconfigured, Unavailable
from windlass.eventlog import read
from windlass.eventlog.read import ShardRow
from windlass.local import probe
from windlass.local.data import Server, State, locate
from windlass.local.environment import variables

NOT_HEALTHY, NOTHING = 1, 3
PATIENCE_S = 5.0
"""How long a service may take to say how it is: on a busy machine a second is not enough, and who asks can wait."""
WIDTHS = (16, 9, 8, 9, 28, 0)


class ServiceStatus(msgspec.Struct, kw_only=True):
    """One service."""

    name: str
    instance: str
    pid: int
    url: str
    healthy: bool
    restarts: int
    last_progress_at: str | None
    broken: dict[str, str]
    """What of it does not work, and why; empty if it is healthy."""


class Status(msgspec.Struct, kw_only=True):
    """The document of `--json`."""

    url: str
    data: str
    pid: int
    nats: Server
    postgres: Server
    services: list[ServiceStatus]
    shards: list[ShardRow]
    """In their order; empty while the database does not answer."""
    next_timer_at: datetime | None
    """When something that waits for its time goes on next; None if nothing waits, or while the database does not answer."""


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of `status`."""
    parser.add_argument("--data", metavar="DIR", help="data directory (default: WINDLASS_DATA, else the user's data directory)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print it; 0 if all is well, 1 if not, 3 if nothing runs."""
    data = locate(environ, args.data)
    state = data.running()
    if state is None:
        print(f"nothing runs in {data.path}; start it with: windlass up", file=sys.stderr)
        return NOTHING
    found, servers_well = asyncio.run(_ask(state, variables(data, state, None)["WINDLASS_POSTGRES_DSN"]))
    well = servers_well and state.phase == "ready" and all(service.healthy for service in found.services)
    print(msgspec.json.encode(found).decode() if args.json else _table(found, state, well))
    return 0 if well else NOT_HEALTHY


async def _ask(state: State, dsn: str) -> tuple[Status, bool]:
    """Everybody at once."""
    answers = await asyncio.gather(*(probe.ready(_port(service.url), PATIENCE_S) for service in state.services))
    servers = await asyncio.gather(*(_is_well(server) for server in (state.nats, state.postgres)))
    services = [
        ServiceStatus(
            name=service.name,
            instance=service.instance,
            pid=service.pid,
            url=service.url,
            healthy=bool(service.pid) and answer.is_ready,
            restarts=service.restarts,
            last_progress_at=answer.last_progress_at,
            broken=answer.broken if service.pid else {"process": "it does not run"},
        )
        for service, answer in zip(state.services, answers, strict=True)
    ]
    shards, next_timer_at = await _stored(dsn)
    found = Status(
        url=state.url,
        data=state.data,
        pid=state.pid,
        nats=state.nats,
        postgres=state.postgres,
        services=services,
        shards=shards,
        next_timer_at=next_timer_at,
    )
    return found, all(servers)


async def _stored(dsn: str) -> tuple[list[ShardRow], datetime | None]:
    """What the database knows: who owns what, and when the next timer is due."""
    try:
        async with read.connect(dsn) as reader:
            return await reader.owners(), await reader.next_timer()
    except (Misconfigured, Unavailable):
        return [], None


async def _is_well(server: Server) -> bool:
    if not server.pid:
        return False
    with suppress(PermissionError):  # as somebody else's: it is there
        try:
            os.kill(server.pid, 0)
        except ProcessLookupError:
            return False
    return await probe.accepts(server.port, PATIENCE_S)


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _table(found: Status, state: State, well: bool) -> str:
    def row(*cells: object) -> str:
        return "  " + " ".join(str(cell).ljust(width) for cell, width in zip(cells, WIDTHS, strict=False)).rstrip()

    word = "healthy" if well else "not healthy" if state.phase == "ready" else state.phase
    lines = [f"windlass is {word}: {found.url}", f"  data {found.data}, pid {found.pid}, {state.mode}", ""]
    lines.append(row("INSTANCE", "PID", "STATE", "RESTARTS", "LAST PROGRESS", "SHARDS"))
    for name, server in (("nats", found.nats), ("postgres", found.postgres)):
        lines.append(row(name, server.pid or "-", "up" if server.pid else "down", "", f"127.0.0.1:{server.port}"))
    owned: dict[str | None, list[int]] = {}
    for shard in found.shards:
        owned.setdefault(shard.owner, []).append(shard.shard)
    for service in found.services:
        condition = "up" if service.healthy else "down"
        progress = service.last_progress_at or "-"
        shards = spans(owned.pop(service.instance, []))
        lines.append(row(service.instance, service.pid or "-", condition, service.restarts, progress, shards))
        lines += [f"    {part}: {why}" for part, why in service.broken.items()]
    for owner, numbers in owned.items():
        lines.append(row(owner or "(nobody)", "", "" if owner is None else "joined", "", "", spans(numbers)))
    if found.next_timer_at is not None:
        lines += ["", f"  the next of what waits for its time goes on at {found.next_timer_at.astimezone():%Y-%m-%d %H:%M:%S %Z}"]
    return "\n".join(lines)


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers, those that follow each other as one: `0-3 8 10`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return " ".join("-".join(map(str, span)) for span in found)
