"""The values of the language that plain Python data cannot tell apart, and what is asked of any value.

None, bool, int, float, str, bytes, list and dict stand for themselves. A class below says more: the width of a number, the
element type of an array or map, or that an array or map is absent, which is nil to `==` and `??` but still an array or map.
A string may hold bytes that are not UTF-8; they are kept as the surrogates of Python's `surrogateescape`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

Value = Any  # any value of the language: its kind is known only when it is looked at


class Sized(int):
    """An integer of a width other than the usual; arithmetic makes a plain int of it."""

    __slots__ = ()
    bits: ClassVar = 64
    signed: ClassVar = True


class Int8(Sized):
    __slots__ = ()
    bits = 8


class Int16(Sized):
    __slots__ = ()
    bits = 16


class Int32(Sized):
    __slots__ = ()
    bits = 32


class Int64(Sized):
    __slots__ = ()


class Uint(Sized):
    __slots__ = ()
    signed = False


class Uint8(Sized):
    __slots__ = ()
    bits = 8
    signed = False


class Uint16(Sized):
    __slots__ = ()
    bits = 16
    signed = False


class Uint32(Sized):
    __slots__ = ()
    bits = 32
    signed = False


class Uint64(Sized):
    __slots__ = ()
    signed = False


class Float32(float):
    """A number of single precision: it prints with fewer digits."""

    __slots__ = ()


class IntArray(list[int]):
    """Integers only: a range, or the result of `sequence`."""

    __slots__ = ()


class StringArray(list[str]):
    """Strings only: the result of `split`."""

    __slots__ = ()


class FloatArray(list[float]):
    """Floats only."""

    __slots__ = ()


class Pair(list[Value]):
    """A key and its value."""

    __slots__ = ()


class PairArray(list[Pair]):
    """The result of `toPairs`."""

    __slots__ = ()


class AbsentArray(list[Value]):
    """No array at all; always empty."""

    __slots__ = ()


class AbsentStringArray(StringArray):
    """No array of strings at all; always empty."""

    __slots__ = ()


class StringMap(dict[str, str]):
    """Strings by name; a missing key reads as the empty string. Tork's inputs, secrets, tasks and job are such."""

    __slots__ = ()


class AbsentStringMap(StringMap):
    """No table at all: it is nil, yet reads like an empty one."""

    __slots__ = ()


class KeyedMap:
    """A map with keys of any kind, the result of `fromPairs`. Keys of different types are different keys."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[tuple[Value, Value]] = ()) -> None:
        self._entries: dict[object, tuple[Value, Value]] = {}
        for key, value in entries:
            self.put(key, value)

    @staticmethod
    def _token(key: Value) -> object:
        if type(key) is str:
            return key
        return (type(key), key) if key == key else object()

    def put(self, key: Value, value: Value) -> None:
        token = self._token(key)
        kept = self._entries.get(token)
        self._entries[token] = (kept[0] if kept else key, value)

    def get(self, key: Value, missing: Value) -> Value:
        kept = self._entries.get(self._token(key))
        return kept[1] if kept else missing

    def items(self) -> Iterator[tuple[Value, Value]]:
        return iter(self._entries.values())

    def __contains__(self, key: Value) -> bool:
        return self._token(key) in self._entries

    def __len__(self) -> int:
        return len(self._entries)


class GroupMap(KeyedMap):
    """Arrays by a key of any kind, the result of `groupBy`; a missing key reads as an absent array."""

    __slots__ = ()

    def collect(self, key: Value, item: Value) -> None:
        """Put an item at the end of its key's array."""
        token = self._token(key)
        kept = self._entries.get(token)
        if kept is None:
            self._entries[token] = (key, [item])
        else:
            kept[1].append(item)


class Struct:
    """A value with a fixed set of members, made from a table. Subclasses are made by `types.struct`."""

    __slots__ = ("_values",)
    members: ClassVar[Mapping[str, object]] = {}
    zeros: ClassVar[Mapping[str, Value]] = {}

    def __init__(self, values: Mapping[str, Value]) -> None:
        if unknown := values.keys() - self.members.keys():
            raise TypeError(f"{type(self).__name__} has no member {sorted(unknown)[0]}; it has {', '.join(self.members)}")
        self._values = dict(values)

    def member(self, name: str) -> Value:
        """The value of a member that the table has; one not given is the zero of its type."""
        value = self._values.get(name)
        return self.zeros.get(name) if value is None else value

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Struct) and other._values == self._values

    __hash__ = None  # type: ignore[assignment]  # mutable parts may be inside


class Function:
    """Something to call. Subclasses say what they take, for the check; one instance a behaviour.

    `parameters` are static types, the last one repeated when `variadic`; None accepts anything unchecked.
    """

    __slots__ = ()
    parameters: ClassVar[tuple[object, ...]] = ()
    variadic: ClassVar[bool] = False
    result: ClassVar[object] = None

    def call(self, frame: list[Any], arguments: list[Value]) -> Value:
        """Raise `RunError` for arguments that will not do; the frame is there to pay from."""
        raise NotImplementedError


class Environment(dict[str, Value]):
    """The names that an expression knows, and the clock behind `now()`; without one, `now()` is an error."""

    __slots__ = ("now",)

    def __init__(self, values: Mapping[str, Value], now: Callable[[], datetime] | None = None) -> None:
        super().__init__(values)
        self.now = now


ABSENT = frozenset({type(None), AbsentArray, AbsentStringArray, AbsentStringMap})
"""Classes whose values equal nil."""


def to_bytes(text: str) -> bytes:
    """The bytes of a string, whatever it holds."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate that came from outside
        return text.encode("utf-8", "surrogatepass")


def from_bytes(data: bytes) -> str:
    """The string with these bytes."""
    return data.decode("utf-8", "surrogateescape")


def joined(text: str) -> str:
    """A string glued from parts: parts of a character that have come together become that character."""
    return text if text.isascii() else from_bytes(to_bytes(text))


def well_formed(text: str) -> str:
    """The string with every byte that is not UTF-8 replaced by U+FFFD, fit for any encoder."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text


MIN_INT, MAX_INT = -(2**63), 2**63 - 1


def wrap(number: int) -> int:
    """The integer as 64 bits hold it."""
    return (number + 2**63 & 2**64 - 1) - 2**63
