"""Operational tables, outside the log and its rebuild: task logs, nodes, quarantine."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

import msgspec
import psycopg

from windlass import ids
from windlass.eventlog.log import Unfit
from windlass.eventlog.pipeline import Exchange, Pipelined
from windlass.eventlog.statements import statement
from windlass.messages.notices import LogPart, NodeBeat


def _store(name: str, parameters: Mapping[str, object]) -> Exchange[None]:
    try:
        yield [(name, parameters)]
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise Unfit(f"PostgreSQL cannot hold a value: {error}") from error


@Pipelined
def keep_logs(parts: Sequence[tuple[LogPart, datetime]]) -> Exchange[None]:
    """Store parts of output with the time they came; storing one twice is harmless.

    Raises:
        Unfit: a value that the database cannot hold; none of them was stored.
    """
    yield from _store(
        "keep_logs",
        {
            "task": [part.task for part, _ in parts],
            "attempt": [part.attempt for part, _ in parts],
            "number": [part.number for part, _ in parts],
            "job": [part.job for part, _ in parts],
            "contents": [part.contents.replace("\0", "") for part, _ in parts],
            "streams": [msgspec.json.encode(part.streams) for part, _ in parts],
            "at": [at for _, at in parts],
        },
    )


@Pipelined
def keep_node(beat: NodeBeat, at: datetime) -> Exchange[None]:
    """Store what a node said of itself.

    Raises:
        Unfit: a value that the database cannot hold.
    """
    yield from _store(
        "keep_node",
        {
            "id": beat.id,
            "name": beat.name,
            "service": beat.service,
            "hostname": beat.hostname,
            "version": beat.version,
            "port": beat.port,
            "status": beat.status,
            "cpu_percent": beat.cpu_percent,
            "queues": msgspec.json.encode(beat.queues).decode(),
            "task_count": len(beat.running),
            "started_at": beat.started_at,
            "at": at,
        },
    )


@Pipelined
def waiting(shards: Sequence[int]) -> Exchange[list[tuple[str, int, datetime]]]:
    """Tasks of some shards that wait for a worker: queue, how many, since when the first."""
    (rows,) = yield [("count_waiting", {"shards": shards})]
    return cast("list[tuple[str, int, datetime]]", rows)


def quarantine(
    connection: psycopg.Connection, subject: str, payload: bytes, headers: Mapping[str, str] | None, reason: str, at: datetime
) -> str:
    """Keep a message that can never succeed; returns its id, which is the same for the same message in the same second."""
    second = at.replace(microsecond=0)
    name = ids.derive(second, None, subject, payload.hex(), reason)
    connection.execute(
        statement("quarantine"),
        {
            "id": UUID(name),
            "subject": subject.replace("\0", ""),
            "payload": payload,
            "headers": msgspec.json.encode(dict(headers or {})).decode(),
            "reason": reason.replace("\0", ""),
            "at": at,
        },
    )
    return name
