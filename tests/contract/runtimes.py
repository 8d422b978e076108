"""What the suites of the runtimes share: tasks, a sink that remembers, a real engine or a reason to skip, a look at leavings."""

import asyncio
import json
import os
import secrets
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from windlass.ids import JobId, TaskId
from windlass.messages.commands import RunTask
from windlass.messages.jobs import Task
from windlass.secrets.redaction import NOTHING
from windlass.worker.auto import usual_host
from windlass.worker.docker.engine import Engine, answers
from windlass.worker.docker.runtime import Docker, DockerSettings
from windlass.worker.runtime import Outcome, Runtime

IMAGE = "busybox"
WAIT_S = 30.0


class Recorder:
    """A sink that keeps what it is given, or only counts it."""

    def __init__(self, keeps: bool = True) -> None:
        self.pieces: list[tuple[str, str]] = []
        self.values: list[float] = []
        self.redactor = NOTHING
        self.chars = 0
        self.largest = 0
        self.resident_max = 0
        self._keeps = keeps
        self._came = asyncio.Event()

    def output(self, stream: str, text: str) -> None:
        self.chars += len(text)
        self.largest = max(self.largest, len(text))
        if self._keeps:
            self.pieces.append((stream, text))
        else:
            self.resident_max = max(self.resident_max, resident_bytes())
        self._came.set()

    def progress(self, value: float) -> None:
        self.values.append(value)
        self._came.set()

    def text(self, stream: str = "") -> str:
        return "".join(text for source, text in self.pieces if stream in ("", source))

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something that output or progress brings."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not holds():
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"waited {WAIT_S} s for {what}; got {self.pieces[-5:]} {self.values}") from None


def resident_bytes() -> int:
    """How much memory this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def a_task(run: str = "", image: str = "", name: str = "t", **more: object) -> RunTask:
    """A task to run, with an id of its own."""
    return RunTask(
        job=JobId(secrets.token_hex(16)),
        run=1,
        task=TaskId(secrets.token_hex(16)),
        attempt=2,
        key="0",
        definition=Task(name=name, run=run, image=image, **more),  # type: ignore[arg-type]  # tests pass what they test
    )


async def run(runtime: Runtime, task: RunTask, sink: Recorder | None = None) -> Outcome:
    """Run to the end, never stopped."""
    return await runtime.run(task, "w", sink or Recorder(), asyncio.Event())


def a_name() -> str:
    """A worker's name that no other test has."""
    return f"test-{secrets.token_hex(6)}"


def need_engine() -> None:
    """Skip without a real engine, unless this is CI, where it has to be there."""
    if answers(usual_host()):
        return
    reason = f"no container engine answers at {usual_host()}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def an_engine() -> Engine:
    """A client of the real engine, for looking behind the runtime's back."""
    engine = Engine(usual_host(), 2)
    engine.connect()
    return engine


def containers(engine: Engine, worker: str, *more: str, state: str = "") -> list[str]:
    """The containers that carry a worker's label and those other labels; of one state, or of any."""
    found = {"label": [f"windlass.worker={worker}", *more], **({"status": [state]} if state else {})}
    params = {"all": 1, "filters": json.dumps(found)}
    return [container["Id"] for container in engine.json("GET", "/containers/json", params=params).get("items", [])]


def made(engine: Engine, worker: str) -> list[str]:
    """The paths of all volumes and networks that carry a worker's label."""
    params = {"filters": json.dumps({"label": [f"windlass.worker={worker}"]})}
    volumes = engine.json("GET", "/volumes", params=params).get("Volumes") or []
    networks = engine.json("GET", "/networks", params=params).get("items", [])
    return [f"/volumes/{one['Name']}" for one in volumes] + [f"/networks/{one['Id']}" for one in networks]


def complete(work: Coroutine[object, object, None]) -> None:
    """Run to its end in a loop of its own, also from within a test that has one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


@contextmanager
def a_docker(**how: object) -> Iterator[Docker]:
    """A prepared docker runtime of its own name; afterwards nothing of that name may be left."""
    need_engine()
    worker = a_name()
    settings = {"worker": worker, "instance": "i", "concurrency": 4, "host": usual_host(), **how}
    runtime = Docker(DockerSettings(**settings))  # type: ignore[arg-type]  # tests pass what they test
    complete(runtime.prepare())
    engine = an_engine()
    try:
        yield runtime
    finally:
        complete(runtime.close())
        left = containers(engine, worker)
        for container in left:
            engine.call("DELETE", f"/containers/{container}", params={"force": 1})
        others = made(engine, worker)
        for path in others:
            engine.call("DELETE", path)
        engine.close()
        assert not left, f"containers of {worker} were left"
        assert not others, f"of {worker} were left: {others}"
