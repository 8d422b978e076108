"""The hot path's way to PostgreSQL: prepared statements in one round trip and one transaction, with parameters in binary.

All statements of a call go out together with one Sync behind them, which makes them one implicit transaction: a commit costs
no BEGIN, no COMMIT and no thread (libpq's pipeline mode, https://www.postgresql.org/docs/current/libpq-pipeline-mode.html).
Columns of a batch are arrays in their binary form (`array_recv` in PostgreSQL's `arrayfuncs.c`); results come in binary too.
"""

import asyncio
import re
import select
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from struct import Struct
from struct import error as StructError  # noqa: N812 a class
from typing import Any, Generic, ParamSpec, TypeVar

import msgspec
import psycopg
from psycopg.adapt import Buffer, Loader, Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGresult

from windlass.eventlog.statements import composed, statement

P = ParamSpec("P")
R = TypeVar("R")

Call = tuple[str, Mapping[str, Any]] | tuple[str, Mapping[str, Any], tuple[tuple[str, str], ...]]
"""A statement of `sql/` by name, its parameters by theirs, and names of tables for the places that it leaves for them."""
Rows = list[tuple[Any, ...]]
Exchange = Generator[list[Call], list[Rows], R]
"""Yields its calls, once, and is sent the rows of each; an error of the database is raised in it."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NULL = b"\xff\xff\xff\xff"
_head, _size = Struct(">iiiii").pack, Struct(">i").pack
_int2, _int4, _int8, _float8 = Struct(">ih").pack, Struct(">ii").pack, Struct(">iq").pack, Struct(">id").pack


def _blobs(values: Iterable[bytes | None]) -> Iterable[bytes]:
    return [_NULL if value is None else _size(len(value)) + value for value in values]


def _instants(values: Iterable[datetime | None]) -> Iterable[bytes]:
    return [_NULL if value is None else _int8(8, (value - _EPOCH) // _MICROSECOND) for value in values]


_ARRAYS: Mapping[str, tuple[int, Callable[[Any], Iterable[bytes]]]] = {
    "boolean": (16, lambda values: [b"\0\0\0\1\1" if value else b"\0\0\0\1\0" for value in values]),
    "bigint": (20, lambda values: [_int8(8, value) for value in values]),
    "smallint": (21, lambda values: [_NULL if value is None else _int2(2, value) for value in values]),
    "integer": (23, lambda values: [_int4(4, value) for value in values]),
    "text": (25, lambda values: _blobs([value.encode() for value in values])),
    "json": (114, _blobs),
    "float8": (701, lambda values: [_float8(8, value) for value in values]),
    "timestamptz": (1184, _instants),
    "uuid": (2950, lambda values: [_NULL if value is None else b"\0\0\0\x10" + bytes.fromhex(value) for value in values]),
}
"""Type: its oid, and its values as elements of a binary array. Ids are 32 hex digits, JSON is bytes, instants are aware."""


class _HexLoader(Loader):
    """Ids come as this system prints them: 32 hex digits."""

    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        return bytes(data).hex()


class _RawLoader(Loader):
    """JSON is decoded by whoever knows what it is."""

    format = Format.BINARY

    def load(self, data: Buffer) -> msgspec.Raw:
        return msgspec.Raw(bytes(data))


def adapt(connection: psycopg.Connection) -> None:
    """Make a connection read what pipelined work gives as this system has it."""
    connection.adapters.register_loader("uuid", _HexLoader)
    connection.adapters.register_loader("json", _RawLoader)


@dataclass(frozen=True, slots=True)
class _Statement:
    name: bytes
    text: bytes
    parameters: tuple[tuple[str, str], ...]
    """Name, and the element type of an array or an empty text."""


@cache
def _compiled(name: str, places: tuple[tuple[str, str], ...] = ()) -> _Statement:
    """The statement as the server knows parameters: by number."""
    parameters: dict[str, str] = {}
    source = composed(name, **dict(places)).as_bytes() if places else statement(name)

    def number(found: re.Match[str]) -> str:
        kind = found[2] or ""
        parameters.setdefault(found[1], kind[:-2] if kind.endswith("[]") else "")
        return f"${list(parameters).index(found[1]) + 1}" + (f"::{kind}" if kind else "")

    text = re.sub(r"%\((\w+)\)[sb](?:::(\w+(?:\[\])?))?", number, source.decode())
    known_as = " ".join((name, *(chosen for _, chosen in places)))
    return _Statement(known_as.encode(), text.encode(), tuple(parameters.items()))


def _encoded(compiled: _Statement, parameters: Mapping[str, Any]) -> tuple[_Statement, list[bytes | None], list[int]]:
    """A statement with its parameters and their formats: 1 for binary, 0 for text."""
    values: list[bytes | None] = []
    for name, kind in compiled.parameters:
        value = parameters[name]
        if kind:
            oid, elements = _ARRAYS[kind]
            values.append(_head(1, 1, oid, len(value), 1) + b"".join(elements(value)))
        else:
            values.append(None if value is None else _text(value))
    return compiled, values, [1 if kind else 0 for _, kind in compiled.parameters]


def _text(value: object) -> bytes:
    text = str(value).encode()
    if b"\0" in text:
        raise ValueError("a NUL")  # where libpq would end it
    return text


class _Talk:
    """One round trip on a connection that nobody else uses meanwhile."""

    is_sent = False

    def __init__(self, connection: psycopg.Connection, calls: Sequence[Call], prepared: set[bytes] | None) -> None:
        self._connection, self._prepared = connection, prepared
        self._pgconn = pgconn = connection.pgconn
        self._coming: deque[tuple[bytes, bool]] = deque()
        """What results are still to come for: a statement's name, and whether it is only its preparation."""
        self.rows: list[Rows] = []
        self.error: psycopg.Error | None = None
        try:
            encoded = [_encoded(_compiled(name, *places), parameters) for name, parameters, *places in calls]
        except (ValueError, StructError) as error:
            self.error = psycopg.DataError(f"a parameter has no binary form: {error}")
            return
        pgconn.enter_pipeline_mode()
        for compiled, values, formats in encoded:
            if prepared is None:
                pgconn.send_query_params(compiled.text, values, None, formats, 1)
            else:
                if compiled.name not in prepared and (compiled.name, True) not in self._coming:
                    pgconn.send_prepare(compiled.name, compiled.text)
                    self._coming.append((compiled.name, True))
                pgconn.send_query_prepared(compiled.name, values, formats, 1)
            self._coming.append((compiled.name, False))
        pgconn.pipeline_sync()
        self.is_sent = True

    def is_over(self) -> bool:
        """Take what has come; True when all is there."""
        self._pgconn.consume_input()
        while not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                if self._pgconn.status != ConnStatus.OK:
                    raise psycopg.OperationalError("the connection broke")
                continue
            if result.status == ExecStatus.PIPELINE_SYNC:
                self._pgconn.exit_pipeline_mode()
                return True
            self._take(result)
        return False

    def _take(self, result: PGresult) -> None:
        name, is_preparation = self._coming.popleft()
        if result.status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            if not is_preparation:
                loader = Transformer(self._connection)
                loader.set_pgresult(result)
                self.rows.append(loader.load_rows(0, result.ntuples, tuple))
            elif self._prepared is not None:
                self._prepared.add(name)
        elif result.status != ExecStatus.PIPELINE_ABORTED and self.error is None:
            self.error = psycopg.errors.error_from_result(result, "utf-8")


class Pipelined(Generic[P, R]):
    """Work on a connection that says at once all that it asks: a connection's event loop can do it without a thread."""

    def __init__(self, steps: Callable[P, Exchange[R]]) -> None:
        self._steps = steps
        self.__doc__, self.__name__ = steps.__doc__, steps.__name__

    def __call__(self, connection: psycopg.Connection, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do it here and now, blocking."""
        steps, pgconn = self._steps(*args, **kwargs), connection.pgconn
        adapt(connection)
        talk = _Talk(connection, next(steps), None)
        while pgconn.flush():
            select.select([pgconn.socket], [pgconn.socket], [])
            pgconn.consume_input()
        while talk.is_sent and not talk.is_over():
            select.select([pgconn.socket], [], [])
        return _outcome(steps, talk)

    async def on_loop(self, connection: psycopg.Connection, prepared: set[bytes], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do it on the running event loop; `prepared` are the statements that this connection knows.

        Raises:
            psycopg.Error: or what the work makes of it.
        """
        steps = self._steps(*args, **kwargs)
        return _outcome(steps, await _talk(connection, next(steps), prepared))


def _outcome(steps: Exchange[R], talk: _Talk) -> R:
    try:
        if talk.error is None:
            steps.send(talk.rows)
        else:
            steps.throw(talk.error)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # a generator's value has no type here
    raise AssertionError("pipelined work asks once")


async def _talk(connection: psycopg.Connection, calls: Sequence[Call], prepared: set[bytes]) -> _Talk:
    loop, pgconn = asyncio.get_running_loop(), connection.pgconn
    done: asyncio.Future[None] = loop.create_future()
    talk = _Talk(connection, calls, prepared)
    if not talk.is_sent:
        return talk
    socket = pgconn.socket

    def act(step: Callable[[], bool]) -> None:
        try:
            if step() and not done.done():
                done.set_result(None)
        except (psycopg.Error, LookupError, ValueError) as error:
            if not done.done():
                done.set_exception(error)

    def send() -> bool:
        if not pgconn.flush():
            loop.remove_writer(socket)
        return False

    loop.add_reader(socket, act, talk.is_over)
    try:
        if pgconn.flush():
            loop.add_writer(socket, act, send)
        await done
    finally:
        loop.remove_writer(socket)
        loop.remove_reader(socket)
    return talk
