"""A NATS user for each worker: what it may do, what it must not, and what holds when its id outlives its process."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import nats
import psycopg
import pytest
from prometheus_client import REGISTRY

from tests.support.services import Desk, coordinator
from tests.support.stack import EmbeddedNats, Service, wait_for, windlass
from tests.support.waiting import until
from windlass import ids
from windlass.bus.connection import connect
from windlass.clock import system as clock
from windlass.errors import Misconfigured
from windlass.eventlog.migrate import migrate
from windlass.ids import JobId, TaskId
from windlass.messages.commands import ClaimTask
from windlass.messages.envelope import encode
from windlass.messages.jobs import Job, Task
from windlass.messages.notices import LogPart

OWN = {"gpu-1": "gpu", "cpu-1": "default,=odd"}
"""The workers with a user each, by their ids, and their queues."""


class Guarded:
    """A server that knows the services' users and, from the command's own words, some workers'."""

    def __init__(self, path: Path) -> None:
        self.nats = EmbeddedNats(path)
        self._passwords: dict[str, str] = {}
        entries = []
        for worker, queues in OWN.items():
            printed = windlass("nats-user", "worker", worker, "--queues", queues)
            assert printed.returncode == 0, printed.stderr
            entries.append(printed.stdout)
            (self._passwords[f"worker-{worker}"],) = [
                line.split('password: "')[1].split('"')[0] for line in printed.stdout.splitlines() if 'password: "' in line
            ]
        file = self.nats.data.nats / "nats.conf"
        file.write_text(file.read_text().replace("users: [\n", "users: [\n" + "\n".join(entries), 1))
        running = self.nats.running
        assert running is not None
        running.process.send_signal(signal.SIGHUP)
        wait_for("the server knows its new users", lambda: any("Reloaded server configuration" in line for line in running.lines))

    def url_of(self, user: str) -> str:
        """As a service's user, or a worker's own."""
        if user not in self._passwords:
            return self.nats.url_of(user)
        return f"nats://{user}:{self._passwords[user]}@127.0.0.1:{self.nats.server.port}"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, servers: object) -> Iterator[Guarded]:
    found = Guarded(tmp_path_factory.mktemp("nats"))
    try:
        yield found
    finally:
        found.nats.stop()


# -- rights -------------------------------------------------------------------------------------------------------------

NEXT, ACK = "$JS.API.CONSUMER.MSG.NEXT", "$JS.ACK"
MINE, OTHER = "worker-gpu-1", "worker-cpu-1"
REFUSED = [
    # user, what it tries, on what
    *[(MINE, "hear", subject) for subject in (
        ">", f"x-{OTHER}", f"x-{MINE}", f"_INBOX_workers.{OTHER}.>", "_INBOX_workers.>", "_INBOX_worker.>", "_INBOX_gateway.>",
        "queues.>", "queues.gpu.0.>", "queues.default.0.>", "jobs.>", "started.>", "completed.>", "events.>", "heartbeat.*",
        "logs.>", "$JS.>",
    )],
    *[(MINE, "say", f"{word}.00.{OTHER}") for word in ("started", "completed", "error", "progress")],
    *[(MINE, "say", subject) for subject in (
        "started", "completed", "completed.00", f"heartbeat.{OTHER}", f"x-{OTHER}", f"x-{MINE}", "jobs", "jobs.00", "pending.00",
        "control.00", "queues.gpu.0.t.1", "events.job.j", f"_INBOX_workers.{OTHER}.x", "_INBOX_worker.x", "_INBOX_gateway.x",
        f"{NEXT}.x-{OTHER}.orders", f"{NEXT}.tasks.default-0", f"{NEXT}.tasks.gpu", f"{NEXT}.intake.bare", f"{NEXT}.logs.store",
        f"{ACK}.x-{OTHER}.orders.1.1.1.1.1", f"{ACK}.tasks.default-0.1.1.1.1.1", f"{ACK}.intake.shard-00.1.1.1.1.1",
        "$JS.API.CONSUMER.CREATE.tasks.mine", f"$JS.API.CONSUMER.CREATE.x-{OTHER}.mine", "$JS.API.STREAM.MSG.GET.tasks",
        f"$JS.API.STREAM.INFO.x-{OTHER}", f"$JS.API.STREAM.PURGE.x-{OTHER}", "$JS.API.CONSUMER.DELETE.tasks.gpu-0",
    )],
    *[("worker", "hear", subject) for subject in (f"_INBOX_workers.{MINE}.>", "_INBOX_workers.>", f"x-{MINE}")],
    *[("gateway", "say", subject) for subject in (f"completed.00.{MINE}", f"x-{MINE}", f"{NEXT}.x-{MINE}.orders")],
    *[("webhooks", "say", subject) for subject in (f"{NEXT}.tasks.gpu-0", f"{NEXT}.intake.bare", f"{ACK}.tasks.gpu-0.1.1.1.1.1")],
    *[("webhooks", "hear", subject) for subject in ("queues.>", "queues.gpu.0.>", f"x-{MINE}", "_INBOX_workers.>")],
    *[("scheduler", "say", subject) for subject in (f"completed.00.{MINE}", f"{NEXT}.tasks.gpu-0")],
]  # fmt: skip
ALLOWED = [
    *[(MINE, "say", f"{word}.0f.{MINE}") for word in ("started", "completed", "error", "progress")],
    *[(MINE, "say", subject) for subject in (
        "logs.00.j.t", f"heartbeat.{MINE}", f"{NEXT}.x-{MINE}.orders", f"{ACK}.x-{MINE}.orders.1.1.1.1.1",
        *(f"{NEXT}.tasks.gpu-{level}" for level in range(10)), f"{ACK}.tasks.gpu-9.1.1.1.1.1",
    )],
    (MINE, "hear", f"_INBOX_workers.{MINE}.>"),
    *[(OTHER, "say", f"{NEXT}.tasks.{queue}-0") for queue in ("default", "=hvxwiza")],
    *[("coordinator", "say", subject) for subject in (f"x-{MINE}", f"_INBOX_workers.{MINE}.r")],
]  # fmt: skip


async def _refused(guarded: Guarded, user: str, attempts: list[tuple[str, str, str]]) -> list[str]:
    """What the server says against a user's attempts, in lower case."""
    said: list[str] = []

    async def note(error: Exception) -> None:
        said.append(str(error).lower())

    client = await nats.connect(guarded.url_of(user), error_cb=note, allow_reconnect=False)
    for _, verb, subject in attempts:
        await (client.publish(subject, b"x") if verb == "say" else client.subscribe(subject))
    await client.flush()
    await client.flush()  # the last refusal is told after the answer to the first
    await client.close()
    return said


def _of(table: list[tuple[str, str, str]], user: str) -> list[tuple[str, str, str]]:
    return [attempt for attempt in table if attempt[0] == user]


@pytest.mark.parametrize("user", dict.fromkeys(user for user, *_ in REFUSED))
async def test_what_is_anothers_is_refused(guarded: Guarded, user: str) -> None:
    said = await _refused(guarded, user, _of(REFUSED, user))
    kinds = {"say": "publish", "hear": "subscription"}
    let_through = [
        (verb, subject)
        for _, verb, subject in _of(REFUSED, user)
        if not any(f'violation for {kinds[verb]} to "{subject.lower()}"' in one for one in said)
    ]
    assert let_through == []


@pytest.mark.parametrize("user", dict.fromkeys(user for user, *_ in ALLOWED))
async def test_what_is_its_own_is_not_refused(guarded: Guarded, user: str) -> None:
    assert await _refused(guarded, user, _of(ALLOWED, user)) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["gateway", "g1"], "only a worker has an id"),
        (["worker", "--queues", "gpu"], "worker ID --queues"),
        (["worker", "a.b"], "letters, digits"),
        (["worker", "a", "--queues", "x-y"], "reserved"),
        (["worker", "a", "--variable", "a b"], "--variable"),
    ],
)
def test_there_is_no_such_user(arguments: list[str], told: str) -> None:
    asked = windlass("nats-user", *arguments)
    assert (asked.returncode, asked.stdout) == (1, "")
    assert told in asked.stderr
    assert len(asked.stderr.splitlines()) == 1


def test_a_password_may_stay_in_a_variable_of_the_server() -> None:
    asked = windlass("nats-user", "gateway", "--variable", "GATEWAY_PASSWORD")
    assert '{ user: "gateway", password: $GATEWAY_PASSWORD, permissions: {' in asked.stdout.splitlines()


# -- workers at work ----------------------------------------------------------------------------------------------------


def start(guarded: Guarded, spool: Path) -> Service:
    """A worker under the issued id `gpu-1`."""
    environ = {
        "WINDLASS_NATS_URL": guarded.url_of("worker-gpu-1"), "WINDLASS_WORKER_ID": "gpu-1", "WINDLASS_SPOOL": str(spool),
        "WINDLASS_PROFILE": "fast",
    }  # fmt: skip
    return Service("worker", "--runtime", "shell", "--queue", "gpu:1", environ=environ)


async def ready(worker: Service) -> None:
    """Until it takes tasks."""
    await until("the worker is ready", lambda: "worker_ready" in worker.said)


class House:
    """A coordinator and a gateway's desk, each with its own user, on a server that knows workers' users."""

    def __init__(self, guarded: Guarded, desk: Desk, dsn: str) -> None:
        self.guarded, self.desk, self._dsn = guarded, desk, dsn

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database holds."""
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
            return await (await connection.execute(statement.encode(), values)).fetchall()

    async def ended(self, job: str, within_s: float = 30) -> str:
        """The state that a job ended in."""
        async with asyncio.timeout(within_s):
            while True:
                ((state,),) = await self.rows("SELECT state FROM windlass.jobs WHERE id = %s::uuid", job)
                if state in ("COMPLETED", "FAILED", "CANCELLED"):
                    return str(state)
                await asyncio.sleep(0.02)

    async def run(self, script: str) -> JobId:
        """Submit a job of one task in queue `gpu`; its id."""
        return await self.desk.submit(Job(name="j", tasks=(Task(name="t", run=script, queue="gpu"),)))


@pytest.fixture
async def house(tmp_path: Path, database: str) -> AsyncIterator[House]:
    guarded = Guarded(tmp_path / "nats")
    migrate(database)
    try:
        async with (
            coordinator(guarded.url_of("coordinator"), database),
            connect(guarded.url_of("gateway"), "gateway", "desk") as bus,
        ):
            yield House(guarded, Desk(bus), database)
    finally:
        guarded.nats.stop()


@asynccontextmanager
async def working(house: House, spool: Path) -> AsyncIterator[Service]:
    worker = start(house.guarded, spool)
    try:
        await ready(worker)
        yield worker
    finally:
        await asyncio.to_thread(worker.end, signal.SIGTERM)  # what it reports last is answered by this very loop


async def test_a_worker_with_its_own_user_does_all_it_must(house: House, tmp_path: Path) -> None:
    async with working(house, tmp_path / "spool") as worker:
        job = await house.run("echo hello; echo -n 42 > $TORK_OUTPUT")
        assert await house.ended(job) == "COMPLETED"
        ((name, result),) = await house.rows("SELECT worker, result FROM windlass.tasks WHERE job = %s::uuid", job)
        assert name.startswith("worker-gpu-1.")
        assert result == "42"
        parts = "SELECT contents FROM windlass.task_logs WHERE job = %s::uuid"
        async with asyncio.timeout(15):
            while await house.rows(parts, job) != [("hello\n",)]:
                await asyncio.sleep(0.02)
        assert "violation" not in worker.said.lower()
        assert await asyncio.to_thread(worker.end, signal.SIGTERM) == 0


async def test_a_worker_s_user_that_knows_a_task_s_id_can_neither_claim_it_nor_write_its_output(
    house: House, tmp_path: Path
) -> None:
    """What it may not read it may not have, although it may speak on these subjects."""
    job = await house.run("echo true")
    ((row,),) = await house.rows("SELECT id FROM windlass.tasks WHERE job = %s::uuid", job)
    task, shard, user = TaskId(row.hex), house.desk.shard_of(job), "worker-cpu-1"
    ignored = _ignored()
    async with connect(house.guarded.url_of(user), "worker", "w", worker=user) as bus:
        claim = ClaimTask(job=job, run=1, task=task, attempt=1, worker=ids.new_start(user))
        part = LogPart(job=job, task=task, attempt=1, number=1, contents="false\n")
        started, output = bus.subjects.report("started", shard, user), bus.subjects.logs(shard, job, task)
        for ticket in ("", "0" * 32, "no\u00ebl"):
            for subject, body in ((started, claim), (output, part)):
                said = msgspec.structs.replace(body, ticket=ticket)
                await bus.publish(subject, encode(said, id=f"{type(said).__name__}-{ticket}", at=clock.now()))
        await until("all of it was ignored", lambda: _ignored() == ignored + 6)
    assert await house.rows("SELECT state, worker FROM windlass.tasks WHERE job = %s::uuid", job) == [("SCHEDULED", "")]
    async with working(house, tmp_path / "spool"):
        assert await house.ended(job) == "COMPLETED"
        parts = "SELECT contents FROM windlass.task_logs WHERE job = %s::uuid"
        async with asyncio.timeout(15):
            while not (found := await house.rows(parts, job)):
                await asyncio.sleep(0.02)
        assert found == [("true\n",)]


def _ignored() -> float:
    return REGISTRY.get_sample_value("windlass_reports_ignored_total", {"reason": "ticket"}) or 0.0


async def test_one_that_starts_again_without_its_spool_runs_no_attempt_twice(house: House, tmp_path: Path) -> None:
    mark = tmp_path / "attempts"
    script = f"echo $WINDLASS_ATTEMPT >> {mark}; test $WINDLASS_ATTEMPT -gt 1 || sleep 600"
    first = start(house.guarded, tmp_path / "spool-1")
    try:
        await ready(first)
        job = await house.run(script)
        await until("the task runs", mark.exists)
    finally:
        first.end(signal.SIGKILL)
    async with working(house, tmp_path / "spool-2"):
        assert await house.ended(job) == "COMPLETED"
        assert mark.read_text().split() == ["1", "2"]
        owners = await house.rows("SELECT data->>'worker' FROM windlass.events WHERE type = 'task.started' ORDER BY at")
        assert len({owner for (owner,) in owners}) == 2
        # The end of the first start took nothing from the second.
        assert await house.ended(await house.run("true")) == "COMPLETED"


async def test_two_processes_of_one_id_do_no_harm(house: House, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    async with working(house, tmp_path / "spool-1"), working(house, tmp_path / "spool-2"):
        jobs = [await house.run(f"echo $WINDLASS_TASK_ID $WINDLASS_ATTEMPT >> {mark}; sleep 0.05") for _ in range(12)]
        assert [await house.ended(job) for job in jobs] == ["COMPLETED"] * len(jobs)
    ran = mark.read_text().splitlines()
    assert len(ran) == len(set(ran)) == len(jobs)
    owners = await house.rows("SELECT DISTINCT worker FROM windlass.tasks")
    assert len(owners) == 2


@pytest.mark.parametrize(("user", "worker"), [("worker-gpu-1", "worker-cpu-1"), ("worker", "worker-gpu-1"), ("worker-gpu-1", "")])
async def test_a_user_that_does_not_match_the_id_is_one_line_with_the_remedy(guarded: Guarded, user: str, worker: str) -> None:
    with pytest.raises(Misconfigured, match=r"does not let user '.*' have the inbox .* WINDLASS_WORKER_ID"):
        async with connect(guarded.url_of(user), "worker", "w", worker=worker):
            raise AssertionError("connected")
