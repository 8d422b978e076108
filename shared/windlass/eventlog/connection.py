"""One psycopg connection on one thread.

A connection belongs to a thread, and a session lock to a connection; so each is wrapped together with the only thread that
uses it, and the event loop hands over whole pieces of work. What is pipelined needs no thread: see `pipeline`.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from psycopg import sql
from psycopg.adapt import Buffer
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper
from psycopg.types.uuid import UUIDLoader

from windlass import log as logs
from windlass.errors import Misconfigured, Unavailable
from windlass.eventlog.migrate import SCHEMA, check_format
from windlass.eventlog.pipeline import Exchange, Pipelined, adapt

log = logs.get()

P = ParamSpec("P")
R = TypeVar("R")

CONNECT_S = 5
STATEMENT_S = 30
"""No statement of a service takes longer; one that does is ended and tried again."""
SILENT_S = 3
"""Who says nothing for so long in the middle of a message is frozen, and may be ended by others."""
OPEN_S = 10
"""No transaction waits longer for what is to be done next, whoever may need its locks."""

_HOPELESS = (
    ("password authentication failed|no password supplied|role .* does not exist", "check user and password"),
    (
        "certificate verify failed|root certificate|server certificate for",
        "sslrootcert is to name the certificate of the authority that signed the server's, and the host one that it was made for",
    ),
    ("does not support SSL", "give the server a certificate, or ask for none with sslmode"),
    (
        "certificate file|private key file|requires a valid client certificate",
        "sslcert and sslkey name a certificate and its key",
    ),
    ("no encryption", "ask for TLS with sslmode=verify-full"),
)
"""What libpq and the server say, and what to do, where trying again does not help."""


def refusal(error: psycopg.Error) -> Misconfigured | None:
    """Why a first connection failed, if waiting does not mend it."""
    for said, remedy in _HOPELESS:
        for line in str(error).splitlines():
            if re.search(said, line):
                return Misconfigured(f"PostgreSQL: {line.strip()}; {remedy} in WINDLASS_POSTGRES_DSN")
    return None


_LINK: dict[str, Any] = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
"""A server that is gone, or behind a link that was cut, is noticed within some ten seconds (the last is in milliseconds)."""


class HexLoader(UUIDLoader):
    """Ids come as this system prints them: 32 hex digits."""

    def load(self, data: Buffer) -> str:  # type: ignore[override]  # an id is a text here
        return bytes(data).decode().replace("-", "")


def _settings(owner_s: int | None, reads_only_s: int | None) -> str:
    """Session settings: plans that stay right while tables grow, and an end to what a frozen process has open."""
    words = {
        "statement_timeout": f"{STATEMENT_S if reads_only_s is None else reads_only_s}s",
        "idle_in_transaction_session_timeout": f"{OPEN_S if owner_s is None else owner_s}s",
        "jit": "off",
        "timezone": "UTC",
    }
    if owner_s is not None:
        words["idle_session_timeout"] = f"{owner_s}s"
        # A prepared UPDATE … FROM unnest made while the table was small would scan it for ever.
        words |= {"enable_hashjoin": "off", "enable_mergejoin": "off"}
    if reads_only_s is not None:
        words["default_transaction_read_only"] = "on"
    if owner_s is not None or reads_only_s is not None:
        words |= {"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"}  # planning anew costs more than the work
    return " ".join(f"-c {name}={value}" for name, value in words.items())


@Pipelined
def end_silent() -> Exchange[None]:
    """End what other processes of this role hold if they are frozen in the middle of a message.

    The server itself ends sessions that are silent between messages. Between those of a pipeline it would wait for ever, so
    whoever shares something with others, as an owner of shards does, has to look now and then.
    """
    (ended,) = yield [("end_silent", {"silent_s": SILENT_S, "statement_s": STATEMENT_S})]
    if ended:
        log.warning("frozen_sessions_ended", processes=[process for process, _ in ended])


class Connection:
    """A connection that is opened again after each loss.

    `owner_s` is how long its session may idle, and `reads_only_s` how long its statements may take if all they do is read.
    """

    def __init__(
        self, dsn: str, name: str, owner_s: int | None = None, schema: str = SCHEMA, reads_only_s: int | None = None
    ) -> None:
        self._dsn, self._name, self._schema = dsn, name, schema
        self._options = _settings(owner_s, reads_only_s)
        self._is_of_start = reads_only_s is None
        """Whether it is opened when the service starts; a reader's may be opened when somebody waits for an answer."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"postgres-{name}")
        self._free = asyncio.Lock()
        self._connection: psycopg.Connection | None = None
        self._prepared: set[bytes] = set()
        self.waiting = 0
        """Pieces of work that have it or wait for it."""
        self.generation = 0
        """Grows with each connection that was opened; what held for an earlier one holds no more."""

    def _open(self) -> psycopg.Connection:
        try:
            connection = psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=CONNECT_S,
                options=self._options,
                application_name=f"windlass {self._name}",
                client_encoding="UTF8",  # whatever the database was made with: a text is a text
                **_LINK,
            )
        except psycopg.OperationalError as error:
            if self._is_of_start and self.generation == 0 and (hopeless := refusal(error)):
                raise hopeless from error
            raise
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: psycopg.Connection) -> None:
        """Make it what this system expects, or refuse it."""
        for dumper in (Int8Dumper, Int8BinaryDumper):  # one type for all integers, also in lists: one plan a statement
            connection.adapters.register_dumper(int, dumper)
        connection.adapters.register_loader("uuid", HexLoader)
        adapt(connection)
        check_format(connection, self._schema)
        durable = connection.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')").fetchone()
        if durable is None or "off" in durable:
            raise Misconfigured(
                "PostgreSQL runs with fsync or synchronous_commit off; a commit would promise nothing. Switch both on"
            )
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self._schema)))

    def _opened(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = None
            self._connection = self._open()
            self._prepared = set()
            self.generation += 1
        return self._connection

    def _work(self, work: Callable[[psycopg.Connection], R]) -> R:
        with self._mending():
            return work(self._opened())

    @contextmanager
    def _mending(self) -> Iterator[None]:
        """Whatever breaks (a failover to a server that only reads, a right that was taken away), a new connection may mend it."""
        try:
            yield
        except psycopg.Error as error:
            self._drop()
            raise Unavailable(f"PostgreSQL did not answer: {str(error).strip() or type(error).__name__}") from error

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    async def run(self, work: Callable[Concatenate[psycopg.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do a piece of work, opening the connection if need be: on its thread, or here if the work is pipelined.

        Raises:
            Unavailable: the server did not answer, or the connection broke; what was under way may or may not be committed.
            Misconfigured: the database is not one to work on.
        """
        self.waiting += 1
        try:
            async with self._free:
                return await self._run(work, *args, **kwargs)
        finally:
            self.waiting -= 1

    async def run_in(
        self, generation: int, work: Callable[Concatenate[psycopg.Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """The same, but only in the session of a generation: what it held is not held by one that was opened since.

        Raises:
            Unavailable: as for `run`, and if that session is gone.
        """
        async with self._free:
            if self.generation != generation or self._connection is None or self._connection.closed:
                raise Unavailable("the session that held the locks is gone")
            return await self._run(work, *args, **kwargs)

    async def _run(self, work: Callable[Concatenate[psycopg.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        if not isinstance(work, Pipelined):
            return await self._on_thread(lambda: self._work(lambda connection: work(connection, *args, **kwargs)))
        if self._connection is None or self._connection.closed:
            await self._on_thread(lambda: self._work(lambda _: None))
        return await self._on_loop(work, *args, **kwargs)

    async def _on_loop(self, work: "Pipelined[P, R]", *args: P.args, **kwargs: P.kwargs) -> R:
        connection = self._connection
        assert connection is not None, "it was opened"
        try:
            with self._mending():
                async with asyncio.timeout(STATEMENT_S + CONNECT_S):
                    return await work.on_loop(connection, self._prepared, *args, **kwargs)
        except TimeoutError as error:
            self._drop()
            raise Unavailable("PostgreSQL did not answer in time") from error
        except asyncio.CancelledError:
            self._drop()  # an answer is still on its way
            raise

    async def _on_thread(self, work: Callable[[], R]) -> R:
        """The thread goes on when its caller is cancelled, and nobody else may have the connection before it is through."""
        done = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(done)
        finally:
            if not done.done():
                await asyncio.wait([done])

    async def drop(self) -> None:
        """Close the connection, and with it let go of its locks; the next work opens another."""
        async with self._free:
            await self._on_thread(self._drop)

    async def close(self) -> None:
        """Close it for good."""
        await self.drop()
        self._thread.shutdown()
