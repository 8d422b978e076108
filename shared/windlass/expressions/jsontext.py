"""JSON in, where every number is a float, and JSON out, indented, as Go writes it."""

import base64
import json
import re
from typing import Any, NoReturn

from windlass.expressions.errors import RunError
from windlass.expressions.layouts import RFC3339_NANO, formatted
from windlass.expressions.limits import Frame, spend, write
from windlass.expressions.moments import Duration, Location, Named, Time
from windlass.expressions.text import number_text
from windlass.expressions.types import name_of
from windlass.expressions.values import (
    ABSENT,
    AbsentArray,
    Struct,
    Value,
    to_bytes,
    well_formed,
)

_ESCAPED = re.compile(r'["\\\x00-\x1f<>&\u2028\u2029\ud800-\udfff]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _number(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"number {digits[:20]} is out of range")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"invalid character in {name}")


_DECODER = json.JSONDecoder(parse_int=float, parse_constant=_constant)
_WARY = json.JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=_constant)
_LARGE = re.compile(r"[0-9][eE]|[0-9]{300}")  # what a number needs that no float can hold


def from_json(frame: Frame, source: str) -> Value:
    """The value of a JSON text; raises `RunError` for anything that is not exactly one."""
    spend(frame, (len(source) >> 1) + source.count(",") + 4 * source.count("[") + 8 * source.count("{"))
    try:
        value = (_WARY if _LARGE.search(source) else _DECODER).decode(well_formed(source))
    except ValueError as problem:
        raise RunError(f"invalid JSON: {problem}") from None
    return _mended(value) if "\\u" in source else value


def _mended(value: Any) -> Value:
    """Escaped halves of surrogate pairs become U+FFFD."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {well_formed(key): _mended(item) for key, item in value.items()}
    return value


def to_json(frame: Frame, value: Value) -> str:
    """The JSON text of a value; raises `RunError` for what JSON cannot say."""
    parts: list[str] = []
    _write(frame, value, "\n", parts)
    size = sum(map(len, parts))
    write(frame, size)
    return "".join(parts)


def _string(value: str) -> str:
    return f'"{_ESCAPED.sub(_escape, value)}"'


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _SHORT.get(match[0]) or f"\\u{0xFFFD if code >= 0xD800 else code:04x}"


def _write(frame: Frame, value: Value, line: str, parts: list[str]) -> None:
    spend(frame, 4)
    add = parts.append
    if type(value) in ABSENT:
        add("null")
    elif value is True or value is False:
        add("true" if value else "false")
    elif isinstance(value, str):
        spend(frame, len(value) >> 2)
        add(_string(value))
    elif isinstance(value, int):
        add(int.__repr__(value))
    elif isinstance(value, float):
        add(_float(value))
    elif isinstance(value, list):
        inner = line + "  "
        between = "," + inner
        spend(frame, (len(inner) >> 3) * len(value))
        for at, item in enumerate(value):
            add(between if at else "[" + inner)
            _write(frame, item, inner, parts)
        add(line + "]" if value else "[]")
    elif isinstance(value, dict):
        _write_entries(frame, sorted(value.items(), key=lambda entry: to_bytes(entry[0])), line, parts)
    elif isinstance(value, Struct):
        _write_entries(frame, [(name, value.member(name)) for name in value.members], line, parts)
    elif isinstance(value, bytes):
        add(f'"{base64.b64encode(value).decode()}"')
    elif isinstance(value, Time):
        if not 0 <= value.civil.year <= 9999:
            raise RunError("json: error calling MarshalJSON for type time.Time: year outside of range [0,9999]")
        add(f'"{formatted(value, RFC3339_NANO)}"')
    elif isinstance(value, Duration):
        add(str(value.ns))
    elif isinstance(value, Named):
        add(str(value.number))
    elif isinstance(value, Location):
        add("{}")
    else:
        raise RunError(f"json: unsupported type: {name_of(value)}")


def _write_entries(frame: Frame, entries: list[tuple[str, Value]], line: str, parts: list[str]) -> None:
    add = parts.append
    inner = line + "  "
    spend(frame, (4 + (len(inner) >> 3)) * len(entries))
    for at, (key, item) in enumerate(entries):
        add(f"{',' if at else '{'}{inner}{_string(key)}: ")
        _write(frame, item, inner, parts)
    add(line + "}" if entries else "{}")


def _float(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        raise RunError(f"json: unsupported value: {number_text(value)}")
    shown = number_text(value, -6, 21)
    return shown.replace("e-0", "e-").replace("e+0", "e+")


def plain(value: Value) -> Any:
    """The value as data that any JSON encoder takes: dates as text, durations as nanoseconds, all text well-formed.

    Raises `RunError` for what JSON cannot say, as `toJSON` does. Integers and floats stay apart.
    """
    kind = type(value)
    if kind is int or kind is bool or value is None:
        return value
    if isinstance(value, str):
        return well_formed(str(value))
    if isinstance(value, list):
        return None if isinstance(value, AbsentArray) else [plain(item) for item in value]
    if isinstance(value, dict):
        return {well_formed(key): plain(item) for key, item in value.items()}
    if isinstance(value, Struct):
        return {name: plain(value.member(name)) for name in value.members}
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        _float(value)
        return float(value)
    frame: Frame = [None, 1 << 20, 1 << 20, 1 << 20]
    return json.loads(to_json(frame, value))
