"""Every example runs as it stands; of those rebuilt after Tork's, all that need nothing from elsewhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from tests.contract.runtimes import need_engine
from tests.support.stack import Up, up
from windlass.documents.reading import decode_job, read_job
from windlass.messages.jobs import Task, every
from windlass.worker.runtime import places

EXAMPLES = Path(__file__).parents[2] / "examples"
RESULTS = {
    "hello": "Hello, world!",
    "chain": "1024",
    "later": "answered at try 3",
    "retry": "worked at try 2",
    "webhooks": "told on port 9000",
    "image": "alpine 3.18.3",
    "sidecar": "served from beside",
}
pytestmark = pytest.mark.xdist_group("examples")


class Ended(NamedTuple):
    """How a job ends, with how many rows of execution and which result."""

    state: str
    rows: int
    result: str = ""


TORK = {
    "docs_jobs": Ended("COMPLETED", 1, "hello you"),
    "docs_quick_start": Ended("COMPLETED", 2),
    "docs_rest_api": Ended("COMPLETED", 1, "posted as JSON"),
    "docs_retry": Ended("FAILED", 3),
    "docs_tasks": Ended("COMPLETED", 7, "4 31 27"),
    "each": Ended("COMPLETED", 12, "1 4 9 16"),
    "hello": Ended("COMPLETED", 2, "good morning"),
    "job_defaults": Ended("COMPLETED", 2),
    "job_output": Ended("COMPLETED", 1, "counted 3 lines"),
    "parallel": Ended("COMPLETED", 9),
    "prepost": Ended("COMPLETED", 1),
    "retry": Ended("FAILED", 3),
    "seeds": Ended("COMPLETED", 1),
    "slow": Ended("COMPLETED", 6),
    "subjob": Ended("COMPLETED", 6, "forty-two"),
    "timeout": Ended("FAILED", 1),
}
MORE = ("networks", "sidecars", "registry", "gpus")
"""What needs more than the machine."""
IMAGES = {"", "alpine:3.18.3", "busybox:stable", "python:3-slim", "ubuntu:mantic"}
"""Images that the tests have."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Up]:
    with up("--runtime", "auto") as running:
        yield running


def needs(task: Task) -> set[str]:
    """What a task needs that is in `MORE` or not in `IMAGES`."""
    return {name for name in MORE if getattr(task, name)} | ({program.image for _, program in places(task)} - IMAGES)


def simple() -> dict[str, Path]:
    """Those after Tork's that need nothing that tests do not have."""
    files = sorted((EXAMPLES / "tork").iterdir())
    return {path.stem: path for path in files if not any(map(needs, every(decode_job(path.read_bytes()).job.tasks)))}


def test_each_one_is_known_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == set(RESULTS)
    assert set(simple()) == set(TORK)


@pytest.mark.parametrize("name", RESULTS)
def test_it_ends_with_its_result(stack: Up, name: str) -> None:
    path = EXAMPLES / f"{name}.yaml"
    if any(task.image for task in read_job(path.read_bytes()).job.tasks):
        need_engine()
    said = stack.run("run", str(path))
    assert (said.returncode, said.stdout) == (0, f"{RESULTS[name]}\n"), said.stderr


@pytest.mark.parametrize("name", TORK)
def test_one_after_torks_ends_as_there(stack: Up, name: str) -> None:
    path = simple()[name]
    need_engine()
    said = stack.run("run", "--json", str(path))
    job = msgspec.json.decode(said.stdout)
    ended = Ended(job["state"], len(job["execution"]), job.get("result", ""))
    assert ended == TORK[name], json.dumps(job, indent=1)
