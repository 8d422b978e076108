"""A runtime without processes, and a spool without a disk.

Its programs are shell scripts of a few words (`sleep 2`, `echo hi`, `printf x > $TORK_OUTPUT`, `echo 50 > $TORK_PROGRESS`,
`trap '' TERM`, `exit 3`), divided by `;`, so that the real runtimes run the same ones in the same suite. `$NAME` is a word of the
task's `env`.
"""

import asyncio
import shlex
from collections.abc import Callable
from string import Template

from windlass.messages.commands import RunTask
from windlass.worker.results import parse_progress
from windlass.worker.runtime import KILL_GRACE_S, Failed, Outcome, Program, Runtime, Sink, Stopped, Succeeded
from windlass.worker.sequence import run_in_turn
from windlass.worker.spool import Spool
from windlass.worker.words import Tail, Words


class Running:
    """One attempt that runs."""

    def __init__(self, task: RunTask, worker: str) -> None:
        self.task, self.worker = task, worker


class MemoryRuntime(Runtime):
    """Runs its programs one word after the other; `began` and `ended` are told of each."""

    def __init__(
        self, began: Callable[[Running], None] = lambda running: None, ended: Callable[[Running], None] = lambda running: None
    ) -> None:
        self._began, self._ended = began, ended

    async def prepare(self) -> None:
        """See `Runtime`."""

    def refusal(self, task: RunTask) -> str | None:
        """See `Runtime`."""
        return None

    async def run(self, task: RunTask, worker: str, sink: Sink, stop: asyncio.Event) -> Outcome:
        """See `Runtime`."""
        await asyncio.sleep(0)
        if stop.is_set():
            return Stopped()
        running = Running(task, worker)
        self._began(running)

        async def one(program: Program, role: str, stop: asyncio.Event) -> Outcome:
            stopping = asyncio.ensure_future(stop.wait())
            try:
                return await self._run(program, sink, stopping)
            finally:
                stopping.cancel()

        try:
            return await run_in_turn(task.definition, one, stop)
        finally:
            self._ended(running)

    async def _run(self, program: Program, sink: Sink, stopping: "asyncio.Task[bool]") -> Outcome:
        tail, result, ignores = Tail(), "", False
        said = Words("out", sink, tail)
        for statement in Template(program.run).safe_substitute(program.env).split(";"):
            match shlex.split(statement):
                case ["sleep", seconds]:
                    if not await self._sleep(float(seconds), stopping, ignores):
                        return Stopped()
                case ["echo", text, ">", "$TORK_PROGRESS"]:
                    value = parse_progress(text.encode())
                    if value is not None:
                        sink.progress(value)
                case ["echo", *texts]:
                    said.feed(" ".join(texts).encode() + b"\n")
                case ["printf", text, ">", "$TORK_OUTPUT"]:
                    result = text
                case ["trap", "", "TERM"]:
                    ignores = True
                case ["exit", code] if code != "0":
                    return Failed(tail.explain(f"exit code {code}"), int(code))
                case ["true"] | ["exit", "0"] | []:
                    pass
                case other:
                    return Failed(tail.explain(f"exit code 127: {other}"), 127)
        return Succeeded(result)

    @staticmethod
    async def _sleep(seconds: float, stopping: "asyncio.Task[bool]", ignores: bool) -> bool:
        """Whether it slept to the end; one that ignores SIGTERM is killed after the grace."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        await asyncio.wait([stopping], timeout=seconds)
        if not stopping.done():
            return True
        if ignores:
            await asyncio.sleep(min(KILL_GRACE_S, max(0.0, ends_at - loop.time())))
        return False

    async def healthy(self) -> bool:
        """See `Runtime`."""
        return True

    async def close(self) -> None:
        """See `Runtime`."""


class MemorySpool(Spool):
    """Reports in a dictionary that outlives the worker."""

    def __init__(self, folder: dict[str, tuple[str, bytes]]) -> None:
        self._kept = folder

    def open(self) -> None:
        """See `Spool`."""

    def keep(self, name: str, subject: str, payload: bytes) -> None:
        """See `Spool`."""
        self._kept.pop(name, None)
        self._kept[name] = (subject, payload)

    def drop(self, name: str) -> None:
        """See `Spool`."""
        self._kept.pop(name, None)

    def left(self) -> list[tuple[str, str, bytes]]:
        """See `Spool`."""
        return [(name, subject, payload) for name, (subject, payload) in self._kept.items()]
