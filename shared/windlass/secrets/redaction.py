"""Takes secrets out of texts, whole or as they come, in the forms in which programs print them."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus

import msgspec

REDACTED = "[REDACTED]"
SHORTEST = 4
"""Characters of a value that is looked for: one that is shorter, or empty, would be found everywhere."""
CANDIDATES_MAX = 16
"""Places at which the end of a text is tried for the beginning of a secret, before all after the last is held back."""
KEY_WORDS = ("SECRET", "PASSWORD", "ACCESS_KEY")
"""What is called so is not shown, whatever its value."""
NAMED = frozenset({"env", "inputs", "opts", "headers"})
"""Fields whose values have names that may say so."""
WHOLE = frozenset({"definition", "result", "items", "scope"})
"""Fields of events and rows that are kept whole as well, sealed, where they hold a secret; an `error` is only redacted."""
SECRETS, PASSWORD = "secrets", "password"
"""The field whose values are secrets, and that which is one."""

Made = TypeVar("Made", bound=msgspec.Struct)


class Redactor:
    """Replaces some values wherever they stand; in linear time, whatever the text."""

    __slots__ = ("_forms", "values")

    def __init__(self, values: Iterable[str]) -> None:
        self.values = tuple(dict.fromkeys(value for value in values if len(value) >= SHORTEST))
        self._forms = tuple(dict.fromkeys(form for value in self.values for form in _forms(value)))

    def __repr__(self) -> str:
        return f"Redactor({len(self.values)} values)"

    def text(self, text: str) -> str:
        """The text without the values."""
        return _without(text, self._found(text)) if self._forms else text

    def struct(self, value: Made) -> Made:
        """A struct without the values, in whatever it holds; the same object if it held none.

        Each of its `secrets` goes, and each `password`, whatever its value.
        """
        changes = {
            name: new for name in value.__struct_fields__ if (new := self._member(name, old := getattr(value, name))) is not old
        }
        return msgspec.structs.replace(value, **changes) if changes else value

    def _member(self, name: str, value: Any) -> Any:
        if name == SECRETS and isinstance(value, dict):
            return dict.fromkeys(map(self.text, value), REDACTED) if value else value
        if name == PASSWORD and value:
            return REDACTED if value != REDACTED else value
        return self.value(value)

    def value(self, value: Any) -> Any:
        """Plain data, structs, texts or JSON without the values; the same object if it held none."""
        match value:
            case str():
                return self.text(value)
            case msgspec.Struct():
                return self.struct(value)
            case dict():
                found = {self.text(key): self.value(member) for key, member in value.items()}
                return value if found == value else found
            case msgspec.Raw():
                plain = msgspec.json.decode(value)
                shown = self.value(plain)
                return value if shown is plain else msgspec.Raw(msgspec.json.encode(shown))
            case tuple() | list():
                members = [self.value(member) for member in value]
                changed = any(new is not old for new, old in zip(members, value, strict=True))
                return type(value)(members) if changed else value
            case _:
                return value

    def _found(self, text: str) -> list[tuple[int, int]]:
        """Where the values stand: begin and end, in order, without overlap."""
        places = []
        for form in self._forms:
            at = text.find(form)
            while at >= 0:
                places.append((at, at + len(form)))
                at = text.find(form, at + len(form))
        if len(places) < 2:
            return places
        merged: list[tuple[int, int]] = []
        for begin, end in sorted(places):
            if merged and begin < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((begin, end))
        return merged

    def _begun(self, text: str) -> int:
        """Where the end of a text may be the beginning of a value; its length if it is none."""
        return min((_begun(text, form) for form in self._forms), default=len(text))


NOTHING = Redactor(())
"""Finds nothing."""


class Stream:
    """Takes the values of a redactor out of a text that comes in pieces; together it gives what `Redactor.text` would."""

    __slots__ = ("_held", "_redactor")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor, self._held = redactor, ""

    def feed(self, piece: str) -> str:
        """What may be shown by now; the end is held back for as long as it may be the beginning of a value."""
        if not self._redactor.values:
            return piece
        text = self._held + piece
        found = self._redactor._found(text)
        upto = self._redactor._begun(text)
        if (last := next((begin for begin, end in found if begin < upto < end), None)) is not None:
            upto = last
        self._held = text[upto:]
        return _without(text[:upto], [place for place in found if place[1] <= upto])

    def close(self) -> str:
        """What was held back; nothing comes after it."""
        text, self._held = self._held, ""
        return self._redactor.text(text)


def _without(text: str, places: list[tuple[int, int]]) -> str:
    if not places:
        return text
    parts, at = [], 0
    for begin, end in places:
        parts += [text[at:begin], REDACTED]
        at = end
    return "".join((*parts, text[at:]))


def _begun(text: str, form: str) -> int:
    """Where the end of a text may be the beginning of a form; too early at worst, never too late."""
    start = max(0, len(text) - len(form) + 1)
    for _ in range(CANDIDATES_MAX):
        at = text.find(form[:SHORTEST], start)
        if at < 0:
            break
        if form.startswith(text[at:]):
            return at
        start = at + 1
    else:
        return start
    for at in range(max(start, len(text) - SHORTEST + 1), len(text)):
        if form.startswith(text[at:]):
            return at
    return len(text)


def _forms(value: str) -> Iterator[str]:
    """A value as programs write it: as it is, in JSON, in URLs, and in base64, alone or within something longer."""
    yield value
    escaped = json.dumps(value)[1:-1]
    yield escaped
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    for sign in "<>&":  # as Go writes them
        escaped = escaped.replace(sign, f"\\u{ord(sign):04x}")
    yield escaped
    data = value.encode("utf-8", "surrogatepass")
    for quoted in (quote(data, safe=""), quote(data), quote_plus(data)):
        yield quoted
        yield _lower(quoted)
    encoded = base64.b64encode(data).decode()
    for whole in (encoded, encoded.rstrip("=")):
        yield whole
        yield whole.translate(_FOR_URLS)
    for before in range(3):
        # How many bytes precede it decides which bits of it share a character; those of others' characters are left alone.
        whole = base64.b64encode(b"\0" * before + data).decode()
        inner = whole[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
        if len(inner) >= SHORTEST:
            yield inner
            yield inner.translate(_FOR_URLS)


_FOR_URLS = str.maketrans("+/", "-_")


def _lower(quoted: str) -> str:
    head, *rest = quoted.split("%")
    return "%".join((head, *(part[:2].lower() + part[2:] for part in rest)))


def by_name(values: Mapping[str, str]) -> dict[str, str]:
    """Values by name, without those whose name says that they are secret."""
    return {name: REDACTED if any(word in name.upper() for word in KEY_WORDS) else value for name, value in values.items()}


def presentable(value: Made) -> Made:
    """A struct without what the names of its fields and of what is in them say is secret, at whatever depth."""
    changes = {
        name: new
        for name in value.__struct_fields__
        if (old := getattr(value, name)) and (new := _presentable(name, old)) is not old
    }
    return msgspec.structs.replace(value, **changes) if changes else value


def _presentable(name: str, value: Any) -> Any:
    match value:
        case str():
            return REDACTED if name == PASSWORD else value
        case dict():
            if name == SECRETS:
                return dict.fromkeys(value, REDACTED)
            return by_name(value) if name in NAMED else value
        case tuple() if isinstance(value[0], msgspec.Struct):
            return tuple(map(presentable, value))
        case msgspec.Struct():
            return presentable(value)
        case _:
            return value
