"""What errors tell: the message, the place, the source."""

import pickle

import pytest

from windlass.expressions import CompileError, ExpressionError, RunError, StringMap, evaluate, render
from windlass.expressions import compile as compiled


def error_of(source: str, **environment: object) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        evaluate(source, environment)
    return caught.value


def test_an_error_prints_with_its_place_and_a_caret() -> None:
    error = error_of("nope")
    assert isinstance(error, CompileError)
    assert str(error) == "unknown name nope (1:1)\n | nope\n | ^"


def test_the_place_is_in_code_points_and_lines() -> None:
    error = error_of('"é☕" +\n\t("a" +\t1)')
    assert (error.line, error.column) == (2, 7)
    assert error.excerpt == ' |  ("a" + 1)\n | ......^'


def test_an_empty_source_has_no_excerpt() -> None:
    assert str(error_of("")) == "unexpected token EOF"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("1 + true", "invalid operation: + (mismatched types int and bool) (1:3)"),
        ("x.v.a.b", "cannot fetch b from <nil> (1:7)"),
        ("x.v.b[5]", "index out of range: 5 (array length is 1) (1:6)"),
        ("[1, 2].foo", "array elements can only be selected using an integer (got string) (1:8)"),
        ("not x.v.b", "interface conversion: interface {} is []interface {}, not bool (1:1)"),
        ("len(1)", "invalid argument for len (type int) (1:1)"),
        ("upper(1)", "cannot use int as argument (type string) to call upper  (1:7)"),
        ("5 % 0", "integer divide by zero (1:3)"),
        ("x.v.n % 0", "runtime error: integer divide by zero (1:7)"),
        ('"abc', "literal not terminated (1:1)"),
        ("1 ? 2 : 3", "non-bool expression (type int) used as condition (1:1)"),
        ("1 2", 'unexpected token Number("2") (1:3)'),
        ("(1", "unexpected token EOF (1:3)"),
    ],
)
def test_messages_are_worded_as_the_reference_words_them(source: str, text: str) -> None:
    assert str(error_of(source, x={"v": {"a": None, "b": [1], "n": 1}})).splitlines()[0] == text


def test_errors_know_when_they_were_made() -> None:
    assert isinstance(error_of("1 + x", x="a"), CompileError)
    assert isinstance(error_of("1 + x.v", x={"v": "a"}), RunError)


def test_an_error_travels_between_processes() -> None:
    error = error_of("1 + x.v", x={"v": "a"})
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is RunError
    assert str(copy) == str(error)


def test_a_template_fails_with_its_first_failing_expression() -> None:
    inputs = {"inputs": StringMap({"n": "x"})}
    with pytest.raises(RunError, match="int"):
        render("{{ inputs.n }} {{ int(inputs.n) }} {{ ( }}", inputs)


def test_compiling_alone_finds_what_no_environment_can_mend() -> None:
    assert compiled("inputs.n + 1").source == "inputs.n + 1"
    with pytest.raises(CompileError, match="mismatched types"):
        compiled("inputs.n + 1", {"inputs": StringMap()})
    with pytest.raises(CompileError, match="mismatched types"):
        compiled('1 + "a"')
