"""Expressions made ready to run."""

from collections.abc import Callable, Collection, Mapping, Set
from typing import Any

from windlass.expressions import folding
from windlass.expressions.builtins import BUILTINS
from windlass.expressions.checker import Check
from windlass.expressions.closures import Closure
from windlass.expressions.errors import CompileError, ExpressionError, RunError
from windlass.expressions.evaluation import Build
from windlass.expressions.limits import CELLS, DEFAULT, ENVIRONMENT, SLOTS, STEPS, TEXT, Frame, Limits, write
from windlass.expressions.nodes import Node
from windlass.expressions.parser import parse
from windlass.expressions.text import text
from windlass.expressions.types import type_of
from windlass.expressions.values import Function, KeyedMap, Struct, Value

Names = Mapping[str, Value]

_SHAPES_MAX = 16
_NOWHERE: Names = {}


class _Absent:
    """The class of a name that the environment lacks."""


class _Code:
    """An expression made for one shape of environment: its closure, and the variables' part of a fresh frame."""

    __slots__ = ("entry", "variables")

    def __init__(self, entry: Closure, variables: int) -> None:
        self.entry = entry
        self.variables: list[Value] = [None] * variables


def accounts(environment: Names | None, limits: Limits) -> Frame:
    """The start of a frame: the environment, and what may be spent."""
    return [_NOWHERE if environment is None else environment, limits.steps, limits.cells, limits.text]


class Program:
    """An expression that has been read. For the types of an environment it is checked and built when it first meets them.

    Safe to share between threads.
    """

    __slots__ = ("_codes", "_names", "_trees", "_whole", "source")

    def __init__(self, source: str, limits: Limits) -> None:
        """Raises `CompileError` for what is no expression at all."""
        self.source = source
        trees, names = _guarded(CompileError, source, _read, source, limits)
        self._whole = "$env" in names
        self._names = tuple(sorted(names - {"$env"}))
        self._trees: list[Node] = trees
        self._codes: dict[object, _Code] = {}

    def run(self, environment: Names | None = None, limits: Limits = DEFAULT) -> Value:
        """The value; raises `CompileError` if it makes no sense with these types, `RunError` if it fails."""
        frame = accounts(environment, limits)
        value = self.value(frame, limits)
        if type(value) not in _SMALL:
            _guarded(RunError, self.source, _measure, frame, value)
        return value

    def check(self, environment: Names | None, limits: Limits) -> None:
        """Check against the types of an environment, or without one; raises `CompileError`."""
        if environment is not None:
            self._code(environment, limits)
            return
        tree, _ = _guarded(CompileError, self.source, parse, self.source, (), limits)
        _guarded(CompileError, self.source, _built, Check(None, {}), tree, limits)

    def value(self, frame: Frame, limits: Limits) -> Value:
        """Run on the accounts of a frame, and leave in it what remains of them."""
        code = self._code(frame[ENVIRONMENT], limits)
        whole = frame + code.variables
        try:
            value = code.entry(whole)
        except ExpressionError as error:
            error.source = self.source
            raise
        except RecursionError:
            raise RunError("nesting is too deep", None, "depth", self.source) from None
        frame[STEPS], frame[CELLS], frame[TEXT] = whole[STEPS], whole[CELLS], whole[TEXT]
        return value

    def text(self, frame: Frame, limits: Limits) -> str:
        """The text of the value, on the accounts of a frame."""
        value = self.value(frame, limits)
        shown: str = value if type(value) is str else _guarded(RunError, self.source, text, frame, value)
        return shown

    def _code(self, environment: Names, limits: Limits) -> _Code:
        if self._whole:
            shape: object = tuple([(name, type(value)) for name, value in environment.items()])
        else:
            shape = tuple([type(environment[name]) if name in environment else _Absent for name in self._names])
        code = self._codes.get(shape)
        if code is None:
            code = _guarded(CompileError, self.source, self._made, environment, limits)
            if len(self._codes) >= _SHAPES_MAX:
                self._codes.clear()
            self._codes[shape] = code
        return code

    def _made(self, environment: Names, limits: Limits) -> _Code:
        types, functions = {}, {}
        for name in environment if self._whole else self._names:
            if name in environment:
                value = environment[name]
                try:
                    types[name] = type_of(type(value))
                except TypeError as problem:
                    raise CompileError(f"{name}: {problem}") from None
                if isinstance(value, Function):
                    functions[name] = type(value)
        return _built(Check(types, functions), self._tree(types.keys() & BUILTINS.keys(), limits), limits)

    def _tree(self, overridden: Set[str], limits: Limits) -> Node:
        """A tree of its own for each check, which writes on it. The first one is there already."""
        if not overridden:
            try:
                return self._trees.pop()
            except IndexError:
                pass
        tree, _ = parse(self.source, overridden, limits)
        return tree


def _built(check: Check, tree: Node, limits: Limits) -> _Code:
    check.visit(tree)
    build = Build(check.slots, check.used, limits.steps)
    entry = build.build(folding.fold(tree))
    return _Code(entry, build.slots - SLOTS)


_SMALL = frozenset({str, int, float, bool, type(None)})


def _guarded(kind: type[ExpressionError], source: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call, and give errors their source; the interpreter's own limit of nesting is an error like any other."""
    try:
        return function(*arguments)
    except ExpressionError as error:
        error.source = source
        raise
    except RecursionError:
        raise kind("nesting is too deep", None, "depth", source) from None


def _read(source: str, limits: Limits) -> tuple[list[Node], set[str]]:
    """The tree, if the source has one whatever the environment, and the names in it.

    An environment that hides a builtin with a predicate can make sense of what is otherwise an error.
    """
    try:
        tree, names = parse(source, (), limits)
    except CompileError as error:
        try:
            return [], parse(source, BUILTINS, limits)[1]
        except CompileError:
            raise error from None
    return [tree], names


def _measure(frame: Frame, value: Value) -> None:
    """Refuse a result that would be huge once written out, however few parts it is made of."""
    todo = [value]
    while todo:
        item = todo.pop()
        parts: Collection[Value] = ()
        if isinstance(item, str):
            write(frame, len(item))
        elif isinstance(item, list):
            parts = item
        elif isinstance(item, dict):
            parts = item.values()
            write(frame, sum(map(len, item)))
        elif isinstance(item, KeyedMap):
            parts = [part for _, part in item.items()]
        elif isinstance(item, Struct):
            parts = [item.member(name) for name in item.members]
        write(frame, len(parts) + 1)
        kinds = set(map(type, parts))
        if not kinds <= _SMALL:
            todo += parts
        elif str in kinds:
            write(frame, sum(len(part) for part in parts if type(part) is str))
