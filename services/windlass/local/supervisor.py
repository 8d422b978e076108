"""What `up` does: servers and services as children, in order up, in order down, and up again when one dies."""

import asyncio
import fcntl
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Literal

import msgspec

from windlass.clock import system as clock
from windlass.errors import Misconfigured
from windlass.local import data as documents
from windlass.local import leftovers, probe
from windlass.local.child import Child
from windlass.local.data import Data, State
from windlass.local.output import Output
from windlass.local.process import Program, Server

Phase = Literal["starting", "ready", "stopping"]

MISCONFIGURED = 78
"""Exit code by which a service says that starting it again will not help; `windlass.service` has the same."""
RESTART_S, RESTART_MAX_S = 0.5, 10.0
STEADY_S = 10.0
"""Who ran this long before it died is started again after the shortest pause."""
ATTEMPTS_MAX = 3
"""How often one may die before everything was ready for the first time; then `up` gives up."""
LOOK_S = 0.03
"""Pause between questions whether a service is ready, while starting."""
PATIENCE_S = 10.0
"""After this long `up` says what it is still waiting for."""
SERVER_STOP_S = 30.0
USERS_S = 0.5
"""How often a shared `up` looks whether somebody still uses it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A service to run: its kind, its name in logs, how to start it, and where it answers about its health."""

    service: str
    instance: str
    program: Program
    port: int


@dataclass(slots=True)
class _Seat:
    """A place that a child sits in, one after the other."""

    service: str
    instance: str
    port: int
    child: Child | None = None
    takes_connections: bool = False
    restarts: int = 0
    is_leaving: bool = False


class Supervisor:
    """Runs one stack until it is asked to stop."""

    def __init__(
        self,
        *,
        data: Data,
        output: Output,
        url: str,
        grace_s: float,
        announce: Callable[[str], None],
        mode: str = "foreground",
        webhooks_private: bool = False,
        users: IO[str] | None = None,
    ) -> None:
        self._data, self._out, self._url, self._grace_s, self._announce = data, output, url, grace_s, announce
        self._mode, self._users, self._webhooks_private = mode, users, webhooks_private
        self._stop, self._now = asyncio.Event(), asyncio.Event()
        self._servers_up = asyncio.Event()
        self._servers_count = 0
        self._outages = 0
        self._servers: list[_Seat] = []
        self._services: list[_Seat] = []
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._failure: Misconfigured | None = None
        self._phase: Phase = "starting"

    # -- from outside -----------------------------------------------------------------------------------------------

    def ask_to_stop(self) -> None:
        """The first time: in order. After that: now."""
        if self._stop.is_set():
            self._out.event("warning", "stopping_now")
            self._now.set()
        else:
            self._stop.set()

    def detach(self) -> None:
        """Stay until `windlass down`, whoever started us."""
        if self._mode == "shared":
            self._mode = "detached"
            self._write_state()

    # -- the run ----------------------------------------------------------------------------------------------------

    async def run(
        self, servers: Sequence[Callable[[], Awaitable[Server]]], prepare: Callable[[], Awaitable[None]], parts: Sequence[Part]
    ) -> None:
        """Start everything, say so, keep it, and stop it all when asked.

        `servers` makes each server, ready to be started; `prepare` is called once they take connections, before the services
        of `parts` are started. `parts` are stopped in the order of the kinds: workers, gateways, then the others.

        Raises:
            Misconfigured: something cannot run as it is, and why.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup has its way
                loop.add_signal_handler(number, self.ask_to_stop)
        loop.add_signal_handler(signal.SIGUSR1, self.detach)
        watching = loop.create_task(self._watch_users()) if self._users is not None else None
        starting = loop.create_task(self._start(servers, prepare, parts))
        stopping = loop.create_task(self._stop.wait())
        try:
            await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                with suppress(asyncio.CancelledError, Misconfigured):
                    await starting
            elif (error := starting.exception()) is not None:
                raise error
            await self._stop.wait()
        finally:
            self._stop.set()
            self._phase = "stopping"
            self._write_state()
            for task in (watching, stopping):
                if task is not None:
                    task.cancel()
            self._out.event("info", "stopping")
            await self._end_all()
            self._data.forget_state()
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                loop.remove_signal_handler(number)
        if self._failure is not None:
            raise self._failure

    async def _start(
        self, servers: Sequence[Callable[[], Awaitable[Server]]], prepare: Callable[[], Awaitable[None]], parts: Sequence[Part]
    ) -> None:
        await leftovers.end(self._data, self._out)
        self._write_state()
        self._servers_count = len(servers)
        self._servers_changed()
        for make in servers:  # the first already starts while the next is made
            server = await make()
            program = server.program()
            seat = _Seat(program.name, program.name, server.port)
            self._servers.append(seat)
            self._keep(seat, program, server.is_ready)
        await self._servers_up.wait()
        await prepare()
        for part in parts:
            seat = _Seat(part.service, part.instance, part.port)
            self._services.append(seat)
            self._keep(seat, part.program, None)
        patience = clock.monotonic() + PATIENCE_S
        waiting = {seat.instance: seat for seat in self._services}
        while waiting:
            answers = await asyncio.gather(*(probe.ready(seat.port) for seat in waiting.values()))
            late = clock.monotonic() > patience
            for seat, answer in zip(list(waiting.values()), answers, strict=True):
                if answer.is_ready:
                    del waiting[seat.instance]
                elif late:
                    self._out.event("warning", "still_waiting", **{"for": seat.instance, "because": answer.broken})
            if late:
                patience = clock.monotonic() + PATIENCE_S
            if waiting:
                await asyncio.sleep(LOOK_S)
        self._phase = "ready"
        self._write_state()
        self._announce(f"windlass ready url={self._url} data={self._data.path} pid={os.getpid()}")

    # -- keeping ----------------------------------------------------------------------------------------------------

    def _keep(self, seat: _Seat, program: Program, is_ready: Callable[[str], bool] | None) -> None:
        task = asyncio.get_running_loop().create_task(self._sit(seat, program, is_ready))
        task.add_done_callback(self._check)
        self._keepers[seat.instance] = task

    def _check(self, task: "asyncio.Task[None]") -> None:
        """A keeper that ends with an error ends `up`."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._failure = self._failure or (
            error if isinstance(error, Misconfigured) else Misconfigured(f"{type(error).__name__}: {error}")
        )
        self._stop.set()

    async def _sit(self, seat: _Seat, program: Program, is_ready: Callable[[str], bool] | None) -> None:
        """Start a child, and another when it dies, until it is asked to leave."""
        pause = RESTART_S
        while not self._has_to_leave(seat):
            if is_ready is None:
                await self._servers_up.wait()  # a service that finds no server would call itself misconfigured
            outages, began = self._outages, clock.monotonic()
            seat.child = child = await Child.run(program, lambda line: self._out.line(seat.service, seat.instance, line))
            self._out.event("debug", "child_started", child=seat.instance, pid=child.pid)
            self._write_state()
            if is_ready is not None and await child.said(is_ready):
                seat.takes_connections = True
                self._servers_changed()
            code = await child.ended()
            seat.child, seat.takes_connections = None, False
            if is_ready is not None:
                self._outages += 1
                self._servers_changed()
            if self._has_to_leave(seat):
                self._out.event("debug", "child_ended", child=seat.instance, how=told(code))
                return
            if code == MISCONFIGURED and is_ready is None and outages == self._outages:
                raise Misconfigured(f"{seat.instance}: {last_words(child)}")
            if self._phase == "starting" and seat.restarts + 1 >= ATTEMPTS_MAX:
                raise Misconfigured(
                    f"{seat.instance} ended {ATTEMPTS_MAX} times while starting ({told(code)}): {last_words(child)}"
                )
            if clock.monotonic() - began >= STEADY_S:
                pause = RESTART_S
            seat.restarts += 1
            self._out.event("warning", "child_died", child=seat.instance, how=told(code), restart_s=pause, last=last_words(child))
            self._write_state()
            await asyncio.sleep(pause)
            pause = min(pause * 2, RESTART_MAX_S)

    @staticmethod
    def _has_to_leave(seat: _Seat) -> bool:
        return seat.is_leaving

    def _servers_changed(self) -> None:
        """A server has begun or ceased to take connections: do they all?"""
        if len(self._servers) == self._servers_count and all(seat.takes_connections for seat in self._servers):
            self._servers_up.set()
        else:
            self._servers_up.clear()

    def _reap(self) -> None:
        for seat in (*self._servers, *self._services):
            if seat.child is not None:
                seat.child.reap()

    def _write_state(self) -> None:
        def server(name: str) -> documents.Server:
            for seat in self._servers:
                if seat.service == name and seat.child is not None:
                    return documents.Server(pid=seat.child.pid, port=seat.port)
            return documents.Server(pid=0, port=next((seat.port for seat in self._servers if seat.service == name), 0))

        self._data.write_state(
            State(
                pid=os.getpid(),
                url=self._url,
                data=str(self._data.path),
                nats=server("nats"),
                postgres=server("postgres"),
                services=[
                    documents.Service(
                        name=seat.service,
                        instance=seat.instance,
                        pid=seat.child.pid if seat.child is not None else 0,
                        url=f"http://127.0.0.1:{seat.port}",
                        restarts=seat.restarts,
                    )
                    for seat in self._services
                ],
                phase=self._phase,
                mode=self._mode,
                webhooks_private=self._webhooks_private,
            )
        )

    async def _watch_users(self) -> None:
        """A shared `up` ends when no `windlass run` holds the file any more, however those ended."""
        assert self._users is not None
        while self._mode == "shared":
            with suppress(BlockingIOError):
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Held until we are gone: who comes now waits, and then starts a stack of its own.
                self._stop.set()
                return
            await asyncio.sleep(USERS_S)

    # -- ending -----------------------------------------------------------------------------------------------------

    async def _end_all(self) -> None:
        """Workers first, while the others can still record what they report; the servers last."""
        first = ("worker", "gateway")
        groups = [[seat for seat in self._services if seat.service == kind] for kind in first]
        groups.append([seat for seat in self._services if seat.service not in first])
        for group in groups:
            await self._end(group, self._grace_s)
        await self._end(self._servers, SERVER_STOP_S)
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)

    async def _end(self, seats: Sequence[_Seat], patience_s: float) -> None:
        for seat in seats:
            seat.is_leaving = True
            if seat.child is None:
                self._keepers[seat.instance].cancel()
            else:
                seat.child.signal(seat.child.program.stop)
        leaving = [asyncio.ensure_future(seat.child.ended()) for seat in seats if seat.child is not None]
        if not leaving:
            return
        now = asyncio.ensure_future(self._now.wait())
        gone = asyncio.ensure_future(asyncio.wait(leaving))
        await asyncio.wait({now, gone}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        now.cancel()
        if not gone.done():
            for seat in seats:
                if seat.child is not None:
                    self._out.event("warning", "child_killed", child=seat.instance)
                    seat.child.signal(seat.child.program.abort)
            await gone


def told(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def last_words(child: Child) -> str:
    """What a child said last, as one line: the error of its last JSON line, else its last line."""
    for line in reversed(child.last):
        if not line.strip():
            continue
        with suppress(msgspec.DecodeError):
            record = msgspec.json.decode(line)
            if isinstance(record, dict):
                return str(record.get("error") or record.get("event") or line)
        return line.strip()
    return "it said nothing"
