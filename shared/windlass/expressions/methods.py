"""The methods of times, durations, zones, months and weekdays: the only ones there are."""

from collections.abc import Callable
from typing import Any, NamedTuple

from windlass.expressions import types
from windlass.expressions.errors import RunError
from windlass.expressions.layouts import DEFAULT_LAYOUT, RFC3339_NANO, formatted
from windlass.expressions.moments import (
    DAY_S,
    HOUR,
    LOCAL,
    MINUTE,
    SECOND,
    UTC_LOCATION,
    ZERO_TIME,
    Civil,
    Duration,
    Location,
    Month,
    Time,
    Weekday,
    date_of,
)
from windlass.expressions.types import BOOL, BYTES, DURATION, FLOAT, INT, INT64, LOCATION, MONTH, STRING, TIME, WEEKDAY, Type
from windlass.expressions.values import MAX_INT, MIN_INT, Int64, Value, wrap


class Method(NamedTuple):
    """What a method takes and gives. `hidden` ones, of three results, can only be called on what the check does not know."""

    parameters: tuple[Type, ...]
    result: Type
    run: Callable[..., Value]
    hidden: bool = False


class Bound(NamedTuple):
    """A method of a value, not yet called."""

    method: Method
    value: Value


_ZEROS: dict[Type, Value] = {STRING: "", INT: 0, DURATION: Duration(0), TIME: ZERO_TIME}


def invoke(bound: Bound, arguments: list[Value]) -> Value:
    """Call a method with what is known only now; nil stands for the zero of the type that is wanted."""
    parameters = bound.method.parameters
    if len(arguments) != len(parameters):
        raise RunError(f"reflect: Call with too {'few' if len(arguments) < len(parameters) else 'many'} input arguments")
    given = []
    for value, wanted in zip(arguments, parameters, strict=True):
        real = _ZEROS[wanted] if value is None and wanted in _ZEROS else value
        if types.CLASSES.get(type(real)) is not wanted:
            raise RunError(f"reflect: Call using {types.name_of(value)} as type {wanted}")
        given.append(real)
    return bound.method.run(bound.value, *given)


def clamped(ns: int) -> Duration:
    """A difference of times, at most what 64 bits hold."""
    return Duration(min(max(ns, MIN_INT), MAX_INT))


def _add_date(time: Time, years: int, months: int, days: int) -> Time:
    now = time.civil
    if max(abs(years), abs(months), abs(days)) > 10**7:
        raise RunError("date out of range")
    return Time.at(
        now.year + years, now.month + months, now.day + days, now.hour, now.minute, now.second, now.nanosecond, time.location
    )


def _truncated(time: Time, step: Duration) -> Time:
    return Time(time.ns - time.since_year_one % step.ns, time.location) if step.ns > 0 else time


def _rounded(time: Time, step: Duration) -> Time:
    if step.ns <= 0:
        return time
    rest = time.since_year_one % step.ns
    return Time(time.ns - rest + (step.ns if rest * 2 >= step.ns else 0), time.location)


def _iso_year(time: Time) -> int:
    """The year of this week's Thursday."""
    now = time.civil
    days = (time.seconds + time.offset.seconds) // DAY_S
    return date_of(days + 3 - (now.weekday + 6) % 7)[0]


def _rfc3339(time: Time) -> str:
    if not 0 <= time.civil.year <= 9999:
        raise RunError("Time.MarshalJSON: year outside of range [0,9999]")
    return formatted(time, RFC3339_NANO)


def _go_string(time: Time) -> str:
    now = time.civil
    month = str(Month(now.month))
    zone = f"time.{time.location.name}" if time.location.name in ("UTC", "Local") else f'time.Location("{time.location.name}")'
    parts = f"{now.year}, time.{month}, {now.day}, {now.hour}, {now.minute}, {now.second}, {now.nanosecond}"
    return f"time.Date({parts}, {zone})"


def _rounded_duration(value: Duration, step: Duration) -> Duration:
    if step.ns <= 0:
        return value
    rest = abs(value.ns) % step.ns
    size = abs(value.ns) - rest + (step.ns if rest * 2 >= step.ns else 0)
    return clamped(size if value.ns >= 0 else -size)


def _truncated_duration(value: Duration, step: Duration) -> Duration:
    if step.ns <= 0:
        return value
    size = abs(value.ns) - abs(value.ns) % step.ns
    return Duration(size if value.ns >= 0 else -size)


def _toward_zero(ns: int, size: int) -> Int64:
    return Int64(abs(ns) // size * (1 if ns >= 0 else -1))


def _count(ns: int, unit: int) -> float:
    """How many units, whole ones first, so that the last digit is Go's."""
    whole, rest = divmod(abs(ns), unit)
    count = whole + rest / unit
    return count if ns >= 0 else -count


def _local(time: Time) -> Time:
    return Time(time.ns, LOCAL)


def _field(name: str) -> Method:
    at = Civil._fields.index(name)
    return Method((), INT, lambda time: time.civil[at])


METHODS: dict[str, dict[str, Method]] = {
    "time": {
        "Year": _field("year"),
        "Month": Method((), MONTH, lambda time: Month(time.civil.month)),
        "Day": _field("day"),
        "Hour": _field("hour"),
        "Minute": _field("minute"),
        "Second": _field("second"),
        "Nanosecond": _field("nanosecond"),
        "Weekday": Method((), WEEKDAY, lambda time: Weekday(time.civil.weekday)),
        "YearDay": _field("yearday"),
        "Unix": Method((), INT64, lambda time: Int64(time.ns // SECOND)),
        "UnixMilli": Method((), INT64, lambda time: Int64(wrap(time.ns // 10**6))),
        "UnixMicro": Method((), INT64, lambda time: Int64(wrap(time.ns // 10**3))),
        "UnixNano": Method((), INT64, lambda time: Int64(wrap(time.ns))),
        "Format": Method((STRING,), STRING, formatted),
        "String": Method((), STRING, lambda time: formatted(time, DEFAULT_LAYOUT)),
        "Add": Method((DURATION,), TIME, lambda time, step: Time(time.ns + step.ns, time.location)),
        "AddDate": Method((INT, INT, INT), TIME, _add_date),
        "Sub": Method((TIME,), DURATION, lambda time, other: clamped(time.ns - other.ns)),
        "Truncate": Method((DURATION,), TIME, _truncated),
        "Round": Method((DURATION,), TIME, _rounded),
        "In": Method((LOCATION,), TIME, lambda time, location: Time(time.ns, location)),
        "UTC": Method((), TIME, lambda time: Time(time.ns, UTC_LOCATION)),
        "Local": Method((), TIME, _local),
        "Location": Method((), LOCATION, lambda time: time.location),
        "IsZero": Method((), BOOL, lambda time: time == ZERO_TIME),
        "IsDST": Method((), BOOL, lambda time: time.offset.is_dst),
        "Before": Method((TIME,), BOOL, lambda time, other: time.ns < other.ns),
        "After": Method((TIME,), BOOL, lambda time, other: time.ns > other.ns),
        "Equal": Method((TIME,), BOOL, lambda time, other: time.ns == other.ns),
        "Compare": Method((TIME,), INT, lambda time, other: (time.ns > other.ns) - (time.ns < other.ns)),
        "ISOWeek": Method((), INT, _iso_year),
        "Zone": Method((), STRING, lambda time: time.offset.abbreviation),
        "GoString": Method((), STRING, _go_string),
        "MarshalText": Method((), BYTES, lambda time: _rfc3339(time).encode()),
        "MarshalJSON": Method((), BYTES, lambda time: f'"{_rfc3339(time)}"'.encode()),
        "Date": Method((), INT, lambda time: time.civil.year, hidden=True),
        "Clock": Method((), INT, lambda time: time.civil.hour, hidden=True),
    },
    "duration": {
        "Hours": Method((), FLOAT, lambda value: _count(value.ns, HOUR)),
        "Minutes": Method((), FLOAT, lambda value: _count(value.ns, MINUTE)),
        "Seconds": Method((), FLOAT, lambda value: _count(value.ns, SECOND)),
        "Milliseconds": Method((), INT64, lambda value: _toward_zero(value.ns, 10**6)),
        "Microseconds": Method((), INT64, lambda value: _toward_zero(value.ns, 10**3)),
        "Nanoseconds": Method((), INT64, lambda value: Int64(value.ns)),
        "Abs": Method((), DURATION, lambda value: clamped(abs(value.ns))),
        "Round": Method((DURATION,), DURATION, _rounded_duration),
        "Truncate": Method((DURATION,), DURATION, _truncated_duration),
        "String": Method((), STRING, str),
    },
    "location": {"String": Method((), STRING, str)},
    "month": {"String": Method((), STRING, str)},
    "weekday": {"String": Method((), STRING, str)},
}

_KINDS: dict[type, dict[str, Method]] = {
    Time: METHODS["time"],
    Duration: METHODS["duration"],
    Location: METHODS["location"],
    Month: METHODS["month"],
    Weekday: METHODS["weekday"],
}


def member(value: Any, name: Any) -> Bound | None:
    """The method of this name; None if the value has no such, or no methods at all."""
    method = _KINDS.get(type(value), {}).get(name) if isinstance(name, str) else None
    return Bound(method, value) if method is not None else None
