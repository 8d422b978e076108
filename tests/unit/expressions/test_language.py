"""Corners of the language that the files of cases do not reach."""

import pytest

from windlass.expressions import AbsentStringMap, CompileError, Duration, IntArray, RunError, Value, evaluate

ENVIRONMENT: dict[str, Value] = {
    "v": {"i": 7, "n": None, "m": {"k": "v"}, "a": [1], "e": {}, "full": {"x": True}, "d": Duration(1)},
    "l": [3],
    "si": IntArray([3, 1]),
    "gone": AbsentStringMap(),
    "b": True,
}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("[gone.a, gone?.a]", ["", None]),
        ("[v.e | map(#), v.e | sum(), v.e | count(), v.e | all(# > 1)]", [[], 0, 0, True]),
        ("count(v.full, true)", 1),
        ('[{t: gone}.t contains "a", "a" startsWith {t: gone}.t, {t: gone}.t matches "a"]', [False, False, False]),
        ("[get(v.d, v.n), get(v.d, v.i)]", [None, None]),
        ('median(3, 1, float("nan"))', 1.0),
        ("(b ? [1] : l)[0]", 1),
        (r'"\\C" matches "\\Q\\C"', True),
    ],
)
def test_what_looks_wrong_and_is_right(source: str, value: Value) -> None:
    assert evaluate(source, ENVIRONMENT) == value


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("join(sortBy(si, #), ',')", CompileError),  # sorting keeps what is known of the elements
        ("[v.m.k, nil][0].a", CompileError),
        ("(b ? [1] : l)[0] + 'x'", RunError),  # and a choice between arrays does not
        ("v.n?.f(len(v.i))", RunError),  # arguments come first, also where a chain stops
        ("max([duration('1h')])", RunError),
        ("map(v.full, #)", RunError),
        ("reduce(v.e, #acc)", RunError),
        ("get($env, 'a' > 1)", CompileError),
        (r'"a" matches "\\C"', CompileError),
    ],
)
def test_what_looks_right_and_is_wrong(source: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        evaluate(source, ENVIRONMENT)
