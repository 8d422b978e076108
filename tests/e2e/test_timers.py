"""Time kept by real processes: delays, pauses and deadlines, with schedulers that die and a worker that freezes."""

import json
import os
import signal
import time
import urllib.request
from datetime import datetime
from typing import Any

import psycopg

from tests.support.stack import Up, up, wait_for
from windlass.coordinator.job.waits import DEADLINE_GRACE_S

LATER_S = 60.0
"""A deadline for the machine's sake."""


def ask(stack: Up, method: str, path: str, body: Any = None) -> Any:
    """A request to the API."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(stack.url + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def submit(stack: Up, **job: Any) -> str:
    """A job of one task, unless it says otherwise."""
    body = {"name": "timed", "tasks": [{"name": "t", "run": "true"}], **job}
    return str(ask(stack, "POST", "/jobs", body)["id"])


def until_state(stack: Up, job: str, state: str) -> Any:
    """The job, once it is in that state."""

    def find() -> Any:
        found = ask(stack, "GET", f"/jobs/{job}")
        return found if found["state"] == state else None

    return wait_for(f"{job} is {state}", find, LATER_S)


def seconds(begin: str, end: str) -> float:
    """From one of the API's times to another."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def test_a_job_a_retry_and_a_cancelled_wait() -> None:
    with up("--runtime", "shell") as stack:
        later = submit(stack, delay="1500ms")
        never = submit(stack, runAt="2100-01-01T00:00:00Z")
        script = 'test "$WINDLASS_ATTEMPT" = 3'
        patient = submit(stack, tasks=[{"name": "t", "run": script, "retry": {"limit": 2, "initialDelay": "1s"}}])

        waiting = ask(stack, "GET", f"/jobs/{later}")
        assert (waiting["state"], waiting["position"], waiting["delay"]) == ("PENDING", 0, "1500ms")
        assert ask(stack, "GET", f"/jobs/{never}")["runAt"] == "2100-01-01T00:00:00Z"
        done = until_state(stack, later, "COMPLETED")
        assert seconds(done["createdAt"], done["startedAt"]) >= 1.5

        done = until_state(stack, patient, "COMPLETED")
        first, second, third = done["execution"]
        assert [row["state"] for row in done["execution"]] == ["FAILED", "FAILED", "COMPLETED"]
        assert first["retry"] == {"limit": 2, "delay": "1s"}
        assert third["retry"]["attempts"] == 2
        assert seconds(first["failedAt"], second["scheduledAt"]) >= 1.0
        assert seconds(second["failedAt"], third["scheduledAt"]) >= 2.0

        assert ask(stack, "PUT", f"/jobs/{never}/cancel") == {"status": "OK"}
        assert ask(stack, "GET", f"/jobs/{never}")["state"] == "CANCELLED"
        with psycopg.connect(stack.env("scheduler")["WINDLASS_POSTGRES_DSN"]) as connection:
            wait_for("no timer is left", lambda: not connection.execute("SELECT FROM windlass.timers").fetchall())
        with urllib.request.urlopen(f"{stack.health_url('scheduler-1')}/metrics", timeout=5) as answer:
            metrics = answer.read().decode()
        assert 'windlass_timers_fired_total{kind="retry"} 2.0' in metrics
        with urllib.request.urlopen(f"{stack.health_url('scheduler-1')}/ready", timeout=5) as answer:
            assert json.load(answer)["status"] == "UP"
        assert "scheduler-1" in {service["instance"] for service in stack.state["services"]}


def test_a_frozen_worker_does_not_keep_a_task_beyond_its_deadline() -> None:
    """With the long lease of the default profile, which would let it wait for a minute."""
    with up("--runtime", "shell", environ={"WINDLASS_PROFILE": "default"}) as stack:
        job = submit(stack, tasks=[{"name": "t", "run": "sleep 600", "timeout": "1s"}])
        until_state(stack, job, "RUNNING")
        pid = stack.kill("worker-1", signal.SIGSTOP)
        try:
            done = until_state(stack, job, "FAILED")
        finally:
            os.kill(pid, signal.SIGCONT)
        (row,) = done["execution"]
        assert "context deadline exceeded" in row["error"]
        assert 1.0 + DEADLINE_GRACE_S <= seconds(row["startedAt"], row["failedAt"]) < 30
        # It goes on, is told to stop, and has room for the next.
        assert until_state(stack, submit(stack), "COMPLETED")["state"] == "COMPLETED"
        with psycopg.connect(stack.env("coordinator")["WINDLASS_POSTGRES_DSN"]) as connection:
            stopping = "SELECT FROM windlass.tasks WHERE stopping <> ''"
            wait_for("the stop is confirmed", lambda: not connection.execute(stopping).fetchall(), LATER_S)


def test_of_two_schedulers_one_is_killed_and_every_timer_has_its_effect_once() -> None:
    with up("--runtime", "shell", "--schedulers", "2", "--workers", "0") as stack:
        skipped = [{"name": "t", "run": "true", "if": "false"}]
        started = time.monotonic()
        jobs = [submit(stack, delay=f"{2000 + 10 * number}ms", tasks=skipped) for number in range(200)]
        wait_for("the first are due", lambda: time.monotonic() - started > 2.5)
        stack.kill("scheduler-1")

        def ended() -> bool:
            return int(ask(stack, "GET", "/jobs")["totalItems"]) == 200 and _completed() == 200

        with psycopg.connect(stack.env("coordinator")["WINDLASS_POSTGRES_DSN"], autocommit=True) as connection:

            def _completed() -> int:
                row = connection.execute("SELECT count(*) FROM windlass.jobs WHERE state = 'COMPLETED'").fetchone()
                return int(row[0]) if row else 0

            wait_for("every job ends", ended, LATER_S)
            rows = connection.execute(
                "SELECT stream, type, count(*) FROM windlass.events GROUP BY stream, type HAVING count(*) > 1"
            ).fetchall()
        assert rows == []
        assert {ask(stack, "GET", f"/jobs/{job}")["state"] for job in jobs[::20]} == {"COMPLETED"}
