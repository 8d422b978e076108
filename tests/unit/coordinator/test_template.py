"""What a template costs decides where it is evaluated, and nothing else."""

from copy import deepcopy

import msgspec
import pytest

from tests.support.scenario import complete, decided, given, job, running, submit, task, task_id
from windlass.coordinator import template
from windlass.coordinator.evaluator import Evaluator
from windlass.coordinator.job.evaluation import Context, Form
from windlass.coordinator.template import Costly, Rendered, question, recalling, render, settle
from windlass.errors import Invalid
from windlass.eventlog.state import JobWork
from windlass.messages.commands import JobCommand
from windlass.messages.events import JobEvent

LONG = "{{ count(1..200000, # % 2 == 0) }}"
ENDLESS = "{{ let a = 1..900000; count(a, any(a, # == 0)) }}"


def context(**tables: dict[str, str]) -> Context:
    """Tables of which most are empty."""
    return {"inputs": {}, "secrets": {}, "tasks": {}, "job": {}} | tables


def test_what_is_quick_is_evaluated_at_once() -> None:
    assert render("a {{ inputs.x }}", context(inputs={"x": "y"})) == "a y"
    with pytest.raises(Invalid, match=r"error evaluating expression: int\(\"x\"\): invalid operation"):
        render('{{ int("x") }}', context())


def test_what_takes_long_is_a_question_with_an_answer() -> None:
    with pytest.raises(Costly) as caught:
        render(LONG, context())
    assert caught.value.question == question(LONG, context())
    assert settle(question(LONG, context())) == "100000"
    assert settle(question(f"{{{{ inputs.x }}}}{LONG}", context(inputs={"x": "y"}))) == "y100000"


def test_what_takes_too_long_is_a_question_with_an_error() -> None:
    answer = settle(question(ENDLESS, context()))
    assert isinstance(answer, Invalid)
    assert "error evaluating expression: let a = " in str(answer)
    assert "step budget exceeded (1:" in str(answer)


def test_a_long_expression_is_a_question_too() -> None:
    long = "{{ " + "+".join(["1"] * 3000) + " }}"
    with pytest.raises(Costly):
        render(long, context())
    assert settle(question(long, context())) == "3000"


def test_an_answer_is_to_one_question_only() -> None:
    here, there = context(inputs={"x": "1"}), context(inputs={"x": "2"})
    recall = recalling({question(LONG, here): "seven"}, render)
    assert recall(LONG, here, "text") == "seven"
    assert recall("{{ inputs.x }}", here, "text") == "1"
    assert recall("plain", here, "text") == "plain"
    with pytest.raises(Costly):
        recall(LONG, there, "text")


def test_an_answer_that_is_an_error_is_raised() -> None:
    recall = recalling({question(LONG, context()): Invalid("no")}, render)
    with pytest.raises(Invalid, match="no"):
        recall(LONG, context(), "text")


@pytest.mark.asyncio
async def test_a_process_answers_as_this_one_does() -> None:
    evaluator = Evaluator()
    for text in (LONG, ENDLESS, f"é☕{LONG}"):
        asked = question(text, context(inputs={"x": "ü"}))
        assert repr(await evaluator.settle(asked)) == repr(settle(asked))


@pytest.mark.asyncio
async def test_a_process_that_does_not_answer_fails_the_template_only() -> None:
    answer = await Evaluator().settle(b"no question")
    assert isinstance(answer, Invalid)
    assert "without an answer" in str(answer)


# -- deciding again -------------------------------------------------------------------------------------------------


def histories() -> list[tuple[JobWork, JobCommand]]:
    """Working sets, and a command to each that evaluates some templates."""
    env = {"A": "{{ tasks.v }}", "B": "{{ inputs.x }}", "C": "c"}
    last = task("n{{ inputs.x }}", env=env, queue="q{{ job.name }}", cmd=("{{ inputs.x }}", "{{ tasks.v }}"))
    whole = job(task("a", var="v"), task(if_="{{ tasks.v }}"), last, inputs={"x": "1"}, output="{{ tasks.v }}")
    skipped = [task(if_="false{{ job.id == inputs.x }}") for _ in range(3)]
    return [
        *((given(*running(whole)).work, complete(task_id(), result=result)) for result in ("false", "7")),
        (JobWork(), submit(job(last, inputs={"x": "1"}))),
        (JobWork(), submit(job(*skipped, output="{{ nope }}"))),
        (given(*running(job(task(), output="{{ tasks.v }}"))).work, complete(task_id())),
    ]


@pytest.mark.parametrize(("work", "command"), histories())
@pytest.mark.parametrize("every", [1, 2, 3])
def test_deciding_again_with_answers_is_deciding_once(work: JobWork, command: JobCommand, every: int) -> None:
    """Whichever templates are costly: each is asked about once, and the events are those of one go."""
    answers: dict[bytes, Rendered] = {}

    def costly(text: str, at: Context, form: Form) -> str:
        asked = question(text, at, form)
        if "{{" in text and len(asked) % every == 0:
            raise Costly(asked)
        return render(text, at, form)

    def attempt() -> list[JobEvent] | None:
        try:
            return decided(command, deepcopy(work), recalling(answers, costly))
        except Costly as found:
            answers[found.question] = settle(found.question)
            return None

    rounds = 0
    while (events := attempt()) is None:
        rounds += 1
        assert len(answers) == rounds, "asked twice"
    assert events == decided(command, deepcopy(work), render)
    assert every > 1 or rounds


def test_the_program_reads_and_writes_what_the_evaluator_does() -> None:
    assert template.read(b'{"text":"a"}') == "a"
    assert str(template.read(b'{"error":"bad"}')) == "bad"
    assert template.read(b"{}") == ""
    with pytest.raises(msgspec.DecodeError):
        template.read(b"Traceback")
