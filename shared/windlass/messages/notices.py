"""Notices: passing remarks. One that is lost does no harm, and none is kept."""

from datetime import datetime

import msgspec

from windlass.ids import JobId, TaskId, WorkerId
from windlass.messages.envelope import Vocabulary


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that a worker holds, as its heartbeat lists it; `job` is empty and `run` 0 from an older worker."""

    task: TaskId
    attempt: int
    job: JobId = JobId("")
    run: int = 0


class NodeBeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="node.beat"):
    """A service says that it is alive.

    `counter` grows with each beat; observers time its changes on their own clocks and never compare stamps.
    `queues` maps queue to slots and `running` is what a worker holds now; both are empty for other services.
    """

    id: WorkerId
    name: str
    service: str
    counter: int
    version: str
    hostname: str
    started_at: datetime
    status: str = "UP"
    cpu_percent: float = 0.0
    port: int = 0
    queues: dict[str, int] = {}
    running: tuple[Running, ...] = ()


class LogPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="task.log"):
    """A numbered part of a task's output, at most 64 KiB of text; `number` counts from 1 within the attempt.

    `streams` says which stream each run of characters came from: `[["out", 12], ["err", 3]]` covers `contents` in order.
    `ticket` is that of the dispatch.
    """

    job: JobId
    task: TaskId
    attempt: int
    number: int
    contents: str
    streams: tuple[tuple[str, int], ...] = ()
    ticket: str = ""


class StreamChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="stream.changed"):
    """What one commit added to one stream: versions `first`–`last`, the shard's head after it, and the state it left."""

    stream: str
    first: int
    last: int
    position: int
    state: str
    events: tuple[str, ...] = ()


class HeadMoved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="shard.moved"):
    """A bell: the log of a shard has something up to `position`."""

    shard: int
    position: int


Notice = NodeBeat | LogPart | StreamChanged | HeadMoved
NOTICES: Vocabulary[Notice] = Vocabulary(NodeBeat, LogPart, StreamChanged, HeadMoved)
