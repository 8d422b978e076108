"""Bytes to a job: JSON on a fast path, JSON and YAML field by field where something is unusual.

The fast path is one typed decode. Whatever it does not like (an unknown field, a `null`, a key twice, a large document) goes
the slow way, which accepts what may be accepted and names what may not.
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from windlass.documents.tree import INTEGER_MAX, Node, Problem, from_json, refused
from windlass.documents.validation import check_job, check_wait
from windlass.documents.yaml_tree import from_yaml
from windlass.errors import Invalid
from windlass.messages.jobs import Defaults, Job, Retry, Task, Wait

BODY_MAX = 500_000
"""Bytes of one document."""
QUICK_MAX = 100_000
"""Bytes that cannot hold too many nodes, so that nobody needs to count them."""

Form = Literal["json", "yaml"]
Made = TypeVar("Made", bound=msgspec.Struct)

LATER: dict[type[msgspec.Struct], frozenset[str]] = {
    Job: frozenset({"secrets", "permissions", "autoDelete", "schedule"}),
    Defaults: frozenset({"limits"}),
    Retry: frozenset({"on"}),
    Task: frozenset(
        {
            "onError",
            "delay",
            "runAt",
            "entrypoint",
            "files",
            "workdir",
            "registry",
            "mounts",
            "volumes",
            "networks",
            "pre",
            "post",
            "sidecars",
            "limits",
            "gpus",
            "parallel",
            "each",
            "subjob",
        }
    ),
}
"""Fields of the language that nothing carries out yet: refused by name, never accepted and ignored."""
_LATER_WORDS = [f'"{name}"'.encode() for names in LATER.values() for name in names if name not in ("delay", "runAt")]
ALIASES: dict[type[msgspec.Struct], dict[str, str]] = {Retry: {"initialDelay": "delay"}}
"""Names that fields had in earlier years, with what they are called now."""


class TooLarge(Invalid):
    """A document has more bytes than one may have."""

    code = "too_large"
    http = 413

    def __init__(self) -> None:
        super().__init__(f"Request Entity Too Large: a document has at most {BODY_MAX:,} bytes; split it")


class Document(NamedTuple):
    """A job that may be accepted, and whether its sender wants to wait for its end."""

    job: Job
    wait: Wait | None = None


def read_job(body: bytes, form: Form | None = None) -> Document:
    """The job that a document describes; without `form`, what begins with `{` is JSON and the rest YAML.

    Raises:
        TooLarge: it has more than `BODY_MAX` bytes.
        Invalid: what is wrong, by field, and what to do.
    """
    form = _check(body, form)
    quick = _quickly(body) if form == "json" else None
    if quick is not None:
        check_job(quick)
        return Document(quick)
    root = _tree(body, form)
    fields = _Filler(form).fields(Job, root, "", extra={"wait": Wait})
    wait = fields.pop("wait", None)
    if wait is not None:
        check_wait(wait)
    job = Job(**{"name": "", "tasks": (), **fields})
    check_job(job, has_tasks="tasks" in fields)
    return Document(job, wait)


def read_task(body: bytes, form: Form | None = None) -> Job:
    """The job of one task that a bare task's document describes.

    Raises:
        TooLarge: it has more than `BODY_MAX` bytes.
        Invalid: what is wrong, by field, and what to do.
    """
    form = _check(body, form)
    task = Task(**{"name": "", **_Filler(form).fields(Task, _tree(body, form), "")})
    job = Job(name=task.name, tasks=(task,))
    check_job(job)
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
    if len(body) > QUICK_MAX or b"\\u" in body or any(word in body for word in _LATER_WORDS):
        return None
    try:
        job = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if any(task.delay or task.run_at for task in job.tasks):
        return None
    return job if body.count(b'"') == _encoder.encode(job).count(b'"') else None


def _tree(body: bytes, form: Form) -> Node:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"{form}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    root = from_json(text) if form == "json" else from_yaml(text)
    return Node("map", pairs={}) if root.kind == "null" else root


_GO_KINDS = {"map": "object", "seq": "array", "str": "string", "int": "number", "float": "number", "bool": "bool"}
_YAML_TAGS = {"map": "!!map", "seq": "!!seq", "str": "!!str", "int": "!!int", "float": "!!float", "bool": "!!bool"}


@cache
def _fields_of(kind: type[msgspec.Struct]) -> dict[str, tuple[str, Any]]:
    """The fields of a class by the name documents use: attribute and type."""
    hints = get_type_hints(kind)
    return {field.encode_name: (field.name, hints[field.name]) for field in msgspec.structs.fields(kind)}


class _Filler:
    """Fills classes from a tree, gathering all that is wrong before it gives up."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._wrong: list[Problem] = []
        self._later: list[Problem] = []

    def fields(self, kind: type[msgspec.Struct], root: Node, path: str, extra: dict[str, Any] | None = None) -> dict[str, Any]:
        """The attributes that a document sets.

        Raises:
            Invalid: with one line for each thing that is wrong.
        """
        found = self._attributes(kind, root, path, extra or {})
        if self._wrong and self._form == "yaml":
            indented = [replace(problem, text=f"  {problem.text}") for problem in self._wrong]
            raise refused(*indented, *self._later, heading="yaml: unmarshal errors:")
        if self._wrong or self._later:
            raise refused(*self._wrong, *self._later)
        return found

    def _attributes(self, kind: type[msgspec.Struct], node: Node, path: str, extra: dict[str, Any]) -> dict[str, Any]:
        known = {**_fields_of(kind), **{name: (name, hint) for name, hint in extra.items()}}
        known |= {former: known[name] for former, name in ALIASES.get(kind, {}).items()}
        found: dict[str, Any] = {}
        if node.pairs is None:
            self._mismatch(node, path.rstrip(".") or "the document", kind.__name__, "a mapping of fields")
            return found
        for key, pair in node.pairs.items():
            name, place = self._known(key, known), f"{path}{key}"
            if (later := self._known(key, LATER.get(kind, frozenset()))) is not None:
                self._later.append(Problem(f"{path}{later} is not built yet; remove it", place))
            elif name is not None:
                attribute, hint = known[name]
                value = self._value(hint, pair.value, place)
                if attribute in found:
                    self._wrong.append(Problem(f"{place}: is given twice, under another name; remove one", place))
                if value is not None:
                    found[attribute] = value
            else:
                self._unknown(key, kind, place, pair.line, list(known))
        return found

    def _known(self, key: str, names: Any) -> str | None:
        """The field that a key means; JSON's keys match whatever their case."""
        if key in names:
            return key
        if self._form == "json":
            return next((name for name in names if name.lower() == key.lower()), None)
        return None

    def _unknown(self, key: str, kind: type[msgspec.Struct], place: str, line: int, names: list[str]) -> None:
        near = difflib.get_close_matches(key, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(names))}"
        if self._form == "json":
            text = f'json: unknown field "{key}" ({place}: unknown field; {hint})'
        else:
            text = f"line {line}: field {key} not found in type input.{kind.__name__} ({place}: unknown field; {hint})"
        self._wrong.append(Problem(text, place))

    def _mismatch(self, node: Node, place: str, target: str, wanted: str) -> None:
        if self._form == "json":
            text = f"json: cannot unmarshal {_GO_KINDS[node.kind]} into {target} ({place}: write {wanted})"
        else:
            quoted = f" `{node.text[:20]}`" if node.text else ""
            text = f"line {node.line}: cannot unmarshal {_YAML_TAGS[node.kind]}{quoted} into {target} ({place}: write {wanted})"
        self._wrong.append(Problem(text, place, node.line, node.column))

    def _value(self, hint: Any, node: Node, place: str) -> Any:
        """The value of a field; None for a null, which leaves the default."""
        if node.kind == "null":
            return "" if hint is str else None
        arguments = [argument for argument in get_args(hint) if argument is not type(None)]
        if hint is str:
            return self._text(node, place)
        if hint is int:
            return self._integer(node, place)
        if get_origin(hint) is dict:
            return self._texts_by_name(node, place)
        if get_origin(hint) is tuple:
            return self._items(arguments[0], node, place)
        kind = arguments[0] if arguments else hint
        return self._struct(kind, node, place)

    def _struct(self, kind: type[Made], node: Node, place: str) -> Made:
        found = self._attributes(kind, node, f"{place}.", {})
        for field in msgspec.structs.fields(kind):
            if field.required:
                found.setdefault(field.name, 0 if field.type is int else "")
        return kind(**found)

    def _items(self, kind: Any, node: Node, place: str) -> tuple[Any, ...]:
        if node.kind != "seq":
            self._mismatch(node, place, f"[]{kind.__name__}", "a list")
            return ()
        make: Callable[[Node, str], Any] = self._text if kind is str else lambda inner, path: self._item(kind, inner, path)
        return tuple(make(child, f"{place}[{index}]") for index, child in enumerate(node.children))

    def _item(self, kind: type[Made], node: Node, place: str) -> Made:
        return self._struct(kind, Node("map", pairs={}) if node.kind == "null" else node, place)

    def _texts_by_name(self, node: Node, place: str) -> dict[str, str]:
        if node.pairs is None:
            self._mismatch(node, place, "map[string]string", "a mapping of names to texts")
            return {}
        return {self._storable(name, place): self._text(pair.value, f"{place}.{name}") for name, pair in node.pairs.items()}

    def _text(self, node: Node, place: str) -> str:
        if node.kind == "null":
            return ""
        if node.kind in ("map", "seq") or (self._form == "json" and node.kind != "str"):
            self._mismatch(
                node, place, "string" if self._form == "yaml" else "Go struct field of type string", "a text in quotes"
            )
            return ""
        return self._storable(node.text, place)

    def _storable(self, text: str, place: str) -> str:
        if _UNSTORABLE.search(text):
            self._wrong.append(Problem(f"{place}: holds a NUL character or a lone surrogate; remove it", place))
        return text

    def _integer(self, node: Node, place: str) -> int:
        number = None
        if node.kind == "int" or (node.kind == "float" and self._form == "yaml"):
            number = _whole(node)
        if number is None:
            self._mismatch(node, place, "int" if self._form == "yaml" else "Go struct field of type int", "a whole number")
        return number or 0


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
