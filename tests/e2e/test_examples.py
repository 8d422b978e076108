"""Every example runs as it stands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.runtimes import need_engine
from tests.support.stack import Up, up
from windlass.documents.reading import read_job

EXAMPLES = Path(__file__).parents[2] / "examples"
RESULTS = {
    "hello": "Hello, world!",
    "chain": "1024",
    "later": "answered at try 3",
    "retry": "worked at try 2",
    "webhooks": "told on port 9000",
    "image": "alpine 3.18.3",
}
pytestmark = pytest.mark.xdist_group("examples")


@pytest.fixture(scope="module")
def stack() -> Iterator[Up]:
    with up("--runtime", "auto") as running:
        yield running


def test_each_one_is_known_here() -> None:
    assert {path.stem for path in EXAMPLES.iterdir()} == set(RESULTS)


@pytest.mark.parametrize("name", RESULTS)
def test_it_ends_with_its_result(stack: Up, name: str) -> None:
    path = EXAMPLES / f"{name}.yaml"
    if any(task.image for task in read_job(path.read_bytes()).job.tasks):
        need_engine()
    said = stack.run("run", str(path))
    assert (said.returncode, said.stdout) == (0, f"{RESULTS[name]}\n"), said.stderr
