"""Projects everything from the log again, with the very `evolve` that made the rows, and compares it with what is stored.

Both sides come in the order of the jobs, so one job at a time is in memory. The canonical form of a row is the JSON of its
columns in the order of their names, without the operational ones; `bytes` counts what differs between the two forms of each.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec
import psycopg

from windlass.errors import Corrupt, Invalid, Misconfigured
from windlass.eventlog import export
from windlass.eventlog import log as eventlog
from windlass.eventlog.export import KEYS, OPERATIONAL, Row
from windlass.eventlog.log import Batch
from windlass.eventlog.rows import ACTIVE, ENDED
from windlass.eventlog.state import JobWork, evolve
from windlass.ids import JobId, TaskId, shard_of
from windlass.messages.events import JOB_EVENTS, JobSubmitted

TOGETHER_MAX = 500
"""Rows stored together."""
TOLD_MAX = 20
"""Rows that differ and are named; the others are counted."""
COUNTS = "job_counts"

Key = tuple[Any, ...]
_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(slots=True)
class Result:
    """What a comparison came to."""

    events: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    """Of each projection, as the log has them."""
    bytes: Counter[str] = field(default_factory=Counter)
    """Of each projection, how many differ."""

    @property
    def differing(self) -> int:
        """All bytes that differ."""
        return self.bytes.total()


@dataclass(slots=True)
class _Projected:
    """What the log says of one job."""

    work: JobWork
    keys: list[tuple[str, str, JobId, str]]
    deleted_at: datetime


@dataclass(slots=True)
class _Job:
    """One job, from both sides; `rows` and `stored` by table and primary key."""

    projected: _Projected | None = None
    rows: dict[str, dict[Key, Row]] = field(default_factory=lambda: {table: {} for table in KEYS})
    stored: dict[str, dict[Key, Row]] = field(default_factory=lambda: {table: {} for table in KEYS})

    def differences(self) -> Iterator[tuple[str, Key, Row | None, Row | None]]:
        """Table, key, the row as the log has it, the row as it is stored."""
        sweeping = any(not row["swept"] for row in self.stored["deleted_jobs"].values())
        for table in KEYS:
            ours, theirs = self.rows[table], self.stored[table]
            if sweeping and not ours and table != "jobs":
                continue  # what is left of a deleted job goes by itself
            for key in [*ours, *(key for key in theirs if key not in ours)]:
                if _canonical(ours.get(key)) != _canonical(theirs.get(key)):
                    yield table, key, ours.get(key), theirs.get(key)


def verify(connection: psycopg.Connection, tell: Callable[[str], None]) -> Result:
    """Compare; `tell` gets a line for each of the first rows that differ.

    Raises:
        Corrupt: the log itself has a gap.
        Misconfigured: it holds events that this release does not know.
    """
    result, shards = Result(), eventlog.shard_count(connection)
    counted: Counter[tuple[int, str]] = Counter()
    told = 0
    for shard, head, events, last in export.heads(connection):
        if not head == events == last:
            raise Corrupt(f"the log of shard {shard} is not whole: head {head}, {events} events, the last at position {last}")
    for job in _jobs(connection, shards):
        if job.projected is not None and (row := job.projected.work.job) is not None:
            result.events += row.version
            if not job.projected.work.deleted:
                counted[shard_of(row.id, shards), row.state] += 1
        for table, rows in job.rows.items():
            result.rows[table] += len(rows)
        for table, key, ours, theirs in job.differences():
            result.bytes[table] += _distance(_canonical(ours), _canonical(theirs))
            told += 1
            if told <= TOLD_MAX:
                tell(f"{table} {' '.join(map(str, key))}: {_difference(ours, theirs)}")
    result.rows[COUNTS] = len(counted)
    found = export.counts(connection)
    for place in counted | found:
        ours_n, theirs_n = counted.get(place, 0), found.get(place, 0)
        if ours_n != theirs_n:
            result.bytes[COUNTS] += _distance(_encode([*place, ours_n]), _encode([*place, theirs_n]))
            tell(f"{COUNTS} {place[0]} {place[1]}: stored {theirs_n}, the log says {ours_n}")
    if told > TOLD_MAX:
        tell(f"and {told - TOLD_MAX} more rows")
    return result


def replace(connection: psycopg.Connection, now: datetime) -> None:
    """Make every row what the log says; those that are right are left alone, and with them what is operational.

    A row that had to be made anew and still waits for something is due to be driven again at `now`.
    """
    shards, kept = eventlog.shard_count(connection), dict[tuple[str, Key], Row]()
    for job in _jobs(connection, shards):  # first all that is wrong goes: a key may stand with another job
        for table, key, _, theirs in job.differences():
            if theirs is not None:
                export.remove(connection, table, theirs)
                kept[table, key] = {column: theirs[column] for column in OPERATIONAL & theirs.keys()}
    counts, batch = Counter[tuple[int, str]](), Batch(shards=shards)
    for job in _jobs(connection, shards):
        missing = [(table, key) for table, key, _, theirs in job.differences() if theirs is None]
        if job.projected is None or job.projected.work.job is None:
            continue
        work, row = job.projected.work, job.projected.work.job
        if not work.deleted:
            counts[shard_of(row.id, shards), row.state] += 1
        for table, key in missing:
            match table:
                case "deleted_jobs":
                    batch.deleted.append(
                        (row.id, shard_of(row.id, shards), 0, row.definition.is_hooked, job.projected.deleted_at)
                    )
                case "jobs":
                    batch.new_jobs.append(_operational(row, row.state not in ENDED, kept.get((table, key)), now))
                case "tasks":
                    task = work.tasks[TaskId(key[0])]
                    batch.new_tasks.append(_operational(task, task.state in ACTIVE, kept.get((table, key)), now))
                case "composites":
                    batch.new_composites.append(work.tasks[TaskId(key[0])])
                case "each_items":
                    task_id, first = TaskId(key[0]), key[1]
                    batch.items += [(row.id, task_id, part) for part in work.lists[task_id] if part.first == first]
                case "job_vars":
                    batch.variables.append((row.id, key[1], work.variables[key[1]]))
                case "sealed_texts":
                    batch.sealed.append((key[0], key[1], row.id, work.sealed[key[0], key[1]]))
                case _:
                    batch.keys += [one for one in job.projected.keys if one[:2] == key]
        if len(batch.new_jobs) + len(batch.new_tasks) > TOGETHER_MAX:
            batch = _store(connection, batch)
    counts.subtract(export.counts(connection))
    batch.counts = counts
    _store(connection, batch)


def _store(connection: psycopg.Connection, batch: Batch) -> Batch:
    """Store, and begin another."""
    eventlog.commit(connection, batch)  # within the transaction that is open
    return Batch(shards=batch.shards)


def _operational(row: Any, waits: bool, kept: Row | None, now: datetime) -> Any:
    """A row with the operational columns of the one it replaces."""
    for column, value in (kept or {}).items():
        setattr(row, column, value)
    if waits and row.drive_at is None:
        row.drive_at = now
    return row


def _jobs(connection: psycopg.Connection, shards: int) -> Iterator[_Job]:
    """Every job that the log or a projection knows, in the order of their ids."""
    sides: list[Iterator[tuple[str, str, Any]]] = [_log(connection), *(_side(connection, table) for table in KEYS)]
    for _, parts in groupby(heapq.merge(*sides, key=itemgetter(0)), key=itemgetter(0)):
        job = _Job()
        for _, table, found in parts:
            if table:
                job.stored[table] = _by_key(table, found)
            else:
                job.projected = found
                job.rows = _rows(found, shards)
        yield job


def _side(connection: psycopg.Connection, table: str) -> Iterator[tuple[str, str, list[Row]]]:
    return ((job, table, rows) for job, rows in export.stored(connection, table))


def _log(connection: psycopg.Connection) -> Iterator[tuple[str, str, _Projected]]:
    for stream, events in export.histories(connection):
        work, keys, at = JobWork(), [], datetime.min.replace(tzinfo=UTC)
        for count, (_, version, tag, data) in enumerate(events, 1):
            if version != count:
                raise Corrupt(f"job {stream} has no event {count}: its next is {version}")
            try:
                event = JOB_EVENTS.decode(tag, data)
            except Invalid as error:
                raise Misconfigured(f"job {stream}, event {version}: {error}; was it written by a newer release?") from error
            evolve(work, event)
            at = event.at
            if isinstance(event, JobSubmitted) and event.key is not None:
                keys.append((event.user, event.key, event.job, event.digest or ""))
        yield stream, "", _Projected(work, keys, at)


def _rows(projected: _Projected, shards: int) -> dict[str, dict[Key, Row]]:
    """The rows that a commit would store for a job."""
    work = projected.work
    if work.deleted and work.job is not None:
        deleted = eventlog.deleted_jobs(
            [(work.job.id, shard_of(work.job.id, shards), 0, work.job.definition.is_hooked, projected.deleted_at)]
        )
        return {**{table: {} for table in KEYS}, "deleted_jobs": _by_key("deleted_jobs", _turned(deleted)), **_keys(projected)}
    jobs = [] if work.job is None else [work.job]
    found = {
        "jobs": _turned(eventlog.new_jobs(jobs, shards)),
        "tasks": _turned(eventlog.new_tasks(list(work.tasks.values()), shards)),
        "composites": _turned(eventlog.new_composites([task for task in work.tasks.values() if task.composite is not None])),
        "each_items": _turned(
            eventlog.new_items([(job.id, task, part) for job in jobs for task, parts in work.lists.items() for part in parts])
        ),
        "job_vars": [{"job": job.id, "name": name, "value": value} for job in jobs for name, value in work.variables.items()],
        "sealed_texts": [
            {"owner": owner, "field": name, "job": job.id, "sealed": text}
            for job in jobs
            for (owner, name), text in work.sealed.items()
        ],
        "deleted_jobs": list[Row](),
    }
    return {**{table: _by_key(table, rows) for table, rows in found.items()}, **_keys(projected)}


def _keys(projected: _Projected) -> dict[str, dict[Key, Row]]:
    """Idempotency-Keys stay for ever: whose job is deleted, too."""
    rows = [{"owner": owner, "key": key, "job": job, "digest": digest} for owner, key, job, digest in projected.keys]
    return {"idempotency_keys": _by_key("idempotency_keys", rows)}


_JSON = frozenset({"definition", "scope", "items", "redo"})


def _turned(columns: Mapping[str, list[Any]]) -> list[Row]:
    """Rows from columns."""
    texts = {name: [v and v.decode() for v in values] if name in _JSON else values for name, values in columns.items()}
    return [dict(zip(texts, values, strict=True)) for values in zip(*texts.values(), strict=True)]


def _by_key(table: str, rows: list[Row]) -> dict[Key, Row]:
    return {tuple(row[column] for column in KEYS[table]): row for row in rows}


def _canonical(row: Row | None) -> bytes:
    if row is None:
        return b""
    return _encode({column: value for column, value in row.items() if column not in OPERATIONAL})


def _distance(one: bytes, other: bytes) -> int:
    """How many bytes differ, place by place; what only one has counts whole."""
    return sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))


def _difference(ours: Row | None, theirs: Row | None) -> str:
    """In words, without values: those may be somebody's secrets."""
    if ours is None:
        return "the log knows nothing of it"
    if theirs is None:
        return "missing"
    return "differs in " + ", ".join(sorted(c for c in ours.keys() | theirs.keys() if _value(ours, c) != _value(theirs, c)))


def _value(row: Row, column: str) -> bytes:
    return b"" if column in OPERATIONAL else _encode(row.get(column))
