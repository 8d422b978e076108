"""Static types: what the check knows of a value before it exists.

Types are interned, so `is` compares them. The name is the one that messages show.
"""

from collections.abc import Mapping
from typing import Any

from windlass.expressions import values
from windlass.expressions.moments import Duration, Location, Month, Time, Weekday
from windlass.expressions.values import Function, Struct


class Type:
    """One static type. `kind` is the family; `elem` and `key` are what arrays and maps hold."""

    __slots__ = ("_array", "elem", "integer", "key", "kind", "members", "name", "number")

    def __init__(
        self,
        kind: str,
        name: str,
        elem: "Type | None" = None,
        key: "Type | None" = None,
        members: "Mapping[str, Type] | None" = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.elem = elem
        self.key = key
        self.members = members or {}
        self.integer = kind == "int"
        self.number = kind in ("int", "float")
        self._array: Type | None = None

    @property
    def array(self) -> "Type":
        """The type of a general array that happens to hold only these."""
        if self._array is None:
            self._array = Type("array", "[]interface {}", elem=self)
        return self._array

    @property
    def is_open(self) -> bool:
        """Whether values of any type may stand here."""
        return self.kind == "unknown"

    def __repr__(self) -> str:
        return self.name


NIL = Type("nil", "unknown")
UNKNOWN = Type("unknown", "unknown")  # nothing is known
ANY = Type("unknown", "interface {}")  # declared to hold anything, so that anything may be assigned to it
BOOL = Type("bool", "bool")
INT = Type("int", "int")
INT64 = Type("int", "int64")
UINT8 = Type("int", "uint8")
FLOAT = Type("float", "float64")
STRING = Type("string", "string")
BYTES = Type("bytes", "[]uint8", elem=UINT8)
TIME = Type("time", "time.Time")
DURATION = Type("duration", "time.Duration")
LOCATION = Type("location", "*time.Location")
MONTH = Type("month", "time.Month")
WEEKDAY = Type("weekday", "time.Weekday")
FUNCTION = Type("func", "func")
ANY_ARRAY = ANY.array
INTS = Type("array", "[]int", elem=INT)
FLOATS = Type("array", "[]float64", elem=FLOAT)
STRINGS = Type("array", "[]string", elem=STRING)
ANY_MAP = Type("map", "map[string]interface {}", elem=ANY, key=STRING)
STRING_MAP = Type("map", "map[string]string", elem=STRING, key=STRING)
KEYED_MAP = Type("map", "map[interface {}]interface {}", elem=ANY, key=ANY)
GROUP_MAP = Type("map", "map[interface {}][]interface {}", elem=ANY_ARRAY, key=ANY)
PAIR = Type("array", "[2]interface {}", elem=ANY)
PAIRS = Type("array", "[][2]interface {}", elem=PAIR)

CLASSES: dict[type, Type] = {
    type(None): NIL,
    bool: BOOL,
    int: INT,
    values.Int8: Type("int", "int8"),
    values.Int16: Type("int", "int16"),
    values.Int32: Type("int", "int32"),
    values.Int64: INT64,
    values.Uint: Type("int", "uint"),
    values.Uint8: UINT8,
    values.Uint16: Type("int", "uint16"),
    values.Uint32: Type("int", "uint32"),
    values.Uint64: Type("int", "uint64"),
    float: FLOAT,
    values.Float32: Type("float", "float32"),
    str: STRING,
    bytes: BYTES,
    list: ANY_ARRAY,
    values.AbsentArray: ANY_ARRAY,
    values.IntArray: INTS,
    values.FloatArray: FLOATS,
    values.StringArray: STRINGS,
    values.AbsentStringArray: STRINGS,
    values.Pair: PAIR,
    values.PairArray: PAIRS,
    dict: ANY_MAP,
    values.StringMap: STRING_MAP,
    values.AbsentStringMap: STRING_MAP,
    values.KeyedMap: KEYED_MAP,
    values.GroupMap: GROUP_MAP,
    Time: TIME,
    Duration: DURATION,
    Location: LOCATION,
    Month: MONTH,
    Weekday: WEEKDAY,
}


def assignable(value: Type, to: Type) -> bool:
    """Whether a value of the one type may stand where the other is declared."""
    return value is to or to is ANY or (value.name == to.name and value.kind == to.kind in ("array", "map"))


def comparable(left: Type, right: Type) -> bool:
    """Whether `==` between these can make sense."""
    if left.kind in ("unknown", "nil") or right.kind in ("unknown", "nil"):
        return True
    if left.number and right.number:
        return True
    return left.kind == right.kind == "array" or assignable(left, right)


def type_of(cls: type) -> Type:
    """The static type of the values of a Python class; subclasses count as what they derive from.

    Raises `TypeError` for classes that are no values of the language.
    """
    known = CLASSES.get(cls)
    if known is not None:
        return known
    if issubclass(cls, Struct):
        return Type("struct", cls.__name__, members=cls.members)  # type: ignore[arg-type]  # struct() put types there
    if issubclass(cls, Function):
        return FUNCTION
    for base in cls.__mro__:
        if base in CLASSES:
            return CLASSES[base]
    raise TypeError(f"a {cls.__name__} is no value of the expression language; convert it first")


def name_of(value: Any) -> str:
    """The name of a value's type, for messages."""
    if value is None:
        return "<nil>"
    try:
        return type_of(type(value)).name
    except TypeError:
        return type(value).__name__


_ZEROS: dict[Type, Any] = {
    BOOL: False,
    INT: 0,
    FLOAT: 0.0,
    STRING: "",
    STRINGS: values.AbsentStringArray(),
    STRING_MAP: values.AbsentStringMap(),
}


def struct(name: str, members: Mapping[str, Type]) -> type[Struct]:
    """A class of structs with these members and no others, to be made from a mapping of names to values.

    A member left out, or None, reads as the zero of its type, which for a time is nil.
    """
    zeros = {member: _ZEROS[kind] for member, kind in members.items() if kind in _ZEROS}
    made = type(name, (Struct,), {"__slots__": (), "members": dict(members), "zeros": zeros})
    CLASSES[made] = Type("struct", name, members=members)
    return made
