"""The embedded PostgreSQL: making a cluster, its configuration, its roles, and how it is run."""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import windlass.eventlog
from windlass.errors import Misconfigured
from windlass.local.binaries import Postgres as Binaries
from windlass.local.data import POSTGRES_SERVICES, Data, Secrets
from windlass.local.ports import LOOPBACK
from windlass.local.process import Program, capability_for, start, unprivileged

DATABASE = "windlass"
OWNER = "windlass_owner"
SUPERUSER = "postgres"

TEMPLATE = """\
# Written by windlass at every start; changes made here are lost.
listen_addresses = '{host}'
port = {port}
# Off: a socket's path may have 107 characters, a data directory more; and one way in is enough.
unix_socket_directories = ''
password_encryption = 'scram-sha-256'

# What Windlass answers with 2xx is on disk. Do not touch these three.
fsync = on
synchronous_commit = on
full_page_writes = on

# Two connections for each coordinator, a few for gateways and followers, and people.
max_connections = 100
# A laptop's share: the working set of some 100,000 jobs. Taken from the system only as it is used.
shared_buffers = 128MB
# Statements address rows by key; nothing sorts or hashes more than a page of a list.
work_mem = 4MB
maintenance_work_mem = 64MB
# Statements take a millisecond: compiling or spreading them over processes costs more than it gives.
jit = off
max_parallel_workers_per_gather = 0
# A checkpoint writes whole pages to the log again; under load every few minutes are better than each minute.
max_wal_size = 1GB
checkpoint_timeout = 10min
# Solid-state disks read at random nearly as fast as in order.
random_page_cost = 1.1
# Nobody subscribes to this server, so its launcher need not run.
max_logical_replication_workers = 0
# Queue-like columns change with every job: look twice a minute, and keep the tables small.
autovacuum_naptime = 30s

log_destination = 'stderr'
logging_collector = off
log_line_prefix = ''
log_checkpoints = off
lc_messages = 'C'
timezone = 'UTC'
log_timezone = 'UTC'
"""

SINCE_18 = """\
# Pages are nearly always in memory: three processes that read for others would only take theirs.
io_method = sync
"""

ACCESS = f"""\
# Written by windlass at every start; changes made here are lost.
host all all {LOOPBACK}/32 scram-sha-256
"""


class Postgres:
    """The PostgreSQL server of a data directory."""

    name = "postgres"

    def __init__(self, data: Data, binaries: Binaries, port: int) -> None:
        self.port = port
        self._data, self._binaries = data, binaries
        self._secrets: Secrets = data.secrets()
        self._account = unprivileged(data.postgres)
        self._capability = capability_for(self._account, data.postgres, binaries.folder / "postgres")

    @staticmethod
    def major_of(data: Data) -> int:
        """The major version of the cluster that is there; 0 if there is none."""
        try:
            return int((data.postgres / "PG_VERSION").read_text())
        except FileNotFoundError:
            return 0
        except PermissionError as error:
            raise Misconfigured(f"{data.postgres} belongs to somebody else; choose another directory with --data") from error
        except ValueError as error:
            raise Misconfigured(f"{data.postgres} is no PostgreSQL cluster; restore it or choose another --data") from error

    # -- making -----------------------------------------------------------------------------------------------------

    def initialise(self, *, durable: bool = True) -> None:
        """Make the cluster if there is none; `durable=False` (tests) does not wait for the disk.

        It is made beside its place and moved there when it is whole, so a start that was killed leaves nothing half.

        Raises:
            Misconfigured: PostgreSQL could not do it, in its own words.
        """
        if (self._data.postgres / "PG_VERSION").exists():
            return
        fresh = self._data.path / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password = fresh / "password"
        password.touch(mode=0o600)
        password.write_text(self._secrets.postgres[SUPERUSER] + "\n")
        cluster = fresh / "cluster"
        cluster.mkdir(mode=0o700)
        self._give(fresh, password, cluster)
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        options += [] if durable else ["--no-sync"]
        argv = [self._program("initdb"), "-D", str(cluster), "-U", SUPERUSER, f"--pwfile={password}", *options]
        with start(self._described(argv)) as process:
            said, _ = process.communicate(timeout=120)
        if process.returncode != 0:
            lines = [line for line in said.decode(errors="replace").splitlines() if "error" in line.lower()]
            raise Misconfigured(f"PostgreSQL could not make its files in {cluster}: {'; '.join(lines) or said.decode()[-300:]}")
        cluster.rename(self._data.postgres)
        shutil.rmtree(fresh)

    def _give(self, *paths: Path) -> None:
        if self._account is not None:
            for path in paths:
                os.chown(path, self._account.uid, self._account.gid)

    def prepare(self) -> None:
        """Write the configuration of this start."""
        text = TEMPLATE.format(host=LOOPBACK, port=self.port) + (SINCE_18 if self._binaries.major >= 18 else "")
        for name, content in (("postgresql.conf", text), ("pg_hba.conf", ACCESS)):
            file = self._data.postgres / name
            with suppress(FileNotFoundError):
                file.unlink()  # a link that somebody put there is not followed
            file.touch(mode=0o600)
            file.write_text(content)
            self._give(file)

    # -- running ----------------------------------------------------------------------------------------------------

    def _program(self, name: str) -> str:
        return str(self._binaries.folder / name)

    def _described(self, argv: list[str]) -> Program:
        # No PG* variable and no locale of ours reaches it; `/` is a folder that anybody may be in.
        return Program(
            name=self.name,
            argv=argv,
            environ={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            account=self._account,
            capability=self._capability,
            parent_death=signal.SIGQUIT,  # at once: it recovers from its log, and the next start need not wait
            stop=signal.SIGINT,  # "fast": ends the sessions, writes a checkpoint
            abort=signal.SIGQUIT,
            folder=Path("/"),
        )

    def program(self) -> Program:
        """How to start it."""
        return self._described([self._program("postgres"), "-D", str(self._data.postgres)])

    @staticmethod
    def is_ready(line: str) -> bool:
        """The server's own word for it."""
        return line.endswith("database system is ready to accept connections")

    def dsn(self, role: str, database: str = DATABASE) -> str:
        """Where and as whom to connect."""
        return f"postgresql://{role}:{self._secrets.postgres[role]}@{LOOPBACK}:{self.port}/{database}"

    # -- the database -----------------------------------------------------------------------------------------------

    def migrate(self) -> int:
        """Make what is missing of database, owner, tables and roles, each with its password; returns the format it now has.

        The server must run.

        Raises:
            Misconfigured: the database is newer than this release.
        """
        from windlass.local import database  # here, since the driver is slow to import and this is seldom needed

        passwords = self._secrets.postgres
        superuser = self.dsn(SUPERUSER, "postgres")
        database.establish(superuser, DATABASE, OWNER, passwords[OWNER])
        database.migrate(self.dsn(OWNER))
        database.admit(superuser, {role: passwords[role] for role in (f"windlass_{service}" for service in POSTGRES_SERVICES)})
        return newest_format()


def newest_format() -> int:
    """The format that this release knows: the number of its last migration, by the names of their files."""
    folder = Path(windlass.eventlog.__file__).parent / "migrations"
    return max(int(file.name[:4]) for file in folder.glob("[0-9]*.sql"))
