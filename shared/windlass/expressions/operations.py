"""What the operators do to values whose types are not known before."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from windlass.expressions.errors import RunError
from windlass.expressions.limits import Frame, grow, spend, write
from windlass.expressions.methods import Bound, clamped, member
from windlass.expressions.moments import Duration, Location, Time
from windlass.expressions.powers import power
from windlass.expressions.regexps import pattern
from windlass.expressions.types import CLASSES, name_of
from windlass.expressions.values import (
    ABSENT,
    MAX_INT,
    MIN_INT,
    AbsentArray,
    Float32,
    Function,
    GroupMap,
    IntArray,
    KeyedMap,
    StringArray,
    StringMap,
    Struct,
    Uint8,
    Value,
    from_bytes,
    joined,
    to_bytes,
    wrap,
)

Operation = Callable[[Frame, Value, Value], Value]


def is_number(value: Value) -> bool:
    kind = type(value)
    return kind is int or kind is float or (isinstance(value, int | float) and kind is not bool)


def is_integer(value: Value) -> bool:
    kind = type(value)
    return kind is int or (isinstance(value, int) and kind is not bool)


def converted(value: Value, wanted: str) -> RunError:
    """The error for a value that is not what an operator takes for granted."""
    return RunError(f"interface conversion: interface {{}} is {'nil' if value is None else name_of(value)}, not {wanted}")


def _undefined(left: Value, operator: str, right: Value) -> RunError:
    return RunError(f"invalid operation: {name_of(left)} {operator} {name_of(right)}")


def add(frame: Frame, left: Value, right: Value) -> Value:
    if isinstance(left, str) and isinstance(right, str):
        write(frame, len(left) + len(right))
        return joined(left + right) if left[-1:] > "\ud7ff" and right[:1] > "\ud7ff" else left + right
    if is_number(left) and is_number(right):
        if isinstance(left, float) or isinstance(right, float):
            return float(left) + float(right)
        return wrap(int(left) + int(right))
    if isinstance(right, Duration):
        if isinstance(left, Duration):
            return Duration(wrap(left.ns + right.ns))
        if isinstance(left, Time):
            return Time(left.ns + right.ns, left.location)
    if isinstance(left, Duration) and isinstance(right, Time):
        return Time(left.ns + right.ns, right.location)
    raise _undefined(left, "+", right)


def subtract(frame: Frame, left: Value, right: Value) -> Value:
    if is_number(left) and is_number(right):
        if isinstance(left, float) or isinstance(right, float):
            return float(left) - float(right)
        return wrap(int(left) - int(right))
    if isinstance(left, Time) and isinstance(right, Time):
        return clamped(left.ns - right.ns)
    if isinstance(right, Duration):
        if isinstance(left, Time):
            return Time(left.ns - right.ns, left.location)
        if isinstance(left, Duration):
            return Duration(wrap(left.ns - right.ns))
    raise _undefined(left, "-", right)


def multiply(frame: Frame, left: Value, right: Value) -> Value:
    if is_number(left) and is_number(right):
        if isinstance(left, float) or isinstance(right, float):
            return float(left) * float(right)
        return wrap(int(left) * int(right))
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Duration):
            if isinstance(other, Duration):
                return Duration(wrap(one.ns * other.ns))
            if isinstance(other, float):
                return one.ns * float(other)
            if is_integer(other):
                return Duration(wrap(one.ns * int(other)))
    raise _undefined(left, "*", right)


def divide(frame: Frame, left: Value, right: Value) -> Value:
    if not is_number(left) or not is_number(right):
        raise _undefined(left, "/", right)
    above, below = float(left), float(right)
    if below:
        return above / below
    if above == 0 or above != above:
        return math.nan
    return math.copysign(math.inf, above) * math.copysign(1.0, below)


def remainder(frame: Frame, left: Value, right: Value) -> Value:
    if not is_integer(left) or not is_integer(right):
        raise _undefined(left, "%", right)
    if right == 0:
        raise RunError("runtime error: integer divide by zero")
    rest = abs(int(left)) % abs(int(right))
    return -rest if left < 0 else rest


def raise_to(frame: Frame, left: Value, right: Value) -> Value:
    if not is_number(left) or not is_number(right):
        raise _undefined(left, "**", right)
    return power(float(left), float(right))


def span(frame: Frame, left: Value, right: Value) -> Value:
    if type(left) is not int or type(right) is not int:
        left, right = whole(left), whole(right)
    if left > right:
        return IntArray()
    size = right - left + 1
    grow(frame, min(size, MAX_INT))
    spend(frame, size >> 3)
    return IntArray(range(left, right + 1))


def whole(value: Value) -> int:
    """An index or the end of a range: a float is cut."""
    if is_integer(value):
        return int(value)
    if isinstance(value, float):
        return truncated(value)
    raise RunError(f"invalid operation: int({name_of(value)})")


def truncated(value: float) -> int:
    """The integer part; what 64 bits cannot hold is the smallest integer."""
    if math.isfinite(value) and MIN_INT <= (cut := int(value)) <= MAX_INT:
        return cut
    return MIN_INT


def _ordered(operator: str, compare: Callable[[Any, Any], bool]) -> Operation:
    def ordered(frame: Frame, left: Value, right: Value) -> bool:
        if is_number(left) and is_number(right):
            if isinstance(left, float) or isinstance(right, float):
                return compare(float(left), float(right))
            return compare(int(left), int(right))
        if isinstance(left, str) and isinstance(right, str):
            spend(frame, min(len(left), len(right)) >> 6)
            if left.isascii() and right.isascii():
                return compare(left, right)
            return compare(to_bytes(left), to_bytes(right))
        if isinstance(left, Time | Duration) and type(left) is type(right):
            return compare(left.ns, right.ns)
        raise _undefined(left, operator, right)

    return ordered


less = _ordered("<", lambda left, right: left < right)
greater = _ordered(">", lambda left, right: left > right)
at_most = _ordered("<=", lambda left, right: left <= right)
at_least = _ordered(">=", lambda left, right: left >= right)


def equal(frame: Frame, left: Value, right: Value) -> bool:
    """`==`: numbers by value, arrays element by element, the rest only with its own type."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        if isinstance(left, float) or isinstance(right, float):
            return float(left) == float(right)
        return left == right
    if isinstance(left, str) and isinstance(right, str):
        spend(frame, min(len(left), len(right)) >> 6)
        return left == right
    if left is None or right is None:
        return type(left) in ABSENT and type(right) in ABSENT
    if isinstance(left, list) and isinstance(right, list):
        spend(frame, 2 + 3 * min(len(left), len(right)))
        return len(left) == len(right) and all(equal(frame, one, other) for one, other in zip(left, right, strict=True))
    return same(frame, left, right)


def same(frame: Frame, left: Value, right: Value) -> bool:
    """Deep comparison in which the types must agree too."""
    spend(frame, 4)
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(same(frame, one, other) for one, other in zip(left, right, strict=True))
    if isinstance(left, dict):
        return len(left) == len(right) and all(key in right and same(frame, left[key], right[key]) for key in left)
    if isinstance(left, KeyedMap):
        missing = object()
        return len(left) == len(right) and all(
            (other := right.get(key, missing)) is not missing and same(frame, one, other) for key, one in left.items()
        )
    if isinstance(left, Bound):
        return False
    if isinstance(left, Struct):
        return all(same(frame, left.member(name), right.member(name)) for name in left.members)
    return bool(left == right)


def contains(frame: Frame, item: Value, whole: Value) -> bool:
    """`in`."""
    if whole is None:
        return False
    if isinstance(whole, list):
        if (type(whole) is IntArray and type(item) is int) or (type(whole) is StringArray and type(item) is str):
            spend(frame, len(whole) >> 2)
            return item in whole
        spend(frame, 2 * len(whole))
        return any(equal(frame, item, each) for each in whole)
    if isinstance(whole, dict):
        if item is None:
            return "" in whole and type(whole) is StringMap
        if not isinstance(item, str):
            raise RunError(f"reflect.Value.MapIndex: value of type {name_of(item)} is not assignable to type string")
        return item in whole
    if isinstance(whole, KeyedMap):
        return hashable(item) in whole
    if isinstance(whole, Struct | Time | Location):
        if not isinstance(item, str):
            raise RunError(f"cannot use {name_of(item)} as field name of {name_of(whole)}")
        return isinstance(whole, Struct) and item in whole.members
    raise RunError(f'operator "in" not defined on {name_of(whole)}')


def hashable(key: Value) -> Value:
    """A key for a map that takes any; arrays and maps will not do."""
    if type(key) not in (str, int) and isinstance(key, list | dict | KeyedMap | Struct | bytes | Function | Bound):
        raise RunError(f"runtime error: hash of unhashable type {name_of(key)}")
    return key


def _textual(test: Callable[[str, str], bool]) -> Operation:
    def textual(frame: Frame, left: Value, right: Value) -> bool:
        if type(left) in ABSENT or type(right) in ABSENT:
            return False
        for side in (left, right):
            if not isinstance(side, str):
                raise converted(side, "string")
        spend(frame, len(left) >> 6)
        return test(left, right)

    return textual


includes = _textual(lambda left, right: right in left)
starts_with = _textual(lambda left, right: left.startswith(right))
ends_with = _textual(lambda left, right: left.endswith(right))


def matches(frame: Frame, left: Value, right: Value) -> bool:
    if type(left) in ABSENT or type(right) in ABSENT:
        return False
    if isinstance(left, str | bytes) and not isinstance(right, str):
        raise converted(right, "string")
    spend(frame, 60)
    return found(frame, left, right)


def found(frame: Frame, text: Value, source: str) -> bool:
    """Whether the pattern matches anywhere in the text."""
    if not isinstance(text, str | bytes):
        raise converted(text, "string")
    compiled = pattern(source, partial(spend, frame), RunError)
    spend(frame, compiled.cost(len(text)))
    return compiled.found(text)


def negative(value: Value) -> Value:
    if is_number(value):
        if type(value) is int:
            return wrap(-value)
        if isinstance(value, float):
            return Float32(-value) if type(value) is Float32 else -float(value)
        bits = 1 << type(value).bits
        result = -int(value) % bits
        return type(value)(result - bits if type(value).signed and result >= bits >> 1 else result)
    raise RunError(f"invalid operation: - {name_of(value)}")


def fetch(base: Value, key: Value) -> Value:
    """`base[key]` and `base.key`."""
    if isinstance(base, dict):
        if isinstance(key, str):
            value = base.get(key)
            return "" if value is None and isinstance(base, StringMap) else value
        if key is None:
            return "" if isinstance(base, StringMap) else None
        raise RunError(f"reflect.Value.MapIndex: value of type {name_of(key)} is not assignable to type string")
    if isinstance(base, list | str | bytes):
        at = whole(key)
        if isinstance(base, str):
            base = to_bytes(base)
        length = len(base)
        if at < 0:
            at += length
        if not 0 <= at < length:
            raise RunError(f"index out of range: {at} (array length is {length})")
        return Uint8(base[at]) if isinstance(base, bytes) else base[at]
    if isinstance(base, KeyedMap):
        return base.get(hashable(key), AbsentArray() if isinstance(base, GroupMap) else None)
    if isinstance(base, Struct):
        if isinstance(key, str) and key in base.members:
            return base.member(key)
    elif (bound := member(base, key)) is not None:
        return bound
    raise RunError(f"cannot fetch {key if isinstance(key, str | int | float) else name_of(key)} from {name_of(base)}")


def get(base: Value, key: Value) -> Value:
    """`fetch`, but nil for what is not there."""
    if isinstance(base, dict):
        if key is not None and not isinstance(key, str):
            raise RunError(f"reflect.Value.MapIndex: value of type {name_of(key)} is not assignable to type string")
        return base.get(key)
    if isinstance(base, KeyedMap):
        return base.get(hashable(key), None)
    if isinstance(base, list | str | bytes):
        at = whole(key)
        length = len(to_bytes(base) if isinstance(base, str) else base)
        return fetch(base, at) if -length <= at < length else None
    if isinstance(base, Struct | Time | Location) and not isinstance(key, str):
        raise converted(key, "string")
    if isinstance(base, Struct):
        return base.member(key) if key in base.members else None
    return member(base, key)


def sliced(frame: Frame, base: Value, start: Value, stop: Value) -> Value:
    """`base[start:stop]`; None for an end that is not given."""
    data = base
    if isinstance(base, str) and not base.isascii():
        data = to_bytes(base)
    elif not isinstance(base, list | str | bytes):
        raise RunError(f"cannot slice {name_of(base)}")
    length = len(data)
    first = 0 if start is None else _end(start, length)
    last = length if stop is None else _end(stop, length)
    part = data[first : max(first, last)]
    if isinstance(base, str):
        write(frame, len(part))
        return from_bytes(part) if isinstance(part, bytes) else part
    spend(frame, len(part) >> 1)
    if type(base) in CLASSES and isinstance(base, list) and type(base) is not list:
        return list(part) if type(base).__name__ == "Pair" else type(base)(part)
    return part


def _end(value: Value, length: int) -> int:
    at = whole(value)
    return min(max(at + length if at < 0 else at, 0), length)


OPERATIONS: dict[str, Operation] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
    "**": raise_to,
    "^": raise_to,
    "..": span,
    "<": less,
    ">": greater,
    "<=": at_most,
    ">=": at_least,
    "==": equal,
    "!=": lambda frame, left, right: not equal(frame, left, right),
    "in": contains,
    "contains": includes,
    "startsWith": starts_with,
    "endsWith": ends_with,
    "matches": matches,
}
