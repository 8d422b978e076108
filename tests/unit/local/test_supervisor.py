"""The supervisor with services that are none: restarts, giving up, order of stopping."""

import asyncio
import io
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from windlass.errors import Misconfigured
from windlass.local import ports
from windlass.local.data import Data
from windlass.local.output import Output
from windlass.local.process import Program, command_of
from windlass.local.supervisor import Part, Supervisor

FAKE = Path(__file__).parents[2] / "support" / "fake_service.py"


class Scene:
    """A supervisor, what it said, and what its services noted."""

    def __init__(self, path: Path, grace_s: float = 10) -> None:
        self.data = Data(path / "data")
        self.data.make()
        self.diary = path / "diary"
        self.diary.touch()
        self.log = io.StringIO()
        self.said: list[str] = []
        self.ports: list[ports.Port] = []
        self.supervisor = Supervisor(
            data=self.data,
            output=Output(self.log, "json", "debug", {}),
            url="http://127.0.0.1:1",
            grace_s=grace_s,
            announce=self.said.append,
        )

    def part(self, service: str, *options: str, instance: str = "") -> Part:
        instance = instance or f"{service}-1"
        self.ports.append(ports.pick())
        port = self.ports[-1].number
        argv = [sys.executable, "-S", str(FAKE), str(port), instance, str(self.diary), *options]
        return Part(service, instance, Program(name=instance, argv=argv, environ=dict(os.environ), holds_input=True), port)

    def notes(self, word: str) -> list[str]:
        return [line.split()[0] for line in self.diary.read_text().splitlines() if line.split()[1] == word]

    def has_started(self, times: int) -> bool:
        return len(self.notes("started")) == times

    def pids(self) -> list[int]:
        return [int(line.split()[2]) for line in self.diary.read_text().splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [record for record in map(json.loads, self.log.getvalue().splitlines()) if record["event"] == name]

    async def run(self, *parts: Part) -> None:
        async def nothing() -> None:
            return

        try:
            await self.supervisor.run([], nothing, parts)
        finally:
            for port in self.ports:
                port.release()

    @asynccontextmanager
    async def running(self, *parts: Part) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.run(*parts))
        await until("it is ready or over", lambda: self.said or task.done())
        yield
        if not task.done():
            self.supervisor.ask_to_stop()
        await task


async def until(what: str, condition: Callable[[], Any], within_s: float = 20) -> None:
    """Wait for a condition; the failure names it."""
    try:
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {within_s:g} s: {what}") from None


async def test_says_that_it_is_ready_once_all_answer(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with scene.running(scene.part("gateway"), scene.part("worker")):
        assert scene.said == [f"windlass ready url=http://127.0.0.1:1 data={scene.data.path} pid={os.getpid()}"]
        state = scene.data.state()
        assert state is not None
        assert state.phase == "ready"
        assert [service.instance for service in state.services] == ["gateway-1", "worker-1"]
    assert scene.data.state() is None


async def test_stops_workers_before_the_gateway_and_that_before_coordinators(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with scene.running(scene.part("coordinator"), scene.part("gateway"), scene.part("worker")):
        assert not scene.notes("asked")
    assert scene.notes("asked") == ["worker-1", "gateway-1", "coordinator-1"]


async def test_starts_a_dead_child_again_and_waits_longer_each_time(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with scene.running(scene.part("gateway")):
        for deaths in (1, 2):
            os.kill(scene.pids()[-1], 9)
            await until("it was started again", partial(scene.has_started, deaths + 1))
        assert [event["restart_s"] for event in scene.events("child_died")] == [0.5, 1.0]
        assert {event["how"] for event in scene.events("child_died")} == {"SIGKILL"}
        state = scene.data.state()
        assert state is not None
        assert state.services[0].restarts == 2
        assert state.services[0].pid == scene.pids()[-1]


async def test_ends_with_the_words_of_a_misconfigured_service_and_without_the_others(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    last = 'says={"event":"service_misconfigured","level":"error","error":"port 1 is taken"}'
    with pytest.raises(Misconfigured, match="worker-1: port 1 is taken"):
        await scene.run(scene.part("gateway"), scene.part("worker", "dies=78", last))
    assert scene.notes("started").count("worker-1") == 1
    assert not [pid for pid in scene.pids() if command_of(pid)]


async def test_gives_up_on_a_service_that_never_gets_anywhere(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with pytest.raises(Misconfigured, match=r"worker-1 ended 3 times while starting \(exit code 1\): boom"):
        await scene.run(scene.part("worker", "dies=1", "says=boom"))
    assert scene.notes("started") == ["worker-1"] * 3


async def test_kills_what_does_not_stop_within_its_grace(tmp_path: Path) -> None:
    scene = Scene(tmp_path, grace_s=0.3)
    async with scene.running(scene.part("worker", "stubborn")):
        pass
    assert scene.notes("asked") == ["worker-1"]
    assert [event["child"] for event in scene.events("child_killed")] == ["worker-1"]
    assert not [pid for pid in scene.pids() if command_of(pid)]


async def test_a_second_signal_kills_without_waiting(tmp_path: Path) -> None:
    scene = Scene(tmp_path, grace_s=60)
    async with scene.running(scene.part("worker", "stubborn")):
        scene.supervisor.ask_to_stop()
        await until("the worker was asked", lambda: scene.notes("asked"))
        scene.supervisor.ask_to_stop()
        await until("the worker is gone", lambda: not command_of(scene.pids()[0]), 5)


async def test_passes_on_lines_that_are_no_json(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with scene.running(scene.part("gateway")):
        await until("the line is there", lambda: scene.events("a line that is no JSON"))
    record = scene.events("a line that is no JSON")[0]
    assert (record["service"], record["instance"], record["level"]) == ("gateway", "gateway-1", "info")


async def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    part = Part("worker", "worker-1", Program(name="worker-1", argv=["/nonexistent/python"], environ={}), 1)
    with pytest.raises(Misconfigured, match="worker-1: cannot run /nonexistent/python"):
        await scene.run(part)
