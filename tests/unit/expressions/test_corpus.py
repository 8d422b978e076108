"""The cases whose results the reference library gave, and the runner that reads them."""

import json
from pathlib import Path

import pytest

from tests.support.expr_corpus import main

SUPPORT = Path(__file__).parents[2] / "support"


@pytest.mark.parametrize(
    ("file", "score"),
    [
        ("expr_cases.jsonl", "10150 passed, 0 failed"),
        ("expr_probes.jsonl", "1130 passed, 0 failed"),  # of our own: each sentence of the description, `source` is its section
    ],
)
def test_every_case_of_the_reference_passes(file: str, score: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(SUPPORT / file)]) == 0, capsys.readouterr().out[-3000:]
    assert capsys.readouterr().out.splitlines()[-1] == score


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ({"expr": "1 + 1", "mode": "eval", "expect": 3}, ":1 '1 + 1' want 3 got 2 (int)"),
        ({"expr": "1 + 1", "mode": "eval", "expect": 2.0}, ":1 '1 + 1' want 2.0 got 2 (int)"),
        (
            {"expr": "1 +", "mode": "eval", "error": "no", "phase": "run"},
            "want run error: no got compile error: unexpected token EOF",
        ),
        ({"expr": "1", "mode": "eval", "expect": 1, "text": "2"}, "got text 1"),
        ({"expr": "nope", "mode": "valid", "error": "no", "phase": "compile"}, "got True (bool)"),
        ({"expr": "1", "mode": "sideways", "expect": 1}, "got the unknown mode 'sideways'"),
    ],
)
def test_a_case_that_fails_is_told_and_fails_the_run(
    case: dict[str, object], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(json.dumps(case) + "\n")
    assert main([str(path)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert line in told[0]
    assert told[0].startswith(f"{path}:1 ")
    assert told[-1] == "0 passed, 1 failed"


def test_a_file_without_cases_fails_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text('{"define_env": "e", "env": {}}\n')
    assert main([str(path)]) == 1
    assert capsys.readouterr().out == "0 passed, 0 failed\n"
