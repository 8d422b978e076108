"""Brings a database to the format of this release: numbered steps, forward only, each in its own transaction."""

import re
from importlib.resources import files

import psycopg
from psycopg import sql

from windlass.errors import Misconfigured
from windlass.settings import SHARDS

SCHEMA = "windlass"


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


def check_format(connection: psycopg.Connection, schema: str = SCHEMA) -> None:
    """Refuse to work on a database that this release does not know.

    Raises:
        Misconfigured: it is newer, older or empty, with the remedy.
    """
    found, known = format_of(connection, schema), steps()[-1][0]
    if found > known:
        raise Misconfigured(f"the database has format {found} and this release knows {known}; install a newer windlass")
    if found < known:
        raise Misconfigured(f"the database has format {found} and this release needs {known}; run: windlass migrate")


def migrate(dsn: str, schema: str = SCHEMA, shards: int = SHARDS) -> int:
    """Apply what is missing; returns how many steps that were. Running it twice, or twice at once, is harmless.

    Raises:
        Misconfigured: the database is newer than this release.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('windlass migrate'))")
        found, known = format_of(connection, schema), steps()
        if found > known[-1][0]:
            raise Misconfigured(
                f"the database has format {found} and this release knows {known[-1][0]}; install a newer windlass"
            )
        missing = [(number, text) for number, text in known if number > found]
        for number, text in missing:
            with connection.transaction():
                connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
                connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
                connection.execute(text.encode())
                if number == 1:
                    connection.execute("INSERT INTO installation (format, shards) VALUES (1, %s)", (shards,))
                    connection.execute("INSERT INTO shards (shard) SELECT generate_series(0, %s)", (shards - 1,))
                connection.execute("UPDATE installation SET format = %s", (number,))
        return len(missing)
