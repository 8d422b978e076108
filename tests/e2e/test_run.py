"""`windlass run`: real jobs on real stacks."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support.stack import READY_S, Up, up, wait_for, windlass
from windlass.local.data import Data

HELLO = Path(__file__).parents[2] / "examples" / "hello.yaml"
together = pytest.mark.xdist_group("one run")
"""For tests that share a stack: in one process, so that it is started once."""


class Run:
    """A real `windlass run` under way, on the job that a text describes."""

    def __init__(self, data: Path, document: str, *options: str, file: str = "-") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "windlass.cli", "run", file, *options, "--data", str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.story: list[str] = []
        """What it said on standard error, line by line."""
        self._told_at: list[float] = []
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self.process.stdin is not None
        self.process.stdin.write(document)
        self.process.stdin.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._told_at.append(time.monotonic())
            self.story.append(line.rstrip("\n"))

    def told(self, words: str, within_s: float = 30) -> float:
        """Wait until a line holds these words; returns when it came."""

        def find() -> int:
            return next((index + 1 for index, line in enumerate(self.story) if words in line), 0)

        try:
            index: int = wait_for(f"{words!r} is told", find, within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; told was: {self.story}") from error
        return self._told_at[index - 1]

    @property
    def job(self) -> str:
        """The job's id."""
        self.told("job ", READY_S)
        return next(line for line in self.story if line.startswith("job ")).split()[-1]

    def end(self, within_s: float = 60) -> tuple[int, str]:
        """Its exit code and what it said on standard output."""
        assert self.process.stdout is not None
        code = self.process.wait(within_s)
        self._reader.join(10)
        return code, self.process.stdout.read()

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def running(data: Path, document: str, *options: str, file: str = "-") -> Iterator[Run]:
    run = Run(data, document, *options, file=file)
    try:
        yield run
    finally:
        run.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Up]:
    """One stack for these tests."""
    with up("--runtime", "shell") as started:
        yield started


def get(stack: Up, path: str) -> Any:
    with urllib.request.urlopen(stack.url + path, timeout=10) as answer:
        return json.load(answer)


def document(script: str, **task: Any) -> str:
    """A job of one task, whose result is the task's."""
    return json.dumps(
        {"name": "j", "output": "{{ tasks.r }}", "tasks": [{"name": "t", "run": script, "var": "r", **task}]}, ensure_ascii=False
    )


def test_two_at_once_start_what_is_missing_share_it_and_leave_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, "", file=str(HELLO)) as first, running(data, "", "--input", "name=you", file=str(HELLO)) as second:
        assert first.end(90) == (0, "Hello, world!\n")
        assert second.end(90) == (0, "Hello, you!\n")
    for run in (first, second):
        assert [line.split(" in ")[0] for line in run.story if "starting" not in line][-1] == "job hello completed"
    wait_for("nothing runs any more", lambda: Data(data).holder() is None)
    assert windlass("status", "--data", str(data)).returncode == 3


def test_detached_it_prints_the_id_and_what_it_started_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    said = windlass("run", "--detach", str(HELLO), "--data", str(data))
    try:
        assert said.returncode == 0, said.stderr
        assert "stop it with: windlass down" in said.stderr
        state = Data(data).running()
        assert state is not None

        def ended() -> bool:
            with urllib.request.urlopen(f"{state.url}/jobs/{said.stdout.strip()}", timeout=10) as answer:
                return bool(json.load(answer)["state"] == "COMPLETED")

        wait_for("the job is completed", ended)
    finally:
        assert windlass("down", "--data", str(data)).returncode == 0


@together
def test_it_uses_a_running_up_and_leaves_it_running(shared: Up) -> None:
    said = shared.run("run", str(HELLO))
    assert (said.returncode, said.stdout) == (0, "Hello, world!\n")
    assert "starting" not in said.stderr
    assert shared.run("status").returncode == 0


@together
def test_states_and_lines_are_told_while_it_runs(shared: Up, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo before; echo aside >&2; until [ -e {go} ]; do sleep 0.1; done; echo after; echo -n done > $TORK_OUTPUT"
    with running(shared.path, document(script)) as run:
        run.told("t  | before")
        run.told("t  | aside")
        assert not [line for line in run.story if "after" in line]
        go.touch()
        assert run.end() == (0, "done\n")
        told = [line.split(" in ")[0].strip() for line in run.story]
    assert told[0].startswith("job j ")
    assert told[1:] == ["t  started", "t  | before", "t  | aside", "t  | after", "t  completed", "job j completed"]


@together
def test_a_job_that_fails_exits_with_1_and_says_why(shared: Up) -> None:
    with running(shared.path, document("echo because >&2; exit 3", retry={"limit": 1})) as run:
        assert run.end() == (1, "")
    assert [line for line in run.story if "failed after" in line and "exit code 3" in line]
    assert [line for line in run.story if line.endswith("started, try 2 of 2")]
    assert run.story[-1].startswith("job j failed")


@together
def test_json_is_the_whole_job_and_nothing_else(shared: Up) -> None:
    with running(shared.path, document("echo -n '\x1b[2J €' > $TORK_OUTPUT; echo chatter"), "--json") as run:
        code, said = run.end()
    job = json.loads(said)
    assert code == 0
    assert (job["id"], job["state"], job["result"]) == (run.job, "COMPLETED", "\x1b[2J €")
    assert job["execution"][0]["name"] == "t"


@together
def test_what_tasks_print_is_shown_harmlessly_and_the_result_is_passed_on_as_it_is(shared: Up) -> None:
    with running(shared.path, document(r"printf '\033]0;t\007\033[31mred\n'; printf '\033[2Jr' > $TORK_OUTPUT")) as run:
        assert run.end() == (0, "\x1b[2Jr\n")
        assert "  t  | \\x1b]0;t\\x07red" in run.story


@together
def test_much_output_arrives_whole_and_in_order(shared: Up) -> None:
    with running(shared.path, document("seq 1 20000")) as run:
        assert run.end()[0] == 0
    assert [line.partition("| ")[2] for line in run.story if "| " in line] == [str(number) for number in range(1, 20001)]


@together
def test_a_task_without_a_worker_is_told_within_seconds_and_what_to_do_helps(shared: Up) -> None:
    with running(shared.path, document("echo -n served > $TORK_OUTPUT", queue="gpu")) as run:
        asked = run.told("job j")
        # Promised are two seconds; a machine that runs all tests at once may take twice that.
        assert run.told("no worker serves queue gpu") - asked < 4
        run.told("windlass worker --runtime auto --queue gpu:1")
        command = [sys.executable, "-P", "-m", "windlass.cli", "worker", "--runtime", "shell", "--queue", "gpu:1"]
        environ = {**shared.env("worker"), "WINDLASS_SPOOL": str(shared.path / "spool-gpu")}
        worker = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            assert run.end() == (0, "served\n")
        finally:
            worker.terminate()
            worker.wait(30)


@together
def test_ctrl_c_cancels_the_job_and_waits_for_that(shared: Up, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with running(shared.path, document(f"echo $$ > {pid}; echo begun; sleep 300")) as run:
        run.told("| begun")
        run.process.send_signal(signal.SIGINT)
        assert run.end(20) == (130, "")
        job = get(shared, f"/jobs/{run.job}")
        assert job["state"] == "CANCELLED"
        assert run.story[-1].startswith("job j cancelled")
    wait_for("the task's process is gone", lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())


@together
def test_a_second_ctrl_c_leaves_at_once(shared: Up) -> None:
    with running(shared.path, document("echo begun; sleep 300")) as run:
        run.told("| begun")
        shared.kill("coordinator-1", signal.SIGSTOP)  # so that nobody cancels anything
        try:
            run.process.send_signal(signal.SIGINT)
            run.told("Ctrl-C again leaves at once")
            run.process.send_signal(signal.SIGINT)
            assert run.end(5) == (130, "")
        finally:
            shared.kill("coordinator-1", signal.SIGCONT)
    wait_for("the job is cancelled after all", lambda: get(shared, f"/jobs/{run.job}")["state"] == "CANCELLED", 30)


@together
def test_ctrl_c_while_the_stack_starts_leaves_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, "", file=str(HELLO)) as run:
        run.told("starting windlass")
        run.process.send_signal(signal.SIGINT)
        assert run.end(20) == (130, "")
    wait_for("nothing runs any more", lambda: Data(data).holder() is None, READY_S)


@together
def test_it_survives_the_loss_of_its_ears_and_shows_everything(shared: Up, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo first; until [ -e {go} ]; do sleep 0.1; done; for i in 1 2 3; do echo line $i; sleep 0.2; done"
    with running(shared.path, document(script)) as run:
        run.told("| first")
        before = shared.kill("nats")
        wait_for("another NATS runs", lambda: shared.pid_of("nats") not in (0, before))
        go.touch()
        assert run.end() == (0, "\n") or run.process.returncode == 0
        assert [line for line in run.story if "| " in line] == ["  t  | first", *(f"  t  | line {i}" for i in (1, 2, 3))]


@together
def test_without_nats_the_api_alone_is_enough(shared: Up) -> None:
    environ = {"WINDLASS_ENDPOINT": shared.url, "WINDLASS_DATA": "", "WINDLASS_NATS_URL": ""}
    said = windlass("run", str(HELLO), environ=environ)
    assert (said.returncode, said.stdout) == (0, "Hello, world!\n")
    assert "say    | Hello, world!" in said.stderr
