"""What an expression may cost, and what it can reach."""

import pytest

from tests.property.expressions.costly import MEMORY_MIB, measure
from windlass.expressions import QUICK, CompileError, ExpressionError, Limits, StringMap, check, evaluate, render

DOUBLING = "let a = repeat('x', 900000); let b = a + a; let c = b + b; let d = c + c; let e = d + d; let f = e + e; f + f"


def budget_of(source: str, limits: Limits | None = None) -> str | None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(source, {"inputs": StringMap({"n": "5"})}, limits or Limits())
    return caught.value.budget


def test_what_the_reference_allows_passes() -> None:
    assert evaluate("len(1..999999)") == 999_999
    assert evaluate("count(1..999999, # % 2 == 0)") == 499_999
    assert evaluate("len(map(1..499999, # * 2))") == 499_999
    assert evaluate("+".join(["1"] * 5000)) == 5000
    assert evaluate(" or ".join(["1 == 2"] * 1500 + ["true"])) is True


@pytest.mark.parametrize(
    ("source", "budget"),
    [
        ("1..1000000", "cells"),
        ("repeat('ab', 500000)", "cells"),
        ("+".join(["1"] * 5001), "nodes"),
        ("(" * 200 + "1" + ")" * 200, "depth"),
        ("x" * 70_000, "source"),
        ("[" + "-" * 300 + "1]", "depth"),
        ("map(1..900, map(1..900, map(1..900, #)))", "cells"),
        ("let a = 1..900000; count(a, any(a, # == 0))", "steps"),
        (DOUBLING, "text"),
        ("let a = 1..1000; let b = map(1..1000, a); let c = map(1..1000, b); string(c)", "steps"),
        ("let a = 1..1000; let b = map(1..1000, a); let c = map(1..1000, b); toJSON(c)", "steps"),
        ("let a = 1..1000; let b = map(1..1000, a); let c = map(1..1000, b); c == map(1..1000, b)", "steps"),
        ("let a = 1..1000; let b = map(1..1000, a); let c = map(1..1000, b); flatten(c)", "steps"),
        ("let a = 1..1000; let b = map(1..1000, a); let c = map(1..1000, b); max(c)", "steps"),
        ("let a = repeat('x', 90000); map(1..1000, a)", "text"),
        ("let a = repeat('ab', 300000); map(1..3000, replace(a, 'a', 'b'))", "steps"),
        ("fromJSON(repeat('[', 100000) + repeat(']', 100000))", "depth"),
        ("uniq(map(1..100000, [#]))", "steps"),
        ("count(1..900000, 'a' matches string(#))", "steps"),
        ("repeat('ab', 400000) matches 'a[ab]{900}c'", "steps"),
        ("[" + ", ".join(f"'a' matches '[\\\\pL]{{50}}{n}'" for n in range(100)) + "]", "steps"),
    ],
)
def test_what_would_cost_too_much_is_an_error_that_names_the_budget(source: str, budget: str) -> None:
    assert budget_of(source) == budget


@pytest.mark.parametrize("name", ["groups again", "slices", "letters", "read numbers", "large patterns", "classes"])
def test_what_costs_most_stays_within_its_memory(name: str) -> None:
    _, memory, _ = measure(name)
    assert memory < MEMORY_MIB


def test_comparisons_within_comparisons_do_not_explode() -> None:
    source = "1"
    for _ in range(28):
        source = f"(0 < ({source}) < 5 ? 1 : 2)"
    assert budget_of(source) == "steps"


def test_a_costly_expression_can_be_told_early_and_run_under_wider_limits() -> None:
    source = "sum(1..100000, # * 2)"
    assert budget_of(source, QUICK) == "cells"
    assert budget_of("sum(1..40000, # * 2)", QUICK) == "steps"
    assert evaluate(source) == 10_000_100_000


def test_all_expressions_of_a_template_draw_on_the_same_limits() -> None:
    one = "{{ sum(1..4000, # + 0) }}"
    assert render(one, {}, QUICK)
    with pytest.raises(ExpressionError) as caught:
        render(one * 20, {}, QUICK)
    assert caught.value.budget == "steps"


def test_a_template_cannot_grow_without_bound() -> None:
    big = {"inputs": StringMap({"big": "x" * 1_000_000})}
    with pytest.raises(ExpressionError) as caught:
        render("{{ inputs.big }}" * 100, big)
    assert caught.value.budget == "text"


@pytest.mark.parametrize(
    "source",
    [
        '"".__class__',
        "x.v.__class__",
        "x.__class__",
        "x.v.s.__class__.__mro__",
        "x.keys()",
        'x["__init__"].__globals__',
        "$env.__class__",
        "x.v.d.__init__",
        "x.v.s.format(1)",
        'date("2024-01-01").ns',
        "len.__self__",
        "__import__('os')",
        "x.v.l.append(1)",
        "now.__code__",
    ],
)
def test_no_attribute_of_a_python_object_is_reachable(source: str) -> None:
    environment = {"x": {"v": {"s": "text", "d": {}, "l": []}}}
    try:
        found = evaluate(source, environment)
    except ExpressionError:
        return
    assert found is None
    assert environment == {"x": {"v": {"s": "text", "d": {}, "l": []}}}


def test_the_scanner_is_linear_in_texts_made_against_it() -> None:
    openings = (
        "{{" * 200_000,
        "{{ a" * 100_000 + "\nb }}",
        "{{a" + " {{a" * 100_000 + "\nb" + " " * 100_000 + "}}",
        "{{\n" * 100_000,
    )
    for text in openings:
        assert render(text) == text


def test_a_check_believes_in_patterns_that_it_cannot_afford() -> None:
    bad, dear = r"""'a' matches '\\pL{1001}'""", r"""'a' matches '[\\pL]{80}'"""
    check(dear)
    for source in (bad, dear):
        check(source, Limits(steps=100))
    for source, limits in ((bad, Limits()), ("'a' matches '('", Limits(steps=100)), ("1 + true", Limits(steps=0))):
        with pytest.raises(CompileError):
            check(source, limits)
