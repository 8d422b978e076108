"""What survives which death: real processes, the fast profile, and a file in which each execution proves itself."""

import asyncio
import json
import os
import shutil
import signal
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.stack import Up, up, wait_for
from windlass.bus.connection import connect
from windlass.messages.envelope import open_envelope
from windlass.settings import PROFILES

ENDED = {"COMPLETED", "FAILED", "CANCELLED"}
LATER_S = 90.0
"""A deadline for the machine's sake; the promises are far shorter."""


def ask(stack: Up, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(stack.url + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def submit(stack: Up, name: str, *scripts: str) -> str:
    """Submit, again with the same key where nobody answers: that makes one job."""
    tasks = [{"name": f"t{number}", "run": script} for number, script in enumerate(scripts)]
    body = json.dumps({"name": name, "tasks": tasks}).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": name}
    request = urllib.request.Request(f"{stack.url}/jobs", body, headers, method="POST")

    def accepted() -> str | None:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return str(json.load(answer)["id"])
        except urllib.error.HTTPError as error:
            if error.code not in (429, 503):
                raise
        except OSError:
            pass
        return None

    return str(wait_for(f"{name} to be accepted", accepted, LATER_S))


def states(stack: Up, jobs: list[str]) -> dict[str, str]:
    return {job: str(ask(stack, "GET", f"/jobs/{job}")["state"]) for job in jobs}


def until_ended(stack: Up, jobs: list[str]) -> dict[str, str]:
    def ended() -> dict[str, str] | None:
        try:
            found = states(stack, jobs)
        except OSError:
            return None
        return found if set(found.values()) <= ENDED else None

    found = wait_for("every job to end", ended, LATER_S)
    assert isinstance(found, dict)
    return found


def proof(path: Path, pause: str) -> str:
    """A script that writes down which execution it is when it starts."""
    return f'echo "$WINDLASS_TASK_KEY $WINDLASS_ATTEMPT" >> {path}; sleep {pause}'


def executions(path: Path) -> Counter[str]:
    return Counter(path.read_text().split("\n")[:-1])


def test_fifty_jobs_survive_the_death_of_a_coordinator_and_of_a_worker(tmp_path: Path) -> None:
    written = tmp_path / "executions"
    with up("--runtime", "shell", "--coordinators", "2", "--workers", "2") as stack:
        jobs = []
        for number in range(50):
            jobs.append(submit(stack, f"job-{number}", proof(written, "0.2"), proof(written, "0.1")))
            if number == 15:
                stack.kill("coordinator-1")
            if number == 30:
                stack.kill("worker-1")
        assert set(until_ended(stack, jobs).values()) == {"COMPLETED"}
        assert ask(stack, "GET", "/jobs")["totalItems"] == 50
    ran = executions(written)
    assert [execution for execution, times in ran.items() if times > 1] == []
    assert len({execution.split()[0] for execution in ran}) == 100


def test_the_successor_of_a_killed_worker_gives_its_task_up_long_before_the_lease_ends(tmp_path: Path) -> None:
    written = tmp_path / "executions"
    with up("--runtime", "shell", environ={"WINDLASS_PROFILE": "default"}) as stack:
        job = submit(stack, "once-more", proof(written, "1"))
        wait_for("the task to run", written.exists, LATER_S)
        stack.kill("worker-1")

        def ended() -> bool:
            return states(stack, [job]) == {job: "COMPLETED"}

        wait_for("it to run again, well within a lease of 60 s", ended, PROFILES["default"].lease_s / 2)
        (task,) = ask(stack, "GET", f"/jobs/{job}")["execution"]
        assert task["redelivered"] == 1
    assert [execution.split()[1] for execution in executions(written)] == ["1", "2"]


def test_a_frozen_coordinator_loses_its_shards_and_changes_nothing_when_it_goes_on(tmp_path: Path) -> None:
    written = tmp_path / "executions"
    with up("--runtime", "shell", "--coordinators", "2") as stack:
        pid = stack.kill("coordinator-1", signal.SIGSTOP)
        try:
            # Sixteen keys reach every shard, those of the frozen one included.
            jobs = [submit(stack, f"while-frozen-{number}", proof(written, "0")) for number in range(16)]
            assert set(until_ended(stack, jobs).values()) == {"COMPLETED"}
        finally:
            os.kill(pid, signal.SIGCONT)
        jobs += [submit(stack, f"after-{number}", proof(written, "0")) for number in range(16)]
        assert set(until_ended(stack, jobs).values()) == {"COMPLETED"}
    assert set(executions(written).values()) == {1}


def test_a_broker_that_comes_back_empty_loses_no_job(tmp_path: Path) -> None:
    written = tmp_path / "executions"
    with up("--runtime", "shell") as stack:
        jobs = [submit(stack, f"job-{number}", proof(written, "0.3"), proof(written, "0")) for number in range(10)]
        store = Path(stack.state["data"]) / "nats" / "store"
        assert store.is_dir()
        stack.kill("nats")
        shutil.rmtree(store, ignore_errors=True)
        jobs += [submit(stack, f"later-{number}", proof(written, "0")) for number in range(5)]
        assert set(until_ended(stack, jobs).values()) == {"COMPLETED"}
    assert [execution for execution, times in executions(written).items() if times > 1] == []


def test_a_report_published_again_changes_nothing_and_is_counted(tmp_path: Path) -> None:
    with up("--runtime", "shell") as stack:
        captured: list[tuple[str, bytes]] = []

        async def capture_and_repeat() -> str:
            async with connect(stack.env()["NATS_URL"], "operator", "test") as bus:

                async def keep(message: Any) -> None:
                    captured.append((message.subject, message.data))

                await bus.subscribe("completed.>", keep)
                job = await asyncio.to_thread(submit, stack, "once", "true")
                await asyncio.to_thread(until_ended, stack, [job])
                subject, payload = captured[0]
                assert open_envelope(payload).type == "task.complete"
                for place in (subject, "completed"):
                    await bus.publish(place, payload)
                return job

        job = asyncio.run(capture_and_repeat())
        before = ask(stack, "GET", f"/jobs/{job}")

        def ignored() -> bool:
            with urllib.request.urlopen(stack.health_url("coordinator-1") + "/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
            return sum(float(line.split()[-1]) for line in lines if line.startswith("windlass_reports_ignored_total{")) >= 2

        wait_for("both repeats to be counted", ignored, LATER_S)
        assert ask(stack, "GET", f"/jobs/{job}") == before


def test_cancelling_kills_what_runs(tmp_path: Path) -> None:
    with up("--runtime", "shell") as stack:
        pid_file = tmp_path / "pid"
        job = submit(stack, "long", f"setsid sh -c 'echo $$ > {pid_file}; exec sleep 600' & wait")
        pid = int(wait_for("the task to run", lambda: pid_file.exists() and pid_file.read_text().strip(), LATER_S))
        assert ask(stack, "PUT", f"/jobs/{job}/cancel") == {"status": "OK"}
        wait_for("its process to be gone", lambda: not Path(f"/proc/{pid}").exists() or _is_dead(pid), LATER_S)
        assert states(stack, [job]) == {job: "CANCELLED"}


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
