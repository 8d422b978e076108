"""Times to text and back by a layout: an example of the reference time, Mon Jan 2 15:04:05 MST 2006, as Go reads it."""

import re
from functools import lru_cache

from windlass.expressions.errors import RunError
from windlass.expressions.moments import (
    LOCAL,
    MONTHS,
    SECOND,
    UTC_LOCATION,
    WEEKDAYS,
    Location,
    Time,
    date_of,
    days_of,
)

DEFAULT_LAYOUT = "2006-01-02 15:04:05.999999999 -0700 MST"
RFC3339 = "2006-01-02T15:04:05Z07:00"
RFC3339_NANO = "2006-01-02T15:04:05.999999999Z07:00"
TRIED = (
    "2006-01-02",
    "15:04:05",
    "2006-01-02 15:04:05",
    RFC3339,
    "02 Jan 06 15:04 MST",
    "Monday, 02-Jan-06 15:04:05 MST",
    "Mon, 02 Jan 2006 15:04:05 MST",
)

# Longest first at each position. A name cut short is not one before a lower-case letter; a fraction ends where digits do.
_ELEMENT = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006|_2(?!006)|__2|002|0[1-6]|15|1|2|3|4|5|PM|pm"
    r"|-070000|-07:00:00|-0700|-07:00|-07|Z070000|Z07:00:00|Z0700|Z07:00|Z07"
    r"|[.,](?:0+|9+)(?![0-9])"
)
_OFFSET = {"0700": (0, 4), "07:00": (1, 5), "07": (0, 2), "070000": (0, 6), "07:00:00": (1, 8)}


LONGEST = 1000
"""Characters of a layout or of a text to read by one; longer ones are no dates."""


@lru_cache(maxsize=256)
def _elements(layout: str) -> tuple[tuple[str, str], ...]:
    """The layout cut up: literal text, then the element after it, which is empty at the end."""
    found: list[tuple[str, str]] = []
    at = 0
    while match := _ELEMENT.search(layout, at):
        found.append((layout[at : match.start()], match.group()))
        at = match.end()
    found.append((layout[at:], ""))
    return tuple(found)


def formatted(time: Time, layout: str) -> str:
    """The time in the zone it is seen from."""
    if len(layout) > LONGEST:
        raise RunError(f"layout is longer than {LONGEST} characters")
    now = time.civil
    offset = time.offset
    hour = now.hour % 12 or 12
    year = f"{'-' if now.year < 0 else ''}{abs(now.year):04d}"
    shown = {
        "2006": year,
        "06": f"{now.year % 100:02d}",
        "January": MONTHS[now.month - 1],
        "Jan": MONTHS[now.month - 1][:3],
        "01": f"{now.month:02d}",
        "1": str(now.month),
        "Monday": WEEKDAYS[now.weekday],
        "Mon": WEEKDAYS[now.weekday][:3],
        "02": f"{now.day:02d}",
        "_2": f"{now.day:2d}",
        "2": str(now.day),
        "002": f"{now.yearday:03d}",
        "__2": f"{now.yearday:3d}",
        "15": f"{now.hour:02d}",
        "03": f"{hour:02d}",
        "3": str(hour),
        "04": f"{now.minute:02d}",
        "4": str(now.minute),
        "05": f"{now.second:02d}",
        "5": str(now.second),
        "PM": "PM" if now.hour >= 12 else "AM",
        "pm": "pm" if now.hour >= 12 else "am",
        "MST": _abbreviation(offset.abbreviation, offset.seconds),
    }
    parts: list[str] = []
    for literal, element in _elements(layout):
        parts.append(literal)
        if not element:
            continue
        if element in shown:
            parts.append(shown[element])
        elif element[0] in ".,":
            digits = f"{now.nanosecond:09d}"[: len(element) - 1].ljust(len(element) - 1, "0")
            if element[1] == "9":
                digits = digits.rstrip("0")
            parts.append(element[0] + digits if digits else "")
        elif element[0] == "Z" and offset.seconds == 0:
            parts.append("Z")
        else:
            parts.append(_offset(element[1:], offset.seconds))
    return "".join(parts)


def _offset(form: str, seconds: int) -> str:
    sign, seconds = "-" if seconds < 0 else "+", abs(seconds)
    colon, length = _OFFSET[form]
    pieces = [f"{seconds // 3600:02d}", f"{seconds % 3600 // 60:02d}", f"{seconds % 60:02d}"]
    return sign + (":" if colon else "").join(pieces)[:length]


def _abbreviation(name: str, seconds: int) -> str:
    if name:
        return name
    return _offset("0700" if seconds % 3600 else "07" if seconds % 60 else "0700", seconds)


class _Mismatch(Exception):
    """The text does not follow the layout."""


class _Reader:
    """What is left of the text, eaten from the front."""

    def __init__(self, text: str) -> None:
        self.text = text

    def literal(self, expected: str) -> None:
        """A run of blanks in the layout stands for any run of blanks, none included."""
        at = 0
        while at < len(expected):
            if expected[at] == " ":
                if self.text and self.text[0] != " ":
                    raise _Mismatch
                at += len(expected[at:]) - len(expected[at:].lstrip(" "))
                self.text = self.text.lstrip(" ")
                continue
            if not self.text.startswith(expected[at]):
                raise _Mismatch
            self.text = self.text[1:]
            at += 1

    def digits(self, least: int, most: int) -> int:
        length = 0
        while length < most and length < len(self.text) and "0" <= self.text[length] <= "9":
            length += 1
        if length < least:
            raise _Mismatch
        number = int(self.text[:length])
        self.text = self.text[length:]
        return number

    def one_of(self, names: tuple[str, ...]) -> int:
        for at, name in enumerate(names):
            if self.text[: len(name)].lower() == name.lower():
                self.text = self.text[len(name) :]
                return at
        raise _Mismatch

    def match(self, pattern: str) -> re.Match[str]:
        found = re.match(pattern, self.text)
        if found is None:
            raise _Mismatch
        self.text = self.text[found.end() :]
        return found

    def fraction(self, digits: str) -> int:
        """Nanoseconds of the digits after the point; more than nine are cut."""
        return int(digits[:9].ljust(9, "0"))


def parsed(text: str, layout: str, zone: Location | None = None, local: Location = LOCAL) -> Time:
    """The time that the text shows, in the zone unless the text names another; raises `RunError` if it does not fit."""
    try:
        if len(text) > LONGEST or len(layout) > LONGEST:
            raise _Mismatch
        return _parsed(text, layout, zone or UTC_LOCATION, zone or local)
    except _Mismatch:
        raise RunError(f'parsing time "{text}" as "{layout}": cannot parse') from None


def _parsed(text: str, layout: str, default: Location, local: Location) -> Time:
    reader = _Reader(text)
    year, month, day, yearday = 0, 0, 0, 0
    hour = minute = second = nanosecond = 0
    half: str | None = None
    utc = False
    offset: int | None = None
    abbreviation = ""
    pieces = _elements(layout)
    for at, (literal, element) in enumerate(pieces):
        reader.literal(literal)
        if not element:
            break
        match element:
            case "2006":
                year = reader.digits(4, 4)
            case "06":
                year = reader.digits(2, 2)
                year += 1900 if year >= 69 else 2000
            case "January":
                month = reader.one_of(MONTHS) + 1
            case "Jan":
                month = reader.one_of(tuple(name[:3] for name in MONTHS)) + 1
            case "01" | "1":
                month = reader.digits(len(element), 2)
                if not 1 <= month <= 12:
                    raise _Mismatch
            case "Monday":
                reader.one_of(WEEKDAYS)
            case "Mon":
                reader.one_of(tuple(name[:3] for name in WEEKDAYS))
            case "02" | "2" | "_2":
                if element == "_2" and reader.text[:1] == " ":
                    reader.text = reader.text[1:]
                day = reader.digits(2 if element == "02" else 1, 2)
                if not day:
                    raise _Mismatch
            case "002" | "__2":
                if element == "__2":
                    reader.text = reader.text[len(reader.text[:2]) - len(reader.text[:2].lstrip(" ")) :]
                    yearday = reader.digits(1, 3)
                else:
                    yearday = reader.digits(3, 3)
                if not 1 <= yearday <= 366:
                    raise _Mismatch
            case "15":
                hour = reader.digits(1, 2)
                if hour > 23:
                    raise _Mismatch
            case "03" | "3":
                hour = reader.digits(len(element), 2)
                if hour > 12:
                    raise _Mismatch
            case "04" | "4":
                minute = reader.digits(len(element), 2)
                if minute > 59:
                    raise _Mismatch
            case "05" | "5":
                second = reader.digits(len(element), 2)
                if second > 59:
                    raise _Mismatch
                following = pieces[at + 1][0] == "" and pieces[at + 1][1][:1] in (".", ",")
                if not following and (found := re.match(r"[.,]([0-9]+)", reader.text)):
                    reader.text = reader.text[found.end() :]
                    nanosecond = reader.fraction(found[1])
            case "PM" | "pm":
                half = reader.text[:2]
                if half not in (("AM", "PM") if element == "PM" else ("am", "pm")):
                    raise _Mismatch
                reader.text = reader.text[2:]
            case "MST":
                if reader.text.startswith("UTC"):
                    reader.text = reader.text[3:]
                    utc = True
                else:
                    abbreviation = _zone_name(reader.text)
                    reader.text = reader.text[len(abbreviation) :]
            case _ if element[0] in ".,":
                length = len(element) - 1
                if element[1] == "0":
                    nanosecond = reader.fraction(reader.match(rf"[.,]([0-9]{{{length}}})")[1])
                elif found := re.match(r"[.,]([0-9]{1,9}(?![0-9]))", reader.text):
                    reader.text = reader.text[found.end() :]
                    nanosecond = reader.fraction(found[1])
            case _:
                if element[0] == "Z" and reader.text.startswith("Z"):
                    reader.text = reader.text[1:]
                    utc = True
                else:
                    offset = _read_offset(reader, element[1:])
    if reader.text:
        raise _Mismatch
    if half and half.upper() == "PM" and hour < 12:
        hour += 12
    elif half and half.upper() == "AM" and hour == 12:
        hour = 0
    if yearday:
        counted = date_of(days_of(year, 1, yearday))
        if counted[0] != year or (month and month != counted[1]) or (day and day != counted[2]):
            raise _Mismatch
        month, day = counted[1:]
    month, day = month or 1, day or 1
    if date_of(days_of(year, month, day)) != (year, month, day):
        raise _Mismatch
    clock = (year, month, day, hour, minute, second, nanosecond)
    if utc:
        return Time.at(*clock, UTC_LOCATION)
    if offset is not None:
        time = Time.at(*clock, Location("", offset))
        there = local.at(time.seconds)
        if there.seconds == offset and abbreviation in ("", there.abbreviation):
            return Time(time.ns, local)
        return Time(time.ns, Location(abbreviation, offset))
    if abbreviation:
        shown = Time.at(*clock, UTC_LOCATION)
        known = local.offset_named(abbreviation, shown.seconds)
        if known is not None:
            return Time(shown.ns - known * SECOND, local)
        hours = int(abbreviation[3:]) if abbreviation.startswith("GMT") and len(abbreviation) > 3 else 0
        return Time(shown.ns, Location(abbreviation, hours * 3600))  # the clock is not set back, in Go either
    return Time.at(*clock, default)


def _read_offset(reader: _Reader, form: str) -> int:
    colon = ":" if ":" in form else ""
    pieces = len(form.replace(":", "")) // 2
    found = reader.match("([+-])" + colon.join(["([0-9]{2})"] * pieces))
    numbers = [int(digits) for digits in found.groups()[1:]] + [0, 0]
    hours, minutes, seconds = numbers[:3]
    if hours > 24 or minutes > 60 or seconds > 60:
        raise _Mismatch
    return (hours * 3600 + minutes * 60 + seconds) * (-1 if found[1] == "-" else 1)


def _zone_name(text: str) -> str:
    """The abbreviation at the start of the text: three to five capitals, a `GMT` with hours, or a bare offset."""
    if text[:4] in ("ChST", "MeST"):
        return text[:4]
    if text.startswith("GMT"):
        found = re.match(r"GMT([+-][0-9]+)?", text)
        if found is None or (found[1] and not -23 <= int(found[1]) <= 23):
            return "GMT"
        return found[0]
    if text[:1] in ("+", "-"):
        found = re.match(r"[+-][0-9]+", text)
        if found is None or not -23 <= int(found[0]) <= 23:
            raise _Mismatch
        return found[0]
    capitals = len(text) - len(text.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    capitals = min(capitals, 6)
    if capitals == 3 or (capitals == 4 and (text[3] == "T" or text[:4] == "WITA")) or (capitals == 5 and text[4] == "T"):
        return text[:capitals]
    raise _Mismatch


_DURATION = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}


def duration_of(text: str) -> int:
    """Nanoseconds of a duration such as `1h30m`; raises `RunError` for anything else or beyond 64 bits."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    total = 0
    at = 0
    while at < len(rest) and len(rest) < 1000:
        match = _DURATION.match(rest, at)
        if match is None or not (match[1] or match[2]):
            break
        unit = _UNITS[match[3]]
        total += int(match[1] or 0) * unit
        if match[2]:
            total += int(match[2]) * unit // 10 ** len(match[2])
        at = match.end()
    if not rest or at < len(rest) or total > 2**63 - (sign > 0):
        raise RunError(f'time: invalid duration "{text}"')
    return sign * total
