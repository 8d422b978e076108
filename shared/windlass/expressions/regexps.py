"""Regular expressions: RE2, so that matching is linear in the text."""

import re
from functools import lru_cache
from typing import Any

import re2

from windlass.expressions.errors import ExpressionError
from windlass.expressions.values import to_bytes, well_formed

_LONGEST = 1000
_ONE_BYTE = re.compile(r"(?<!\\)(?:\\\\)*\\C")  # RE2 in C++ knows it, the one in Go does not
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 21  # keeps the worst pattern to some fifty milliseconds


@lru_cache(maxsize=128)
def _compiled(text: str) -> Any:  # re2 has no types
    return re2.compile(to_bytes(text), _OPTIONS)


def pattern(text: str, position: int | None, error: type[ExpressionError]) -> Any:
    """The compiled pattern; raises `error` for one that is wrong or too large."""
    try:
        if len(text) > _LONGEST:
            raise error(f"error parsing regexp: longer than {_LONGEST} characters", position)
        if _ONE_BYTE.search(text):
            raise error(f"error parsing regexp: invalid escape sequence: `\\C`: `{text}`", position)
        return _compiled(text)
    except re2.error as problem:
        detail = problem.args[0] if problem.args else ""
        reason = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
        raise error(f"error parsing regexp: {reason}: `{text}`", position) from None


def cost(compiled: Any) -> int:
    """Steps that compiling this pattern is worth: half a microsecond an instruction, kept or not."""
    return 2 * int(compiled.programsize)


def match_cost(compiled: Any, length: int) -> int:
    """Steps that a match is worth at worst, when RE2 has to go through all its instructions for each character."""
    return 1 + (length * int(compiled.programsize) >> 6)


def found(compiled: Any, text: str | bytes) -> bool:
    """Whether the pattern matches anywhere. A byte that is not UTF-8 counts as one U+FFFD."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return compiled.search(well_formed(text).encode()) is not None
