"""`windlass quarantine`: messages that could never succeed, with the reason, until somebody has looked at them."""

import argparse
import sys
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from windlass.errors import Misconfigured, NotFound
from windlass.eventlog.migrate import SCHEMA
from windlass.eventlog.statements import statement
from windlass.ids import is_id
from windlass.local.data import locate
from windlass.local.display import harmless
from windlass.local.environment import variables
from windlass.settings import lookup

LIMIT = 100
CONNECT_S = 5
REASON_MAX = 100
"""Characters of a reason in the list; `show` tells it whole."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A message in the list."""

    id: str
    at: datetime
    subject: str
    bytes: int
    reason: str


class Whole(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A message as it came; a payload that is no text is in base64."""

    id: str
    at: datetime
    subject: str
    reason: str
    headers: dict[str, str]
    payload: str | None = None
    payload_base64: str | None = None


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of `quarantine`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    shown = actions.add_parser("list", help="the messages, newest first")
    shown.add_argument("--limit", type=_limit, default=LIMIT, metavar="N", help=f"at most so many (default: {LIMIT})")
    one = actions.add_parser("show", help="one message, whole")
    dropped = actions.add_parser("drop", help="forget one message")
    for action in (one, dropped):
        action.add_argument("id", metavar="ID", type=_id, help="of the message, as `list` shows it")
    for action in (shown, one, dropped):
        action.add_argument("--json", action="store_true", help="print JSON")
        action.add_argument("--data", metavar="DIR", help="of a running `up` (default: the database of WINDLASS_POSTGRES_DSN)")


def _limit(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 100000")
    return int(text)


def _id(text: str) -> str:
    if not is_id(text.replace("-", "").lower()):
        raise argparse.ArgumentTypeError(f"{text!r} is no id; an id has 32 hexadecimal digits")
    return text.replace("-", "").lower()


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List, show or drop.

    Raises:
        NotFound: there is no such message.
        Misconfigured: no database, or it does not answer.
    """
    try:
        with psycopg.connect(_dsn(args, environ), connect_timeout=CONNECT_S, autocommit=True, row_factory=dict_row) as database:
            database.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(SCHEMA)))
            database.execute("SET timezone TO UTC")
            print({"list": _list, "show": _show, "drop": _drop}[args.action](database, args))
    except psycopg.errors.UndefinedTable as error:
        raise Misconfigured("the database is empty; run first: windlass migrate") from error
    except psycopg.Error as error:
        raise Misconfigured(f"PostgreSQL: {str(error).strip()}; see WINDLASS_POSTGRES_DSN") from error
    return 0


def _dsn(args: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """The database that the environment names, else that of what runs here."""
    named = lookup(environ, "POSTGRES_DSN")
    if named and not args.data:
        return named
    data = locate(environ, args.data)
    state = data.running()
    if state is None:
        raise Misconfigured(
            f"nothing runs in {data.path}; start it with: windlass up, or name a database with WINDLASS_POSTGRES_DSN"
        )
    return variables(data, state, None)["WINDLASS_POSTGRES_DSN"]


Database = psycopg.Connection[DictRow]


def _list(database: Database, args: argparse.Namespace) -> str:
    rows = database.execute(statement("quarantine_list"), {"limit": args.limit}).fetchall()
    entries = [Entry(**{**row, "id": row["id"].hex}) for row in rows]
    if args.json:
        return _json(entries)
    if not entries:
        return "the quarantine is empty"
    width = max(len(harmless(entry.subject)) for entry in entries)
    lines = [f"{'ID':32}  {'AT':20}  {'SUBJECT':{width}}  {'BYTES':>7}  REASON"]
    for entry in entries:
        reason = harmless(" ".join(entry.reason.split()))
        if len(reason) > REASON_MAX:
            reason = reason[: REASON_MAX - 1] + "…"
        lines.append(f"{entry.id}  {_stamp(entry.at)}  {harmless(entry.subject):{width}}  {entry.bytes:>7}  {reason}")
    if len(entries) == args.limit:
        lines.append(f"the newest {args.limit}; see more with --limit N")
    return "\n".join(lines)


def _show(database: Database, args: argparse.Namespace) -> str:
    row = database.execute(statement("quarantine_show"), {"id": UUID(args.id)}).fetchone()
    if row is None:
        raise _missing(args.id)
    whole = _whole(row)
    if args.json:
        return _json(whole)
    lines = [f"id       {whole.id}", f"at       {_stamp(whole.at)}", f"subject  {harmless(whole.subject)}"]
    lines += [f"header   {harmless(f'{name}: {value}')}" for name, value in whole.headers.items()]
    first, *more = whole.reason.splitlines() or [""]
    lines += [f"reason   {harmless(first)}", *(f"         {harmless(line)}" for line in more), ""]
    if whole.payload is not None:
        lines += [_for_reading(line) for line in whole.payload.splitlines()] or ["(no payload)"]
    else:
        lines += [f"{len(row['payload'])} bytes that are no text, in base64:", whole.payload_base64 or ""]
    return "\n".join(lines)


def _for_reading(line: str) -> str:
    """As it came where a program reads it, without effect on a terminal."""
    return harmless(line) if sys.stdout.isatty() else line


def _drop(database: Database, args: argparse.Namespace) -> str:
    if database.execute(statement("quarantine_drop"), {"id": UUID(args.id)}).fetchone() is None:
        raise _missing(args.id)
    return _json({"dropped": args.id}) if args.json else f"dropped {args.id}"


def _missing(name: str) -> NotFound:
    return NotFound(f"no message {name} in the quarantine; see: windlass quarantine list")


def _whole(row: Mapping[str, Any]) -> Whole:
    payload: bytes = row["payload"]
    text = encoded = None
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        encoded = b64encode(payload).decode()
    return Whole(
        id=row["id"].hex,
        at=row["at"],
        subject=row["subject"],
        reason=row["reason"],
        headers=row["headers"],
        payload=text,
        payload_base64=encoded,
    )


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
