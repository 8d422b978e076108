"""Several coordinators: all carry load, and restarting them one after the other refuses nothing and loses nothing."""

import signal
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults.test_survival import LATER_S, ask, executions, proof, until_ended
from tests.support.stack import Up, up, wait_for


def _shares(stack: Up) -> dict[Any, int]:
    """How many shards each coordinator owns; None is nobody."""
    return dict(Counter(shard["owner"] for shard in stack.state["shards"]))


def _decided(stack: Up, instance: str) -> float:
    with urllib.request.urlopen(stack.health_url(instance) + "/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("windlass_decisions_total{"))


def _restart(stack: Up, name: str) -> None:
    pid = stack.kill(name, signal.SIGTERM)
    wait_for(f"{name} is another process", lambda: stack.pid_of(name) not in (0, pid), LATER_S)
    wait_for("both own a share again", lambda: set(_shares(stack).values()) == {8}, LATER_S)


def test_four_coordinators_own_four_shards_each_and_all_of_them_decide() -> None:
    names = [f"coordinator-{number}" for number in range(1, 5)]
    with up("--runtime", "shell", "--coordinators", "4", "--queue", "default:4") as stack:
        wait_for("each owns four", lambda: _shares(stack) == dict.fromkeys(names, 4), LATER_S)
        jobs = [str(ask(stack, "POST", "/jobs", {"name": "j", "tasks": [{"name": "t", "run": "true"}]})["id"]) for _ in range(64)]
        assert set(until_ended(stack, jobs).values()) == {"COMPLETED"}
        decided = {name: _decided(stack, name) for name in names}
        assert min(decided.values()) > 0, decided


def test_jobs_that_are_submitted_while_coordinators_are_restarted_one_by_one_all_complete(tmp_path: Path) -> None:
    written = tmp_path / "executions"
    with up("--runtime", "shell", "--coordinators", "2", "--queue", "default:8") as stack:
        wait_for("both own a share", lambda: set(_shares(stack).values()) == {8}, LATER_S)
        jobs: list[str] = []
        slowest = [0.0]
        done = threading.Event()
        failures: list[OSError] = []

        def submit() -> None:
            body = {"name": "j", "tasks": [{"name": "t", "run": proof(written, "0")}]}
            try:
                while not done.is_set():
                    began = time.monotonic()
                    jobs.append(str(ask(stack, "POST", "/jobs", body)["id"]))  # a refusal raises
                    slowest[0] = max(slowest[0], time.monotonic() - began)
            except OSError as error:  # also what HTTP refuses
                failures.append(error)

        submitting = threading.Thread(target=submit)
        submitting.start()
        try:
            for name in ("coordinator-1", "coordinator-2"):
                _restart(stack, name)
                before = len(jobs)
                wait_for("jobs are accepted after that", lambda: len(jobs) > before, LATER_S)  # noqa: B023 called here
        finally:
            done.set()
            submitting.join(60)
        assert failures == []
        print(f"{len(jobs)} jobs, the slowest accepted after {slowest[0]:.2f} s")
        assert set(until_ended(stack, jobs).values()) == {"COMPLETED"}
    assert set(executions(written).values()) == {1}
    assert len(executions(written)) == len(jobs)
