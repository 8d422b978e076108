"""The page on the job language says something about each field, and every example may be written where it stands."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from windlass.documents.reading import decode_job
from windlass.documents.reference import FIELDS
from windlass.documents.tree import COMPOSITES_MAX, DEPTH_MAX, NODES_MAX
from windlass.documents.validation import check_job
from windlass.messages import jobs

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "job-language.md").read_text()
TASK = "name: j\ntasks:\n  - name: t\n"
SIDECAR = f"{TASK}    sidecars:\n      - name: s\n"
TASKS = "[{name: a}]"
PLACES: Mapping[type[msgspec.Struct], tuple[str, Mapping[str, str]]] = {
    jobs.Job: ("@", {"name": "j", "tasks": TASKS}),
    jobs.Wait: (f"{TASK}wait:\n  @", {}),
    jobs.Task: ("name: j\ntasks:\n  -\n    @", {"name": "t"}),
    jobs.AuxTask: (f"{TASK}    post:\n      -\n        @", {"name": "p"}),
    jobs.SidecarTask: (f"{TASK}    sidecars:\n      -\n        @", {"name": "s"}),
    jobs.Probe: (f"{SIDECAR}        probe:\n          @", {"path": "/", "port": "1"}),
    jobs.Parallel: (f"{TASK}    parallel:\n      @", {"tasks": TASKS}),
    jobs.Each: (f"{TASK}    each:\n      @", {"list": "[1]", "task": "{name: a}"}),
    jobs.SubJob: (f"{TASK}    subjob:\n      @", {"name": "s", "tasks": TASKS}),
    jobs.Retry: (f"{TASK}    retry:\n      @", {"limit": "1"}),
    jobs.Limits: (f"{TASK}    limits:\n      @", {}),
    jobs.Registry: (f"{TASK}    registry:\n      @", {}),
    jobs.Mount: (f"{TASK}    mounts:\n      -\n        @", {"type": "volume", "target": "/a"}),
    jobs.Webhook: (f"{TASK}webhooks:\n  -\n    @", {"url": "http://a/"}),
    jobs.Permission: (f"{TASK}permissions:\n  -\n    @", {}),
    jobs.AutoDelete: (f"{TASK}autoDelete:\n  @", {}),
    jobs.Defaults: (f"{TASK}defaults:\n  @", {}),
}


EXAMPLES = [(kind, name, field.example) for kind, fields in FIELDS.items() for name, field in fields.items()]


def test_each_field_of_each_class_is_told_of() -> None:
    known = {kind: {field.encode_name for field in msgspec.structs.fields(kind)} for kind in PLACES}
    assert {kind: set(fields) for kind, fields in FIELDS.items()} == known
    public = {kind for kind in vars(jobs).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)}
    assert set(PLACES) == public


@pytest.mark.parametrize(("kind", "name", "example"), EXAMPLES)
def test_an_example_may_be_written_where_it_stands(kind: type[msgspec.Struct], name: str, example: str) -> None:
    place, others = PLACES[kind]
    if (kind, name) == (jobs.Mount, "source"):
        others = {**others, "type": "bind"}
    indent = " " * (len(place) - 1 - (place.rfind("\n") + 1)) if "\n" in place else ""
    lines = [f"{other}: {value}" for other, value in others.items() if other != name] + [f"{name}: {example}"]
    document = decode_job(place.replace("@", f"\n{indent}".join(lines)).encode(), "yaml")
    check_job(document.job, document.absent)


def test_the_document_at_the_top_is_a_job() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    check_job(decode_job(text.encode()).job)


def test_the_limits_are_those_of_the_code() -> None:
    for number, word in ((NODES_MAX, "keys and values"), (DEPTH_MAX, "levels"), (COMPOSITES_MAX, "deep")):
        assert f"{number:,} {word}" in PAGE
