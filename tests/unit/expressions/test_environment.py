"""What the engine gives to expressions, and what it gets back."""

import math
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from windlass.expressions import (
    CompileError,
    Environment,
    RunError,
    StringMap,
    Time,
    Value,
    check,
    evaluate,
    evaluate_field,
    expression_of,
    has_template,
    plain,
    render,
    render_bytes,
)
from windlass.expressions import compile as compiled
from windlass.expressions.tork import hook_environment, job_environment

NOW = datetime(2024, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)


def job(item: tuple[str, int, Value] | None = None) -> Environment:
    return job_environment(
        inputs={"n": "5", "uni": "naïve"},
        secrets=None,
        tasks=None,
        job={"id": "1", "name": "nightly"},
        below=lambda bound: bound - 1,
        now=lambda: NOW,
        item=item,
    )


def test_a_table_that_is_absent_is_nil_and_still_reads_as_texts() -> None:
    assert evaluate("[tasks == nil, tasks ?? 1, tasks.x, len(tasks), inputs.x]", job()) == [True, 1, "", 0, ""]
    assert render("{{ tasks }}", job()) == "map[]"


def test_the_loop_variable_has_its_index_as_a_text() -> None:
    assert evaluate("[row.index, row.value.w]", job(("row", 3, {"w": 7}))) == ["3", 7]


def test_a_loop_variable_may_hide_a_builtin() -> None:
    environment = job(("filter", 0, "v"))
    assert evaluate("filter.value", environment) == "v"
    assert evaluate("::filter(1..3, # > 1)", environment) == [2, 3]
    with pytest.raises(CompileError, match="not callable"):
        evaluate("filter(filter.value)", environment)


def test_chance_comes_from_the_caller() -> None:
    assert evaluate("[randomInt(), randomInt(7)]", job()) == [2**63 - 1, 6]
    for source in ("randomInt(0)", "randomInt(nil)", 'randomInt("a")', "randomInt(1.5)", "randomInt(1, 2)"):
        with pytest.raises(RunError):
            evaluate(source, job())


def test_sequences_are_bounded_and_take_integers_only() -> None:
    assert evaluate("sequence(2, 5)", job()) == [2, 3, 4]
    assert evaluate("sequence(5, 2)", job()) == []
    with pytest.raises(RunError):
        evaluate("sequence(0, 9000000000)", job())
    with pytest.raises(RunError):
        evaluate('sequence(0, fromJSON("2"))', job())
    with pytest.raises(CompileError):
        evaluate("sequence(0, 2.0)", job())


def test_the_clock_comes_from_the_caller() -> None:
    assert evaluate("now()", job()) == Time.of(NOW)
    assert evaluate('now().Format("15:04:05.000")', job()) == "12:30:15.250"
    with pytest.raises(RunError, match="clock"):
        evaluate("now()", {})


def test_one_program_serves_environments_of_any_shape() -> None:
    program = compiled("x + x")
    assert [program.run({"x": value}) for value in (2, "a", 1.5, 2)] == [4, "aa", 3.0, 4]
    with pytest.raises(CompileError):
        program.run({"x": True})
    with pytest.raises(CompileError, match="unknown name x"):
        program.run({})


def test_a_value_of_no_kind_is_refused_by_name() -> None:
    with pytest.raises(CompileError, match="x: a Decimal is no value"):
        evaluate("x + 1", {"x": Decimal(1)})


def test_webhooks_see_records_with_the_members_of_the_table_only() -> None:
    environment = hook_environment(
        {"State": "COMPLETED", "Progress": 75.5, "CreatedAt": Time.of(NOW)}, {"ID": "t"}, lambda bound: 0
    )
    assert evaluate_field('{{ job.State == "COMPLETED" and job.Progress > 50 }}', environment) is True
    assert evaluate("[job.Error, job.FailedAt, task.ID, job.CreatedAt.Year()]", environment) == ["", None, "t", 2024]
    for source in ("job.state", "job.nope", "inputs.n"):
        with pytest.raises(CompileError):
            evaluate(source, environment)
    with pytest.raises(TypeError, match="has no member state"):
        hook_environment({"state": "x"}, None, lambda bound: 0)


def test_a_field_is_its_first_placeholder_or_all_of_it() -> None:
    assert evaluate_field("prefix {{ [1] }} {{ 2 }}", {}) == [1]
    assert evaluate_field("1..3", {}) == [1, 2, 3]
    assert expression_of("a {{ b }} c") == "b"
    assert has_template("a {{ b") is True
    assert has_template("a { b }") is False


def test_the_check_at_submit_time_knows_no_names() -> None:
    for source in ("", "hello", "inputs.n + 1", "f(1) | g()", "a {{ x }} b"):
        check(source)
    for source in ("hello world", "5 % 0", "{{ }}", "len(1)", '"a" + 1'):
        with pytest.raises(CompileError):
            check(source)


def test_bytes_that_are_no_text_are_replaced_in_templates() -> None:
    assert render("{{ inputs.uni[0:3] }}", job()) == "na\ufffd"
    assert render_bytes("{{ inputs.uni[0:3] }}{{ inputs.uni[3:] }}", job()) == "naïve"


def test_plain_values_fit_any_encoder() -> None:
    value = evaluate('[date("2024-02-29"), duration("1s"), inputs, 1.0, 1, inputs.uni[2:3], tasks, toPairs({a: nil})]', job())
    assert plain(value) == ["2024-02-29T00:00:00Z", 10**9, {"n": "5", "uni": "naïve"}, 1.0, 1, "\ufffd", {}, [["a", None]]]
    assert [type(item) for item in plain(value)[3:5]] == [float, int]
    for source in ("groupBy([1], #)", 'float("nan")', "[1/0]"):
        with pytest.raises(RunError):
            plain(evaluate(source))


def test_keys_of_groups_keep_their_type() -> None:
    groups = evaluate('groupBy([1, 1.0, "1", true, nil, 1], #)')
    assert [(key, len(items)) for key, items in groups.items()] == [(1, 2), (1.0, 1), ("1", 1), (True, 1), (None, 1)]
    assert len(evaluate('groupBy([float("nan"), float("nan")], #)')) == 2


def test_powers_are_those_of_the_reference_to_the_last_digit() -> None:
    assert [evaluate(f"{power}") for power in ("9 ** 1.5", "2.5 ** 1.5", "2 ** 0.5", "2 ** -1", "10 ** 3")] == [
        27.000000000000004,
        3.9528470752104745,
        math.sqrt(2),
        0.5,
        1000.0,
    ]


def test_an_input_with_braces_is_not_evaluated_again() -> None:
    assert render("{{ inputs.t }}", {"inputs": StringMap({"t": "{{ 1 + 1 }}"})}) == "{{ 1 + 1 }}"
