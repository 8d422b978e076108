"""The page for people who write jobs: its examples run, its list of functions is the table's."""

import re
from pathlib import Path

import pytest

from windlass.expressions import ExpressionError, Value, evaluate, render
from windlass.expressions.reference import renewed
from windlass.expressions.tork import job_environment

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "expressions.md"
ENVIRONMENT = job_environment(
    inputs={"name": "demo", "count": "5"},
    secrets={},
    tasks={"build": "ok"},
    job={"id": "1", "name": "nightly"},
    below=lambda bound: 0,
)
_EXAMPLE = re.compile(r"^(?P<source>\S.*?) +→ (?P<result>.+)$", re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    blocks = re.findall(r"```expr\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [(match["source"], match["result"]) for block in blocks for match in _EXAMPLE.finditer(block)]


def run(source: str) -> Value:
    return render(source, ENVIRONMENT) if source.startswith("{{") else evaluate(source, ENVIRONMENT)


@pytest.mark.parametrize(("source", "result"), examples())
def test_an_example_gives_what_the_page_says(source: str, result: str) -> None:
    if result == "error":
        with pytest.raises(ExpressionError):
            run(source)
        return
    wanted, got = evaluate(result), run(source)
    assert (wanted, type(wanted) is float) == (got, type(got) is float)


def test_every_line_of_the_examples_is_one() -> None:
    blocks = re.findall(r"```expr\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples()) == sum(len(block.splitlines()) for block in blocks) > 40


def test_the_list_of_functions_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert renewed(text) == text, "run: python -m windlass.expressions.reference docs/reference/expressions.md"
