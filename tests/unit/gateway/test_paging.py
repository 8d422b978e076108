"""Pages, as Tork counts them."""

import pytest

from windlass.errors import NotFound
from windlass.gateway.routes.paging import Page, read_page


@pytest.mark.parametrize(
    ("page", "size", "expected"),
    [
        (None, None, Page(1, 10)),
        ("", "", Page(1, 10)),
        ("3", "5", Page(3, 5)),
        ("0", "0", Page(1, 1)),
        ("-7", "-7", Page(1, 1)),
        ("2", "21", Page(2, 20)),
    ],
)
def test_numbers_are_clamped(page: str | None, size: str | None, expected: Page) -> None:
    assert read_page(page, size, 10, 20) == expected


@pytest.mark.parametrize("text", ["x", "1.5", " 1", "1_0", "٣", "9" * 30])
def test_what_is_no_number_is_not_found(text: str) -> None:
    with pytest.raises(NotFound, match="invalid page number: "):
        read_page(text, None, 10, 20)
    with pytest.raises(NotFound, match="invalid size: "):
        read_page(None, text, 10, 20)


def test_offsets_and_pages() -> None:
    assert Page(3, 20).offset == 40
    assert [Page(1, 20).pages(items) for items in (0, 1, 20, 21)] == [0, 1, 1, 2]
