"""`windlass validate`: whether job files would be taken, with the place of everything that is wrong; nothing needs to run."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from windlass.documents.reading import BODY_MAX
from windlass.local.display import harmless
from windlass.local.jobfile import BAD_FILE, BadFile, job_of


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of `validate`."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="a job as YAML or JSON; - reads standard input")


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Check every file; returns 0 if all of them would be taken, else 2."""
    found = {name: _check(name) for name in args.files}
    for name, wrong in found.items():
        for line in (wrong or f"{name}: ok").split("\n"):
            print(harmless(line))
    return BAD_FILE if any(found.values()) else 0


def _check(name: str) -> str:
    """What is wrong with a file, as lines to print; empty if nothing is."""
    try:
        job_of(name, sys.stdin.buffer.read(BODY_MAX + 1) if name == "-" else Path(name).read_bytes())
    except BadFile as error:
        return str(error)
    except OSError as error:
        return f"{name}: cannot be read: {error.strerror or error}"
    return ""
