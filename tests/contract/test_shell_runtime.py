"""What is the shell runtime's own: processes that hide, a worker that dies, users, and what of the worker a task may see."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.runtimes import WAIT_S, Recorder, a_name, a_task, run
from windlass.errors import Misconfigured
from windlass.messages.jobs import AuxTask, Limits, Mount, Registry, SidecarTask
from windlass.worker.auto import RuntimeSettings, make_runtime
from windlass.worker.runtime import Failed, Succeeded
from windlass.worker.shell import Shell, ShellSettings

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets us find them")


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    shell = Shell(ShellSettings(worker=a_name(), temp_dir=str(tmp_path)))
    await shell.prepare()
    yield shell
    await shell.close()


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that other processes bring about."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"waited {WAIT_S} s for {what}"
        await asyncio.sleep(0.01)


@linux
async def test_daemon_that_left_its_session_and_wiped_its_environment(shell: Shell) -> None:
    sink = Recorder()
    script = "mkfifo p; env -i setsid sh -c 'echo $$ > p; exec sleep 60' & cat p"
    assert await run(shell, a_task(script), sink) == Succeeded("")
    assert not is_alive(int(sink.text()))


@linux
async def test_daemon_of_a_daemon(shell: Shell) -> None:
    sink = Recorder()
    script = "mkfifo p; (setsid sh -c '(setsid sh -c \"echo \\$\\$ > p; exec sleep 60\" &) &') & cat p"
    assert await run(shell, a_task(script), sink) == Succeeded("")
    assert not is_alive(int(sink.text()))


@linux
async def test_a_daemon_of_one_task_outlives_the_end_of_another(shell: Shell) -> None:
    sink, stop = Recorder(), asyncio.Event()
    script = "mkfifo p; (setsid sh -c 'echo $$ > p; exec sleep 60' &); cat p; sleep 60"
    running = asyncio.ensure_future(shell.run(a_task(script), "w", sink, stop))
    await sink.until(lambda: sink.text().endswith("\n"), "the daemon")
    assert await run(shell, a_task("sleep 60 & true")) == Succeeded("")
    assert is_alive(int(sink.text()))
    stop.set()
    await running
    assert not is_alive(int(sink.text()))


@linux
async def test_nothing_leaks(shell: Shell) -> None:
    def held() -> tuple[int, set[str], list[str]]:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return len(os.listdir("/proc/self/fd")), set(file.read().split()), os.listdir(shell._folder)

    await run(shell, a_task("true"))
    before = held()
    for script in (
        "true",
        "exit 1",
        "setsid sleep 60 & true",
        "mkdir -p a/b; touch a/b/c; chmod 0 a",
        "kill -9 $$",
        "(sleep 60 &)",
    ):
        await run(shell, a_task(script))
    async with asyncio.timeout(WAIT_S):
        while held() != before:  # who dies just after the end of a task is reaped at the end of the next
            await run(shell, a_task("true"))


async def test_death_by_signal_is_said(shell: Shell) -> None:
    assert await run(shell, a_task("echo last; kill -9 $$")) == Failed("exit code 137 (killed by SIGKILL): last", 137)


async def test_worker_environment_is_not_inherited(shell: Shell) -> None:
    sink = Recorder()
    await run(shell, a_task("env"), sink)
    names = {line.partition("=")[0] for line in sink.text("out").splitlines()}
    own = {"PATH", "HOME", "WORKDIR", "TORK_OUTPUT", "TORK_PROGRESS", "WINDLASS_TASK_MARK"}
    ids = {"WINDLASS_JOB_ID", "WINDLASS_TASK_ID", "WINDLASS_TASK_KEY", "WINDLASS_RUN", "WINDLASS_ATTEMPT"}
    assert names - {"PWD", "SHLVL", "_"} == own | ids


async def test_directory_is_private_and_current(shell: Shell) -> None:
    sink = Recorder()
    await run(shell, a_task('[ "$PWD" = "$WORKDIR" ] && stat -c %a .'), sink)
    assert sink.text() == "700\n"


async def test_temporary_directory_with_a_blank(tmp_path: Path) -> None:
    shell = Shell(ShellSettings(worker=a_name(), temp_dir=str(tmp_path / "with 'blank $HOME")))
    await shell.prepare()
    assert await run(shell, a_task('printf r > "$TORK_OUTPUT"')) == Succeeded("r")
    await shell.close()


async def test_script_that_is_too_much_for_an_argument(shell: Shell) -> None:
    assert await run(shell, a_task("# " + "x" * 400_000 + "\nprintf r > $TORK_OUTPUT")) == Succeeded("r")


async def test_environment_that_is_too_large_fails_the_task(shell: Shell) -> None:
    outcome = await run(shell, a_task("true", env={"BIG": "x" * 400_000}))
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("the program cannot be started: ")


@pytest.mark.parametrize(("what", "more"), [("image", {"image": "busybox"}), ("cmd", {"cmd": ("a",)})])
async def test_what_a_shell_cannot_do_is_refused_by_name(shell: Shell, what: str, more: dict[str, object]) -> None:
    why = shell.refusal(a_task("true", **more))  # type: ignore[arg-type]  # image or cmd
    assert why is not None
    assert what in why


async def test_other_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can change user")
    for above in (tmp_path, *tmp_path.parents[:3]):
        above.chmod(0o755)
    shell = Shell(ShellSettings(worker=a_name(), temp_dir=str(tmp_path), uid=65534, gid=65534))
    await shell.prepare()
    sink = Recorder()
    assert await run(shell, a_task("id -u; id -G; echo x > mine; ls /root; printf r > $TORK_OUTPUT"), sink) == Succeeded("r")
    assert sink.text("out") == "65534\n65534\n"
    assert "Permission denied" in sink.text("err") or os.access("/root", os.R_OK)
    await shell.close()


async def test_two_workers_of_one_name_are_refused(shell: Shell, tmp_path: Path) -> None:
    twin = Shell(ShellSettings(worker=shell._settings.worker, temp_dir=str(tmp_path / "twin")))
    with pytest.raises(Misconfigured, match="runs on this machine already"):
        await twin.prepare()


async def test_missing_shell_is_said(tmp_path: Path) -> None:
    shell = Shell(ShellSettings(worker=a_name(), temp_dir=str(tmp_path), command=("no-such-shell", "-c")))
    with pytest.raises(Misconfigured, match="no-such-shell"):
        await shell.prepare()


async def test_auto_without_an_engine_is_a_shell(tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/nothing.sock"
    auto = make_runtime("auto", RuntimeSettings(worker=a_name(), instance="i", temp_dir=str(tmp_path), docker_host=nowhere))
    await auto.prepare()
    try:
        assert await run(auto, a_task("printf r > $TORK_OUTPUT")) == Succeeded("r")
        outcome = await run(auto, a_task("true", "busybox"))
        assert isinstance(outcome, Failed)
        assert "start Docker or Podman" in outcome.error
    finally:
        await auto.close()


def test_unknown_runtime_and_bad_name() -> None:
    with pytest.raises(Misconfigured, match="auto, docker, shell"):
        make_runtime("podman", RuntimeSettings(worker="w", instance="i"))
    with pytest.raises(Misconfigured, match="name"):
        make_runtime("shell", RuntimeSettings(worker="../w", instance="i"))


WORKER = """
import asyncio, sys
from tests.contract.runtimes import a_task
from windlass.secrets.redaction import NOTHING
from windlass.worker.shell import Shell, ShellSettings

class Out:
    redactor = NOTHING
    def output(self, stream, text):
        print(text, end="", flush=True)
    def progress(self, value):
        pass

async def main():
    shell = Shell(ShellSettings(worker=sys.argv[1], temp_dir=sys.argv[2]))
    await shell.prepare()
    print("keeper", shell._keeper._child.pid, flush=True)
    script = "mkfifo p; setsid sh -c 'echo $$ > p; exec sleep 600' & cat p; echo $$; sleep 600"
    await shell.run(a_task(script), "w", Out(), asyncio.Event())

asyncio.run(main())
"""


def start_worker(name: str, folder: Path) -> tuple[subprocess.Popen[str], int, list[int]]:
    """A worker with a task in a process of its own; its keeper, and the processes of the task."""
    root = Path(__file__).parents[2]
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, name, str(folder)],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert worker.stdout is not None
    keeper = int(worker.stdout.readline().split()[1])
    return worker, keeper, [int(worker.stdout.readline()), int(worker.stdout.readline())]


@linux
async def test_tasks_of_a_killed_worker_die_with_it(tmp_path: Path) -> None:
    worker, _, pids = await asyncio.to_thread(start_worker, a_name(), tmp_path)
    with worker:
        assert all(map(is_alive, pids))
        worker.kill()
    await until(lambda: not any(map(is_alive, pids)) and os.listdir(tmp_path) == [], "the keeper's sweep")


@linux
async def test_what_is_left_even_so_ends_at_the_next_start(tmp_path: Path) -> None:
    name = a_name()
    worker, keeper, pids = await asyncio.to_thread(start_worker, name, tmp_path)
    with worker:
        os.kill(keeper, signal.SIGKILL)
        worker.kill()
    assert all(map(is_alive, pids))
    shell = Shell(ShellSettings(worker=name, temp_dir=str(tmp_path)))
    await shell.prepare()
    assert not any(map(is_alive, pids))
    assert os.listdir(shell._folder) == []
    await shell.close()


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"image": "busybox"}, "image"),
        ({"cmd": ("a",)}, "cmd"),
        ({"entrypoint": ("a",)}, "entrypoint"),
        ({"limits": Limits(cpus="1")}, "limits"),
        ({"mounts": (Mount(type="volume", target="/data"),)}, "mounts"),
        ({"networks": ("net",)}, "networks"),
        ({"registry": Registry(username="me")}, "registry"),
        ({"sidecars": (SidecarTask(name="db", run="true"),)}, "sidecars"),
        ({"pre": (AuxTask(name="p", run="true", image="busybox"),)}, "pre task p: image"),
        ({"files": {"stdout": ""}}, "files"),
    ],
)
async def test_what_needs_a_container_is_refused_by_name(shell: Shell, more: dict[str, Any], field: str) -> None:
    outcome = await run(shell, a_task("echo ran", **more))
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith(f"task t: {field}")


async def test_workdir_and_gpus_mean_nothing_here(shell: Shell) -> None:
    sink = Recorder()
    assert await run(shell, a_task('test "$PWD" = "$WORKDIR" && echo here', workdir="/tmp", gpus="all"), sink) == Succeeded("")
    assert sink.text("out") == "here\n"
