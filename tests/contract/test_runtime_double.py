"""What a worker relies on, in the shell and in the runtime in memory alike, told in the words that both know."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.runtimes import Recorder, a_name, a_task, run
from tests.support.memory.runtime import MemoryRuntime
from windlass.messages.jobs import AuxTask
from windlass.worker.runtime import Failed, Runtime, Stopped, Succeeded, TimedOut
from windlass.worker.shell import Shell, ShellSettings


@pytest.fixture(params=["shell", "memory"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    """A prepared runtime."""
    found: Runtime = MemoryRuntime()
    if request.param == "shell":
        found = Shell(ShellSettings(worker=a_name(), temp_dir=str(tmp_path)))
    asyncio.run(found.prepare())
    yield found
    asyncio.run(found.close())


async def test_result_and_output(runtime: Runtime) -> None:
    sink = Recorder()
    assert await run(runtime, a_task("echo said; printf result > $TORK_OUTPUT"), sink) == Succeeded("result")
    assert sink.text("out") == "said\n"


async def test_a_word_of_the_environment(runtime: Runtime) -> None:
    sink = Recorder()
    task = a_task("echo $S; printf \"$S\"' {{ x }}' > $TORK_OUTPUT", env={"S": "hush-hush"})
    assert await run(runtime, task, sink) == Succeeded("hush-hush {{ x }}")
    assert sink.text("out") == "hush-hush\n"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo a; echo b; exit 3", Failed("exit code 3: a\nb", 3)),
        ("printf x > $TORK_OUTPUT; exit 1", Failed("exit code 1", 1)),
    ],
)
async def test_a_failure_quotes_what_was_said_and_keeps_no_result(runtime: Runtime, script: str, expected: Failed) -> None:
    assert await run(runtime, a_task(script)) == expected


@pytest.mark.parametrize("script", ["true", "exit 0", "echo nan > $TORK_PROGRESS; sleep 0.01"])
async def test_what_does_nothing_much_succeeds(runtime: Runtime, script: str) -> None:
    sink = Recorder()
    assert await run(runtime, a_task(script), sink) == Succeeded("")
    assert sink.values == []


async def test_progress_is_told(runtime: Runtime) -> None:
    sink, stop = Recorder(), asyncio.Event()
    running = asyncio.ensure_future(runtime.run(a_task("echo 41.5 > $TORK_PROGRESS; sleep 60"), "w", sink, stop))
    await sink.until(lambda: sink.values == [41.5], "progress")
    stop.set()
    assert await running == Stopped()


async def test_stop_before_and_during_the_start(runtime: Runtime) -> None:
    sink, stop = Recorder(), asyncio.Event()
    running = asyncio.ensure_future(runtime.run(a_task("echo ran; sleep 60"), "w", Recorder(), stop))
    await asyncio.sleep(0)
    stop.set()
    assert await running == Stopped()
    assert await runtime.run(a_task("echo ran"), "w", sink, stop) == Stopped()
    assert sink.text() == ""


@pytest.mark.parametrize("script", ["echo ready; sleep 60", "trap '' TERM; echo ready; sleep 60"])
async def test_stop_of_what_runs(runtime: Runtime, script: str) -> None:
    sink, stop = Recorder(), asyncio.Event()
    running = asyncio.ensure_future(runtime.run(a_task(script), "w", sink, stop))
    await sink.until(lambda: "ready" in sink.text(), "the program")
    stop.set()
    assert await running == Stopped()


async def test_cancelling_the_call_ends_it(runtime: Runtime) -> None:
    sink = Recorder()
    running = asyncio.ensure_future(run(runtime, a_task("echo ready; sleep 60"), sink))
    await sink.until(lambda: "ready" in sink.text(), "the program")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_several_at_once(runtime: Runtime) -> None:
    outcomes = await asyncio.gather(*(run(runtime, a_task(f"printf {n} > $TORK_OUTPUT")) for n in range(4)))
    assert outcomes == [Succeeded(str(n)) for n in range(4)]


async def test_it_is_healthy_and_refuses_nothing_it_can_run(runtime: Runtime) -> None:
    assert await runtime.healthy()
    assert runtime.refusal(a_task("true")) is None


async def test_programs_before_and_after_and_their_time(runtime: Runtime) -> None:
    sink = Recorder()
    before, after = AuxTask(name="b", run="echo before"), AuxTask(name="a", run="echo after")
    task = a_task("echo main; printf x > $TORK_OUTPUT", pre=(before,), post=(after,))
    assert await run(runtime, task, sink) == Succeeded("x")
    assert sink.text("out") == "before\nmain\nafter\n"
    late = a_task("sleep 60", timeout="50ms", post=(after, AuxTask(name="c", run="echo clean", always=True)))
    assert await run(runtime, late, sink) == TimedOut("context deadline exceeded")
    assert sink.text("out") == "before\nmain\nafter\nclean\n"
    assert await run(runtime, a_task("true", pre=(AuxTask(name="b", run="exit 3"),))) == Failed("pre task b: exit code 3", 3)
