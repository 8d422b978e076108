"""Times, durations and zones: nanoseconds on Go's proleptic calendar, which Python's datetime can neither hold nor reach."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import ClassVar, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from windlass.expressions.errors import RunError

SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY_S = 86_400

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_S, _LAST_S = -62_135_510_400, 253_402_214_400  # a day inside of what datetime can hold
_YEAR_ONE_S = 62_135_596_800  # from the first day of year 1 to the epoch


class Duration:
    """A signed count of nanoseconds that fits 64 bits."""

    __slots__ = ("ns",)

    def __init__(self, ns: int) -> None:
        self.ns = ns

    def __eq__(self, other: object) -> bool:
        return type(other) is Duration and other.ns == self.ns

    def __lt__(self, other: "Duration") -> bool:
        return self.ns < other.ns

    def __hash__(self) -> int:
        return hash(("duration", self.ns))

    def __str__(self) -> str:
        ns = abs(self.ns)
        sign = "-" if self.ns < 0 else ""
        if ns == 0:
            return "0s"
        for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
            if ns < min(size * 1000, SECOND):
                return f"{sign}{_decimal(ns, size)}{unit}"
        hours, rest = divmod(ns, HOUR)
        minutes, rest = divmod(rest, MINUTE)
        head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
        return f"{sign}{head}{_decimal(rest, SECOND)}s"

    def __repr__(self) -> str:
        return f"Duration({self})"


def _decimal(count: int, size: int) -> str:
    """`count / size`, exactly; size is a power of ten."""
    whole, rest = divmod(count, size)
    return f"{whole}.{str(size + rest)[1:].rstrip('0')}" if rest else str(whole)


class Offset(NamedTuple):
    """What a zone says at some instant."""

    abbreviation: str
    seconds: int
    is_dst: bool


class Location:
    """A zone: one from the zone database, or a fixed offset under a name, which may be empty."""

    __slots__ = ("_fixed", "_zone", "name")

    def __init__(self, name: str, seconds: int = 0, zone: ZoneInfo | None = None, abbreviation: str = "") -> None:
        self.name = name
        self._zone = zone
        self._fixed = Offset(abbreviation or name, seconds, False)

    def at(self, seconds: int) -> Offset:
        """The offset in force at this many seconds since the epoch."""
        if self._zone is None:
            return self._fixed
        moment = (_EPOCH + timedelta(seconds=min(max(seconds, _FIRST_S), _LAST_S))).astimezone(self._zone)
        offset = moment.utcoffset() or timedelta()
        return Offset(moment.tzname() or "", offset.days * DAY_S + offset.seconds, bool(moment.dst()))

    def seconds_of(self, local: int) -> int:
        """The instant at which clocks here show what UTC clocks show at `local`."""
        if self._zone is None:
            return local - self._fixed.seconds
        guess = local - self.at(local).seconds
        return local - self.at(guess).seconds

    def offset_named(self, abbreviation: str, local: int) -> int | None:
        """The offset that goes by this abbreviation, the one in force then if it can be."""
        known = [self._fixed] if self._zone is None else _abbreviations(self)
        named = [offset for offset in known if offset.abbreviation == abbreviation]
        for offset in named:
            if self.at(local - offset.seconds).abbreviation == abbreviation:
                return self.at(local - offset.seconds).seconds
        return named[0].seconds if named else None

    def __eq__(self, other: object) -> bool:
        return type(other) is Location and other.name == self.name and other._fixed == self._fixed

    def __hash__(self) -> int:
        return hash((self.name, self._fixed))

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Location({self.name!r})"


@lru_cache(maxsize=64)
def _abbreviations(location: Location) -> tuple[Offset, ...]:
    """Every offset the zone has had, oldest first, as far as a look at each half year tells."""
    half_years = range(-2_840_140_800, 2_145_916_800, 182 * DAY_S + 43_200)
    return tuple(dict.fromkeys(location.at(seconds) for seconds in (_FIRST_S, *half_years)))


UTC_LOCATION = Location("UTC")
LOCAL = Location("Local", abbreviation="UTC")  # the same on every machine: a job does not depend on where it runs


@lru_cache(maxsize=256)
def location(name: str) -> Location:
    """The zone of this name in the zone database; raises `RunError` if there is none."""
    if name in ("", "UTC"):
        return UTC_LOCATION
    if name == "Local":
        return LOCAL
    if ".." not in name and name[0] not in "/\\" and name.isascii() and "\0" not in name:
        try:
            return Location(name, zone=ZoneInfo(name))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    raise RunError(f"unknown time zone {name}")


class Named:
    """A number of its own kind, with a name."""

    __slots__ = ("number",)
    names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Named) and other.number == self.number

    def __hash__(self) -> int:
        return hash((type(self), self.number))

    def __str__(self) -> str:
        return self.names[self.number]


class Month(Named):
    """1 to 12."""

    __slots__ = ()
    names: ClassVar[tuple[str, ...]] = ("", *MONTHS)


class Weekday(Named):
    """0, a Sunday, to 6."""

    __slots__ = ()
    names: ClassVar[tuple[str, ...]] = WEEKDAYS


class Civil(NamedTuple):
    """An instant as a calendar and a clock show it."""

    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int
    nanosecond: int
    weekday: int
    yearday: int


def days_of(year: int, month: int, day: int) -> int:
    """Days since the epoch; months and days out of range carry over.

    The civil calendar as shifted years from March: https://howardhinnant.github.io/date_algorithms.html
    """
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    shifted = year - (month <= 2)
    era_day = (153 * ((month + 9) % 12) + 2) // 5
    return shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400 + era_day + day - 1 - 719_468


def date_of(days: int) -> tuple[int, int, int]:
    """The year, month and day of a count of days since the epoch."""
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    yearday = day - (365 * year + year // 4 - year // 100)
    shifted = (5 * yearday + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * 400 + year + (month <= 2), month, yearday - (153 * shifted + 2) // 5 + 1


class Time:
    """An instant, nanoseconds since the epoch, seen from a zone. Equality asks for the same instant only."""

    __slots__ = ("location", "ns")

    def __init__(self, ns: int, location: Location = UTC_LOCATION) -> None:
        self.ns = ns
        self.location = location

    @classmethod
    def of(cls, moment: datetime) -> "Time":
        """The instant of an aware datetime, seen from UTC."""
        if moment.tzinfo is None:
            raise ValueError(f"{moment.isoformat()} has no zone")
        since = moment - _EPOCH
        return cls((since.days * DAY_S + since.seconds) * SECOND + since.microseconds * 1000)

    @classmethod
    def at(
        cls, year: int, month: int, day: int, hour: int, minute: int, second: int, nanosecond: int, location: Location
    ) -> "Time":
        """The instant at which clocks of the zone show this; parts out of range carry over."""
        second += nanosecond // SECOND
        local = days_of(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second
        return cls(location.seconds_of(local) * SECOND + nanosecond % SECOND, location)

    @property
    def seconds(self) -> int:
        return self.ns // SECOND

    @property
    def offset(self) -> Offset:
        return self.location.at(self.ns // SECOND)

    @property
    def civil(self) -> Civil:
        seconds = self.ns // SECOND + self.offset.seconds
        days, clock = divmod(seconds, DAY_S)
        year, month, day = date_of(days)
        yearday = days - days_of(year, 1, 1) + 1
        hour, minute, second = clock // 3600, clock % 3600 // 60, clock % 60
        return Civil(year, month, day, hour, minute, second, self.ns % SECOND, (days + 4) % 7, yearday)

    @property
    def since_year_one(self) -> int:
        """Nanoseconds since the zero time, from which truncation counts."""
        return self.ns + _YEAR_ONE_S * SECOND

    def __eq__(self, other: object) -> bool:
        return type(other) is Time and other.ns == self.ns

    def __lt__(self, other: "Time") -> bool:
        return self.ns < other.ns

    def __hash__(self) -> int:
        return hash(("time", self.ns))

    def __repr__(self) -> str:
        return f"Time({self.ns}, {self.location.name!r})"


ZERO_TIME = Time(-_YEAR_ONE_S * SECOND)
