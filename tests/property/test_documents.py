"""Documents, by the thousand: written and read again, on both paths and in both forms; and rubbish, which is refused."""

import json
from typing import Any

import msgspec
import yaml
from hypothesis import given
from hypothesis import strategies as st

from windlass.documents.reading import Form, read_job
from windlass.documents.tree import from_json
from windlass.documents.yaml_tree import from_yaml
from windlass.errors import Invalid
from windlass.messages.jobs import Job, Retry, Task

plain = st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co"), exclude_characters="{}")
texts = st.text(plain, max_size=20)
names = st.text(plain, min_size=1, max_size=20)
words = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)

tasks = st.builds(
    Task,
    name=names,
    description=texts,
    run=st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"), max_size=40),
    image=st.just("") | words,
    cmd=st.lists(texts, max_size=3).map(tuple),
    env=st.dictionaries(words, texts, max_size=3),
    queue=st.just("") | words.map(lambda word: f"q-{word}"),
    priority=st.integers(0, 9),
    var=texts,
    if_=st.sampled_from(["", "false", "true"]),
    timeout=st.sampled_from(["", "1s", "1h30m"]),
    retry=st.none() | st.builds(Retry, limit=st.integers(1, 10)),
    tags=st.lists(texts, max_size=3).map(tuple),
)
jobs = st.builds(
    Job,
    name=names,
    description=texts,
    tags=st.lists(texts, max_size=3).map(tuple),
    inputs=st.dictionaries(texts, texts, max_size=3),
    output=st.sampled_from(["", "done"]),
    tasks=st.lists(tasks, min_size=1, max_size=3).map(tuple),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(jobs)
def test_a_job_written_as_json_is_read_back(job: Job) -> None:
    assert read_job(msgspec.json.encode(job), "json").job == job


@given(jobs)
def test_the_slow_way_reads_what_the_fast_one_reads(job: Job) -> None:
    whole = json.dumps(msgspec.json.decode(msgspec.json.encode(job)) | {"description": job.description, "wait": None})
    assert read_job(whole.encode(), "json").job == job


@given(jobs)
def test_a_job_written_as_yaml_is_read_back(job: Job) -> None:
    text = yaml.safe_dump(msgspec.to_builtins(job), allow_unicode=True)
    assert read_job(text.encode(), "yaml").job == job


@given(jobs, st.data())
def test_a_key_twice_is_never_overlooked(job: Job, data: st.DataObject) -> None:
    text = msgspec.json.encode(job).decode()
    key = data.draw(st.sampled_from(["name", "tasks"]))
    value = json.dumps(msgspec.to_builtins(job)[key])
    try:
        read_job(f'{{"{key}":{value},{text[1:]}'.encode(), "json")
    except Invalid as error:
        assert "appears twice" in str(error)  # noqa: PT017 whichever of the two it is
    else:
        raise AssertionError("taken")


@given(st.binary(max_size=200), st.sampled_from(["json", "yaml", None]))
def test_rubbish_is_refused_and_never_crashes(body: bytes, form: Any) -> None:
    try:
        read_job(body, form)
    except Invalid as error:
        assert str(error)  # noqa: PT017 taken or refused, both are answers


@given(st.text(st.sampled_from("{}[]:,-&*!|>'\"#%@`? \nabc01<"), max_size=60))
def test_what_looks_like_yaml_is_read_or_refused(text: str) -> None:
    try:
        from_yaml(text)
    except Invalid as error:
        assert str(error)  # noqa: PT017 taken or refused, both are answers


@given(values)
def test_both_forms_make_the_same_tree(value: Any) -> None:
    def outline(node: Any) -> Any:
        if node.pairs is not None:
            return {key: outline(pair.value) for key, pair in node.pairs.items()}
        return [outline(child) for child in node.children] if node.kind == "seq" else node.kind

    written = json.dumps({"v": value})
    assert outline(from_json(written)) == outline(from_yaml(yaml.safe_dump(json.loads(written), allow_unicode=False)))


@given(values, values)
def test_any_values_in_the_place_of_fields_are_refused_with_a_reason(name: Any, task: Any) -> None:
    body = json.dumps({"name": name, "tasks": [task]}).encode()
    forms: tuple[Form, ...] = ("json", "yaml")
    for form in forms:
        try:
            read_job(body, form)
        except Invalid as error:
            assert str(error)  # noqa: PT017 taken or refused, both are answers
