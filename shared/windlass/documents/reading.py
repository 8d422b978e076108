"""Bytes to a job: JSON on a fast path, JSON and YAML field by field where something is unusual.

The fast path is one typed decode. Whatever it does not like (an unknown field, a `null`, a key twice, a large document) goes
the slow way, which accepts what may be accepted and names what may not.
"""

import difflib
import json
import math
import re
from collections.abc import Callable, Set
from dataclasses import replace
from functools import cache, partial
from types import NoneType
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from windlass.documents.tree import INTEGER_MAX, LINES_MAX, Node, Problem, from_json, refused
from windlass.documents.validation import check_job, check_wait
from windlass.documents.yaml_tree import from_yaml
from windlass.errors import Invalid
from windlass.messages.jobs import Each, Job, Limits, Mount, Retry, SubJob, Task, Wait

BODY_MAX = 500_000
"""Bytes of one document."""
QUICK_MAX = 100_000
"""Bytes that cannot hold too many nodes, so that nobody needs to count them."""

Form = Literal["json", "yaml"]
Made = TypeVar("Made", bound=msgspec.Struct)

ALIASES: dict[type[msgspec.Struct], dict[str, str]] = {Retry: {"initialDelay": "delay"}, Limits: {"cpu": "cpus"}}
"""Names that fields had in earlier years, with what they are called now."""
FORMER = {name.lower(): former.lower() for names in ALIASES.values() for former, name in names.items()} | {"mounts": "volumes"}
"""What a field may also be called, by its name, both in lower case."""
HINTS: dict[tuple[type[msgspec.Struct], str], str] = {
    (Job, "schedule"): "a job has none; it starts later with delay or runAt, and schedules come in a later release",
    (Task, "probe"): "only a sidecar has one",
}
"""What to write instead of a field that people look for where it is not."""


class TooLarge(Invalid):
    """A document has more bytes than one may have."""

    code = "too_large"
    http = 413

    def __init__(self) -> None:
        super().__init__(f"Request Entity Too Large: a document has at most {BODY_MAX:,} bytes; split it")


class Document(NamedTuple):
    """What a document says: a job, and whether its sender wants to wait for its end.

    `absent` has the paths, in lower case, of lists that must be there and are not.
    """

    job: Job
    wait: Wait | None = None
    absent: Set[str] = frozenset()


def read_job(body: bytes, form: Form | None = None) -> Document:
    """The job that a document describes; without `form`, what begins with `{` is JSON and the rest YAML.

    Raises:
        TooLarge: it has more than `BODY_MAX` bytes.
        Invalid: what is wrong, by field, and what to do.
    """
    document = decode_job(body, form)
    if document.wait is not None:
        check_wait(document.wait)
    check_job(document.job, document.absent)
    return document


def decode_job(body: bytes, form: Form | None = None) -> Document:
    """What a document says, in the shape of a job, whose rules are not checked yet.

    Raises:
        TooLarge: it has more than `BODY_MAX` bytes.
        Invalid: it has not that shape.
    """
    form = _check(body, form)
    quick = _quickly(body) if form == "json" else None
    if quick is not None:
        return Document(quick)
    filler = _Filler(form)
    fields = filler.fields(Job, _tree(body, form), extra={"wait": Wait})
    wait = fields.pop("wait", None)
    return Document(Job(**fields), wait, filler.absent)


def read_task(body: bytes, form: Form | None = None) -> Job:
    """The job of one task that a bare task's document describes.

    Raises:
        TooLarge: it has more than `BODY_MAX` bytes.
        Invalid: what is wrong, by field, and what to do.
    """
    form = _check(body, form)
    filler = _Filler(form)
    task = Task(**filler.fields(Task, _tree(body, form)))
    job = Job(name=task.name, tasks=(task,))
    check_job(job, {f"tasks[0].{path}" for path in filler.absent})
    return job


_decoder = msgspec.json.Decoder(Job)
_encoder = msgspec.json.Encoder()
_BLANK = b" \t\r\n"


def _check(body: bytes, form: Form | None) -> Form:
    if len(body) > BODY_MAX:
        raise TooLarge
    if not body.strip(_BLANK):
        raise Invalid("EOF")
    return form or ("json" if body.lstrip(_BLANK).startswith(b"{") else "yaml")


def _quickly(body: bytes) -> Job | None:
    """The job, if the body is a plain one; None for everything that needs a closer look.

    A decoder keeps the last of two equal keys and says nothing. But each text of the body has its two quotes, so a body with
    no more quotes than its job has when written again holds nothing that was dropped; only `\\u0022` could hide one.
    """
    if len(body) > QUICK_MAX or b"\\u" in body:
        return None
    try:
        job = _decoder.decode(body)
        return job if body.count(b'"') == _encoder.encode(job).count(b'"') else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _tree(body: bytes, form: Form) -> Node:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"{form}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    root = from_json(text) if form == "json" else from_yaml(text)
    return Node("map", pairs={}) if root.kind == "null" else root


_GO_KINDS = {"map": "object", "seq": "array", "str": "string", "int": "number", "float": "number", "bool": "bool"}
_SCALARS = frozenset({"string", "int", "float64", "bool"})
_YAML_TAGS = {"map": "!!map", "seq": "!!seq", "str": "!!str", "int": "!!int", "float": "!!float", "bool": "!!bool"}


class _Filler:
    """Fills classes from a tree, gathering all that is wrong before it gives up.

    `absent` has the paths, in lower case, of lists that must be there and are not: an empty one is another mistake.
    """

    def __init__(self, form: Form) -> None:
        self.form = form
        self.wrong: list[Problem] = []
        self.absent: set[str] = set()
        self._refused: list[Problem] = []

    def fields(self, kind: type[msgspec.Struct], root: Node, extra: dict[str, Any] | None = None) -> dict[str, Any]:
        """The attributes that a document sets, and those that it must and does not.

        Raises:
            Invalid: with one line for each thing that is wrong.
        """
        found = self._attributes(kind, root, "", {name: (name, _reader(hint)) for name, hint in (extra or {}).items()})
        if self.wrong and self.form == "yaml":
            indented = [replace(problem, text=f"  {problem.text}") for problem in self.wrong]
            raise refused(*indented, *self._refused, heading="yaml: unmarshal errors:")
        if self.wrong or self._refused:
            raise refused(*self.wrong, *self._refused)
        return found

    def _attributes(self, kind: type[msgspec.Struct], node: Node, path: str, extra: "_Fields | None" = None) -> dict[str, Any]:
        known = _fields_of(kind)
        if extra:
            known = known | extra
        found: dict[str, Any] = {}
        if node.pairs is None:
            self.mismatch(node, path.rstrip(".") or "the document", kind.__name__, "a mapping of fields")
        for key, pair in (node.pairs or {}).items():
            name, place = self._known(key, known), f"{path}{key}"
            if name is None:
                self._unknown(key, kind, place, pair.line, known)
                continue
            attribute, read = known[name]
            value = read(self, pair.value, place) if pair.value.kind != "null" or read is _text else None
            if attribute in found and attribute != _MOUNTS:
                self.wrong.append(Problem(f"{place}: is given twice, under another name; remove one", place))
            if value is not None:
                found[attribute] = (*found[attribute], *value) if attribute == _MOUNTS and attribute in found else value
        for attribute, name, empty in _required(kind):
            if attribute not in found:
                found[attribute] = empty
                self.absent.add(f"{path}{name}".lower())
        return found

    def _known(self, key: str, names: "_Fields") -> str | None:
        """The field that a key means; JSON's keys match whatever their case."""
        if key in names:
            return key
        if self.form == "json":
            return next((name for name in names if name.lower() == key.lower()), None)
        return None

    def _unknown(self, key: str, kind: type[msgspec.Struct], place: str, line: int, known: "_Fields") -> None:
        if kind is Task and key in _MODULE:
            self._refused.append(Problem(f"module tasks are not built yet ({place})", place))
            return
        # Looking for a neighbour takes long, and nobody reads beyond that many lines.
        near = difflib.get_close_matches(key, known, 1) if len(self.wrong) < LINES_MAX else []
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
        hint = HINTS.get((kind, key), hint)
        if self.form == "json":
            text = f'json: unknown field "{key}" ({place}: unknown field; {hint})'
        else:
            text = f"line {line}: field {key} not found in type input.{kind.__name__} ({place}: unknown field; {hint})"
        self.wrong.append(Problem(text, place))

    def mismatch(self, node: Node, place: str, target: str, wanted: str) -> None:
        """Note that a value is of another kind than its field."""
        if self.form == "json":
            target = f"Go struct field of type {target}" if target in _SCALARS else target
            text = f"json: cannot unmarshal {_GO_KINDS[node.kind]} into {target} ({place}: write {wanted})"
        else:
            secret = place == "secrets" or place.endswith(".secrets")  # what is wrong ends in logs and in the quarantine
            quoted = f" `{node.text[:20]}`" if node.text and not secret else ""
            text = f"line {node.line}: cannot unmarshal {_YAML_TAGS[node.kind]}{quoted} into {target} ({place}: write {wanted})"
        self.wrong.append(Problem(text, place, node.line, node.column))

    def struct(self, kind: type[Made], node: Node, place: str) -> Made:
        """An object with fields of its own."""
        return kind(**self._attributes(kind, node, f"{place}."))

    def storable(self, text: str, place: str) -> str:
        """The text, if a store can hold it."""
        if _UNSTORABLE.search(text):
            self.wrong.append(Problem(f"{place}: holds a NUL character or a lone surrogate; remove it", place))
        return text


# -- readers: from a node that is not null to the value of a field --------------------------------------------------------

Reader = Callable[[_Filler, Node, str], Any]
"""Gives a field's value, or None to leave its default; `str` is the place."""
_Fields = dict[str, tuple[str, Reader]]
_MOUNTS = "mounts"
"""The attribute that two fields may fill."""
_MODULE = ("module", "data")


@cache
def _fields_of(kind: type[msgspec.Struct]) -> _Fields:
    """The fields of a class by the names that documents use: attribute and reader."""
    hints = get_type_hints(kind)
    found = {field.encode_name: (field.name, _reader(hints[field.name])) for field in msgspec.structs.fields(kind)}
    for (owner, name), (attribute, read) in _PECULIAR.items():
        if owner is kind:
            found[name] = (attribute, read)
    return found | {former: found[name] for former, name in ALIASES.get(kind, {}).items()}


@cache
def _required(kind: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    """The fields that must be there: attribute, name, and what stands for them until validation has told of it."""
    empties: dict[Any, Any] = {str: "", int: 0, Task: Task(name="")}
    hints = get_type_hints(kind)
    return tuple(
        (field.name, field.encode_name, empties.get(hints[field.name], ()))
        for field in msgspec.structs.fields(kind)
        if field.required
    )


def _reader(hint: Any) -> Reader:
    """What reads a field of this type."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    if get_origin(hint) is dict:
        return _texts_by_name
    inner = next(argument for argument in (*get_args(hint), hint) if argument is not NoneType)
    if get_origin(hint) is tuple:
        return partial(_items, inner)
    return lambda filler, node, place: filler.struct(inner, node, place)


def _text(filler: _Filler, node: Node, place: str) -> str:
    if node.kind == "null":
        return ""
    if node.kind in ("map", "seq") or (filler.form == "json" and node.kind != "str"):
        filler.mismatch(node, place, "string", "a text in quotes")
        return ""
    return filler.storable(node.text, place)


def _integer(filler: _Filler, node: Node, place: str) -> int:
    number = None
    if node.kind == "int" or (node.kind == "float" and filler.form == "yaml"):
        number = _whole(node)
    if number is None:
        filler.mismatch(node, place, "int", "a whole number")
    return number or 0


def _flag(filler: _Filler, node: Node, place: str) -> bool:
    is_word = node.kind == "bool" or (node.kind == "str" and filler.form == "yaml")
    value = _WORDS.get(node.text) if is_word else None
    if value is None:
        filler.mismatch(node, place, "bool", "true or false")
    return bool(value)


def _items(inner: Any, filler: _Filler, node: Node, place: str) -> tuple[Any, ...]:
    if node.kind != "seq":
        filler.mismatch(node, place, f"[]{inner.__name__}", "a list")
        return ()
    if inner is str:
        return tuple(_text(filler, child, f"{place}[{index}]") for index, child in enumerate(node.children))
    return tuple(
        filler.struct(inner, _NOTHING if child.kind == "null" else child, f"{place}[{index}]")
        for index, child in enumerate(node.children)
    )


def _texts_by_name(filler: _Filler, node: Node, place: str) -> dict[str, str]:
    if node.pairs is None:
        filler.mismatch(node, place, "map[string]string", "a mapping of names to texts")
        return {}
    return {filler.storable(name, place): _text(filler, pair.value, f"{place}.{name}") for name, pair in node.pairs.items()}


def _volumes(filler: _Filler, node: Node, place: str) -> tuple[Mount, ...]:
    """Paths in the container, as the mounts that they stand for."""
    return tuple(Mount(type="volume", target=target) for target in _items(str, filler, node, place))


def _reasons(filler: _Filler, node: Node, place: str) -> tuple[str, ...]:
    """Words and exit codes, as texts."""
    whole = [
        replace(child, kind="str", text=str(_whole(child) or child.text)) if child.kind == "int" else child
        for child in node.children
    ]
    return _items(str, filler, replace(node, children=tuple(whole)), place)


def _listing(filler: _Filler, node: Node, place: str) -> str:
    """A list, written as an expression or as what it is: then it becomes the text of an expression."""
    return _expression(filler, node, place) if node.kind in ("map", "seq") else _text(filler, node, place)


def _expression(filler: _Filler, node: Node, place: str) -> str:
    """The expression that gives a value."""
    match node.kind:
        case "map":
            pairs = (node.pairs or {}).items()
            shown = [f"{_quoted(filler, key, place)}: {_expression(filler, pair.value, f'{place}.{key}')}" for key, pair in pairs]
            return f"{{{', '.join(shown)}}}"
        case "seq":
            items = [_expression(filler, child, f"{place}[{index}]") for index, child in enumerate(node.children)]
            return f"[{', '.join(items)}]"
        case "null":
            return "nil"
        case "bool":
            return node.text.lower()
        case "int" | "float":
            number = _whole(node) if node.kind == "int" else _finite(node)
            if number is None:
                filler.mismatch(node, place, "float64", "a number of 64 bits, or a text in quotes")
            return repr(number)
        case _:
            return _quoted(filler, node.text, place)


def _quoted(filler: _Filler, text: str, place: str) -> str:
    if "{{" in text:
        words = "a template within a list is not evaluated; write the whole list as one expression, such as [inputs.a, inputs.b]"
        filler.wrong.append(Problem(f"{place}: {words}", place))
    return json.dumps(filler.storable(text, place), ensure_ascii=False)


def _ignored(filler: _Filler, node: Node, place: str) -> None:
    """A field that Tork reads and does not use."""


_PLAIN: dict[Any, Reader] = {str: _text, int: _integer, bool: _flag}
_PECULIAR: dict[tuple[type[msgspec.Struct], str], tuple[str, Reader]] = {
    (Task, "volumes"): (_MOUNTS, _volumes),
    (Retry, "on"): ("on", _reasons),
    (Each, "list"): ("list", _listing),
    (SubJob, "id"): ("id", _ignored),
}
"""Fields that are written in more ways than they are kept, or are not kept at all."""
_NOTHING = Node("map", pairs={})
_WORDS = {
    cased: value
    for value, words in ((True, ("true", "yes", "y", "on")), (False, ("false", "no", "n", "off")))
    for word in words
    for cased in (word, word.upper(), word.capitalize())
}
"""What YAML's users write where a boolean is wanted."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""What no store or wire can carry."""
_OCTAL = re.compile(r"([-+]?)0([0-7]+)")


def _whole(node: Node) -> int | None:
    """A number of 64 bits, truncated towards zero; None where it is none or has more."""
    text = node.text.replace("_", "")
    try:
        if node.kind == "float":
            number = int(float(text))
        else:
            number = int(_OCTAL.sub(r"\g<1>0o\2", text) if _OCTAL.fullmatch(text) else text, 0)
    except (ValueError, OverflowError):
        return None
    return number if -INTEGER_MAX - 1 <= number <= INTEGER_MAX else None


def _finite(node: Node) -> float | None:
    """A number with a fraction; None where it is none that can be counted with."""
    try:
        number = float(node.text.replace("_", ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
