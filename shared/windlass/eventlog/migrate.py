"""Brings a database to the format of this release: numbered steps, forward only, each in its own transaction."""

import re
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files

import psycopg
from psycopg import sql

from windlass.errors import Misconfigured
from windlass.release import RELEASE
from windlass.settings import SHARDS

SCHEMA = "windlass"
GONE_S = 300
"""A coordinator that was silent for this long does not run any more."""


class Outdated(Misconfigured):
    """The database has a newer format than this release knows."""

    code = "outdated"

    def __init__(self, found: int, known: int) -> None:
        super().__init__(f"the database has format {found} and this release knows {known}; install a newer windlass")


def steps() -> list[tuple[int, str]]:
    """The migrations of this release, in order: number and SQL."""
    folder = files("windlass.eventlog") / "migrations"
    found = [
        (int(entry.name[:4]), entry.read_text()) for entry in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", entry.name)
    ]
    return sorted(found)


def format_of(connection: psycopg.Connection, schema: str = SCHEMA) -> int:
    """The format of the database; 0 when nothing is there."""
    name = f"{schema}.installation"
    row = connection.execute("SELECT to_regclass(%s)", (name,)).fetchone()
    if row is None or row[0] is None:
        return 0
    row = connection.execute(sql.SQL("SELECT format FROM {}").format(sql.Identifier(schema, "installation"))).fetchone()
    return int(row[0]) if row else 0


@cache
def newest() -> int:
    """The format of this release."""
    return steps()[-1][0]


def check_format(connection: psycopg.Connection, schema: str = SCHEMA) -> None:
    """Refuse to work on a database that this release does not know.

    Raises:
        Outdated: it is newer.
        Misconfigured: it is older or empty, with the remedy.
    """
    found, known = format_of(connection, schema), newest()
    if found > known:
        raise Outdated(found, known)
    if found < known:
        raise Misconfigured(f"the database has format {found} and this release needs {known}; run: windlass migrate")


def migrate(dsn: str, schema: str = SCHEMA, shards: int = SHARDS, upto: int | None = None) -> int:
    """Apply what is missing, or what is missing up to a format; returns how many steps that were.

    Running it twice, or twice at once, is harmless. A new installation is finished at once: nobody older can run there.

    Raises:
        Outdated: the database is newer than this release.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('windlass migrate'))")
        found = format_of(connection, schema)
        if found > newest():
            raise Outdated(found, newest())
        missing = [(number, text) for number, text in steps() if found < number <= (upto or newest())]
        for number, text in missing:
            with connection.transaction():
                connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
                connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
                connection.execute(text.encode())
                if number == 1:
                    connection.execute("INSERT INTO installation (format, shards) VALUES (1, %s)", (shards,))
                    connection.execute("INSERT INTO shards (shard) SELECT generate_series(0, %s)", (shards - 1,))
                connection.execute("UPDATE installation SET format = %s", (number,))
        if found == 0 and upto is None:
            _finish(connection, schema)
        return len(missing)


def finished(dsn: str, schema: str = SCHEMA) -> bool:
    """Whether the event types of this release may be written."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        table = sql.Identifier(schema, "installation")
        row = connection.execute(sql.SQL("SELECT finished >= format FROM {}").format(table)).fetchone()
    return bool(row and row[0])


def finish(dsn: str, now: datetime | None, schema: str = SCHEMA) -> None:
    """Allow the event types of this release: from now on an older one cannot read all of the log.

    `now` tells which coordinators run; None is for who knows that none does.

    Raises:
        Misconfigured: the database is not migrated, or a coordinator of another release runs.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        check_format(connection, schema)
        if now is not None:
            _refuse_others(connection, now, schema)
        _finish(connection, schema)


def _refuse_others(connection: psycopg.Connection, now: datetime, schema: str) -> None:
    others = connection.execute(
        sql.SQL(
            "SELECT name, version FROM {} WHERE service = 'coordinator' AND status <> 'OFFLINE' AND version <> %s"
            " AND last_heartbeat_at > %s ORDER BY name"
        ).format(sql.Identifier(schema, "nodes")),
        (RELEASE, now - timedelta(seconds=GONE_S)),
    ).fetchall()
    if others:
        told = ", ".join(f"{name} ({version})" for name, version in others)
        raise Misconfigured(
            f"coordinators of other releases were heard of within {GONE_S} s: {told}; this is {RELEASE}; end them, then ask again"
        )


def _finish(connection: psycopg.Connection, schema: str) -> None:
    connection.execute(sql.SQL("UPDATE {} SET finished = format").format(sql.Identifier(schema, "installation")))
