"""The builtins that take a predicate.

The element, index and accumulator are written into the frame before each evaluation. Work is paid for in chunks, so that
a loop that ends early pays about what it used.
"""

from collections.abc import Callable, Iterator
from typing import Any

from windlass.expressions import nodes
from windlass.expressions.builtins.signature import Builtin, Check, fail
from windlass.expressions.errors import RunError
from windlass.expressions.limits import Frame, grow, spend
from windlass.expressions.moments import Duration, Time
from windlass.expressions.operations import add, converted, hashable, is_number
from windlass.expressions.types import ANY, BOOL, GROUP_MAP, INT, UNKNOWN, Type, name_of
from windlass.expressions.values import GroupMap, KeyedMap, Uint8, Value, to_bytes

Body = Callable[[Frame], Value]
Slots = tuple[int, int, int]

_CHUNK = 256
_SMALL = 2**62  # two integers below this add up without wrapping


def elements(name: str, value: Value) -> list[Value]:
    """What a predicate goes over: an array, the bytes of a string, or the nothing in an empty map."""
    if isinstance(value, list):
        return value
    if isinstance(value, str | bytes):
        return [Uint8(byte) for byte in (to_bytes(value) if isinstance(value, str) else value)]
    if isinstance(value, dict | KeyedMap) and not len(value):
        return []
    raise RunError(f"builtin {name} takes only array (got {name_of(value)})")


def _chunks(frame: Frame, items: list[Value], cost: int) -> Iterator[list[Value]]:
    if len(items) <= _CHUNK:
        spend(frame, len(items) * cost)
        yield items
        return
    for at in range(0, len(items), _CHUNK):
        chunk = items[at : at + _CHUNK]
        spend(frame, len(chunk) * cost)
        yield chunk


def hits(frame: Frame, items: list[Value], body: Body, slots: Slots, cost: int) -> Iterator[Value]:
    """The elements for which the predicate holds."""
    element = slots[0]
    for chunk in _chunks(frame, items, cost):
        for item in chunk:
            frame[element] = item
            found = body(frame)
            if found is True:
                yield item
            elif found is not False:
                raise converted(found, "bool")


def filter_(frame: Frame, source: Value, body: Body, slots: Slots, cost: int) -> Value:
    element = slots[0]
    kept: list[Value] = []
    keep = kept.append
    for chunk in _chunks(frame, elements("filter", source), cost):
        for item in chunk:
            frame[element] = item
            found = body(frame)
            if found is True:
                keep(item)
            elif found is not False:
                raise converted(found, "bool")
    grow(frame, len(kept))
    return kept


def map_(frame: Frame, source: Value, body: Body, slots: Slots, cost: int) -> Value:
    items = elements("map", source)
    element, index, _ = slots
    grow(frame, len(items))
    made: list[Value] = []
    if not index:
        for chunk in _chunks(frame, items, cost):
            made += [body(frame) for frame[element] in chunk]
        return made
    for chunk in _chunks(frame, items, cost):
        made += [body(frame) for frame[index], frame[element] in enumerate(chunk, len(made))]
    return made


def count(frame: Frame, source: Value, body: Body, slots: Slots, cost: int) -> Value:
    return sum(1 for _ in hits(frame, elements("count", source), body, slots, cost))


def sum_(frame: Frame, source: Value, body: Body, slots: Slots, cost: int) -> Value:
    element = slots[0]
    total: Value = 0
    for chunk in _chunks(frame, elements("sum", source), cost):
        for frame[element] in chunk:
            value = body(frame)
            if type(value) is int and type(total) is int and -_SMALL < value < _SMALL and -_SMALL < total < _SMALL:
                total += value
            else:
                total = add(frame, total, value)
    return total


def all_(frame: Frame, source: Value, body: Body, slots: Slots, cost: int) -> Value:
    element = slots[0]
    for chunk in _chunks(frame, elements("all", source), cost):
        for frame[element] in chunk:
            found = body(frame)
            if found is not True:
                if found is not False:
                    raise converted(found, "bool")
                return False
    return True


def any_(frame: Frame, source: Value, body: Body, slots: Slots, cost: int) -> Value:
    return any(True for _ in hits(frame, elements("any", source), body, slots, cost))


def none(frame: Frame, source: Value, body: Body, slots: Slots, cost: int) -> Value:
    return not any_(frame, source, body, slots, cost)


def one(frame: Frame, source: Value, body: Body, slots: Slots, cost: int) -> Value:
    return count(frame, source, body, slots, cost) == 1


def find(frame: Frame, source: Value, body: Body, slots: Slots, cost: int) -> Value:
    return next(hits(frame, elements("find", source), body, slots, cost), None)


def find_last(frame: Frame, source: Value, body: Body, slots: Slots, cost: int) -> Value:
    return next(hits(frame, elements("findLast", source)[::-1], body, slots, cost), None)


def _place(frame: Frame, items: list[Value], body: Body, slots: Slots, cost: int) -> int | None:
    element = slots[0]
    at = 0
    for chunk in _chunks(frame, items, cost):
        for frame[element] in chunk:
            found = body(frame)
            if found is True:
                return at
            if found is not False:
                raise converted(found, "bool")
            at += 1
    return None


def find_index(frame: Frame, source: Value, body: Body, slots: Slots, cost: int) -> Value:
    return _place(frame, elements("findIndex", source), body, slots, cost)


def find_last_index(frame: Frame, source: Value, body: Body, slots: Slots, cost: int) -> Value:
    items = elements("findLastIndex", source)
    at = _place(frame, items[::-1], body, slots, cost)
    return None if at is None else len(items) - 1 - at


def group_by(frame: Frame, source: Value, body: Body, slots: Slots, cost: int) -> Value:
    element = slots[0]
    groups = GroupMap()
    for chunk in _chunks(frame, elements("groupBy", source), cost + 10):
        for item in chunk:
            frame[element] = item
            groups.collect(hashable(body(frame)), item)
    grow(frame, len(groups))
    return groups


def sort_by(frame: Frame, source: Value, body: Body, slots: Slots, cost: int, order: Value = "asc") -> Value:
    items = elements("sortBy", source)
    if order not in ("asc", "desc"):
        raise RunError(f"invalid order {order}, expected asc or desc")
    element = slots[0]
    keys = []
    for chunk in _chunks(frame, items, cost + 4):
        keys += [body(frame) for frame[element] in chunk]
    grow(frame, len(items))
    keys = sortable(keys)
    places = sorted(range(len(items)), key=keys.__getitem__, reverse=order == "desc")
    return [items[at] for at in places]


def sortable(keys: list[Value]) -> list[Any]:
    """Keys that Python orders as `<` of the language does; raises `RunError` where that has no order for them."""
    if len(keys) < 2:
        return [0] * len(keys)
    first = keys[0]
    if all(map(is_number, keys)):
        return [float(key) for key in keys] if any(isinstance(key, float) for key in keys) else keys
    if isinstance(first, str) and all(isinstance(key, str) for key in keys):
        return [to_bytes(key) for key in keys]
    if isinstance(first, Time | Duration) and all(type(key) is type(first) for key in keys):
        return [key.ns for key in keys]
    other = next((key for key in keys if type(key) is not type(first)), first)
    raise RunError(f"invalid operation: {name_of(other)} < {name_of(first)}")


def reduce(frame: Frame, source: Value, body: Body, slots: Slots, cost: int, *start: Value) -> Value:
    items = elements("reduce", source)
    element, index, held = slots
    if not start and not items:
        raise RunError("reduce of empty array with no initial value")
    total = start[0] if start else items[0]
    at = 0 if start else 1
    for chunk in _chunks(frame, items if start else items[1:], cost):
        for frame[element] in chunk:
            frame[held] = total
            frame[index] = at
            total = body(frame)
            at += 1
    return total


def _bool(result: Callable[[Type, Type], Type]) -> Check:
    def check(node: nodes.Builtin, given: list[Type]) -> Type:
        if len(given) > 1:
            _condition(node, given[1])
        return result(given[0], BOOL)

    return check


def _condition(node: nodes.Builtin, found: Type) -> None:
    if found is not BOOL and not found.is_open:
        fail(node, f"predicate should return boolean (got {found})")


def _valued(result: Callable[[Type, Type], Type]) -> Check:
    def check(node: nodes.Builtin, given: list[Type]) -> Type:
        return result(given[0], given[1] if len(given) > 1 else given[0].elem or UNKNOWN)

    return check


def _same_array(source: Type, _: Type) -> Type:
    return (source.elem or ANY).array


def _sorted(source: Type, _: Type) -> Type:
    return ANY if source.is_open else source


def _element(source: Type, _: Type) -> Type:
    return source.elem or UNKNOWN


def _always(result: Type) -> Callable[[Type, Type], Type]:
    return lambda source, predicate: result


TABLE = (
    Builtin("all", "all(array, predicate)", "whether it holds for every element", _bool(_always(BOOL)), all_, (2, 2)),
    Builtin("any", "any(array, predicate)", "whether it holds for some element", _bool(_always(BOOL)), any_, (2, 2)),
    Builtin("none", "none(array, predicate)", "whether it holds for no element", _bool(_always(BOOL)), none, (2, 2)),
    Builtin("one", "one(array, predicate)", "whether it holds for exactly one element", _bool(_always(BOOL)), one, (2, 2)),
    Builtin("filter", "filter(array, predicate)", "the elements for which it holds", _bool(_same_array), filter_, (2, 2)),
    Builtin("map", "map(array, predicate)", "what it gives for each element", _valued(lambda _, made: made.array), map_, (2, 2)),
    Builtin("count", "count(array[, predicate])", "for how many elements it holds", _bool(_always(INT)), count, (1, 2)),
    Builtin("sum", "sum(array[, predicate])", "the sum of the numbers", _valued(lambda _, made: made), sum_, (1, 2)),
    Builtin("find", "find(array, predicate)", "the first element for which it holds, or nil", _bool(_element), find, (2, 2)),
    Builtin("findIndex", "findIndex(array, predicate)", "where that element is, or nil", _bool(_always(INT)), find_index, (2, 2)),
    Builtin("findLast", "findLast(array, predicate)", "the last such element, or nil", _bool(_element), find_last, (2, 2)),
    Builtin(
        "findLastIndex",
        "findLastIndex(array, predicate)",
        "where that element is, or nil",
        _bool(_always(INT)),
        find_last_index,
        (2, 2),
    ),
    Builtin(
        "groupBy",
        "groupBy(array, predicate)",
        "arrays of elements by what it gives",
        _valued(_always(GROUP_MAP)),
        group_by,
        (2, 2),
    ),
    Builtin(
        "sortBy",
        "sortBy(array, predicate[, order])",
        'the elements in order of what it gives; order is "asc" or "desc"',
        _valued(_sorted),
        sort_by,
        (2, 3),
    ),
    Builtin(
        "reduce",
        "reduce(array, predicate[, start])",
        "one value, `#acc`, carried over all elements",
        _valued(lambda _, made: made),
        reduce,
        (2, 3),
    ),
)
