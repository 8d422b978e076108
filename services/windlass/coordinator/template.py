"""Templates of a job, until expressions are wired in: a text with `{{` is refused."""

from collections.abc import Mapping

from windlass.errors import Invalid


def render(template: str, context: Mapping[str, object]) -> str:
    """The text of a template.

    Raises:
        Invalid: it holds an expression.
    """
    if "{{" in template:
        raise Invalid(f"{template[:80]!r}: expressions are not built yet; write the text itself")
    return template
