"""Arrays and maps."""

from typing import Any

from windlass.expressions import nodes
from windlass.expressions.builtins.predicates import sortable
from windlass.expressions.builtins.signature import COUNTS, Builtin, Check, counted, fail, invalid, typed
from windlass.expressions.errors import CompileError, RunError
from windlass.expressions.limits import Frame, grow, spend, write
from windlass.expressions.moments import Duration, Named
from windlass.expressions.operations import converted, equal, fetch, get, hashable, is_integer
from windlass.expressions.text import order
from windlass.expressions.text import text as text_of
from windlass.expressions.types import ANY, ANY_ARRAY, FLOATS, INT, INTS, KEYED_MAP, NIL, STRING, STRINGS, UNKNOWN, Type, name_of
from windlass.expressions.values import (
    AbsentArray,
    FloatArray,
    IntArray,
    KeyedMap,
    Pair,
    PairArray,
    Sized,
    StringArray,
    Value,
    joined,
)


def _array(frame: Frame, value: Value, problem: str) -> list[Any]:
    if not isinstance(value, list):
        raise RunError(problem.format(name_of(value)))
    spend(frame, len(value) >> 2)
    return value


def length(frame: Frame, value: Value) -> Value:
    if isinstance(value, str | list | dict | KeyedMap | bytes):
        return len(value)
    raise RunError(f"invalid argument for len (type {name_of(value)})")


def first(frame: Frame, value: Value) -> Value:
    return _at(value, 0)


def last(frame: Frame, value: Value) -> Value:
    return _at(value, -1)


def _at(value: Value, at: int) -> Value:
    return fetch(value, at) if isinstance(value, list | str | bytes) and len(value) else None


def get_(frame: Frame, value: Value, key: Value) -> Value:
    return get(value, key)


def take(frame: Frame, value: Value, size: Value) -> Value:
    items = _array(frame, value, "cannot take from {}")
    if isinstance(size, Duration | Named):
        size = size.ns if isinstance(size, Duration) else size.number
    if not is_integer(size) or (isinstance(size, Sized) and not size.signed):
        raise RunError(f"cannot take {name_of(size)} elements")
    if size < 0:
        raise RunError("reflect.Value.Slice: slice index out of bounds")
    part = items[:size]
    spend(frame, len(part) >> 2)
    return part if type(items) in (list, Pair) else type(items)(part)


def concat(frame: Frame, *values: Value) -> Value:
    made: list[Value] = []
    for value in values:
        items = _array(frame, value, "cannot concat {}")
        grow(frame, len(items))
        made += items
    return made or AbsentArray()


def flatten(frame: Frame, value: Value) -> Value:
    made: list[Value] = []

    def pour(items: list[Value]) -> None:
        spend(frame, 1 + len(items))
        for item in items:
            if isinstance(item, list):
                pour(item)
            else:
                made.append(item)

    pour(_array(frame, value, "cannot flatten {}"))
    grow(frame, len(made))
    return made


def reverse(frame: Frame, value: Value) -> Value:
    items = _array(frame, value, "cannot reverse {}")
    grow(frame, len(items))
    return list(items[::-1])


def uniq(frame: Frame, value: Value) -> Value:
    """First occurrences. What compares by value alone is looked up, the rest compared one by one."""
    kept: list[Value] = []
    seen: set[Value] = set()
    odd: list[Value] = []
    for item in _array(frame, value, "cannot uniq {}"):
        kind = type(item)
        if kind in (str, int) or (kind is float and item == item):
            token: Value = item if kind is str else float(item) if abs(item) < 2**53 else None
            if token is not None:
                if token not in seen:
                    seen.add(token)
                    kept.append(item)
                continue
        spend(frame, 4 * len(odd))
        if not any(equal(frame, item, other) for other in odd):
            odd.append(item)
            kept.append(item)
    grow(frame, len(kept))
    return kept


_SORTABLE = frozenset({list, IntArray, FloatArray, StringArray})


def sort(frame: Frame, value: Value, direction: Value = "asc") -> Value:
    if not isinstance(direction, str):
        raise converted(direction, "string")
    if direction not in ("asc", "desc"):
        raise RunError(f"invalid order {direction}, expected asc or desc")
    if type(value) not in _SORTABLE:
        return AbsentArray()
    spend(frame, len(value) * 4)
    grow(frame, len(value))
    keys = sortable(value)
    places = sorted(range(len(value)), key=keys.__getitem__, reverse=direction == "desc")
    return [value[at] for at in places]


def join(frame: Frame, value: Value, separator: Value = "") -> Value:
    if not isinstance(separator, str):
        raise converted(separator, "string")
    if not isinstance(value, list) or type(value) is IntArray:
        raise converted(value, "[]string")
    spend(frame, len(value))
    for item in value:
        if not isinstance(item, str):
            raise converted(item, "string")
    write(frame, sum(map(len, value)) + len(separator) * len(value))
    return joined(separator.join(value))


def _entries(frame: Frame, value: Value, problem: str) -> list[tuple[Value, Value]]:
    if not isinstance(value, dict | KeyedMap):
        raise RunError(problem.format(name_of(value)))
    spend(frame, len(value) * 6)
    return sorted(value.items(), key=lambda entry: order(entry[0]))


def keys(frame: Frame, value: Value) -> Value:
    return [key for key, _ in _entries(frame, value, "cannot get keys from {}")]


def values(frame: Frame, value: Value) -> Value:
    return [item for _, item in _entries(frame, value, "cannot get values from {}")]


def to_pairs(frame: Frame, value: Value) -> Value:
    return PairArray(Pair(entry) for entry in _entries(frame, value, "cannot transform {} to pairs"))


def from_pairs(frame: Frame, value: Value) -> Value:
    made = KeyedMap()
    for pair in _array(frame, value, "cannot transform {} from pairs"):
        spend(frame, 12)
        if not isinstance(pair, list):
            raise RunError(f"invalid pair {text_of(frame, pair)}")
        if len(pair) != 2:
            raise RunError(f"invalid pair length {text_of(frame, pair)}")
        made.put(hashable(pair[0]), pair[1])
    return made


def _arrays(verb: str, result: Type, least: int = 1, most: int = 1) -> Check:
    def check(node: nodes.Builtin, given: list[Type]) -> Type:
        counted(node, given, least, most)
        for found in given:
            if not found.is_open and found.kind != "array":
                fail(node, f"cannot {verb} {found}")
        return result

    return check


def _maps(verb: str, result: Type) -> Check:
    def check(node: nodes.Builtin, given: list[Type]) -> Type:
        counted(node, given, 1, 1)
        if not given[0].is_open and given[0].kind != "map":
            fail(node, f"cannot {verb} {given[0]}")
        return result

    return check


def _length(node: nodes.Builtin, given: list[Type]) -> Type:
    counted(node, given, 1, 1)
    if given[0].kind not in ("unknown", "array", "map", "string", "bytes"):
        invalid(node, given[0])
    return INT


def _end(node: nodes.Builtin, given: list[Type]) -> Type:
    counted(node, given, 1, 1)
    if not given[0].is_open and given[0].kind not in ("array", "bytes"):
        fail(node, f"cannot get {node.name} element from {given[0]}")
    return given[0].elem if given[0].elem and given[0].name != ANY_ARRAY.name else ANY


def _take(node: nodes.Builtin, given: list[Type]) -> Type:
    counted(node, given, 2, 2)
    if not given[0].is_open and given[0].kind != "array":
        fail(node, f"cannot take from {given[0]}")
    if not given[1].is_open and not given[1].integer and given[1].kind not in COUNTS:
        fail(node, f"cannot take {given[1]} elements")
    return ANY_ARRAY if given[0].name == ANY_ARRAY.name else given[0]


def _sort(node: nodes.Builtin, given: list[Type]) -> Type:
    counted(node, given, 1, 2)
    accepted = (ANY_ARRAY.name, INTS.name, FLOATS.name, STRINGS.name)
    if (not given[0].is_open and given[0].name not in accepted) or given[0] is NIL:
        message = f"cannot use {given[0]} as argument (type []int) to call sort "
        raise CompileError(message, node.arguments[0].position)
    if len(given) > 1 and not given[1].is_open and given[1] is not STRING:
        fail(node, "too many arguments to call sort")
    return ANY_ARRAY


def _join(node: nodes.Builtin, given: list[Type]) -> Type:
    counted(node, given, 1, 2)
    if not given[0].is_open and given[0].name not in (ANY_ARRAY.name, STRINGS.name):
        message = f"cannot use {given[0]} as argument (type []interface {{}}) to call join "
        raise CompileError(message, node.arguments[0].position)
    if len(given) > 1 and not given[1].is_open and given[1] is not STRING:
        message = f"cannot use {given[1]} as argument (type string) to call join "
        raise CompileError(message, node.arguments[1].position)
    return STRING


_MANY = 10_000

TABLE = (
    Builtin("len", "len(value)", "how many elements, entries or characters", _length, length),
    Builtin("first", "first(array)", "the first element, or nil", _end, first),
    Builtin("last", "last(array)", "the last element, or nil", _end, last),
    Builtin("get", "get(value, key)", "like `value[key]`, but nil for what is not there", typed(UNKNOWN, ANY, ANY), get_),
    Builtin("take", "take(array, n)", "the first n elements", _take, take),
    Builtin("concat", "concat(array, …)", "the elements of all in one array", _arrays("concat", ANY_ARRAY, most=_MANY), concat),
    Builtin("flatten", "flatten(array)", "arrays within arrays as one array", _arrays("flatten", ANY_ARRAY), flatten),
    Builtin("reverse", "reverse(array)", "from the end to the start", _arrays("reverse", ANY_ARRAY), reverse),
    Builtin("uniq", "uniq(array)", "each element once", _arrays("uniq", ANY_ARRAY), uniq),
    Builtin("sort", "sort(array[, order])", 'in order; order is "asc" or "desc"', _sort, sort),
    Builtin("join", "join(array[, separator])", "strings as one", _join, join),
    Builtin("keys", "keys(map)", "the keys, in order", _maps("get keys from", ANY_ARRAY), keys),
    Builtin("values", "values(map)", "the values, in order of their keys", _maps("get values from", ANY_ARRAY), values),
    Builtin("toPairs", "toPairs(map)", "arrays of key and value, in order", _maps("transform to pairs", ANY_ARRAY), to_pairs),
    Builtin("fromPairs", "fromPairs(array)", "a map of such pairs", _arrays("transform from pairs", KEYED_MAP), from_pairs),
)
