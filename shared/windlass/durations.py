"""Durations as people write them, in Go's syntax (`1h30m`, `1.5s`, `300ms`), and moments."""

import re
from datetime import UTC, datetime

_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5
    "μs": 10**3,  # U+03BC
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")
_TEXT_MAX = 64
_NANOSECONDS_MAX = 2**63 - 1


class NotADuration(ValueError):
    """The text is none; the message is the one Go's users know."""


class NotAMoment(ValueError):
    """The text names no moment; the message says why."""


def moment(text: str) -> datetime:
    """A moment written as RFC 3339 has it, with its zone: `2026-03-01T12:00:00Z`, `2026-03-01T13:00:00+01:00`.

    Raises:
        NotAMoment: the text is none.
    """
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise NotAMoment(f"{text!r} has no zone")
        return found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise error if isinstance(error, NotAMoment) else NotAMoment(f"{text[:_TEXT_MAX]!r} is no date and time") from error


def nanoseconds(text: str) -> int:
    """A duration in nanoseconds; it may be negative, and `0` needs no unit.

    Raises:
        NotADuration: the text is no duration, or one of more than 292 years.
    """
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    if not rest or len(text) > _TEXT_MAX:
        raise NotADuration(f'time: invalid duration "{text[:_TEXT_MAX]}"')
    total = 0
    while rest:
        part = _PART.match(rest)
        assert part is not None
        whole, fraction, unit = part.groups()
        if not whole and not fraction:
            raise NotADuration(f'time: invalid duration "{text}"')
        if not unit:
            raise NotADuration(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise NotADuration(f'time: unknown unit "{unit}" in duration "{text}"')
        scale = _UNITS[unit]
        total += int(whole or "0") * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
        rest = rest[part.end() :]
    if total > _NANOSECONDS_MAX:
        raise NotADuration(f'time: invalid duration "{text}"')
    return sign * total


def seconds(text: str) -> float:
    """A duration in seconds.

    Raises:
        NotADuration: see `nanoseconds`.
    """
    return nanoseconds(text) / 1e9
