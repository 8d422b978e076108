"""Trees to closures: each part becomes a function of the frame, and running is calling.

Nothing of Python can be reached from here: names are looked up in the environment's mapping, members in mappings and in the
tables of methods and structs, functions in the table of builtins or among the `Function`s of the environment.
"""

from collections.abc import Callable, Collection
from typing import Any

from windlass.expressions import nodes
from windlass.expressions.builtins import BUILTINS
from windlass.expressions.builtins.predicates import elements, hits
from windlass.expressions.closures import Closure, binary, not_bool, place
from windlass.expressions.errors import CompileError, RunError
from windlass.expressions.limits import ENVIRONMENT, Frame, grow, spend
from windlass.expressions.methods import Bound, invoke
from windlass.expressions.nodes import Node
from windlass.expressions.operations import converted, fetch, negative, sliced
from windlass.expressions.regexps import pattern
from windlass.expressions.types import STRING, STRING_MAP, name_of
from windlass.expressions.values import ABSENT, Function, KeyedMap, Value

_BREAK: Any = object()  # what an optional chain hands up from where it stopped
_LONGEST_ROW = 40
_CALL_COST, _METHOD_COST = 3, 60


class Build:
    """One translation. `slots` is how long the frame must be; `cost` what the parts built so far cost to run once."""

    __slots__ = ("_steps", "_used", "cost", "slots")

    def __init__(self, slots: int, used: Collection[int], steps: int) -> None:
        """`used` are the slots of predicates that are read, `steps` what compiling regular expressions may cost."""
        self.slots = slots
        self._used = used
        self._steps = steps
        self.cost = 0

    def build(self, node: Node) -> Closure:
        self.cost += 1
        return _BUILDS[node.__class__](self, node)

    def slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def literal(self, node: nodes.Literal) -> Closure:
        self.cost -= 1
        value = node.value
        return lambda frame: value

    def name(self, node: nodes.Name) -> Closure:
        name, slot = node.name, node.slot
        if slot is not None:
            return lambda frame: frame[slot]
        if name == "$env":
            return lambda frame: frame[ENVIRONMENT]
        return lambda frame: frame[ENVIRONMENT].get(name)

    def pointer(self, node: nodes.Pointer) -> Closure:
        self.cost -= 1
        slot = node.slot
        return lambda frame: frame[slot]

    def unary(self, node: nodes.Unary) -> Closure:
        inner, position = self.build(node.node), node.position
        if node.operator == "+":
            return inner
        if node.operator == "-":

            def minus(frame: Frame) -> Value:
                try:
                    return negative(inner(frame))
                except RunError as error:
                    place(error, position)
                    raise

            return minus

        def invert(frame: Frame) -> Value:
            value = inner(frame)
            if value is True:
                return False
            if value is False:
                return True
            raise not_bool(value, position)

        return invert

    def binary(self, node: nodes.Binary) -> Closure:
        """A long row of operators goes over a slot of the frame, so that it is a loop and not a nest."""
        row = [node]
        first = node.left
        while type(first) is nodes.Binary:
            row.append(first)
            first = first.left
        self.cost += len(row)
        if len(row) <= _LONGEST_ROW:
            left = self.build(first)
            left_node: Node = first
            for part in reversed(row):
                left = self.operator(part, left_node, left)
                left_node = part
            return left
        slot = self.slot()
        start = self.build(first)
        held = nodes.Pointer(first.position, "")
        held.slot = slot
        steps = []
        for part in reversed(row):
            held.type = part.left.type
            steps.append(self.operator(part, held, lambda frame: frame[slot]))

        def run(frame: Frame) -> Value:
            frame[slot] = start(frame)
            for step in steps:
                frame[slot] = step(frame)
            return frame[slot]

        return run

    def operator(self, node: nodes.Binary, left_node: Node, left: Closure) -> Closure:
        right = self.build(node.right)
        if node.operator == "matches":
            self.cost += 10
            if isinstance(node.right, nodes.Literal) and node.right.type is STRING:
                pattern(node.right.value, lambda steps: self._pay(steps, node.position), CompileError, node.position)
        return binary(node, left_node, left, right)

    def _pay(self, steps: int, position: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise CompileError("regular expressions are too large", position, "steps")

    def shared(self, node: nodes.Shared) -> Closure:
        if node.built is None:
            before = self.cost
            node.built = self.build(node.node)
            node.weight = self.cost - before
            return node.built  # type: ignore[no-any-return]  # made by build() just above
        inner, weight = node.built, node.weight
        self.cost += weight

        def again(frame: Frame) -> Value:
            spend(frame, weight)
            return inner(frame)

        return again

    def spine(self, node: Node) -> tuple[Closure, bool]:
        """A part of an optional chain, and whether it may hand up that the chain stopped."""
        if isinstance(node, nodes.Member):
            return self.link(node)
        if isinstance(node, nodes.Call) and isinstance(node.callee, nodes.Member):
            return self.method(node, node.callee)
        return self.build(node), False

    def member(self, node: nodes.Member) -> Closure:
        return self.link(node)[0]

    def link(self, node: nodes.Member) -> tuple[Closure, bool]:
        position, optional = node.position, node.optional
        key_node = node.key
        constant = key_node.value if isinstance(key_node, nodes.Literal) else None
        if type(constant) is str and isinstance(node.base, nodes.Name) and node.base.slot is None:
            name = node.base.name
            if node.base.type is STRING_MAP and not optional:
                self.cost += 1
                return lambda frame: frame[ENVIRONMENT][name].get(constant, ""), False
            if name == "$env":
                self.cost += 1
                return lambda frame: frame[ENVIRONMENT].get(constant), False
        base, breaks = self.spine(node.base)
        if type(constant) is str and not optional and not breaks:

            def field(frame: Frame) -> Value:
                value = base(frame)
                if type(value) is dict:
                    return value.get(constant)
                try:
                    return fetch(value, constant)
                except RunError as error:
                    place(error, position)
                    raise

            return field, False
        key = self.build(key_node)

        def run(frame: Frame) -> Value:
            value = base(frame)
            if value is _BREAK or (optional and type(value) in ABSENT):
                return _BREAK
            try:
                return fetch(value, key(frame))
            except RunError as error:
                place(error, position)
                raise

        return run, optional or breaks

    def slice(self, node: nodes.Slice) -> Closure:
        position = node.position
        base = self.build(node.base)
        start = self.build(node.start) if node.start else _nothing
        stop = self.build(node.stop) if node.stop else _nothing

        def run(frame: Frame) -> Value:
            try:
                value = base(frame)
                ends = (start(frame), stop(frame))
                for end, given in zip(ends, (node.start, node.stop), strict=True):
                    if end is None and given is not None:
                        raise RunError("invalid operation: int(<nil>)")
                return sliced(frame, value, *ends)
            except RunError as error:
                place(error, position)
                raise

        return run

    def chain(self, node: nodes.Chain) -> Closure:
        inner, breaks = self.spine(node.node)
        if not breaks:
            return inner

        def run(frame: Frame) -> Value:
            value = inner(frame)
            return None if value is _BREAK or type(value) in ABSENT else value

        return run

    def failing(self, node: nodes.Failing) -> Closure:
        error = node.error

        def run(frame: Frame) -> Value:
            raise RunError(error.message, error.position)

        return run

    def call(self, node: nodes.Call) -> Closure:
        if isinstance(node.callee, nodes.Member):
            return self.method(node, node.callee)[0]
        return _calling(self.build(node.callee), [self.build(part) for part in node.arguments], node.callee.position)

    def method(self, node: nodes.Call, callee: nodes.Member) -> tuple[Closure, bool]:
        self.cost += _METHOD_COST
        fetched, breaks = self.link(callee)
        return _calling(fetched, [self.build(part) for part in node.arguments], callee.position), breaks

    def builtin(self, node: nodes.Builtin) -> Closure:
        builtin = BUILTINS[node.name]
        run, position = builtin.run, node.position
        self.cost += _CALL_COST
        if builtin.predicate is not None:
            return self.predicate(node)
        arguments = [self.build(argument) for argument in node.arguments]
        if len(arguments) == 1:
            (only,) = arguments

            def single(frame: Frame) -> Value:
                try:
                    return run(frame, only(frame))
                except RunError as error:
                    place(error, position)
                    raise

            return single

        def several(frame: Frame) -> Value:
            try:
                return run(frame, *[argument(frame) for argument in arguments])
            except RunError as error:
                place(error, position)
                raise

        return several

    def predicate(self, node: nodes.Builtin) -> Closure:
        run, position = BUILTINS[node.name].run, node.position
        source, body, cost, slots, rest = self.loop(node)
        if node.arguments[0].type.is_open and slots[0] not in self._used and len(node.arguments) > 1:
            run = _over_entries(node.name, run)
        if rest:
            (extra,) = rest

            def with_extra(frame: Frame) -> Value:
                try:
                    value = source(frame)
                    return run(frame, value, body, slots, cost, extra(frame))
                except RunError as error:
                    place(error, position)
                    raise

            return with_extra

        def over(frame: Frame) -> Value:
            try:
                return run(frame, source(frame), body, slots, cost)
            except RunError as error:
                place(error, position)
                raise

        return over

    def loop(self, node: nodes.Builtin) -> tuple[Closure, Closure, int, tuple[int, int, int], list[Closure]]:
        """The array, the predicate, what one evaluation of it costs, its slots, and further arguments."""
        source = self.build(node.arguments[0])
        before = self.cost
        slots = node.slots
        if len(node.arguments) > 1 and isinstance(node.arguments[1], nodes.Predicate):
            body = self.build(node.arguments[1].node)
        else:
            element = self.slot()
            slots = (element, 0, 0)
            body = lambda frame: frame[element]  # noqa: E731  the elements themselves
        cost = self.cost - before + 1
        return source, body, cost, slots, [self.build(argument) for argument in node.arguments[2:]]

    def hit(self, node: nodes.Hit) -> Closure:
        name, position = node.search.name, node.search.position
        source, body, cost, slots, _ = self.loop(node.search)

        def run(frame: Frame) -> Value:
            try:
                items = elements("filter", source(frame))
                if name == "findLast":
                    items = items[::-1]
                found = next(hits(frame, items, body, slots, cost), _BREAK)
                if found is _BREAK:
                    raise RunError("reflect: slice index out of range")
                return found
            except RunError as error:
                place(error, position)
                raise

        return run

    def conditional(self, node: nodes.Conditional) -> Closure:
        condition, then, otherwise = self.build(node.condition), self.build(node.then), self.build(node.otherwise)
        position = node.condition.position

        def run(frame: Frame) -> Value:
            value = condition(frame)
            if value is True:
                return then(frame)
            if value is False:
                return otherwise(frame)
            raise not_bool(value, position)

        return run

    def let(self, node: nodes.Let) -> Closure:
        declared = []
        body: Node = node
        while isinstance(body, nodes.Let):
            declared.append((body.slot, self.build(body.value)))
            body = body.body
        last = self.build(body)

        def run(frame: Frame) -> Value:
            for slot, value in declared:
                frame[slot] = value(frame)
            return last(frame)

        return run

    def sequence(self, node: nodes.Sequence) -> Closure:
        *before, last = [self.build(part) for part in node.nodes]

        def run(frame: Frame) -> Value:
            for part in before:
                part(frame)
            return last(frame)

        return run

    def array(self, node: nodes.Array) -> Closure:
        parts = [self.build(part) for part in node.nodes]
        size, position = len(parts), node.position

        def run(frame: Frame) -> Value:
            made = [part(frame) for part in parts]
            try:
                grow(frame, size)
            except RunError as error:
                place(error, position)
                raise
            return made

        return run

    def map(self, node: nodes.Map) -> Closure:
        pairs = [(self.build(key), self.build(value)) for key, value in node.pairs]
        position = node.position

        def run(frame: Frame) -> Value:
            made: dict[str, Value] = {}
            try:
                grow(frame, len(pairs))
                for key, value in pairs:
                    name = key(frame)
                    if not isinstance(name, str):
                        raise converted(name, "string")
                    made.setdefault(name, value(frame))
            except RunError as error:
                place(error, position)
                raise
            return made

        return run

    def among(self, node: nodes.Among) -> Closure:
        left, members, zero, position = self.build(node.left), node.members, node.zero, node.position
        kind = type(zero)

        def run(frame: Frame) -> Value:
            value = left(frame)
            if type(value) is kind:
                return value in members
            if value is None:
                return zero in members
            if kind is str and isinstance(value, str):
                return value in members
            message = f"reflect.Value.MapIndex: value of type {name_of(value)} is not assignable to type {kind.__name__[:3]}"
            raise RunError(message, position)

        return run


def _over_entries(name: str, run: Callable[..., Value]) -> Callable[..., Value]:
    """A loop that never looks at its elements goes over a map as well, unless the elements are in the result."""

    def over(frame: Frame, source: Value, body: Closure, slots: tuple[int, int, int], cost: int, *rest: Value) -> Value:
        if not isinstance(source, dict | KeyedMap):
            return run(frame, source, body, slots, cost, *rest)
        result = _BREAK
        if name != "reduce" or rest or not source:
            result = run(frame, [_BREAK] * len(source), body, slots, cost, *rest)
        if result is _BREAK or (name in ("filter", "groupBy", "sortBy") and result):
            raise RunError(f"cannot fetch an element from {name_of(source)}")
        return result

    return over


def _nothing(frame: Frame) -> Value:
    return None


def _calling(callee: Closure, arguments: list[Closure], position: int) -> Closure:
    def run(frame: Frame) -> Value:
        given = [argument(frame) for argument in arguments]  # before what is called, also where a chain stops
        function = callee(frame)
        if function is _BREAK:
            return _BREAK
        try:
            spend(frame, 1)
            if isinstance(function, Bound):
                return invoke(function, given)
            if isinstance(function, Function):
                return function.call(frame, given)
            raise RunError(f"invalid operation: cannot call non-function of type {name_of(function)}")
        except RunError as error:
            place(error, position)
            raise

    return run


_BUILDS: dict[type[Node], Callable[[Build, Any], Closure]] = {
    nodes.Literal: Build.literal,
    nodes.Name: Build.name,
    nodes.Pointer: Build.pointer,
    nodes.Unary: Build.unary,
    nodes.Binary: Build.binary,
    nodes.Shared: Build.shared,
    nodes.Member: Build.member,
    nodes.Slice: Build.slice,
    nodes.Chain: Build.chain,
    nodes.Call: Build.call,
    nodes.Builtin: Build.builtin,
    nodes.Hit: Build.hit,
    nodes.Failing: Build.failing,
    nodes.Conditional: Build.conditional,
    nodes.Let: Build.let,
    nodes.Sequence: Build.sequence,
    nodes.Array: Build.array,
    nodes.Map: Build.map,
    nodes.Among: Build.among,
}
