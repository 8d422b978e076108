"""Webhooks of a real stack, to a real receiver on loopback: in order, at least once, whatever dies."""

import json
import signal
import urllib.request
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import psycopg
import pytest

from tests.support.receiver import Held, Receiver, endless, receiver, reset, status
from tests.support.stack import Service, Up, up, wait_for
from windlass.webhooks.signing import keys, sign

pytestmark = [pytest.mark.timeout(180)]
together = pytest.mark.xdist_group("webhooks")

SECRET = "whsec_" + "QUFB" * 8
JOB_STATES = ["PENDING", "RUNNING", "COMPLETED"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Up]:
    """One stack with two instances for the tests that leave it as it is."""
    environ = {"WINDLASS_WEBHOOKS_SECRET": SECRET, "WINDLASS_WEBHOOKS_ATTEMPTS": "2"}
    with up("--runtime", "shell", "--webhooks", "2", environ=environ) as running:
        yield running


@pytest.fixture
def them() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def submit(running: Up, *webhooks: Mapping[str, Any], tasks: int | list[Any] = 1, **fields: Any) -> str:
    """A job with these webhooks; its id."""
    one = {"name": "t", "var": "v", "run": "echo -n made > $TORK_OUTPUT"}
    body = {"name": "told", "tasks": [one] * tasks if isinstance(tasks, int) else tasks, "webhooks": webhooks, **fields}
    request = urllib.request.Request(f"{running.url}/jobs", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["id"])


def rows(running: Up, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    """What the database of a stack says."""
    with psycopg.connect(running.env()["WINDLASS_POSTGRES_DSN"], autocommit=True) as connection:
        connection.execute("SET search_path TO windlass")
        return connection.execute(query.encode(), parameters).fetchall()


def told(them: Receiver, path: str, states: list[str], within_s: float = 60) -> None:
    """Wait until a path was told of these states and no others."""
    try:
        wait_for(f"{path} is told of {states[-1]}", lambda: them.states(path)[-1:] == states[-1:], within_s)
    finally:
        found = [state for state, _ in groupby(them.states(path))]
        assert found == states


def outcomes(running: Up, job: str) -> list[str]:
    """How the deliveries of a job ended, once they have."""
    query = "SELECT state FROM deliveries WHERE job = %s::uuid ORDER BY version, hook"

    def ended() -> list[str]:
        states = [state for (state,) in rows(running, query, job)]
        return [] if "WAITING" in states else states

    return list(wait_for("they have ended", ended, 30))


def page(running: Up, number: int, name: str) -> str:
    """What an instance answers about its health."""
    with urllib.request.urlopen(f"{running.health_url(f'webhooks-{number}')}/{name}", timeout=5) as answer:
        return str(answer.read().decode())


@together
def test_a_job_tells_of_itself_and_its_tasks(shared: Up, them: Receiver) -> None:
    job = submit(
        shared,
        {"url": f"{them.url}/job", "headers": {"X-Made": "{{ tasks.v }}", "X-Name": "{{ job.name }}"}},
        {"url": f"{them.url}/tasks", "event": "task.StateChange"},
        {"url": f"{them.url}/some", "event": "task.StateChange", "if": "task.State == 'COMPLETED' and job.Inputs.a == 'b'"},
        {"url": f"{them.url}/never", "event": "no such event"},
        tasks=2,
        inputs={"a": "b"},
    )
    told(them, "/job", JOB_STATES)
    wait_for("all tasks are told of", lambda: len(them.of("/tasks")) == 6 and len(them.of("/some")) == 2)
    assert them.states("/tasks") == ["SCHEDULED", "RUNNING", "COMPLETED"] * 2
    assert them.states("/some") == ["COMPLETED"] * 2
    assert them.of("/never") == []
    last = them.of("/job")[-1]
    assert (last.json["id"], last.json["inputs"], last.json["taskCount"]) == (job, {"a": "b"}, 2)
    assert [call.headers["x-made"] for call in them.of("/job")] == ["", "", "made"]
    assert last.headers["x-name"] == "told"
    assert last.headers["webhook-signature"] == sign(keys(SECRET), last.id, int(last.headers["webhook-timestamp"]), last.body)
    assert {call.json["jobId"] for call in them.of("/tasks")} == {job}
    assert len({call.id for call in them.calls}) == len(them.calls)
    assert set(outcomes(shared, job)) == {"DELIVERED"}


@together
def test_a_job_below_another_has_webhooks_of_its_own(shared: Up, them: Receiver) -> None:
    deep = {"name": "deep", "var": "v", "run": "echo -n made > $TORK_OUTPUT"}
    hooks = [{"url": f"{them.url}/below", "headers": {"X-By": "{{ job.name }}"}}]  # as in Tork, by the job above
    below = {"name": "below", "tasks": [deep], "webhooks": hooks}
    several = {"name": "each", "each": {"list": "[1, 2]", "task": {"name": "n", "run": "true"}}}
    job = submit(
        shared,
        {"url": f"{them.url}/above"},
        {"url": f"{them.url}/tasks", "event": "task.StateChange"},
        tasks=[{"name": "s", "subjob": below}, several],
    )
    told(them, "/above", JOB_STATES)
    told(them, "/below", JOB_STATES)
    assert {call.headers["x-by"] for call in them.of("/below")} == {"told"}
    assert {call.json["id"] for call in them.of("/above")} == {job}
    assert {call.json["name"] for call in them.of("/below")} == {"below"}
    assert set(outcomes(shared, job)) == {"DELIVERED"}
    ends = [call.json["name"] for call in them.of("/tasks") if call.state == "COMPLETED"]
    assert sorted(ends) == ["each", "n", "n", "s"]


@together
def test_a_failure_is_tried_again_under_the_same_id_and_in_its_place(shared: Up, them: Receiver) -> None:
    them.answers["/job"] = [status(200), status(500), status(200)]
    submit(shared, {"url": f"{them.url}/job"})
    told(them, "/job", JOB_STATES)
    assert them.states("/job") == ["PENDING", "RUNNING", "RUNNING", "COMPLETED"]
    assert [len(list(same)) for _, same in groupby(call.id for call in them.of("/job"))] == [1, 2, 1]


@together
def test_a_receiver_that_hangs_delays_no_other(shared: Up, them: Receiver) -> None:
    them.answers["/slow"] = [slow := Held()]
    with receiver() as quick:
        for _ in range(20):
            submit(shared, {"url": f"{them.url}/slow"}, {"url": f"{them.url}/quick"}, {"url": f"{quick.url}/quick"})
        wait_for("the slow one is called", slow.arrived.is_set)
        wait_for("the quick one has all", lambda: quick.states("/quick").count("COMPLETED") == 20, 30)
        wait_for("its neighbour, too", lambda: them.states("/quick").count("COMPLETED") == 20, 30)
        assert them.states("/slow").count("COMPLETED") == 0
        slow.release.set()
        wait_for("the slow one has all too", lambda: them.states("/slow").count("COMPLETED") == 20, 60)


@together
def test_what_receivers_do_is_on_record(shared: Up, them: Receiver) -> None:
    them.answers |= {"/moved": [status(307, Location=f"{them.url}/inside")], "/endless": [endless], "/gone": [reset]}
    job = submit(
        shared, *[{"url": f"{them.url}{path}", "if": "job.State == 'PENDING'"} for path in ("/moved", "/endless", "/gone")]
    )
    assert outcomes(shared, job) == ["REFUSED", "DELIVERED", "EXHAUSTED"]
    assert them.of("/inside") == []
    query = "SELECT url, number, status FROM delivery_attempts JOIN deliveries ON id = delivery WHERE job = %s::uuid"
    assert sorted((url.rpartition("/")[2], *attempt) for url, *attempt in rows(shared, query, job)) == [
        ("endless", 1, 200), ("gone", 1, None), ("gone", 2, None), ("moved", 1, 307),
    ]  # fmt: skip


@together
def test_the_service_tells_how_it_is(shared: Up, them: Receiver) -> None:
    submit(shared, {"url": f"{them.url}/job"})
    told(them, "/job", JOB_STATES)

    def delivered() -> float:
        lines = [line for number in (1, 2) for line in page(shared, number, "metrics").splitlines()]
        assert sum(line.startswith("windlass_delivery_oldest_seconds ") for line in lines) == 2
        counted = 'windlass_deliveries_total{outcome="delivered"}'
        return sum(float(line.split()[-1]) for line in lines if line.startswith(counted))

    wait_for("the deliveries are counted", lambda: delivered() >= 3)
    for number in (1, 2):
        assert json.loads(page(shared, number, "ready"))["service"] == "webhooks"


def test_whoever_dies_or_freezes_between_call_and_record_is_made_good(them: Receiver) -> None:
    with up("--runtime", "shell") as running:
        them.answers["/killed"] = [killed := Held(), status(200)]
        submit(running, {"url": f"{them.url}/killed"})
        wait_for("it is called", killed.arrived.is_set)
        running.kill("webhooks-1")
        told(them, "/killed", JOB_STATES)
        killed.release.set()
        assert [len(list(same)) for _, same in groupby(call.id for call in them.of("/killed"))] == [2, 1, 1]

        them.answers["/frozen"] = [frozen := Held(), status(200)]
        job = submit(running, {"url": f"{them.url}/frozen"})
        wait_for("it is called", frozen.arrived.is_set)
        running.kill("webhooks-1", signal.SIGSTOP)
        other = Service("webhooks", environ=running.env("webhooks"))
        try:
            told(them, "/frozen", JOB_STATES)
            running.kill("webhooks-1", signal.SIGCONT)
            frozen.release.set()
            submit(running, {"url": f"{them.url}/after"})
            told(them, "/after", JOB_STATES)
            assert outcomes(running, job) == ["DELIVERED"] * 3
            assert [len(list(same)) for _, same in groupby(call.id for call in them.of("/frozen"))] == [2, 1, 1]
        finally:
            code = other.end(signal.SIGTERM)
        assert code == 0, other.said


def test_a_stack_that_is_not_on_loopback_calls_nothing_private(them: Receiver) -> None:
    environ = {"WINDLASS_GATEWAY_ADDRESS": "0.0.0.0:0", "WINDLASS_ALLOW_UNAUTHENTICATED": "true"}
    with up("--runtime", "shell", "--workers", "0", environ=environ) as running:
        assert running.env("webhooks")["WINDLASS_WEBHOOKS_ALLOW_PRIVATE"] == "false"
        job = submit(running, {"url": f"{them.url}/job"})
        assert outcomes(running, job) == ["REFUSED"]
        ((error,),) = rows(running, "SELECT error FROM delivery_attempts")
        assert "WINDLASS_WEBHOOKS_ALLOW_PRIVATE=true" in error
    assert them.calls == []
