"""Two hundred jobs of every kind while each service is killed: what is counted in the end, and must be nothing.

Lost: accepted, and not there or not as it must end. Phantom: there, and nobody asked for it. Stuck: not ended. Double: an attempt
that ran twice. Gaps: jobs whose events lack a number. Missing, disordered: calls of webhooks. When the stack ends, its
projections are compared with the log.
"""

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from tests.faults.test_survival import ENDED, LATER_S, executions
from tests.support.receiver import Receiver, receiver
from tests.support.stack import Up, up, wait_for

JOBS = 200
KILLED = ("coordinator-1", "worker-1", "scheduler-1", "webhooks-1", "gateway-1", "coordinator-2", "worker-2")
EVERY_S = 1.5
"""From one death to the next."""
WAYS = 7


class Asked(NamedTuple):
    """A job, how it must end, how many rows it has then, and where it is told of."""

    document: dict[str, Any]
    state: str
    rows: int
    told: str


def mixed(written: Path, them: Receiver) -> Iterator[Asked]:
    """Single, in a chain, side by side, over a list, as a job below, with retries, with failures; half of them with a webhook."""

    def step(name: str, pause: str = "0.05", **fields: Any) -> dict[str, Any]:
        run = f'echo "$WINDLASS_TASK_KEY $WINDLASS_ATTEMPT" >> {written}; sleep {pause}'
        return {"name": name, "run": run, **fields}

    def failing(name: str, **fields: Any) -> dict[str, Any]:
        made = step(name, "0", **fields)
        return {**made, "run": f"{made['run']}; exit 3"}

    for number in range(JOBS):
        tasks: list[dict[str, Any]]
        state = "COMPLETED"
        match number % WAYS:
            case 0:
                tasks, rows = [step("one")], 1
            case 1:
                tasks, rows = [step("a"), step("b", delay="100ms"), step("c")], 3
            case 2:
                tasks, rows = [{"name": "p", "parallel": {"tasks": [step("a"), step("b"), step("c")]}}, step("d")], 5
            case 3:
                each = {"list": "[1, 2, 3, 4]", "concurrency": 2, "task": step("n{{ item.value }}")}
                tasks, rows = [{"name": "e", "each": each}, step("d")], 6
            case 4:
                tasks, rows = [{"name": "s", "subjob": {"name": f"below {number}", "tasks": [step("a"), step("b")]}}], 1
            case 5:
                tasks, rows = [failing("r", retry={"limit": 2, "delay": "200ms"}, onError="ignore"), step("d")], 4
            case _:
                tasks, rows, state = [step("a"), failing("f")], 2, "FAILED"
        document: dict[str, Any] = {"name": f"job {number}", "tasks": tasks}
        path = f"/job-{number}" if number % 2 else ""
        if path:
            document["webhooks"] = [{"url": them.url + path}]
        yield Asked(document, state, rows, path)


def accepted(stack: Up, asked: Asked) -> tuple[str, float]:
    """The id of a job, submitted under one key until somebody answers; and how long that took."""
    began = time.monotonic()
    body = json.dumps(asked.document).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": asked.document["name"]}

    def answer() -> str | None:
        request = urllib.request.Request(f"{stack.url}/jobs", body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=15) as found:
                return str(json.load(found)["id"])
        except urllib.error.HTTPError as error:
            if error.code not in (429, 503):
                raise
        except OSError:
            pass
        return None

    job = str(wait_for(f"{asked.document['name']} to be accepted", answer, LATER_S))
    return job, time.monotonic() - began


@pytest.mark.timeout(400)
def test_two_hundred_jobs_of_every_kind_survive_the_death_of_each_service(tmp_path: Path) -> None:
    written = tmp_path / "executions"
    written.touch()
    options = ("--coordinators", "2", "--schedulers", "2", "--webhooks", "2", "--workers", "2", "--queue", "default:8")
    with receiver() as them, up("--runtime", "shell", *options) as stack:
        done = threading.Event()

        def kill() -> None:
            for name in KILLED:
                if done.wait(EVERY_S):
                    return
                stack.kill(name, signal.SIGKILL)

        killing = threading.Thread(target=kill)
        killing.start()
        try:
            began = time.monotonic()
            jobs, took = {}, []
            for asked in mixed(written, them):
                job, took_s = accepted(stack, asked)
                jobs[job] = asked
                took.append(took_s)
            wait_for("all to end", lambda: not _unended(stack, list(jobs)), LATER_S)
        finally:
            done.set()
            killing.join(60)
        wait_for("all webhooks to be told", lambda: all(_is_told(them, asked) for asked in jobs.values()), LATER_S)
        counts = _counted(stack, jobs, them, executions(written))
        counts["submitted"] = len(jobs)
        told = ", ".join(f"{name} {counts[name]}" for name in sorted(counts))
        print(f"{told}; slowest accepted after {max(took):.1f} s, all in {time.monotonic() - began:.0f} s")
        must_be_zero = ("lost", "phantom", "stuck", "double", "gaps", "missing", "disordered")
        assert [name for name in must_be_zero if counts[name]] == []


def _unended(stack: Up, jobs: list[str]) -> list[str]:
    with psycopg.connect(stack.env("coordinator")["WINDLASS_POSTGRES_DSN"]) as connection:
        rows = connection.execute("SELECT id, state FROM windlass.jobs WHERE id = ANY (%s::uuid[])", (jobs,)).fetchall()
    return [str(job) for job, state in rows if state not in ENDED]


def _is_told(them: Receiver, asked: Asked) -> bool:
    return not asked.told or them.states(asked.told)[-1:] == [asked.state]


def _counted(stack: Up, jobs: dict[str, Asked], them: Receiver, ran: Counter[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    with psycopg.connect(stack.env("coordinator")["WINDLASS_POSTGRES_DSN"]) as connection:
        connection.execute("SET search_path TO windlass")
        rows = connection.execute(
            "SELECT replace(id::text, '-', ''), state, parent_job, definition->>'name' FROM jobs"
        ).fetchall()
        tasks = Counter(job for (job,) in connection.execute("SELECT replace(job::text, '-', '') FROM tasks").fetchall())
        gaps = connection.execute(
            "SELECT count(*) FROM (SELECT max(version) - count(*) AS missing FROM events GROUP BY stream) AS s WHERE missing <> 0"
        ).fetchone()
    counts["gaps"] = gaps[0] if gaps else 0
    found = {job: state for job, state, _, _ in rows}
    for job, asked in jobs.items():
        state = found.get(job)
        counts[str(state).lower()] += 1
        counts["stuck"] += state not in ENDED
        counts["lost"] += state != asked.state or tasks[job] != asked.rows
        heard = them.states(asked.told) if asked.told else []
        counts["missing"] += bool(asked.told) and heard[-1:] != [asked.state]
        order = [state for at, state in enumerate(heard) if state not in heard[:at]]
        counts["disordered"] += order != sorted(order, key=["PENDING", "RUNNING", "COMPLETED", "FAILED"].index)
    below = sum(parent is not None for _, _, parent, _ in rows)
    counts["phantom"] = len(rows) - len(jobs) - sum(asked.document["tasks"][0]["name"] == "s" for asked in jobs.values())
    counts["below"] = below
    counts["double"] = sum(times > 1 for times in ran.values())
    counts["ran"] = ran.total()
    return counts
