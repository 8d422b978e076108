"""The life every service leads: start, serve, answer about its health, drain, stop."""

import asyncio
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import msgspec
import uvicorn
import uvloop
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from windlass import log as logs
from windlass.bus.connection import Bus
from windlass.clock import Clock, system
from windlass.errors import Misconfigured, Unavailable, WindlassError
from windlass.ids import WorkerId
from windlass.messages.envelope import encode
from windlass.messages.notices import NodeBeat
from windlass.settings import Node

log = logs.get()

R = TypeVar("R")

MISCONFIGURED = 78
"""Exit code that says: starting again will not help (EX_CONFIG)."""


class Health:
    """What a service says about itself: live while its loop turns, ready while its work does.

    A check answers None when its part works, else what is wrong.
    """

    def __init__(self, service: str, instance: str, clock: Clock = system) -> None:
        self._service, self._instance, self._clock = service, instance, clock
        self._checks: dict[str, Callable[[], str | None]] = {}
        self._progress_at = clock.now()

    def check(self, name: str, probe: Callable[[], str | None]) -> None:
        """Add a part."""
        self._checks[name] = probe

    def expect(self, name: str, within_s: float) -> Callable[[], None]:
        """Add a part that works by itself again and again; what is returned is called each time it did."""
        last: list[float] = []

        def worked() -> None:
            last[:] = [self._clock.monotonic()]

        def probe() -> str | None:
            if not last:
                return "has not worked yet"
            silent_s = self._clock.monotonic() - last[0]
            return f"has not worked for {silent_s:.0f} s" if silent_s > within_s else None

        self.check(name, probe)
        return worked

    def progressed(self) -> None:
        """Real work was done just now."""
        self._progress_at = self._clock.now()

    def report(self) -> tuple[bool, dict[str, object]]:
        """Whether all is well, and the document that says so."""
        broken = {name: wrong for name, probe in self._checks.items() if (wrong := probe()) is not None}
        return not broken, {
            "status": "DOWN" if broken else "UP",
            "service": self._service,
            "instance": self._instance,
            "last_progress_at": self._progress_at.isoformat().replace("+00:00", "Z"),
            **({"broken": broken} if broken else {}),
        }

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """The ASGI application behind `--http`: /health, /ready and /metrics."""
        if scope["type"] != "http":
            return
        path, kind = scope["path"], b"application/json"
        if path == "/metrics":
            status, body, kind = 200, generate_latest(), CONTENT_TYPE_LATEST.encode()
        elif path in ("/health", "/ready"):
            well, document = self.report()
            status, body = (200 if well or path == "/health" else 503), msgspec.json.encode(document)
        else:
            status, body = 404, b'{"message":"Not Found"}'
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": body})


def listen(address: tuple[str, int], what: str) -> socket.socket:
    """A listening socket; port 0 picks one.

    Raises:
        Misconfigured: the port is in use or not allowed.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    # With the protocol named, the event loop switches Nagle's algorithm off; otherwise an answer in two writes waits 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise Misconfigured(f"{what} {address[0]}:{address[1]}: {error.strerror or error}; choose another port") from error
    return listening


class _Server(uvicorn.Server):
    """uvicorn's, but signals are this module's, and it wakes once a second, for its Date header, and not ten times."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Answer what is under way, and no more."""
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        """See there."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._ended.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them."""
        yield


@asynccontextmanager
async def serve_http(app: Any, listening: socket.socket, **options: Any) -> AsyncIterator[None]:
    """Serve an ASGI application on a socket for the time of the block."""
    server = _Server(
        uvicorn.Config(app, log_level="warning", access_log=False, proxy_headers=False, timeout_graceful_shutdown=2, **options)
    )
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.end()
        with suppress(asyncio.CancelledError):
            await task


AFTER_FAILURE_S = 0.5
"""The shortest pause after a step that failed, however often it is due."""


async def every(period_s: float, step: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Call `step` about every `period_s` until `stop`; what it raises of ours is logged and tried again."""
    name = getattr(step, "__name__", "step")
    while not stop.is_set():
        pause_s = period_s
        try:
            await step()
        except WindlassError as error:
            log.warning("step_failed", step=name, error=str(error))
            pause_s = max(period_s, AFTER_FAILURE_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s * random.uniform(0.9, 1.1)):  # noqa: S311 jitter, not secrecy
                await stop.wait()


async def first(step: Callable[[], Awaitable[R]], stop: asyncio.Event) -> R:
    """What `step` gives once it succeeds: a dependency that does not answer yet is waited for.

    Raises:
        Misconfigured: waiting does not help.
        Unavailable: `stop` came first.
    """
    pause_s, told = 0.05, False
    while True:
        try:
            return await step()
        except Unavailable as error:
            if stop.is_set():
                raise
            if not told:
                log.warning("waiting_for_dependency", error=str(error))
                told = True
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await stop.wait()
            pause_s = min(2.0, pause_s * 2)


class Pulse:
    """A node's heartbeat: a counter that grows while the main loop turns."""

    def __init__(self, bus: Bus, node: WorkerId, name: str, service: str, version: str, clock: Clock = system) -> None:
        self._bus, self._clock = bus, clock
        self._fixed = {"id": node, "name": name, "service": service, "version": version, "hostname": socket.gethostname()}
        self._started_at = clock.now()
        self._counter = 0
        self._cpu = (os.times(), clock.monotonic())

    def beat(self, **details: Any) -> bytes:
        """The next heartbeat; `details` are further fields of `NodeBeat`."""
        self._counter += 1
        before, then = self._cpu
        now, at = os.times(), self._clock.monotonic()
        used = (now.user + now.system + now.children_user + now.children_system) - (
            before.user + before.system + before.children_user + before.children_system
        )
        self._cpu = (now, at)
        share = 100.0 * used / max(at - then, 1e-6) / (os.cpu_count() or 1)
        body = NodeBeat(
            **self._fixed,  # type: ignore[arg-type]  # the four texts and the id
            counter=self._counter,
            started_at=self._started_at,
            cpu_percent=round(min(share, 100.0), 2),
            **details,
        )
        return encode(body, id=f"{body.id}-{body.counter}", at=self._clock.now())

    def subject(self) -> str:
        """Where heartbeats go."""
        return self._bus.subjects.heartbeat(self._fixed["id"])


def _ask_from_outside(loop: asyncio.AbstractEventLoop, ask: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has ended already
        loop.call_soon_threadsafe(ask)


def _end_with_parent(stop: Callable[[], None]) -> None:
    """When whoever started us held our standard input open for that purpose, its end is ours."""

    def wait() -> None:
        with suppress(OSError, ValueError):
            while os.read(0, 4096):
                pass
        stop()

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _misconfigured(error: BaseException) -> Misconfigured | None:
    """The reason to give up for good, if that is what an error or a group of them holds."""
    if isinstance(error, Misconfigured):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _misconfigured(inner))), None)
    return None


def _is_unavailable(error: BaseException) -> bool:
    """Whether an error, or all of a group of them, says only that something did not answer."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_unavailable, error.exceptions))
    return isinstance(error, Unavailable)


def run(service: str, settings: Node, serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> int:
    """Run a service until SIGTERM or SIGINT; returns its exit code.

    The first signal sets the event that `serve` was given; a second, or the end of the grace period, ends the process at
    once. An error that starting again cannot mend is one line and exit code 78 under a supervisor, 1 elsewhere.
    """
    logs.configure(service, settings.instance, settings.log_format, settings.log_level)  # type: ignore[arg-type]  # checked when it was read
    supervised = "WINDLASS_SUPERVISED" in os.environ

    async def main() -> int:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def ask() -> None:
            if stop.is_set():
                os._exit(1)
            stop.set()
            loop.call_later(settings.times.grace_s + 5, os._exit, 1)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ask)
        if supervised:
            _end_with_parent(lambda: _ask_from_outside(loop, ask))
        try:
            await serve(stop)
        except (Misconfigured, Unavailable, BaseExceptionGroup) as error:
            cause = _misconfigured(error)
            if cause is None and stop.is_set() and _is_unavailable(error):
                return 0  # it was asked to end while it waited for something
            if cause is None:
                raise
            log.error("service_misconfigured", error=str(cause))
            if not supervised:
                print(f"windlass {service}: {cause}", file=sys.stderr)  # noqa: T201 the command's last word
            return MISCONFIGURED if supervised else 1
        return 0

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())
    except KeyboardInterrupt:
        return 130
