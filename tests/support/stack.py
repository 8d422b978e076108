"""Real servers for tests: the embedded NATS and PostgreSQL alone (`servers`), or all of `windlass up` (`up`)."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass.local import binaries, ports
from windlass.local.data import Data
from windlass.local.nats import Nats
from windlass.local.nats import rights as rights_of
from windlass.local.postgres import SUPERUSER, Postgres
from windlass.local.process import Program, Server, start

RESERVED_BYTES = 1 << 40
"""Each test's streams reserve their limits in the file store, and never use them."""


class Running:
    """A server as a child of the test process."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.program: Program = server.program()
        self.lines: list[str] = []
        self.process: subprocess.Popen[bytes] = start(self.program)
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(20) or self.process.poll() is not None:
            self.stop()
            raise AssertionError(f"{self.program.name} did not get ready: {self.lines[-10:]}")

    @property
    def pid(self) -> int:
        """Of the server."""
        return self.process.pid

    def _read(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.lines.append(line)
            if self._server.is_ready(line):
                self._ready.set()
        self._ready.set()

    def stop(self) -> None:
        """End it in order, and at once if it takes too long."""
        if self.process.poll() is None:
            self.process.send_signal(self.program.stop)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.send_signal(self.program.abort)
                self.process.wait(10)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


class Embedded:
    """A server that a test may stop or kill; `running` is None while it is down."""

    running: Running | None

    def stop(self) -> None:
        """End it in order."""
        if self.running is not None:
            self.running.stop()
            self.running = None

    def kill(self) -> None:
        """End it as a crash would."""
        if self.running is not None:
            self.running.process.kill()
            self.running.process.wait(10)
            self.stop()


class EmbeddedNats(Embedded):
    """A NATS server that a test may stop, kill, empty and start again on its port."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.data = Data(path)
        self.data.make()
        self._port = ports.pick()
        self.server = Nats(self.data, binaries.nats_server(os.environ), self._port.number, RESERVED_BYTES)
        self.server.prepare(allowed=rights_of(prefix))
        self.running = Running(self.server)

    @property
    def url(self) -> str:
        """As the operator, who may do everything."""
        return self.server.url("operator")

    def url_of(self, service: str) -> str:
        """As the user of a service, with its rights (of the prefix that this server was made with)."""
        return self.server.url(service)

    def start(self) -> None:
        """Start it again on the same port."""
        assert self.running is None
        self.running = Running(self.server)


class EmbeddedPostgres(Embedded):
    """A PostgreSQL server that a test may stop, kill and start again on its port."""

    def __init__(self, path: Path) -> None:
        self.data = Data(path)
        self.data.make()
        found = binaries.postgres(os.environ, Postgres.major_of(self.data), path)
        self._port = ports.pick()
        self.server = Postgres(self.data, found, self._port.number)
        self.server.initialise(durable=False)
        self.server.prepare()
        self.running = Running(self.server)

    @property
    def dsn(self) -> str:
        """As the superuser, in the database `postgres`; make a database of your own."""
        return self.dsn_of("postgres")

    def dsn_of(self, database: str, role: str = SUPERUSER) -> str:
        """As a role, in a database; service roles get in after `admit`."""
        return self.server.dsn(role, database)

    def admit(self) -> None:
        """Give the service roles, which a migration has made, their passwords."""
        from windlass.local import database

        passwords = self.data.secrets().postgres
        database.admit(self.dsn, {role: word for role, word in passwords.items() if role not in (SUPERUSER, "windlass_owner")})

    def start(self) -> None:
        """Start it again on the same port; what a killed one left of its processes is waited for."""
        assert self.running is None
        deadline = time.monotonic() + 10
        while True:
            try:
                self.running = Running(self.server)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
            else:
                return


@dataclass(frozen=True)
class Servers:
    """Both servers."""

    nats: EmbeddedNats
    postgres: EmbeddedPostgres


@contextmanager
def servers(prefix: str = "") -> Iterator[Servers]:
    """Fresh servers on free ports in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="windlass-", ignore_cleanup_errors=True) as folder, ExitStack() as held:
        postgres = EmbeddedPostgres(Path(folder) / "data")
        held.callback(postgres.stop)
        nats = EmbeddedNats(Path(folder) / "data", prefix)
        held.callback(nats.stop)
        yield Servers(nats, postgres)


# -- all of it ------------------------------------------------------------------------------------------------------

READY_S = 45.0
"""Three tests start their stacks at once on two cores."""


def wait_for(what: str, condition: Callable[[], Any], within_s: float = 10.0) -> Any:
    """Wait until `condition` returns something true, and return that; the failure names `what` it was."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        time.sleep(0.02)


def windlass(
    *arguments: str, environ: Mapping[str, str] | None = None, within_s: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run the real command line to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "windlass.cli", *arguments],
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


class Service:
    """One service as a process, and what it says."""

    def __init__(self, name: str, *options: str, environ: Mapping[str, str]) -> None:
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "windlass.cli", name, *options],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def end(self, number: int = 0) -> int:
        """Its exit code, once it has ended; after a signal, if it has not."""
        if number and self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self._reader.join(10)
            assert self.process.stdout is not None
            self.process.stdout.close()


class Up:
    """A real `windlass up` on a data directory, with the fast profile; ready once it is made."""

    def __init__(self, path: Path, *options: str, environ: Mapping[str, str] | None = None, port: int = 0) -> None:
        self.path = path
        self.environ = {**os.environ, "WINDLASS_PROFILE": "fast", **(environ or {})}
        self.log: list[str] = []
        """What it logged, line by line."""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "windlass.cli", "up", "--data", str(path), "--port", str(port), *options],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stdout: list[str] = []
        self._spoke = threading.Event()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._stdout), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self.log), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self._spoke.wait(READY_S)
        if not self._stdout or not self._stdout[0].startswith("windlass ready "):
            self.stop()
            raise AssertionError(f"windlass up did not get ready: {self._stdout} {self.log[-20:]}")
        self.ready_line = self._stdout[0]
        self.url = self.ready_line.split(" url=")[1].split(" ")[0]
        """Of the API."""

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))
            if lines is self._stdout:
                self._spoke.set()
        if lines is self._stdout:
            self._spoke.set()

    @property
    def pid(self) -> int:
        """Of `up` itself."""
        return self.process.pid

    @property
    def state(self) -> dict[str, Any]:
        """What `windlass status --json` says."""
        return dict(json.loads(windlass("status", "--json", "--data", str(self.path)).stdout))

    def state_phase(self) -> str:
        """`starting`, `ready` or `stopping`."""
        state = Data(self.path).state()
        return state.phase if state is not None else "gone"

    def pid_of(self, instance: str) -> int:
        """Of a child right now: `nats`, `postgres`, or an instance such as `coordinator-1`; 0 while it is down."""
        state = Data(self.path).state()
        assert state is not None
        if instance in ("nats", "postgres"):
            return int(getattr(state, instance).pid)
        return next(service.pid for service in state.services if service.instance == instance)

    def health_url(self, instance: str) -> str:
        """Where a service answers about its health."""
        state = Data(self.path).state()
        assert state is not None
        return next(service.url for service in state.services if service.instance == instance)

    def kill(self, instance: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a child a signal; returns the process id that it had."""
        pid = self.pid_of(instance)
        os.kill(pid, number)
        return pid

    def env(self, service: str = "") -> dict[str, str]:
        """What `windlass env` exports for a service, or for an operator, over this `up`'s own environment."""
        said = windlass("env", *([service] if service else []), "--data", str(self.path))
        assert said.returncode == 0, said.stderr
        lines = [shlex.split(line)[1] for line in said.stdout.splitlines()]
        return {**self.environ, **dict(line.split("=", 1) for line in lines)}

    def run(self, *arguments: str, within_s: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run a command of `windlass` in this data directory."""
        return windlass(*arguments, environ={**self.environ, "WINDLASS_DATA": str(self.path)}, within_s=within_s)

    def verify(self) -> None:
        """What is stored is what the log says; nothing to ask where the test has ended it all."""
        if self.process.poll() is None and self.state_phase() == "ready":
            said = wait_for("the database answers", lambda: (r := self.run("rebuild", "--verify")).stdout and r)
            assert said.returncode == 0, said.stdout

    def stop(self) -> int:
        """End it as Ctrl-C does; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        for reader in self._readers:
            reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return self.process.returncode


@contextmanager
def up(*options: str, environ: Mapping[str, str] | None = None) -> Iterator[Up]:
    """A real `windlass up` in a temporary data directory; at the end its rows are compared with its log, and it is stopped."""
    with tempfile.TemporaryDirectory(prefix="windlass-", ignore_cleanup_errors=True) as folder:
        running = Up(Path(folder) / "data", *options, environ=environ)
        try:
            yield running
            running.verify()
        finally:
            running.stop()
