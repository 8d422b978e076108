"""`windlass validate`: whether job files would be taken, with the place of everything that is wrong; nothing needs to run."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from windlass.documents.reading import BODY_MAX, Form, read_job
from windlass.documents.tree import Node, Problem, Refused, locate
from windlass.documents.yaml_tree import from_yaml
from windlass.errors import Invalid
from windlass.local.display import harmless

BAD_FILE = 2
SOURCE_MAX = 120
"""Characters of a line of the file that are shown."""
_FORMS: Mapping[str, Form] = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of `validate`."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="a job as YAML or JSON; - reads standard input")


def main(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Check every file; returns 0 if all of them would be taken, else 2."""
    wrong = 0
    for name in args.files:
        try:
            lines = list(_check(name))
        except OSError as error:
            lines = [f"{name}: cannot be read: {error.strerror or error}"]
        print("\n".join(map(harmless, lines or [f"{name}: ok"])))
        wrong += bool(lines)
    return BAD_FILE if wrong else 0


def _check(name: str) -> Iterator[str]:
    """What is wrong with a file, as lines to print."""
    body = sys.stdin.buffer.read(BODY_MAX + 1) if name == "-" else Path(name).read_bytes()
    try:
        read_job(body, _FORMS.get(Path(name).suffix.lower()))
    except Refused as error:
        root, source = _positions(body), body.decode(errors="replace").splitlines()
        for problem in error.problems:
            yield from _shown(name, problem, root, source)
    except Invalid as error:
        yield f"{name}: {error}"


def _positions(body: bytes) -> Node | None:
    """The document with the places of its fields, if they can be known: all but all JSON is YAML too."""
    try:
        return from_yaml(body.decode())
    except (Invalid, UnicodeDecodeError):
        return None


def _shown(name: str, problem: Problem, root: Node | None, source: list[str]) -> Iterator[str]:
    line, column = problem.line, problem.column
    if not line and root is not None:
        line, column = locate(root, problem.path)
    text = problem.text.strip()
    yield f"{name}:{line}:{column}: {text}" if line else f"{name}: {text}"
    if 1 <= line <= len(source) and column <= SOURCE_MAX:
        shown = source[line - 1].replace("\t", " ")
        yield f"{line:>5} | {shown[:SOURCE_MAX]}"
        yield f"{'':>5} | {'':>{column - 1}}^"
