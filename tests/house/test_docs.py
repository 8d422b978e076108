"""What is written for people is there, is current, and leads somewhere."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.files import ROOT, kept, name, python, tree

DOCS = ROOT / "docs"
PAGES = [path for path in kept() if path.suffix == ".md"]


def _codes() -> set[str]:
    """The code of each class of error, wherever it is defined; the root's is not for people."""
    return {
        part.value.value
        for path in python()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.Assign)
        and isinstance(part.targets[0], ast.Name)
        and part.targets[0].id == "code"
        and isinstance(part.value, ast.Constant)
        and isinstance(part.value.value, str)
    }


def test_every_code_of_an_error_has_a_page_and_every_page_a_code() -> None:
    assert {path.stem for path in (DOCS / "errors").glob("*.md")} - {"README"} == _codes()


def test_what_is_generated_is_current() -> None:
    asked = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert asked.returncode == 0, asked.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), f"{name(page)} links to {target}"


def test_decisions_are_numbered_without_gap() -> None:
    numbers = sorted(int(path.name[:4]) for path in (DOCS / "adr").glob("*.md"))
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("page", sorted((DOCS / "adr").glob("*.md")), ids=lambda page: page.stem)
def test_a_decision_has_context_and_consequences(page: Path) -> None:
    heads = re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)
    assert {"Context", "Decision", "Consequences"} <= set(heads), name(page)


# -- settings -----------------------------------------------------------------------------------------------------------


def _settings() -> Iterator[str]:
    """The variables that the code reads, without prefix; a family of names ends in `_`."""
    for path in python():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and len(node.args) >= 2:
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in ("lookup", "needed") and isinstance(node.args[1], ast.Constant):
                    yield str(node.args[1].value)
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found = re.fullmatch(r"(?:WINDLASS|TORK)_([A-Z_]+)", node.value)
                if found:
                    yield found[1]


INTERNAL = {"SUPERVISED", "TASK_MARK"}
"""Between our own processes."""
FOR_OTHERS = {"JOB_ID", "TASK_ID", "TASK_KEY", "RUN", "ATTEMPT", "OUTPUT", "PROGRESS", "ENDPOINT", "LOGGING_LEVEL"}
"""What tasks and other commands are told, and Tork's name for the level of the log; in the text of the page."""


def test_every_setting_is_in_the_reference_and_nothing_else() -> None:
    told = (DOCS / "reference" / "settings.md").read_text()
    named = {row.removesuffix("<NAME>") for row in re.findall(r"^\| `WINDLASS_([A-Z_]+(?:<NAME>)?)`", told, re.MULTILINE)}
    assert set(_settings()) - INTERNAL - FOR_OTHERS == named
    assert {word for word in FOR_OTHERS if f"_{word}`" not in told} == set()


# -- examples and recipes -----------------------------------------------------------------------------------------------


def test_every_recipe_says_what_it_does_and_belongs_to_a_group() -> None:
    lines = (ROOT / "justfile").read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[a-z][\w-]*( [^:=]*)?:( |$)", line) and lines[number - 1] != "[private]":
            assert lines[number - 1].startswith("[group("), f"recipe without a group: {line}"
            assert lines[number - 2].startswith("# "), f"recipe without a comment: {line}"


def test_check_is_what_ci_runs() -> None:
    assert "\ncheck: lint types imports test\n" in (ROOT / "justfile").read_text()
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("uv run just check")
