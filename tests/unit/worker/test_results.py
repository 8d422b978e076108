"""Files that a task wrote are read carefully."""

import os
from pathlib import Path

import pytest

from windlass.worker.results import BadOutput, parse_progress, read_output, read_progress
from windlass.worker.runtime import OUTPUT_MAX


def test_regular_file(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(b"a\xff\0b")
    assert read_output(str(file)) == "a\ufffdb"


def test_missing_file_is_empty(tmp_path: Path) -> None:
    assert read_output(str(tmp_path / "out")) == ""


def test_size_is_limited(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(b"x" * OUTPUT_MAX)
    assert len(read_output(str(file))) == OUTPUT_MAX
    with file.open("ab") as more:
        more.write(b"x")
    with pytest.raises(BadOutput, match=f"holds {OUTPUT_MAX + 1} bytes, a result is at most {OUTPUT_MAX}"):
        read_output(str(file))


def test_hole_of_a_terabyte_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.touch()
    os.truncate(file, 1 << 34)
    with pytest.raises(BadOutput, match="holds"):
        read_output(str(file))


def test_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "out").symlink_to("secret")
    with pytest.raises(BadOutput, match="is a link"):
        read_output(str(tmp_path / "out"))


def test_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out")
    with pytest.raises(BadOutput, match="is a pipe"):
        read_output(str(tmp_path / "out"))
    assert read_progress(str(tmp_path / "out")) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"0", 0.0),
        (b" 12.5\n", 12.5),
        (b"100", 100.0),
        (b"", None),
        (b"nan", None),
        (b"inf", None),
        (b"-1", None),
        (b"100.1", None),
        (b"1e400", None),
        (b"half", None),
        (b"\xff", None),
    ],
)
def test_progress(text: bytes, value: float | None) -> None:
    assert parse_progress(text) == value
