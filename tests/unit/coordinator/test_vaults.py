"""Secrets where decisions are made: whole in memory, shown in events and rows, and the same again when loaded or rebuilt."""

from typing import Any

import msgspec
import pytest

from tests.support.play import patient as render
from tests.support.scenario import JOB, NOW, W1, job, task
from windlass.coordinator.job.decide import Step, run_to_end
from windlass.coordinator.vaults import Vaults, opened_part, shown, shown_part
from windlass.errors import Invalid
from windlass.eventlog.rows import TaskRow
from windlass.eventlog.state import JobWork, evolve
from windlass.ids import JobId
from windlass.messages.commands import ClaimTask, CompleteTask, SubmitJob
from windlass.messages.events import ItemsListed, JobEvent, JobSubmitted, TaskCompleted, TaskDispatched, TaskRefused
from windlass.messages.jobs import AuxTask, Each, Job, Registry, SidecarTask, SubJob
from windlass.secrets import keys
from windlass.secrets.keys import Keys, Unopened
from windlass.secrets.redaction import REDACTED, SHORTEST

SECRET = "hunter2"
VAULTS = Vaults(Keys([keys.new()]))


class Played:
    """A job as a coordinator has it, with the events and rows that it would store."""

    def __init__(self, definition: Job) -> None:
        self.works: dict[JobId, JobWork] = {JOB: JobWork()}
        self.events: list[tuple[JobId, JobEvent]] = []
        self.wrapped: dict[JobId, str] = {}
        self.say(SubmitJob(job=JOB, definition=definition))

    @property
    def work(self) -> JobWork:
        return self.works[JOB]

    def _fold(self, work: JobWork, event: JobEvent) -> None:
        if isinstance(event, JobSubmitted) and event.definition.has_secrets:
            work.vault, (job_id, _, self.wrapped[event.job], _) = VAULTS.new(event.job, event.definition)
            assert job_id == event.job
        evolve(work, event)

    def say(self, command: Any) -> list[Step]:
        """Decide; what is stored of it is kept."""
        steps = run_to_end(command, self.works, NOW, render, self._fold)
        for work, event in steps:
            assert work.job is not None
            said = event if work.vault is None else work.vault.shown(event)
            if work.vault is not None:
                work.keep_sealed(said)
            self.events.append((work.job.id, said))
        return steps

    def run(self, result: str = "") -> None:
        """A worker runs the task that waits, with this result."""
        (row,) = [one for one in self.work.tasks.values() if one.state == "SCHEDULED"]
        fence: dict[str, Any] = {"job": JOB, "run": row.run, "task": row.id, "attempt": row.attempt, "worker": W1}
        self.say(ClaimTask(**fence))
        self.say(CompleteTask(**fence, result=result))

    def found(self, kind: type[Any]) -> list[Any]:
        """What was stored of this type."""
        return [event for _, event in self.events if type(event) is kind]

    def rebuilt(self) -> JobWork:
        """The job folded from what was stored, without any key."""
        work = JobWork()
        for job_id, event in self.events:
            if job_id == JOB:
                evolve(work, event)
        return work


def test_events_show_no_secret_and_hold_it_sealed() -> None:
    played = Played(job(task(env={"T": "{{ secrets.a }}"}, var="v"), task(env={"V": "{{ tasks.v }}"}), secrets={"a": SECRET}))
    played.run(f"got {SECRET}")
    assert SECRET not in msgspec.json.encode([event for _, event in played.events]).decode()
    first, second = played.found(TaskDispatched)
    assert (first.definition.env, second.definition.env) == ({"T": REDACTED}, {"V": f"got {REDACTED}"})
    assert played.found(TaskCompleted)[0].result == f"got {REDACTED}"
    assert [row.definition.env for row in played.work.tasks.values()] == [{"T": SECRET}, {"V": f"got {SECRET}"}]


def test_stored_rows_are_what_the_events_come_to_without_a_key() -> None:
    played = Played(job(task(env={"T": "{{ secrets.a }}"}, var="v"), task(), secrets={"a": SECRET}))
    played.run(SECRET)
    played.run()
    rebuilt, work = played.rebuilt(), played.work
    assert shown(work, work.job, new=True) == rebuilt.job
    for name, row in rebuilt.tasks.items():
        assert shown(work, work.tasks[name], new=True) == row
    assert rebuilt.sealed == work.sealed
    assert rebuilt.variables == {"v": REDACTED}


def test_what_was_loaded_is_whole_again() -> None:
    played = Played(job(task(env={"T": "{{ secrets.a }}"}, var="v"), task(), secrets={"a": SECRET}))
    played.run(SECRET)
    loaded = played.rebuilt()
    texts = dict(loaded.sealed)
    loaded.sealed.clear()
    VAULTS.open(loaded, played.wrapped[JOB], texts)
    assert loaded.job is not None
    assert played.work.job is not None
    assert loaded.job.definition == played.work.job.definition
    assert loaded.variables == {"v": SECRET}
    assert loaded.tasks == played.work.tasks
    assert loaded.vault is not None
    assert loaded.vault.redactor.values == (SECRET,)


def test_without_its_key_a_job_stays_as_everybody_sees_it() -> None:
    played = Played(job(task(env={"T": "{{ secrets.a }}"}), secrets={"a": SECRET}))
    loaded = played.rebuilt()
    VAULTS.open(loaded, None, loaded.sealed)
    assert loaded.job is not None
    assert loaded.job.definition.secrets == {"a": REDACTED}
    with pytest.raises(Unopened):
        Vaults(Keys([keys.new()])).open(loaded, played.wrapped[JOB], loaded.sealed)


def test_a_value_that_is_set_anew_without_a_secret_is_not_sealed_any_more() -> None:
    played = Played(job(task(var="v"), task(var="v"), task(), secrets={"a": SECRET}))
    played.run(SECRET)
    assert played.work.sealed[JOB, "var v"]
    played.run("plain")
    assert played.work.sealed[JOB, "var v"] == ""
    assert played.rebuilt().sealed == played.work.sealed


def test_a_part_of_a_list_is_shown_and_opened() -> None:
    played = Played(job(task(), secrets={"a": SECRET}))
    assert played.work.vault is not None
    row = next(iter(played.work.tasks.values()))
    listed = ItemsListed(task=row.id, first=0, items=msgspec.Raw(b'["hunter2", {"k": "hunter2"}, 7]'), is_map=False, at=NOW)
    said = played.work.vault.shown(listed)
    assert msgspec.json.decode(said.items) == [REDACTED, {"k": REDACTED}, 7]
    evolve(played.work, listed)
    (part,) = played.work.lists[row.id]
    stored = shown_part(played.work, part)
    assert stored.values == [REDACTED, {"k": REDACTED}, 7]
    assert opened_part(played.work, stored, said.sealed["items"]) == part


@pytest.mark.parametrize("field", ["queue", "var"])
def test_what_everybody_must_read_may_hold_no_secret(field: str) -> None:
    played = Played(job(task(**{field: "x{{ secrets.a }}"}), secrets={"a": SECRET}))
    (refused,) = played.found(TaskRefused)
    assert f"its {field} holds a secret" in refused.error


def test_a_sub_job_has_its_own_secrets_and_hands_up_none_that_the_job_above_does_not_know() -> None:
    below = SubJob(
        name="b",
        secrets={"mine": "{{ inputs.derived }}", "shared": "{{ secrets.a }}"},
        output="{{ secrets.mine }} {{ secrets.shared }}",
        tasks=(task(if_="false"),),
    )
    played = Played(job(task(subjob=below, run="", var="v"), task(), secrets={"a": SECRET}, inputs={"derived": "derived-one"}))
    assert len(played.wrapped) == 2
    assert played.work.variables == {"v": f"{REDACTED} {SECRET}"}
    (above, under) = played.found(JobSubmitted)
    assert under.definition.secrets == {"mine": REDACTED, "shared": REDACTED}
    assert above.definition.tasks[0].subjob.secrets == {"mine": REDACTED, "shared": REDACTED}


def test_a_job_without_secrets_costs_nothing() -> None:
    played = Played(job(task(), task()))
    played.run("x")
    assert played.work.vault is None
    assert played.wrapped == {}
    assert all(not getattr(event, "sealed", {}) for _, event in played.events)
    row = next(iter(played.work.tasks.values()))
    assert isinstance(row, TaskRow)
    assert shown(played.work, row, new=True) is row


@pytest.mark.parametrize("password", ["of a registry", "{{ 1 }}", "abc"])
def test_passwords_of_registries_are_secrets_wherever_they_are_written(password: str) -> None:
    registry = Registry(username="reader", password=password)
    beside = AuxTask(name="a", run="true", image="i", registry=registry)
    deep = task(image="i", pre=(beside,), sidecars=(SidecarTask(name="s", image="i", registry=registry),), if_="false")
    each = Each(list="[1]", task=task(image="i", registry=registry))
    played = Played(
        job(
            task(image="i", registry=registry, files={"said": f"by {password}"}),
            task(each=each, run=""),
            task(subjob=SubJob(name="b", tasks=(deep,)), run=""),
        )
    )
    played.run()
    played.run()
    stored = msgspec.json.encode([event for _, event in played.events]).decode()
    assert f'"password":"{password}"' not in stored
    assert stored.count('"username":"reader","password":"[REDACTED]"') == stored.count('"registry"') == 13
    said = {event.definition.files["said"] for event in played.found(TaskDispatched) if event.definition.files}
    assert said == {f"by {REDACTED if len(password) >= SHORTEST else password}"}  # shorter ones are hidden in their place alone
    (_, below) = played.found(JobSubmitted)
    assert below.sealed
    first = next(row for row in played.work.tasks.values() if row.position == 1)
    assert first.definition.registry == registry


def test_without_a_master_key_no_job_with_secrets_is_taken() -> None:
    with pytest.raises(Invalid, match="WINDLASS_SECRET_KEY"):
        Vaults(None).opened(SubmitJob(job=JOB, definition=job(secrets={"a": SECRET})))
    plain = SubmitJob(job=JOB, definition=job())
    assert Vaults(None).opened(plain) is plain
