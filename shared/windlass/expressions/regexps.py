"""Regular expressions: RE2, so that matching is linear in the text.

A compiled pattern may take megabytes, so programs hold the text of theirs only: all share one bounded store.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import re2

from windlass.expressions.errors import ExpressionError
from windlass.expressions.values import to_bytes, well_formed

_LONGEST = 1000
_KEPT_MAX, _KEPT_SIZE_MAX = 128, 400_000
_ESCAPED = re.compile(r"\\Q.*?(?:\\E|\Z)|\\[^QC]", re.DOTALL)
_REPEATED = re.compile(r"\{[0-9]")
_CHARACTER_COST, _CLASS_COST, _REPEAT_COST = 5, 500, 5_000
"""Steps to read a character; a class such as `\\pL`, of hundreds of ranges; and whatever is repeated by count."""
_LARGE_COST = 240_000
"""Steps for a program of the largest size: sixty milliseconds."""


def _options(memory: int) -> Any:  # re2 has no types
    options = re2.Options()
    options.log_errors = False
    options.max_mem = memory
    return options


_SIZES = ((_options(1 << 18), 0), (_options(1 << 21), _LARGE_COST))
"""The memory for nearly all patterns, and the most for any, with what a try costs beforehand."""


class Pattern(NamedTuple):
    """A pattern ready to match. `size` counts its instructions."""

    regexp: Any
    size: int

    def cost(self, length: int) -> int:
        """Steps that a match is worth at worst, when RE2 has to go through all its instructions for each character."""
        return 1 + (length * self.size >> 6)

    def found(self, text: str | bytes) -> bool:
        """Whether the pattern matches anywhere. A byte that is not UTF-8 counts as one U+FFFD."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "surrogateescape")
        return self.regexp.search(well_formed(text).encode()) is not None


_kept: dict[str, Pattern] = {}


def pattern(text: str, pay: Callable[[int], None], error: type[ExpressionError], position: int | None = None) -> Pattern:
    """The pattern of this text, compiled unless it is at hand.

    `pay` takes the steps that compiling is worth, half a microsecond an instruction, and raises when they are more than
    there are; the dear ones are paid for beforehand. Raises `error` for a pattern that is wrong or too large.
    """
    made = _kept.get(text)
    if made is None:
        made = _compiled(text, pay, error, position)
        if len(_kept) >= _KEPT_MAX or sum(each.size for each in list(_kept.values())) > _KEPT_SIZE_MAX:
            _kept.clear()
        _kept[text] = made
    return made


def _compiled(text: str, pay: Callable[[int], None], error: type[ExpressionError], position: int | None) -> Pattern:
    if len(text) > _LONGEST:
        raise error(f"error parsing regexp: longer than {_LONGEST} characters", position)
    if "\\C" in _ESCAPED.sub("", text):  # RE2 in C++ knows it, the one in Go does not
        raise error(f"error parsing regexp: invalid escape sequence: `\\C`: `{text}`", position)
    classes, repeats = text.count("\\p") + text.count("\\P"), _REPEATED.search(text) is not None
    pay(_CHARACTER_COST * len(text) + _CLASS_COST * classes + _REPEAT_COST * repeats)
    reason = ""
    for options, price in _SIZES:
        pay(price)
        try:
            regexp = re2.compile(to_bytes(text), options)
        except re2.error as problem:
            detail = problem.args[0] if problem.args else ""
            reason = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
            if "too large" not in reason:
                break
        else:
            size = int(regexp.programsize)
            if not price:
                pay(2 * size)
            return Pattern(regexp, size)
        finally:
            re2.purge()  # its own store is not bounded by size
    raise error(f"error parsing regexp: {reason}: `{text}`", position)
