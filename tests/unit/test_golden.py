"""Bytes that a release has written are read and folded for ever.

`tests/golden/<tag>.json` is an event as the log holds it; `tests/golden/history.<name>.json` a whole stream and the rows that
it came to. A file there is never changed: a new field has a default, a new meaning is a new tag with a file of its own.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from windlass.coordinator.vaults import Vaults, opened_part
from windlass.eventlog.rows import TaskRow
from windlass.eventlog.state import JobWork, evolve
from windlass.messages.envelope import tag_of
from windlass.messages.events import JOB_EVENT_TYPES, JOB_EVENTS, JobEvent, JobSubmitted
from windlass.secrets.keys import Key, Keys

GOLDEN = Path(__file__).parents[1] / "golden"
HISTORIES = sorted(GOLDEN.glob("history.*.json"))
SAMPLES = {path.stem: path for path in sorted(GOLDEN.glob("*.json")) if path not in HISTORIES}
OPERATIONAL = {"drive_at", "drives", "stopping", "stored", "refused"}


def _holds(found: Any, expected: Any) -> bool:
    """Whether all that was written is still there; what came later may be there too."""
    if isinstance(expected, dict):
        return all(_holds(found.get(name), value) for name, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_holds, found, expected))
    return bool(found == expected)


def test_every_event_that_was_ever_written_has_a_sample() -> None:
    assert {tag_of(kind) for kind in JOB_EVENT_TYPES} == set(SAMPLES)


@pytest.mark.parametrize("tag", SAMPLES)
def test_a_sample_is_read_with_all_it_says(tag: str) -> None:
    data = SAMPLES[tag].read_bytes().strip()
    event = JOB_EVENTS.decode(tag, data)
    assert tag_of(event) == tag
    assert _holds(msgspec.json.decode(msgspec.json.encode(event)), msgspec.json.decode(data))


@pytest.mark.parametrize("tag", SAMPLES)
def test_a_sample_can_be_folded(tag: str) -> None:
    """Alone as well as in its place: `evolve` never refuses."""
    event = JOB_EVENTS.decode(tag, SAMPLES[tag].read_bytes())
    evolve(JobWork(), event)
    work = _before(event)
    assert work.job is not None
    version = work.job.version
    evolve(work, event)
    assert work.job is not None
    assert work.job.version == (1 if isinstance(event, JobSubmitted) else version + 1)


def _before(event: JobEvent) -> JobWork:
    """A job that has the task which an event speaks of."""
    work = JobWork()
    for tag in ("job.submitted", "job.started", "task.dispatched"):
        evolve(work, JOB_EVENTS.decode(tag, SAMPLES[tag].read_bytes()))
    task = getattr(event, "task", None)
    if task is not None and task not in work.tasks:
        row = next(iter(work.tasks.values()))
        work.tasks[task] = msgspec.structs.replace(row, id=task)
    return work


def _row(row: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(row))
    return {name: value for name, value in found.items() if name not in OPERATIONAL}


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_history_comes_to_the_rows_that_it_came_to_when_it_was_written(path: Path) -> None:
    history = msgspec.json.decode(path.read_bytes())
    work = JobWork()
    for event in history["events"]:
        evolve(work, JOB_EVENTS.decode(event["type"], msgspec.json.encode(event)))
    assert _holds(_row(work.job), history["job"])
    tasks: list[TaskRow] = sorted(work.tasks.values(), key=lambda row: (row.position, row.id))
    assert _holds([_row(row) for row in tasks], history["tasks"])
    assert work.variables == history["variables"]


def test_what_was_sealed_is_opened_for_ever() -> None:
    history = msgspec.json.decode((GOLDEN / "history.sealed.json").read_bytes())
    vaults, work = Vaults(Keys([Key(bytes(range(32)))])), JobWork()
    for event in history["events"]:
        evolve(work, JOB_EVENTS.decode(event["type"], msgspec.json.encode(event)))
    texts = dict(work.sealed)
    vaults.open(work, history["key"], texts)
    whole = history["whole"]
    assert work.job is not None
    assert (work.job.definition.secrets, work.job.result) == (whole["secrets"], whole["result"])
    assert work.variables == whole["variables"]
    tasks = sorted(work.tasks.values(), key=lambda row: (row.position, row.id))
    said = [{"name": row.definition.name, "env": row.definition.env, "result": row.result} for row in tasks]
    assert said == whole["tasks"]
    parts = [opened_part(work, part, texts[row, f"items {part.first}"]) for row, parts in work.lists.items() for part in parts]
    assert [part.values for part in parts] == whole["items"]


def test_there_is_a_history_with_every_event() -> None:
    told = {event["type"] for path in HISTORIES for event in msgspec.json.decode(path.read_bytes())["events"]}
    assert told == set(SAMPLES)
