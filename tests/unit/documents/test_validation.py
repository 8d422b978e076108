"""The rules of a job, in the words of Tork's validator."""

import time
from typing import Any

import pytest

from windlass.documents.validation import check_job, check_wait
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


def lines(job: Job, *absent: str) -> list[str]:
    """Why a job is refused, other than that something is not built yet."""
    with pytest.raises(Invalid) as refused:
        check_job(job, set(absent))
    return [line for line in str(refused.value).splitlines() if "is not built yet" not in line]


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


ONE = (Task(name="a"),)
AUX = AuxTask(name="a")


def beside(**fields: Any) -> Job:
    return of(pre=(AuxTask(**{"name": "a", **fields}),))


def probed(**fields: Any) -> Job:
    return of(sidecars=(SidecarTask(name="s", probe=Probe(**{"path": "/", "port": 1, **fields})),))


def mounted(**fields: Any) -> Job:
    return of(mounts=(Mount(**{"type": "volume", "target": "/data", **fields}),))


def subjob(**fields: Any) -> Job:
    return of(subjob=SubJob(**{"name": "s", "tasks": ONE, **fields}))


def each(**fields: Any) -> Job:
    return of(each=Each(**{"list": "[1]", "task": Task(name="i"), **fields}))


@pytest.mark.parametrize(
    ("job", "path", "rule"),
    [
        (of(limits=Limits(cpus="1/3")), "Job.Tasks[0].Limits.CPUs", "cpus"),
        (of(limits=Limits(memory="10x")), "Job.Tasks[0].Limits.Memory", "memory"),
        (begins(defaults=Defaults(limits=Limits(cpus="x"))), "Job.Defaults.Limits.CPUs", "cpus"),
        (of(workdir="/" * 257), "Job.Tasks[0].Workdir", "max"),
        (of(workdir="/a\nb"), "Job.Tasks[0].Workdir", "max"),
        (of(gpus="some"), "Job.Tasks[0].GPUs", "gpus"),
        (of(on_error="retry"), "Job.Tasks[0].OnError", "oneof"),
        (of(delay="1s", run_at="2026-03-01T12:00:00Z"), "Job.Tasks[0].RunAt", "delayorrunat"),
        (of(delay="-1s"), "Job.Tasks[0].Delay", "min"),
        (of(run_at="soon"), "Job.Tasks[0].RunAt", "datetime"),
        (of(networks=("a", "container:x")), "Job.Tasks[0].Networks[1]", "network"),
        (of(networks=("--privileged",)), "Job.Tasks[0].Networks[0]", "network"),
        (of(files={"../a": ""}), "Job.Tasks[0].Files", "file"),
        (of(files={"a": "", "a/b": ""}), "Job.Tasks[0].Files", "file"),
        (of(retry=Retry(limit=1, on=("1", "0"))), "Job.Tasks[0].Retry.On[1]", "oneof"),
        (of(retry=Retry(limit=1, on=("256",))), "Job.Tasks[0].Retry.On[0]", "oneof"),
        (of(retry=Retry(limit=1, on=("failed",))), "Job.Tasks[0].Retry.On[0]", "oneof"),
        (beside(name=""), "Job.Tasks[0].Pre[0].Name", "required"),
        (beside(always=True), "Job.Tasks[0].Pre[0].Always", "post"),
        (beside(timeout="5"), "Job.Tasks[0].Pre[0].Timeout", "duration"),
        (beside(image="-v"), "Job.Tasks[0].Pre[0].Image", "image"),
        (beside(env={"=": ""}), "Job.Tasks[0].Pre[0].Env", "env"),
        (beside(files={"/a": ""}), "Job.Tasks[0].Pre[0].Files", "file"),
        (of(post=(AUX, AuxTask(name=""))), "Job.Tasks[0].Post[1].Name", "required"),
        (of(sidecars=(SidecarTask(name=""),)), "Job.Tasks[0].Sidecars[0].Name", "required"),
        (probed(path=""), "Job.Tasks[0].Sidecars[0].Probe.Path", "required"),
        (probed(path="/" * 257), "Job.Tasks[0].Sidecars[0].Probe.Path", "max"),
        (probed(path="health"), "Job.Tasks[0].Sidecars[0].Probe.Path", "path"),
        (probed(path="/ HTTP/1.1\r\n"), "Job.Tasks[0].Sidecars[0].Probe.Path", "path"),
        (probed(port=0), "Job.Tasks[0].Sidecars[0].Probe.Port", "required"),
        (probed(port=65536), "Job.Tasks[0].Sidecars[0].Probe.Port", "max"),
        (probed(port=-1), "Job.Tasks[0].Sidecars[0].Probe.Port", "min"),
        (probed(timeout="x"), "Job.Tasks[0].Sidecars[0].Probe.Timeout", "duration"),
        (mounted(type=""), "Job.Tasks[0].Mounts[0].mount", "typerequired"),
        (mounted(type="a b"), "Job.Tasks[0].Mounts[0].mount", "invalidtype"),
        (mounted(source="/a"), "Job.Tasks[0].Mounts[0].mount", "sourcenotempty"),
        (mounted(target=""), "Job.Tasks[0].Mounts[0].mount", "targetrequired"),
        (mounted(target="/tork"), "Job.Tasks[0].Mounts[0].mount", "invalidtarget"),
        (mounted(target="/a:ro"), "Job.Tasks[0].Mounts[0].mount", "invalidtarget"),
        (mounted(target="/proc/sys"), "Job.Tasks[0].Mounts[0].mount", "invalidtarget"),
        (mounted(type="bind"), "Job.Tasks[0].Mounts[0].mount", "sourcerequired"),
        (mounted(type="bind", source="/a/../b"), "Job.Tasks[0].Mounts[0].mount", "invalidsource"),
        (mounted(type="bind", source="/a;b"), "Job.Tasks[0].Mounts[0].mount", "invalidsource"),
        (mounted(type="bind", source="/a", opts={"propagation": "shared"}), "Job.Tasks[0].Mounts[0].mount", "invalidopts"),
        (mounted(type="tmpfs", source="/a"), "Job.Tasks[0].Mounts[0].mount", "sourcenotempty"),
        (mounted(type="nfs", source="a:b"), "Job.Tasks[0].Mounts[0].mount", "invalidsource"),
        (mounted(opts={"type": "none", "device": "/", "o": "bind"}), "Job.Tasks[0].Mounts[0].mount", "invalidopts"),
        (mounted(opts={"device": "/"}), "Job.Tasks[0].Mounts[0].mount", "invalidopts"),
        (mounted(opts={"o": "upperdir=/"}), "Job.Tasks[0].Mounts[0].mount", "invalidopts"),
        (mounted(opts={"driver": "x"}), "Job.Tasks[0].Mounts[0].mount", "invalidopts"),
        (
            of(mounts=(Mount(type="volume", target="/a"), Mount(type="tmpfs", target="/a/"))),
            "Job.Tasks[0].Mounts[1].mount",
            "invalidtarget",
        ),
        (begins(permissions=(Permission(),)), "Job.Permissions[0].perm", "roleoruser"),
        (begins(permissions=(Permission(user="a", role="b"),)), "Job.Permissions[0].perm", "roleoruser"),
        (begins(auto_delete=AutoDelete(after="1d")), "Job.AutoDelete.After", "duration"),
        (begins(secrets={"": "x"}), "Job.Secrets", "secret"),
        (begins(secrets={"a\nb": "x"}), "Job.Secrets", "secret"),
        (of(parallel=Parallel(tasks=())), "Job.Tasks[0].Parallel.Tasks", "min"),
        (of(parallel=Parallel(tasks=(Task(name=""),))), "Job.Tasks[0].Parallel.Tasks[0].Name", "required"),
        (of(parallel=Parallel(tasks=ONE, min_success=2)), "Job.Tasks[0].Parallel.MinSuccess", "max"),
        (of(parallel=Parallel(tasks=ONE, min_success=-1)), "Job.Tasks[0].Parallel.MinSuccess", "min"),
        (each(list=""), "Job.Tasks[0].Each.List", "required"),
        (each(list="[1"), "Job.Tasks[0].Each.List", "expr"),
        (each(concurrency=-1), "Job.Tasks[0].Each.Concurrency", "min"),
        (each(concurrency=100_000), "Job.Tasks[0].Each.Concurrency", "max"),
        (each(min_success=-1), "Job.Tasks[0].Each.MinSuccess", "min"),
        (each(task=Task(name="i", queue="x-1")), "Job.Tasks[0].Each.Task.Queue", "queue"),
        (each(task=Task(name="i", if_="{{ 1 + }}")), "Job.Tasks[0].Each.Task.If", "expr"),
        (subjob(name=""), "Job.Tasks[0].SubJob.Name", "required"),
        (subjob(tasks=()), "Job.Tasks[0].SubJob.Tasks", "min"),
        (subjob(tasks=(Task(name="a"), Task(name="", timeout="1s"))), "Job.Tasks[0].SubJob.Tasks[1].Name", "required"),
        (subjob(output="{{ 1 + }}"), "Job.Tasks[0].SubJob.Output", "expr"),
        (subjob(secrets={"": "x"}), "Job.Tasks[0].SubJob.Secrets", "secret"),
        (subjob(auto_delete=AutoDelete(after="x")), "Job.Tasks[0].SubJob.AutoDelete.After", "duration"),
        (subjob(webhooks=(Webhook(url="ftp://a"),)), "Job.Tasks[0].SubJob.Webhooks[0].URL", "url"),
        (subjob(webhooks=(Webhook(url="http://a", if_="=="),)), "Job.Tasks[0].SubJob.Webhooks[0].If", "expr"),
        (
            of(parallel=Parallel(tasks=(Task(name="a", each=Each(list="[1]", task=Task(name="b", pre=(AuxTask(name=""),)))),))),
            "Job.Tasks[0].Parallel.Tasks[0].Each.Task.Pre[0].Name",
            "required",
        ),
    ],
)
def test_a_broken_rule_is_told_wherever_it_is(job: Job, path: str, rule: str) -> None:
    (line,) = lines(job)
    assert line.startswith(failed(path, rule))
    assert len(line) > len(failed(path, rule))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (("parallel", "each"), [("each", "paralleloreach"), ("parallel", "paralleloreach")]),
        (("parallel", "subjob"), [("subjob", "parallelorsubjob"), ("parallel", "parallelorsubjob")]),
        (("each", "subjob"), [("subjob", "eachorsubjob"), ("each", "eachorsubjob")]),
    ],
)
def test_a_task_is_one_kind_of_composite(fields: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    kinds: dict[str, Any] = {
        "parallel": Parallel(tasks=ONE),
        "each": Each(list="[1]", task=Task(name="i")),
        "subjob": SubJob(name="s", tasks=ONE),
    }
    found = lines(of(**{field: kinds[field] for field in fields}))
    assert [line.partition(": '")[2].partition("' tag")[0] for line in found] == [
        f"Job.Tasks[0].{field}' Error:Field validation for '{field}' failed on the '{rule}" for field, rule in expected
    ]


def test_a_long_list_is_told_another_way() -> None:
    for long in ([1] * 12_000, ["x" * 100] * 1_000):
        (line,) = lines(each(list=str(long)))
        assert line.endswith("; hand a long list on as an input, and read it with fromJSON")


FULL: dict[str, Any] = {
    "image": "a",
    "cmd": ("a",),
    "entrypoint": ("a",),
    "run": "a",
    "env": {"A": "b"},
    "queue": "q",
    "pre": (AUX,),
    "post": (AUX,),
    "mounts": (Mount(type="volume", target="/a"),),
    "retry": Retry(limit=1),
    "limits": Limits(cpus="1"),
    "timeout": "1s",
}


def test_a_composite_runs_nothing_itself() -> None:
    rule = "invalidcompositetask"
    for composite in ({"parallel": Parallel(tasks=ONE)}, {"each": Each(list="[1]", task=Task(name="i"))}):
        found = lines(of(**composite, **FULL))
        assert [line.split("'")[1::2][:3] for line in found] == [[f"Job.Tasks[0].{name}", name, rule] for name in FULL]


def test_what_a_composite_may_carry_is_taken() -> None:
    usual: dict[str, Any] = {
        "description": "d",
        "var": "v",
        "if_": "true",
        "tags": ("t",),
        "priority": 1,
        "gpus": "all",
        "workdir": "/w",
    }
    unused = {"files": {"a": "b"}, "registry": Registry(), "networks": ("n",), "sidecars": (SidecarTask(name="s"),)}
    composite = of(parallel=Parallel(tasks=ONE, min_success=1), on_error="ignore", delay="1s", **usual, **unused)
    assert not problems(composite)


def problems(job: Job) -> list[str]:
    """What is wrong with a job, other than that something is not built yet."""
    try:
        check_job(job)
    except Invalid as error:
        return [line for line in str(error).splitlines() if "is not built yet" not in line]
    return []


@pytest.mark.parametrize(
    "job",
    [
        of(limits=Limits(cpus=".5", memory="10m"), workdir="w", gpus="device=0,1", networks=("host", "a-b.c")),
        of(files={"a/b": "", "a.b": "", "c": ""}),
        of(retry=Retry(limit=1, on=("1", "255", "timeout", "lost"))),
        of(on_error="fail"),
        of(
            mounts=(
                Mount(type="bind", source="/srv/a b", target="/a", opts={"readonly": "true"}),
                Mount(type="tmpfs", target="/b"),
            )
        ),
        of(
            mounts=(
                Mount(type="volume", target="/a", opts={"type": "tmpfs", "device": "tmpfs", "o": "size=100m,uid=1000,noexec"}),
            )
        ),
        of(mounts=(Mount(type="of-a-plugin", opts={"any": "thing"}),)),
        probed(path="/health?x=1"),
        of(sidecars=(SidecarTask(name="s"),)),
        each(list="{{ sequence(1, 5) }}", concurrency=99_999, min_success=7, var="my item"),
        each(list='[{"a": [nil, 1.5]}]'),
        subjob(output="hello world"),
        subjob(webhooks=(Webhook(url="{{ inputs.hook }}"),), inputs={"a": "{{ item.value }}"}, detached=True),
        begins(permissions=(Permission(user="a"), Permission(role="b"))),
        begins(secrets={"a-b.c": ""}, auto_delete=AutoDelete(after="24h")),
        begins(auto_delete=AutoDelete()),
    ],
)
def test_what_the_rules_allow_is_taken(job: Job) -> None:
    assert problems(job) == []


def test_lists_that_are_absent_are_another_rule_than_empty_ones_wherever_they_are() -> None:
    job = of(parallel=Parallel(tasks=(Task(name="a", subjob=SubJob(name="s", tasks=())),)))
    path = "Job.Tasks[0].Parallel.Tasks[0].SubJob.Tasks"
    assert [line.partition(" tag")[0] for line in lines(job, path.partition(".")[2].lower())] == [
        failed(path, "required").partition(" tag")[0]
    ]
    assert lines(job)[0].startswith(failed(path, "min"))


def test_the_budget_for_patterns_is_shared_with_nested_expressions() -> None:
    dear = [" or ".join(rf"'a' matches '[\\pL]{{90}}{at}+{n}'" for n in range(10)) for at in range(30)]
    inner = tuple(Task(name="t", each=Each(list=f"[{text}]", task=Task(name="i", if_=f"{{{{ {text} }}}}"))) for text in dear)
    job = of(subjob=SubJob(name="s", tasks=(Task(name="p", parallel=Parallel(tasks=inner)),)))
    started = time.process_time()
    assert problems(job) == []
    assert time.process_time() - started < 3


def test_no_tasks_at_all_is_another_rule_than_an_empty_list() -> None:
    assert lines(Job(name="j", tasks=()), "tasks")[0].startswith(failed("Job.Tasks", "required"))


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


def test_many_files_are_compared_in_a_moment() -> None:
    """Each with each would take minutes."""
    files = dict.fromkeys((f"d/f{number}" for number in range(30_000)), "")
    started = time.process_time()
    check_job(of(files=files))
    assert lines(of(files=files | {"d": ""}))[0].startswith(failed("Job.Tasks[0].Files", "file"))
    assert time.process_time() - started < 3


def test_dear_patterns_of_a_whole_job_cost_no_more_than_a_moment() -> None:
    """Each would take some fifty milliseconds to compile."""
    dear = [" or ".join(rf"'a' matches '[\\pL]{{90}}{at}-{n}'" for n in range(10)) for at in range(30)]
    started = time.process_time()
    check_job(Job(name="j", tasks=tuple(Task(name="t", if_=f"{{{{ {text} }}}}") for text in dear)))
    assert time.process_time() - started < 3
    assert lines(of(if_="{{ 'a' matches '(' }}"))[0].startswith("Key: 'Job.Tasks[0].If' Error")
