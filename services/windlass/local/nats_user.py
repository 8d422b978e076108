"""`windlass nats-user`: the entry of one user for the configuration of a NATS server that an operator runs."""

import argparse
import json
import re
import secrets
from collections.abc import Mapping

from windlass.bus.permissions import SERVICES, issued_worker, permissions
from windlass.errors import Invalid, Misconfigured
from windlass.ids import NODE, user_of
from windlass.local.nats import Rights, entry
from windlass.settings import lookup
from windlass.subjects import Subjects, check_queue

PASSWORD_BYTES = 24


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of `nats-user`."""
    parser.add_argument("service", choices=("operator", *SERVICES), help="whose; `operator` may do everything")
    parser.add_argument("id", nargs="?", metavar="ID", help="of one worker that gets a user of its own")
    parser.add_argument("--queues", metavar="NAME,…", help="the queues that worker serves (default: default)")
    parser.add_argument("--variable", metavar="NAME", help="take the password from this variable of the server's environment")


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the entry, with how to use it.

    Raises:
        Misconfigured: there can be no such user, and why.
    """
    if args.service != "worker" and (args.id or args.queues):
        raise Misconfigured(f"only a worker has an id and queues of its own; write: windlass nats-user {args.service}")
    if args.queues and not args.id:
        raise Misconfigured("--queues narrows one worker's user; write: windlass nats-user worker ID --queues NAME,…")
    if args.id and NODE.fullmatch(user_of(args.id)) is None:
        raise Misconfigured(f"worker {args.id!r}: an id has 1–57 letters, digits, - and _")
    if args.variable and re.fullmatch(r"[A-Za-z_]\w*", args.variable) is None:
        raise Misconfigured(f"--variable {args.variable!r}: the name of a variable has letters, digits and _")
    subjects = Subjects(lookup(environ, "SUBJECT_PREFIX"))
    if args.id:
        try:
            queues = [check_queue(queue) for queue in (args.queues or "default").split(",")]
        except Invalid as error:
            raise Misconfigured(f"--queues: {error}") from error
        user = user_of(args.id)
        allowed = issued_worker(user, queues, subjects)
    else:
        user, allowed = args.service, permissions(args.service, subjects)
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    shown = f"${args.variable}" if args.variable else json.dumps(password)
    for line in _advice(user, args.id, args.variable, password):
        print(f"# {line}")
    print(entry(user, shown, Rights(allowed.publish, allowed.subscribe)))
    return 0


def _advice(user: str, worker: str | None, variable: str | None, password: str) -> list[str]:
    """What to do with the entry, as comments that may stand in the configuration."""
    where = "an entry for authorization { users: [ … ] }; the server takes it over on: nats-server --signal reload"
    url = f"WINDLASS_NATS_URL=nats://{user}:{'PASSWORD' if variable else password}@HOST:4222"
    start = f"its service is started with {url}" + (f" WINDLASS_WORKER_ID={worker}" if worker else "")
    word = (
        f"{variable} begins with a letter and has letters and digits only, since the server reads it as text here"
        if variable
        else "the password here may be replaced by its hash, which `nats server passwd` makes; then drop these lines"
    )
    return [where, start, word]
