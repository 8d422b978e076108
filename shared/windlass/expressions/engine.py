"""What the package offers: expressions and templates by their text, kept ready for the next time."""

from collections.abc import Callable
from typing import Generic, TypeVar

from windlass.expressions.errors import CompileError
from windlass.expressions.limits import DEFAULT, Limits, write
from windlass.expressions.program import Names, Program, accounts
from windlass.expressions.templates import expression_of, placeholders
from windlass.expressions.values import Value, joined, well_formed

_Made = TypeVar("_Made")

_TEXT_MAX = 4_096
_TEXTS_MAX = 131_072


class _Cache(Generic[_Made]):
    """Things made from a text, the oldest dropped first; long texts are not kept, and all kept ones together are bounded.

    Threads may race: at worst a thing is made twice.
    """

    __slots__ = ("_kept", "_make", "_size")

    def __init__(self, make: Callable[[str, Limits], _Made]) -> None:
        self._make = make
        self._kept: dict[str, _Made] = {}
        self._size = 0

    def get(self, text: str, limits: Limits) -> _Made:
        made = self._kept.get(text)
        return self._new(text, limits) if made is None else made

    def clear(self) -> None:
        self._kept = {}
        self._size = 0

    def _new(self, text: str, limits: Limits) -> _Made:
        made = self._make(text, limits)
        if len(text) <= _TEXT_MAX:
            if self._size > _TEXTS_MAX:
                self.clear()
            self._size += len(text) + 16
            self._kept[text] = made
        return made


class _Template:
    """A text with expressions in it. An expression is read when its turn comes: what fails before it, fails first."""

    __slots__ = ("_parts",)

    def __init__(self, template: str, limits: Limits) -> None:
        self._parts: list[tuple[bool, str]] = []
        at = 0
        for start, end, inside in placeholders(template):
            self._parts += [(False, template[at:start]), (True, inside)]
            at = end
        self._parts.append((False, template[at:]))

    def render(self, environment: Names | None, limits: Limits) -> str:
        frame = accounts(environment, limits)
        shown = []
        size = 0
        for is_expression, part in self._parts:
            text = _programs.get(part, limits).text(frame, limits) if is_expression else part
            size += len(text)
            shown.append(text)
        write(frame, size)
        return "".join(shown)


_programs = _Cache(Program)
_templates = _Cache(_Template)


def compile(source: str, environment: Names | None = None, limits: Limits = DEFAULT) -> Program:  # noqa: A001  the word for it
    """The program of an expression, checked against the types of an environment, or as far as it goes without one.

    Raises `CompileError`.
    """
    program = _programs.get(source, limits)
    program.check(environment, limits)
    return program


def evaluate(source: str, environment: Names | None = None, limits: Limits = DEFAULT) -> Value:
    """The value of an expression; raises `CompileError` or `RunError`."""
    return _programs.get(source, limits).run(environment, limits)


def evaluate_field(source: str, environment: Names | None = None, limits: Limits = DEFAULT) -> Value:
    """The value of a field that holds one expression, with or without braces; text around the braces is not looked at."""
    return _programs.get(expression_of(source), limits).run(environment, limits)


def render(template: str, environment: Names | None = None, limits: Limits = DEFAULT) -> str:
    """The text with every `{{ … }}` replaced by the text of its value; raises `CompileError` or `RunError`.

    All expressions of a template draw on the same limits. Bytes that are not UTF-8 come out as U+FFFD.
    """
    if "{{" not in template:
        return template
    return well_formed(render_bytes(template, environment, limits))


def render_bytes(template: str, environment: Names | None = None, limits: Limits = DEFAULT) -> str:
    """Like `render`, but bytes that are not UTF-8 are kept, as the surrogates of `surrogateescape`."""
    if "{{" not in template:
        return template
    return joined(_templates.get(template, limits).render(environment, limits))


def check(source: str, limits: Limits = DEFAULT) -> None:
    """Whether a field that holds one expression can make sense with some environment; raises `CompileError` if not.

    An empty field is fine: there is nothing to evaluate. A regular expression that costs more steps to compile than there are
    is believed to be one.
    """
    if source:
        try:
            Program(expression_of(source), limits).check(None, limits)
        except CompileError as error:
            if error.budget != "steps":
                raise


def forget() -> None:
    """Drop all programs and templates that are kept."""
    _programs.clear()
    _templates.clear()
