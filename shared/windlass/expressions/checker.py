"""The static check: writes the type of every node, and refuses what cannot make sense with the types of the environment."""

from collections.abc import Callable, Mapping
from typing import Any

from windlass.expressions import nodes, types
from windlass.expressions.builtins import BUILTINS
from windlass.expressions.errors import CompileError
from windlass.expressions.limits import SLOTS
from windlass.expressions.methods import METHODS
from windlass.expressions.nodes import Node
from windlass.expressions.types import ANY, BOOL, FLOAT, INT, NIL, STRING, UNKNOWN, Type, assignable, comparable
from windlass.expressions.values import Function

Signature = type[Function]


class Check:
    """One check of one tree. `environment` is None for the check at submit time, when no name is known."""

    __slots__ = ("_functions", "_lets", "_pointers", "_unchecked", "environment", "slots", "used")

    def __init__(self, environment: Mapping[str, Type] | None, functions: Mapping[str, Signature]) -> None:
        self.environment = environment
        self.slots = SLOTS
        self.used: set[int] = set()  # slots of predicates that are read
        self._unchecked = 0
        self._functions = functions
        self._lets: dict[str, tuple[int, Type]] = {}
        self._pointers: list[dict[str, tuple[int, Type]]] = []

    def visit(self, node: Node) -> Type:
        found = node.type = _VISITS[node.__class__](self, node)
        return found

    def unchecked(self, node: Node) -> Node:
        """A part that the reference does not check: what is wrong with it shows only when it runs."""
        self._unchecked += 1
        try:
            self.visit(node)
        except CompileError as error:
            node = nodes.Failing(node.position, error)
            node.type = UNKNOWN
        self._unchecked -= 1
        return node

    def slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def literal(self, node: nodes.Literal) -> Type:
        return types.CLASSES[type(node.value)]

    def name(self, node: nodes.Name) -> Type:
        name = node.name
        if name in self._lets:
            node.slot, found = self._lets[name]
            return found
        if name == "$env":
            return UNKNOWN
        if self.environment is not None and name in self.environment:
            return self.environment[name]
        if name in BUILTINS:
            return types.FUNCTION
        if self.environment is None or self._unchecked:
            return UNKNOWN
        raise CompileError(f"unknown name {name}", node.position)

    def pointer(self, node: nodes.Pointer) -> Type:
        found = self._pointers[-1].get(node.name)
        if found is None:
            raise CompileError(f"unknown pointer #{node.name}", node.position)
        node.slot = found[0]
        self.used.add(node.slot)
        return found[1]

    def unary(self, node: nodes.Unary) -> Type:
        operand = self.visit(node.node)
        if node.operator == "not":
            if operand is BOOL or operand.is_open:
                return BOOL
        elif operand.number:
            return operand
        elif operand.is_open:
            return UNKNOWN
        raise CompileError(f"invalid operation: {node.operator} (mismatched type {operand})", node.position)

    def binary(self, node: nodes.Binary) -> Type:
        """Operators in a row lean to the left: a loop goes down and up again, so that they do not nest here."""
        row = [node]
        left_node = node.left
        while type(left_node) is nodes.Binary:
            row.append(left_node)
            left_node = left_node.left
        left = self.visit(left_node)
        for part in reversed(row):
            right = self.visit(part.right)
            operator = part.operator
            if operator == "in":
                found: Type | None = self._in(left, right, part)
            else:
                found = _OPERATORS[operator](left, right)
            if found is None:
                message = f"invalid operation: {operator} (mismatched types {left} and {right})"
                raise CompileError(message, part.position)
            left = part.type = found
        return left

    @staticmethod
    def _in(left: Type, right: Type, node: nodes.Binary) -> Type | None:
        if right.is_open:
            return BOOL
        if right.kind == "map" and right.key:
            if not left.is_open and not assignable(left, right.key):
                raise CompileError(f"cannot use {left} as type {right.key} in map key", node.position)
            return BOOL
        if right.elem:
            if not comparable(left, right.elem):
                raise CompileError(f"cannot use {left} as type {right.elem} in array", node.position)
            return BOOL
        if right.kind in ("struct", "time", "location") and (left is STRING or left.is_open):
            return BOOL
        return BOOL if left.is_open and right is STRING else None

    def shared(self, node: nodes.Shared) -> Type:
        if not node.checked:
            node.checked = True
            self.visit(node.node)
        return node.node.type

    def member(self, node: nodes.Member) -> Type:
        base_node, key_node = node.base, node.key
        base = self.visit(base_node)
        name: Any = None
        if isinstance(key_node, nodes.Literal):
            key = key_node.type = types.CLASSES[type(key_node.value)]
            if key is STRING:
                name = key_node.value
        elif isinstance(base_node, nodes.Name) and base_node.name == "$env":
            node.key = self.unchecked(key_node)
            return UNKNOWN
        else:
            key = self.visit(key_node)
        if name is not None and isinstance(base_node, nodes.Name) and base_node.name == "$env" and base_node.slot is None:
            if self.environment is None or self._unchecked:
                return UNKNOWN
            if name in self.environment:
                return self.environment[name]
            if node.optional:
                return UNKNOWN
            raise CompileError(f"unknown name {name}", node.position)
        kind = base.kind
        if kind == "unknown":
            return UNKNOWN
        if kind == "map" and base.key and base.elem:
            if key.is_open or assignable(key, base.key):
                return base.elem
            raise CompileError(f"cannot use {key} to get an element from {base}", key_node.position)
        if base.elem:
            if key.integer or key.is_open:
                return base.elem
            raise CompileError(f"array elements can only be selected using an integer (got {key})", key_node.position)
        if name is None:
            raise CompileError(f"type {base}[{key}] is undefined", node.position)
        if name in base.members:
            return base.members[name]
        if name in METHODS.get(base.kind, ()):
            return types.FUNCTION
        shown = "nil" if base is NIL else base
        raise CompileError(f"type {shown} has no field {name}", node.position)

    def slice(self, node: nodes.Slice) -> Type:
        base = self.visit(node.base)
        if base.is_open:
            node.start = node.start and self.unchecked(node.start)
            node.stop = node.stop and self.unchecked(node.stop)
            return UNKNOWN
        if base.kind not in ("array", "bytes", "string"):
            raise CompileError(f"cannot slice {base}", node.position)
        for end in (node.start, node.stop):
            if end is not None:
                found = self.visit(end)
                if not found.integer and not found.is_open:
                    raise CompileError(f"non-integer slice index {found}", end.position)
        return base

    def chain(self, node: nodes.Chain) -> Type:
        return self.visit(node.node)

    def call(self, node: nodes.Call) -> Type:
        callee = node.callee
        if isinstance(callee, nodes.Name) and callee.name not in self._lets and callee.name in self._functions:
            callee.type = types.FUNCTION
            signature = self._functions[callee.name]
            result = self._called(callee.name, signature.parameters, signature.variadic, node)  # type: ignore[arg-type]
            return signature.result if isinstance(signature.result, Type) else ANY if result else UNKNOWN
        found = self.visit(callee)
        if isinstance(callee, nodes.Member):
            name = callee.key.value if isinstance(callee.key, nodes.Literal) else ""
            method = METHODS.get(callee.base.type.kind, {}).get(name)
            if method is not None:
                if method.hidden:
                    raise CompileError(f"func {name} returns more then two values", callee.position)
                self._called(name, method.parameters, False, node)
                return method.result
        else:
            name = callee.name if isinstance(callee, nodes.Name) else ""
        if found.is_open or found.kind == "func":
            node.arguments = [self.unchecked(argument) for argument in node.arguments]
            return UNKNOWN
        message = f"{name} is nil; cannot call nil as function" if found is NIL else f"{found} is not callable"
        raise CompileError(message, callee.position)

    def _called(self, name: str, parameters: tuple[Type, ...], variadic: bool, node: nodes.Call) -> bool:
        given = [self.visit(argument) for argument in node.arguments]
        fixed = len(parameters) - variadic
        if len(given) < fixed:
            raise CompileError(f"not enough arguments to call {name}", node.position)
        if len(given) > fixed and not variadic:
            raise CompileError(f"too many arguments to call {name}", node.arguments[fixed].position)
        for at, found in enumerate(given):
            wanted = parameters[min(at, len(parameters) - 1)]
            if not found.is_open and not assignable(found, wanted) and not (found.integer and wanted.integer):
                shown = "nil" if found is NIL else found
                message = f"cannot use {shown} as argument (type {wanted}) to call {name} "
                raise CompileError(message, node.arguments[at].position)
        return True

    def builtin(self, node: nodes.Builtin) -> Type:
        builtin = BUILTINS[node.name]
        arguments = node.arguments
        if builtin.predicate is None:
            if node.name == "get" and len(arguments) == 2:
                member = nodes.Member(node.position, arguments[0], arguments[1], True, False)
                return self._get(node, member)
            return builtin.check(node, [self.visit(argument) for argument in arguments])
        source = self.visit(arguments[0])
        if source.kind not in ("array", "unknown", "bytes"):
            raise CompileError(f"builtin {node.name} takes only array (got {source})", arguments[0].position)
        given = [source]
        for argument in arguments[1:]:
            if isinstance(argument, nodes.Predicate):
                node.slots = (self.slot(), self.slot(), self.slot())
                element = source.elem or UNKNOWN
                pointers = {"": (node.slots[0], element)}
                if node.name in ("map", "reduce"):
                    pointers["index"] = (node.slots[1], INT)
                if node.name == "reduce":
                    pointers["acc"] = (node.slots[2], UNKNOWN)
                self._pointers.append(pointers)
                given.append(self.visit(argument))
                self._pointers.pop()
            else:
                given.append(self.visit(argument))
        return builtin.check(node, given)

    def _get(self, node: nodes.Builtin, member: nodes.Member) -> Type:
        whole = isinstance(member.base, nodes.Name) and member.base.name == "$env"
        if whole and isinstance(member.key, nodes.Literal) and self.environment is not None:
            return self.member(member)
        base, key = self.visit(member.base), self.visit(member.key)
        if base.is_open:
            return UNKNOWN
        if not base.elem:
            raise CompileError(f"type {base} does not support indexing", member.base.position)
        if base.kind == "map" and base.key:
            if not key.is_open and not assignable(key, base.key):
                raise CompileError(f"cannot use {key} to get an element from {base}", member.key.position)
        elif not key.integer and not key.is_open:
            raise CompileError(f"non-integer slice index {key}", member.key.position)
        return base.elem

    def predicate(self, node: nodes.Predicate) -> Type:
        found = self.visit(node.node)
        if found is NIL:
            raise CompileError("predicate returns nil", node.position)
        return found

    def conditional(self, node: nodes.Conditional) -> Type:
        condition = self.visit(node.condition)
        if condition is not BOOL and not condition.is_open:
            shown = "unknown" if condition is NIL else condition
            raise CompileError(f"non-bool expression (type {shown}) used as condition", node.condition.position)
        then, otherwise = self.visit(node.then), self.visit(node.otherwise)
        if then is NIL:
            return otherwise
        if otherwise is NIL:
            return then
        if not assignable(then, otherwise):
            return UNKNOWN
        same = then.elem is None or otherwise.elem is None or then.elem.name == otherwise.elem.name
        return then if same else types.ANY_ARRAY

    def let(self, node: nodes.Let) -> Type:
        outside = self._lets
        self._lets = dict(outside)
        declared = []
        body: Node = node
        while isinstance(body, nodes.Let):
            name = body.name
            if name in BUILTINS or (self.environment is not None and name in self.environment):
                raise CompileError(f"cannot redeclare {name}", body.position)
            if name in self._lets:
                raise CompileError(f"cannot redeclare variable {name}", body.position)
            value = self.visit(body.value)
            body.slot = self.slot()
            self._lets[name] = (body.slot, value)
            declared.append(body)
            body = body.body
        found = self.visit(body)
        for each in declared:
            each.type = found
        self._lets = outside
        return found

    def sequence(self, node: nodes.Sequence) -> Type:
        found = UNKNOWN
        for part in node.nodes:
            found = self.visit(part)
        return found

    def array(self, node: nodes.Array) -> Type:
        found = [self.visit(part) for part in node.nodes]
        if not found:
            return types.ANY_ARRAY
        kinds = {each.name if each.number or each.kind in ("nil", "unknown") else each.kind for each in found}
        return found[-1].array if len(kinds) == 1 else types.ANY_ARRAY

    def map(self, node: nodes.Map) -> Type:
        for key, value in node.pairs:
            self.visit(key)
            self.visit(value)
        return types.ANY_MAP


Result = Type | None


def _both(left: Type, right: Type, accepted: Callable[[Type], bool]) -> bool:
    """Whether each side is accepted or unknown."""
    return (accepted(left) or left.is_open) and (accepted(right) or right.is_open)


def _logic(left: Type, right: Type) -> Result:
    return BOOL if _both(left, right, lambda each: each is BOOL) else None


def _equality(left: Type, right: Type) -> Result:
    return BOOL if comparable(left, right) else None


_ORDERED = ("string", "time", "duration")


def _ordering(left: Type, right: Type) -> Result:
    if (left.number and right.number) or (left.kind == right.kind and left.kind in _ORDERED):
        return BOOL
    if not left.is_open and not right.is_open:
        return None
    return BOOL if _both(left, right, lambda each: each.number or each.kind in _ORDERED) else None


def _numbers(left: Type, right: Type) -> Result:
    """Addition and the like: int if both are."""
    if left.number and right.number:
        return INT if left.integer and right.integer else FLOAT
    return None


def _plus(left: Type, right: Type) -> Result:
    kinds = (left.kind, right.kind)
    if kinds == ("string", "string"):
        return STRING
    if kinds in (("time", "duration"), ("duration", "time")):
        return types.TIME
    if kinds == ("duration", "duration"):
        return types.DURATION
    if "unknown" in kinds and _both(left, right, lambda each: each.number or each.kind in _ORDERED):
        return UNKNOWN
    return _numbers(left, right)


def _minus(left: Type, right: Type) -> Result:
    kinds = (left.kind, right.kind)
    if kinds in (("time", "time"), ("duration", "duration")):
        return types.DURATION
    if kinds == ("time", "duration"):
        return types.TIME
    if "unknown" in kinds and _both(left, right, lambda each: each.number or each.kind in ("time", "duration")):
        return UNKNOWN
    return _numbers(left, right)


def _times(left: Type, right: Type) -> Result:
    durations = (left.kind == "duration") + (right.kind == "duration")
    if durations and all(each.number or each.kind == "duration" for each in (left, right)):
        return types.DURATION
    if (left.is_open or right.is_open) and _both(left, right, lambda each: each.number or each.kind == "duration"):
        return UNKNOWN
    return _numbers(left, right)


def _fraction(left: Type, right: Type) -> Result:
    return FLOAT if _both(left, right, lambda each: each.number) else None


def _remainder(left: Type, right: Type) -> Result:
    return INT if _both(left, right, lambda each: each.integer) else None


def _range(left: Type, right: Type) -> Result:
    return INT.array if _both(left, right, lambda each: each.integer) else None


def _strings(left: Type, right: Type) -> Result:
    return BOOL if _both(left, right, lambda each: each is STRING) else None


def _matching(left: Type, right: Type) -> Result:
    return BOOL if left is types.BYTES and (right is STRING or right.is_open) else _strings(left, right)


def _coalesced(left: Type, right: Type) -> Result:
    if left is NIL:
        return right
    if right is NIL or assignable(right, left):
        return left
    return UNKNOWN


_OPERATORS: dict[str, Callable[[Type, Type], Result]] = {
    "or": _logic,
    "||": _logic,
    "and": _logic,
    "&&": _logic,
    "==": _equality,
    "!=": _equality,
    "<": _ordering,
    ">": _ordering,
    "<=": _ordering,
    ">=": _ordering,
    "matches": _matching,
    "contains": _strings,
    "startsWith": _strings,
    "endsWith": _strings,
    "..": _range,
    "+": _plus,
    "-": _minus,
    "*": _times,
    "/": _fraction,
    "%": _remainder,
    "**": _fraction,
    "^": _fraction,
    "??": _coalesced,
}

_VISITS: dict[type[Node], Callable[[Check, Any], Type]] = {
    nodes.Literal: Check.literal,
    nodes.Name: Check.name,
    nodes.Pointer: Check.pointer,
    nodes.Unary: Check.unary,
    nodes.Binary: Check.binary,
    nodes.Shared: Check.shared,
    nodes.Member: Check.member,
    nodes.Slice: Check.slice,
    nodes.Chain: Check.chain,
    nodes.Call: Check.call,
    nodes.Builtin: Check.builtin,
    nodes.Predicate: Check.predicate,
    nodes.Conditional: Check.conditional,
    nodes.Let: Check.let,
    nodes.Sequence: Check.sequence,
    nodes.Array: Check.array,
    nodes.Map: Check.map,
}
