"""The list of functions in `docs/reference/expressions.md`: `python -m windlass.expressions.reference FILE` writes it anew."""

import sys
from pathlib import Path

from windlass.expressions.builtins import arrays, dates, numbers, predicates, strings

START, END = "<!-- functions: generated -->\n", "<!-- end of functions -->\n"

_SECTIONS = (
    ("With a predicate", predicates.TABLE),
    ("Arrays and maps", arrays.TABLE),
    ("Text", strings.TABLE),
    ("Numbers and types", numbers.TABLE),
    ("Dates", dates.TABLE),
)


def function_list() -> str:
    """The functions by theme, in Markdown."""
    parts = []
    for title, table in _SECTIONS:
        rows = [f"| `{builtin.usage}` | {builtin.about} |\n" for builtin in table]
        parts.append(f"### {title}\n\n| call | gives |\n| --- | --- |\n{''.join(rows)}\n")
    return "\n" + "".join(parts)


def renewed(page: str) -> str:
    """The page with the list as it is now between the two marks."""
    before, rest = page.split(START)
    return before + START + function_list() + END + rest.split(END)[1]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(renewed(target.read_text()))
