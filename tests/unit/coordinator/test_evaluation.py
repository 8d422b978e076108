"""Templates of a definition, evaluated once: what comes out is data."""

import pytest

from windlass.coordinator.job.evaluation import Context, evaluate
from windlass.coordinator.template import render
from windlass.errors import Invalid
from windlass.messages.jobs import SubJob, Task, Webhook


def below(webhook: Webhook, **inputs: str) -> Webhook:
    """The webhook of a sub-job, evaluated with these inputs of the job above."""
    context: Context = {"inputs": inputs, "secrets": {}, "tasks": {}, "job": {}}
    task = Task(name="t", subjob=SubJob(name="s", tasks=(Task(name="a"),), webhooks=(webhook,)))
    subjob = evaluate(task, context, render).subjob
    assert subjob is not None
    return subjob.webhooks[0]


def test_address_and_headers_of_a_subjobs_webhook_are_those_of_the_job_above() -> None:
    webhook = Webhook(url="{{ inputs.to }}/hook", headers={"A": "{{ inputs.a }}", "B": "b"})
    assert below(webhook, to="https://a.example", a="x") == Webhook(url="https://a.example/hook", headers={"A": "x", "B": "b"})


@pytest.mark.parametrize("to", ["", "ftp://a", "http://a b", "{{ secrets.x }}", "http://a/%zz"])
def test_an_address_that_cannot_be_called_fails_the_task(to: str) -> None:
    with pytest.raises(Invalid, match=r"^the address of a webhook, "):
        below(Webhook(url="{{ inputs.to }}"), to=to)


def test_a_value_does_not_pass_for_a_template() -> None:
    with pytest.raises(Invalid, match=r"^the header A of a webhook would hold '\{\{', which begins a template"):
        below(Webhook(url="http://a/", headers={"A": "{{ inputs.a }}"}), a="{{ secrets.token }}")
