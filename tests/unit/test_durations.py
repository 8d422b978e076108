"""Durations, as Go reads them."""

import pytest

from windlass.durations import NotADuration, nanoseconds, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1ns", 1),
        ("300ms", 300_000_000),
        ("1.5s", 1_500_000_000),
        (".5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("2us", 2_000),
        ("2µs", 2_000),
        ("2μs", 2_000),
        ("-5s", -5_000_000_000),
        ("+5s", 5_000_000_000),
        ("-0", 0),
    ],
)
def test_what_go_takes_is_taken(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("5", 'time: missing unit in duration "5"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("s", 'time: invalid duration "s"'),
        (".s", 'time: invalid duration ".s"'),
        ("+", 'time: invalid duration "+"'),
        ("1 s", 'time: unknown unit " s" in duration "1 s"'),
        ("9999999h", 'time: invalid duration "9999999h"'),
        ("٥s", 'time: invalid duration "٥s"'),
    ],
)
def test_what_go_refuses_is_refused_in_its_words(text: str, message: str) -> None:
    with pytest.raises(NotADuration) as refused:
        nanoseconds(text)
    assert str(refused.value).startswith(message)


def test_a_long_text_is_refused_and_not_echoed() -> None:
    with pytest.raises(NotADuration) as refused:
        nanoseconds("1s" * 100_000)
    assert len(str(refused.value)) < 200


def test_seconds_may_be_fractions() -> None:
    assert seconds("1.5s") == 1.5
