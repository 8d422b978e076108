"""A trace goes with a job: from the request through every message and event to its programs, and back with their reports."""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.faults.test_survival import LATER_S, ask, until_ended
from tests.support.stack import Up, up, wait_for
from windlass.bus.connection import connect

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
SAY = 'echo -n "${TRACEPARENT-none}" > $TORK_OUTPUT'
pytestmark = pytest.mark.xdist_group("trace")


@pytest.fixture(scope="module")
def shared() -> Iterator[Up]:
    with up("--runtime", "shell") as running:
        yield running


def _document(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "tasks": [{"name": "a", "run": SAY, **fields}, {"name": "b", "run": SAY, "retry": {"limit": 1}}]}


def _submit(stack: Up, document: dict[str, Any], trace: str | None) -> str:
    headers = {"Content-Type": "application/json", **({"traceparent": trace} if trace else {})}
    request = urllib.request.Request(f"{stack.url}/jobs", json.dumps(document).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["id"])


def _told(stack: Up, job: str) -> list[str]:
    """What each task was told."""
    assert until_ended(stack, [job]) == {job: "COMPLETED"}
    return [str(task.get("result")) for task in ask(stack, "GET", f"/jobs/{job}")["execution"]]


def _recorded(stack: Up, job: str) -> set[str | None]:
    """The traces of a job's events."""
    with psycopg.connect(stack.env("gateway")["WINDLASS_POSTGRES_DSN"]) as connection:
        query = "SELECT metadata->>'trace' FROM windlass.events WHERE kind = 'job' AND stream = %s::uuid"
        return {row[0] for row in connection.execute(query, (job,))}


def test_a_trace_reaches_every_program_and_every_event(shared: Up) -> None:
    job = _submit(shared, _document("traced"), TRACE)
    assert _told(shared, job) == [TRACE, TRACE]
    assert _recorded(shared, job) == {TRACE}


@pytest.mark.parametrize("sent", [None, "rubbish", TRACE.upper(), "00-" + "0" * 32 + TRACE[35:], TRACE + "-more"])
def test_what_is_no_trace_starts_none(shared: Up, sent: str | None) -> None:
    job = _submit(shared, _document("untraced"), sent)
    assert _told(shared, job) == ["none", "none"]
    assert _recorded(shared, job) == {None}


def test_a_job_may_have_a_trace_of_its_own_for_a_task(shared: Up) -> None:
    job = _submit(shared, _document("its own", env={"TRACEPARENT": OTHER}), TRACE)
    assert _told(shared, job) == [OTHER, TRACE]


def test_what_is_published_by_hand_may_be_part_of_a_trace(shared: Up) -> None:
    async def publish() -> None:
        async with connect(shared.env()["NATS_URL"], "operator", "test") as bus:
            await bus.publish(bus.subjects.personal()[0], json.dumps(_document("by hand")).encode(), {"traceparent": TRACE})

    asyncio.run(publish())

    def found() -> str | None:
        return next((str(job["id"]) for job in ask(shared, "GET", "/jobs?size=20")["items"] if job["name"] == "by hand"), None)

    job = str(wait_for("the job is there", found, LATER_S))
    assert _told(shared, job) == [TRACE, TRACE]


def test_a_task_that_runs_again_is_part_of_the_same_trace(shared: Up) -> None:
    again = 'if [ "$WINDLASS_ATTEMPT" = 1 ]; then exit 1; fi; ' + SAY
    document = {"name": "again", "tasks": [{"name": "a", "run": again, "retry": {"limit": 1, "delay": "200ms"}}]}
    job = _submit(shared, document, TRACE)
    assert _told(shared, job)[-1] == TRACE
