"""The `windlass` command; imports a service only when asked to run it."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from windlass.errors import Misconfigured, WindlassError
from windlass.release import RELEASE

SERVICES = {
    "gateway": "HTTP and NATS requests in, commands out",
    "coordinator": "the only writer of the log: commands in, events out",
    "scheduler": "time in, commands out",
    "worker": "tasks in, processes and containers run, outcomes out",
    "webhooks": "events in, signed HTTP calls out",
}
MODULES = {
    "up": ("windlass.local.up", "keep everything running on this machine, in the foreground"),
    "run": ("windlass.local.run", "run a job file to its end, starting what is missing"),
    "validate": ("windlass.local.validate", "check job files, and say where what is wrong"),
    "status": ("windlass.local.status", "what runs, and how it is"),
    "env": ("windlass.local.environment", 'variables that join a running `up`: eval "$(windlass env worker)"'),
    "down": ("windlass.local.down", "stop a running `up`"),
    **{service: (f"windlass.{service}.main", f"one service in the foreground: {duty}") for service, duty in SERVICES.items()},
    "migrate": ("windlass.local.administration", "bring the database to the format of this release"),
    "rebuild": ("windlass.local.administration", "project everything from the log again, or compare with it"),
    "bus": ("windlass.local.administration", "`bus apply` makes the streams and consumers on the NATS server"),
    "nats-user": ("windlass.local.nats_user", "the entry of a service, or of one worker, for a NATS server's configuration"),
    "secret-key": ("windlass.local.secret_key", "a new key for secrets, or the one of a service that follows from it"),
    "quarantine": ("windlass.local.quarantine", "look at messages that could not be understood"),
}
SUPERVISED_MISCONFIGURED = 78


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where help is."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see: {self.prog} --help", file=sys.stderr)
        sys.exit(2)


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:], os.environ))


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command; returns its exit code: 1 for what is missing or wrong here, 2 for a wrong command line."""
    command = argv[0] if argv else ""
    if command not in MODULES:
        return _without_command(argv)
    try:
        return _dispatch(command, argv[1:], environ)
    except WindlassError as error:
        _complain(command, str(error))
        supervised = isinstance(error, Misconfigured) and command in SERVICES and "WINDLASS_SUPERVISED" in environ
        return SUPERVISED_MISCONFIGURED if supervised else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `windlass … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def _without_command(argv: Sequence[str]) -> int:
    """Help, the version, or a complaint."""
    listed = "\n".join(f"  {name:12} {summary}" for name, (_, summary) in MODULES.items())
    parser = _Parser(
        prog="windlass",
        description="Windlass runs jobs: containers, shell scripts and Python modules.",
        epilog=f"commands:\n{listed}\n\nwindlass COMMAND --help tells more about one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="windlass [-h] [--version] COMMAND ...",
    )
    parser.add_argument("--version", action="version", version=f"windlass {RELEASE}")
    parser.add_argument("command", choices=list(MODULES), nargs="?", metavar="COMMAND", help=argparse.SUPPRESS)
    parser.parse_args(argv)
    parser.print_help()
    return 2


def _dispatch(command: str, rest: Sequence[str], environ: Mapping[str, str]) -> int:
    module, summary = MODULES[command]
    parser = _Parser(prog=f"windlass {command}", description=summary[0].upper() + summary[1:] + ".")
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(command, error) from error
    flags: Callable[[argparse.ArgumentParser], None] = getattr(loaded, f"flags_{command}", None) or loaded.flags
    flags(parser)
    args = parser.parse_args(rest)
    serve: Callable[[argparse.Namespace, Mapping[str, str]], int] = getattr(loaded, f"main_{command}", None) or loaded.main
    return serve(args, environ)


def _missing(command: str, error: ModuleNotFoundError) -> Misconfigured:
    """What to install, for a module of somebody else's; a missing module of our own is a mistake here."""
    name = (error.name or "").split(".")[0]
    if name == "windlass":
        return Misconfigured(f"`windlass {command}` is not built yet")
    extra = command if command in SERVICES else "all"
    return Misconfigured(f"the Python package `{name}` is missing; pip install 'windlass[{extra}]'")


def _complain(command: str, message: str) -> None:
    print(f"windlass {command}: {' '.join(message.split())}", file=sys.stderr)


if __name__ == "__main__":
    main()
