"""`windlass down`: stop a running `up`."""

import argparse
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress

from windlass.clock import system as clock
from windlass.errors import Unavailable
from windlass.local.data import Data, locate

STOP_S = 120.0
"""The longest that services may drain and servers may stop, added up."""


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of `down`."""
    parser.add_argument("--data", metavar="DIR", help="data directory (default: WINDLASS_DATA, else the user's data directory)")


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Ask it to stop, and wait until it has.

    Raises:
        Unavailable: it does not stop.
    """
    data = locate(environ, args.data)
    pid = data.holder()
    if pid is None:
        print(f"nothing runs in {data.path}")
        return 0
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    if not wait_until_gone(data, pid, STOP_S):
        raise Unavailable(
            f"windlass up (pid {pid}) has not stopped within {STOP_S:.0f} s; a second `windlass down` stops it at once"
        )
    print(f"stopped what ran in {data.path}")
    return 0


def wait_until_gone(data: Data, pid: int, patience_s: float) -> bool:
    """Wait until this `up` has let go of its data directory."""
    deadline = clock.monotonic() + patience_s
    while data.holder() == pid:
        if clock.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
