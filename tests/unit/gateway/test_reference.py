"""The page about HTTP tells of every route, and of no other."""

import re
from pathlib import Path
from typing import Any

from windlass.documents.reading import BODY_MAX
from windlass.documents.tree import DEPTH_MAX, NODES_MAX
from windlass.gateway.app import App
from windlass.gateway.openapi import _MEANINGS

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "http.md").read_text()


def described() -> dict[str, Any]:
    """The paths of the description of the API."""
    nothing: Any = None
    parts = dict.fromkeys(("reader", "commands", "bus", "clock", "times"), nothing)
    schema: dict[str, Any] = App(nothing, parts, "0").litestar.openapi_schema.to_schema()
    return dict(schema["paths"])


def test_the_page_tells_of_every_route_and_of_no_other() -> None:
    routes = {f"{method.upper()} {path}" for path, methods in described().items() for method in methods}
    assert set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", PAGE, re.MULTILINE)) == routes


def test_the_page_tells_of_every_status_of_a_submission() -> None:
    statuses = set(described()["/jobs"]["post"]["responses"])
    assert set(re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE)) == statuses


def test_the_page_tells_the_limits() -> None:
    for limit in (BODY_MAX, DEPTH_MAX, NODES_MAX):
        assert f"{limit:,} " in PAGE


def test_each_error_that_a_route_declares_has_its_meaning() -> None:
    declared = {
        int(status) for methods in described().values() for operation in methods.values() for status in operation["responses"]
    }
    assert declared - {200} <= set(_MEANINGS)
