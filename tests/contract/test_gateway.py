"""The gateway on real NATS and PostgreSQL, in this process; the coordinator is a few lines that answer what a test tells them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec
import psycopg
import pytest
from nats.aio.msg import Msg

from tests.support.asgi import Answer as Heard
from tests.support.asgi import ask
from tests.support.waiting import until
from windlass import ids
from windlass.bus.connection import Bus, connect
from windlass.clock import system
from windlass.documents.reading import BODY_MAX
from windlass.eventlog import read
from windlass.eventlog.migrate import migrate
from windlass.gateway.app import App
from windlass.gateway.commands import Commands
from windlass.gateway.endpoint import Endpoint
from windlass.gateway.intake import Intake
from windlass.gateway.waiting import Waiting
from windlass.ids import is_id
from windlass.messages.commands import JOB_COMMANDS, Answer, CancelJob, JobCommand, RestartJob, SubmitJob
from windlass.messages.envelope import encode, open_envelope
from windlass.messages.notices import StreamChanged
from windlass.settings import Times
from windlass.subjects import Subjects

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
JSON = [("Content-Type", "application/json")]
YAML = [("Content-Type", "text/yaml")]
JOB = b'{"name":"j","tasks":[{"name":"t","run":"true"}]}'
WAIT = b'{"name":"j","wait":{"timeout":"20s"},"tasks":[{"name":"t"}]}'
SHARDS = 16
Ask = Callable[..., Awaitable[Heard]]


class Owner:
    """Stands where the coordinators do: keeps the commands that come and answers each as `answers` says."""

    def __init__(self, bus: Bus, database: str) -> None:
        self._bus, self._database = bus, database
        self.commands: list[JobCommand] = []
        self.messages: list[str] = []
        self.shards: list[int | None] = []
        self.answers: Callable[[JobCommand], Answer | None] = self.commit

    async def on_command(self, message: Msg) -> None:
        """A command came."""
        envelope = open_envelope(message.data)
        command = JOB_COMMANDS.decode(envelope.type, envelope.data)
        self.commands.append(command)
        self.messages.append(envelope.id)
        self.shards.append(self._bus.subjects.place(message.subject).shard)
        answer = self.answers(command)
        if answer is not None and envelope.reply is not None:
            await self._bus.tell(envelope.reply, encode(answer, id=envelope.id, at=AT))

    def commit(self, command: JobCommand) -> Answer:
        """Take every job: it is SCHEDULED then; and every cancellation."""
        if not isinstance(command, SubmitJob):
            return Answer()
        self.store(command, "SCHEDULED")
        return committed(command.job)

    def store(self, command: SubmitJob, state: str) -> None:
        """Write a job's row."""
        definition = msgspec.json.encode(command.definition).decode()
        with psycopg.connect(self._database, autocommit=True, options="-c search_path=windlass") as connection:
            connection.execute(
                "INSERT INTO jobs (id, shard, version, run, state, name, definition, created_by, position, task_count, progress, "
                "created_at, result, error) VALUES (%s, 0, 1, 1, %s, 'j', %s, 'guest', 1, 1, 0, %s, '', '')",
                (command.job, state, definition, AT),
            )

    def end(self, job: str, state: str = "COMPLETED") -> None:
        """A job ends."""
        with psycopg.connect(self._database, autocommit=True, options="-c search_path=windlass") as connection:
            connection.execute("UPDATE jobs SET state = %s WHERE id = %s", (state, job))

    async def tell(self, job: str, state: str) -> None:
        """Say what was committed to a job."""
        notice = StreamChanged(stream=job, first=2, last=2, position=2, state=state)
        await self._bus.tell(self._bus.subjects.changed("job", job), encode(notice, id="n", at=AT))


def committed(job: str, state: str = "SCHEDULED", **more: Any) -> Answer:
    """The answer to a submitted job."""
    body = {"job": job, "createdAt": AT, "state": state, "position": 1, "startedAt": AT, **more}
    return Answer(body=msgspec.Raw(msgspec.json.encode(body)))


class Stage:
    """A gateway and its surroundings."""

    def __init__(self, app: App, owner: Owner, bus: Bus, waiting: Waiting, stop: asyncio.Event) -> None:
        self.app, self.owner, self.bus, self.waiting, self.stop = app, owner, bus, waiting, stop

    async def submitted(self) -> str:
        """The id of the first job that came."""
        await until("a command", lambda: self.owner.commands)
        return self.owner.commands[0].job


@pytest.fixture
async def stage(nats_url: str, prefix: str, database: str) -> AsyncIterator[Stage]:
    """A gateway with an owner behind it."""
    migrate(database)
    async with AsyncExitStack() as held:
        beyond = await held.enter_async_context(connect(nats_url, "coordinator", "owner", prefix))
        owner = Owner(beyond, database)
        await beyond.subscribe(f"{prefix}jobs.*", owner.on_command)
        await beyond.client.flush()
        bus = await held.enter_async_context(connect(nats_url, "gateway", "test", prefix))
        reader = await held.enter_async_context(read.connect(database))
        commands = Commands(bus, system, reader.shards, timeout_s=2.0, patience_s=0.5)
        waiting, stop = Waiting(bus, reader), asyncio.Event()
        intake = Intake(commands, waiting, reader, stop)
        parts = {"reader": reader, "commands": commands, "bus": bus, "clock": system, "times": Times()}
        group = await held.enter_async_context(asyncio.TaskGroup())
        endpoint = Endpoint(bus, intake, group)
        await endpoint.open()
        await bus.client.flush()
        yield Stage(App(intake, parts, "9.9"), owner, bus, waiting, stop)
        endpoint.close()


@pytest.fixture(params=["short way", "routes"])
def http(request: pytest.FixtureRequest, stage: Stage) -> Ask:
    """Asks the application; what it answers must not depend on the way through it."""
    app = stage.app if request.param == "short way" else stage.app.litestar

    async def asked(*arguments: Any, **more: Any) -> Heard:
        return await ask(app, *arguments, **more)

    return asked


# -- submitting -----------------------------------------------------------------------------------------------------


async def test_a_job_is_answered_once_it_is_committed(stage: Stage, http: Ask) -> None:
    heard = await http("POST", "/jobs", JOB, JSON)
    (command,) = stage.owner.commands
    assert isinstance(command, SubmitJob)
    assert (heard.status, heard.headers["content-type"]) == (200, "application/json")
    assert heard.document == {
        "id": command.job,
        "createdBy": {"username": "guest"},
        "name": "j",
        "state": "SCHEDULED",
        "createdAt": "2026-03-01T12:00:00Z",
        "startedAt": "2026-03-01T12:00:00Z",
        "position": 1,
        "taskCount": 1,
    }
    assert is_id(command.job)
    assert stage.owner.shards == [ids.shard_of(command.job, SHARDS)]
    assert stage.owner.messages == [command.job]
    assert (command.user, command.key, command.digest) == ("guest", None, None)


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "text/yaml",
        "application/x-yaml",
        "TEXT/X-YAML",
    ],
)
async def test_content_types_are_read_with_tolerance(http: Ask, kind: str) -> None:
    assert (await http("POST", "/jobs", JOB, [("Content-Type", kind)])).status == 200


async def test_a_body_may_come_in_pieces(http: Ask) -> None:
    assert (await http("POST", "/jobs", [JOB[:10], b"", JOB[10:]], JSON)).status == 200


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (JOB, [], 400, "missing content type"),
        (JOB, [("Content-Type", "")], 400, "missing content type"),
        (JOB, [("Content-Type", "text/plain")], 400, "unknown content type: text/plain"),
        (b"", JSON, 400, "EOF"),
        (b"{", JSON, 400, "json: "),
        (b"[1", YAML, 400, "yaml: "),
        (b'{"name":"j","tasks":[{"name":"t","imge":"x"}]}', JSON, 400, 'json: unknown field "imge" (tasks[0].imge'),
        (b"{}", JSON, 400, "Key: 'Job.Name'"),
        (b'{"name":"j","wait":{"timeout":"x"},"tasks":[{"name":"t"}]}', JSON, 400, 'time: invalid duration "x"'),
        (b"\x00", JSON, 400, "json: "),
        (b"[" * 100_000, YAML, 400, ""),
        (b" " * (BODY_MAX + 1), JSON, 413, "Request Entity Too Large"),
        ([b" " * 400_000] * 2, JSON, 413, "Request Entity Too Large"),
        (JOB, [*JSON, ("Content-Length", str(BODY_MAX + 1))], 413, "Request Entity Too Large"),
        (JOB, [*JSON, ("Content-Encoding", "gzip")], 400, "Content-Encoding"),
        (JOB, [*JSON, ("Idempotency-Key", "")], 400, "Idempotency-Key"),
        (JOB, [*JSON, ("Idempotency-Key", "k" * 256)], 400, "Idempotency-Key"),
        (JOB, [*JSON, ("Idempotency-Key", "a\tb")], 400, "Idempotency-Key"),
    ],
)
async def test_what_is_refused_reaches_nobody(
    stage: Stage, http: Ask, body: Any, headers: list[tuple[str, str]], status: int, message: str
) -> None:
    heard = await http("POST", "/jobs", body, headers)
    assert (heard.status, heard.headers["content-type"]) == (status, "application/json")
    assert heard.message.startswith(message)
    assert stage.owner.commands == []


async def test_a_key_places_a_job_and_carries_the_hash_of_its_body(stage: Stage, http: Ask) -> None:
    earlier = ids.new(AT)
    stage.owner.answers = lambda command: committed(earlier)
    heard = await http("POST", "/jobs", JOB, [*JSON, ("Idempotency-Key", "the key")])
    (command,) = stage.owner.commands
    assert isinstance(command, SubmitJob)
    assert heard.document["id"] == earlier
    assert (command.key, command.digest) == ("the key", blake2b(JOB, digest_size=16).hexdigest())
    assert ids.byte_of(command.job) == ids.byte_for("guest", "the key")


@pytest.mark.parametrize(
    ("code", "status"), [("conflict", 409), ("invalid", 400), ("unavailable", 503), ("corrupt", 500), ("something new", 500)]
)
async def test_a_refusal_of_the_owner_has_the_status_of_its_class(stage: Stage, http: Ask, code: str, status: int) -> None:
    stage.owner.answers = lambda command: Answer(code=code, message="why")
    heard = await http("POST", "/jobs", JOB, JSON)
    assert (heard.status, heard.message) == (status, "why")


async def test_without_an_answer_the_outcome_is_unknown(stage: Stage, http: Ask) -> None:
    stage.owner.answers = lambda command: None
    heard = await http("POST", "/jobs", JOB, JSON)
    assert heard.status == 503
    assert "the outcome is unknown" in heard.message
    assert "Idempotency-Key" in heard.message
    assert heard.headers["retry-after"] == "2"


async def test_without_an_answer_the_same_command_is_sent_again(stage: Stage, http: Ask) -> None:
    stage.owner.answers = lambda command: None if len(stage.owner.commands) < 2 else committed(command.job)
    assert (await http("POST", "/jobs", JOB, JSON)).status == 200
    assert len(set(stage.owner.messages)) == 1
    assert stage.owner.commands[0] == stage.owner.commands[1]


async def test_pages_of_other_sites_change_nothing(stage: Stage) -> None:
    for origin in ("http://evil.test", "null", "http://windlass.test:81"):
        for method, target in (("POST", "/jobs"), ("PUT", f"/jobs/{ids.new(AT)}/cancel")):
            assert (await ask(stage.app, method, target, JOB, [*JSON, ("Origin", origin)])).status == 403
    assert stage.owner.commands == []
    assert (await ask(stage.app, "POST", "/jobs", JOB, [*JSON, ("Origin", "http://windlass.test")])).status == 200


async def test_a_client_that_leaves_before_its_body_is_complete_is_forgotten(stage: Stage) -> None:
    events = [{"type": "http.request", "body": JOB[:5], "more_body": True}, {"type": "http.disconnect"}]
    said: list[Any] = []

    async def receive() -> Any:
        return events.pop(0)

    async def send(event: Any) -> None:
        said.append(event)

    scope = {"type": "http", "method": "POST", "path": "/jobs", "headers": [(b"content-type", b"application/json")]}
    await stage.app(scope, receive, send)
    assert (said, stage.owner.commands) == ([], [])


# -- waiting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELLED"])
async def test_who_waits_is_answered_with_the_whole_job_when_it_ends(stage: Stage, http: Ask, state: str) -> None:
    asked = asyncio.ensure_future(http("POST", "/jobs", WAIT, JSON))
    job = await stage.submitted()
    await stage.owner.tell(job, "RUNNING")
    stage.owner.end(job, state)
    await stage.owner.tell(job, state)
    heard = await asked
    assert heard.status == 200
    assert (heard.document["id"], heard.document["state"], heard.document["execution"]) == (job, state, [])
    assert "wait" not in heard.document


async def test_a_lost_notice_is_made_up_for_by_looking(stage: Stage) -> None:
    asked = asyncio.ensure_future(ask(stage.app, "POST", "/jobs", WAIT, JSON))
    stage.owner.end(await stage.submitted())
    await stage.waiting.look()
    while not asked.done():
        await asyncio.sleep(0.01)
        await stage.waiting.look()
    assert (await asked).document["state"] == "COMPLETED"


async def test_a_job_that_has_ended_with_its_submission_is_not_waited_for(stage: Stage) -> None:
    def at_once(command: JobCommand) -> Answer:
        assert isinstance(command, SubmitJob)
        stage.owner.store(command, "COMPLETED")
        return committed(command.job, "COMPLETED")

    stage.owner.answers = at_once
    assert (await ask(stage.app, "POST", "/jobs", WAIT, JSON)).document["state"] == "COMPLETED"


async def test_with_a_key_the_earlier_job_is_waited_for(stage: Stage) -> None:
    earlier = ids.JobId(ids.new(AT))

    def again(command: JobCommand) -> Answer:
        assert isinstance(command, SubmitJob)
        stage.owner.store(SubmitJob(job=earlier, definition=command.definition), "RUNNING")
        return committed(earlier, "RUNNING")

    stage.owner.answers = again
    asked = asyncio.ensure_future(ask(stage.app, "POST", "/jobs", WAIT, [*JSON, ("Idempotency-Key", "k")]))
    await stage.submitted()
    stage.owner.end(earlier)
    while not asked.done():
        await asyncio.sleep(0.01)
        await stage.waiting.look()
    assert (await asked).document["id"] == earlier


@pytest.mark.parametrize("timeout", ["50ms", "0", "-5s"])
async def test_who_waits_too_long_is_told_so(stage: Stage, http: Ask, timeout: str) -> None:
    heard = await http("POST", "/jobs", WAIT.replace(b"20s", timeout.encode()), JSON)
    assert (heard.status, heard.message) == (408, "timeout waiting for job to complete")


async def test_a_service_that_ends_lets_nobody_wait(stage: Stage, http: Ask) -> None:
    asked = asyncio.ensure_future(http("POST", "/jobs", WAIT, JSON))
    await stage.submitted()
    stage.stop.set()
    heard = await asked
    assert (heard.status, heard.message) == (500, "server shutting down")


async def test_who_hangs_up_waits_no_longer(stage: Stage, http: Ask) -> None:
    left = asyncio.Event()
    asked = asyncio.ensure_future(http("POST", "/jobs", WAIT, JSON, gone=left.wait))
    await stage.submitted()
    left.set()
    heard = await asked
    assert (heard.status, heard.message) == (408, "request cancelled")


# -- other routes ---------------------------------------------------------------------------------------------------


async def test_a_job_is_shown_or_not_found(stage: Stage, http: Ask) -> None:
    job = (await http("POST", "/jobs", JOB, JSON)).document["id"]
    heard = await http("GET", f"/jobs/{job}")
    assert (heard.status, heard.headers["content-type"]) == (200, "application/json")
    assert (heard.document["id"], heard.document["tasks"]) == (job, [{"name": "t", "run": "true"}])
    assert heard.body.endswith(b"}\n")
    missing = await http("GET", f"/jobs/{'0' * 32}")
    assert (missing.status, missing.message) == (404, "job not found")
    assert (await http("GET", "/jobs/x")).message == "job not found: 'x' is no id; an id has 32 hexadecimal digits"


async def test_lists_have_pages(http: Ask) -> None:
    made = [(await http("POST", "/jobs", JOB, JSON)).document["id"] for _ in range(3)]
    heard = await http("GET", "/jobs?page=1&size=2")
    assert [item["id"] for item in heard.document["items"]] == sorted(made, reverse=True)[:2]
    assert {key: heard.document[key] for key in ("number", "size")} == {"number": 1, "size": 2}
    empty = await http("GET", "/jobs?page=99")
    assert (empty.document["items"], empty.document["number"]) == ([], 99)


@pytest.mark.parametrize(
    ("method", "target", "status", "message"),
    [
        ("GET", "/jobs?page=x", 404, "invalid page number: x"),
        ("GET", "/jobs?size=x", 404, "invalid size: x"),
        ("GET", "/jobs?q=x", 400, "search is not built yet; leave q out"),
        ("GET", f"/jobs/{'0' * 32}/log", 404, "job not found"),
        ("GET", f"/tasks/{'0' * 32}", 404, "task not found"),
        ("GET", f"/tasks/{'0' * 32}/log", 404, "task not found"),
        ("GET", "/tasks/x", 404, "task not found: 'x' is no id; an id has 32 hexadecimal digits"),
        ("PUT", "/jobs/x/cancel", 404, "job not found"),
        ("PUT", "/jobs/x/restart", 404, "job not found"),
        ("POST", "/scheduled-jobs", 404, "scheduled jobs are not built yet"),
        ("GET", "/queues", 404, "the list of queues is not built yet"),
        ("POST", "/users", 404, "users are not built yet"),
        ("GET", "/nothing", 404, "Not Found"),
        ("GET", "/", 404, "Not Found"),
        ("DELETE", "/jobs", 405, "Method Not Allowed"),
        ("POST", "/health", 405, "Method Not Allowed"),
    ],
)
async def test_what_is_not_there_is_said_in_one_key(http: Ask, method: str, target: str, status: int, message: str) -> None:
    heard = await http(method, target)
    assert (heard.status, heard.message) == (status, message)


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (Answer(), 200, {"status": "OK"}),
        (Answer(code="not_found", message="no"), 404, {"message": "job not found"}),
        (Answer(code="rejected", message="no"), 400, {"message": "job is not running"}),
    ],
)
async def test_cancelling_is_answered_by_the_owner(stage: Stage, http: Ask, answer: Answer, status: int, body: Any) -> None:
    job = ids.JobId(ids.new(AT))
    stage.owner.answers = lambda command: answer
    heard = await http("PUT", f"/jobs/{job}/cancel")
    assert (heard.status, heard.document) == (status, body)
    (command,) = stage.owner.commands
    assert isinstance(command, CancelJob)
    assert (command.job, bool(command.key)) == (job, True)


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (Answer(), 200, {"status": "OK"}),
        (Answer(code="not_found", message="no"), 404, {"message": "job not found"}),
        (
            Answer(code="rejected", message="job is RUNNING and can not be restarted"),
            400,
            {"message": "job is RUNNING and can not be restarted"},
        ),
    ],
)
async def test_restarting_is_answered_by_the_owner(stage: Stage, http: Ask, answer: Answer, status: int, body: Any) -> None:
    job = ids.JobId(ids.new(AT))
    stage.owner.answers = lambda command: answer
    heard = await http("PUT", f"/jobs/{job}/restart")
    assert (heard.status, heard.document) == (status, body)
    assert stage.owner.commands == [RestartJob(job=job, key=stage.owner.messages[0])]


async def test_health_says_up_and_the_release(http: Ask) -> None:
    heard = await http("GET", "/health")
    assert (heard.status, heard.document) == (200, {"status": "UP", "version": "9.9"})


async def test_counters_and_nodes(http: Ask) -> None:
    assert (await http("GET", "/nodes")).document == []
    assert (await http("GET", "/metrics")).document == {
        "jobs": {"running": 0},
        "tasks": {"running": 0},
        "nodes": {"online": 0, "cpuPercent": 0},
    }


async def test_the_api_describes_itself(stage: Stage, http: Ask) -> None:
    document = json.loads((await http("GET", "/openapi.json")).body)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described >= {
        ("POST", "/jobs"),
        ("GET", "/jobs/{job}"),
        ("PUT", "/jobs/{job}/cancel"),
        ("PUT", "/jobs/{job}/restart"),
        ("GET", "/health"),
    }
    assert set(document["paths"]["/jobs"]["post"]["requestBody"]["content"]) >= {"application/json", "text/yaml"}
    text = json.dumps(document)
    for name in document["components"]["schemas"]:
        assert name == "Message" or f"#/components/schemas/{name}" in text


# -- by NATS --------------------------------------------------------------------------------------------------------


async def request(stage: Stage, payload: bytes) -> Msg:
    """Ask as `nats req api.jobs` does."""
    return await stage.bus.client.request(stage.bus.subjects.request("jobs"), payload, timeout=10)


@pytest.mark.parametrize("payload", [JOB, b" \n" + JOB, b"name: j\ntasks: [{name: t, run: 'true'}]"])
async def test_a_request_by_nats_is_answered_like_one_by_http(stage: Stage, payload: bytes) -> None:
    document = json.loads((await request(stage, payload)).data)
    assert (document["id"], document["state"]) == (stage.owner.commands[0].job, "SCHEDULED")


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b'{"name":"j"}', b"x" * (BODY_MAX + 1)])
async def test_a_refused_request_is_answered_with_a_message(stage: Stage, payload: bytes) -> None:
    answer = await request(stage, payload)
    assert list(json.loads(answer.data)) == ["message"]
    assert answer.headers is not None
    assert answer.headers["Nats-Service-Error-Code"] in ("400", "413")
    assert stage.owner.commands == []


def test_the_subject_of_requests_is_the_documented_one() -> None:
    assert Subjects().request("jobs") == "api.jobs"
