"""A stack for the time being: whoever needs one uses what runs, or starts it, and the last one stops it.

Each user holds a shared lock on a file of the data directory. A stack that was started for the time being tries for the
exclusive lock now and then; when it gets it, nobody uses it any more, however they ended, and it stops. It keeps that lock
until it is gone, so that whoever comes meanwhile waits and then starts another.
"""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import IO

from windlass.clock import system as clock
from windlass.errors import Misconfigured, Unavailable
from windlass.local.data import Data, State, locate
from windlass.local.environment import variables

LOOK_S = 0.02
START_S = 60.0
"""The longest that starting may take: a slow machine, a first time."""
STOP_S = 60.0
"""The longest that a stack may take to stop which somebody else's end has set going, or our own."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack."""

    url: str
    """Of the API."""
    environ: dict[str, str]
    """The environment with an operator's variables: `WINDLASS_NATS_URL`, `WINDLASS_POSTGRES_DSN`, `WINDLASS_ENDPOINT`."""
    data: Data
    was_started: bool
    """Whether this use of it started it."""

    async def leave_running(self) -> None:
        """Keep it after its last user has gone, until `windlass down`.

        Raises:
            Unavailable: it is gone, or does not answer.
        """
        deadline = clock.monotonic() + 5
        while True:
            state = self.data.running()
            if state is None or clock.monotonic() > deadline:
                raise Unavailable(f"the stack in {self.data.path} is gone; see {self.data.log_file}")
            if state.mode != "shared":
                return
            os.kill(state.pid, signal.SIGUSR1)
            await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def use(environ: Mapping[str, str], flag: str | None = None, options: Sequence[str] = ()) -> AsyncIterator[Stack]:
    """Use the stack of a data directory (`flag` as `--data`); start one, with these options of `up`, if none runs.

    At the end of the block it is stopped, if it was started for the time being and nobody else uses it.

    Raises:
        Misconfigured: it cannot be started, in the words of `up`.
        Unavailable: it takes too long.
    """
    data = locate(environ, flag)
    data.make()
    with data.users() as users:
        await _lock(users, fcntl.LOCK_SH, STOP_S, f"what runs in {data.path} does not finish stopping")
        started, state = await _running(data, environ, options)
        try:
            yield Stack(state.url, {**environ, **variables(data, state, None)}, data, started)
        finally:
            await _release(data, users)


async def _lock(file: IO[str], kind: int, patience_s: float, complaint: str) -> None:
    deadline = clock.monotonic() + patience_s
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        if clock.monotonic() > deadline:
            raise Unavailable(f"{complaint}; see: windlass status")
        await asyncio.sleep(LOOK_S)


async def _running(data: Data, environ: Mapping[str, str], options: Sequence[str]) -> tuple[bool, State]:
    """What runs, once it is ready; whether we started it."""
    state = data.running()
    if state is not None and state.phase == "ready":
        return False, state
    with data.starting() as starting:
        # One at a time looks and starts; if it is killed, its lock goes and the next one finds what it began.
        await _lock(starting, fcntl.LOCK_EX, START_S + STOP_S, f"the start of a stack in {data.path} takes too long")
        process: subprocess.Popen[bytes] | None = None
        deadline = clock.monotonic() + START_S
        while clock.monotonic() < deadline:
            if data.holder() is None:
                if process is None:
                    process = _start(data, environ, options)
                elif process.poll() is not None:
                    raise Misconfigured(_last_words(data, process.returncode))
            else:
                state = data.running()
                if state is not None and state.phase == "ready":
                    return process is not None and process.pid == state.pid, state
            await asyncio.sleep(LOOK_S)
    raise Unavailable(f"windlass up in {data.path} was not ready within {START_S:.0f} s; see {data.log_file}")


def _start(data: Data, environ: Mapping[str, str], options: Sequence[str]) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-P", "-m", "windlass.cli", "up", "--while-used", "--data", str(data.path), *options]
    with open(os.open(data.log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
        return subprocess.Popen(argv, env=dict(environ), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _last_words(data: Data, code: int) -> str:
    """Why `up` ended, in its own words."""
    with suppress(OSError):
        for line in reversed(data.log_file.read_text(errors="replace").splitlines()):
            if line.startswith("windlass up: "):
                return line.removeprefix("windlass up: ")
    return f"windlass up ended with exit code {code} while starting; see {data.log_file}"


async def _release(data: Data, users: IO[str]) -> None:
    """Let go of the stack; the last user of a shared one stops it and waits until it is gone."""
    try:
        # In place of our shared lock, so of two that leave at the same time the later one gets it.
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    state = data.running()
    if state is None or state.mode != "shared":
        return
    with suppress(ProcessLookupError):
        os.kill(state.pid, signal.SIGTERM)
    deadline = clock.monotonic() + STOP_S
    while data.holder() == state.pid and clock.monotonic() < deadline:
        await asyncio.sleep(LOOK_S)
