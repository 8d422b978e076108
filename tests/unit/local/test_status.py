"""How `windlass status` writes down what it found."""

import pytest

from windlass.local.status import spans


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([0, 1, 2, 3, 8, 10], "0-3 8 10"), ([4, 5], "4-5"), (list(range(16)), "0-15")]
)
def test_numbers_that_follow_each_other_are_one_span(numbers: list[int], text: str) -> None:
    assert spans(numbers) == text
