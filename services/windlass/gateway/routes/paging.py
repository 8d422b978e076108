"""Pages, as Tork counts them: from 1, clamped, wrong numbers answered with 404."""

import re
from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from windlass.errors import NotFound
from windlass.eventlog.read import LogRow
from windlass.gateway.shapes import LogPage, log_part

_NUMBER = re.compile(r"[+-]?[0-9]{1,12}")


class Page(NamedTuple):
    """Which page is asked for, and of which size."""

    number: int
    size: int

    @property
    def offset(self) -> int:
        """Rows before it."""
        return (self.number - 1) * self.size

    def pages(self, items: int) -> int:
        """How many pages some items make."""
        return ceil(items / self.size)


def log_page(asked: Page, rows: Sequence[LogRow], total: int) -> LogPage:
    """A page of output, of `total` parts."""
    return LogPage(
        items=[log_part(row) for row in rows],
        number=asked.number,
        size=len(rows),
        total_pages=asked.pages(total),
        total_items=total,
    )


def read_page(page: str | None, size: str | None, usual: int, most: int) -> Page:
    """The page that a query asks for.

    Raises:
        NotFound: a number is none.
    """
    number = _number(page, 1, "page number")
    return Page(max(number, 1), min(max(_number(size, usual, "size"), 1), most))


def _number(text: str | None, usual: int, what: str) -> int:
    if text is None or text == "":
        return usual
    if not _NUMBER.fullmatch(text):
        raise NotFound(f"invalid {what}: {text[:100]}")
    return int(text)
