"""`windlass migrate` and `windlass bus apply`: what an operator does to the two servers."""

import argparse
import asyncio
from collections.abc import Mapping

import psycopg

from windlass.bus import streams
from windlass.errors import Misconfigured
from windlass.eventlog.migrate import migrate
from windlass.local.data import locate
from windlass.local.environment import variables
from windlass.settings import SHARDS, needed


def _joined(args: argparse.Namespace, environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment; where it names no servers, with the operator's variables of an `up` that runs here."""
    if environ.get("WINDLASS_POSTGRES_DSN") and not args.data:
        return environ
    data = locate(environ, args.data)
    state = data.running()
    return environ if state is None else {**environ, **variables(data, state, None)}


def flags_migrate(parser: argparse.ArgumentParser) -> None:
    """The options of `migrate`."""
    parser.add_argument("--data", metavar="DIR", help="of a running `up` (default: the database of WINDLASS_POSTGRES_DSN)")


def main_migrate(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Apply what is missing.

    Raises:
        Misconfigured: no database, or it is newer than this release.
    """
    dsn = needed(_joined(args, environ), "POSTGRES_DSN", "the database, as its owner")
    try:
        steps = migrate(dsn)
    except psycopg.Error as error:
        raise Misconfigured(f"PostgreSQL: {str(error).strip()}; see WINDLASS_POSTGRES_DSN") from error
    print("the database is current" if steps == 0 else f"the database is current after {steps} step{'s' * (steps > 1)}")
    return 0


def flags_bus(parser: argparse.ArgumentParser) -> None:
    """The options of `bus`."""
    parser.add_argument("action", choices=("apply",), help="make streams and consumers agree with this release")
    parser.add_argument("--data", metavar="DIR", help="of a running `up` (default: the server of WINDLASS_NATS_URL)")


def main_bus(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Make the NATS server agree with this release.

    Raises:
        Misconfigured: no server, or it refuses.
    """
    joined = _joined(args, environ)
    asyncio.run(streams.apply(joined, _shards(joined)))
    print("streams and consumers are current")
    return 0


def _shards(environ: Mapping[str, str]) -> int:
    """The number of shards: that of the installation's database if it is named, else that of a new one."""
    dsn = environ.get("WINDLASS_POSTGRES_DSN")
    if not dsn:
        return SHARDS
    try:
        with psycopg.connect(dsn) as connection:
            row = connection.execute("SELECT shards FROM windlass.installation").fetchone()
    except psycopg.errors.UndefinedTable as error:
        raise Misconfigured("the database is empty; run first: windlass migrate") from error
    except psycopg.Error as error:
        raise Misconfigured(f"PostgreSQL: {str(error).strip()}; see WINDLASS_POSTGRES_DSN") from error
    return int(row[0]) if row else SHARDS
