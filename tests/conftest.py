"""Servers that the tests of one process share. A test makes its own database and subject prefix, so all run at once."""

import os
import secrets
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tests.support.stack import Servers
from tests.support.stack import servers as embedded
from windlass.errors import Misconfigured


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """NATS and PostgreSQL, started at the first test of this process that asks; nobody stops or kills these."""
    try:
        with embedded() as both:
            yield both
    except Misconfigured as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def nats_url(servers: Servers) -> str:
    """The shared NATS server, as its operator."""
    return servers.nats.url


@pytest.fixture
def prefix() -> str:
    """A subject prefix of the test's own on the shared NATS server."""
    return f"t{secrets.token_hex(6)}."


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    """The superuser's DSN of an empty database of the test's own on the shared PostgreSQL; gone with the test."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(servers.postgres.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield servers.postgres.dsn_of(name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
