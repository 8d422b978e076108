"""The rules of a job, in the words of Tork's validator."""

import time
from typing import Any

import pytest

from windlass.documents.validation import check_job, check_wait
from windlass.errors import Invalid
from windlass.messages.jobs import Defaults, Job, Retry, Task, Wait, Webhook


def lines(job: Job, *, has_tasks: bool = True) -> list[str]:
    """Why a job is refused."""
    with pytest.raises(Invalid) as refused:
        check_job(job, has_tasks=has_tasks)
    return str(refused.value).splitlines()


def of(**fields: Any) -> Job:
    """A job of one task with these fields."""
    return Job(name="j", tasks=(Task(**{"name": "t", **fields}),))


def begins(**start: Any) -> Job:
    """A job with these fields of its own."""
    return Job(name="j", tasks=(Task(name="t"),), **start)


def told(url: str = "http://a/", **fields: Any) -> Job:
    """A job with one webhook."""
    return Job(name="j", tasks=(Task(name="t"),), webhooks=(Webhook(url=url, **fields),))


def failed(path: str, rule: str) -> str:
    return f"Key: '{path}' Error:Field validation for '{path.rpartition('.')[2]}' failed on the '{rule}' tag: "


@pytest.mark.parametrize(
    ("job", "path", "rule"),
    [
        (Job(name="", tasks=(Task(name="t"),)), "Job.Name", "required"),
        (Job(name="n" * 257, tasks=(Task(name="t"),)), "Job.Name", "max"),
        (Job(name="j", tasks=()), "Job.Tasks", "min"),
        (Job(name="j", tasks=(Task(name="t"),), output="hello world"), "Job.Output", "expr"),
        (Job(name="j", tasks=(Task(name="t"), Task(name=""))), "Job.Tasks[1].Name", "required"),
        (of(name="n" * 257), "Job.Tasks[0].Name", "max"),
        (of(timeout="5"), "Job.Tasks[0].Timeout", "duration"),
        (of(queue="x-1"), "Job.Tasks[0].Queue", "queue"),
        (of(queue="jobs"), "Job.Tasks[0].Queue", "queue"),
        (of(queue="a b"), "Job.Tasks[0].Queue", "queue"),
        (of(queue="a.*"), "Job.Tasks[0].Queue", "queue"),
        (of(retry=Retry(limit=11)), "Job.Tasks[0].Retry.Limit", "max"),
        (of(retry=Retry(limit=0)), "Job.Tasks[0].Retry.Limit", "required"),
        (of(retry=Retry(limit=-1)), "Job.Tasks[0].Retry.Limit", "min"),
        (of(retry=Retry(limit=1, delay="5")), "Job.Tasks[0].Retry.Delay", "duration"),
        (of(retry=Retry(limit=1, delay="-1s")), "Job.Tasks[0].Retry.Delay", "min"),
        (of(retry=Retry(limit=1, delay="5m1s")), "Job.Tasks[0].Retry.Delay", "max"),
        (of(retry=Retry(limit=1, scaling_factor=11)), "Job.Tasks[0].Retry.ScalingFactor", "max"),
        (of(retry=Retry(limit=1, scaling_factor=-1)), "Job.Tasks[0].Retry.ScalingFactor", "min"),
        (begins(delay="soon"), "Job.Delay", "duration"),
        (begins(delay="-1s"), "Job.Delay", "min"),
        (begins(run_at="tomorrow"), "Job.RunAt", "datetime"),
        (begins(run_at="2026-03-01T12:00:00"), "Job.RunAt", "datetime"),
        (begins(run_at="0001-01-01T00:00:00+14:00"), "Job.RunAt", "datetime"),
        (begins(delay="1s", run_at="2026-03-01T12:00:00Z"), "Job.RunAt", "delayorrunat"),
        (begins(defaults=Defaults(retry=Retry(limit=11))), "Job.Defaults.Retry.Limit", "max"),
        (begins(defaults=Defaults(timeout="5")), "Job.Defaults.Timeout", "duration"),
        (begins(defaults=Defaults(queue="jobs")), "Job.Defaults.Queue", "queue"),
        (begins(defaults=Defaults(priority=10)), "Job.Defaults.Priority", "max"),
        (of(priority=10), "Job.Tasks[0].Priority", "max"),
        (of(priority=-1), "Job.Tasks[0].Priority", "min"),
        (of(var="v" * 65), "Job.Tasks[0].Var", "max"),
        (of(image="-v"), "Job.Tasks[0].Image", "image"),
        (of(image="a b"), "Job.Tasks[0].Image", "image"),
        (of(image="i" * 257), "Job.Tasks[0].Image", "max"),
        (of(env={"A=B": ""}), "Job.Tasks[0].Env", "env"),
        (of(env={"": ""}), "Job.Tasks[0].Env", "env"),
        (of(env={"-a": ""}), "Job.Tasks[0].Env", "env"),
        (of(if_="{{ 1 + }}"), "Job.Tasks[0].If", "expr"),
        (told(""), "Job.Webhooks[0].URL", "required"),
        (told("ftp://a"), "Job.Webhooks[0].URL", "url"),
        (told("http://{{ inputs.host }}/"), "Job.Webhooks[0].URL", "url"),
        (told(headers={"A B": ""}), "Job.Webhooks[0].Headers", "header"),
        (told(headers={"Host": "b"}), "Job.Webhooks[0].Headers", "header"),
        (told(headers={"Webhook-Id": "1"}), "Job.Webhooks[0].Headers", "header"),
        (told(headers={"A": "b\r\nC: d"}), "Job.Webhooks[0].Headers", "header"),
        (told(if_="job.State =="), "Job.Webhooks[0].If", "expr"),
        (Job(name="j", tasks=(Task(name="t"),), webhooks=(Webhook(url="http://a"),) * 101), "Job.Webhooks", "max"),
    ],
)
def test_a_broken_rule_is_one_line_with_the_remedy(job: Job, path: str, rule: str) -> None:
    (line,) = lines(job)
    assert line.startswith(failed(path, rule))
    assert len(line) > len(failed(path, rule))


def test_no_tasks_at_all_is_another_rule_than_an_empty_list() -> None:
    assert lines(Job(name="j", tasks=()), has_tasks=False)[0].startswith(failed("Job.Tasks", "required"))


def test_all_failures_are_told_in_the_order_of_the_document() -> None:
    job = Job(name="", tasks=(Task(name="", priority=10), Task(name="t", timeout="x")))
    assert [line.split("'")[1] for line in lines(job)] == [
        "Job.Name",
        "Job.Tasks[0].Name",
        "Job.Tasks[0].Priority",
        "Job.Tasks[1].Timeout",
    ]


@pytest.mark.parametrize(
    "job",
    [
        of(timeout="-5s"),
        of(timeout="1h30m"),
        of(queue="gpu.large"),
        of(queue="{{ inputs.queue }}"),
        of(image="{{ inputs.image }}"),
        of(image="registry.example:5000/team/image@sha256:0123456789abcdef"),
        of(if_="{{ inputs.x == 'a' }}"),
        of(if_="false"),
        of(run="echo {{ not a template"),
        of(env={"A_1": "x", "b.c": "y", "A": "{{ tasks.x }}"}),
        of(retry=Retry(limit=10, delay="5m", scaling_factor=10)),
        of(retry=Retry(limit=1, delay="0", scaling_factor=1)),
        begins(delay="8760h"),
        begins(run_at="2020-01-01T00:00:00.5+05:30"),
        of(name="ü" * 256, var="é" * 64, retry=Retry(limit=10), priority=9),
        Job(name="j", tasks=(Task(name="t"),), output="done"),
        Job(name="j", tasks=(Task(name="t"),), output="hello {{ tasks.x }}"),
        told("https://me:secret@127.0.0.1:8443/hook?a=b", event="job.StateChange", if_="job.State == 'COMPLETED'"),
        told(event="of a later release", headers={"Content-Type": "text/plain", "X-A": "{{ job.id }}"}),
    ],
)
def test_what_tork_takes_is_taken(job: Job) -> None:
    check_job(job)


@pytest.mark.parametrize("timeout", ["", "5", "x"])
def test_a_wait_needs_a_duration(timeout: str) -> None:
    with pytest.raises(Invalid, match=r"^time: .*\(wait.timeout\)"):
        check_wait(Wait(timeout=timeout))


def test_dear_patterns_of_a_whole_job_cost_no_more_than_a_moment() -> None:
    """Each would take some fifty milliseconds to compile."""
    dear = [" or ".join(rf"'a' matches '[\\pL]{{90}}{at}-{n}'" for n in range(10)) for at in range(30)]
    started = time.process_time()
    check_job(Job(name="j", tasks=tuple(Task(name="t", if_=f"{{{{ {text} }}}}") for text in dear)))
    assert time.process_time() - started < 3
    assert lines(of(if_="{{ 'a' matches '(' }}"))[0].startswith("Key: 'Job.Tasks[0].If' Error")
