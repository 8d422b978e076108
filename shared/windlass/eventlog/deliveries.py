"""The tables of the webhooks service: what it knows of jobs, what it has to send, how each call went.

A lane is a job and a URL. A session takes a lane, sends its first delivery, and lets it go when the outcome is on record; so the
deliveries of a lane go in order, whichever instances send them. A session shows that it lives by a lock that ends with it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg

from windlass.eventlog.pipeline import Call, Exchange, Pipelined
from windlass.eventlog.rows import ACTIVE, ENDED, JobRow, TaskRow
from windlass.eventlog.state import JobWork
from windlass.eventlog.statements import statement
from windlass.ids import JobId, TaskId
from windlass.messages.jobs import Job, Task

PAGE = 1000
"""Events of a history that are read at a time."""
SENDERS = 0x77686F6B
"""First half of the keys of the locks by which sessions show that they live; the second is the session's process."""
NOTHING = Job(name="", tasks=())
"""Stands in the state of a job for its definition, which never changes and is kept once."""

_encode = msgspec.json.Encoder().encode
_job_rows, _task_rows = msgspec.json.Decoder(JobRow), msgspec.json.Decoder(TaskRow)
_definitions, _headers = msgspec.json.Decoder(Job), msgspec.json.Decoder(dict[str, str])


@dataclass(frozen=True, slots=True)
class Delivery:
    """One call that is owed; `headers` are those of its webhook, `body` JSON; `endpoint` stands for host and path.

    Where URL or headers hold secrets, `sealed` has them whole, as the job's key has sealed a `Target`.
    """

    id: str
    lane: str
    host: str
    endpoint: str
    job: JobId
    version: int
    hook: int
    event: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    created_at: datetime
    sealed: str = ""


TARGET, HOOKED = "delivery", "hooked"
"""The fields as which a `Target` is sealed, and what webhooks need of a job."""


class Target(msgspec.Struct, frozen=True):
    """Whom to call, and with which headers."""

    url: str
    headers: dict[str, str]


@dataclass(slots=True)
class Projected:
    """What some events came to."""

    jobs: dict[JobId, JobRow] = field(default_factory=dict)
    wholes: dict[JobId, str] = field(default_factory=dict)
    """Of these jobs, what webhooks need of their secrets, sealed; empty for those that have none."""
    tasks: dict[TaskId, TaskRow] = field(default_factory=dict)
    variables: dict[tuple[JobId, str], tuple[str, str]] = field(default_factory=dict)
    """As everybody may see them, and sealed where that is less."""
    deleted: set[JobId] = field(default_factory=set)
    cleared: set[JobId] = field(default_factory=set)
    """Jobs whose variables were forgotten before these were set."""
    deliveries: list[Delivery] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Taken:
    """A delivery to send now; `attempts` were made before. `sealed` as in `Delivery`, for which the job's `key` is needed."""

    lane: str
    host: str
    endpoint: str
    id: str
    job: str
    event: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    attempts: int
    sealed: str = ""
    key: str = ""
    """Wrapped for this service; empty if there is none, or none any more."""


@dataclass(frozen=True, slots=True)
class Settled:
    """How a call went. `state` is WAITING if it is to be made again, at `due_at`; `status` is None if nothing was answered."""

    taken: Taken
    state: str
    at: datetime
    took_ms: int
    status: int | None
    error: str
    due_at: datetime


def _uuids(ids: Collection[str]) -> list[UUID]:
    return [UUID(i) for i in ids]


# -- what is known ------------------------------------------------------------------------------------------------------


def load(connection: psycopg.Connection, jobs: Collection[str], tasks: Collection[str]) -> dict[str, JobWork]:
    """What is known of some jobs, with those of the tasks that can still change."""
    with connection.pipeline():
        rows = connection.execute(statement("load_hooked"), {"ids": _uuids([*jobs, *tasks])})
        variables = connection.execute(statement("load_hooked_vars"), {"jobs": _uuids(jobs)})
    works: dict[str, JobWork] = {}
    for identifier, job, state, definition, sealed in rows:  # jobs first
        if definition is not None:
            row = _job_rows.decode(state)
            row.definition = _definitions.decode(definition)
            works[identifier] = JobWork(job=row, sealed={(identifier, HOOKED): sealed} if sealed else {})
        elif job in works:
            works[job].tasks[identifier] = _task_rows.decode(state)
    for job, name, value, sealed in variables:
        if job in works:
            works[job].set(name, value)
            if sealed:
                works[job].sealed[job, f"var {name}"] = sealed
    return works


def history(connection: psycopg.Connection, job: str, version: int) -> Iterator[tuple[str, str]]:
    """The events of a job before a version: type and data, in order; for inside a transaction, however many there are."""
    with connection.cursor("history") as cursor:
        cursor.itersize = PAGE
        yield from cursor.execute(statement("read_history"), {"job": UUID(job), "version": version})


def store(connection: psycopg.Connection, projected: Projected, now: datetime) -> None:
    """Keep what events came to, what is owed being due `now`; for inside the transaction that moves the cursors."""
    jobs = list(projected.jobs.values())
    ended = [now if job.state in ENDED else None for job in jobs]
    tasks = [task for task in projected.tasks.values() if task.state in ACTIVE]
    with connection.pipeline():
        connection.execute(
            statement("keep_hooked"),
            {
                "id": _uuids([*(job.id for job in jobs), *(task.id for task in tasks)]),
                "job": _uuids([*(job.id for job in jobs), *(task.job for task in tasks)]),
                "state": [
                    *(_encode(msgspec.structs.replace(job, definition=NOTHING)).decode() for job in jobs),
                    *(_encode(msgspec.structs.replace(task, definition=_brief(task.definition))).decode() for task in tasks),
                ],
                "definition": [*(_encode(job.definition).decode() for job in jobs), *(None for _ in tasks)],
                "sealed": [*(projected.wholes[job.id] for job in jobs), *("" for _ in tasks)],
                "ended_at": [*ended, *(None for _ in tasks)],
            },
        )
        if over := [task.id for task in projected.tasks.values() if task.state not in ACTIVE]:
            connection.execute(statement("drop_hooked"), {"ids": _uuids(over)})
        if projected.deleted:
            connection.execute(statement("drop_hooked"), {"ids": _uuids(projected.deleted)})
            connection.execute(statement("forget_deleted"), {"jobs": _uuids(projected.deleted)})
            projected.cleared |= projected.deleted
        if projected.cleared:
            connection.execute(statement("clear_hooked_vars"), {"jobs": _uuids(projected.cleared)})
        if projected.variables:
            connection.execute(
                statement("keep_hooked_vars"),
                {
                    "job": _uuids([job for job, _ in projected.variables]),
                    "name": [name for _, name in projected.variables],
                    "value": [value for value, _ in projected.variables.values()],
                    "sealed": [sealed for _, sealed in projected.variables.values()],
                },
            )
        if projected.deliveries:
            _add(connection, projected.deliveries, now)


def _brief(task: Task) -> Task:
    """What may be told of a task: not what it runs, which may be large."""
    return Task(name=task.name, description=task.description, var=task.var, tags=task.tags)


def _add(connection: psycopg.Connection, deliveries: Sequence[Delivery], now: datetime) -> None:
    connection.execute(
        statement("add_deliveries"),
        {
            "id": _uuids([d.id for d in deliveries]),
            "lane": _uuids([d.lane for d in deliveries]),
            "job": _uuids([d.job for d in deliveries]),
            "version": [d.version for d in deliveries],
            "hook": [d.hook for d in deliveries],
            "event": [d.event for d in deliveries],
            "url": [d.url for d in deliveries],
            "headers": [_encode(d.headers).decode() for d in deliveries],
            "body": [d.body for d in deliveries],
            "created_at": [d.created_at for d in deliveries],
            "sealed": [d.sealed for d in deliveries],
        },
    )
    lanes: dict[str, list[Delivery]] = {}
    for delivery in sorted(deliveries, key=lambda d: d.lane):
        lanes.setdefault(delivery.lane, []).append(delivery)
    connection.execute(
        statement("widen_lanes"),
        {
            "id": _uuids(lanes),
            "host": [waiting[0].host for waiting in lanes.values()],
            "endpoint": [waiting[0].endpoint for waiting in lanes.values()],
            "waiting": [len(waiting) for waiting in lanes.values()],
            "due_at": [now for _ in lanes],
        },
    )


# -- sending ------------------------------------------------------------------------------------------------------------


def enter(connection: psycopg.Connection) -> int:
    """Show that this session lives, as long as it does; returns the number by which it takes lanes."""
    owner = connection.info.backend_pid
    connection.execute("SELECT pg_advisory_lock(%s::integer, %s::integer)", (SENDERS, owner))
    return owner


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance has room for: at most `most` deliveries more, calls to each endpoint and host up to their limits."""

    most: int
    endpoint_max: int
    host_max: int
    endpoints: dict[str, int]
    """Calls that are under way, by endpoint."""
    hosts: dict[str, int]
    look: int
    """How many endpoints to look at: one look is short, however many there are."""
    after: str = ""
    """The endpoint after which to begin; empty for the first."""


@Pipelined
def step(owner: int, settled: Sequence[Settled], now: datetime, room: Room) -> Exchange[tuple[list[str], str]]:
    """Record how calls went, and take lanes that are due; the second result is after which endpoint to look next.

    For the session that `enter` gave the number to, and for no other.
    """
    settling = _settling(owner, sorted(settled, key=lambda s: s.taken.lane), now) if settled else []
    if room.most <= 0:
        yield settling
        return [], room.after
    *_, ((last, looked, lanes),) = yield [
        *settling,
        (
            "take_lanes",
            {
                "owner": owner,
                "now": now,
                **msgspec.structs.asdict(room),
                "endpoints": list(room.endpoints),
                "endpoint_calls": list(room.endpoints.values()),
                "hosts": list(room.hosts),
                "host_calls": list(room.hosts.values()),
            },
        ),
    ]
    return lanes, last if looked == room.look else ""


def _settling(owner: int, settled: Sequence[Settled], now: datetime) -> list[Call]:
    lanes = [s.taken.lane for s in settled]
    called = {
        "owner": owner,
        "now": now,
        "lane": lanes,
        "delivery": [s.taken.id for s in settled],
        "state": [s.state for s in settled],
        "attempt": [s.taken.attempts + 1 for s in settled],
        "at": [s.at for s in settled],
        "took_ms": [s.took_ms for s in settled],
        "status": [s.status for s in settled],
        "error": [s.error for s in settled],
        "due_at": [s.due_at for s in settled],
    }
    return [("settle_deliveries", called), ("drop_lanes", {"lanes": lanes})]


@Pipelined
def first(lanes: Sequence[str]) -> Exchange[list[Taken]]:
    """The first delivery of each of some lanes: only when they are taken is it sure what waits in them."""
    (rows,) = yield [("read_first_deliveries", {"lanes": lanes})]
    return [
        Taken(lane, host, endpoint, identifier, job, event, url, _headers.decode(headers), body, attempts, sealed, key)
        for lane, host, endpoint, identifier, job, event, url, headers, body, attempts, sealed, key in rows
    ]


@Pipelined
def release(owner: int, lane: str) -> Exchange[None]:
    """Let a lane go of which nothing was sent."""
    yield [("release_lane", {"owner": owner, "lane": lane})]


@Pipelined
def free() -> Exchange[int]:
    """Free what sessions held that have ended; how many lanes that were."""
    (freed,) = yield [("free_lanes", {"class": SENDERS})]
    return len(freed)


@Pipelined
def forget(before: datetime, most: int) -> Exchange[int]:
    """Forget at most so many deliveries that were over before a moment, and jobs that had ended; the larger number of the two."""
    gone = yield [(name, {"before": before, "most": most}) for name in ("forget_deliveries", "forget_hooked")]
    return max(map(len, gone))


@Pipelined
def oldest() -> Exchange[datetime | None]:
    """Since when the oldest delivery waits."""
    (rows,) = yield [("read_oldest_delivery", {})]
    return rows[0][0] if rows else None
