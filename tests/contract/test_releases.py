"""What a release wrote is worked on by the next; and a coordinator that has become too old leaves."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.services import Desk, Hand, coordinator, desk
from tests.support.stack import Servers, Service, wait_for
from tests.support.waiting import until
from windlass.coordinator import rebuild
from windlass.errors import Conflict
from windlass.eventlog import export
from windlass.eventlog.migrate import migrate
from windlass.ids import JobId
from windlass.messages.commands import CompleteTask, GrantTask
from windlass.messages.jobs import Job, Task

FORMATS = sorted((Path(__file__).parents[1] / "golden").glob("format-*.sql"))


@pytest.fixture(params=FORMATS, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, database: str) -> str:
    """A database with what a release of an earlier format left, migrated to ours."""
    migrate(database, upto=int(request.param.stem.partition("-")[2]))
    with psycopg.connect(database) as connection:
        connection.execute("SET search_path TO windlass")
        connection.execute(request.param.read_bytes())
    migrate(database)
    return database


def _differing(dsn: str) -> list[str]:
    told: list[str] = []
    with export.snapshot(dsn, alone=False) as connection:
        assert rebuild.verify(connection, told.append).events > 0
    return told


def _rows(dsn: str, query: str, *parameters: object) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        connection.execute("SET search_path TO windlass")
        return connection.execute(query.encode(), parameters).fetchall()


def _job(dsn: str, name: str) -> JobId:
    ((job,),) = _rows(dsn, "SELECT replace(id::text, '-', '') FROM jobs WHERE name = %s", name)
    return JobId(job)


def test_the_rows_of_an_earlier_release_are_what_its_log_says_today(old: str) -> None:
    assert _differing(old) == []


@pytest.fixture
async def at(servers: Servers, old: str, prefix: str) -> AsyncIterator[Desk]:
    """A coordinator of today at work there."""
    async with desk(servers.nats.url, prefix) as found, coordinator(servers.nats.url, old, prefix):
        yield found


async def _finish(hand: Hand, job: JobId, attempt: int, key: str) -> None:
    run = await hand.task(job, attempt, key)
    assert isinstance(await hand.claim(run), GrantTask)
    assert (await hand.report(CompleteTask(**hand.fence(run)))).code is None


async def test_the_jobs_of_an_earlier_release_go_on(at: Desk, old: str) -> None:
    waits, goes_on = _job(old, "waits"), _job(old, "goes on")
    hands = [Hand(at.bus, queue="nobody"), Hand(at.bus)]
    for hand in hands:
        await hand.start()
        hand.beat_on()
    await _finish(hands[0], waits, 1, "1")
    await _finish(hands[1], goes_on, 3, "2")  # the worker that had its second attempt is gone
    await _finish(hands[1], goes_on, 1, "3")
    for hand in hands:
        await hand.stop()
    await until("both end", lambda: len(_rows(old, "SELECT FROM jobs WHERE state = 'COMPLETED' AND version > 5")) == 3)
    assert _differing(old) == []


async def test_a_key_that_an_earlier_release_was_given_still_stands_for_its_job(at: Desk, old: str) -> None:
    ((digest,),) = _rows(old, "SELECT digest FROM idempotency_keys WHERE key = 'a key'")
    job = _job(old, "completes")
    again = JobId(job[:-3] + "1" + job[-2:])
    body = Job(name="completes", tasks=(Task(name="t", run="true"),))
    assert await at.submit(body, again, user="guest", key="a key", digest=digest) == job
    with pytest.raises(Conflict):
        await at.submit(body, again, user="guest", key="a key", digest="another")


# -- the older one leaves -------------------------------------------------------------------------------------------


@pytest.fixture
def environ(servers: Servers, database: str, prefix: str) -> dict[str, str]:
    """What a service of an installation of its own is told."""
    migrate(database)
    return {"WINDLASS_NATS_URL": servers.nats.url, "WINDLASS_POSTGRES_DSN": database, "WINDLASS_SUBJECT_PREFIX": prefix}


def _locks(dsn: str) -> int:
    query = "SELECT FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database"
    return len(_rows(dsn, f"{query} WHERE l.locktype = 'advisory' AND l.objid < 16 AND d.datname = current_database()"))


def test_a_coordinator_that_finds_a_newer_format_hands_its_shards_over_and_says_why(
    environ: dict[str, str], database: str
) -> None:
    service = Service("coordinator", environ=environ)
    try:
        wait_for("it owns the shards", lambda: _locks(database) == 16, 30)
        _rows(database, "UPDATE installation SET format = 999 RETURNING 1")
        wait_for("they are free", lambda: _locks(database) == 0)
    finally:
        code = service.end()
    last = service.said.splitlines()[-1]
    assert (code, "Traceback" in service.said) == (1, False)
    assert last.startswith("windlass coordinator: the database has format 999")
