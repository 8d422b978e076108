"""What the containers of one attempt share, and what they reach: mounts, networks, sidecars, private registries, GPUs."""

import asyncio
import base64
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.contract.runtimes import (
    IMAGE,
    Recorder,
    a_docker,
    a_name,
    a_task,
    an_engine,
    containers,
    made,
    need_engine,
    run,
)
from tests.support.waiting import until
from windlass.messages.jobs import AuxTask, Limits, Mount, Probe, Registry, SidecarTask
from windlass.worker.auto import RuntimeSettings, make_runtime
from windlass.worker.docker.engine import Engine
from windlass.worker.docker.runtime import Docker
from windlass.worker.runtime import Failed, Outcome, Stopped, Succeeded, TimedOut

VOLUME = Mount(type="volume", target="/data")
SERVER = "mkdir -p /www && echo served > /www/index.html && exec httpd -f -p 8080 -h /www"


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    with a_docker(temp_dir=str(tmp_path_factory.mktemp("docker"))) as docker:
        yield docker


@pytest.fixture
def engine() -> Iterator[Engine]:
    need_engine()
    engine = an_engine()
    yield engine
    engine.close()


async def said(docker: Docker, script: str, **more: Any) -> str:
    """What a task printed that must succeed."""
    sink = Recorder()
    outcome = await run(docker, a_task(script, IMAGE, **more), sink)
    assert isinstance(outcome, Succeeded), (outcome, sink.pieces)
    return sink.text("out")


async def failure(docker: Docker, script: str = "true", **more: Any) -> str:
    """The error of a task that must fail."""
    outcome = await run(docker, a_task(script, IMAGE, **more))
    assert isinstance(outcome, Failed), outcome
    return outcome.error


def aux(name: str, script: str, **more: Any) -> AuxTask:
    return AuxTask(name=name, run=script, image=IMAGE, **more)


# -- mounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["bind", "archive"])
async def test_a_volume_is_shared_by_what_runs_before_and_after(tmp_path: Path, how: str) -> None:
    with a_docker(temp_dir=str(tmp_path), exchange=how) as docker:
        text = await said(
            docker,
            "cat /data/note; echo second > /data/note",
            mounts=(VOLUME,),
            pre=(aux("write", "echo first > /data/note"),),
            post=(aux("read", "cat /data/note"),),
        )
        assert text == "first\nsecond\n"


@pytest.mark.parametrize("hardening", ["standard", "strict"])
async def test_files_in_a_workdir_that_is_in_a_volume(tmp_path: Path, hardening: str) -> None:
    look = aux("look", "cd /data; find . -type f")
    with a_docker(temp_dir=str(tmp_path), hardening=hardening) as docker:
        text = await said(docker, "pwd; cat d/f", workdir="/data/", files={"d/f": "F\n"}, mounts=(VOLUME,), post=(look,))
        assert text == "/data\nF\n./d/f\n"
        if hardening == "standard":
            text = await said(docker, "pwd; cat d/f", workdir="/data/sub/x", files={"d/f": "F\n"}, mounts=(VOLUME,), post=(look,))
            assert text == "/data/sub/x\nF\n./sub/x/d/f\n"


async def test_each_attempt_has_a_volume_of_its_own(docker: Docker) -> None:
    for _ in range(2):
        assert await said(docker, "ls /data | wc -l; touch /data/x", mounts=(VOLUME,)) == "0\n"


async def test_a_volume_is_gone_soon_after_its_task_whatever_became_of_it(docker: Docker, engine: Engine) -> None:
    await run(docker, a_task("exit 1", IMAGE, mounts=(VOLUME,)))
    await run(docker, a_task("sleep 60", IMAGE, mounts=(VOLUME,), timeout="500ms"))
    await run(docker, a_task("true", "no/such:image@bad", mounts=(VOLUME,)))
    await run(docker, a_task("true", IMAGE, mounts=(VOLUME, VOLUME)))
    await until("all volumes are gone", lambda: not made(engine, docker.labels.worker))


async def test_a_volume_in_memory_has_a_size(docker: Docker) -> None:
    mount = Mount(type="volume", target="/data", opts={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"})
    assert (await said(docker, "df -k /data", mounts=(mount,))).splitlines()[-1].split()[:2] == ["tmpfs", "1024"]


async def test_a_tmpfs_is_in_memory(docker: Docker) -> None:
    mount = Mount(type="tmpfs", target="/scratch", opts={"size": "1m", "mode": "700"})
    text = await said(docker, "grep ' /scratch ' /proc/mounts; stat -c %a /scratch", mounts=(mount,))
    assert text.startswith("tmpfs /scratch tmpfs")
    assert "size=1024k" in text
    assert text.endswith("\n700\n")


@pytest.mark.parametrize(
    ("mount", "error"),
    [
        (Mount(type="bind", source="/srv", target="/data"), "bind mounts are not allowed"),
        (Mount(type="nfs", source="x", target="/data"), "mounts: unknown mount type: nfs"),
        (Mount(type="tmpfs"), "mounts: tmpfs target is required"),
        (Mount(type="tmpfs", source="/x", target="/data"), "mounts: tmpfs source should be empty"),
        (Mount(type="volume", target="/proc/sys"), "/proc/sys belongs to the system"),
        (Mount(type="volume", target="/tork"), "/tork belongs to the system"),
        (Mount(type="volume", target="/data", opts={"device": "/", "o": "bind", "type": "none"}), "a volume is a new directory"),
    ],
)
async def test_a_mount_that_is_not_allowed_is_refused_by_name(docker: Docker, mount: Mount, error: str) -> None:
    assert error in await failure(docker, mounts=(mount,))


async def test_a_directory_of_the_machine_where_the_operator_allows_it(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    (allowed / "inner").mkdir(parents=True)
    other.mkdir()
    (allowed / "inner" / "file").write_text("content\n")
    (allowed / "way-out").symlink_to(other)
    (tmp_path / "allowed-not").mkdir()

    def bind(source: Path | str, **opts: str) -> dict[str, Any]:
        return {"mounts": (Mount(type="bind", source=str(source), target="/data", opts=opts),)}

    with a_docker(temp_dir=str(tmp_path / "work"), binds=(str(allowed),)) as docker:
        assert await said(docker, "cat /data/file; echo back > /data/new", **bind(allowed / "inner")) == "content\n"
        assert (allowed / "inner" / "new").read_text() == "back\n"
        assert "Read-only" in await failure(docker, "echo x > /data/new", **bind(allowed / "inner", readonly="true"))
        for source in (other, allowed / "way-out", tmp_path / "allowed-not", tmp_path, "/", f"{allowed}/../other"):
            assert "src bind mount is not allowed" in await failure(docker, **bind(source)) or ".." in str(source)
        assert "does not exist" in await failure(docker, **bind(allowed / "missing"))
        assert not (allowed / "missing").exists()
        assert docker.is_bind is (os.geteuid() == 0)  # what is missing is the task's fault, not the engine's


async def test_what_nobody_may_have_is_refused_even_if_it_was_allowed(tmp_path: Path) -> None:
    with a_docker(temp_dir=str(tmp_path), binds=("/",)) as docker:
        for source in ("/", "/var", "/var/run", "/run/docker.sock", "/proc/1", "/var/lib/docker/volumes", str(tmp_path)):
            mount = Mount(type="bind", source=source, target="/data")
            assert "src bind mount is not allowed" in await failure(docker, mounts=(mount,)), source


# -- networks -------------------------------------------------------------------------------------------------------


@pytest.fixture
def networks(engine: Engine) -> Iterator[tuple[str, str]]:
    """Two networks, as an operator makes them."""
    names = f"{a_name()}-a", f"{a_name()}-b"
    for name in names:
        engine.call("POST", "/networks/create", body={"Name": name}, timeout_s=60)
    yield names
    for name in names:
        engine.call("DELETE", f"/networks/{name}", timeout_s=60)


async def test_tasks_on_a_network_find_each_other_by_name(docker: Docker, networks: tuple[str, str], engine: Engine) -> None:
    sink, stop = Recorder(), asyncio.Event()
    server = a_task(f"echo ready; {SERVER}", IMAGE, "My Web Server", networks=networks)
    running = asyncio.ensure_future(docker.run(server, "w", sink, stop))
    await sink.until(lambda: "ready" in sink.text(), "the server")
    try:
        fetch = "until wget -qO- http://my-web-server:8080/index.html; do sleep 0.05; done"
        for network in networks:
            assert await said(docker, fetch, networks=(network,), timeout="20s") == "served\n"
        assert "bad address" in await failure(docker, "wget -qO- http://my-web-server:8080/", timeout="20s")
    finally:
        stop.set()
        assert await running == Stopped()
    assert await said(docker, "ls /sys/class/net", networks=networks) == "eth0\neth1\nlo\n"
    await until("nobody is on it", lambda: not engine.json("GET", f"/networks/{networks[0]}")["Containers"])


async def test_what_runs_before_and_after_is_on_the_same_networks(docker: Docker, networks: tuple[str, str]) -> None:
    look = "ls /sys/class/net | wc -l"
    text = await said(docker, look, networks=networks, pre=(aux("a", look),), post=(aux("b", look),))
    assert text == "3\n3\n3\n"


async def test_no_network_and_the_engines_own(docker: Docker) -> None:
    assert await said(docker, "ls /sys/class/net", networks=("none",)) == "lo\n"
    assert await said(docker, "ls /sys/class/net", networks=("bridge",)) == "eth0\nlo\n"


@pytest.mark.parametrize(
    ("networks", "error"),
    [
        (("host",), "host networking is not enabled"),
        (("container:x",), "cannot name a network"),
        (("none", "bridge"), "none excludes other networks"),
        (("no-such-network-image",), "network no-such-network-image not found"),
    ],
)
async def test_a_network_that_cannot_be_joined_fails_the_task(docker: Docker, networks: tuple[str, ...], error: str) -> None:
    assert error in await failure(docker, networks=networks)


# -- sidecars -------------------------------------------------------------------------------------------------------


def sidecar(name: str, script: str, probe: Probe | None = None, **more: Any) -> SidecarTask:
    return SidecarTask(name=name, run=script, image=IMAGE, probe=probe, **more)


READY = Probe(path="/index.html", port=8080)


async def test_a_sidecar_is_ready_before_the_task_begins_and_is_gone_after_it(docker: Docker, engine: Engine) -> None:
    task = a_task(
        "wget -qO- http://my-web:8080/index.html; cat /data/note",
        IMAGE,
        sidecars=(
            sidecar("My Web", f"echo from the sidecar; echo left > /data/note; sleep 0.5; {SERVER}", READY),
            sidecar("second", "wget -qO /data/first http://my-web:8080/index.html; sleep 60"),
        ),
        mounts=(VOLUME,),
        limits=Limits(memory="64m"),
    )
    sink = Recorder()
    assert await run(docker, task, sink) == Succeeded("")
    assert sink.text("out") == "from the sidecar\nserved\nleft\n"
    assert not containers(engine, docker.labels.worker, f"windlass.task={task.task}", state="running")
    await until("its network is gone", lambda: not made(engine, docker.labels.worker))


@pytest.mark.parametrize(
    ("beside", "error"),
    [
        (sidecar("db", "sleep 60", Probe(path="/", port=80, timeout="300ms")), "sidecar task db: probe timed out after 300ms"),
        (sidecar("db", "echo broken; exit 3", READY), "sidecar task db: exit code 3: broken"),
        (sidecar("db", "true", READY), "sidecar task db: it ended before its probe was answered"),
        (SidecarTask(name="db", image="UPPER"), "sidecar task db: the container cannot be started: "),
    ],
)
async def test_a_sidecar_that_does_not_get_ready_fails_the_task(
    docker: Docker, engine: Engine, beside: SidecarTask, error: str
) -> None:
    task, sink = a_task("echo ran", IMAGE, sidecars=(beside,)), Recorder()
    outcome = await run(docker, task, sink)
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith(error)
    assert "ran" not in sink.text()
    assert not containers(engine, docker.labels.worker, f"windlass.task={task.task}", state="running")


async def test_the_timeout_and_a_stop_hold_while_a_sidecar_gets_ready(docker: Docker) -> None:
    never = sidecar("db", "echo beside; sleep 60", Probe(path="/", port=80))
    outcome: Outcome = await run(docker, a_task("true", IMAGE, sidecars=(never,), timeout="1s"))
    assert outcome == TimedOut("context deadline exceeded")
    sink, stop = Recorder(), asyncio.Event()
    running = asyncio.ensure_future(docker.run(a_task("true", IMAGE, sidecars=(never,)), "w", sink, stop))
    await sink.until(lambda: "beside" in sink.text(), "the sidecar")
    stop.set()
    assert await running == Stopped()


async def test_how_a_sidecar_ends_is_no_matter(docker: Docker) -> None:
    assert await said(docker, "sleep 0.2; echo done", sidecars=(sidecar("short", "exit 9"),)) == "done\n"


async def test_cancelling_the_call_leaves_nothing(docker: Docker, engine: Engine) -> None:
    task, sink = a_task("echo ready; sleep 60", IMAGE, sidecars=(sidecar("s", "sleep 60"),), mounts=(VOLUME,)), Recorder()
    running = asyncio.ensure_future(run(docker, task, sink))
    await sink.until(lambda: "ready" in sink.text(), "the program")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not containers(engine, docker.labels.worker, f"windlass.task={task.task}", state="running")
    await until("all is gone", lambda: not made(engine, docker.labels.worker))


async def test_volumes_and_networks_of_a_dead_worker_are_removed(engine: Engine, tmp_path: Path) -> None:
    worker = a_name()
    labels = {"windlass.worker": worker, "windlass.instance": "dead"}
    engine.call("POST", "/volumes/create", body={"Name": f"{worker}-v", "Labels": labels})
    engine.call("POST", "/networks/create", body={"Name": f"{worker}-n", "Labels": labels}, timeout_s=60)
    mounts = [{"Type": "volume", "Source": f"{worker}-v", "Target": "/data"}]
    host = {"Mounts": mounts, "NetworkMode": f"{worker}-n"}
    body = {"Image": IMAGE, "Cmd": ["sleep", "60"], "Labels": labels, "HostConfig": host}
    left = engine.json("POST", "/containers/create", body=body, timeout_s=60)["Id"]
    engine.call("POST", f"/containers/{left}/start", timeout_s=60)
    docker = make_runtime("docker", RuntimeSettings(worker=worker, instance="new", temp_dir=str(tmp_path)))
    await docker.prepare()
    try:
        assert (containers(engine, worker), made(engine, worker)) == ([], [])
    finally:
        await docker.close()


# -- registries and GPUs --------------------------------------------------------------------------------------------


class PrivateRegistry(http.server.BaseHTTPRequestHandler):
    """A registry of one image, which shows it to one user."""

    user = "Basic " + base64.b64encode(b"reader:secret").decode()
    blobs: ClassVar[dict[str, bytes]] = {}
    manifest = b""

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002  named so by the library

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        if self.headers.get("Authorization") != self.user:
            self._answer(401, b"{}", "application/json", {"WWW-Authenticate": 'Basic realm="private"'})
        elif "/manifests/" in self.path:
            self._answer(200, self.manifest, kind, {"Docker-Content-Digest": digest(self.manifest)})
        else:
            blob = self.blobs.get(self.path.rpartition("/")[2], b"{}")
            self._answer(200, blob, "application/octet-stream", {})

    def _answer(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextmanager
def a_registry(engine: Engine) -> Iterator[str]:
    """The name of an image that is in a private registry alone; it makes a program of busybox's."""
    packed = engine.call("GET", f"/images/{IMAGE}/get", timeout_s=60).content
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        listed = json.load(tar.extractfile("manifest.json"))[0]  # type: ignore[arg-type]  # it is there
        config = tar.extractfile(listed["Config"]).read()  # type: ignore[union-attr]
        layers = [tar.extractfile(name).read() for name in listed["Layers"]]  # type: ignore[union-attr]
    config = json.dumps({**json.loads(config), "author": a_name()}).encode()  # so that it is an image of its own
    kind = "application/vnd.docker.image.rootfs.diff.tar"
    PrivateRegistry.blobs = {digest(blob): blob for blob in (config, *layers)}
    PrivateRegistry.manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(config),
                "digest": digest(config),
            },
            "layers": [{"mediaType": kind, "size": len(layer), "digest": digest(layer)} for layer in layers],
        }
    ).encode()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), PrivateRegistry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    name = f"127.0.0.1:{server.server_port}/private:1"
    try:
        yield name
    finally:
        server.shutdown()
        server.server_close()
        engine.call("DELETE", f"/images/{name}", params={"force": 1})


async def test_a_private_registry_is_asked_as_the_tasks_user(docker: Docker, engine: Engine) -> None:
    with a_registry(engine) as image:
        for registry in (None, Registry(username="reader", password="wrong")):
            outcome = await run(docker, a_task("echo ran", image, registry=registry))
            assert isinstance(outcome, Failed)
            assert f"image {image} cannot be pulled" in outcome.error
            assert "wrong" not in outcome.error
        sink = Recorder()
        pre = AuxTask(name="p", image=image, run="echo before", registry=Registry(username="reader", password="secret"))
        assert await run(docker, a_task("echo ran", image, pre=(pre,)), sink) == Succeeded("")
        assert sink.text("out") == "before\nran\n"


async def test_gpus_are_asked_for(docker: Docker) -> None:
    """No GPU here: the engine's answer says that it was asked for one."""
    assert "[[gpu]]" in await failure(docker, gpus="all")
    assert "[[utility gpu]]" in await failure(docker, gpus='"capabilities=utility",count=2')
    assert "gpus: " in await failure(docker, gpus="many of them")
