"""What `windlass run` makes of a file and its options, before anything is started."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import windlass
from windlass.documents.reading import BODY_MAX
from windlass.documents.tree import LINES_MAX
from windlass.local.jobfile import BadFile, job_of

JOB = b"name: j\ninputs: {a: '1', b: '2'}\ntasks: [{name: t, run: 'true'}]\n"


def test_json_and_yaml_are_told_apart_by_the_name_or_by_what_they_are() -> None:
    for name in ("j.json", "j.yaml", "job", "standard input"):
        assert job_of(name, b'{"name":"j","tasks":[{"name":"t","run":"true"}]}').name == "j"
    assert job_of("j.yml", b"{name: j, tasks: [{name: t, run: 'true'}]}").name == "j"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"name: j\ntasks:\n  - nme: t\n", ["j.yaml:3:5: line 3: field nme", "tasks[0].nme", "did you mean 'name'?"]),
        (b'{"name":"j","tasks":[{"name":[]}]}', ["j.yaml:1:30: line 1: cannot unmarshal !!seq", "tasks[0].name"]),
        (b"name: j\ntasks: [{name: t, module: m}]\n", ["j.yaml:2:19: module tasks are not built yet (tasks[0].module)"]),
        (b"", ["j.yaml: it is empty"]),
        (b"name: \xff\n", ["j.yaml: ", "not UTF-8"]),
        (b"x" * (BODY_MAX + 1), ["j.yaml: a job has at most 500,000 bytes"]),
    ],
)
def test_a_bad_file_is_told_by_name_and_field(body: bytes, words: list[str]) -> None:
    with pytest.raises(BadFile) as refused:
        job_of("j.yaml", body)
    assert [word for word in words if word not in str(refused.value)] == []


def test_each_complaint_names_the_file_and_its_place_and_none_is_a_mere_heading() -> None:
    with pytest.raises(BadFile) as refused:
        job_of("j.yaml", b"name: j\ntasks:\n  - {name: t, a: 1, b: 2}\n")
    lines = str(refused.value).splitlines()
    assert [line.split(" ")[0] for line in lines[::3]] == ["j.yaml:3:15:", "j.yaml:3:21:"]
    assert lines[1:3] == ["    3 |   - {name: t, a: 1, b: 2}", "      |               ^"]


@pytest.mark.parametrize("body", [b"x" * 400_000 + b": 1\n", b"".join(b"key%d: 1\n" % number for number in range(30_000))])
def test_complaints_do_not_grow_with_the_file(body: bytes) -> None:
    with pytest.raises(BadFile) as refused:
        job_of("j.yaml", b"name: j\ntasks: []\n" + body)
    assert len(str(refused.value)) < 100_000


def test_what_is_not_shown_is_counted() -> None:
    with pytest.raises(BadFile) as refused:
        job_of("j.yaml", b"name: j\n" + b"".join(b"key%d: 1\n" % number for number in range(LINES_MAX + 7)))
    assert str(refused.value).endswith("j.yaml: … and 7 more")


def test_the_command_answers_2_without_starting_anything(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: j\ntasks: []\n")
    data = tmp_path / "data"
    for arguments, word in (
        (["bad.yaml"], "bad.yaml:2:1: Key: 'Job.Tasks' Error"),
        (["bad.yaml"], "    2 | tasks: []\n      | ^\n"),
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
