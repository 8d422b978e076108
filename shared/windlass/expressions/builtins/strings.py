"""Strings, and what turns other things into them and back."""

import base64
import binascii
from collections.abc import Callable

from windlass.expressions.builtins.signature import Builtin, anything, typed
from windlass.expressions.errors import RunError
from windlass.expressions.jsontext import from_json, to_json
from windlass.expressions.limits import Frame, grow, spend, write
from windlass.expressions.operations import converted, whole
from windlass.expressions.text import text
from windlass.expressions.types import ANY, BOOL, INT, STRING, STRINGS
from windlass.expressions.values import AbsentStringArray, StringArray, Value, from_bytes, joined, to_bytes, well_formed

_BLANKS = "".join(
    map(chr, (*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000))
)


def _string(frame: Frame, value: Value) -> str:
    if not isinstance(value, str):
        raise converted(value, "string")
    spend(frame, len(value) >> 4)
    return value


def trim(frame: Frame, value: Value, characters: Value = _BLANKS) -> Value:
    return _string(frame, value).strip(_string(frame, characters))


def trim_prefix(frame: Frame, value: Value, prefix: Value = " ") -> Value:
    return _string(frame, value).removeprefix(_string(frame, prefix))


def trim_suffix(frame: Frame, value: Value, suffix: Value = " ") -> Value:
    return _string(frame, value).removesuffix(_string(frame, suffix))


def upper(frame: Frame, value: Value) -> Value:
    value = _string(frame, value)
    write(frame, len(value))
    if value.isascii():
        return value.upper()
    spend(frame, len(value))
    return "".join(map(_upper, well_formed(value)))


def _upper(character: str) -> str:
    """One character for one: where the full mapping has more, the one for titles may be single."""
    mapped = character.upper()
    if len(mapped) > 1:
        mapped = character.title()
    return mapped if len(mapped) == 1 else character


def lower(frame: Frame, value: Value) -> Value:
    value = _string(frame, value)
    write(frame, len(value))
    if value.isascii():
        return value.lower()
    spend(frame, len(value))
    return "".join(character.lower()[0] for character in well_formed(value))


def split(frame: Frame, value: Value, separator: Value, most: Value = -1) -> Value:
    return _split(frame, _string(frame, value), _string(frame, separator), whole(most), keep=False)


def split_after(frame: Frame, value: Value, separator: Value, most: Value = -1) -> Value:
    return _split(frame, _string(frame, value), _string(frame, separator), whole(most), keep=True)


def _split(frame: Frame, value: str, separator: str, most: int, keep: bool) -> Value:
    write(frame, len(value))
    if most == 0:
        return AbsentStringArray()
    if separator:
        spend(frame, 4 * value.count(separator))
        parts = value.split(separator, most - 1 if most > 0 else -1)
        return StringArray([part + separator for part in parts[:-1]] + parts[-1:] if keep else parts)
    spend(frame, 4 * len(value))
    if 0 < most < len(value):
        return StringArray([*value[: most - 1], value[most - 1 :]])
    return StringArray(value)


def replace(frame: Frame, value: Value, old: Value, new: Value, most: Value = -1) -> Value:
    value, old, new = _string(frame, value), _string(frame, old), _string(frame, new)
    times = value.count(old)
    if whole(most) >= 0:
        times = min(times, whole(most))
    write(frame, len(value) + times * max(len(new) - len(old), 0))
    spend(frame, times)
    return joined(value.replace(old, new, times))


def repeat(frame: Frame, value: Value, times: Value) -> Value:
    value = _string(frame, value)
    times = whole(times)
    if times < 0:
        raise RunError(f"invalid argument for repeat (expected positive integer, got {times})")
    size = len(to_bytes(value)) * times
    if times > 1_000_000:
        raise RunError("memory budget exceeded", budget="cells")
    grow(frame, size)
    write(frame, size)
    return joined(value * times)


def _offset(find: Callable[[bytes, bytes], int]) -> Callable[[Frame, Value, Value], Value]:
    def offset(frame: Frame, value: Value, part: Value) -> Value:
        return find(to_bytes(_string(frame, value)), to_bytes(_string(frame, part)))

    return offset


def has_prefix(frame: Frame, value: Value, prefix: Value) -> Value:
    return _string(frame, value).startswith(_string(frame, prefix))


def has_suffix(frame: Frame, value: Value, suffix: Value) -> Value:
    return _string(frame, value).endswith(_string(frame, suffix))


def to_base64(frame: Frame, value: Value) -> Value:
    value = _string(frame, value)
    write(frame, len(value) * 2)
    return base64.b64encode(to_bytes(value)).decode()


def from_base64(frame: Frame, value: Value) -> Value:
    value = _string(frame, value)
    write(frame, len(value))
    packed = value.replace("\r", "").replace("\n", "")
    try:
        if len(packed) % 4:
            raise binascii.Error("incorrect padding")
        return from_bytes(base64.b64decode(packed, validate=True))
    except ValueError as problem:
        raise RunError(f"illegal base64 data: {problem}") from None


def from_json_(frame: Frame, value: Value) -> Value:
    return from_json(frame, _string(frame, value))


TABLE = (
    Builtin(
        "trim",
        "trim(text[, characters])",
        "without blanks, or those characters, at both ends",
        typed(STRING, STRING, STRING, least=1),
        trim,
    ),
    Builtin(
        "trimPrefix",
        "trimPrefix(text[, prefix])",
        "without the prefix, a space if not given",
        typed(STRING, STRING, STRING, least=1),
        trim_prefix,
    ),
    Builtin(
        "trimSuffix",
        "trimSuffix(text[, suffix])",
        "without the suffix, a space if not given",
        typed(STRING, STRING, STRING, least=1),
        trim_suffix,
    ),
    Builtin("upper", "upper(text)", "in capitals", typed(STRING, STRING), upper),
    Builtin("lower", "lower(text)", "in small letters", typed(STRING, STRING), lower),
    Builtin(
        "split",
        "split(text, separator[, n])",
        "the pieces between separators, at most n",
        typed(STRINGS, STRING, STRING, INT, least=2),
        split,
    ),
    Builtin(
        "splitAfter",
        "splitAfter(text, separator[, n])",
        "the same, each with its separator",
        typed(STRINGS, STRING, STRING, INT, least=2),
        split_after,
    ),
    Builtin(
        "replace",
        "replace(text, old, new[, n])",
        "with new for old, at most n times",
        typed(STRING, STRING, STRING, STRING, INT, least=3),
        replace,
    ),
    Builtin("repeat", "repeat(text, n)", "the text n times", typed(STRING, STRING, INT), repeat),
    Builtin(
        "indexOf",
        "indexOf(text, part)",
        "where it first occurs, in bytes, or -1",
        typed(INT, STRING, STRING),
        _offset(bytes.find),
    ),
    Builtin(
        "lastIndexOf",
        "lastIndexOf(text, part)",
        "where it last occurs, in bytes, or -1",
        typed(INT, STRING, STRING),
        _offset(bytes.rfind),
    ),
    Builtin("hasPrefix", "hasPrefix(text, prefix)", "whether it starts so", typed(BOOL, STRING, STRING), has_prefix),
    Builtin("hasSuffix", "hasSuffix(text, suffix)", "whether it ends so", typed(BOOL, STRING, STRING), has_suffix),
    Builtin("string", "string(value)", "its text, as in a template", anything(STRING), text),
    Builtin("toJSON", "toJSON(value)", "its JSON text", anything(STRING), to_json),
    Builtin("fromJSON", "fromJSON(text)", "the value of a JSON text; its numbers are floats", typed(ANY, STRING), from_json_),
    Builtin("toBase64", "toBase64(text)", "its bytes in base64", typed(STRING, STRING), to_base64),
    Builtin("fromBase64", "fromBase64(text)", "the text that was so encoded", typed(STRING, STRING), from_base64),
)
