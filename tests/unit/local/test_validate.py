"""`windlass validate`: every problem of every file, with its place."""

import subprocess
import sys
from pathlib import Path

import pytest

from windlass.documents.reading import FORMER
from windlass.documents.tree import locate
from windlass.documents.yaml_tree import from_yaml

BAD = """\
name: ""
tasks:
  - name: one
    timeout: 10 minutes
    retry:
      limit: 11
  - run: |
      echo
    if: "{{ 1 + }}"
    volumes: [data]
    limits: {cpu: x}
"""


def _validate(*files: str, body: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "windlass.cli", "validate", *files],
        input=body,
        capture_output=True,
        timeout=30,
        check=False,
    )


def test_every_problem_is_shown_with_its_place_and_a_caret(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    done = _validate(str(file))
    lines = done.stdout.decode().splitlines()
    heads = [line.removeprefix(f"{file}:").split(" ")[0] for line in lines if line.startswith(str(file))]
    assert (done.returncode, heads) == (2, ["1:1:", "6:7:", "4:5:", "7:5:", "11:14:", "9:5:", "10:15:"])
    place = next(number for number, line in enumerate(lines) if "'Job.Tasks[0].Retry.Limit'" in line)
    assert lines[place + 1 : place + 3] == ["    6 |       limit: 11", "      |       ^"]


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (b"name: j\ntasks: [{name: t, imge: x}]\n", "-:2:19: line 2: field imge not found"),
        (b'{"name": "j",\n "tasks": [{"name": "t", "priority": "x"}]}', "-:2:"),
        (b'{"name": "j",\n "tasks": ', "-:2:11: json: Expecting value at line 2"),
        (b"name: j\nname: k\n", "-:2:1: yaml: line 2: mapping key 'name' already defined"),
        (b"name: [\n", "-:2:1: yaml: line 2: "),
        (b"", "-: it is empty; a job has a name and tasks"),
        (b"name: \xff\n", "-: yaml: byte 6 is not UTF-8"),
    ],
)
def test_a_document_that_cannot_be_read_says_where(body: bytes, head: str) -> None:
    done = _validate("-", body=body)
    assert done.returncode == 2
    assert done.stdout.decode().startswith(head)


def test_good_files_are_said_to_be_good_and_one_bad_one_decides(tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    good.write_text('{"name":"j","tasks":[{"name":"t","run":"true"}]}')
    assert (_validate(str(good)).returncode, _validate(str(good)).stdout.decode()) == (0, f"{good}: ok\n")
    both = _validate(str(good), str(tmp_path / "none.yaml"))
    assert both.returncode == 2
    assert both.stdout.decode().splitlines()[0] == f"{good}: ok"
    assert "none.yaml: cannot be read: No such file" in both.stdout.decode()


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("", (1, 1)),
        ("tasks", (2, 1)),
        ("Tasks[0].Retry.Limit", (6, 7)),
        ("Tasks[1].Name", (7, 5)),
        ("Tasks[7].Name", (2, 1)),
        ("nothing.at.all", (1, 1)),
        ("Tasks[1].Mounts[0].mount", (10, 15)),
        ("Tasks[1].Limits.CPUs", (11, 14)),
    ],
)
def test_a_path_leads_as_far_as_there_is_something(path: str, place: tuple[int, int]) -> None:
    assert locate(from_yaml(BAD), path, FORMER) == place
