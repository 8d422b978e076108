"""Nodes, and the counters of what runs on them."""

from datetime import timedelta

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from windlass.clock import Clock
from windlass.eventlog.read import Reader
from windlass.gateway.openapi import errors
from windlass.gateway.shapes import NodeView, node_view
from windlass.settings import Times

TheClock = SkipValidation[Clock]
"""A protocol, which the framework cannot check."""
SEEN_S = 300.0
"""A node that was silent for this long is not shown any more."""


class Running(msgspec.Struct, frozen=True):
    """How many run."""

    running: int


class Online(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many nodes are there, and how busy they are."""

    online: int
    cpu_percent: float


class Metrics(msgspec.Struct, frozen=True):
    """What runs now."""

    jobs: Running
    tasks: Running
    nodes: Online


@get("/nodes", tags=["nodes"], responses=errors(503))
async def list_nodes(
    reader: NamedDependency[Reader], clock: NamedDependency[TheClock], times: NamedDependency[Times]
) -> list[NodeView]:
    """Workers and coordinators seen in the last five minutes, by name."""
    now = clock.now()
    return [node_view(row, now, times.lease_s) for row in await reader.nodes(now - timedelta(seconds=SEEN_S))]


@get("/metrics", tags=["metrics"], responses=errors(503))
async def get_metrics(reader: NamedDependency[Reader], clock: NamedDependency[TheClock]) -> Metrics:
    """What runs now."""
    row = await reader.metrics(clock.now() - timedelta(seconds=SEEN_S))
    return Metrics(
        Running(row.jobs_running),
        Running(row.tasks_running),
        Online(online=row.nodes_online, cpu_percent=round(row.cpu_percent, 2)),
    )
