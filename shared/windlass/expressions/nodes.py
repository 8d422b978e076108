"""The parts of an expression. The parser makes them, the check writes their types, folding replaces some."""

from typing import Any

from windlass.expressions.errors import CompileError
from windlass.expressions.types import Type


class Node:
    """`position` is where an error about this part points, in code points from 0."""

    __slots__ = ("position", "type")
    position: int
    type: Type


class Literal(Node):
    """A value known from the source: nil, a bool, a number or a string."""

    __slots__ = ("value",)

    def __init__(self, position: int, value: Any) -> None:
        self.position = position
        self.value = value


class Name(Node):
    """A variable, `$env`, or the bare name of a function."""

    __slots__ = ("name", "slot")

    def __init__(self, position: int, name: str) -> None:
        self.position = position
        self.name = name
        self.slot: int | None = None  # of a `let` variable; set by the check


class Pointer(Node):
    """`#`, `#index` or `#acc` inside a predicate."""

    __slots__ = ("name", "slot")

    def __init__(self, position: int, name: str) -> None:
        self.position = position
        self.name = name
        self.slot = 0  # set by the check


class Unary(Node):
    __slots__ = ("node", "operator")

    def __init__(self, position: int, operator: str, node: Node) -> None:
        self.position = position
        self.operator = operator
        self.node = node


class Binary(Node):
    __slots__ = ("left", "operator", "right")

    def __init__(self, position: int, operator: str, left: Node, right: Node) -> None:
        self.position = position
        self.operator = operator
        self.left = left
        self.right = right


class Shared(Node):
    """The middle of a chained comparison: one part that stands in two places."""

    __slots__ = ("built", "checked", "folded", "node", "weight")

    def __init__(self, node: Node) -> None:
        self.position = node.position
        self.node = node
        self.checked = False
        self.folded = False
        self.built: Any = None
        self.weight = 0


class Member(Node):
    """`base.name` or `base[key]`; `optional` with `?.`; `dotted` in the first form."""

    __slots__ = ("base", "dotted", "key", "optional")

    def __init__(self, position: int, base: Node, key: Node, optional: bool, dotted: bool) -> None:
        self.position = position
        self.base = base
        self.key = key
        self.optional = optional
        self.dotted = dotted


class Slice(Node):
    __slots__ = ("base", "start", "stop")

    def __init__(self, position: int, base: Node, start: Node | None, stop: Node | None) -> None:
        self.position = position
        self.base = base
        self.start = start
        self.stop = stop


class Chain(Node):
    """The reach of the `?.` inside: where one of them stops, this whole is nil."""

    __slots__ = ("node",)

    def __init__(self, position: int, node: Node) -> None:
        self.position = position
        self.node = node


class Call(Node):
    """A call of a function of the environment, or of a method."""

    __slots__ = ("arguments", "callee")

    def __init__(self, position: int, callee: Node, arguments: list[Node]) -> None:
        self.position = position
        self.callee = callee
        self.arguments = arguments


class Builtin(Node):
    """A call of a builtin. `slots` are the frame's places of `#`, `#index` and `#acc`, set by the check."""

    __slots__ = ("arguments", "name", "slots")

    def __init__(self, position: int, name: str, arguments: list[Node]) -> None:
        self.position = position
        self.name = name
        self.arguments = arguments
        self.slots = (0, 0, 0)


class Predicate(Node):
    """An argument that is evaluated once per element."""

    __slots__ = ("node",)

    def __init__(self, position: int, node: Node) -> None:
        self.position = position
        self.node = node


class Conditional(Node):
    __slots__ = ("condition", "otherwise", "then")

    def __init__(self, position: int, condition: Node, then: Node, otherwise: Node) -> None:
        self.position = position
        self.condition = condition
        self.then = then
        self.otherwise = otherwise


class Let(Node):
    __slots__ = ("body", "name", "slot", "value")

    def __init__(self, position: int, name: str, value: Node, body: Node) -> None:
        self.position = position
        self.name = name
        self.value = value
        self.body = body
        self.slot = 0  # set by the check


class Sequence(Node):
    __slots__ = ("nodes",)

    def __init__(self, position: int, nodes: list[Node]) -> None:
        self.position = position
        self.nodes = nodes


class Array(Node):
    __slots__ = ("nodes",)

    def __init__(self, position: int, nodes: list[Node]) -> None:
        self.position = position
        self.nodes = nodes


class Map(Node):
    __slots__ = ("pairs",)

    def __init__(self, position: int, pairs: list[tuple[Node, Node]]) -> None:
        self.position = position
        self.pairs = pairs


class Failing(Node):
    """A part that can only fail, when it runs."""

    __slots__ = ("error",)

    def __init__(self, position: int, error: CompileError) -> None:
        self.position = position
        self.error = error


class Hit(Node):
    """`filter(…)[0]` or `[-1]`, folded to a search that ends with the first hit; `search` is the `find` or `findLast`."""

    __slots__ = ("search",)

    def __init__(self, position: int, search: Builtin, result: Type) -> None:
        self.position = position
        self.search = search
        self.type = result


class Among(Node):
    """`left in [literals]`, folded to a look-up in a set; nil counts as `zero`."""

    __slots__ = ("left", "members", "zero")

    def __init__(self, position: int, left: Node, members: frozenset[Any], zero: Any, result: Type) -> None:
        self.position = position
        self.left = left
        self.members = members
        self.zero = zero
        self.type = result
