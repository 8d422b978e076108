"""A document as a tree of plain values, whatever it was written in, and the limits that hold while it is built.

Both JSON and YAML become the same nodes, so that the rules about fields are written once. A scalar keeps its source text: in
YAML a string field takes `10m`, `.5` or `2024-01-01` as they stand.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from windlass.errors import Invalid

DEPTH_MAX = 64
"""Levels of lists and mappings; those that composites make are counted apart."""
COMPOSITES_MAX = 32
"""Tasks within tasks."""
COMPOSITE_LEVELS = 3
"""What one more of them may make: its own mapping, a list, the mapping of a task in it."""
LEVELS_MAX = DEPTH_MAX + COMPOSITES_MAX * COMPOSITE_LEVELS
COMPOSITES = frozenset({"parallel", "each", "subjob"})
"""Fields of a task that hold other tasks."""
NODES_MAX = 100_000
"""Keys and values, with YAML's aliases expanded."""
LINES_MAX = 50
LINE_MAX = 1_000
"""Of a refusal: failures named, and characters of each."""
INTEGER_MAX = 2**63 - 1

Kind = Literal["map", "seq", "str", "int", "float", "bool", "null"]


@dataclass(slots=True, frozen=True)
class Node:
    """One value. `children` are of a sequence, `pairs` of a mapping; `line` and `column` count from 1, and are 0 where the
    format keeps none."""

    kind: Kind
    text: str = ""
    line: int = 0
    column: int = 0
    children: "tuple[Node, ...]" = ()
    pairs: "dict[str, Pair] | None" = None
    size: int = 1
    height: int = 1


@dataclass(slots=True, frozen=True)
class Pair:
    """A key's place and its value."""

    line: int
    value: Node
    column: int = 0


@dataclass(slots=True, frozen=True)
class Problem:
    """One thing that is wrong: a line of text, the path of the field (`tasks[0].retry.limit`, in either case of letters) and
    the place in the source, where they are known."""

    text: str
    path: str = ""
    line: int = 0
    column: int = 0


class Refused(Invalid):
    """A document that is not taken, with every problem that was found."""

    def __init__(self, message: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(message)
        self.problems = problems


def refused(*problems: str | Problem, heading: str = "") -> Refused:
    """A refusal of one line a problem, clipped so that no document echoes itself at length."""
    found = tuple(Problem(problem) if isinstance(problem, str) else problem for problem in problems)
    shown = [problem.text if len(problem.text) <= LINE_MAX else f"{problem.text[:LINE_MAX]}…" for problem in found[:LINES_MAX]]
    if len(found) > LINES_MAX:
        shown.append(f"… and {len(found) - LINES_MAX} more")
    return Refused("\n".join([heading] * bool(heading) + shown), found)


def too_deep() -> Invalid:
    """The refusal of deep nesting."""
    return Invalid(f"the document is nested deeper than {DEPTH_MAX} levels; flatten it")


def levels_below(key: str, levels: int) -> int:
    """How deep the value of a key may reach, where its mapping may reach `levels`."""
    return min(levels + COMPOSITE_LEVELS, LEVELS_MAX) if key.lower() in COMPOSITES else levels


def too_many() -> Invalid:
    """The refusal of a document that is large in parts rather than in bytes."""
    return Invalid(f"the document has more than {NODES_MAX:,} keys and values, aliases expanded; split it")


def collection(
    kind: Literal["map", "seq"], values: list[Node], line: int = 0, pairs: dict[str, Pair] | None = None, column: int = 0
) -> Node:
    """A mapping or sequence with its size and height; keys count as nodes.

    Raises:
        Invalid: it is too deep or too large.
    """
    size = 1 + sum(value.size for value in values) + (len(values) if kind == "map" else 0)
    height = 1 + max((value.height for value in values), default=0)
    if height > LEVELS_MAX:
        raise too_deep()
    if size > NODES_MAX:
        raise too_many()
    children = tuple(values) if kind == "seq" else ()
    return Node(kind, line=line, column=column, children=children, pairs=pairs, size=size, height=height)


_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def locate(root: Node, path: str, former: Mapping[str, str]) -> tuple[int, int]:
    """Line and column of the field that a path leads to, or of the last thing on the way to it that is there.

    `former` has the other name of a field by its present one, both in lower case.
    """
    node, place = root, (root.line, root.column)
    for index, name in _STEP.findall(path):
        if index:
            if node.kind != "seq" or int(index) >= len(node.children):
                break
            node = node.children[int(index)]
            place = (node.line, node.column)
        else:
            keys = {key.lower(): pair for key, pair in (node.pairs or {}).items()}
            pair = keys.get(name.lower()) or keys.get(former.get(name.lower(), ""))
            if pair is None:
                break
            node, place = pair.value, (pair.line, pair.column)
    return place


class _Repeated(list[tuple[str, Any]]):
    """The pairs of a JSON object, as they came."""


def from_json(text: str) -> Node:
    """The tree of one JSON document.

    Raises:
        Invalid: it is malformed, has a key twice, or is beyond the limits.
    """
    try:
        value = json.loads(text, object_pairs_hook=_Repeated, parse_int=_Integer, parse_float=_Float, parse_constant=_not_json)
    except json.JSONDecodeError as error:
        text = f"json: {error.msg} at line {error.lineno}, column {error.colno}"
        raise refused(Problem(text, "", error.lineno, error.colno)) from error
    except RecursionError as error:
        raise too_deep() from error
    return _from_value(value, 1, DEPTH_MAX)


class _Integer(str):
    """The digits of a JSON integer."""

    __slots__ = ()


class _Float(str):
    """The digits of a JSON number with a fraction or exponent."""

    __slots__ = ()


def _not_json(word: str) -> NoReturn:
    raise refused(f"json: {word} is not a number in JSON")


def _from_value(value: Any, depth: int, levels: int) -> Node:
    if depth > levels:
        raise too_deep()
    match value:
        case _Repeated():
            pairs: dict[str, Pair] = {}
            for key, inner in value:
                if key in pairs:
                    raise refused(f"json: key {key!r} appears twice in one object; keep one of them")
                pairs[key] = Pair(0, _from_value(inner, depth + 1, levels_below(key, levels)))
            return collection("map", [pair.value for pair in pairs.values()], pairs=pairs)
        case list():
            return collection("seq", [_from_value(inner, depth + 1, levels) for inner in value])
        case _Integer():
            return Node("int", str(value))
        case _Float():
            return Node("float", str(value))
        case bool():
            return Node("bool", "true" if value else "false")
        case None:
            return Node("null")
        case _:
            return Node("str", value)
