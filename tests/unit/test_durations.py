"""Durations, as Go reads them, and moments."""

from datetime import UTC, datetime

import pytest

from windlass.durations import NotADuration, NotAMoment, moment, nanoseconds, seconds


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


@pytest.mark.parametrize("text", ["2026-03-01T12:00:00Z", "2026-03-01T13:30:00+01:30", "2026-03-01 12:00:00.000000Z"])
def test_a_moment_has_a_zone(text: str) -> None:
    assert moment(text) == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert moment(text).tzinfo is UTC


@pytest.mark.parametrize("text", ["", "2026-03-01", "2026-03-01T12:00:00", "12:00Z", "in 5 minutes", "9999-12-31T23:00:00-05:00"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(NotAMoment):
        moment(text)
