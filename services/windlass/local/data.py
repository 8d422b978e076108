"""The data directory: where it is, who holds it, its secrets, and what runs in it."""

import fcntl
import os
import secrets
import shlex
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal, TypeVar

import msgspec

from windlass.clock import system as clock
from windlass.errors import Misconfigured

Document = TypeVar("Document")

PEEK_S = 0.2
"""`status` and others look whether the lock is held by taking it for an instant; whoever wants it tries for a little longer."""

NATS_USERS = ("operator", "gateway", "coordinator", "scheduler", "worker", "webhooks")
POSTGRES_SERVICES = ("gateway", "coordinator", "scheduler", "webhooks")
"""Services with a role of their own in the database; a worker has none."""


class Secrets(msgspec.Struct, kw_only=True):
    """The passwords of one installation, made once; kept in a file that only its owner reads."""

    nats: dict[str, str]
    postgres: dict[str, str]
    """By role: `postgres` (superuser), `windlass_owner`, and one for each service."""
    key: str = ""
    """The master key, as the coordinator's setting has it."""


class Installation(msgspec.Struct, kw_only=True):
    """What made this directory, so that a later release finds binaries and formats that match."""

    release: str = ""
    postgres: int = 0
    """Major version of the cluster."""
    format: int = 0
    """Of the database schema, as last migrated; 0 before that."""


class Server(msgspec.Struct, kw_only=True):
    """A running server."""

    pid: int
    port: int


class Service(msgspec.Struct, kw_only=True):
    """A running service; `url` answers about its health."""

    name: str
    instance: str
    pid: int
    url: str
    restarts: int = 0


class State(msgspec.Struct, kw_only=True):
    """What runs in a data directory, as its `up` last wrote it."""

    pid: int
    url: str
    data: str
    nats: Server
    postgres: Server
    services: list[Service] = []
    phase: Literal["starting", "ready", "stopping"] = "starting"
    mode: str = "foreground"
    """`foreground`; `shared`, which ends with the last `windlass run` that uses it; or `detached`, until `windlass down`."""
    webhooks_private: bool = False
    """Whether its webhooks may call this machine and its network."""


class Held(Misconfigured):
    """Another process runs in this data directory."""


class Data:
    """Paths in one data directory, and reading and writing what is in them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock_file = path / "lock"
        self.starting_file = path / "starting"
        self.users_file = path / "users"
        self.state_file = path / "state.json"
        self.ports_file = path / "ports.json"
        self.secrets_file = path / "secrets.json"
        self.installation_file = path / "installation.json"
        self.log_file = path / "up.log"
        self.nats = path / "nats"
        self.postgres = path / "postgres"
        self.spool = path / "spool"

    # -- making and holding -----------------------------------------------------------------------------------------

    def make(self) -> None:
        """Create the directory; one that is there keeps its mode, since all that is put in it has its own.

        Raises:
            Misconfigured: it cannot be made or is not ours.
        """
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True, exist_ok=True)
                # As root, PostgreSQL runs as somebody else and must get through; nobody may list.
                self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        except OSError as error:
            raise Misconfigured(
                f"data directory {self.path}: {error.strerror}; choose another with --data or WINDLASS_DATA"
            ) from error

    def hold(self) -> IO[str]:
        """Take the directory for this process; it is held until the file is closed or the process is gone.

        Raises:
            Held: another `up` has it.
        """
        holder = _open(self.lock_file)
        deadline = clock.monotonic() + PEEK_S
        while True:
            try:
                fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
            holder.close()
            state = self.running()
            if state is None:
                raise Held(f"windlass up is starting or stopping in {self.path}; wait for it")
            raise Held(
                f"windlass is already running: url={state.url} data={self.path} pid={state.pid}; stop it with: "
                f"windlass down --data {shlex.quote(str(self.path))}"
            )
        holder.truncate(0)
        holder.write(f"{os.getpid()}\n")
        holder.flush()
        return holder

    def users(self) -> IO[str]:
        """The file that every `windlass run` holds a shared lock on while it uses a stack."""
        return _open(self.users_file)

    def starting(self) -> IO[str]:
        """The file that whoever starts a stack for the time being holds an exclusive lock on."""
        return _open(self.starting_file)

    def holder(self) -> int | None:
        """The pid of the `up` that runs here; None if there is none.

        The test shares no lock with `hold` for longer than two system calls.
        """
        try:
            with self.lock_file.open() as file:
                try:
                    # A shared lock never collides with another reader, only with the exclusive one of `up`.
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    text = file.read().strip()
                    return int(text) if text.isdigit() else None
        except FileNotFoundError:
            pass
        except PermissionError as error:
            raise Misconfigured(f"data directory {self.path} belongs to somebody else; choose another with --data") from error
        return None

    # -- documents --------------------------------------------------------------------------------------------------

    def _read(self, path: Path, kind: type[Document]) -> Document | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise Misconfigured(f"{path} belongs to somebody else; choose another data directory with --data") from error
        except msgspec.MsgspecError as error:
            raise Misconfigured(f"{path} is damaged ({error}); restore it or choose another data directory") from error

    def write(self, path: Path, document: object) -> None:
        """Whole or not at all, and for its owner's eyes."""
        fresh = path.with_name(path.name + ".new")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
        fresh.replace(path)

    def state(self) -> State | None:
        """What runs here, as last written; it may be gone since: see `running`."""
        return self._read(self.state_file, State)

    def running(self) -> State | None:
        """What runs here now; None if nothing does, or has only begun to."""
        pid = self.holder()
        if pid is None:
            return None
        state = self.state()
        return state if state is not None and state.pid == pid else None

    def write_state(self, state: State) -> None:
        """Tell other processes what runs."""
        self.write(self.state_file, state)

    def forget_state(self) -> None:
        """Nothing runs here any more."""
        with suppress(FileNotFoundError):
            self.state_file.unlink()

    def ports(self) -> dict[str, int]:
        """The ports of the last run, by instance."""
        return self._read(self.ports_file, dict[str, int]) or {}

    def write_ports(self, ports: Mapping[str, int]) -> None:
        """Keep the ports for the next run."""
        self.write(self.ports_file, dict(ports))

    def installation(self) -> Installation:
        """What made this directory; empty when it is new."""
        return self._read(self.installation_file, Installation) or Installation()

    def write_installation(self, installation: Installation) -> None:
        """Record what made this directory."""
        self.write(self.installation_file, installation)

    def secrets(self) -> Secrets:
        """The passwords; made at the first call, and filled up when a release knows more users."""
        found = self._read(self.secrets_file, Secrets) or Secrets(nats={}, postgres={})
        missing_nats = [user for user in NATS_USERS if user not in found.nats]
        roles = ["postgres", "windlass_owner", *(f"windlass_{service}" for service in POSTGRES_SERVICES)]
        missing_roles = [role for role in roles if role not in found.postgres]
        if missing_nats or missing_roles or not found.key:
            # Hexadecimal: fits URLs, configuration files and shells without quoting.
            found.nats.update({user: secrets.token_hex(16) for user in missing_nats})
            found.postgres.update({role: secrets.token_hex(16) for role in missing_roles})
            found.key = found.key or secrets.token_hex(32)
            self.write(self.secrets_file, found)
        return found

    def secret_key(self, service: str) -> str:
        """The setting with the key of a service; empty for one that handles no secrets."""
        from windlass.secrets import keys  # here, since most commands need no key and starting must be quick

        return keys.setting(self.secrets().key, service)


def _open(path: Path) -> IO[str]:
    """Open for writing without emptying it; the handle is not inherited by children."""
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}; choose another data directory with --data or WINDLASS_DATA") from error


def locate(environ: Mapping[str, str], flag: str | None = None) -> Data:
    """The data directory: the flag, `WINDLASS_DATA`, else the platform's place for a user's data."""
    chosen = flag or environ.get("WINDLASS_DATA")
    if chosen:
        return Data(Path(chosen).expanduser().absolute())
    try:
        import platformdirs  # here, since most calls name a directory and starting must be quick
    except ImportError as error:
        raise Misconfigured("no data directory: give --data DIR, or: pip install 'windlass[all]'") from error
    return Data(platformdirs.user_data_path("windlass", appauthor=False))
