"""Finding the `{{ … }}` in a text: one pass, linear in its length."""

import re
import sys
from collections.abc import Iterator

_BLANK = "\t\n\f\r "
_NEVER = sys.maxsize  # further than any text is long
_NOT_BLANK = re.compile(r"[^\t\n\f\r ]")


def placeholders(text: str) -> Iterator[tuple[int, int, str]]:
    """Where each begins and ends, and the expression inside.

    The expression is the shortest that is not empty, on one line, without the blanks around it; blanks may span lines. An
    opening that has no such end is plain text. `}}` and the line break after a place are looked for once, not per opening.
    """
    close = line_break = end = -1
    at = text.find("{{")
    while at >= 0:
        match = _NOT_BLANK.search(text, at + 2)
        if match is None:
            return
        first = match.start()
        if close < first + 1:
            close = text.find("}}", first + 1)
            if close < 0:
                close = _NEVER
            end = len(text[first:close].rstrip(_BLANK)) + first
        if line_break < first:
            line_break = text.find("\n", first)
            if line_break < 0:
                line_break = len(text)
        if close < _NEVER and line_break >= end:
            yield at, close + 2, text[first:end]
            at = text.find("{{", close + 2)
            continue
        if text.startswith("}}", first):
            blank = next((place for place in range(first - 1, at + 1, -1) if text[place] != "\n"), None)
            if blank is not None:  # nothing but blanks: one of them is the expression
                yield at, first + 2, text[blank]
                at = text.find("{{", first + 2)
                continue
        at = text.find("{{", at + 1)


def has_template(text: str) -> bool:
    """Whether rendering may change the text; false without a look at the expressions."""
    return "{{" in text


def expression_of(text: str) -> str:
    """The one expression that a field holds: the first placeholder's, or the whole text if there is none."""
    if "{{" in text:
        for _, _, inside in placeholders(text):
            return inside
    return text
