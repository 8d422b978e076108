"""The real `nats` command: a person publishes, asks and listens by hand."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest

from tests.support.stack import Up, up, wait_for

pytestmark = pytest.mark.xdist_group("nats command")


@pytest.fixture(scope="module")
def command() -> str:
    found = shutil.which("nats") or shutil.which("nats", path=str(Path.home() / "go" / "bin"))
    if found is None:
        message = "no `nats` command on PATH or in ~/go/bin; go install github.com/nats-io/natscli/nats@v0.5.0"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="module")
def stack(command: str) -> Iterator[Up]:
    with up("--runtime", "shell") as running:
        yield running


class Person:
    """Somebody with an operator's variables and the `nats` command."""

    def __init__(self, stack: Up, command: str, home: Path) -> None:
        self.stack, self._command = stack, command
        self._environ = {**stack.env(), "HOME": str(home), "XDG_CONFIG_HOME": str(home)}

    def nats(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end."""
        said = subprocess.run(
            [self._command, *arguments], env=self._environ, capture_output=True, text=True, timeout=30, check=False
        )
        assert said.returncode == 0, said
        return said

    def listen(self, subject: str) -> "Listener":
        """Subscribe in the background, until closed."""
        return Listener([self._command, "sub", subject], self._environ)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.stack.url + path, timeout=10) as answer:
            return json.load(answer)

    def ended(self, name: str) -> Any:
        """The job of this name, once it has ended."""

        def find() -> Any:
            for job in self.get("/jobs?size=20")["items"]:
                if job["name"] == name and job["state"] in ("COMPLETED", "FAILED", "CANCELLED"):
                    return job
            return None

        return wait_for(f"job {name} has ended", find, 20)

    def output(self, job: str) -> str:
        """What its tasks printed."""
        return "".join(part["contents"] for part in reversed(self.get(f"/jobs/{job}/log")["items"]))


class Listener:
    """`nats sub` in the background."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for("it listens", lambda: [line for line in self.lines if "Subscribing on" in line])

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)

    def heard(self, words: str) -> None:
        """Wait for these words."""
        wait_for(f"{words!r} is heard in {self.lines}", lambda: words in "".join(self.lines))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="module")
def person(stack: Up, command: str, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return Person(stack, command, tmp_path_factory.mktemp("home"))


@pytest.fixture
def name() -> str:
    """Of a job of the test's own."""
    return f"j{uuid4().hex[:8]}"


def test_pub_jobs_runs_a_job_of_json(person: Person, name: str) -> None:
    person.nats("pub", "jobs", json.dumps({"name": name, "tasks": [{"name": "t", "run": "echo hi"}]}))
    job = person.ended(name)
    assert (job["state"], job["createdBy"]["username"]) == ("COMPLETED", "nats")
    wait_for("its output is stored", lambda: person.output(job["id"]) == "hi\n")


def test_pub_jobs_runs_a_job_of_yaml_with_templates(person: Person, name: str) -> None:
    document = f"name: {name}\noutput: '{{{{ inputs.x }}}}!'\ninputs: {{x: hi}}\ntasks:\n  - {{name: t, run: 'true'}}\n"
    person.nats("pub", "--no-templates", "jobs", document)
    assert person.ended(name)["result"] == "hi!"


def test_pub_pending_runs_a_bare_task(person: Person, name: str) -> None:
    person.nats("pub", "pending", json.dumps({"name": name, "run": "echo hi"}))
    job = person.ended(name)
    assert (job["state"], job["taskCount"]) == ("COMPLETED", 1)


def test_a_message_id_makes_publishing_twice_harmless(person: Person, name: str) -> None:
    document = json.dumps({"name": name, "tasks": [{"name": "t", "run": "true"}]})
    for _ in range(2):
        person.nats("pub", "jobs", document, "-H", f"Nats-Msg-Id:{name}")
    person.nats("pub", "jobs", json.dumps({"name": f"{name}-after", "tasks": [{"name": "t", "run": "true"}]}))
    person.ended(f"{name}-after")
    assert [job["name"] for job in person.get("/jobs?size=20")["items"]].count(name) == 1


def test_pub_jobs_cancel_ends_a_job_and_jobs_restart_takes_it_up_again(person: Person, name: str) -> None:
    document = json.dumps({"name": name, "tasks": [{"name": "t", "run": "sleep 300"}]})
    job = json.loads(person.nats("req", "--raw", "api.jobs", document).stdout)["id"]
    person.nats("pub", "jobs.cancel", job)
    assert person.ended(name)["state"] == "CANCELLED"
    person.nats("pub", "jobs.restart", job)
    wait_for(
        "its second run", lambda: [task["state"] for task in person.get(f"/jobs/{job}")["execution"]] == ["CANCELLED", "RUNNING"]
    )
    person.nats("pub", "jobs.cancel", job)
    assert person.ended(name)["state"] == "CANCELLED"


def test_req_answers_with_the_committed_job_or_says_what_is_wrong(person: Person, name: str) -> None:
    document = json.dumps({"name": name, "tasks": [{"name": "t", "run": "true"}]})
    summary = json.loads(person.nats("req", "--raw", "api.jobs", document).stdout)
    assert summary["name"] == name
    assert person.get(f"/jobs/{summary['id']}")["id"] == summary["id"]
    refusal = json.loads(person.nats("req", "--raw", "api.jobs", json.dumps({"name": name, "tsks": []})).stdout)
    assert list(refusal) == ["message"]
    assert "tsks" in refusal["message"]


def test_sub_shows_a_live_system(person: Person, name: str) -> None:
    events, logs = person.listen("events.>"), person.listen("logs.>")
    try:
        person.nats("pub", "jobs", json.dumps({"name": name, "tasks": [{"name": "t", "run": "echo look at me"}]}))
        job = person.ended(name)["id"]
        events.heard(f"events.job.{job}")
        events.heard("COMPLETED")
        logs.heard("look at me")
        logs.heard(job)
    finally:
        events.close()
        logs.close()


def test_rubbish_goes_to_the_quarantine_and_the_next_message_runs(person: Person, name: str) -> None:
    mark = f"rubbish-{name}"
    person.nats("pub", "jobs", f"{mark}: [", "-H", "Who:me")
    person.nats("pub", "jobs", json.dumps({"name": name, "tasks": [{"name": "t", "run": "true"}]}))
    assert person.ended(name)["state"] == "COMPLETED"

    def listed() -> list[dict[str, Any]]:
        return list(json.loads(person.stack.run("quarantine", "list", "--json").stdout))

    def shown(identifier: str) -> dict[str, Any]:
        return dict(json.loads(person.stack.run("quarantine", "show", identifier, "--json").stdout))

    entry = wait_for("it is listed", lambda: [entry for entry in listed() if shown(entry["id"]).get("payload") == f"{mark}: ["])[
        0
    ]
    assert (entry["subject"], entry["bytes"]) == ("jobs", len(mark) + 3)
    assert shown(entry["id"])["headers"] == {"Who": "me"}
    table, whole = person.stack.run("quarantine", "list").stdout, person.stack.run("quarantine", "show", entry["id"]).stdout
    assert [line for line in table.splitlines() if line.startswith(entry["id"]) and " jobs " in line]
    assert f"{mark}: [" in whole
    assert entry["reason"].splitlines()[0] in whole
    assert person.stack.run("quarantine", "drop", entry["id"]).returncode == 0
    assert entry["id"] not in {left["id"] for left in listed()}
    again = person.stack.run("quarantine", "drop", entry["id"])
    assert again.returncode == 1
    assert "windlass quarantine list" in again.stderr
