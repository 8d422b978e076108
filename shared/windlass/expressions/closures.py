"""The closures of operators: what is quick for the usual types, and falls back on `operations` for the rest."""

import operator as python
from collections.abc import Callable
from typing import Any

from windlass.expressions import nodes
from windlass.expressions.errors import RunError
from windlass.expressions.limits import Frame
from windlass.expressions.nodes import Node
from windlass.expressions.operations import OPERATIONS, Operation, converted, found
from windlass.expressions.types import INT, STRING
from windlass.expressions.values import ABSENT, MAX_INT, Value

Closure = Callable[[Frame], Value]


def place(error: RunError, position: int) -> None:
    """The innermost part that knows its position is to blame."""
    if error.position is None:
        error.position = position


def not_bool(value: Value, position: int) -> RunError:
    """The error for a value that had to be true or false."""
    error = converted(value, "bool")
    error.position = position
    return error


def binary(node: nodes.Binary, left_node: Node, left: Closure, right: Closure) -> Closure:
    """What an operator does; `left_node` stands for the node on the left, of which the type and kind are looked at."""
    operator, position = node.operator, node.position
    if operator in ("and", "&&"):
        return _both(left, right, position)
    if operator in ("or", "||"):
        return _either(left, right, position)
    if operator == "??":
        return _coalesce(left, right)
    constant = node.right.value if isinstance(node.right, nodes.Literal) else None
    if operator in ("==", "!="):
        kind = left_node.type
        if kind is node.right.type and kind in _STRICT:
            return _strictly_equal(left, right, position, _STRICT[kind], operator == "==")
        if type(constant) in (str, int):
            return _equal_to(left, constant, position, operator == "==")
    if operator == "matches" and type(constant) is str:
        return _matching(left, constant, position)
    slow = OPERATIONS[operator]
    quick = _QUICK.get(operator)
    if quick is None:
        return _general(slow, left, right, position)
    if type(constant) is int and constant > 0:
        if isinstance(left_node, nodes.Pointer):
            if operator == "%":
                return _remainder_slot(slow, left_node.slot, constant, position)
            return _quick_slot(quick, slow, left_node.slot, constant, position)
        return _quick_constant(quick, slow, left, constant, position)
    return _quick(quick, slow, left, right, position)


def _both(left: Closure, right: Closure, position: int) -> Closure:
    def run(frame: Frame) -> Value:
        value = left(frame)
        if value is True:
            return right(frame)
        if value is False:
            return False
        raise not_bool(value, position)

    return run


def _either(left: Closure, right: Closure, position: int) -> Closure:
    def run(frame: Frame) -> Value:
        value = left(frame)
        if value is False:
            return right(frame)
        if value is True:
            return True
        raise not_bool(value, position)

    return run


_STRICT = {INT: int, STRING: str}
"""Types that `==` believes when both sides are declared so."""


def _strictly_equal(left: Closure, right: Closure, position: int, kind: type, wanted: bool) -> Closure:
    def run(frame: Frame) -> Value:
        one, other = left(frame), right(frame)
        if type(one) is kind and type(other) is kind:
            return (one == other) is wanted
        for value in (one, other):
            if not isinstance(value, kind) or isinstance(value, bool):
                error = converted(value, "string" if kind is str else "int")
                error.position = position
                raise error
        return (one == other) is wanted

    return run


def _equal_to(left: Closure, constant: Value, position: int, wanted: bool) -> Closure:
    kind = type(constant)
    equal = OPERATIONS["=="]

    def run(frame: Frame) -> Value:
        value = left(frame)
        if type(value) is kind:
            return (value == constant) is wanted
        try:
            return equal(frame, value, constant) is wanted
        except RunError as error:
            place(error, position)
            raise

    return run


def _matching(left: Closure, source: str, position: int) -> Closure:
    """With a pattern known from the source, which was compiled once to see that it can be."""

    def run(frame: Frame) -> Value:
        text = left(frame)
        if type(text) in ABSENT:
            return False
        try:
            return found(frame, text, source)
        except RunError as error:
            place(error, position)
            raise

    return run


_QUICK: dict[str, Callable[[int, int], Any]] = {
    "+": python.add,
    "-": python.sub,
    "*": python.mul,
    "%": python.mod,
    "<": python.lt,
    ">": python.gt,
    "<=": python.le,
    ">=": python.ge,
}
"""What does for two integers of which the left is not negative and the right is positive, unless the result is too large."""


def _coalesce(left: Closure, right: Closure) -> Closure:
    def run(frame: Frame) -> Value:
        value = left(frame)
        return right(frame) if value is None or type(value) in ABSENT else value

    return run


def _general(slow: Operation, left: Closure, right: Closure, position: int) -> Closure:
    def run(frame: Frame) -> Value:
        try:
            return slow(frame, left(frame), right(frame))
        except RunError as error:
            place(error, position)
            raise

    return run


def _quick(quick: Callable[[int, int], Any], slow: Operation, left: Closure, right: Closure, position: int) -> Closure:
    def run(frame: Frame) -> Value:
        one, other = left(frame), right(frame)
        if type(one) is int and type(other) is int and other > 0 <= one:
            result = quick(one, other)
            if result <= MAX_INT:
                return result
        try:
            return slow(frame, one, other)
        except RunError as error:
            place(error, position)
            raise

    return run


def _quick_slot(quick: Callable[[int, int], Any], slow: Operation, slot: int, constant: int, position: int) -> Closure:
    def run(frame: Frame) -> Value:
        value = frame[slot]
        if type(value) is int and value >= 0:
            result = quick(value, constant)
            if result <= MAX_INT:
                return result
        try:
            return slow(frame, value, constant)
        except RunError as error:
            place(error, position)
            raise

    return run


def _remainder_slot(slow: Operation, slot: int, constant: int, position: int) -> Closure:
    def run(frame: Frame) -> Value:
        value = frame[slot]
        if type(value) is int and value >= 0:
            return value % constant
        try:
            return slow(frame, value, constant)
        except RunError as error:
            place(error, position)
            raise

    return run


def _quick_constant(quick: Callable[[int, int], Any], slow: Operation, left: Closure, constant: int, position: int) -> Closure:
    def run(frame: Frame) -> Value:
        value = left(frame)
        if type(value) is int and value >= 0:
            result = quick(value, constant)
            if result <= MAX_INT:
                return result
        try:
            return slow(frame, value, constant)
        except RunError as error:
            place(error, position)
            raise

    return run
