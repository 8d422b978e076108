"""The spool: a report is on disk, whole or not at all, until it is on record."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.memory.runtime import MemorySpool
from windlass.errors import Misconfigured
from windlass.worker.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """An open spool."""
    found = Spool(tmp_path / "spool")
    found.open()
    return found


def test_a_spool_makes_its_directory_for_its_user_alone(tmp_path: Path) -> None:
    Spool(tmp_path / "a" / "b").open()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_spool_has_one_owner_for_ever_and_no_other_spool_has_it(spool: Spool, tmp_path: Path) -> None:
    name = spool.owner()
    assert Spool(tmp_path / "spool").owner() == name
    other = Spool(tmp_path / "other")
    other.open()
    assert other.owner() != name
    assert spool.left() == []
    (tmp_path / "spool" / ".owner").write_text("")
    assert len(spool.owner()) == 12


@pytest.fixture(params=["folder", "memory"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Spool]:
    """Opens the spool of one place, as each start of its worker does: of a folder, or of the double in memory."""
    kept: dict[str, tuple[str, bytes]] = {}

    def opened() -> Spool:
        found = MemorySpool(kept) if request.param == "memory" else Spool(tmp_path / "spool")
        found.open()
        return found

    return opened


def test_a_report_that_was_kept_is_found_by_the_next_worker(start: Callable[[], Spool]) -> None:
    payload = b'{"data":"line 1\\nline 2"}\n\nand more\xff'
    start().keep("t-1", "completed.00.w", payload)
    assert start().left() == [("t-1", "completed.00.w", payload)]


def test_reports_are_found_in_the_order_in_which_they_were_kept(spool: Spool, tmp_path: Path) -> None:
    double = MemorySpool({})
    for number, name in enumerate(["c", "a", "b"]):
        spool.keep(name, "s", b"")
        double.keep(name, "s", b"")
        os.utime(tmp_path / "spool" / name, (number, number))
    assert [name for name, _, _ in spool.left()] == [name for name, _, _ in double.left()] == ["c", "a", "b"]


def test_what_is_on_record_is_dropped_and_dropping_twice_is_harmless(start: Callable[[], Spool]) -> None:
    spool = start()
    spool.keep("t-1", "s", b"x")
    spool.keep("t-2", "s", b"y")
    spool.drop("t-1")
    spool.drop("t-1")
    assert [name for name, _, _ in spool.left()] == ["t-2"]


def test_keeping_again_replaces(start: Callable[[], Spool]) -> None:
    spool = start()
    spool.keep("t-1", "s", b"long before")
    spool.keep("t-1", "s", b"x")
    assert spool.left() == [("t-1", "s", b"x")]


def test_what_was_only_half_written_is_no_report(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "spool" / ".t-1").write_bytes(b"comple")
    assert spool.left() == []


def test_a_spool_that_cannot_be_written_says_so_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="WINDLASS_SPOOL"):
        Spool(tmp_path / "file" / "spool").open()
