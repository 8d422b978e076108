"""The `windlass` command; imports a service only when asked to run it."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit("windlass: no command is built yet")
