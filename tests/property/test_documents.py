"""Documents, by the thousand: written and read again, on both paths and in both forms; and rubbish, which is refused."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from windlass.documents.reading import Form, decode_job, read_job
from windlass.documents.tree import from_json
from windlass.documents.validation import check_job
from windlass.documents.yaml_tree import from_yaml
from windlass.errors import Invalid
from windlass.expressions import evaluate_field, plain
from windlass.messages.jobs import (
    AutoDelete,
    AuxTask,
    Defaults,
    Each,
    Job,
    Limits,
    Mount,
    Parallel,
    Permission,
    Probe,
    Registry,
    Retry,
    SidecarTask,
    SubJob,
    Task,
    Webhook,
)

EASY = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
Made = TypeVar("Made", bound=msgspec.Struct)

letters = st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co"), exclude_characters="{}")
texts = st.text(letters, max_size=20)
names = st.text(letters, min_size=1, max_size=20)
words = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)

texts_by_name = st.dictionaries(words, texts, max_size=3)
durations = st.sampled_from(["", "1s", "1h30m"])
scripts = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"), max_size=40)
lists = st.lists(texts, max_size=3).map(tuple)
conditions = st.sampled_from(["", "false", "true"])


@st.composite
def some(draw: st.DrawFn, kind: type[Made], required: Mapping[str, Any], optional: Mapping[str, Any]) -> Made:
    """One with all required fields and a few of the others."""
    chosen = draw(st.lists(st.sampled_from(sorted(optional)), max_size=4, unique=True))
    strategies = {**required, **{name: optional[name] for name in chosen}}
    return kind(**{name: draw(strategy) for name, strategy in strategies.items()})


def one(kind: type[Made], required: Mapping[str, Any], optional: Mapping[str, Any]) -> st.SearchStrategy[tuple[Made, ...]]:
    """A list of one such thing."""
    return st.tuples(some(kind, required, optional))


NAME = {"name": names}
REASONS = st.sampled_from(["timeout", "lost", "1", "255"])
RETRY = {"delay": st.just("2s"), "scaling_factor": st.integers(0, 10), "on": st.lists(REASONS, max_size=2).map(tuple)}
PROGRAM: dict[str, Any] = {
    "description": texts,
    "run": scripts,
    "image": words,
    "cmd": lists,
    "entrypoint": lists,
    "env": texts_by_name,
    "files": st.dictionaries(words.map(lambda word: f"d/{word}"), scripts, max_size=2),
    "registry": some(Registry, {}, {"username": texts, "password": texts}),
    "timeout": durations,
}
RUNNING: dict[str, Any] = {
    "retry": some(Retry, {"limit": st.integers(1, 10)}, RETRY),
    "limits": some(Limits, {}, {"cpus": st.just("1/2"), "memory": st.just("10m")}),
    "timeout": durations,
    "queue": words.map(lambda word: f"q-{word}"),
    "priority": st.integers(0, 9),
}
PROBE = {"path": words.map(lambda word: f"/{word}"), "port": st.integers(1, 65535)}
WEBHOOK = {"headers": st.dictionaries(words, texts, max_size=1), "event": texts, "if_": conditions}
EITHER: dict[str, Any] = {
    "var": texts,
    "if_": conditions,
    "tags": lists,
    "priority": st.integers(0, 9),
    "on_error": st.sampled_from(["fail", "continue", "ignore"]),
    "delay": st.just("5s"),
}
WITHIN: dict[str, Any] = {
    "description": texts,
    "secrets": texts_by_name,
    "auto_delete": some(AutoDelete, {}, {"after": durations}),
    "webhooks": one(Webhook, {"url": st.just("https://a.example/")}, WEBHOOK),
}
simple = some(
    Task,
    NAME,
    {
        **PROGRAM,
        **RUNNING,
        **EITHER,
        "workdir": texts,
        "mounts": one(Mount, {"type": st.just("volume"), "target": st.just("/data")}, {"opts": st.just({})}),
        "networks": st.tuples(words),
        "pre": one(AuxTask, NAME, PROGRAM),
        "post": one(AuxTask, NAME, {**PROGRAM, "always": st.booleans()}),
        "sidecars": one(SidecarTask, NAME, {**PROGRAM, "probe": some(Probe, PROBE, {"timeout": durations})}),
        "gpus": st.sampled_from(["all", "device=0,1"]),
    },
)


def composites(tasks: st.SearchStrategy[Task]) -> st.SearchStrategy[Task]:
    """Tasks that have these within."""
    inner = {"tasks": st.lists(tasks, min_size=1, max_size=2).map(tuple)}
    least = {"min_success": st.integers(0, 1)}
    listed = {"list": st.sampled_from(["[1, 2]", "{{ sequence(1, 5) }}", '{"a": nil}']), "task": tasks}
    subjob = {**WITHIN, "inputs": texts_by_name, "output": texts, "detached": st.booleans()}
    return st.one_of(
        some(Task, {**NAME, "parallel": some(Parallel, inner, least)}, EITHER),
        some(Task, {**NAME, "each": some(Each, listed, {**least, "var": words, "concurrency": st.integers(0, 99_999)})}, EITHER),
        some(Task, {**NAME, "subjob": some(SubJob, {**NAME, **inner}, subjob)}, EITHER),
    )


tasks = st.recursive(simple, composites, max_leaves=4)
jobs = some(
    Job,
    {**NAME, "tasks": st.lists(tasks, min_size=1, max_size=2).map(tuple)},
    {
        **WITHIN,
        "tags": lists,
        "inputs": st.dictionaries(texts, texts, max_size=3),
        "output": st.just("done"),
        "defaults": some(Defaults, {}, RUNNING),
        "permissions": one(Permission, {"user": names}, {"role": st.just("")}),
        "run_at": st.just("2026-03-01T12:00:00Z"),
    },
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def complaints(job: Job) -> list[str]:
    """What is wrong with a job, other than that something is not built yet."""
    try:
        check_job(job)
    except Invalid as error:
        return [line for line in str(error).splitlines() if "is not built yet" not in line]
    return []


@EASY
@given(jobs)
def test_a_job_within_the_rules_is_taken(job: Job) -> None:
    assert complaints(job) == []


@EASY
@given(jobs)
def test_a_job_written_as_json_is_read_back_in_both_ways(job: Job) -> None:
    written = msgspec.json.encode(job)
    assert decode_job(written, "json").job == job
    assert decode_job(written[:-1] + b',"wait":null}', "json").job == job


@EASY
@given(jobs)
def test_a_job_written_as_yaml_is_read_back(job: Job) -> None:
    text = yaml.safe_dump(msgspec.to_builtins(job), allow_unicode=True)
    assert decode_job(text.encode(), "yaml").job == job


@EASY
@given(jobs, st.data())
def test_a_key_twice_is_never_overlooked(job: Job, data: st.DataObject) -> None:
    text = msgspec.json.encode(job).decode()
    key = data.draw(st.sampled_from(["name", "tasks"]))
    value = json.dumps(msgspec.to_builtins(job)[key])
    try:
        decode_job(f'{{"{key}":{value},{text[1:]}'.encode(), "json")
    except Invalid as error:
        assert "appears twice" in str(error)  # noqa: PT017 whichever of the two it is
    else:
        raise AssertionError("taken")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to everything in a document."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*path, key)
        yield from places(inner, (*path, key))


@EASY
@given(jobs, values, st.data())
def test_whatever_stands_in_the_place_of_something_is_taken_as_it_is_or_refused(
    job: Job, value: Any, data: st.DataObject
) -> None:
    document = json.loads(msgspec.json.encode(job))
    *way, last = data.draw(st.sampled_from(list(places(document))))
    inner = document
    for key in way:
        inner = inner[key]
    inner[last] = value
    for form, body in (("json", json.dumps(document)), ("yaml", yaml.safe_dump(document, allow_unicode=True))):
        try:
            found = decode_job(body.encode(), form)  # type: ignore[arg-type]  # one of the two
            check_job(found.job, found.absent)
        except Invalid as error:
            assert str(error)  # noqa: PT017 taken or refused, both are answers
            continue
        assert decode_job(msgspec.json.encode(found.job), "json").job == found.job


elements = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@EASY
@given(st.lists(elements, max_size=4) | st.dictionaries(texts, elements, max_size=4))
def test_a_list_written_as_it_is_becomes_an_expression_that_gives_it(value: Any) -> None:
    document = {"name": "j", "tasks": [{"name": "t", "each": {"list": value, "task": {"name": "i"}}}]}
    for body in (json.dumps(document), yaml.safe_dump(document, allow_unicode=True)):
        (task,) = decode_job(body.encode()).job.tasks
        assert task.each is not None
        assert plain(evaluate_field(task.each.list)) == value


@EASY
@given(st.binary(max_size=200), st.sampled_from(["json", "yaml", None]))
def test_rubbish_is_refused_and_never_crashes(body: bytes, form: Any) -> None:
    try:
        read_job(body, form)
    except Invalid as error:
        assert str(error)  # noqa: PT017 taken or refused, both are answers


@EASY
@given(st.text(st.sampled_from("{}[]:,-&*!|>'\"#%@`? \nabc01<"), max_size=60))
def test_what_looks_like_yaml_is_read_or_refused(text: str) -> None:
    try:
        from_yaml(text)
    except Invalid as error:
        assert str(error)  # noqa: PT017 taken or refused, both are answers


@EASY
@given(values)
def test_both_forms_make_the_same_tree(value: Any) -> None:
    def outline(node: Any) -> Any:
        if node.pairs is not None:
            return {key: outline(pair.value) for key, pair in node.pairs.items()}
        return [outline(child) for child in node.children] if node.kind == "seq" else node.kind

    written = json.dumps({"v": value})
    assert outline(from_json(written)) == outline(from_yaml(yaml.safe_dump(json.loads(written), allow_unicode=False)))


@EASY
@given(values, values)
def test_any_values_in_the_place_of_fields_are_refused_with_a_reason(name: Any, task: Any) -> None:
    body = json.dumps({"name": name, "tasks": [task]}).encode()
    forms: tuple[Form, ...] = ("json", "yaml")
    for form in forms:
        try:
            read_job(body, form)
        except Invalid as error:
            assert str(error)  # noqa: PT017 taken or refused, both are answers
