"""Constant folding, as far as it can be seen: it takes away errors, and moves one from the run to the compilation."""

from collections.abc import Callable
from typing import Any

from windlass.expressions import nodes
from windlass.expressions.errors import CompileError, RunError
from windlass.expressions.limits import Frame
from windlass.expressions.nodes import Binary, Builtin, Literal, Node
from windlass.expressions.operations import OPERATIONS, negative
from windlass.expressions.types import BOOL, CLASSES, INT
from windlass.expressions.values import MAX_INT

_ARITHMETIC = frozenset({"+", "-", "*", "/", "%", "**", "^"})
_LONGEST_SUM = 64


def fold(node: Node) -> Node:
    """The tree to run instead; parts are replaced in place."""
    rule = _RULES.get(node.__class__)
    return rule(node) if rule else node


def _literal(node: Node, value: Any) -> Literal:
    made = Literal(node.position, value)
    made.type = CLASSES[type(value)]
    return made


def _unary(node: nodes.Unary) -> Node:
    operand = node.node = fold(node.node)
    if isinstance(operand, Literal):
        if node.operator == "not":
            return _literal(node, not operand.value) if operand.type is BOOL else node
        return _literal(node, negative(operand.value) if node.operator == "-" else operand.value)
    return node


def _binary(node: Binary) -> Node:
    """Operators in a row lean to the left; a loop keeps them from nesting here."""
    row = [node]
    left = node.left
    while type(left) is Binary:
        row.append(left)
        left = left.left
    left = fold(left)
    for part in reversed(row):
        part.left = left
        if part.operator == "in" and (among := _among(part)):
            left = among
            continue
        right = part.right = fold(part.right)
        if part.operator == "in":
            left = _between(part)
        elif isinstance(left, Literal) or isinstance(right, Literal):
            left = _constant(part, left, right)
        else:
            left = part
    return left


def _constant(node: Binary, left: Node, right: Node) -> Node:
    operator = node.operator
    if operator in ("and", "&&", "or", "||"):
        decisive = operator in ("or", "||")
        for one, other in ((left, right), (right, left)):
            if isinstance(one, Literal) and one.type is BOOL:
                return one if one.value is decisive else other
        return node
    if not isinstance(left, Literal) or not isinstance(right, Literal):
        return node
    kinds = {left.type.kind, right.type.kind}
    if operator == "==" and len(kinds) == 1 and kinds <= {"int", "string", "bool"}:
        return _literal(node, left.value == right.value)
    if operator in _ARITHMETIC and (kinds <= {"int", "float"} or (operator == "+" and kinds == {"string"})):
        frame: Frame = [None, MAX_INT, MAX_INT, MAX_INT]
        try:
            return _literal(node, OPERATIONS[operator](frame, left.value, right.value))
        except RunError:
            raise CompileError("integer divide by zero", node.position) from None
    return node


def _among(node: Binary) -> Node | None:
    """`x in ["a", "b"]` looks up a set; so does `x in [1, 2]` if x is known to be an int."""
    right = node.right
    if not isinstance(right, nodes.Array) or not right.nodes:
        return None
    values = [item.value for item in right.nodes if isinstance(item, Literal)]
    if len(values) < len(right.nodes):
        return None
    if all(type(value) is str for value in values):
        return nodes.Among(node.position, node.left, frozenset(values), "", BOOL)
    if node.left.type is INT and all(type(value) is int for value in values):
        return nodes.Among(node.position, node.left, frozenset(values), 0, BOOL)
    return None


def _between(node: Binary) -> Node:
    """`x in 1..10` compares, if x is known to be an int."""
    right = node.right
    if not (isinstance(right, Binary) and right.operator == ".." and node.left.type is INT):
        return node
    if not all(isinstance(end, Literal) and end.type is INT for end in (right.left, right.right)):
        return node
    item = nodes.Shared(node.left)
    item.type = INT
    item.checked = item.folded = True
    sides = (Binary(node.position, ">=", item, right.left), Binary(node.position, "<=", item, right.right))
    whole = Binary(node.position, "and", *sides)
    for made in (*sides, whole):
        made.type = BOOL
    return whole


def _member(node: nodes.Member) -> Node:
    base = node.base = fold(node.base)
    key = node.key if isinstance(node.key, Literal) else fold(node.key)
    node.key = key
    if isinstance(base, Builtin) and base.name == "filter" and isinstance(key, Literal) and key.value in (0, -1):
        return nodes.Hit(node.position, _renamed(base, "findLast" if key.value else "find"), node.type)
    return node


def _renamed(node: Builtin, name: str) -> Builtin:
    node.name = name
    return node


def _builtin(node: Builtin) -> Node:
    arguments = node.arguments = [fold(argument) for argument in node.arguments]
    first = arguments[0] if len(arguments) == 1 else None
    if isinstance(first, Builtin) and first.name == "filter" and node.name in _SEARCHES:
        first.type = node.type
        return _renamed(first, _SEARCHES[node.name])
    if node.name == "sum" and isinstance(first, nodes.Array) and 2 <= len(first.nodes) <= _LONGEST_SUM:
        *terms, total = first.nodes
        if not all(isinstance(term, Literal) for term in first.nodes):
            for term in reversed(terms):
                total = Binary(node.position, "+", term, total)
                total.type = node.type
            return total
    return node


_SEARCHES = {"first": "find", "last": "findLast", "len": "count"}


def _shared(node: nodes.Shared) -> Node:
    if not node.folded:
        node.folded = True
        node.node = fold(node.node)
    return node


def _slice(node: nodes.Slice) -> Node:
    node.base = fold(node.base)
    node.start = node.start and fold(node.start)
    node.stop = node.stop and fold(node.stop)
    return node


def _wrapper(node: Any) -> Node:
    node.node = fold(node.node)
    return node  # type: ignore[no-any-return]  # one of the nodes in the table below


def _call(node: nodes.Call) -> Node:
    if isinstance(node.callee, nodes.Member):
        node.callee.base = fold(node.callee.base)
    node.arguments = [fold(argument) for argument in node.arguments]
    return node


def _conditional(node: nodes.Conditional) -> Node:
    node.condition, node.then, node.otherwise = fold(node.condition), fold(node.then), fold(node.otherwise)
    return node


def _let(node: nodes.Let) -> Node:
    each = node
    while True:
        each.value = fold(each.value)
        if not isinstance(each.body, nodes.Let):
            each.body = fold(each.body)
            return node
        each = each.body


def _listed(node: Any) -> Node:
    node.nodes = [fold(item) for item in node.nodes]
    return node  # type: ignore[no-any-return]  # one of the nodes in the table below


def _map(node: nodes.Map) -> Node:
    node.pairs = [(fold(key), fold(value)) for key, value in node.pairs]
    return node


_RULES: dict[type[Node], Callable[[Any], Node]] = {
    nodes.Unary: _unary,
    nodes.Binary: _binary,
    nodes.Shared: _shared,
    nodes.Member: _member,
    nodes.Slice: _slice,
    nodes.Chain: _wrapper,
    nodes.Predicate: _wrapper,
    nodes.Call: _call,
    nodes.Builtin: _builtin,
    nodes.Conditional: _conditional,
    nodes.Let: _let,
    nodes.Sequence: _listed,
    nodes.Array: _listed,
    nodes.Map: _map,
}
