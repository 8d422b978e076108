"""Migrations on a real PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest

from tests.support import schema
from tests.support.stack import windlass
from windlass.clock import system as clock
from windlass.errors import Misconfigured
from windlass.eventlog.migrate import Outdated, check_format, finish, finished, format_of, migrate, steps
from windlass.release import RELEASE


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
        with pytest.raises(Outdated, match=r"format 999.*install a newer windlass"):
            migrate(database)
        with pytest.raises(Outdated, match="format 999"):
            check_format(connection)


def test_an_older_database_names_the_remedy(database: str) -> None:
    migrate(database)
    with _connect(database) as connection:
        connection.execute("UPDATE windlass.installation SET format = 0")
        with pytest.raises(Misconfigured, match="run: windlass migrate"):
            check_format(connection)


def test_each_migration_has_a_number_of_its_own_and_none_is_left_out() -> None:
    assert [number for number, _ in steps()] == list(range(1, len(steps()) + 1))


def test_there_is_one_installation_and_it_stays_one(database: str) -> None:
    migrate(database)
    with _connect(database) as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("INSERT INTO windlass.installation (format, shards) VALUES (1, 4)")


# -- what the migrations come to ------------------------------------------------------------------------------------


def test_the_schema_that_is_written_down_is_the_one_that_the_migrations_make(database: str) -> None:
    migrate(database)
    with _connect(database) as connection:
        assert schema.describe(connection) == schema.FILE.read_text(), "run: just schema"


def test_the_schema_that_is_written_down_makes_itself(database: str) -> None:
    migrate(database, "other")  # makes the roles
    with _connect(database) as connection:
        connection.execute("CREATE SCHEMA windlass")
        connection.execute("SET search_path TO windlass")
        connection.execute(schema.FILE.read_text().encode())
        assert schema.describe(connection) == schema.FILE.read_text()


# -- finishing ------------------------------------------------------------------------------------------------------


def _node(connection: psycopg.Connection, version: str, age_s: float, status: str = "UP", service: str = "coordinator") -> None:
    connection.execute("DELETE FROM windlass.nodes")
    connection.execute(
        "INSERT INTO windlass.nodes VALUES ('n', 'c-1', %s, 'h', %s, 0, %s, 0, '{}', 0, now(), %s)",
        (service, version, status, clock.now() - timedelta(seconds=age_s)),
    )


def test_a_new_installation_is_finished_and_an_older_one_only_when_it_is_said(database: str) -> None:
    migrate(database, "other")
    assert finished(database, "other")
    migrate(database, upto=1)
    assert migrate(database) == len(steps()) - 1
    assert not finished(database)
    said = [windlass("migrate", *options, environ={"WINDLASS_POSTGRES_DSN": database}) for options in ([], ["--finish"], [])]
    assert [one.returncode for one in said] == [0, 0, 0]
    assert said[0].stdout.endswith("run: windlass migrate --finish\n")
    assert said[1].stdout.startswith("the database is finished")
    assert said[2].stdout == "the database is current\n"
    assert finished(database)


def test_nobody_finishes_while_a_coordinator_of_another_release_runs(database: str) -> None:
    migrate(database, upto=1)
    migrate(database)
    with _connect(database) as connection:
        _node(connection, "0.0.9", 20)
        with pytest.raises(Misconfigured, match=r"c-1 \(0\.0\.9\)"):
            finish(database, clock.now())
        assert not finished(database)
        for harmless in (("0.0.9", 400.0), ("0.0.9", 1.0, "OFFLINE"), ("0.0.9", 1.0, "UP", "worker"), (RELEASE, 1.0)):
            connection.execute("UPDATE windlass.installation SET finished = 1")
            _node(connection, *harmless)
            finish(database, clock.now())
            assert finished(database)


def test_nothing_is_finished_that_is_not_migrated(database: str) -> None:
    migrate(database, upto=1)
    with pytest.raises(Misconfigured, match="run: windlass migrate"):
        finish(database, clock.now())
