"""What can go wrong with an expression: it cannot be compiled, or it cannot be run."""


class ExpressionError(Exception):
    """A message, where in the source it applies, and the source itself, so that it prints with an excerpt.

    `position` counts code points from 0 and is None where no place is to blame. `budget` names the field of `Limits`
    that ran out and is None for every other error: the same source may succeed under wider limits.
    """

    def __init__(self, message: str, position: int | None = None, budget: str | None = None, source: str = "") -> None:
        super().__init__(message, position, budget, source)
        self.message = message
        self.position = position
        self.budget = budget
        self.source = source

    def __reduce__(self) -> tuple[type["ExpressionError"], tuple[str, int | None, str | None, str]]:
        return type(self), (self.message, self.position, self.budget, self.source)

    @property
    def line(self) -> int:
        """The line of the position, from 1."""
        return self.source.count("\n", 0, self.position or 0) + 1

    @property
    def column(self) -> int:
        """The column of the position, from 1, in code points."""
        position = self.position or 0
        return position - self.source.rfind("\n", 0, position)

    @property
    def excerpt(self) -> str:
        """The source line with a caret under the position; empty where there is nothing to show."""
        if self.position is None or not self.source.strip():
            return ""
        text = self.source.split("\n")[self.line - 1].replace("\t", " ").rstrip("\r")
        return f" | {text}\n | {'.' * (self.column - 1)}^"

    def __str__(self) -> str:
        excerpt = self.excerpt
        return f"{self.message} ({self.line}:{self.column})\n{excerpt}" if excerpt else self.message


class CompileError(ExpressionError):
    """The source is not an expression, or cannot make sense with the types of this environment."""


class RunError(ExpressionError):
    """The expression met a value that it cannot deal with, or a limit."""
