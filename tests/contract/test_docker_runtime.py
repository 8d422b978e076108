"""What is the docker runtime's own: images and their commands, lent networks, rights, leftovers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.runtimes import IMAGE, Recorder, a_docker, a_name, a_task, an_engine, containers, need_engine, run
from windlass.errors import Misconfigured
from windlass.messages.jobs import AuxTask, Limits
from windlass.worker.auto import RuntimeSettings, make_runtime, usual_host
from windlass.worker.docker import exchange
from windlass.worker.docker.containers import Amounts
from windlass.worker.docker.engine import Engine
from windlass.worker.docker.runtime import Docker, DockerSettings
from windlass.worker.runtime import Failed, Stopped, Succeeded


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


async def said(docker: Docker, run_: str = "", image: str = IMAGE, **more: Any) -> str:
    """What a task printed that must succeed."""
    sink = Recorder()
    outcome = await run(docker, a_task(run_, image, **more), sink)
    assert isinstance(outcome, Succeeded), (outcome, sink.pieces)
    return sink.text("out")


async def test_without_run_and_cmd_the_image_does_what_it_is_for(docker: Docker) -> None:
    assert await said(docker, image="windlass/test-entrypoint") == "from-entrypoint default-arg\n"


async def test_cmd_goes_to_the_images_entrypoint(docker: Docker) -> None:
    assert await said(docker, image="windlass/test-entrypoint", cmd=("a b", "$HOME")) == "from-entrypoint a b $HOME\n"


async def test_cmd_of_an_image_without_shell(docker: Docker) -> None:
    assert await said(docker, image="windlass/test-noshell") == "hello\n"


async def test_image_without_shell_cannot_run_a_script(docker: Docker) -> None:
    outcome = await run(docker, a_task("true", "windlass/test-noshell"))
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("the container cannot be started: ")
    assert '"sh": executable file not found' in outcome.error


async def test_image_keeps_its_directory_and_variables(docker: Docker) -> None:
    assert await said(docker, "pwd; echo $FROM_IMAGE", "windlass/test-config") == "/srv\nyes\n"


async def test_user_of_the_image_may_write_the_result(docker: Docker) -> None:
    task = a_task('echo 50 > $TORK_PROGRESS; id -u > "$TORK_OUTPUT"', "windlass/test-nonroot")
    assert await run(docker, task) == Succeeded("1000\n")


async def test_entrypoint_gets_the_script_or_the_command(docker: Docker) -> None:
    assert await said(docker, "echo script", entrypoint=("sh", "-x")) == "script\n"
    assert await said(docker, "echo script", entrypoint=("cat",)) == "echo script"
    image = "windlass/test-entrypoint"
    assert await said(docker, image=image, entrypoint=("echo", "mine"), cmd=("a", "b c")) == "mine a b c\n"
    assert await said(docker, image=image, entrypoint=("echo", "mine")) == "mine\n"


async def test_workdir(docker: Docker) -> None:
    assert await said(docker, "pwd", workdir="/made/up") == "/made/up\n"
    assert await said(docker, "pwd", files={"a": ""}) == "/tork/workdir\n"


@pytest.mark.parametrize("how", ["bind", "archive"])
async def test_files_in_a_workdir(tmp_path: Path, how: str) -> None:
    with a_docker(temp_dir=str(tmp_path), exchange=how) as docker:
        script = "pwd; cat a d/b; ls -l d/b | cut -c1-10; echo x > d/c && echo written"
        assert await said(docker, script, workdir="/app", files={"a": "A", "d/b": "B\n"}) == "/app\nAB\n-r--r--r--\nwritten\n"
        assert await said(docker, "cat f; ls /srv", "windlass/test-config", workdir="/srv", files={"f": "F\n"}) == "F\nf\n"


@pytest.mark.parametrize("how", ["bind", "archive"])
async def test_files_of_a_user_that_is_not_root(tmp_path: Path, how: str) -> None:
    with a_docker(temp_dir=str(tmp_path), exchange=how) as docker:
        script = "cat d/e/a; echo x > d/e/b && echo y > c && id -u"
        assert await said(docker, script, "windlass/test-nonroot", files={"d/e/a": "A\n"}) == "A\n1000\n"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"workdir": "/tork", "files": {"stdout": ""}}, "files: stdout in /tork"),
        ({"workdir": "/tork/../", "files": {"tork/entrypoint": ""}}, "files: tork/entrypoint"),
        ({"workdir": "//tork", "files": {"progress": ""}}, "files: progress in /tork"),
        ({"workdir": "app"}, "workdir 'app'"),
        ({"limits": Limits(cpus="lots")}, "limits: 'lots'"),
        ({"pre": (AuxTask(name="p", run="true"),)}, "pre task p: the docker runtime needs an image"),
        ({"cmd": ("a",)}, "run and cmd"),
    ],
)
async def test_what_cannot_be_run_is_refused_by_name(docker: Docker, more: dict[str, Any], field: str) -> None:
    outcome = await run(docker, a_task("true", IMAGE, **more))
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith(f"task t: {field}")


async def test_limits_of_the_task_and_of_the_worker(docker: Docker, engine: Engine, tmp_path: Path) -> None:
    async def amounts(docker: Docker, limits: Limits | None) -> tuple[int, int, int]:
        """What the engine was told."""
        sink, stop = Recorder(), asyncio.Event()
        task = a_task("echo ready; sleep 60", IMAGE, limits=limits)
        running = asyncio.ensure_future(docker.run(task, "w", sink, stop))
        await sink.until(lambda: "ready" in sink.text(), "the program")
        (container,) = containers(engine, docker.labels.worker, f"windlass.task={task.task}")
        host = engine.json("GET", f"/containers/{container}/json")["HostConfig"]
        stop.set()
        await running
        return host["NanoCpus"], host["Memory"], host["MemorySwap"]

    assert await amounts(docker, None) == (0, 0, 0)
    assert await amounts(docker, Limits(cpus="1/2", memory="16MiB")) == (500_000_000, 16 * 2**20, 16 * 2**20)
    with a_docker(temp_dir=str(tmp_path), limits=Amounts(10**9, 2**25)) as limited:
        assert await amounts(limited, None) == (10**9, 2**25, 2**25)
        assert await amounts(limited, Limits(cpus=".5")) == (500_000_000, 2**25, 2**25)


async def test_out_of_memory_is_said_with_the_limit(docker: Docker) -> None:
    outcome = await run(docker, a_task("head -c 200000000 /dev/zero | tail", IMAGE, limits=Limits(memory="16m")))
    assert isinstance(outcome, Failed)
    assert "out of memory (limit 16777216 bytes)" in outcome.error
    assert outcome.exit_code


async def test_bad_name_of_an_image(docker: Docker) -> None:
    assert docker.refusal(a_task("true", "--privileged")) is not None
    outcome = await run(docker, a_task("true", "UPPER"))
    assert isinstance(outcome, Failed)
    assert "lowercase" in outcome.error


async def test_two_tasks_in_one_sandbox_do_not_meet(tmp_path: Path) -> None:
    with a_docker(temp_dir=str(tmp_path), concurrency=1) as docker:
        if docker.sandboxes is None:
            pytest.skip("no sandboxes with this engine")
        first = "echo 10.9.8.7 planted >> /etc/hosts; nc -l -p 7777 & while ! netstat -ltn | grep -q 7777; do :; done; hostname"
        name = await said(docker, first)
        second = await said(docker, "hostname; cat /etc/hosts; netstat -ltn")
        assert second.startswith(name), "another sandbox"
        assert "planted" not in second
        assert "7777" not in second


async def test_sandbox_that_died_is_replaced(engine: Engine, tmp_path: Path) -> None:
    with a_docker(temp_dir=str(tmp_path), concurrency=1) as docker:
        if docker.sandboxes is None:
            pytest.skip("no sandboxes with this engine")
        await said(docker, "true")
        (sandbox,) = containers(engine, docker.labels.worker, "windlass.role=sandbox")
        engine.call("POST", f"/containers/{sandbox}/kill")
        assert await said(docker, "echo alive") == "alive\n"
        (sandbox,) = containers(engine, docker.labels.worker, "windlass.role=sandbox")
        engine.call("DELETE", f"/containers/{sandbox}", params={"force": 1})
        assert await said(docker, "echo alive") == "alive\n"


async def test_standard_hardening(docker: Docker) -> None:
    status = dict(line.split(":\t") for line in (await said(docker, "cat /proc/self/status")).splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    dropped = {8: "SETPCAP", 13: "NET_RAW", 27: "MKNOD", 29: "AUDIT_WRITE", 31: "SETFCAP"}
    assert not [name for bit, name in dropped.items() if int(status["CapBnd"], 16) >> bit & 1]


async def test_strict_hardening(tmp_path: Path) -> None:
    for how in ("bind", "archive"):
        with a_docker(temp_dir=str(tmp_path), hardening="strict", exchange=how) as docker:
            script = "touch /x || echo readonly; touch /tmp/x && echo tmp; printf r > $TORK_OUTPUT; ls /sys/class/net"
            sink = Recorder()
            assert await run(docker, a_task(script, IMAGE), sink) == Succeeded("r")
            assert sink.text("out") == "readonly\ntmp\nlo\n"


async def test_progress_by_archive(engine: Engine, tmp_path: Path) -> None:
    with a_docker(temp_dir=str(tmp_path), exchange="archive") as docker:
        sink, stop = Recorder(), asyncio.Event()
        task = a_task("echo 12.5 > $TORK_PROGRESS; echo ready; sleep 60", IMAGE)
        running = asyncio.ensure_future(docker.run(task, "w", sink, stop))
        await sink.until(lambda: "ready" in sink.text(), "the program")
        (container,) = containers(engine, docker.labels.worker, f"windlass.task={task.task}")
        assert await asyncio.to_thread(exchange.fetch_progress, engine, container) == 12.5
        stop.set()
        assert await running == Stopped()


async def test_leftovers_of_a_dead_worker_are_removed(engine: Engine, tmp_path: Path) -> None:
    worker = a_name()
    labels = {"windlass.worker": worker, "windlass.instance": "dead"}
    body = {"Image": IMAGE, "Cmd": ["sleep", "60"], "Labels": labels}
    left = engine.json("POST", "/containers/create", body=body, timeout_s=60)["Id"]
    engine.call("POST", f"/containers/{left}/start", timeout_s=60)
    bystander = engine.json("POST", "/containers/create", body=body | {"Labels": labels | {"windlass.worker": f"{worker}x"}})[
        "Id"
    ]
    docker = make_runtime("docker", RuntimeSettings(worker=worker, instance="new", temp_dir=str(tmp_path)))
    await docker.prepare()
    try:
        assert containers(engine, worker) == []
        assert containers(engine, f"{worker}x") == [bystander]
    finally:
        engine.call("DELETE", f"/containers/{bystander}", params={"force": 1})
        await docker.close()


async def test_two_workers_of_one_name_are_refused(docker: Docker) -> None:
    twin = Docker(DockerSettings(worker=docker.labels.worker, instance="j", host=usual_host()))
    with pytest.raises(Misconfigured, match=f"a worker named {docker.labels.worker} runs on this machine already"):
        await twin.prepare()


async def test_engine_that_is_not_there_is_said_with_the_remedy(tmp_path: Path) -> None:
    docker = Docker(DockerSettings(worker=a_name(), instance="i", host=f"unix://{tmp_path}/nothing.sock"))
    with pytest.raises(Misconfigured, match=r"nothing\.sock.*start Docker.*--runtime shell"):
        await docker.prepare()


async def test_auto_chooses_by_image(tmp_path: Path) -> None:
    need_engine()
    auto = make_runtime("auto", RuntimeSettings(worker=a_name(), instance="i", temp_dir=str(tmp_path)))
    await auto.prepare()
    try:
        here, there = Recorder(), Recorder()
        assert await run(auto, a_task("ls -d /tork || echo here"), here) == Succeeded("")
        assert await run(auto, a_task("ls -d /tork || echo here", IMAGE), there) == Succeeded("")
        assert (here.text("out"), there.text("out")) == ("here\n", "/tork\n")
        assert await auto.healthy()
    finally:
        await auto.close()
