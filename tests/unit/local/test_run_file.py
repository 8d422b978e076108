"""What `windlass run` makes of a file and its options, before anything is started."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import windlass
from windlass.documents.reading import BODY_MAX
from windlass.local.run import BadFile, read

JOB = b"name: j\ninputs: {a: '1', b: '2'}\ntasks: [{name: t, run: 'true'}]\n"


def test_inputs_of_the_command_line_go_over_those_of_the_file() -> None:
    assert read("j.yaml", JOB, [("b", "3"), ("c", "4=5"), ("c", "6")]).inputs == {"a": "1", "b": "3", "c": "6"}


def test_json_and_yaml_are_told_apart_by_what_they_are() -> None:
    assert read("j.yaml", b'{"name":"j","tasks":[{"name":"t","run":"true"}]}', []).name == "j"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"name: j\ntasks:\n  - nme: t\n", ["j.yaml: line 3: field nme", "tasks[0].nme", "did you mean 'name'?"]),
        (b'{"name":"j","tasks":[{"name":7}]}', ["j.yaml: json: cannot unmarshal number", "tasks[0].name"]),
        (b"name: j\ntasks: [{name: t, module: m}]\n", ["j.yaml: module tasks are not built yet (tasks[0].module)"]),
        (b"", ["j.yaml: it is empty"]),
        (b"name: \xff\n", ["j.yaml: ", "not UTF-8"]),
        (b"x" * (BODY_MAX + 1), ["j.yaml: a job has at most 500,000 bytes"]),
    ],
)
def test_a_bad_file_is_told_by_name_and_field(body: bytes, words: list[str]) -> None:
    with pytest.raises(BadFile) as refused:
        read("j.yaml", body, [])
    assert [word for word in words if word not in str(refused.value)] == []


def test_every_line_of_a_complaint_names_the_file_and_none_is_a_mere_heading() -> None:
    with pytest.raises(BadFile) as refused:
        read("j.yaml", b"name: j\ntasks:\n  - {name: t, a: 1, b: 2}\n", [])
    lines = str(refused.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("j.yaml: line 3: field ") for line in lines)


def test_the_command_answers_2_without_starting_anything(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: j\ntasks: []\n")
    data = tmp_path / "data"
    for arguments, word in (
        (["bad.yaml"], "bad.yaml: "),
        (["missing.yaml"], "missing.yaml: no such file or directory"),
        ([str(tmp_path)], "is a directory"),
        (["-"], "standard input: it is empty"),
        (["bad.yaml", "--input", "x"], "KEY=VALUE"),
        (["bad.yaml", "--no-such-option"], "--no-such-option"),
        ([], "FILE"),
    ):
        said = subprocess.run(
            [sys.executable, "-P", "-m", "windlass.cli", "run", *arguments, "--data", str(data)],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (said.returncode, said.stdout) == (2, ""), said
        assert word in said.stderr
        assert "Traceback" not in said.stderr
    assert not data.exists()


def test_an_address_that_is_none_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "j.yaml").write_bytes(JOB)
    said = windlass("run", str(tmp_path / "j.yaml"), environ={"WINDLASS_ENDPOINT": "nonsense://x", "WINDLASS_DATA": ""})
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith("windlass run: the API's address is 'nonsense://x'")
    assert len(said.stderr.splitlines()) == 1
