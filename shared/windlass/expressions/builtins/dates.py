"""Dates and durations."""

from windlass.expressions import nodes
from windlass.expressions.builtins.signature import Builtin, counted, fail, typed
from windlass.expressions.errors import RunError
from windlass.expressions.layouts import TRIED, duration_of, parsed
from windlass.expressions.limits import ENVIRONMENT, Frame, spend
from windlass.expressions.moments import UTC_LOCATION, Duration, Location, Time, location
from windlass.expressions.operations import converted
from windlass.expressions.types import DURATION, LOCATION, STRING, TIME, Type
from windlass.expressions.values import Environment, Value


def now(frame: Frame, zone: Value = UTC_LOCATION) -> Value:
    if not isinstance(zone, Location):
        raise converted(zone, "*time.Location")
    environment = frame[ENVIRONMENT]
    if not isinstance(environment, Environment) or environment.now is None:
        raise RunError("now() is not known here: the environment has no clock")
    return Time(Time.of(environment.now()).ns, zone)


def duration(frame: Frame, text: Value) -> Value:
    if not isinstance(text, str):
        raise converted(text, "string")
    spend(frame, 10)
    return Duration(duration_of(text))


def timezone(frame: Frame, name: Value) -> Value:
    if not isinstance(name, str):
        raise converted(name, "string")
    return location(name)


def date(frame: Frame, *given: Value) -> Value:
    spend(frame, 50)
    zone: Location | None = None
    arguments = list(given)
    if isinstance(arguments[0], Location):
        zone = arguments.pop(0)
    if not arguments:
        raise RunError("date needs a text")
    for value in arguments:
        if not isinstance(value, str):
            raise converted(value, "string")
    if len(arguments) > 2:
        zone = location(arguments[2])
    if len(arguments) > 1:
        return parsed(arguments[0], arguments[1], zone)
    for layout in TRIED:
        try:
            return parsed(arguments[0], layout, zone)
        except RunError:
            continue
    raise RunError(f"invalid date {arguments[0][:100]}")


def _now(node: nodes.Builtin, given: list[Type]) -> Type:
    if len(given) > 1 or (given and not given[0].is_open and given[0] is not LOCATION):
        fail(node, f"invalid number of arguments (expected 0, got {len(given)})")
    return TIME


def _date(node: nodes.Builtin, given: list[Type]) -> Type:
    counted(node, given, 1, 4 if given and given[0] is LOCATION else 3)
    return TIME


TABLE = (
    Builtin("now", "now([zone])", "the current time", _now, now),
    Builtin("date", "date(text[, layout[, zone]])", "the time that a text shows", _date, date),
    Builtin("duration", "duration(text)", 'a span of time such as `"1h30m"`', typed(DURATION, STRING), duration),
    Builtin("timezone", "timezone(name)", "a zone of the zone database", typed(LOCATION, STRING), timezone),
)
