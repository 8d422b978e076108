"""What may be written while coordinators of an older release may still run."""

from pathlib import Path

import msgspec

from tests.support import scenario as s
from windlass.messages import jobs
from windlass.messages.events import JOB_EVENTS, SINCE, JobRestarted, unfinished
from windlass.messages.jobs import Parallel, Retry, Webhook

KNOWN = Path(__file__).parents[2] / "golden" / "fields.txt"
"""The fields of jobs that need no number: those of the first release, and those of classes that came whole."""


def test_what_came_with_a_later_format_waits_until_that_is_finished() -> None:
    since = {"task.paused": 3, "task.resumed": 4}
    assert unfinished(2, since) == {"task.paused", "task.resumed"}
    assert unfinished(3, since) == {"task.resumed"}
    assert unfinished(4, since) == frozenset()


def test_only_types_that_there_are_are_named() -> None:
    fields = {"JobRestarted.anew", "JobRestarted.redo"}
    assert fields < {f"JobRestarted.{name}" for name in JobRestarted.__struct_fields__}
    assert [tag for tag in SINCE if tag not in JOB_EVENTS] == sorted(fields)


def test_fields_wait_too() -> None:
    assert {"Job.delay", "Task.each"} <= unfinished(3)
    assert {"Job.delay", "Task.each"} & unfinished(4) == {"Task.each"}


def test_the_fields_of_a_job_are_those_that_it_says_something_in_wherever_they_are() -> None:
    deep = s.task(parallel=Parallel(tasks=(s.task(retry=Retry(limit=1, delay="1s")),)))
    found = set(jobs.used(s.job(deep, webhooks=(Webhook(url="http://a/"),))))
    assert {"Job.webhooks", "Task.parallel", "Parallel.tasks", "Task.retry", "Retry.delay"} <= found
    assert not {"Retry.scalingFactor", "Task.each", "Job.runAt", "Webhook.headers"} & found


def test_each_field_of_a_job_is_known_of_old_or_has_the_number_of_its_format() -> None:
    """A new one belongs into `SINCE`, with the number of the next migration: an older coordinator could not read it."""
    classes = [kind for kind in vars(jobs).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    there = {f"{kind.__name__}.{field.encode_name}" for kind in classes for field in msgspec.structs.fields(kind)}
    assert there == set(KNOWN.read_text().split()) | set(jobs.SINCE)
