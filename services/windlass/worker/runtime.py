"""What a worker asks of the thing that runs programs.

A runtime executes one attempt at a time per call and owns every trace of it: when `run` returns, no process, container or
temporary file of that attempt is left that could still do work.
"""

import asyncio
from collections.abc import Iterator
from typing import Protocol

import msgspec

from windlass.errors import Invalid
from windlass.grammar import check_file
from windlass.messages.commands import RunTask
from windlass.messages.jobs import AuxTask, SidecarTask, Task
from windlass.secrets.redaction import Redactor

Program = Task | AuxTask | SidecarTask
"""What is run: the task itself, or what runs before, after or beside it."""

OUTPUT_MAX = 1024 * 1024
"""Largest result of a task, in bytes of its output file."""
KILL_GRACE_S = 3.0
"""From SIGTERM to SIGKILL."""
TAIL_LINES = 10
"""How many of the last lines of output an error quotes."""


class Succeeded(msgspec.Struct, frozen=True):
    """Exit code 0. `result` is the text of the output file, with NUL removed and bad UTF-8 replaced."""

    result: str


class Failed(msgspec.Struct, frozen=True):
    """The program, or its definition, failed: `error` is the sentence that people read, `exit_code` the program's, 1–255."""

    error: str
    exit_code: int | None = None


class Stopped(msgspec.Struct, frozen=True):
    """`stop` was set, and everything is dead."""


class TimedOut(msgspec.Struct, frozen=True):
    """Its time, or that of a program beside it, was over before it was; everything is dead."""

    error: str


class Vanished(msgspec.Struct, frozen=True):
    """The outcome cannot be known (the engine lost the container); the task is to run again."""

    error: str


Outcome = Succeeded | Failed | Stopped | TimedOut | Vanished


class Sink(Protocol):
    """Where a running task's words go. Both calls return at once and never raise: a flood is the sink's problem.

    `redactor` says what may not get there, or into an error.
    """

    redactor: Redactor

    def output(self, stream: str, text: str) -> None:
        """Text that came on `out` or `err`, decoded, in order; not necessarily whole lines."""
        ...

    def progress(self, value: float) -> None:
        """A changed value of the progress file, 0–100, finite."""
        ...


class Aside:
    """The sink of a program beside a task: what it says belongs to the task's output, how far it is does not count."""

    def __init__(self, sink: Sink) -> None:
        self.output, self.redactor = sink.output, sink.redactor

    def progress(self, value: float) -> None:
        """See `Sink`."""


class Runtime(Protocol):
    """Runs tasks of one kind."""

    async def prepare(self) -> None:
        """Before the first task: check that it works here, remove what a dead worker of the same name left.

        Raises:
            Misconfigured: with what to do.
        """
        ...

    def refusal(self, task: RunTask) -> str | None:
        """Why this runtime cannot run such a task, naming the remedies; None when it can."""
        ...

    async def run(self, task: RunTask, worker: str, sink: Sink, stop: asyncio.Event) -> Outcome:
        """Run one attempt to its end, within its `timeout`. `stop` kills it: SIGTERM, then SIGKILL after `KILL_GRACE_S`.

        Returns whatever happened as a value; it raises only on defects of its own, after having cleaned up.
        """
        ...

    async def healthy(self) -> bool:
        """Whether the next task could run."""
        ...

    async def close(self) -> None:
        """Remove what is kept between tasks."""
        ...


def places(task: Task) -> Iterator[tuple[str, Program]]:
    """Every program of a task, each with what an error calls it; the task itself first."""
    yield f"task {task.name}", task
    for role, programs in (("pre", task.pre), ("post", task.post), ("sidecar", task.sidecars)):
        for program in programs:
            yield f"task {task.name}: {role} task {program.name}", program


def check_files(program: Program) -> None:
    """Whether its files can be written.

    Raises:
        Invalid: one would be elsewhere, or is where another needs a directory.
    """
    for name in program.files:
        check_file(name)
        above = name
        while above := above.rpartition("/")[0]:
            if above in program.files:
                raise Invalid(f"{name} is below {above}, which is a file; rename one of them")


def environment(task: RunTask) -> dict[str, str]:
    """The variables that tell a program who it is; they win over the task's own `env`."""
    return {
        "WINDLASS_JOB_ID": task.job,
        "WINDLASS_TASK_ID": task.task,
        "WINDLASS_TASK_KEY": f"{task.job}-{task.key}",
        "WINDLASS_RUN": str(task.run),
        "WINDLASS_ATTEMPT": str(task.attempt),
    }
