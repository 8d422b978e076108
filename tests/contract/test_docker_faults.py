"""When things go wrong between the worker and its engine, seen through a proxy that can be told to break.

The engine behind it is the real one and stays up: others use it.
"""

import asyncio
import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.runtimes import IMAGE, Recorder, a_docker, a_task, an_engine, containers, need_engine, run
from windlass.messages.jobs import Mount, SidecarTask
from windlass.worker.auto import usual_host
from windlass.worker.docker.runtime import Docker
from windlass.worker.runtime import Failed, Stopped, Succeeded, TimedOut, Vanished


class Rule:
    """What to do with requests whose first line matches: answer oneself, or let the engine work and swallow its answer."""

    def __init__(self, pattern: str, status: int = 0, body: object = None, times: int = 1000, hang: bool = False) -> None:
        self.pattern = re.compile(pattern)
        self.status = status
        self.body = body
        self.times = times
        self.hang = hang
        self.hits = 0
        self.met = threading.Event()


class Proxy:
    """A socket in front of the engine's."""

    def __init__(self, path: Path, engine: str) -> None:
        self.host = f"unix://{path}"
        self._path = path
        self._engine = engine
        self._rules: list[Rule] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.mend()

    def rule(self, rule: Rule) -> Rule:
        self._rules.append(rule)
        return rule

    def cut(self) -> None:
        """The engine is gone: connections break, new ones are refused."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            self._path.unlink()
        with self._lock:
            for wire in self._open:
                with contextlib.suppress(OSError):
                    wire.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """It is back."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._path))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        engine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        engine.connect(self._engine)
        with self._lock:
            self._open |= {client, engine}
        swallow = threading.Event()
        back = threading.Thread(target=self._copy_back, args=(engine, client, swallow), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                rule = self._find(data)
                if rule is not None and rule.hang:
                    rule.met.set()
                    client.recv(1)  # until the client hangs up
                    break
                if rule is not None and rule.status:
                    content = json.dumps(rule.body).encode()
                    head = f"HTTP/1.1 {rule.status} Told\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
                    client.sendall(f"{head}Connection: close\r\n\r\n".encode() + content)
                    rule.met.set()
                    break
                if rule is not None:
                    swallow.set()
                engine.sendall(data)
        for wire in (client, engine):
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
        back.join()
        with self._lock:
            self._open -= {client, engine}
        client.close()
        engine.close()

    def _copy_back(self, engine: socket.socket, client: socket.socket, swallow: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := engine.recv(1 << 16):
                if swallow.is_set():
                    break
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _find(self, data: bytes) -> Rule | None:
        line = data[:2000].split(b"\r\n", 1)[0].decode("latin-1")
        for rule in self._rules:
            if rule.hits < rule.times and rule.pattern.match(line):
                rule.hits += 1
                return rule
        return None


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    need_engine()
    host = usual_host()
    if not host.startswith("unix://"):
        pytest.skip("the engine is not behind a socket file")
    proxy = Proxy(tmp_path / "s", host.removeprefix("unix://"))
    yield proxy
    proxy.cut()


@pytest.fixture
def docker(proxy: Proxy, tmp_path: Path) -> Iterator[Docker]:
    with a_docker(host=proxy.host, temp_dir=str(tmp_path), away_s=20.0) as docker:
        yield docker


async def test_engine_back_while_the_task_runs_on(proxy: Proxy, docker: Docker) -> None:
    sink = Recorder()
    script = "echo one; while [ ! -e /tork/go ]; do sleep 0.05; echo tick; done; echo two; printf r > $TORK_OUTPUT"
    running = asyncio.ensure_future(run(docker, a_task(script, IMAGE), sink))
    await sink.until(lambda: "one" in sink.text(), "the first line")
    proxy.cut()
    proxy.mend()
    await sink.until(lambda: "connection to the engine was lost" in sink.text("err"), "the note of the gap")
    task_folder(docker).joinpath("tork", "go").touch()
    assert await running == Succeeded("r")
    assert sink.text("out").endswith("tick\ntwo\n")


async def test_engine_back_after_the_task_has_ended(proxy: Proxy, docker: Docker) -> None:
    sink = Recorder()
    running = asyncio.ensure_future(
        run(docker, a_task("echo one; while [ ! -e /tork/go ]; do sleep 0.05; done; exit 6", IMAGE), sink)
    )
    await sink.until(lambda: "one" in sink.text(), "the first line")
    proxy.cut()
    task_folder(docker).joinpath("tork", "go").touch()
    engine = an_engine()
    (container,) = containers(engine, docker.labels.worker, "windlass.role=main")
    engine.call("POST", f"/containers/{container}/wait", timeout_s=30)
    engine.close()
    proxy.mend()
    outcome = await running
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("exit code 6")


async def test_engine_back_without_the_container(proxy: Proxy, docker: Docker) -> None:
    sink = Recorder()
    running = asyncio.ensure_future(run(docker, a_task("echo one; sleep 60", IMAGE), sink))
    await sink.until(lambda: "one" in sink.text(), "the first line")
    proxy.cut()
    engine = an_engine()
    for container in containers(engine, docker.labels.worker, "windlass.role=main"):
        engine.call("DELETE", f"/containers/{container}", params={"force": 1}, timeout_s=30)
    engine.close()
    proxy.mend()
    outcome = await running
    assert isinstance(outcome, Vanished)
    assert "lost the container" in outcome.error


async def test_engine_that_does_not_come_back(proxy: Proxy, tmp_path: Path) -> None:
    with a_docker(host=proxy.host, temp_dir=str(tmp_path), away_s=0.5) as docker:
        sink = Recorder()
        running = asyncio.ensure_future(run(docker, a_task("echo one; sleep 60", IMAGE), sink))
        await sink.until(lambda: "one" in sink.text(), "the first line")
        proxy.cut()
        outcome = await running
        assert isinstance(outcome, Vanished)
        assert "did not come back" in outcome.error
        assert not await docker.healthy()
        proxy.mend()  # and the cleaner, which tries on, leaves nothing


async def test_unanswered_create_leaves_nothing(proxy: Proxy, docker: Docker) -> None:
    swallowed = proxy.rule(Rule(r"POST /\S*/containers/create\?name=windlass-[0-9a-f]{32}", times=1))
    assert await run(docker, a_task("printf r > $TORK_OUTPUT", IMAGE)) == Succeeded("r")
    assert swallowed.hits == 1


SHARED: dict[str, Any] = {
    "mounts": (Mount(type="volume", target="/data"),),
    "sidecars": (SidecarTask(name="s", image=IMAGE, run="sleep 60"),),
}


@pytest.mark.parametrize("kind", ["volumes", "networks"])
async def test_unanswered_making_of_what_is_shared_leaves_nothing(proxy: Proxy, docker: Docker, kind: str) -> None:
    swallowed = proxy.rule(Rule(rf"POST /\S*/{kind}/create", times=1))
    assert await run(docker, a_task("printf r > $TORK_OUTPUT", IMAGE, **SHARED)) == Succeeded("r")
    assert swallowed.hits == 1


async def test_what_is_shared_and_cannot_be_made_fails_the_task(proxy: Proxy, docker: Docker) -> None:
    told = {"message": "could not find an available, non-overlapping IPv4 address pool"}
    proxy.rule(Rule(r"POST /\S*/networks/create", 500, told))
    outcome = await run(docker, a_task("true", IMAGE, **SHARED))
    assert outcome == Failed(f"the container cannot be started: {told['message']}")


async def test_engine_that_does_not_come_back_to_make_what_is_shared(proxy: Proxy, tmp_path: Path) -> None:
    with a_docker(host=proxy.host, temp_dir=str(tmp_path), away_s=0.5) as docker:
        proxy.cut()
        outcome = await run(docker, a_task("true", IMAGE, **SHARED))
        assert isinstance(outcome, Vanished)
        assert "did not come back" in outcome.error
        proxy.mend()


async def test_stop_while_the_engine_is_away_and_nothing_is_made(proxy: Proxy, docker: Docker) -> None:
    proxy.cut()
    stop = asyncio.Event()
    running = asyncio.ensure_future(docker.run(a_task("true", IMAGE, **SHARED), "w", Recorder(), stop))
    await asyncio.sleep(0.1)
    stop.set()
    assert await running == Stopped()
    late = a_task("true", IMAGE, timeout="300ms", **SHARED)
    assert await run(docker, late) == TimedOut("context deadline exceeded")
    proxy.mend()


async def test_unanswered_start_is_no_second_run(proxy: Proxy, docker: Docker) -> None:
    swallowed = proxy.rule(Rule(r"POST /\S*/containers/windlass-[0-9a-f]{32}\S*/start", times=1))
    outcome = await run(docker, a_task("echo x >> $TORK_OUTPUT", IMAGE))
    assert outcome == Succeeded("x\n")
    assert swallowed.hits == 1


async def test_bind_that_the_engine_cannot_see_becomes_archive(proxy: Proxy, docker: Docker) -> None:
    told = {"message": 'invalid mount config for type "bind": bind source path does not exist: /x'}
    proxy.rule(Rule(r"POST /\S*/containers/create\?name=windlass-[0-9a-f]{32}", 400, told, times=1))
    assert docker.is_bind
    assert await run(docker, a_task("printf r > $TORK_OUTPUT", IMAGE)) == Succeeded("r")
    assert not docker.is_bind


async def test_registry_that_is_down_is_tried_three_times(proxy: Proxy, docker: Docker) -> None:
    told = {"message": "dial tcp 192.0.2.1:443: connect: connection refused"}
    pull = proxy.rule(Rule(r"POST /\S*/images/create", 500, told))
    outcome = await run(docker, a_task("true", "registry.invalid/missing:1"))
    assert outcome == Failed(f"image registry.invalid/missing:1 cannot be pulled: {told['message']}")
    assert pull.hits == 3


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"message": "pull access denied for missing, repository does not exist"}),
        (500, {"message": "Get https://registry.invalid/v2/: no basic auth credentials"}),
    ],
)
async def test_image_that_does_not_exist_is_not_tried_again(
    proxy: Proxy, docker: Docker, status: int, body: dict[str, str]
) -> None:
    pull = proxy.rule(Rule(r"POST /\S*/images/create", status, body))
    outcome = await run(docker, a_task("true", "registry.invalid/missing:1"))
    assert outcome == Failed(f"image registry.invalid/missing:1 cannot be pulled: {body['message']}")
    assert pull.hits == 1


async def test_one_pull_for_several_tasks(proxy: Proxy, docker: Docker) -> None:
    pull = proxy.rule(Rule(r"POST /\S*/images/create", hang=True))
    stop = asyncio.Event()
    tasks = [
        asyncio.ensure_future(docker.run(a_task("true", "registry.invalid/missing"), "w", Recorder(), stop)) for _ in range(3)
    ]
    assert await asyncio.to_thread(pull.met.wait, 30)
    assert await run(docker, a_task("true", IMAGE)) == Succeeded("")  # a pull is in nobody's way
    stop.set()
    assert await asyncio.gather(*tasks) == [Stopped()] * 3  # and nobody has to wait for it
    assert pull.hits == 1
    proxy.cut()
    proxy.mend()


@pytest.mark.parametrize(("knows", "said"), [(True, "out of memory"), (False, "perhaps out of memory")])
async def test_out_of_memory_is_said_though_the_engine_has_not_heard_of_it(
    proxy: Proxy, docker: Docker, knows: bool, said: str
) -> None:
    told = {"State": {"OOMKilled": knows, "ExitCode": 137, "Error": ""}, "HostConfig": {"Memory": 16777216}}
    proxy.rule(Rule(r"GET /\S*/containers/windlass-[0-9a-f]{32}\S*/json", 200, told))
    outcome = await run(docker, a_task("echo big; exit 137", IMAGE))
    assert outcome == Failed(f"{said} (limit 16777216 bytes), exit code 137: big", 137)


async def test_impossible_settings_fail_the_task(proxy: Proxy, docker: Docker) -> None:
    told = {"message": "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"}
    proxy.rule(Rule(r"POST /\S*/containers/create\?name=windlass-[0-9a-f]{32}", 400, told))
    outcome = await run(docker, a_task("true", IMAGE))
    assert outcome == Failed(f"the container cannot be started: {told['message']}")


async def test_stop_while_the_engine_is_away(proxy: Proxy, docker: Docker) -> None:
    sink, stop = Recorder(), asyncio.Event()
    running = asyncio.ensure_future(docker.run(a_task("echo one; sleep 60", IMAGE), "w", sink, stop))
    await sink.until(lambda: "one" in sink.text(), "the first line")
    proxy.cut()
    stop.set()
    await asyncio.sleep(0)
    proxy.mend()
    assert await running == Stopped()


def task_folder(docker: Docker) -> Path:
    """The directory of the only task that runs."""
    (folder,) = Path(docker._folder).iterdir()
    return folder
