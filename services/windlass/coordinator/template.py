"""Templates of a job, evaluated once, when a task's row is made or the job ends."""

import secrets
from collections.abc import Mapping

from windlass import expressions
from windlass.clock import system as clock
from windlass.errors import Invalid
from windlass.expressions import CompileError, ExpressionError
from windlass.expressions.tork import job_environment


def render(template: str, context: Mapping[str, Mapping[str, str]]) -> str:
    """The text of a template; `context` has the tables `inputs`, `secrets`, `tasks` and `job`.

    Raises:
        Invalid: an expression of it cannot be evaluated, with the sentence that the task fails with.
    """
    if not expressions.has_template(template):
        return template
    try:
        environment = job_environment(
            inputs=context["inputs"],
            secrets=context["secrets"],
            tasks=context["tasks"],
            job=context["job"],
            below=secrets.randbelow,
            now=clock.now,
        )
        return expressions.render(template, environment).replace("\0", "")
    except ExpressionError as error:
        verb = "compiling" if isinstance(error, CompileError) else "evaluating"
        raise Invalid(f"error {verb} expression: {error.source or template}: {error}") from error
