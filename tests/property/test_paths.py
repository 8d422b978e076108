"""Paths that come from jobs: whatever is written, it leads where it may or is refused."""

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass import grammar
from windlass.errors import Invalid
from windlass.worker.docker.binds import Binds

PARTS = st.lists(st.sampled_from(["a", "b", "..", ".", "", "in", "out", "loop", "file", "x y", "-r", "\0", "é"]), max_size=7)


@given(PARTS, st.sampled_from(["", "/"]))
def test_a_file_that_is_taken_is_below_its_directory_under_the_name_it_was_given(parts: list[str], first: str) -> None:
    name = first + "/".join(parts)
    try:
        grammar.check_file(name)
    except Invalid:
        return
    path = f"/base/{name}"
    assert posixpath.normpath(path) == path


@given(PARTS)
def test_a_target_that_is_taken_is_normal_and_not_the_systems(parts: list[str]) -> None:
    try:
        target = grammar.check_target("/" + "/".join(parts))
    except Invalid:
        return
    assert posixpath.normpath(target) == target
    assert target not in ("/", "/proc", "/tork")


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """Directories `a` and `b`, a link from the one to the other, one back, and one that leads nowhere."""
    with TemporaryDirectory() as name:
        top = Path(name)
        for folder in ("a/b", "b/a"):
            (top / folder).mkdir(parents=True)
            (top / folder / "file").touch()
        (top / "a" / "out").symlink_to(top / "b")
        (top / "a" / "in").symlink_to("b")
        (top / "b" / "in").symlink_to(top / "a")
        (top / "a" / "loop").symlink_to("loop")
        yield top


@given(parts=PARTS)
def test_what_is_bound_is_really_below_what_is_allowed(tree: Path, parts: list[str]) -> None:
    source = f"{tree}/{'/'.join(parts)}"
    try:
        grammar.check_source(source)
        found = Binds((f"{tree}/a",)).admit(source)
    except Invalid:
        return
    assert os.path.exists(found)
    assert not os.path.islink(found)
    assert f"{found}/".startswith(f"{os.path.realpath(tree / 'a')}/")
