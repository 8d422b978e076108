"""`windlass env`: what a service, or a person, needs to join a running `up`."""

import argparse
import shlex
import sys
from collections.abc import Mapping

from windlass.local.data import NATS_USERS, Data, State, locate
from windlass.local.ports import LOOPBACK

SERVICES = tuple(user for user in NATS_USERS if user != "operator")
NOTHING = 3


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of `env`."""
    parser.add_argument("service", nargs="?", choices=SERVICES, help="whose (default: an operator's, who may do everything)")
    parser.add_argument("--data", metavar="DIR", help="data directory (default: WINDLASS_DATA, else the user's data directory)")


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print `export` lines; 3 if nothing runs."""
    data = locate(environ, args.data)
    state = data.running()
    if state is None:
        print(f"nothing runs in {data.path}; start it with: windlass up", file=sys.stderr)
        return NOTHING
    for name, value in variables(data, state, args.service).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def variables(data: Data, state: State, service: str | None) -> dict[str, str]:
    """The variables of a service, or of an operator; never a database for a worker."""
    secrets = data.secrets()
    user = service or "operator"
    nats = f"nats://{user}:{secrets.nats[user]}@{LOOPBACK}:{state.nats.port}"
    role = f"windlass_{service or 'owner'}"
    found = {"WINDLASS_NATS_URL": nats}
    if role in secrets.postgres:
        password = secrets.postgres[role]
        found["WINDLASS_POSTGRES_DSN"] = f"postgresql://{role}:{password}@{LOOPBACK}:{state.postgres.port}/windlass"
    if service is not None and (key := data.secret_key(service)):
        found["WINDLASS_SECRET_KEY"] = key
    if service == "webhooks":
        found["WINDLASS_WEBHOOKS_ALLOW_PRIVATE"] = str(state.webhooks_private).lower()
    if service is None:
        found |= {"NATS_URL": nats, "WINDLASS_ENDPOINT": state.url, "WINDLASS_DATA": str(data.path)}
    return found
