"""The examples are as the rules want them, also those that Tork itself refuses."""

from pathlib import Path

import pytest

from windlass.documents.reading import decode_job
from windlass.documents.validation import check_job
from windlass.errors import Invalid

EXAMPLES = Path(__file__).parents[3] / "examples"
FILES = sorted(path for path in EXAMPLES.rglob("*") if path.is_file())
TORK = {
    "hello", "job_output", "job_defaults", "parallel", "each", "slow", "subjob", "prepost", "retry", "timeout", "resize_image",
    "hls", "split_and_stitch", "aws_split_and_stitch", "aws_create_master",
}  # fmt: skip
"""The examples that Tork comes with; the others are after the pages of its documentation."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_would_be_taken(path: Path) -> None:
    document = decode_job(path.read_bytes(), "json" if path.suffix == ".json" else "yaml")
    try:
        check_job(document.job, document.absent)
    except Invalid as error:
        assert [line for line in str(error).splitlines() if "is not built yet" not in line] == []  # noqa: PT017 only that


def test_every_example_of_tork_has_its_like() -> None:
    assert {path.stem for path in FILES if path.parent.name == "tork"} >= TORK


def test_former_ways_of_writing_are_shown() -> None:
    text = "".join(path.read_text() for path in FILES)
    assert [word for word in ("initialDelay:", "scalingFactor:", "volumes:", "cpu:") if word not in text] == []
