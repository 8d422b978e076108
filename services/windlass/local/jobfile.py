"""Files that hold a job: read and checked, with the place of everything that is wrong."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from windlass.documents.reading import BODY_MAX, FORMER, Form, TooLarge, read_job
from windlass.documents.tree import LINE_MAX, LINES_MAX, Node, Problem, Refused, locate
from windlass.documents.yaml_tree import from_yaml
from windlass.errors import Invalid
from windlass.messages.jobs import Job

BAD_FILE = 2
"""What a command ends with when a file is no job."""
SOURCE_MAX = 120
"""Characters of a line of the file that are shown."""
_FORMS: Mapping[str, Form] = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}


class BadFile(Invalid):
    """A file is no job: what is wrong, a line each, below it the line of the file with a caret where that is known."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))


def job_of(name: str, body: bytes) -> Job:
    """The job in a file of this name, whose ending tells JSON from YAML where it can.

    Raises:
        BadFile: it holds none.
    """
    try:
        return read_job(body, _FORMS.get(Path(name).suffix.lower())).job
    except TooLarge as error:
        raise BadFile(f"{name}: a job has at most {BODY_MAX:,} bytes; split it") from error
    except Refused as error:
        root, source = _positions(body), body.decode(errors="replace").splitlines()
        shown = [line for problem in error.problems[:LINES_MAX] for line in _shown(name, problem, root, source)]
        more = len(error.problems) - LINES_MAX
        raise BadFile(*shown, *([f"{name}: … and {more} more"] if more > 0 else [])) from error
    except Invalid as error:
        problem = str(error)
        raise BadFile(f"{name}: {'it is empty; a job has a name and tasks' if problem == 'EOF' else problem}") from error


def _positions(body: bytes) -> Node | None:
    """The document with the places of its fields, if they can be known: all but all JSON is YAML too."""
    try:
        return from_yaml(body.decode())
    except (Invalid, UnicodeDecodeError):
        return None


def _shown(name: str, problem: Problem, root: Node | None, source: list[str]) -> Iterator[str]:
    line, column = problem.line, problem.column
    if not line and root is not None:
        line, column = locate(root, problem.path, FORMER)
    text = problem.text.strip()[:LINE_MAX]
    yield f"{name}:{line}:{column}: {text}" if line else f"{name}: {text}"
    if 1 <= line <= len(source) and column <= SOURCE_MAX:
        shown = source[line - 1].replace("\t", " ")
        yield f"{line:>5} | {shown[:SOURCE_MAX]}"
        yield f"{'':>5} | {'':>{column - 1}}^"
