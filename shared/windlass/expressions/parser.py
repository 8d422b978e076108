"""Tokens to a tree, by precedence climbing. Every method starts at the current token and leaves the one after its part."""

from collections.abc import Container
from typing import NoReturn

from windlass.expressions import nodes
from windlass.expressions.builtins import BUILTINS
from windlass.expressions.errors import CompileError
from windlass.expressions.lexer import END, NAME, NUMBER, POINTER, STRING, WORDS, Token, tokens
from windlass.expressions.limits import DEFAULT, Limits
from windlass.expressions.nodes import Node
from windlass.expressions.values import MAX_INT

BINARY = {
    "|": 0,
    "or": 10,
    "||": 10,
    "and": 15,
    "&&": 15,
    "==": 20,
    "!=": 20,
    "<": 20,
    ">": 20,
    "<=": 20,
    ">=": 20,
    "in": 20,
    "matches": 20,
    "contains": 20,
    "startsWith": 20,
    "endsWith": 20,
    "..": 25,
    "+": 30,
    "-": 30,
    "*": 60,
    "/": 60,
    "%": 60,
    "**": 100,
    "^": 100,
    "??": 500,
}
_UNARY = {"not": 50, "!": 50, "-": 90, "+": 90}
_COMPARISONS = frozenset({"<", ">", "<=", ">="})
_NEGATABLE = frozenset({"in", "matches", "contains", "startsWith", "endsWith"})
_CONSTANTS = {"true": True, "false": False, "nil": None}


def parse(source: str, overridden: Container[str] = (), limits: Limits = DEFAULT) -> tuple[Node, set[str]]:
    """The tree of a source, and the names in it that the environment may know.

    Builtins that are `overridden` by the environment are parsed as ordinary functions.

    Raises `CompileError`, also for a source beyond the limits.
    """
    if len(source) > limits.source:
        raise CompileError(f"expression exceeds {limits.source} characters", budget="source")
    parser = _Parser(tokens(source), overridden, limits.depth)
    tree = parser.sequence()
    if parser.kind != END:
        if parser.kind == ";":  # allowed once, before the end
            parser.next()
        if parser.kind != END:
            parser.unexpected()
    if len(parser.tokens) > limits.depth:
        _measure(tree, limits)
    return tree, parser.names


class _Parser:
    __slots__ = ("_deepest", "_depth", "_overridden", "_predicates", "at", "kind", "names", "tokens")

    def __init__(self, found: list[Token], overridden: Container[str], depth: int) -> None:
        self.tokens = found
        self.at = 0
        self.kind = found[0][0]
        self.names: set[str] = set()
        self._overridden = overridden
        self._predicates = 0
        self._depth = 0
        self._deepest = depth

    def next(self) -> None:
        self.at += 1
        self.kind = self.tokens[self.at][0]

    def expect(self, kind: str) -> Token:
        if self.kind != kind:
            self.unexpected()
        token = self.tokens[self.at]
        if kind != END:
            self.next()
        return token

    def unexpected(self) -> NoReturn:
        kind, text, position = self.tokens[self.at]
        if kind == END:
            raise CompileError("unexpected token EOF", position)
        if kind == POINTER:
            raise CompileError('unexpected token Operator("#")', position)
        name = kind if kind in (NAME, NUMBER, STRING) else "Bracket" if kind in "()[]{}" else "Operator"
        raise CompileError(f'unexpected token {name}("{text}")', position)

    def sequence(self) -> Node:
        """Expressions up to the bracket that closes them; a trailing `;` is left for `parse` to judge."""
        first = self.expression(0)
        if self.kind != ";":
            return first
        parts = [first]
        while self.kind == ";" and self.tokens[self.at + 1][0] != END:
            self.next()
            parts.append(self.expression(0))
        return nodes.Sequence(first.position, parts) if len(parts) > 1 else first

    def expression(self, level: int) -> Node:
        kind = self.kind
        if level == 0:
            if kind == "let":
                return self.let()
            if kind == "if":
                return self.condition()
        self._depth += 1
        if self._depth > self._deepest:
            self._too_deep()
        left = self.primary()
        previous = ""
        while True:
            operator = self.kind
            negated = operator == "not"
            if negated:
                operator, _, _ = self.tokens[self.at + 1]
                if operator not in _NEGATABLE:
                    self.next()
                    self.unexpected()
            binds = BINARY.get(operator, -1)
            if binds < level:
                break
            if negated:
                self.next()
            position = self.tokens[self.at][2]
            self.next()
            if operator == "|":
                _, name, position = self.expect(NAME)
                left = self.call(name, position, [left])
            elif previous == "??" and operator != "??":
                message = f"Operator ({operator}) and coalesce expressions (??) cannot be mixed. Wrap either by parentheses."
                raise CompileError(message, position)
            elif operator in _COMPARISONS:
                left = self.comparison(left, operator, position)
            else:
                right = self.expression(binds if binds == 100 else binds + 1)
                left = nodes.Binary(position, operator, left, right)
                if negated:
                    left = nodes.Unary(position, "not", left)
            previous = operator
        if level == 0:
            while self.kind == "?":
                left = self.ternary(left)
        self._depth -= 1
        return left

    def comparison(self, left: Node, operator: str, position: int) -> Node:
        """`a < b <= c` means `a < b && b <= c`."""
        right = self.expression(21)
        whole: Node | None = None
        while self.kind in _COMPARISONS:
            right = nodes.Shared(right)
            part = nodes.Binary(position, operator, left, right)
            whole = part if whole is None else nodes.Binary(part.position, "&&", whole, part)
            left = right
            operator, _, position = self.tokens[self.at]
            self.next()
            right = self.expression(21)
        part = nodes.Binary(position, operator, left, right)
        return part if whole is None else nodes.Binary(part.position, "&&", whole, part)

    def ternary(self, condition: Node) -> Node:
        self.next()
        if self.kind == ":":
            self.next()
            condition = nodes.Shared(condition)
            return nodes.Conditional(condition.position, condition, condition, self.expression(0))
        then = self.expression(0)
        self.expect(":")
        return nodes.Conditional(condition.position, condition, then, self.expression(0))

    def let(self) -> Node:
        """Declarations in a row are a loop here, and in the check and the evaluation: they do not nest."""
        declared = []
        while self.kind == "let":
            self.next()
            _, name, position = self.expect(NAME)
            self.names.add(name)
            self.expect("=")
            value = self.expression(0)
            self.expect(";")
            declared.append((position, name, value))
        body = self.sequence()
        for position, name, value in reversed(declared):
            body = nodes.Let(position, name, value, body)
        return body

    def condition(self) -> Node:
        self._depth += 1
        if self._depth > self._deepest:
            self._too_deep()
        self.next()
        condition = self.expression(0)
        then = self.block()
        self.expect("else")
        otherwise = self.condition() if self.kind == "if" else self.block()
        self._depth -= 1
        return nodes.Conditional(condition.position, condition, then, otherwise)

    def block(self) -> Node:
        self.expect("{")
        inside = self.sequence()
        self.expect("}")
        return inside

    def primary(self) -> Node:
        kind, text, position = self.tokens[self.at]
        if kind == NAME:
            self.next()
            if text in _CONSTANTS:
                return nodes.Literal(position, _CONSTANTS[text])
            if self.kind == "(":
                return self.postfix(self.call(text, position, []))
            self.names.add(text)
            return self.postfix(nodes.Name(position, text))
        if kind == STRING:
            self.next()
            return self.postfix(nodes.Literal(position, text))
        if kind == NUMBER:
            self.next()
            return nodes.Literal(position, _number(text, position))
        if kind == "(":
            self.next()
            inside = self.sequence()
            self.expect(")")
            return self.postfix(inside)
        if kind in _UNARY:
            self.next()
            operand = self.expression(_UNARY[kind])
            return self.postfix(nodes.Unary(position, "not" if kind == "!" else kind, operand))
        if kind == "[":
            self.next()
            return self.postfix(nodes.Array(position, self.listed("]")))
        if kind == "{":
            return self.postfix(self.map())
        if kind == "::":
            self.next()
            _, name, position = self.expect(NAME)
            return self.postfix(self.builtin(name, position, []))
        if self._predicates and kind == POINTER:
            self.next()
            if not text and self.kind == NAME:
                _, text, _ = self.expect(NAME)
            return self.postfix(nodes.Pointer(position, text))
        if self._predicates and kind == ".":
            return self.postfix(nodes.Pointer(position, ""))
        return self.unexpected()

    def listed(self, closing: str) -> list[Node]:
        """Expressions with commas between them, and the bracket that closes them."""
        items: list[Node] = []
        while self.kind != closing:
            items.append(self.expression(0))
            if self.kind != ",":
                break
            self.next()
        self.expect(closing)
        return items

    def map(self) -> Node:
        position = self.tokens[self.at][2]
        self.next()
        pairs: list[tuple[Node, Node]] = []
        while self.kind != "}":
            kind, text, at = self.tokens[self.at]
            key: Node
            if kind in (NAME, STRING, NUMBER):
                self.next()
                key = nodes.Literal(at, text)
            elif kind == "(":
                key = self.expression(0)
            else:
                raise CompileError("a map key is a quoted string, a number, a name, or an expression in parentheses", at)
            self.expect(":")
            pairs.append((key, self.expression(0)))
            if self.kind != ",":
                break
            self.next()
        self.expect("}")
        return nodes.Map(position, pairs)

    def postfix(self, node: Node) -> Node:
        """Members, calls of members, indexes and slices. A `.` goes on with the optional chain before it, a `[` ends it."""
        while True:
            kind = self.kind
            optional = kind == "?."
            if optional or kind == ".":
                self.next()
                if not optional or self.kind != "[":
                    node = self.member(node, optional)
                    continue
            elif kind != "[":
                return node
            position = self.tokens[self.at][2]
            self.next()
            start: Node | None = None
            if self.kind != ":":
                start = self.expression(0)
                if self.kind == "]":
                    self.next()
                    node = nodes.Member(position, node, start, optional, False)
                    if optional:
                        node = nodes.Chain(position, node)
                    continue
            self.expect(":")
            stop = None if self.kind == "]" else self.expression(0)
            self.expect("]")
            node = nodes.Slice(position, node, start, stop)

    def member(self, base: Node, optional: bool) -> Node:
        kind, name, position = self.tokens[self.at]
        if kind != NAME and kind not in WORDS:
            raise CompileError("expected name", position)
        self.next()
        chained = type(base) is nodes.Chain
        inner: Node = base.node if isinstance(base, nodes.Chain) else base
        node: Node = nodes.Member(position, inner, nodes.Literal(position, name), optional, True)
        if self.kind == "(":
            self.next()
            node = nodes.Call(position, node, self.listed(")"))
        return nodes.Chain(position, node) if chained or optional else node

    def call(self, name: str, position: int, first: list[Node]) -> Node:
        """A call by name; `first` is what was piped into it."""
        self.names.add(name)
        if name in BUILTINS and name not in self._overridden:
            return self.builtin(name, position, first)
        self.expect("(")
        return nodes.Call(position, nodes.Name(position, name), first + self.listed(")"))

    def builtin(self, name: str, position: int, arguments: list[Node]) -> Node:
        builtin = BUILTINS.get(name)
        if builtin is None:
            raise CompileError(f"unknown name {name}", position)
        self.expect("(")
        if builtin.predicate is None:
            return nodes.Builtin(position, name, arguments + self.listed(")"))
        least, most = builtin.predicate
        more = self.kind != ")"
        while more and len(arguments) < most:
            arguments.append(self.predicate() if len(arguments) == 1 else self.expression(0))
            more = self.kind == ","
            if more:
                self.next()
        if len(arguments) < least:
            raise CompileError(f"expected at least {most} arguments", self.tokens[self.at][2])
        self.expect(")")
        return nodes.Builtin(position, name, arguments)

    def predicate(self) -> Node:
        position = self.tokens[self.at][2]
        self._predicates += 1
        if self.kind == "{":
            self.next()
            inside = self.sequence()
            self.expect("}")
        else:
            inside = self.expression(0)
        self._predicates -= 1
        return nodes.Predicate(position, inside)

    def _too_deep(self) -> NoReturn:
        raise CompileError(f"expression nests deeper than {self._deepest} levels", self.tokens[self.at][2], budget="depth")


def _number(text: str, position: int) -> int | float:
    digits = text.replace("_", "")
    base = {"x": 16, "o": 8, "b": 2}.get(digits[1:2].lower(), 10)
    try:
        if base == 10 and not digits.isdigit():
            value = float(digits)
            if value == float("inf"):
                raise ValueError
            return value
        number = int(digits[2:] if base != 10 else digits, base) if len(digits) < 4400 else MAX_INT + 1
    except ValueError:
        raise CompileError(f"invalid number literal {text}", position) from None
    if number > MAX_INT:
        raise CompileError("integer literal is too large", position)
    return number


def _measure(tree: Node, limits: Limits) -> None:
    """Refuse a tree with too many nodes, as the reference counts them, or too high; operators in a row add no height."""
    count = 0
    seen: set[int] = set()
    todo: list[tuple[Node, int]] = [(tree, 0)]
    while todo:
        node, height = todo.pop()
        if height > limits.depth:
            raise CompileError(f"expression nests deeper than {limits.depth} levels", node.position, budget="depth")
        count += 1
        match node:
            case nodes.Binary():
                while True:
                    todo.append((node.right, height + 1))
                    if type(node.left) is not nodes.Binary:
                        todo.append((node.left, height + 1))
                        break
                    node = node.left
                    count += 1
            case nodes.Let():
                while type(node) is nodes.Let:
                    todo.append((node.value, height + 1))
                    node = node.body
                    count += 1
                count -= 1
                todo.append((node, height + 1))
            case nodes.Unary() | nodes.Predicate() | nodes.Chain():
                todo.append((node.node, height + 1))
            case nodes.Shared():
                count -= 1
                if id(node) not in seen:
                    seen.add(id(node))
                    todo.append((node.node, height + 1))
            case nodes.Member():
                todo += [(node.base, height + 1), (node.key, height + 1)]
            case nodes.Slice():
                todo += [(part, height + 1) for part in (node.base, node.start, node.stop) if part is not None]
            case nodes.Call():
                if isinstance(node.callee, nodes.Name):
                    count += 1
                else:
                    todo.append((node.callee, height + 1))
                todo += [(part, height + 1) for part in node.arguments]
            case nodes.Builtin():
                todo += [(part, height + 1) for part in node.arguments]
            case nodes.Conditional():
                todo += [(part, height + 1) for part in (node.condition, node.then, node.otherwise)]
            case nodes.Sequence() | nodes.Array():
                todo += [(part, height + 1) for part in node.nodes]
            case nodes.Map():
                count += len(node.pairs)
                todo += [(part, height + 1) for pair in node.pairs for part in pair]
    if count > limits.nodes:
        raise CompileError("expression exceeds maximum allowed nodes", budget="nodes")
