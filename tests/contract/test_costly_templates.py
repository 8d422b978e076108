"""Templates that take long: their job waits for them, and no other."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from tests.support.scenario import job, task
from tests.support.services import Desk, Hand, coordinator, desk
from tests.support.waiting import until
from windlass.clock import system as clock
from windlass.coordinator.handler import COSTLY_MAX
from windlass.eventlog.migrate import migrate
from windlass.messages.commands import CancelJob, CompleteTask, GrantTask, RunTask, SubmitJob
from windlass.messages.envelope import encode

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("costly")]
PREFIX = "tcostly."
COSTLY = "count(1..30000, # > 0)"
"""Just too much for where commands are decided."""
SLOW = "len(map(1..250000, string(# / 7)))"
"""About a second of work."""


@pytest.fixture(scope="module")
def dsn(servers: Any) -> Any:
    """An empty database."""
    name = "tcostly"
    with psycopg.connect(servers.postgres.dsn, autocommit=True) as superuser:
        superuser.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        superuser.execute(f"CREATE DATABASE {name}".encode())
        migrate(servers.postgres.dsn_of(name))
        yield servers.postgres.dsn_of(name)
        superuser.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(servers: Any) -> AsyncIterator[Desk]:
    """Whoever submits."""
    async with desk(servers.nats.url, PREFIX) as at:
        yield at


@pytest_asyncio.fixture(loop_scope="module")
async def hand(servers: Any, dsn: str, operator: Desk) -> AsyncIterator[Hand]:
    """A worker, and a coordinator for it."""
    async with coordinator(servers.nats.url, dsn, PREFIX):
        found = Hand(operator.bus)
        await found.start()
        found.beat_on()
        yield found
        await found.stop()


def rows(dsn: str, query: bytes, *parameters: object) -> list[Any]:
    """What the database holds."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return list(connection.execute(query, parameters).fetchall())


def events(dsn: str, of: str) -> list[str]:
    """The types of a job's events."""
    return [row[0] for row in rows(dsn, b"SELECT type FROM windlass.events WHERE stream = %s::uuid ORDER BY version", of)]


def asked() -> float:
    """How many templates were evaluated aside so far."""
    return REGISTRY.get_sample_value("windlass_templates_costly_total") or 0.0


async def begun(hand: Hand, name: str, key: str = "1") -> RunTask:
    """A task of a job, claimed."""
    run = await hand.task(name, key=key)
    assert isinstance(await hand.claim(run), GrantTask)
    return run


async def test_other_jobs_go_on_while_templates_are_evaluated(operator: Desk, hand: Hand) -> None:
    slow = job(task("{{ 1 }}", env={name: f"{name}{{{{ {SLOW} }}}}" for name in "ABC"}))
    submitting = asyncio.ensure_future(operator.submit(slow))
    before = asked()
    await until("the first of its templates is evaluated aside", lambda: asked() > before)
    others = await asyncio.gather(*(operator.submit(job(task("{{ inputs.x }}"), inputs={"x": "y"})) for _ in range(10)))
    for other in others:
        run = await begun(hand, other)
        assert run.definition.name == "y"
        assert (await hand.report(CompleteTask(**hand.fence(run)))).code is None
    assert not submitting.done(), "the others waited for it"
    run = await hand.task(await submitting)
    assert run.definition.env == {"A": "A250000", "B": "B250000", "C": "C250000"}
    assert asked() == before + 3


async def test_a_template_that_takes_too_long_fails_its_task_with_the_reason(operator: Desk, hand: Hand, dsn: str) -> None:
    endless = "let a = 1..900000; count(a, any(a, # == 0))"
    name = await operator.submit(job(task("a", env={"A": f"{{{{ {endless} }}}}"})))
    ((state, error),) = rows(dsn, b"SELECT state, error FROM windlass.jobs WHERE id = %s::uuid", name)
    assert state == "FAILED"
    assert f"task 'a': error evaluating expression: {endless}: step budget exceeded (1:" in error


async def test_more_of_them_than_one_batch_takes_all_come_to_their_end(operator: Desk, hand: Hand, dsn: str) -> None:
    costly = job(task("n{{ " + COSTLY + " }}"), output="{{ tasks.x }}")
    names = await asyncio.gather(*(operator.submit(costly) for _ in range(2 * COSTLY_MAX + 1)))
    for name in names:
        assert (await hand.task(name)).definition.name == "n30000"
        assert events(dsn, name) == ["job.submitted", "job.started", "task.dispatched"]


async def test_two_with_the_same_key_make_one_job(operator: Desk, hand: Hand) -> None:
    costly = job(task("n{{ " + COSTLY + " }}"))
    first, second = await asyncio.gather(*(operator.submit(costly, key="k", digest="d") for _ in range(2)))
    assert first == second


async def test_a_job_that_is_cancelled_meanwhile_is_not_gone_on_with(operator: Desk, hand: Hand, dsn: str) -> None:
    name = await operator.submit(job(task("a"), task("b{{ " + SLOW + " }}")))
    run = await begun(hand, name)
    before = asked()
    reporting = asyncio.ensure_future(hand.report(CompleteTask(**hand.fence(run), result="late")))
    await until("the next task's name is evaluated aside", lambda: asked() > before)
    await operator.command(CancelJob(job=name))
    assert (await reporting).code == "stale"
    assert events(dsn, name)[-2:] == ["task.cancelled", "job.cancelled"]


async def test_whoever_takes_over_evaluates_again(servers: Any, dsn: str, operator: Desk) -> None:
    name, before = operator.new(), asked()
    body = SubmitJob(job=name, definition=job(task("n{{ " + SLOW + " }}")))
    async with coordinator(servers.nats.url, dsn, PREFIX):
        await operator.bus.publish(operator.bus.subjects.jobs(operator.shard_of(name)), encode(body, id="m", at=clock.now()))
        await until("its name is evaluated aside", lambda: asked() > before)
    assert events(dsn, name) == []
    async with coordinator(servers.nats.url, dsn, PREFIX):
        await until("the job is there", lambda: events(dsn, name))
    assert events(dsn, name) == ["job.submitted", "job.started", "task.dispatched"]
