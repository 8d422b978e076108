"""`windlass secret-key`: keys for secrets, for services that an operator starts."""

import argparse
import sys
from collections.abc import Mapping

from windlass.secrets import keys
from windlass.settings import lookup


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of `secret-key`."""
    parser.add_argument("service", nargs="?", choices=keys.SERVICES, help="whose, from the coordinator's in WINDLASS_SECRET_KEY")


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print a fresh key for the coordinators, or the one of a service that follows from theirs.

    Raises:
        Misconfigured: the coordinator's key is needed for that, and is not there.
    """
    if args.service is None:
        print(
            "# for the coordinators alone; each other service: WINDLASS_SECRET_KEY=… windlass secret-key SERVICE", file=sys.stderr
        )
        print(keys.new().exported())
    else:
        print(keys.setting(lookup(environ, "SECRET_KEY"), args.service))
    return 0
