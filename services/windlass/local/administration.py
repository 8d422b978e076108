"""`windlass migrate`, `windlass rebuild` and `windlass bus apply`: what an operator does to the two servers."""

import argparse
import asyncio
from collections.abc import Mapping

import psycopg

from windlass.bus import streams
from windlass.clock import system as clock
from windlass.coordinator import rebuild
from windlass.errors import Misconfigured
from windlass.eventlog import export
from windlass.eventlog.migrate import finish, finished, migrate
from windlass.local.data import POSTGRES_SERVICES, locate
from windlass.local.database import admit
from windlass.local.environment import variables
from windlass.settings import SHARDS, needed

ROLE_PASSWORD = "WINDLASS_ROLE_PASSWORD_"  # noqa: S105 the beginning of variables' names


def _joined(args: argparse.Namespace, environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment; where it names no servers, with the operator's variables of an `up` that runs here."""
    if environ.get("WINDLASS_POSTGRES_DSN") and not args.data:
        return environ
    data = locate(environ, args.data)
    state = data.running()
    return environ if state is None else {**environ, **variables(data, state, None)}


def flags_migrate(parser: argparse.ArgumentParser) -> None:
    """The options of `migrate`."""
    parser.add_argument(
        "--finish",
        action="store_true",
        help="allow the events that are new in this release, once no coordinator of an older one runs",
    )
    parser.add_argument("--data", metavar="DIR", help="of a running `up` (default: the database of WINDLASS_POSTGRES_DSN)")


def main_migrate(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Apply what is missing, and give the services' roles the passwords that the environment has for them; or finish.

    Raises:
        Misconfigured: no database, or it is newer than this release, or an older coordinator still runs.
    """
    dsn = needed(_joined(args, environ), "POSTGRES_DSN", "the database, as its owner")
    try:
        if args.finish:
            finish(dsn, clock.now())
            print("the database is finished: older releases cannot work on it any more")
            return 0
        steps = migrate(dsn)
        admit(dsn, _role_passwords(environ))
        print("the database is current" if steps == 0 else f"the database is current after {steps} step{'s' * (steps > 1)}")
        if not finished(dsn):
            print("when every coordinator has this release, run: windlass migrate --finish")
    except psycopg.Error as error:
        raise Misconfigured(f"PostgreSQL: {str(error).strip()}; see WINDLASS_POSTGRES_DSN") from error
    return 0


def _role_passwords(environ: Mapping[str, str]) -> dict[str, str]:
    """By role, of those that the environment gives a password."""
    found = {service: environ.get(f"{ROLE_PASSWORD}{service.upper()}") for service in POSTGRES_SERVICES}
    return {f"windlass_{service}": password for service, password in found.items() if password}


def flags_rebuild(parser: argparse.ArgumentParser) -> None:
    """The options of `rebuild`."""
    parser.epilog = (
        "Projections are the tables jobs, tasks, job_vars, job_counts and idempotency_keys. The columns drive_at, drives and "
        "stopping do not follow from the log, nor do task logs, nodes, quarantine and the tables of scheduler and webhooks: they "
        "are left as they are. With --verify all is read as of one moment, also while coordinators work; without it none may "
        "run. The exit code is 0 only if nothing differs, in the end."
    )
    parser.add_argument("--verify", action="store_true", help="only compare, and change nothing")
    parser.add_argument("--data", metavar="DIR", help="of a running `up` (default: the database of WINDLASS_POSTGRES_DSN)")


def main_rebuild(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Project all jobs from the log again and compare, or replace what differs; 0 if nothing differs.

    Raises:
        Misconfigured: no database, or not of this release, or coordinators run and something would be replaced.
        Corrupt: the log is not whole.
    """
    dsn = needed(_joined(args, environ), "POSTGRES_DSN", "the database, as its owner")
    try:
        with export.snapshot(dsn, alone=not args.verify) as connection:
            if not args.verify:
                rebuild.replace(connection, clock.now())
            result = rebuild.verify(connection, lambda line: print(f"differs: {line}"))
    except psycopg.Error as error:
        raise Misconfigured(f"PostgreSQL: {str(error).strip()}; see WINDLASS_POSTGRES_DSN") from error
    for table, rows in result.rows.items():
        print(f"{table}: {rows} rows, {result.bytes[table]} bytes differ")
    print(f"{result.events} events, {len(result.rows)} projections, {result.differing} bytes differ")
    return 0 if result.differing == 0 else 1


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
