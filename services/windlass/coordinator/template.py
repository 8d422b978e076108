"""Templates of a job, evaluated once, when a task's row is made or the job ends.

What is quick is evaluated where it is decided. What is not is asked aside, and the command is decided again with the answer.
Run as a program, this answers the question on its standard input.
"""

import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from windlass import expressions
from windlass.clock import system as clock
from windlass.coordinator.job.evaluation import Context, Form, Listed, Render
from windlass.errors import Invalid
from windlass.expressions import DEFAULT, QUICK, CompileError, Environment, ExpressionError, Limits
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


def render(template: str, context: Context, form: Form = "text") -> str:
    """The text of a template, or a list as the JSON of a `Listed`.

    Raises:
        Invalid: an expression of it cannot be evaluated, with the sentence that the task fails with.
        Costly: it takes more than a moment; `settle` has the time.
    """
    if form == "text" and not expressions.has_template(template):
        return template
    try:
        return _FORMS[form](template, context, QUICK)
    except ExpressionError as error:
        if error.budget is not None and getattr(QUICK, error.budget) < getattr(DEFAULT, error.budget):
            raise Costly(question(template, context, form)) from None
        raise _failure(template, error) from error


def settle(question: bytes) -> Rendered:
    """The answer to the question of a `Costly`, however long it takes: at the most some two seconds."""
    template, context, form = msgspec.json.decode(question, type=tuple[str, dict[str, dict[str, Any]], Form])
    try:
        return _FORMS[form](template, context, DEFAULT)
    except ExpressionError as error:
        return _failure(template, error)
    except Invalid as error:
        return error


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

    def recall(template: str, context: Context, form: Form = "text") -> str:
        asked = form == "items" or expressions.has_template(template)
        answer = answers.get(question(template, context, form)) if asked else None
        if isinstance(answer, Invalid):
            raise answer
        return otherwise(template, context, form) if answer is None else answer

    return recall


def question(template: str, context: Context, form: Form = "text") -> bytes:
    """All that a template's value depends on, as JSON; the same for the same."""
    return msgspec.json.encode((template, {name: dict(table) for name, table in context.items()}, form), order="deterministic")


def _text(template: str, context: Context, limits: Limits) -> str:
    return expressions.render(template, _environment(context), limits).replace("\0", "")


def _items(source: str, context: Context, limits: Limits) -> str:
    """The elements of a list or of a map; a text that is the JSON of one stands for it, as a task's result does."""
    value = expressions.evaluate_field(source, _environment(context), limits)
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        with suppress(msgspec.DecodeError):
            value = msgspec.json.decode(value)
    value = expressions.plain(value)
    if isinstance(value, dict):
        listed = Listed([{"key": key, "value": value[key]} for key in sorted(value)], is_map=True)
    elif isinstance(value, list):
        listed = Listed(value)
    else:
        raise Invalid("each.list does not evaluate to a list")
    return msgspec.json.encode(listed).decode().replace("\\u0000", "")


_FORMS: Mapping[Form, Callable[[str, Context, Limits], str]] = {"text": _text, "items": _items}


def _environment(context: Context) -> Environment:
    return job_environment(
        inputs=context["inputs"],
        secrets=context["secrets"],
        tasks=context["tasks"],
        job=context["job"],
        below=secrets.randbelow,
        now=clock.now,
        items=context.get("items"),
    )


def _failure(template: str, error: ExpressionError) -> Invalid:
    verb = "compiling" if isinstance(error, CompileError) else "evaluating"
    return Invalid(f"error {verb} expression: {error.source or template}: {error}")


if __name__ == "__main__":
    main()
