"""What an `up` left behind that was killed: processes that have not noticed yet, and files that name others."""

import asyncio
import os
import signal
from contextlib import suppress

from windlass.clock import system as clock
from windlass.local.data import Data
from windlass.local.output import Output
from windlass.local.process import command_of

PATIENCE_S = 3.0
"""How long those may take that are ending by themselves, such as a worker that stops its tasks."""


async def end(data: Data, output: Output) -> None:
    """End what still runs of an earlier `up` in this directory, which this process holds now."""
    state = data.state()
    left: dict[int, str] = {}
    if state is not None:
        for service in state.services:
            # A process id may be somebody else's by now: only a command line that is ours counts.
            if service.pid and service.url.removeprefix("http://") in command_of(service.pid):
                left[service.pid] = service.instance
        if state.nats.pid and str(data.nats) in command_of(state.nats.pid):
            left[state.nats.pid] = "nats"
    lock = data.postgres / "postmaster.pid"
    with suppress(OSError, ValueError, IndexError):
        postmaster = int(lock.read_text().splitlines()[0])
        command = command_of(postmaster)
        if str(data.postgres) in command:
            left[postmaster] = "postgres"
        elif command:
            lock.unlink()  # PostgreSQL would take whoever has this id now for itself
    if not left:
        return
    output.event("info", "leftovers_found", processes=left)
    await _gone(list(left), PATIENCE_S)
    for pid, name in left.items():
        if command_of(pid):
            output.event("warning", "leftover_killed", process=name, pid=pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT if name == "postgres" else signal.SIGKILL)
    await _gone(list(left), PATIENCE_S)


async def _gone(pids: list[int], patience_s: float) -> None:
    deadline = clock.monotonic() + patience_s
    while clock.monotonic() < deadline and any(command_of(pid) for pid in pids):
        await asyncio.sleep(0.01)
