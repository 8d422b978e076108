"""Values to text, as templates and `string` print them."""

import struct

from windlass.expressions.errors import RunError
from windlass.expressions.layouts import DEFAULT_LAYOUT, formatted
from windlass.expressions.limits import Frame, spend, write
from windlass.expressions.moments import Duration, Location, Named, Time
from windlass.expressions.types import name_of
from windlass.expressions.values import Float32, Function, IntArray, KeyedMap, Struct, Value, joined, to_bytes


def number_text(number: float, least: int = -4, most: int = 6) -> str:
    """The shortest digits that read back, plain if the decimal exponent is in range, else with an exponent."""
    if number != number:
        return "NaN"
    if number in (float("inf"), float("-inf")):
        return "+Inf" if number > 0 else "-Inf"
    digits, exponent, sign = _digits(number)
    if least <= exponent < most:
        if exponent < 0:
            return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
        whole = digits[: exponent + 1].ljust(exponent + 1, "0")
        rest = digits[exponent + 1 :]
        return f"{sign}{whole}.{rest}" if rest else f"{sign}{whole}"
    mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _digits(number: float) -> tuple[str, int, str]:
    if type(number) is Float32:
        shown = next(
            text
            for places in range(9)
            if struct.unpack("f", struct.pack("f", float(text := f"{number:.{places}e}")))[0] == number
        )
    else:
        shown = float.__repr__(number)
    sign = "-" if shown[0] == "-" else ""
    mantissa, _, power = shown.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    exponent = int(power or 0) + len(whole) - 1 - (len(whole + fraction) - len(digits) if digits else 0)
    return digits.rstrip("0") or "0", exponent if digits else 0, sign


def text(frame: Frame, value: Value) -> str:
    """The text of a value; pays for it."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]  # its class was just looked at
    if kind is int:
        return str(value)
    parts: list[str] = []
    _print(frame, value, parts)
    result = "".join(parts)
    write(frame, len(result))
    return result if result.isascii() else joined(result)


def _print(frame: Frame, value: Value, parts: list[str]) -> None:
    spend(frame, 4)
    add = parts.append
    if value is None:
        add("<nil>")
    elif value is True or value is False:
        add("true" if value else "false")
    elif isinstance(value, str):
        add(value)
        spend(frame, len(value) >> 3)
    elif isinstance(value, int):
        add(int.__repr__(value))
    elif isinstance(value, float):
        spend(frame, 10)
        add(number_text(value))
    elif isinstance(value, IntArray):
        spend(frame, len(value))
        add(f"[{' '.join(map(str, value))}]")
    elif isinstance(value, list):
        add("[")
        for at, item in enumerate(value):
            if at:
                add(" ")
            _print(frame, item, parts)
        add("]")
    elif isinstance(value, bytes):
        spend(frame, len(value))
        add(f"[{' '.join(map(str, value))}]")
    elif isinstance(value, dict | KeyedMap):
        add("map[")
        for at, (key, item) in enumerate(sorted(value.items(), key=lambda entry: order(entry[0]))):
            spend(frame, 2)
            if at:
                add(" ")
            _print(frame, key, parts)
            add(":")
            _print(frame, item, parts)
        add("]")
    elif isinstance(value, Time):
        add(formatted(value, DEFAULT_LAYOUT))
    elif isinstance(value, Duration | Named | Location):
        add(str(value))
    elif isinstance(value, Struct):
        add("{")
        for at, name in enumerate(value.members):
            if at:
                add(" ")
            _print(frame, value.member(name), parts)
        add("}")
    elif isinstance(value, Function) or callable(value):
        add("func")
    else:
        raise RunError(f"a {name_of(value)} has no text")


def order(key: Value) -> tuple[int, object]:
    """Where a map key comes in print: nil, strings by bytes, numbers, false, true, the rest."""
    if key is None:
        return 0, 0
    if isinstance(key, str):
        return 1, to_bytes(key)
    if isinstance(key, bool):
        return 4, key
    if isinstance(key, float):
        return 3, (key == key, key)
    if isinstance(key, int):
        return 2, key
    if isinstance(key, Named):
        return 5, key.number
    return (6, key.ns) if isinstance(key, Duration) else (7, key.ns) if isinstance(key, Time) else (8, str(key))
