"""The log of the jobs and what is projected from it, side by side in the order of the jobs, all of one moment.

Rows come in pages, so that neither has to fit in memory. A row is a mapping of columns; `OPERATIONAL` ones do not follow from
the log.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row, tuple_row

from windlass.errors import Misconfigured
from windlass.eventlog.connection import HexLoader
from windlass.eventlog.log import lock, shard_count
from windlass.eventlog.migrate import SCHEMA, check_format
from windlass.eventlog.statements import statement

Row = dict[str, Any]

PAGE = 200
"""Rows of a table in memory at a time: a definition may be large."""
OPERATIONAL = frozenset({"drive_at", "drives", "stopping", "head", "swept", "refused"})
KEYS: Mapping[str, tuple[str, ...]] = {
    "jobs": ("id",),
    "tasks": ("id",),
    "composites": ("task",),
    "each_items": ("task", "first"),
    "job_vars": ("job", "name"),
    "sealed_texts": ("owner", "field"),
    "idempotency_keys": ("owner", "key"),
    "deleted_jobs": ("job",),
}
"""The projections whose rows belong to a job, and their primary keys."""
_EXPORTS = {
    "jobs": "export_jobs",
    "tasks": "export_tasks",
    "composites": "export_composites",
    "each_items": "export_each_items",
    "job_vars": "export_job_vars",
    "sealed_texts": "export_sealed_texts",
    "idempotency_keys": "export_idempotency_keys",
    "deleted_jobs": "export_deleted_jobs",
}
_REMOVALS = {
    "jobs": "remove_jobs",
    "tasks": "remove_tasks",
    "composites": "remove_composites",
    "each_items": "remove_each_items",
    "job_vars": "remove_job_vars",
    "sealed_texts": "remove_sealed_texts",
    "idempotency_keys": "remove_idempotency_keys",
    "deleted_jobs": "remove_deleted_jobs",
}


@contextmanager
def snapshot(dsn: str, *, alone: bool, schema: str = SCHEMA) -> Iterator[psycopg.Connection]:
    """A transaction that sees one moment; `alone` while nobody owns a shard, else it only reads.

    Raises:
        Misconfigured: the database is not one of this release, or `alone` and coordinators run.
    """
    options = "-c timezone=UTC -c jit=off"
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10, client_encoding="UTF8", options=options) as connection:
        connection.adapters.register_loader("uuid", HexLoader)
        check_format(connection, schema)
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
        if alone:
            _own_all(connection)  # before the snapshot, so that it holds whatever the former owners committed
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = not alone
        with connection.transaction():
            yield connection


def _own_all(connection: psycopg.Connection) -> None:
    taken = [shard for shard in range(shard_count(connection)) if not lock(connection, shard)]
    if taken:
        raise Misconfigured(
            f"coordinators run and own shards ({len(taken)} of them): stop them first, or only compare, with --verify"
        )


def histories(connection: psycopg.Connection) -> Iterator[tuple[str, Iterator[tuple[str, int, str, str]]]]:
    """Each job with its events: stream, version, type and data."""
    with connection.cursor("export_events", row_factory=tuple_row) as cursor:
        cursor.itersize = PAGE
        yield from groupby(cursor.execute(statement("export_events")), key=itemgetter(0))


def stored(connection: psycopg.Connection, table: str) -> Iterator[tuple[str, list[Row]]]:
    """Each job that has rows in a projection, with those."""
    job = "id" if table == "jobs" else "job"
    with connection.cursor(_EXPORTS[table], row_factory=dict_row) as cursor:
        cursor.itersize = PAGE
        for key, rows in groupby(cursor.execute(statement(_EXPORTS[table])), key=itemgetter(job)):
            yield key, list(rows)


def counts(connection: psycopg.Connection) -> dict[tuple[int, str], int]:
    """How many jobs are in which state, by shard and state, where there are any."""
    return {(shard, state): jobs for shard, state, jobs in connection.execute(statement("export_job_counts"))}


def heads(connection: psycopg.Connection) -> list[tuple[int, int, int, int]]:
    """Of each shard: its number, its head, how many events its log holds, and the position of the last."""
    return connection.execute(statement("export_heads")).fetchall()


def remove(connection: psycopg.Connection, table: str, row: Row) -> None:
    """Delete a row of a projection."""
    connection.execute(statement(_REMOVALS[table]), {column: row[column] for column in KEYS[table]})
