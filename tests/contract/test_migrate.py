"""Migrations on a real PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from windlass.errors import Misconfigured
from windlass.eventlog.migrate import check_format, format_of, migrate, steps


def _connect(dsn: str) -> psycopg.Connection:
    return psycopg.connect(dsn, autocommit=True)


def test_steps_are_numbered_without_a_gap() -> None:
    assert [number for number, _ in steps()] == list(range(1, len(steps()) + 1))


def test_an_empty_database_comes_to_the_format_of_this_release(database: str) -> None:
    with _connect(database) as connection:
        assert format_of(connection) == 0
        assert migrate(database) == len(steps())
        assert format_of(connection) == steps()[-1][0]
        check_format(connection)
        assert connection.execute("SELECT shards FROM windlass.installation").fetchall() == [(16,)]
        assert connection.execute("SELECT count(*) FROM windlass.shards WHERE head = 0").fetchall() == [(16,)]


def test_migrating_twice_changes_nothing(database: str) -> None:
    migrate(database, shards=4)
    with _connect(database) as connection:
        connection.execute("UPDATE windlass.shards SET head = 7 WHERE shard = 1")
        assert migrate(database, shards=8) == 0
        assert connection.execute("SELECT count(*), max(head) FROM windlass.shards").fetchone() == (4, 7)


def test_migrating_several_times_at_once_is_harmless(database: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: migrate(database), range(4)))
    assert sorted(done) == [0, 0, 0, len(steps())]


def test_two_installations_live_in_one_database(database: str) -> None:
    migrate(database, "one", 4)
    migrate(database, "other", 8)
    with _connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM one.shards").fetchone() == (4,)
        assert connection.execute("SELECT count(*) FROM other.shards").fetchone() == (8,)
        assert format_of(connection) == 0


def test_a_newer_database_is_left_alone(database: str) -> None:
    migrate(database)
    with _connect(database) as connection:
        connection.execute("UPDATE windlass.installation SET format = 999")
        with pytest.raises(Misconfigured, match=r"format 999.*install a newer windlass"):
            migrate(database)
        with pytest.raises(Misconfigured, match="format 999"):
            check_format(connection)


def test_an_older_database_names_the_remedy(database: str) -> None:
    migrate(database)
    with _connect(database) as connection:
        connection.execute("UPDATE windlass.installation SET format = 0")
        with pytest.raises(Misconfigured, match="run: windlass migrate"):
            check_format(connection)


def test_there_is_one_installation_and_it_stays_one(database: str) -> None:
    migrate(database)
    with _connect(database) as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("INSERT INTO windlass.installation (format, shards) VALUES (1, 4)")
