"""Real servers for tests: the embedded NATS and PostgreSQL alone."""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

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


class EmbeddedNats:
    """A NATS server that a test may stop, kill, empty and start again on its port."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.data = Data(path)
        self.data.make()
        self.server = Nats(self.data, binaries.nats_server(os.environ), ports.pick(), RESERVED_BYTES)
        self.server.prepare(allowed=rights_of(prefix))
        self.running: Running | None = Running(self.server)

    @property
    def url(self) -> str:
        """As the operator, who may do everything."""
        return self.server.url("operator")

    def url_of(self, service: str) -> str:
        """As the user of a service, with its rights (of the prefix that this server was made with)."""
        return self.server.url(service)

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

    def start(self) -> None:
        """Start it again on the same port."""
        assert self.running is None
        self.running = Running(self.server)


class EmbeddedPostgres:
    """A PostgreSQL server that a test may stop, kill and start again on its port."""

    def __init__(self, path: Path) -> None:
        self.data = Data(path)
        self.data.make()
        found = binaries.postgres(os.environ, Postgres.major_of(self.data), path)
        self.server = Postgres(self.data, found, ports.pick())
        self.server.initialise(durable=False)
        self.server.prepare()
        self.running: Running | None = Running(self.server)

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
