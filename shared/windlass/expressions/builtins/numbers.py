"""Numbers and types."""

import math
import re
from collections.abc import Callable

from windlass.expressions import nodes
from windlass.expressions.builtins.signature import COUNTS, Builtin, Check, anything, counted, invalid, one_of, typed
from windlass.expressions.errors import RunError
from windlass.expressions.limits import Frame, spend
from windlass.expressions.moments import Duration, Named
from windlass.expressions.operations import converted, greater, is_integer, is_number, less, negative, truncated
from windlass.expressions.types import ANY, FLOAT, INT, STRING, Type, name_of, type_of
from windlass.expressions.values import MAX_INT, MIN_INT, IntArray, Uint, Uint8, Uint16, Uint32, Uint64, Value, wrap


def absolute(frame: Frame, value: Value) -> Value:
    if not is_number(value):
        raise RunError(f"invalid argument for abs (type {name_of(value)})")
    return negative(value) if value < 0 else value


def _rounding(name: str, rounded: Callable[[float], float]) -> Callable[[Frame, Value], Value]:
    def run(frame: Frame, value: Value) -> Value:
        if not is_number(value):
            raise RunError(f"invalid argument for {name} (type {name_of(value)})")
        value = float(value)
        return math.copysign(rounded(value), value) if math.isfinite(value) and abs(value) < 2**53 else value

    return run


def _half_away(value: float) -> float:
    below = math.floor(abs(value))
    return math.copysign(below + (abs(value) - below >= 0.5), value)


def integer(frame: Frame, value: Value) -> Value:
    if is_integer(value):
        return wrap(int(value))
    if isinstance(value, float):
        return truncated(value)
    if isinstance(value, str):
        if re.fullmatch(r"[+-]?[0-9]{1,400}", value) and MIN_INT <= (number := int(value)) <= MAX_INT:
            return number
        raise RunError(f"invalid operation: int({value[:100]})")
    if isinstance(value, Duration):
        return value.ns
    if isinstance(value, Named):
        return value.number
    raise RunError(f"invalid operation: int({name_of(value)})")


_DECIMAL = re.compile(r"[+-]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)?")
_HEX = re.compile(r"[+-]?0[xX](?=[_.]?[0-9a-fA-F])[0-9a-fA-F_]*\.?[0-9a-fA-F_]*[pP][+-]?[0-9]+")
_LOOSE = re.compile(r"(?<![0-9a-fA-FxX])_|_(?![0-9a-fA-F])")
_SPECIAL = re.compile(r"[+-]?(?:inf|infinity)|nan", re.IGNORECASE)


def floating(frame: Frame, value: Value) -> Value:
    if isinstance(value, str):
        spend(frame, len(value) >> 3)
        if _SPECIAL.fullmatch(value):
            return float(value)
        try:
            if not _LOOSE.search(value):
                if _DECIMAL.fullmatch(value):
                    number = float(value.replace("_", ""))
                    if math.isfinite(number):
                        return number
                elif _HEX.fullmatch(value):
                    return float.fromhex(value.replace("_", ""))
        except (OverflowError, ValueError):
            pass
        raise RunError(f"invalid operation: float({value[:100]})")
    if is_number(value):
        return float(value)
    raise RunError(f"invalid operation: float({name_of(value)})")


_UNSIGNED = (Uint, Uint8, Uint16, Uint32, Uint64)


def kind(frame: Frame, value: Value) -> Value:
    """The name of a value's type, as the language tells it."""
    if value is None:
        return "nil"
    try:
        found = type_of(type(value))
    except TypeError:
        return "func"
    if found.kind in ("time", "duration", "location", "month", "weekday", "struct"):
        return found.name.lstrip("*")
    if found.kind == "bytes":
        return "array"
    return "uint" if isinstance(value, _UNSIGNED) else found.kind


def _numbers(frame: Frame, name: str, values: tuple[Value, ...]) -> list[Value]:
    """All numbers in the arguments and their arrays."""
    found: list[Value] = []
    spend(frame, 2 * len(values))
    for value in values:
        if isinstance(value, list):
            found += _numbers(frame, name, tuple(value))
        elif isinstance(value, Duration | Named):
            found.append(value.ns if isinstance(value, Duration) else value.number)
        elif is_number(value):
            found.append(value)
        else:
            raise RunError(f"invalid argument for {name} (type {name_of(value)})")
    return found


def _counts(value: Value) -> bool:
    return is_number(value) or isinstance(value, Duration | Named)


def _best(name: str, pick: Callable[[list[int]], int], better: Callable[[Frame, Value, Value], bool]) -> Callable[..., Value]:
    def winner(frame: Frame, *values: Value) -> Value:
        """One argument that is neither number nor array is itself the winner; within an array only numbers are taken."""
        spend(frame, 4 * len(values))
        best: Value = None
        for value in values:
            accepted = _counts
            if isinstance(value, list):
                accepted = is_number
                spend(frame, len(value) * (1 if type(value) is IntArray else 6))
                if type(value) is IntArray and value:
                    candidates = [pick(value)]
                else:
                    candidates = [winner(frame, item) if isinstance(item, list) else item for item in value]
            elif _counts(value) or len(values) > 1:
                candidates = [value]
            else:
                return value
            for candidate in candidates:
                if not accepted(candidate):
                    raise RunError(f"invalid argument for {name} (type {name_of(candidate)})")
                if best is None or better(frame, candidate, best):
                    best = candidate
        return best

    return winner


def mean(frame: Frame, *values: Value) -> Value:
    numbers = _numbers(frame, "mean", values)
    total = 0.0
    for number in numbers:
        total += number
    return total / len(numbers) if numbers else 0.0


def median(frame: Frame, *values: Value) -> Value:
    numbers = sorted(map(float, _numbers(frame, "median", values)), key=lambda number: (number == number, number))
    spend(frame, len(numbers) * 2)
    if not numbers:
        return 0.0
    middle = len(numbers) // 2
    return numbers[middle] if len(numbers) % 2 else (numbers[middle - 1] + numbers[middle]) / 2


def _bits(compute: Callable[..., int]) -> Callable[..., Value]:
    def run(frame: Frame, *values: Value) -> Value:
        for value in values:
            if not is_integer(value):
                raise converted(value, "int")
        return wrap(compute(*map(int, values)))

    return run


def _shift(compute: Callable[[int, int], int]) -> Callable[..., Value]:
    def shifted(value: int, by: int) -> int:
        if by < 0:
            raise RunError("invalid operation: negative shift count")
        return compute(value, min(by, 64))

    return _bits(shifted)


def _aggregate(node: nodes.Builtin, given: list[Type]) -> Type:
    counted(node, given, 1, 10_000)
    for found in given:
        if found.kind in ("unknown", "array", "bytes"):
            return ANY
        if not found.number and found.kind not in COUNTS:
            invalid(node, found)
    return given[0]


_NUMBER = one_of(None, "int", "float", *COUNTS)


def _abs(node: nodes.Builtin, given: list[Type]) -> Type:
    found = _NUMBER(node, given)
    return ANY if found.is_open else found


def _binary() -> Check:
    return typed(INT, INT, INT)


TABLE = (
    Builtin("abs", "abs(number)", "without its sign", _abs, absolute),
    Builtin(
        "ceil",
        "ceil(number)",
        "the next whole number above, as a float",
        one_of(FLOAT, "int", "float", *COUNTS),
        _rounding("ceil", math.ceil),
    ),
    Builtin(
        "floor",
        "floor(number)",
        "the next whole number below, as a float",
        one_of(FLOAT, "int", "float", *COUNTS),
        _rounding("floor", math.floor),
    ),
    Builtin(
        "round",
        "round(number)",
        "the nearest whole number, as a float; halves away from zero",
        one_of(FLOAT, "int", "float", *COUNTS),
        _rounding("round", _half_away),
    ),
    Builtin(
        "int",
        "int(value)",
        "a number, or the digits of a string, as an integer",
        one_of(INT, "int", "float", "string", *COUNTS),
        integer,
    ),
    Builtin(
        "float",
        "float(value)",
        "a number, or a string that shows one, as a float",
        one_of(FLOAT, "int", "float", "string", *COUNTS),
        floating,
    ),
    Builtin("type", "type(value)", "the name of its type", anything(STRING), kind),
    Builtin(
        "max",
        "max(number, …)",
        "the greatest of numbers and arrays of them",
        _aggregate,
        _best("max", max, greater),
    ),
    Builtin(
        "min",
        "min(number, …)",
        "the least of numbers and arrays of them",
        _aggregate,
        _best("min", min, less),
    ),
    Builtin("mean", "mean(number, …)", "the average of numbers and arrays of them", _aggregate, mean),
    Builtin("median", "median(number, …)", "the middle of numbers and arrays of them", _aggregate, median),
    Builtin("bitand", "bitand(a, b)", "the bits in both", _binary(), _bits(lambda a, b: a & b)),
    Builtin("bitor", "bitor(a, b)", "the bits in either", _binary(), _bits(lambda a, b: a | b)),
    Builtin("bitxor", "bitxor(a, b)", "the bits in one only", _binary(), _bits(lambda a, b: a ^ b)),
    Builtin("bitnand", "bitnand(a, b)", "the bits in a but not in b", _binary(), _bits(lambda a, b: a & ~b)),
    Builtin("bitnot", "bitnot(a)", "all bits turned", typed(INT, INT), _bits(lambda a: ~a)),
    Builtin("bitshl", "bitshl(a, n)", "shifted left", _binary(), _shift(lambda a, n: a << n)),
    Builtin("bitshr", "bitshr(a, n)", "shifted right, keeping the sign", _binary(), _shift(lambda a, n: a >> n)),
    Builtin("bitushr", "bitushr(a, n)", "shifted right, filled with zeros", _binary(), _shift(lambda a, n: (a & 2**64 - 1) >> n)),
)
