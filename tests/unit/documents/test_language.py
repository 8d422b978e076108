"""Every field of the job language, and the other ways in which some may be written."""

import json
from typing import Any

import msgspec
import pytest
import yaml

from windlass.documents.reading import Form, decode_job, read_job
from windlass.documents.tree import COMPOSITES_MAX
from windlass.documents.validation import check_job
from windlass.errors import Invalid
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
    Wait,
    Webhook,
)

TEXT = """
name: everything
description: each field once
tags: [a, b]
inputs: {n: 5}
secrets: {token: abc}
output: "{{ tasks.sum }}"
defaults: {retry: {limit: 1}, limits: {cpus: .5, memory: 10m}, timeout: 1h, queue: slow, priority: 3}
webhooks: [{url: "https://a/", headers: {A: b}, event: job.StateChange, if: "job.State == 'FAILED'"}]
permissions: [{user: ann}, {role: public}]
autoDelete: {after: 24h}
delay: 5s
wait: {timeout: 10s}
tasks:
  - name: alone
    description: it runs something
    image: alpine:3
    run: echo
    cmd: [a]
    entrypoint: [sh, -c]
    env: {A: 1}
    files: {a/b.txt: "x"}
    workdir: /there
    queue: q
    priority: 9
    var: x
    if: "{{ inputs.n == '5' }}"
    timeout: 10s
    retry: {limit: 2, delay: 1s, scalingFactor: 3, on: [1, "2", timeout, lost]}
    tags: [c]
    registry: {username: u, password: p}
    mounts: [{type: bind, source: /srv, target: /data, opts: {readonly: true}}]
    networks: [n]
    pre:
      - &beside
        {name: p, description: d, image: i, run: r, cmd: [c], entrypoint: [e], env: {A: b}, files: {f: g}, timeout: 1s,
         registry: {username: u}}
    post: [{name: q, run: r, always: yes}]
    sidecars: [{<<: *beside, name: s, probe: {path: /health, port: 6379, timeout: 30s}}]
    limits: {cpus: 1/2, memory: 1g}
    gpus: all
    onError: continue
    runAt: 2026-03-01T12:00:00Z
  - name: side by side
    parallel: {tasks: [{name: l, run: "true"}, {name: r}], minSuccess: 1}
  - name: one by one
    each: {var: it, list: "{{ sequence(1, 5) }}", task: {name: "{{ it.index }}"}, concurrency: 2, minSuccess: 3}
  - name: below
    subjob:
      name: inner
      description: d
      inputs: {a: b}
      secrets: {c: d}
      output: "{{ tasks.y }}"
      detached: true
      autoDelete: {after: 1h}
      webhooks: [{url: "http://b/"}]
      tasks: [{name: deep, each: {list: "[1]", task: {name: deeper, parallel: {tasks: [{name: deepest}]}}}}]
"""
BESIDE: dict[str, Any] = {
    "description": "d",
    "image": "i",
    "run": "r",
    "cmd": ("c",),
    "entrypoint": ("e",),
    "env": {"A": "b"},
    "files": {"f": "g"},
    "registry": Registry(username="u"),
    "timeout": "1s",
}
JOB = Job(
    name="everything",
    description="each field once",
    tags=("a", "b"),
    inputs={"n": "5"},
    secrets={"token": "abc"},
    output="{{ tasks.sum }}",
    defaults=Defaults(retry=Retry(limit=1), limits=Limits(cpus=".5", memory="10m"), timeout="1h", queue="slow", priority=3),
    webhooks=(Webhook(url="https://a/", headers={"A": "b"}, event="job.StateChange", if_="job.State == 'FAILED'"),),
    permissions=(Permission(user="ann"), Permission(role="public")),
    auto_delete=AutoDelete(after="24h"),
    delay="5s",
    tasks=(
        Task(
            name="alone",
            description="it runs something",
            image="alpine:3",
            run="echo",
            cmd=("a",),
            entrypoint=("sh", "-c"),
            env={"A": "1"},
            files={"a/b.txt": "x"},
            workdir="/there",
            queue="q",
            priority=9,
            var="x",
            if_="{{ inputs.n == '5' }}",
            timeout="10s",
            retry=Retry(limit=2, delay="1s", scaling_factor=3, on=("1", "2", "timeout", "lost")),
            tags=("c",),
            registry=Registry(username="u", password="p"),
            mounts=(Mount(type="bind", source="/srv", target="/data", opts={"readonly": "true"}),),
            networks=("n",),
            pre=(AuxTask(name="p", **BESIDE),),
            post=(AuxTask(name="q", run="r", always=True),),
            sidecars=(SidecarTask(name="s", probe=Probe(path="/health", port=6379, timeout="30s"), **BESIDE),),
            limits=Limits(cpus="1/2", memory="1g"),
            gpus="all",
            on_error="continue",
            run_at="2026-03-01T12:00:00Z",
        ),
        Task(name="side by side", parallel=Parallel(tasks=(Task(name="l", run="true"), Task(name="r")), min_success=1)),
        Task(
            name="one by one",
            each=Each(var="it", list="{{ sequence(1, 5) }}", task=Task(name="{{ it.index }}"), concurrency=2, min_success=3),
        ),
        Task(
            name="below",
            subjob=SubJob(
                name="inner",
                description="d",
                inputs={"a": "b"},
                secrets={"c": "d"},
                output="{{ tasks.y }}",
                detached=True,
                auto_delete=AutoDelete(after="1h"),
                webhooks=(Webhook(url="http://b/"),),
                tasks=(
                    Task(
                        name="deep",
                        each=Each(list="[1]", task=Task(name="deeper", parallel=Parallel(tasks=(Task(name="deepest"),)))),
                    ),
                ),
            ),
        ),
    ),
)


def task(**fields: Any) -> Task:
    """The task that a document in JSON describes."""
    body = {"name": "j", "tasks": [{"name": "t", **fields}]}
    (found,) = decode_job(json.dumps(body).encode(), "json").job.tasks
    return found


def in_yaml(fields: str) -> Task:
    """The task that a document in YAML describes."""
    (found,) = decode_job(f"name: j\ntasks: [{{name: t, {fields}}}]".encode(), "yaml").job.tasks
    return found


def refusal(**fields: Any) -> str:
    with pytest.raises(Invalid) as refused:
        task(**fields)
    return str(refused.value)


def test_every_field_is_read_from_yaml() -> None:
    document = decode_job(TEXT.encode(), "yaml")
    assert (document.job, document.wait) == (JOB, Wait(timeout="10s"))


def test_every_field_of_the_classes_is_in_that_document() -> None:
    def kinds(found: Any) -> Any:
        if isinstance(found, msgspec.Struct):
            yield found
            for field in msgspec.structs.fields(found):
                yield from kinds(getattr(found, field.name))
        elif isinstance(found, tuple):
            for one in found:
                yield from kinds(one)

    said = {(type(one), name) for one in kinds(JOB) for name in msgspec.to_builtins(one)}
    known = {(kind, field.encode_name) for kind, _ in said for field in msgspec.structs.fields(kind)}
    assert known - said == {(Job, "runAt"), (Task, "delay")}


def test_every_field_is_read_from_json_on_both_ways() -> None:
    written = msgspec.json.encode(JOB)
    assert decode_job(written, "json").job == JOB
    assert decode_job(written[:-1] + b',"wait":null}', "json").job == JOB


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([1, -2, 0.5, True, None, "a"], '[1, -2, 0.5, true, nil, "a"]'),
        ([], "[]"),
        ({"b": {"c": [1e21]}, "a b": 'q"{'}, '{"b": {"c": [1e+21]}, "a b": "q\\"{"}'),
        ("{{ inputs.x }}", "{{ inputs.x }}"),
        ("[1, 2]", "[1, 2]"),
    ],
)
def test_a_list_may_be_written_as_what_it_is(given: Any, text: str) -> None:
    each = task(each={"list": given, "task": {"name": "i"}}).each
    assert each == Each(list=text, task=Task(name="i"))
    written = yaml.safe_dump({"list": given, "task": {"name": "i"}}, default_flow_style=True, width=10**6, sort_keys=False)
    assert in_yaml(f"each: {written}").each == each


def test_numbers_of_a_list_are_read_as_yaml_has_them() -> None:
    each = in_yaml("each: {list: [0x1F, 0o17, 1_000, .5, 2024-01-01, yes, ~, !!str 5], task: {name: i}}").each
    assert each is not None
    assert each.list == '[31, 15, 1000, 0.5, "2024-01-01", "yes", nil, "5"]'


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_a_number_of_a_list_has_64_bits(number: int) -> None:
    assert "tasks[0].each.list[0].a: write a number of 64 bits" in refusal(each={"list": [{"a": number}], "task": {"name": "i"}})


def test_a_template_in_a_list_is_not_taken_for_data() -> None:
    said = refusal(each={"list": [["{{ inputs.x }}"]], "task": {"name": "i"}})
    assert said.startswith(
        "tasks[0].each.list[0][0]: a template within a list is not evaluated; write the whole list as one expression"
    )


def test_reasons_of_a_retry_are_words_and_whole_numbers() -> None:
    expected = Retry(limit=1, on=("1", "137", "timeout", "lost", "3"))
    assert task(retry={"limit": 1, "on": [1, 137, "timeout", "lost", "3"]}).retry == expected
    assert in_yaml("retry: {limit: 1, on: [0x1, 137, timeout, lost, '3']}").retry == expected
    assert "tasks[0].retry.on[0]: write a text in quotes" in refusal(retry={"limit": 1, "on": [True]})
    assert "tasks[0].retry.on: write a list" in refusal(retry={"limit": 1, "on": "lost"})


def test_former_names_are_read() -> None:
    assert task(limits={"cpu": "1"}).limits == Limits(cpus="1")
    assert "tasks[0].limits.cpu: is given twice" in refusal(limits={"cpus": "1", "cpu": "1"})
    volume = Mount(type="volume", target="/tmp")
    assert task(volumes=["/tmp"]).mounts == (volume,)
    tmpfs = Mount(type="tmpfs", target="/t")
    assert task(volumes=["/tmp"], mounts=[{"type": "tmpfs", "target": "/t"}]).mounts == (volume, tmpfs)
    assert "tasks[0].volumes: write a list" in refusal(volumes="/tmp")


def test_the_id_of_a_subjob_is_taken_and_dropped() -> None:
    assert task(subjob={"id": "x", "name": "s", "tasks": [{"name": "a"}]}).subjob == SubJob(name="s", tasks=(Task(name="a"),))


@pytest.mark.parametrize("word", ["true", "True", "TRUE", "yes", "Y", "on", "On", "'yes'"])
def test_yaml_has_many_words_for_yes(word: str) -> None:
    (post,) = in_yaml(f"post: [{{name: p, always: {word}}}]").post
    assert post.always is True


@pytest.mark.parametrize("word", ["false", "No", "n", "off", "~"])
def test_yaml_has_many_words_for_no(word: str) -> None:
    (post,) = in_yaml(f"post: [{{name: p, always: {word}}}]").post
    assert post.always is False


@pytest.mark.parametrize("word", ["1", "oui", "yEs", "[]"])
def test_what_is_neither_yes_nor_no_is_refused(word: str) -> None:
    with pytest.raises(Invalid, match=r"into bool \(tasks\[0\].post\[0\].always: write true or false\)"):
        in_yaml(f"post: [{{name: p, always: {word}}}]")


def test_json_has_two_words_for_yes_and_no() -> None:
    assert task(subjob={"name": "s", "tasks": [], "detached": True}).subjob == SubJob(name="s", tasks=(), detached=True)
    assert "cannot unmarshal string into Go struct field of type bool" in refusal(
        subjob={"name": "s", "tasks": [], "detached": "yes"}
    )


def test_an_unknown_field_is_named_wherever_it_is() -> None:
    said = refusal(parallel={"tasks": [{"name": "a", "sidecars": [{"name": "s", "probe": {"prt": 1}}]}]})
    assert "(tasks[0].parallel.tasks[0].sidecars[0].probe.prt: unknown field; did you mean 'port'?)" in said
    assert "only a sidecar has one" in refusal(probe={"port": 1})


def test_lists_that_are_not_there_are_told_from_empty_ones() -> None:
    tasks = [{"name": "a", "parallel": {}}, {"name": "b", "subjob": {"name": "s", "tasks": None}}]
    body = json.dumps({"name": "j", "tasks": [*tasks, {"name": "c", "parallel": {"tasks": []}}]})
    assert set(decode_job(body.encode()).absent) == {"tasks[0].parallel.tasks", "tasks[1].subjob.tasks"}


def nested(depth: int, kind: str = "parallel") -> bytes:
    """A job whose innermost task is so many composites deep, as JSON (which is YAML too)."""
    task: dict[str, Any] = {"name": "t", "env": {"A": "b"}}
    for _ in range(depth):
        each = {"list": "[1]", "task": task}
        inner = {"parallel": {"tasks": [task]}, "subjob": {"name": "s", "tasks": [task]}, "each": each}
        task = {"name": "t", kind: inner[kind]}
    return json.dumps({"name": "j", "tasks": [task], "tags": None}).encode()


@pytest.mark.parametrize("kind", ["parallel", "each", "subjob"])
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_composites_are_as_deep_as_they_may_be(kind: str, form: Form) -> None:
    document = decode_job(nested(COMPOSITES_MAX, kind), form)
    assert not any("depth" in line for line in complaints(document.job))
    (line,) = complaints(decode_job(nested(COMPOSITES_MAX + 1, kind), form).job)
    assert f"{kind}' Error" in line
    assert "failed on the 'depth' tag: tasks are at most 32 deep" in line


def complaints(job: Job) -> list[str]:
    """What is wrong with a job, other than that something is not built."""
    try:
        check_job(job)
    except Invalid as error:
        return [line for line in str(error).splitlines() if "not built yet" not in line]
    return []


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_composites_without_end_are_refused_while_reading(form: Form) -> None:
    for body in (nested(100), nested(150, "each"), b'{"a":' * 200 + b"1" + b"}" * 200):
        with pytest.raises(Invalid, match="nested"):
            decode_job(body, form)


@pytest.mark.parametrize("secrets", ["hunter2", "{a: [hunter2]}", "{a: {b: hunter2}}"])
def test_what_is_wrong_with_secrets_is_told_without_them(secrets: str) -> None:
    with pytest.raises(Invalid, match="secrets") as refused:
        read_job(f"name: a\nsecrets: {secrets}\ntasks: [{{name: t, run: x}}]\n".encode())
    assert "hunter2" not in str(refused.value)
