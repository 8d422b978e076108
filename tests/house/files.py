"""The files of this checkout, as the rules look at them."""

import ast
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT / "services", ROOT / "shared")
_NOT_OURS = {".git", ".venv", "v", "dist", "build", "__pycache__"}


@cache
def kept() -> list[Path]:
    """All files that version control keeps or would keep; without it, all that are no cache."""
    asked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
    )
    if asked.returncode == 0:
        found = [ROOT / name for name in asked.stdout.decode().split("\0") if name]
    else:
        found = [path for path in ROOT.rglob("*") if not _NOT_OURS & set(path.relative_to(ROOT).parts)]
    return sorted(path for path in found if path.is_file())


def texts() -> Iterator[tuple[str, str]]:
    """Each text file: its name from the root, and what it says."""
    for path in kept():
        try:
            yield name(path), path.read_text()
        except UnicodeDecodeError:
            continue


@cache
def python(*roots: Path) -> list[Path]:
    """The Python files below some folders; below both source roots if none is named."""
    return [path for path in kept() if path.suffix == ".py" and any(root in path.parents for root in roots or SOURCES)]


@cache
def tree(path: Path) -> ast.Module:
    """A Python file, parsed."""
    text = path.read_text()
    # CPython 3.11 counts the depth of a tree in a place that all trees share, so a collection or a thread in the middle of
    # one may make it say "AST constructor recursion depth mismatch" (python/cpython#106905). The next try is right.
    for _ in range(4):
        with suppress(SystemError):
            return ast.parse(text, name(path))
    return ast.parse(text, name(path))


def name(path: Path) -> str:
    """A file's name from the root, with slashes."""
    return path.relative_to(ROOT).as_posix()


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each string of a Python file but docstrings; of an f-string the parts in between become `{}`."""
    module = tree(path)
    prose: set[int] = set()
    parts: set[int] = set()
    for node in ast.walk(module):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            prose |= {id(one.value) for one in body if isinstance(one, ast.Expr)}
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in node.values}
    for node in ast.walk(module):
        if id(node) in prose | parts:
            continue
        if isinstance(node, ast.JoinedStr):
            whole = (str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield node.lineno, "".join(whole)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
