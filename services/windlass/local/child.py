"""A running child of `up`: its lines as they come, and its end."""

import asyncio
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from windlass.local.process import Program, start

LINE_BYTES_MAX = 1024 * 1024
"""A longer line is cut into several."""
LAST_LINES = 20
OUTPUT_END_S = 0.5
"""How long after the end of a child its last words are waited for: something it started may hold its output open."""


class _Lines(asyncio.Protocol):
    def __init__(self, tell: Callable[[str], None], ended: asyncio.Event) -> None:
        self._tell, self._ended, self._rest = tell, ended, b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._tell(line.decode(errors="replace").rstrip("\r"))
        if len(self._rest) > LINE_BYTES_MAX:
            self._flush()

    def _flush(self) -> None:
        rest, self._rest = self._rest, b""
        if rest:
            self._tell(rest.decode(errors="replace"))

    def connection_lost(self, _: Exception | None) -> None:
        self._flush()
        self._ended.set()


class Child:
    """One process; make it with `run`."""

    def __init__(self, program: Program, process: "subprocess.Popen[bytes]", tell: Callable[[str], None]) -> None:
        self.program = program
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self._process, self._tell = process, tell
        self._ended = asyncio.Event()
        self._silent = asyncio.Event()
        self._seen: dict[int, tuple[Callable[[str], bool], asyncio.Event]] = {}

    @classmethod
    async def run(cls, program: Program, tell: Callable[[str], None]) -> "Child":
        """Start a program; `tell` gets each line it prints.

        Raises:
            Misconfigured: it cannot be started.
        """
        process = start(program)
        child = cls(program, process, tell)
        try:
            await asyncio.get_running_loop().connect_read_pipe(lambda: _Lines(child._hear, child._silent), process.stdout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return child

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    def _hear(self, line: str) -> None:
        self.last.append(line)
        for is_it, seen in self._seen.values():
            if is_it(line):
                seen.set()
        self._tell(line)

    def reap(self) -> None:
        """Look whether it has ended; for whoever gets SIGCHLD."""
        if self._process.poll() is not None:
            if self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()
            self._ended.set()

    async def said(self, is_it: Callable[[str], bool]) -> bool:
        """Wait for a line; False if the process ended without it."""
        seen = asyncio.Event()
        if any(is_it(line) for line in self.last):
            return True
        self._seen[id(seen)] = (is_it, seen)
        waiting = [asyncio.ensure_future(seen.wait()), asyncio.ensure_future(self._ended.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            del self._seen[id(seen)]
        return seen.is_set() and not self._ended.is_set()

    async def ended(self) -> int:
        """Wait for its end, and its last words; returns the exit code."""
        await self._ended.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(OUTPUT_END_S):
                await self._silent.wait()
        assert self.code is not None
        return self.code

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
        else:
            self._ended.set()
