"""What the embedded PostgreSQL needs before services may connect: a database, its owner, its tables, and passwords."""

from collections.abc import Mapping

import psycopg
from psycopg import sql

from windlass.errors import Unavailable
from windlass.eventlog.migrate import finish
from windlass.eventlog.migrate import migrate as apply_migrations


def _connect(dsn: str) -> psycopg.Connection:
    try:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise Unavailable(f"the embedded PostgreSQL does not answer: {str(error).strip()}") from error


def _set_password(connection: psycopg.Connection, role: str, password: str) -> None:
    connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))


def establish(superuser: str, database: str, owner: str, password: str) -> None:
    """Make the database and the role that owns it, if they are missing."""
    with _connect(superuser) as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (owner,)).rowcount == 0:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE").format(sql.Identifier(owner)))
        _set_password(connection, owner, password)
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", (database,)).rowcount == 0:
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), sql.Identifier(owner)))


def migrate(owner: str) -> int:
    """Bring the database to the format of this release; returns the number of steps.

    Raises:
        Misconfigured: it is newer than this release.
    """
    steps = apply_migrations(owner)
    finish(owner, None)  # its services are not started yet
    return steps


def admit(superuser: str, passwords: Mapping[str, str]) -> None:
    """Let the services' roles in, each with its password."""
    with _connect(superuser) as connection:
        for role, password in passwords.items():
            _set_password(connection, role, password)
