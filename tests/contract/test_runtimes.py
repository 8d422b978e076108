"""One suite for every runtime: what a task may rely on, wherever it runs."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.contract.runtimes import IMAGE, Recorder, a_docker, a_name, a_task, an_engine, containers, resident_bytes, run
from windlass.messages.commands import RunTask
from windlass.messages.jobs import AuxTask
from windlass.worker.docker.runtime import Docker
from windlass.worker.runtime import OUTPUT_MAX, Failed, Runtime, Stopped, Succeeded, TimedOut
from windlass.worker.shell import Shell, ShellSettings


class Place:
    """A runtime, tasks that fit it, and a look at what is left of one."""

    def __init__(self, runtime: Runtime, image: str, are_dead: Callable[[RunTask, list[int]], bool]) -> None:
        self.runtime = runtime
        self.image = image
        self.are_dead = are_dead

    def task(self, script: str, **more: Any) -> RunTask:
        return a_task(script, self.image, **more)


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture(scope="module", params=["shell", "docker-bind", "docker-archive", "docker-bridge"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as held:
        if request.param == "shell":
            folder = tmp_path_factory.mktemp("shell")
            shell = Shell(ShellSettings(worker=a_name(), temp_dir=str(folder)))
            asyncio.run(shell.prepare())
            yield Place(shell, "", lambda _, pids: not any(_is_alive(pid) for pid in pids))
            asyncio.run(shell.close())
            assert os.listdir(folder) == []
            return
        if request.param != "docker-archive" and os.geteuid() != 0:
            pytest.skip("a directory of this host is only mounted by a worker that is root")
        how = {
            "docker-bind": {"exchange": "bind"},
            "docker-archive": {"exchange": "archive"},
            "docker-bridge": {"exchange": "bind", "sandbox": "off"},
        }[request.param]
        docker: Docker = held.enter_context(a_docker(temp_dir=str(tmp_path_factory.mktemp("docker")), **how))
        engine = an_engine()
        held.callback(engine.close)

        def are_dead(task: RunTask, _: list[int]) -> bool:
            return not containers(engine, docker.labels.worker, f"windlass.task={task.task}", state="running")

        yield Place(docker, IMAGE, are_dead)


async def test_result_and_both_outputs(place: Place) -> None:
    sink = Recorder()
    outcome = await run(place.runtime, place.task('echo said; echo complained >&2; printf "the result" > "$TORK_OUTPUT"'), sink)
    assert outcome == Succeeded("the result")
    assert (sink.text("out"), sink.text("err")) == ("said\n", "complained\n")


async def test_exit_code_with_the_last_ten_lines(place: Place) -> None:
    outcome = await run(place.runtime, place.task("seq 30; exit 3"))
    assert outcome == Failed("exit code 3: " + "\n".join(map(str, range(21, 31))), 3)


async def test_exit_code_of_a_silent_program(place: Place) -> None:
    assert await run(place.runtime, place.task("exit 7")) == Failed("exit code 7", 7)


async def test_exit_code_after_closing_both_outputs(place: Place) -> None:
    assert await run(place.runtime, place.task("exec >&- 2>&-; sleep 0.2; exit 9")) == Failed("exit code 9", 9)


async def test_a_result_of_a_failure_is_not_kept(place: Place) -> None:
    assert await run(place.runtime, place.task("echo x > $TORK_OUTPUT; exit 1")) == Failed("exit code 1", 1)


async def test_interpreter_line_is_honoured(place: Place) -> None:
    sink = Recorder()
    script = "#!/bin/cat\nno shell can run this (\n"
    assert await run(place.runtime, place.task(script), sink) == Succeeded("")
    assert sink.text("out") == script


async def test_variables(place: Place) -> None:
    sink = Recorder()
    task = place.task("env", env={"MINE": "two\nlines", "WINDLASS_RUN": "forged", "TORK_OUTPUT": "/forged"})
    assert await run(place.runtime, task, sink) == Succeeded("")
    lines = sink.text("out").splitlines()
    assert "MINE=two" in lines
    assert f"WINDLASS_JOB_ID={task.job}" in lines
    assert f"WINDLASS_TASK_ID={task.task}" in lines
    assert f"WINDLASS_TASK_KEY={task.job}-0" in lines
    assert "WINDLASS_RUN=1" in lines
    assert "WINDLASS_ATTEMPT=2" in lines
    assert "TORK_OUTPUT=/forged" not in lines


async def test_impossible_variable_fails_the_task(place: Place) -> None:
    outcome = await run(place.runtime, place.task("true", env={"A=B": "c"}))
    assert isinstance(outcome, Failed)
    assert "variable" in outcome.error


async def test_missing_output_file_is_an_empty_result(place: Place) -> None:
    # A mounted file's directory belongs to root; all images here run as root.
    assert await run(place.runtime, place.task("rm $TORK_OUTPUT")) == Succeeded("")


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("ln -sf /etc/passwd $TORK_OUTPUT", "is a link"),
        ("rm $TORK_OUTPUT; mkfifo $TORK_OUTPUT", "is a pipe"),
        ("rm $TORK_OUTPUT; mkdir $TORK_OUTPUT", "is a directory"),
        (f"head -c {OUTPUT_MAX + 1} /dev/zero > $TORK_OUTPUT", f"holds {OUTPUT_MAX + 1} bytes"),
    ],
)
async def test_output_that_is_no_result(place: Place, script: str, word: str) -> None:
    outcome = await run(place.runtime, place.task(script))
    assert isinstance(outcome, Failed)
    assert f"TORK_OUTPUT {word}" in outcome.error


async def test_largest_result(place: Place) -> None:
    outcome = await run(place.runtime, place.task(f"head -c {OUTPUT_MAX} /dev/zero | tr '\\0' x > $TORK_OUTPUT"))
    assert outcome == Succeeded("x" * OUTPUT_MAX)


async def test_bad_utf8_and_nul_become_text(place: Place) -> None:
    sink = Recorder()
    script = r"printf 'a\377\000\342\202\254\342\202'; printf 'b\377\000c' > $TORK_OUTPUT"
    assert await run(place.runtime, place.task(script), sink) == Succeeded("b\ufffdc")
    assert sink.text("out") == "a\ufffd\u20ac\ufffd"


async def test_binary_output(place: Place) -> None:
    sink = Recorder()
    assert await run(place.runtime, place.task("head -c 1000000 /dev/urandom"), sink) == Succeeded("")
    assert "\0" not in sink.text()
    assert sink.chars > 500_000
    sink.text().encode()  # no lone surrogates


async def test_flood_of_output_in_bounded_memory(place: Place) -> None:
    sink = Recorder(keeps=False)
    before = resident_bytes()
    script = "head -c 100000000 /dev/zero | tr '\\0' x; echo end; exit 1"
    outcome = await run(place.runtime, place.task(script), sink)
    assert isinstance(outcome, Failed)
    assert outcome.error.endswith("xxx\nend") or outcome.error.endswith("xxxend")
    assert len(outcome.error) < 20_000
    assert sink.chars == 100_000_004
    assert sink.largest <= 128 * 1024
    assert sink.resident_max - before < 48 * 1024 * 1024


async def test_progress_is_told_when_it_changes(place: Place) -> None:
    if isinstance(place.runtime, Docker) and not place.runtime.is_bind:
        pytest.skip("is fetched every ten seconds there; test_docker_runtime.py fetches it by hand")
    sink, stop = Recorder(), asyncio.Event()
    script = "echo nan > $TORK_PROGRESS; echo ready; sleep 1.2; echo 41.5 > $TORK_PROGRESS; sleep 60"
    running = asyncio.ensure_future(place.runtime.run(place.task(script), "w", sink, stop))
    await sink.until(lambda: bool(sink.values), "progress")
    stop.set()
    assert await running == Stopped()
    assert sink.values == [41.5]


async def test_stop_before_the_start(place: Place) -> None:
    sink, stop = Recorder(), asyncio.Event()
    stop.set()
    assert await place.runtime.run(place.task("echo ran"), "w", sink, stop) == Stopped()
    assert sink.text() == ""


async def test_stop_while_it_is_being_started(place: Place) -> None:
    task, stop = place.task("sleep 60"), asyncio.Event()
    running = asyncio.ensure_future(place.runtime.run(task, "w", Recorder(), stop))
    await asyncio.sleep(0)
    stop.set()
    assert await running == Stopped()
    assert place.are_dead(task, [])


async def test_stop_lets_a_program_say_goodbye(place: Place) -> None:
    sink, stop = Recorder(), asyncio.Event()
    script = "trap 'echo goodbye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    running = asyncio.ensure_future(place.runtime.run(place.task(script), "w", sink, stop))
    await sink.until(lambda: "ready" in sink.text(), "the program")
    stop.set()
    assert await running == Stopped()
    assert "goodbye" in sink.text()


async def test_stop_of_a_program_that_ignores_sigterm(place: Place) -> None:
    task, sink, stop = place.task("trap '' TERM; sleep 60 & echo $! $$; wait"), Recorder(), asyncio.Event()
    running = asyncio.ensure_future(place.runtime.run(task, "w", sink, stop))
    await sink.until(lambda: sink.text().endswith("\n"), "the program")
    stop.set()
    assert await running == Stopped()
    assert place.are_dead(task, [int(pid) for pid in sink.text().split()])


async def test_stop_reaches_a_child_in_a_session_of_its_own(place: Place) -> None:
    task, sink, stop = place.task("setsid sh -c 'echo $$; exec sleep 60' & echo $$; wait"), Recorder(), asyncio.Event()
    running = asyncio.ensure_future(place.runtime.run(task, "w", sink, stop))
    await sink.until(lambda: sink.text().count("\n") == 2, "both processes")
    stop.set()
    assert await running == Stopped()
    assert place.are_dead(task, [int(pid) for pid in sink.text().split()])


async def test_what_runs_on_after_the_end_is_killed(place: Place) -> None:
    task, sink = place.task("sleep 60 & echo $!; mkfifo p; setsid sh -c 'echo $$ > p; sleep 60' & cat p"), Recorder()
    assert await run(place.runtime, task, sink) == Succeeded("")
    pids = [int(pid) for pid in sink.text().split()]
    assert len(pids) == 2
    assert place.are_dead(task, pids)


async def test_cancelling_the_call_kills_the_task(place: Place) -> None:
    task, sink = place.task("echo $$; sleep 60"), Recorder()
    running = asyncio.ensure_future(run(place.runtime, task, sink))
    await sink.until(lambda: sink.text().endswith("\n"), "the program")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert place.are_dead(task, [int(sink.text())])


async def test_several_at_once(place: Place) -> None:
    outcomes = await asyncio.gather(*(run(place.runtime, place.task(f"printf {n} > $TORK_OUTPUT")) for n in range(4)))
    assert outcomes == [Succeeded(str(n)) for n in range(4)]


async def test_missing_interpreter_fails_the_task(place: Place) -> None:
    outcome = await run(place.runtime, place.task("#!/no/such/program\n"))
    assert isinstance(outcome, Failed)
    assert "exit code 127" in outcome.error


async def test_it_is_healthy(place: Place) -> None:
    assert await place.runtime.healthy()


# -- files, and what runs before and after --------------------------------------------------------------------------


async def test_files_are_where_the_program_begins(place: Place) -> None:
    sink = Recorder()
    task = place.task("cat a.txt conf/deep/b.ini; ls -l a.txt", files={"a.txt": "A\n", "conf/deep/b.ini": "B\n"})
    assert await run(place.runtime, task, sink) == Succeeded("")
    assert sink.text("out").startswith("A\nB\n-r--r--r--")


async def test_a_program_may_write_beside_its_files(place: Place) -> None:
    assert await run(place.runtime, place.task("cp d/a d/b && cat d/b > $TORK_OUTPUT", files={"d/a": "x"})) == Succeeded("x")


async def test_a_file_below_a_file_is_refused(place: Place) -> None:
    outcome = await run(place.runtime, place.task("true", files={"a": "x", "a/b/c": "y"}))
    assert outcome == Failed("task t: files: a/b/c is below a, which is a file; rename one of them")


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b", "a//b", ".", ""])
async def test_a_file_that_would_be_elsewhere_is_refused(place: Place, name: str) -> None:
    outcome = await run(place.runtime, place.task("true", files={name: "x"}))
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("task t: files: ")


def beside(place: Place, name: str, script: str, **more: Any) -> AuxTask:
    return AuxTask(name=name, run=script, image=place.image, **more)


async def test_what_runs_before_and_after_is_told_in_order_and_has_no_result(place: Place) -> None:
    sink = Recorder()
    say = "echo $NAME; echo no > $TORK_OUTPUT"
    task = place.task(
        "echo main; printf yes > $TORK_OUTPUT",
        pre=(beside(place, "one", say, env={"NAME": "one"}), beside(place, "two", say, env={"NAME": "two"})),
        post=(beside(place, "last", "cat f", files={"f": "last"}),),
    )
    assert await run(place.runtime, task, sink) == Succeeded("yes")
    assert sink.text("out") == "one\ntwo\nmain\nlast"


async def test_a_failure_before_the_task_is_its_end(place: Place) -> None:
    sink = Recorder()
    pre = beside(place, "fetch", "echo gone; exit 3")
    task = place.task("echo main", pre=(pre,), post=(beside(place, "after", "echo after"),))
    assert await run(place.runtime, task, sink) == Failed("pre task fetch: exit code 3: gone", 3)
    assert sink.text("out") == "gone\n"


async def test_a_failure_after_the_task_is_its_failure(place: Place) -> None:
    task = place.task("printf yes > $TORK_OUTPUT", post=(beside(place, "push", "exit 4"),))
    assert await run(place.runtime, task) == Failed("post task push: exit code 4", 4)


async def test_after_a_failure_runs_only_what_always_does_and_hides_nothing(place: Place) -> None:
    sink = Recorder()
    task = place.task(
        "exit 5",
        post=(
            beside(place, "push", "echo push"),
            beside(place, "clean", "echo clean; exit 6", always=True),
            beside(place, "tell", "echo tell", always=True),
        ),
    )
    assert await run(place.runtime, task, sink) == Failed("exit code 5", 5)
    assert sink.text("out") == "clean\ntell\n"


async def test_the_timeout_holds_and_what_always_runs_still_does(place: Place) -> None:
    sink = Recorder()
    post = beside(place, "clean", "echo clean", always=True)
    task = place.task("sleep 60", timeout="300ms", post=(beside(place, "push", "echo push"), post))
    assert await run(place.runtime, task, sink) == TimedOut("context deadline exceeded")
    assert sink.text("out") == "clean\n"
    assert place.are_dead(task, [])


async def test_a_program_beside_the_task_has_a_timeout_of_its_own(place: Place) -> None:
    sink = Recorder()
    task = place.task("echo main", pre=(beside(place, "slow", "sleep 60", timeout="300ms"),))
    assert await run(place.runtime, task, sink) == TimedOut("pre task slow: context deadline exceeded")
    task = place.task("exit 5", post=(beside(place, "slow", "sleep 60", timeout="300ms", always=True),))
    assert await run(place.runtime, task, sink) == Failed("exit code 5", 5)
    assert sink.text("out") == ""


async def test_a_stop_is_the_end_of_what_always_runs_too(place: Place) -> None:
    sink, stop = Recorder(), asyncio.Event()
    task = place.task("echo ready; sleep 60", timeout="10m", post=(beside(place, "clean", "echo clean", always=True),))
    running = asyncio.ensure_future(place.runtime.run(task, "w", sink, stop))
    await sink.until(lambda: "ready" in sink.text(), "the program")
    stop.set()
    assert await running == Stopped()
    assert sink.text("out") == "ready\n"


@pytest.mark.parametrize("timeout", ["soon", "5"])
async def test_a_timeout_that_is_none_fails_the_task(place: Place, timeout: str) -> None:
    outcome = await run(place.runtime, place.task("echo ran", timeout=timeout))
    assert isinstance(outcome, Failed)
    assert "invalid timeout duration: " in outcome.error
