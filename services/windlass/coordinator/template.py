"""Templates of a job, evaluated once, when a task's row is made or the job ends.

What is quick is evaluated where it is decided. What is not is asked aside, and the command is decided again with the answer.
Run as a program, this answers the question on its standard input.
"""

import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from windlass import expressions
from windlass.clock import system as clock
from windlass.coordinator.job.decide import Context, Render
from windlass.errors import Invalid
from windlass.expressions import DEFAULT, QUICK, CompileError, ExpressionError, Limits
from windlass.expressions.tork import job_environment

Rendered = str | Invalid
"""The text of a template, or the error that its task fails with."""
Settle = Callable[[bytes], Awaitable[Rendered]]
"""Answers the question of a `Costly`, while other things go on."""


class Costly(Exception):
    """A template takes longer than deciding may wait. `question` is all that its answer depends on, as JSON."""

    def __init__(self, question: bytes) -> None:
        super().__init__(f"a template of {len(question)} bytes takes long")
        self.question = question


def render(template: str, context: Context) -> str:
    """The text of a template; `context` has the tables `inputs`, `secrets`, `tasks` and `job`.

    Raises:
        Invalid: an expression of it cannot be evaluated, with the sentence that the task fails with.
        Costly: it takes more than a moment; `settle` has the time.
    """
    if not expressions.has_template(template):
        return template
    try:
        return _text(template, context, QUICK)
    except ExpressionError as error:
        if error.budget is not None and getattr(QUICK, error.budget) < getattr(DEFAULT, error.budget):
            raise Costly(question(template, context)) from None
        raise _failure(template, error) from error


def settle(question: bytes) -> Rendered:
    """The answer to the question of a `Costly`, however long it takes: at the most some two seconds."""
    template, context = msgspec.json.decode(question, type=tuple[str, dict[str, dict[str, str]]])
    try:
        return _text(template, context, DEFAULT)
    except ExpressionError as error:
        return _failure(template, error)


class _Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer on its way between processes."""

    text: str = ""
    error: str | None = None


def read(answer: bytes) -> Rendered:
    """An answer that the program gave; raises `msgspec.DecodeError` for anything else."""
    wire = msgspec.json.decode(answer, type=_Wire)
    return wire.text if wire.error is None else Invalid(wire.error)


def main() -> None:
    """Answer the question on standard input."""
    answer = settle(sys.stdin.buffer.read())
    wire = _Wire(error=str(answer)) if isinstance(answer, Invalid) else _Wire(text=answer)
    sys.stdout.buffer.write(msgspec.json.encode(wire))


def recalling(answers: Mapping[bytes, Rendered], otherwise: Render) -> Render:
    """Answers that are known already, and another way to render for what is not among them."""

    def recall(template: str, context: Context) -> str:
        answer = answers.get(question(template, context)) if expressions.has_template(template) else None
        if isinstance(answer, Invalid):
            raise answer
        return otherwise(template, context) if answer is None else answer

    return recall


def question(template: str, context: Context) -> bytes:
    """All that the text of a template depends on, as JSON; the same for the same."""
    return msgspec.json.encode((template, context), order="deterministic")


def _text(template: str, context: Context, limits: Limits) -> str:
    environment = job_environment(
        inputs=context["inputs"],
        secrets=context["secrets"],
        tasks=context["tasks"],
        job=context["job"],
        below=secrets.randbelow,
        now=clock.now,
    )
    return expressions.render(template, environment, limits).replace("\0", "")


def _failure(template: str, error: ExpressionError) -> Invalid:
    verb = "compiling" if isinstance(error, CompileError) else "evaluating"
    return Invalid(f"error {verb} expression: {error.source or template}: {error}")


if __name__ == "__main__":
    main()
