"""A whole scheduler on real servers: what it finds in the log, when it speaks, and that what it says has its effect once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.support.scenario import job, task
from tests.support.services import Desk, Hand, coordinator, desk, scheduler
from tests.support.stack import Servers
from tests.support.waiting import until
from windlass.bus import streams
from windlass.bus.streams import Names
from windlass.clock import system
from windlass.coordinator.job import waits
from windlass.eventlog.connection import Connection
from windlass.eventlog.follow import IDLE_S
from windlass.eventlog.migrate import migrate
from windlass.eventlog.statements import statement
from windlass.ids import JobId
from windlass.messages.commands import CancelJob, CompleteTask, FailTask, GrantTask, QueueTask, StopTask
from windlass.messages.jobs import Retry
from windlass.scheduler.firing import AGAIN_S
from windlass.scheduler.steady import LISTEN_S, SteadyTime

LATE_S = 2.0
"""How much later than it is due something may be seen here, where much else goes on."""


class Place:
    """Servers, a desk, and what the database holds."""

    def __init__(self, servers: Servers, dsn: str, at: Desk) -> None:
        self.servers, self.dsn, self.desk, self.prefix = servers, dsn, at, at.bus.subjects.prefix
        self.look = psycopg.connect(dsn, autocommit=True, options="-c search_path=windlass")

    def coordinator(self) -> Any:
        """One of its coordinators."""
        return coordinator(self.servers.nats.url, self.dsn, self.prefix)

    def scheduler(self, **options: Any) -> Any:
        """One of its schedulers."""
        return scheduler(self.servers.nats.url, self.dsn, self.prefix, **options)

    def rows(self, query: str, *parameters: object) -> list[Any]:
        """What the database holds."""
        return self.look.execute(query.encode(), parameters).fetchall()

    def events(self, of: str) -> list[tuple[str, datetime]]:
        """A job's events, with their times."""
        return self.rows("SELECT type, at FROM events WHERE stream = %s::uuid ORDER BY version", of)

    def types(self, of: str) -> list[str]:
        """The types of a job's events."""
        return [type_ for type_, _ in self.events(of)]

    def timers(self) -> list[tuple[str, int, int]]:
        """Kind, number and fires of what waits."""
        return self.rows("SELECT kind, number, fires FROM timers ORDER BY due_at")

    async def until_event(self, of: str, type_: str, count: int = 1, within_s: float = 15) -> datetime:
        """When it happened."""

        def find() -> datetime | None:
            found = [at for seen, at in self.events(of) if seen == type_]
            return found[count - 1] if len(found) >= count else None

        return await until(f"{type_} number {count} of {of}", find, within_s)

    async def until_idle(self) -> None:
        """Wait until nothing waits."""
        await until("no timer is left", lambda: not self.timers())


@pytest.fixture
async def place(servers: Servers, database: str, prefix: str) -> AsyncIterator[Place]:
    """An installation of the test's own, with its streams and without services."""
    migrate(database)
    async with desk(servers.nats.url, prefix) as at:
        await streams.ensure(at.bus, 16)
        found = Place(servers, database, at)
        yield found
        found.look.close()


@asynccontextmanager
async def _worker(place: Place) -> AsyncIterator[Hand]:
    hand = Hand(place.desk.bus)
    await hand.start()
    hand.beat_on()
    yield hand
    await hand.stop()


async def test_a_job_starts_when_its_time_has_come(place: Place) -> None:
    async with place.coordinator(), place.scheduler() as health:
        name = await place.desk.submit(job(task("a"), delay="1s"))
        assert place.types(name) == ["job.submitted", "job.delayed"]
        begun = await place.until_event(name, "job.started")
        waited = (begun - place.events(name)[1][1]).total_seconds()
        assert 1.0 <= waited < 1.0 + LATE_S
        await place.until_idle()
        assert health.report()[0]


async def test_a_job_waits_for_the_moment_that_it_names(place: Place) -> None:
    async with place.coordinator(), place.scheduler():
        at = system.now() + timedelta(seconds=1)
        name = await place.desk.submit(job(task("a"), run_at=at.isoformat()))
        begun = await place.until_event(name, "job.started")
        assert 0.0 <= (begun - at).total_seconds() < LATE_S


async def test_a_retry_waits_for_its_pause(place: Place) -> None:
    async with place.coordinator(), place.scheduler(), _worker(place) as hand:
        name = await place.desk.submit(job(task("a", retry=Retry(limit=2, delay="300ms", scaling_factor=3))))
        for attempt in (1, 2, 3):
            run = await hand.task(name, attempt)
            assert isinstance(await hand.claim(run), GrantTask)
            await hand.report(FailTask(**hand.fence(run), error="no"))
        failures = [at for type_, at in place.events(name) if type_ == "task.failed"]
        queued = [at for type_, at in place.events(name) if type_ == "task.queued"]
        waited = [(after - before).total_seconds() for before, after in zip(failures, queued, strict=False)]
        assert [0.3 <= waited[0] < 0.3 + LATE_S, 0.9 <= waited[1] < 0.9 + LATE_S] == [True, True]
        assert place.types(name)[-1] == "job.failed"
        await place.until_idle()


async def test_a_worker_that_hangs_does_not_keep_a_task_beyond_its_deadline(
    place: Place,
) -> None:
    async with place.coordinator(), place.scheduler(), _worker(place) as hand:
        name = await place.desk.submit(job(task("a", timeout="100ms", retry=Retry(limit=1))))
        run = await hand.task(name)
        assert isinstance(await hand.claim(run), GrantTask)
        started = place.events(name)[-1][1]
        failed = await place.until_event(name, "task.failed")
        lasted = (failed - started).total_seconds()
        assert 0.1 + waits.DEADLINE_GRACE_S <= lasted < 0.1 + waits.DEADLINE_GRACE_S + LATE_S
        assert isinstance(await hand.order(StopTask, run.task), StopTask)
        again = await hand.task(name, 2)
        assert (await hand.report(CompleteTask(**hand.fence(run)))).code == "stale"
        assert isinstance(await hand.claim(again), GrantTask)
        assert (await hand.report(CompleteTask(**hand.fence(again)))).code is None
        assert place.types(name)[-1] == "job.completed"
        await place.until_idle()


async def test_what_ends_in_time_ends_its_timer(place: Place) -> None:
    async with place.coordinator(), place.scheduler(), _worker(place) as hand:
        waits_long = await place.desk.submit(job(task("a"), delay="1h"))
        name = await place.desk.submit(job(task("b", timeout="1h")))
        run = await hand.task(name)
        await hand.claim(run)
        await until("both have a timer", lambda: place.timers() == [("start", 1, 0), ("deadline", 1, 0)])
        await hand.report(CompleteTask(**hand.fence(run)))
        await until("one is left", lambda: place.timers() == [("start", 1, 0)])
        await place.desk.command(CancelJob(job=waits_long))
        await place.until_idle()


async def test_said_late_or_twice_it_changes_nothing(place: Place) -> None:
    async with place.coordinator(), place.scheduler(), _worker(place) as hand:
        name = await place.desk.submit(job(task("a", retry=Retry(limit=1, delay="100ms"))))
        run = await hand.task(name)
        await hand.claim(run)
        await hand.report(FailTask(**hand.fence(run), error="no"))
        retry = await hand.task(name, 2)
        before = place.types(name)
        for _ in range(2):
            stale = QueueTask(job=name, task=retry.task, attempt=2)
            answer = await place.desk.ask(place.desk.bus.subjects.pending(place.desk.shard_of(name)), stale)
            assert answer.code == "stale"
        assert place.types(name) == before


async def test_what_had_no_effect_is_said_again_until_it_has(place: Place) -> None:
    async with place.coordinator():
        name = await place.desk.submit(job(task("a"), delay="100ms"))
    async with place.scheduler():
        await until("it was said", lambda: place.timers() == [("start", 1, 1)])
        await place.desk.bus.jetstream.purge_stream(Names(place.desk.bus.subjects).intake)
        await until("it was said again", lambda: place.timers()[0][2] >= 2, AGAIN_S * 3)
        await place.desk.bus.jetstream.purge_stream(Names(place.desk.bus.subjects).intake)
        async with place.coordinator():
            await place.until_event(name, "job.started", within_s=30)
            await place.until_idle()
    assert place.types(name).count("job.started") == 1


async def test_many_timers_at_once_are_fired_by_two_schedulers_each_with_effect_once(place: Place) -> None:
    async with place.coordinator(), place.scheduler(), place.scheduler():
        at = system.now() + timedelta(seconds=3)
        body = job(task("a", if_="false"), run_at=at.isoformat())
        names: list[JobId] = await asyncio.gather(*(place.desk.submit(body) for _ in range(500)))
        await until("all have ended", lambda: _ended(place) == len(names), 30)
        await place.until_idle()
        for name in names:
            assert place.types(name) == ["job.submitted", "job.delayed", "job.started", "task.skipped", "job.completed"]
        late = [(place.events(name)[2][1] - at).total_seconds() for name in names]
        assert min(late) >= 0


def _ended(place: Place) -> int:
    return int(place.rows("SELECT count(*) FROM jobs WHERE state = 'COMPLETED'")[0][0])


# -- clocks ---------------------------------------------------------------------------------------------------------


class Apart:
    """A clock that is wrong by some seconds."""

    def __init__(self, apart_s: float, monotonic_s: float = 0.0) -> None:
        self._apart, self._monotonic_s = timedelta(seconds=apart_s), monotonic_s

    def now(self) -> datetime:
        """The wrong time."""
        return system.now() + self._apart

    def monotonic(self) -> float:
        """Of another boot, if need be."""
        return system.monotonic() + self._monotonic_s


@pytest.mark.parametrize("apart_s", [3600.0, -3600.0])
async def test_a_scheduler_whose_clock_is_wrong_by_an_hour_fires_when_it_should(place: Place, apart_s: float) -> None:
    async with place.coordinator(), place.scheduler(clock=Apart(apart_s), boot="there"):
        await place.desk.submit(job(task("z"), delay="1h"))
        await until("it has followed the log to its end", place.timers)
        name = await place.desk.submit(job(task("a"), delay="2s"))
        begun = await place.until_event(name, "job.started")
        waited = (begun - place.events(name)[1][1]).total_seconds()
        assert 1.8 <= waited < 2.0 + LATE_S


async def test_what_was_set_while_nobody_followed_lasts_as_it_should_by_the_clock_of_whoever_takes_over(place: Place) -> None:
    there = {"clock": Apart(3600.0), "boot": "there"}
    async with place.coordinator():
        async with place.scheduler(**there):
            levels = "SELECT 1 FROM timer_cursors WHERE level_at IS NULL"
            await until("it has written down how far it is", lambda: not place.rows(levels))
        name = await place.desk.submit(job(task("a"), delay="2s"))
        async with place.scheduler(**there):
            begun = await place.until_event(name, "job.started")
        assert 2.0 <= (begun - place.events(name)[1][1]).total_seconds() < 2.0 + LATE_S + IDLE_S


@asynccontextmanager
async def _time(place: Place, apart_s: float, boot: str, monotonic_s: float = 0.0) -> AsyncIterator[SteadyTime]:
    store = Connection(place.dsn, "time", IDLE_S)
    time = SteadyTime(store, Apart(apart_s, monotonic_s), boot)
    await time.align()
    yield time
    await store.close()


def _ahead_s(time: SteadyTime) -> float:
    return (time.now() - system.now()).total_seconds()


async def test_the_first_scheduler_takes_the_time_from_its_wall_clock(place: Place) -> None:
    async with _time(place, 7, "a") as time:
        assert _ahead_s(time) == pytest.approx(7, abs=0.5)


@pytest.mark.parametrize("stepped_s", [3600.0, -3600.0])
async def test_on_the_same_machine_the_time_goes_on_whatever_the_wall_clock_did(place: Place, stepped_s: float) -> None:
    async with _time(place, 0, "a"):
        pass
    async with _time(place, stepped_s, "a") as time:
        assert _ahead_s(time) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("boot", ["b", ""])
@pytest.mark.parametrize("apart_s", [3600.0, -3600.0])
async def test_on_another_machine_it_is_the_time_of_those_who_live(place: Place, apart_s: float, boot: str) -> None:
    async with _time(place, 0, "a") as one:

        async def live() -> None:
            while True:
                await one.keep()
                await asyncio.sleep(0.1)

        living = asyncio.create_task(live())
        async with _time(place, apart_s, boot, monotonic_s=-100) as other:
            assert _ahead_s(other) == pytest.approx(0, abs=0.5)
        living.cancel()


async def test_where_nobody_lives_it_is_the_wall_clock_but_never_goes_back(place: Place) -> None:
    async with _time(place, 0, "a"):
        pass
    async with _time(place, 3600, "b") as time:
        assert _ahead_s(time) == pytest.approx(3600, abs=0.5)
    async with _time(place, -3600, "c") as time:
        assert 3600 - LISTEN_S - 1 < _ahead_s(time) <= 3600


async def test_a_scheduler_without_its_database_is_not_ready_and_goes_on_with_it(place: Place) -> None:
    async with place.coordinator(), place.scheduler() as health:
        await until("it works", lambda: health.report()[0])
        place.look.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ 'windlass (scheduler|timers)'"
        )
        name = await place.desk.submit(job(task("a"), delay="100ms"))
        await place.until_event(name, "job.started")


async def test_other_services_may_not_write_timers(place: Place) -> None:
    for role in ("windlass_gateway", "windlass_coordinator", "windlass_webhooks"):
        with psycopg.connect(place.dsn, autocommit=True, options="-c search_path=windlass") as connection:
            connection.execute(f"SET ROLE {role}".encode())
            for table in ("timers", "timer_cursors", "scheduler_time"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"DELETE FROM {table}".encode())


@pytest.mark.parametrize(
    ("name", "parameters", "index"),
    [
        ("claim_timers", {"now": system.now(), "most": 10, "pause": 1, "pause_max": 60}, "timers_to_fire"),
        ("read_next_timer", {}, "timers_to_fire"),
        ("fire_again", {"now": system.now()}, "timers_fired"),
        ("count_fired", {}, "timers_fired"),
        ("end_timers", {"ids": [UUID(int=1)]}, "timers_pkey"),
    ],
)
async def test_no_look_reads_what_is_not_due(place: Place, name: str, parameters: dict[str, Any], index: str) -> None:
    def explain(connection: psycopg.Connection) -> str:
        return "\n".join(row[0] for row in connection.execute(b"EXPLAIN " + statement(name), parameters))

    store = Connection(place.dsn, "plan", IDLE_S)
    plan = await store.run(explain)
    assert index in plan, plan
    assert "Seq Scan" not in plan
    await store.close()
