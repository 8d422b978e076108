"""Where things live."""

import ast
import tomllib
from pathlib import Path

import pytest

from tests.house.files import ROOT, SOURCES, kept, name, python, tree
from windlass.release import RELEASE

VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "misc"}


def test_neither_half_of_the_package_hides_the_other() -> None:
    """One `__init__.py` directly in `services/windlass` or `shared/windlass` would."""
    assert [root for root in SOURCES if (root / "windlass" / "__init__.py").exists()] == []


@pytest.mark.parametrize("root", [*SOURCES, ROOT / "tests"], ids=lambda root: root.name)
def test_every_folder_with_code_is_a_package(root: Path) -> None:
    roofs = {source / "windlass" for source in SOURCES}
    folders = {path.parent for path in python(root)} - roofs
    assert sorted(name(folder) for folder in folders if not (folder / "__init__.py").exists()) == []


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [name(path) for path in kept() if path.stem in VAGUE or path.parent.name in VAGUE] == []


def test_the_release_is_written_alike_in_both_places() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == RELEASE


def test_every_module_says_what_it_is_for() -> None:
    assert [name(path) for path in python() if not ast.get_docstring(tree(path))] == []


# -- tests --------------------------------------------------------------------------------------------------------------

NAP_S = 0.2
"""Between two looks at a condition; longer is a wait for time to pass, and time passes differently elsewhere."""


def test_tests_wait_for_a_condition_and_not_for_a_while() -> None:
    found = [
        f"{name(path)}:{node.lineno}"
        for path in python(ROOT / "tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "sleep"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, int | float)
        and node.args[0].value > NAP_S
    ]
    assert found == []


def test_nothing_is_replaced_behind_the_back_of_the_code() -> None:
    """A double goes in through a seam, and a contract suite shows that it is equal to the real thing."""
    forbidden = {"setattr", "setitem", "delattr", "patch", "MagicMock", "AsyncMock"}
    found = [
        f"{name(path)}:{node.lineno}"
        for path in python(ROOT / "tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and node.attr in forbidden
        and isinstance(node.value, ast.Name)
        and node.value.id in ("monkeypatch", "mock", "mocker")
    ]
    assert found == []
