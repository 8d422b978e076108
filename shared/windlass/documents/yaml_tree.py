"""YAML to a tree, from the parser's events: no object is built by a tag, and limits hold while reading.

The usual loaders crash on deep nesting and hang on aliases that multiply. Here an alias is a reference to a finished node
whose size is known, so the expansion is counted without being made. Scalars are read as YAML 1.2 does, with 1.1's booleans
where a boolean is wanted, and keep their text.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from windlass.documents.tree import (
    DEPTH_MAX,
    NODES_MAX,
    Kind,
    Node,
    Pair,
    Problem,
    Refused,
    collection,
    levels_below,
    refused,
    too_deep,
    too_many,
)
from windlass.errors import Invalid

_STANDARD = "tag:yaml.org,2002:"
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = frozenset({"true", "True", "TRUE", "false", "False", "FALSE"})
_INT = re.compile(r"[-+]?(0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAGGED: dict[str, Kind] = {"str": "str", "int": "int", "float": "float", "bool": "bool", "null": "null", "timestamp": "str"}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def from_yaml(text: str) -> Node:
    """The tree of one YAML document.

    Raises:
        Invalid: it is malformed, has a key twice, a tag of its own or a second document, or is beyond the limits.
    """
    try:
        return _Composer(yaml.parse(text, Loader=_LOADER)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark is not None else ""
        text = f"yaml: {place}{error.problem or error.context or 'cannot be read'}"
        raise refused(Problem(text, "", *((mark.line + 1, mark.column + 1) if mark is not None else ()))) from error
    except yaml.YAMLError as error:
        raise refused(f"yaml: {str(error).splitlines()[0]}") from error


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _at(place: Any, text: str) -> Refused:
    """A refusal of what an event, or a line, says."""
    line, column = (place, 1) if isinstance(place, int) else (_line(place), _column(place))
    return refused(Problem(f"yaml: line {line}: {text}", "", line, column))


def _column(event: Any) -> int:
    return int(event.start_mark.column) + 1


class _Composer:
    """Reads the events of one document."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, Node] = {}
        self._nodes = 0

    def document(self) -> Node:
        """The only document.

        Raises:
            Invalid: see `from_yaml`.
        """
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise _at(event, "a second document begins; send one at a time")
                root = self._node(next(self._events), 1, DEPTH_MAX)
        if root is None:
            raise Invalid("EOF")
        return root

    def _spend(self, nodes: int) -> None:
        """Count what was read or expanded, while reading, so that no alias is followed beyond the limit."""
        self._nodes += nodes
        if self._nodes > NODES_MAX:
            raise too_many()

    def _node(self, event: Any, depth: int, levels: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth, levels)
        self._spend(1)
        if depth > levels:
            raise too_deep()
        match event:
            case yaml.ScalarEvent():
                node = _scalar(event)
            case yaml.SequenceStartEvent():
                _check_tag(event, "seq")
                children = []
                while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
                    children.append(self._node(inner, depth + 1, levels))
                node = collection("seq", children, _line(event), column=_column(event))
            case _:
                _check_tag(event, "map")
                node = self._mapping(event, depth, levels)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, depth: int, levels: int) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise _at(event, f"*{event.anchor} has no anchor &{event.anchor} before it")
        if depth + node.height - 1 > levels:
            raise too_deep()
        self._spend(node.size)
        return node

    def _mapping(self, event: Any, depth: int, levels: int) -> Node:
        pairs: dict[str, Pair] = {}
        merged: list[Node] = []
        while not isinstance(inner := next(self._events), yaml.MappingEndEvent):
            line = _line(inner)
            is_merge = isinstance(inner, yaml.ScalarEvent) and inner.value == "<<" and inner.implicit[0]
            key = self._node(inner, depth + 1, levels)
            if key.kind in ("map", "seq"):
                raise _at(line, "a key is a plain text, not a list or a mapping")
            value = self._node(next(self._events), depth + 1, levels_below(key.text, levels))
            if is_merge:
                merged.extend(self._merged(value, line))
            elif key.text in pairs:
                raise _at(line, f"mapping key {key.text!r} already defined at line {pairs[key.text].line}")
            else:
                pairs[key.text] = Pair(line, value, key.column)
        for source in merged:
            for name, pair in (source.pairs or {}).items():
                pairs.setdefault(name, pair)
        return collection("map", [pair.value for pair in pairs.values()], _line(event), pairs, _column(event))

    def _merged(self, value: Node, line: int) -> list[Node]:
        sources = list(value.children) if value.kind == "seq" else [value]
        if any(source.kind != "map" for source in sources):
            raise _at(line, "<< merges mappings only")
        return sources


def _check_tag(event: Any, name: str) -> None:
    if event.tag not in (None, "!", _STANDARD + name):
        raise _at(event, f"tag {event.tag!r} is not known; write plain values")


def _scalar(event: Any) -> Node:
    text, line, column = event.value, _line(event), _column(event)
    if event.tag not in (None, "!"):
        kind = _TAGGED.get(event.tag.removeprefix(_STANDARD))
        if kind is None or not event.tag.startswith(_STANDARD):
            raise _at(line, f"tag {event.tag!r} is not known; write plain values")
        if kind not in ("str", _plain(text)) and (kind, _plain(text)) != ("float", "int"):
            raise _at(line, f"{text!r} is no {kind}")
        return Node(kind, text, line, column)
    return Node(_plain(text) if event.implicit[0] else "str", text, line, column)


def _plain(text: str) -> Kind:
    """What an unquoted scalar is."""
    if text in _NULL:
        return "null"
    if text in _BOOL:
        return "bool"
    if _INT.fullmatch(text):
        return "int"
    return "float" if _FLOAT.fullmatch(text) else "str"
