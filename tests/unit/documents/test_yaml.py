"""Documents in YAML: scalars keep their text, limits hold while reading."""

from itertools import pairwise

import pytest

from windlass.documents.reading import read_job
from windlass.documents.yaml_tree import from_yaml
from windlass.errors import Invalid
from windlass.messages.jobs import Job, Retry, Task


def refusal(text: str | bytes) -> str:
    """Why a document is refused."""
    with pytest.raises(Invalid) as refused:
        read_job(text.encode() if isinstance(text, str) else text, "yaml")
    return str(refused.value)


def test_scalars_keep_their_text_in_fields_of_text() -> None:
    inputs = "{n: 5, f: .5, flag: true, d: 2024-01-01, m: 10m, o: 0o17, e: ~, q: 'null'}"
    text = f"name: 2024-01-01\ninputs: {inputs}\ntasks: [{{name: 1e3}}]"
    assert read_job(text.encode()).job == Job(
        name="2024-01-01",
        inputs={"n": "5", "f": ".5", "flag": "true", "d": "2024-01-01", "m": "10m", "o": "0o17", "e": "", "q": "null"},
        tasks=(Task(name="1e3"),),
    )


def test_a_script_keeps_its_lines() -> None:
    assert read_job(b"---\nname: j\ntasks:\n  - name: t\n    run: |\n      a\n      b\n").job.tasks[0].run == "a\nb\n"


@pytest.mark.parametrize(
    ("text", "expected"), [("3", 3), ("2.9", 2), ("0x7", 7), ("010", 8), ("0o7", 7), ("0b11", 3), ("1_0", 10), ("~", 0)]
)
def test_a_whole_number_may_be_written_in_many_ways(text: str, expected: int) -> None:
    body = f"name: j\ntasks: [{{name: t, retry: {{limit: 1}}, priority: {text}}}]"
    if expected > 9:
        assert "'max' tag" in refusal(body)
    else:
        assert read_job(body.encode()).job.tasks[0].priority == expected


@pytest.mark.parametrize("text", ["'3'", "abc", ".inf", ".nan", "1e30", "true", "99999999999999999999", "[1]"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    assert "into int (tasks[0].priority: write a whole number)" in refusal(f"name: j\ntasks: [{{name: t, priority: {text}}}]")


def test_several_problems_are_told_at_once_with_their_lines() -> None:
    assert refusal("name: j\ntasks:\n- name: t\n  imge: 5\n  cmd: {a: b}\nstate: x\n").splitlines()[:3] == [
        "yaml: unmarshal errors:",
        "  line 4: field imge not found in type input.Task (tasks[0].imge: unknown field; did you mean 'image'?)",
        "  line 5: cannot unmarshal !!map into []str (tasks[0].cmd: write a list)",
    ]


def test_anchors_aliases_and_merges_work() -> None:
    text = """
name: j
tasks:
  - &first {name: a, retry: &again {limit: 2}, env: &env {A: "1", B: "2"}}
  - <<: *first
    name: b
    env: {<<: *env, B: "3"}
  - {name: c, retry: *again}
"""
    assert read_job(text.encode()).job.tasks == (
        Task(name="a", retry=Retry(limit=2), env={"A": "1", "B": "2"}),
        Task(name="b", retry=Retry(limit=2), env={"B": "3", "A": "1"}),
        Task(name="c", retry=Retry(limit=2)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b", "yaml: line 2: mapping key 'name' already defined at line 1"),
        ("name: a\n---\nname: b", "yaml: line 2: a second document begins; send one at a time"),
        ("name: *x", "yaml: line 1: *x has no anchor &x before it"),
        ("name: &x [*x]", "yaml: line 1: *x has no anchor &x before it"),
        ("name: !!python/object:os.system ls", "yaml: line 1: tag 'tag:yaml.org,2002:python/object:os.system' is not known"),
        ("name: !mine a", "yaml: line 1: tag '!mine' is not known; write plain values"),
        ("name: !!binary aGk=", "yaml: line 1: tag 'tag:yaml.org,2002:binary' is not known; write plain values"),
        ("name: !!int x", "yaml: line 1: 'x' is no int"),
        ("{[a]: b}", "yaml: line 1: a key is a plain text, not a list or a mapping"),
        ("<<: 5", "yaml: line 1: << merges mappings only"),
        ("name: 'a", "yaml: line 1: found unexpected end of stream"),
        ("hello", "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str `hello` into Job (the document: write a mapping"),
        ("# nothing", "EOF"),
        ('name: "a\\0"\ntasks: [{name: t}]', "yaml: unmarshal errors:\n  name: holds a NUL character"),
    ],
)
def test_what_is_refused_is_named_with_its_line(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_bytes_that_are_not_utf8_are_refused() -> None:
    assert refusal(b"name: \xff") == "yaml: byte 6 is not UTF-8; save the file as UTF-8"


def test_control_characters_are_refused() -> None:
    assert refusal("name: a\x01").startswith("yaml: ")


@pytest.mark.parametrize("text", ["[" * 200_000, "a: " + "[" * 70, "- " * 100_000, "? " * 100_000])
def test_deep_nesting_is_refused(text: str) -> None:
    assert refusal(text)


TEN = "[" + ",".join(["*{0}"] * 10) + "]"
MANY = "x: &a {" + ",".join(f"k{i}: 1" for i in range(20_000)) + "}\n"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1]\n" + "".join(f"{b}: &{b} {TEN.format(a)}\n" for a, b in pairwise("abcdefghi")),
        MANY + "y:\n" + "- <<: *a\n" * 20_000,
        MANY + "y: {<<: [" + "*a," * 20_000 + "]}",
    ],
)
def test_aliases_that_multiply_are_counted_and_not_followed(text: str) -> None:
    assert "100,000" in refusal(text)


def test_a_chain_of_aliases_is_as_deep_as_what_it_names() -> None:
    chain = "x0: &x0 [1]\n" + "".join(f"x{i}: &x{i} [*x{i - 1}]\n" for i in range(1, 80))
    with pytest.raises(Invalid, match="nested deeper than 64"):
        from_yaml(chain)
