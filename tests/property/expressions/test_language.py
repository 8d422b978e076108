"""What holds for every source and every template."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.expressions.fuzz import ENVIRONMENT, Source, run
from tests.property.expressions.printer import outline, printed
from windlass.expressions import CompileError, Limits, evaluate, has_template, render
from windlass.expressions.parser import parse
from windlass.expressions.templates import placeholders

_REFERENCE = re.compile(r"\{\{[\t\n\f\r ]*(.+?)[\t\n\f\r ]*\}\}")
_TEXT = st.text(alphabet="{}ab \t\n\r\f\u00a0é", max_size=40)
_PLAIN = st.text(max_size=40).filter(lambda text: "{" not in text and "}" not in text)


@pytest.mark.parametrize("seed", range(12))
def test_any_source_gives_a_value_or_an_error_of_the_package(seed: int) -> None:
    source = Source(seed)
    values = [run(source.next()) for _ in range(400)]
    assert any(value is not None for value in values)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_an_error(text: str) -> None:
    run(text)


@pytest.mark.parametrize("seed", range(8))
def test_a_tree_printed_and_parsed_is_the_same_tree(seed: int) -> None:
    source = Source(seed + 1000)
    parsed = 0
    for _ in range(250):
        text = source.expression(5)
        try:
            tree, _ = parse(text)
        except CompileError:
            continue
        again, _ = parse(printed(tree), limits=Limits(depth=500))
        assert outline(again) == outline(tree), text
        parsed += 1
    assert parsed > 100


@settings(max_examples=1000, deadline=None)
@given(_TEXT)
def test_placeholders_are_what_the_pattern_of_the_reference_finds(text: str) -> None:
    assert list(placeholders(text)) == [(*match.span(), match[1]) for match in _REFERENCE.finditer(text)]


@settings(max_examples=300, deadline=None)
@given(_PLAIN, _PLAIN, st.integers(-(2**63) + 1, 2**63 - 1))
def test_text_around_placeholders_is_kept(before: str, after: str, number: int) -> None:
    clean = [text.encode(errors="replace").decode() if not text.isprintable() else text for text in (before, after)]
    assert render(f"{clean[0]}{{{{ {number} }}}}{clean[1]}") == f"{clean[0]}{number}{clean[1]}"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60).filter(lambda text: not has_template(text)))
def test_text_without_placeholders_is_itself(text: str) -> None:
    assert render(text) is text


@settings(max_examples=300, deadline=None)
@given(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(-(2**63) + 1, 2**63 - 1), st.sampled_from("+-*"))
def test_integers_wrap_as_64_bits_do(left: int, right: int, operator: str) -> None:
    exact = {"+": left + right, "-": left - right, "*": left * right}[operator]
    wrapped = (exact + 2**63) % 2**64 - 2**63
    assert evaluate(f"({left}) {operator} ({right})") == wrapped
    assert evaluate("item.value[0] " + operator + " item.value[1]", {**ENVIRONMENT, "item": {"value": [left, right]}}) == wrapped


_SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)


def _containers(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.recursive(_SCALARS, _containers, max_leaves=12))
def test_json_written_and_read_is_the_same_value(value: object) -> None:
    assert evaluate("fromJSON(toJSON(x.v)) == x.v", {"x": {"v": value}}) is True
