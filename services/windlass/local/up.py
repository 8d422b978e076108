"""`windlass up`: everything on this machine, in the foreground."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence

from windlass import settings
from windlass.errors import Invalid, Misconfigured
from windlass.local import binaries, ports, rights
from windlass.local.data import Data, Installation, locate
from windlass.local.nats import Nats
from windlass.local.output import Format, Output
from windlass.local.postgres import Postgres, newest_format
from windlass.local.process import Program, Server
from windlass.local.supervisor import Part, Supervisor
from windlass.release import RELEASE
from windlass.subjects import check_queue

PORTS = range(8000, 8100)
STOP_S = 8.0
"""What a service may take beyond its grace period until it is killed."""


def _count(text: str) -> int:
    number = int(text) if text.isdigit() else -1
    if not 0 <= number <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 64")
    return number


def _port(text: str) -> int:
    number = int(text) if text.isdigit() else -1
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0–65535, and 0 picks one")
    return number


def _queue(text: str) -> str:
    name, colon, slots = text.rpartition(":")
    if not colon or not slots.isdigit() or not 1 <= int(slots) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME:SLOTS, for example default:4")
    try:
        check_queue(name)
    except Invalid as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of `up`."""
    parser.add_argument(
        "--port", type=_port, metavar="N", help="of the API (default: the first free from 8000 to 8099; 0 picks one)"
    )
    parser.add_argument("--data", metavar="DIR", help="data directory (default: WINDLASS_DATA, else the user's data directory)")
    parser.add_argument("--runtime", choices=("auto", "docker", "shell"), help="what runs tasks (default: auto)")
    parser.add_argument(
        "--queue",
        type=_queue,
        action="append",
        metavar="NAME:SLOTS",
        help="served by each worker (default: default, twice the cores)",
    )
    parser.add_argument("--coordinators", type=_count, default=1, metavar="N", help="how many (default: 1)")
    parser.add_argument("--schedulers", type=_count, default=1, metavar="N", help="how many (default: 1)")
    parser.add_argument("--webhooks", type=_count, default=1, metavar="N", help="how many (default: 1)")
    parser.add_argument("--workers", type=_count, default=1, metavar="N", help="how many (default: 1)")
    parser.add_argument("--log-format", choices=("console", "json"), help="of the merged log on stderr (default: console)")
    parser.add_argument("--while-used", action="store_true", help=argparse.SUPPRESS)  # how `windlass run` starts it


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run until Ctrl-C, SIGTERM or `windlass down`.

    Raises:
        Misconfigured: something needed is missing, in use or wrong.
    """
    chosen = settings.lookup(environ, "LOG_FORMAT", args.log_format, "console")
    if chosen not in ("console", "json"):
        raise Misconfigured(f"log format {chosen!r}; it is console or json")
    log_format: Format = "json" if chosen == "json" else "console"
    level = settings.lookup(environ, "LOG_LEVEL", default=environ.get("TORK_LOGGING_LEVEL", "info"))
    output = Output(sys.stderr, log_format, level, environ)
    times = settings.times(environ)
    data = locate(environ, args.data)
    data.make()
    with data.hold():
        users = data.users() if args.while_used else None
        stack = Stack(args, environ, data)
        output.event("info", "starting", data=str(data.path), release=RELEASE)
        supervisor = Supervisor(
            data=data,
            output=output,
            url=stack.url,
            webhooks_private=stack.webhooks_private,
            grace_s=times.grace_s + STOP_S,
            announce=_say,
            mode="shared" if args.while_used else "foreground",
            users=users,
        )
        asyncio.run(supervisor.run(stack.servers(), stack.prepare, stack.parts()))
        output.event("info", "stopped")
    return 0


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError:
        return  # whoever started us reads no more


class Stack:
    """What runs in a data directory, and with which ports, passwords and options."""

    def __init__(self, args: argparse.Namespace, environ: Mapping[str, str], data: Data) -> None:
        self._args, self._environ, self._data = args, environ, data
        self._installation = data.installation()
        self._prefix = settings.lookup(environ, "SUBJECT_PREFIX")
        host, self._api = self._api_address()
        self.url = f"http://{host}:{self._api.number}"
        names = ["gateway-1", *(f"coordinator-{i + 1}" for i in range(args.coordinators))]
        names += [f"worker-{i + 1}" for i in range(args.workers)]
        names += [f"scheduler-{i + 1}" for i in range(args.schedulers)]
        names += [f"webhooks-{i + 1}" for i in range(args.webhooks)]
        self._instances = names
        self._ports = self._choose_ports(["nats", "postgres", *names])
        major = Postgres.major_of(data)
        if major and not data.secrets_file.exists():
            raise Misconfigured(f"{data.secrets_file} is gone, and with it the way into the database: restore it")
        self._nats = Nats(data, binaries.nats_server(environ), self._ports["nats"].number)
        self._binaries = binaries.postgres(environ, major, data.path)
        self._postgres = Postgres(data, self._binaries, self._ports["postgres"].number)
        self._is_current = major != 0 and self._installation.format == newest_format()
        if self._installation.format > newest_format():
            raise Misconfigured(
                f"{data.path} was last used by windlass {self._installation.release}, whose database format "
                f"{self._installation.format} this release ({RELEASE}) does not know: install that release or a newer one"
            )

    def _api_address(self) -> tuple[str, ports.Port]:
        """Host and port of the API: the flag's port, that of an address in the environment, or a free one.

        What is on loopback alone may also call there: so may webhooks, unless the environment says otherwise.
        """
        text = settings.lookup(self._environ, "GATEWAY_ADDRESS") or settings.lookup(self._environ, "COORDINATOR_ADDRESS")
        host, wanted = settings.address(text, "WINDLASS_GATEWAY_ADDRESS") if text else (ports.LOOPBACK, None)
        told = settings.lookup(self._environ, "WEBHOOKS_ALLOW_PRIVATE")
        self.webhooks_private = settings.is_on(told) if told else settings.is_loopback(host)
        if self._args.port is not None:
            wanted = self._args.port
        if host in ("", "0.0.0.0", "::", "localhost"):  # noqa: S104 compared, not bound
            host = ports.LOOPBACK
        if wanted == 0:
            return host, ports.pick()
        port = ports.first_free(PORTS if wanted is None else [wanted])
        if port is None:
            which = f"port {wanted} is" if wanted is not None else f"ports {PORTS[0]} to {PORTS[-1]} are all"
            raise Misconfigured(f"{which} in use; choose another with --port, or let --port 0 pick one")
        return host, port

    def _choose_ports(self, names: Sequence[str]) -> dict[str, ports.Port]:
        """The ports of the last run where they are free, so that what people have noted down stays true."""
        kept = self._data.ports()
        chosen = {name: port for name in names if name in kept and (port := ports.reserve(kept[name])) is not None}
        chosen |= {name: ports.pick(kept.values()) for name in names if name not in chosen}
        numbers = {name: port.number for name, port in chosen.items()}
        if numbers.items() - kept.items():
            self._data.write_ports({**kept, **numbers})
        return chosen

    # -- servers ----------------------------------------------------------------------------------------------------

    def servers(self) -> list[Callable[[], Awaitable[Server]]]:
        """PostgreSQL first: on a warm start it takes longest."""

        async def postgres() -> Server:
            self._postgres.initialise()
            self._postgres.prepare()
            return self._postgres

        async def nats() -> Server:
            self._nats.prepare(allowed=rights.cached(self._data, self._prefix))
            return self._nats

        return [postgres, nats]

    async def prepare(self) -> None:
        """Migrate if this release has not yet, and record what is there now."""
        found = Installation(release=RELEASE, postgres=self._binaries.major, format=newest_format())
        if not self._is_current:
            found.format = await asyncio.to_thread(self._postgres.migrate)
        if found != self._installation:
            self._data.write_installation(found)

    # -- services ---------------------------------------------------------------------------------------------------

    def parts(self) -> list[Part]:
        """The services, the slowest to start first."""
        found = [self._part("gateway", "gateway-1", ["--port", str(self._api.number)])]
        for instance in self._instances:
            service = instance.rpartition("-")[0]
            if service in ("coordinator", "scheduler", "webhooks"):
                found.append(self._part(service, instance, []))
            elif service == "worker":
                found.append(self._part(service, instance, self._worker_options(instance)))
        return found

    def _worker_options(self, instance: str) -> list[str]:
        name = settings.lookup(self._environ, "WORKER_NAME")
        if name and self._args.workers > 1:
            name += instance.removeprefix("worker")
        options = ["--name", name or instance]
        options += ["--runtime", settings.lookup(self._environ, "RUNTIME_TYPE", self._args.runtime, "auto")]
        queues = self._args.queue
        named = any(key.startswith(("WINDLASS_WORKER_QUEUES_", "TORK_WORKER_QUEUES_")) for key in self._environ)
        if not queues and not named:
            queues = [f"default:{2 * cores()}"]
        for queue in queues or []:
            options += ["--queue", queue]
        return options

    def _part(self, service: str, instance: str, options: Sequence[str]) -> Part:
        port = self._ports[instance].number
        argv = [sys.executable, "-P", "-m", "windlass.cli", service, "--http", f"{ports.LOOPBACK}:{port}", *options]
        program = Program(
            name=instance,
            argv=argv,
            environ=self._service_environ(service, instance),
            # A worker is told by the end of its standard input, so that it can end its tasks; the others leave nothing behind.
            parent_death=None if service == "worker" else signal.SIGKILL,
            holds_input=True,
        )
        return Part(service, instance, program, port)

    def _service_environ(self, service: str, instance: str) -> dict[str, str]:
        own = ("NATS_URL", "POSTGRES_DSN", "SECRET_KEY")
        ours = {"NATS_URL", *(f"{prefix}_{name}" for prefix in ("WINDLASS", "TORK") for name in own)}
        environ = {name: value for name, value in self._environ.items() if name not in ours}
        environ |= {
            "WINDLASS_NATS_URL": self._nats.url(service),
            "WINDLASS_INSTANCE": instance,
            "WINDLASS_LOG_FORMAT": "json",
            "WINDLASS_SUPERVISED": "1",
            "PYTHONUNBUFFERED": "1",
        }
        if service == "worker":
            spool = self._data.spool / instance
            for folder in (self._data.spool, spool):
                folder.mkdir(exist_ok=True, mode=0o700)
            environ["WINDLASS_SPOOL"] = str(spool)
        else:
            environ["WINDLASS_POSTGRES_DSN"] = self._postgres.dsn(f"windlass_{service}")
        if key := self._data.secret_key(service):
            environ["WINDLASS_SECRET_KEY"] = key
        if service == "webhooks":
            environ["WINDLASS_WEBHOOKS_ALLOW_PRIVATE"] = str(self.webhooks_private).lower()
        return environ


def cores() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1
