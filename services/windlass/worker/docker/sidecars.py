"""What runs beside a task for as long as it does."""

import asyncio
import http.client
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from windlass.durations import NotADuration, seconds
from windlass.messages.jobs import Probe, SidecarTask
from windlass.worker.docker.attempt import Attempt
from windlass.worker.docker.engine import Engine, Gone, Refused
from windlass.worker.runtime import Failed, Outcome, Stopped, Vanished

PROBE_TIMEOUT = "1m"
"""How long a sidecar has from its start until it is ready, if its probe does not say."""
ANSWER_S = 3.0
"""How long it has for one answer."""
PAUSE_S = 0.02
"""Before it is asked again for the first time; doubles."""
PAUSE_MAX_S = 1.0
START_PAUSE_S = 0.05
"""How often is looked whether it has been started."""

Beside = Sequence[tuple[SidecarTask, Attempt]]


async def run_beside(
    sidecars: Beside,
    begin: Callable[[Attempt, asyncio.Event], Awaitable[Outcome]],
    is_ready: Callable[[Attempt, Probe], bool],
    main: Callable[[], Awaitable[Outcome]],
    stop: asyncio.Event,
) -> Outcome:
    """Begin each sidecar when the one before is ready, then `main`, and kill them all at its end; how they end is no matter."""
    ending = asyncio.Event()
    running: list[asyncio.Future[Outcome]] = []
    stopping: asyncio.Future[Literal[True]] = asyncio.ensure_future(stop.wait())
    try:
        for sidecar, attempt in sidecars:
            running.append(asyncio.ensure_future(begin(attempt, ending)))
            failure = await _await_ready(sidecar, attempt, running[-1], stopping, is_ready)
            if failure is not None:
                return failure
        return await main()
    finally:
        stopping.cancel()
        ending.set()
        await asyncio.gather(*running, return_exceptions=True)


async def _await_ready(
    sidecar: SidecarTask,
    attempt: Attempt,
    running: "asyncio.Future[Outcome]",
    stopping: "asyncio.Future[Literal[True]]",
    is_ready: Callable[[Attempt, Probe], bool],
) -> Outcome | None:
    """Wait until it is started and its probe, if it has one, is answered; else what the attempt comes to."""
    where = f"sidecar task {sidecar.name}"
    probe = sidecar.probe
    timeout = (probe.timeout if probe else "") or PROBE_TIMEOUT
    try:
        limit_s = seconds(timeout)
    except NotADuration as error:
        return Failed(f"{where}: invalid timeout duration: {error}")
    loop = asyncio.get_running_loop()
    ready_by: float | None = None
    pause_s = PAUSE_S
    while not stopping.done():
        if attempt.is_started and probe is None:
            return None
        if running.done():
            return _ended(where, running.result())
        if not attempt.is_started or probe is None:
            await asyncio.wait((running, stopping), timeout=START_PAUSE_S, return_when=asyncio.FIRST_COMPLETED)
            continue
        ready_by = ready_by or loop.time() + limit_s
        if await asyncio.to_thread(is_ready, attempt, probe):
            return None
        if loop.time() >= ready_by:
            return Failed(f"{where}: probe timed out after {timeout}")
        await asyncio.wait((running, stopping), timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        pause_s = min(2 * pause_s, PAUSE_MAX_S)
    return Stopped()


def _ended(where: str, outcome: Outcome) -> Outcome:
    match outcome:
        case Failed():
            return Failed(f"{where}: {outcome.error}", outcome.exit_code)
        case Vanished():
            return Vanished(f"{where}: {outcome.error}")
        case _:
            return Failed(f"{where}: it ended before its probe was answered")


def answers(engine: Engine, container: str, network: str, probe: Probe) -> bool:
    """Whether a container answers its probe with 200. It is asked at its own address, which this host has to reach."""
    try:
        found = engine.json("GET", f"/containers/{container}/json")
        address = found["NetworkSettings"]["Networks"][network]["IPAddress"]
    except (Refused, Gone, KeyError):
        return False
    connection = http.client.HTTPConnection(address, probe.port, timeout=ANSWER_S)
    try:
        connection.request("GET", probe.path or "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
