"""The output of a job's tasks as lines: parts come in any order, twice or not at all, and lines go out in theirs."""

from dataclasses import dataclass, field
from typing import NamedTuple

LINE_MAX = 8_192
"""Characters; a longer line is cut into several."""


class Part(NamedTuple):
    """A numbered part of the output of one attempt; `streams` tells which stream each run of characters came from."""

    task: str
    attempt: int
    number: int
    contents: str
    streams: tuple[tuple[str, int], ...] = ()


class Line(NamedTuple):
    """A line of a task's output, without its end; `stream` is `out` or `err`."""

    task: str
    stream: str
    text: str


@dataclass(slots=True)
class _Attempt:
    following: int = 1
    held: dict[int, Part] = field(default_factory=dict)
    open: dict[str, str] = field(default_factory=dict)
    was_open: dict[str, str] = field(default_factory=dict)


class Transcript:
    """What came of each attempt, and what was given out of it."""

    def __init__(self) -> None:
        self._attempts: dict[tuple[str, int], _Attempt] = {}

    @property
    def parts(self) -> int:
        """How many parts there are, given out or held back."""
        return sum(attempt.following - 1 + len(attempt.held) for attempt in self._attempts.values())

    def take(self, part: Part) -> list[Line]:
        """The lines that this part completes: none, if it is known or an earlier one has not come yet."""
        attempt = self._attempts.setdefault((part.task, part.attempt), _Attempt())
        if part.number < attempt.following:
            return []
        attempt.held[part.number] = part
        lines: list[Line] = []
        while (following := attempt.held.pop(attempt.following, None)) is not None:
            attempt.following += 1
            lines += _split(following, attempt)
        return lines

    def has(self, task: str, attempt: int, number: int) -> bool:
        """Whether a part has come."""
        known = self._attempts.get((task, attempt))
        return known is not None and (number < known.following or number in known.held)

    def with_gaps(self) -> set[str]:
        """The tasks of which a part came before an earlier one."""
        return {task for (task, _), attempt in self._attempts.items() if attempt.held}

    def end(self, task: str) -> list[Line]:
        """All that is left of a task whose output has ended, over whatever is missing."""
        lines: list[Line] = []
        for (name, _), attempt in self._attempts.items():
            if name != task:
                continue
            for number in sorted(attempt.held):
                part = attempt.held.pop(number)
                lines.append(Line(task, "err", f"[{number - attempt.following} parts of output did not come]"))
                lines += _split(part, attempt)
                attempt.following = number + 1
            lines += [Line(task, stream, _as_seen(text)) for stream, text in attempt.open.items() if text]
            attempt.open.clear()
        return lines

    def idle(self) -> list[Line]:
        """What stands on lines that were begun before this was last asked and are not ended: a question, a row of dots."""
        lines: list[Line] = []
        for (task, _), attempt in self._attempts.items():
            for stream, text in list(attempt.open.items()):
                if text and attempt.was_open.get(stream):
                    lines.append(Line(task, stream, _as_seen(text)))
                    attempt.open[stream] = ""
            attempt.was_open = dict(attempt.open)
        return lines


def _split(part: Part, attempt: _Attempt) -> list[Line]:
    lines: list[Line] = []
    start = 0
    for stream, length in part.streams or (("out", len(part.contents)),):
        text = attempt.open.get(stream, "") + part.contents[start : start + length]
        start += length
        *whole, rest = text.split("\n")
        lines += [Line(part.task, stream, piece) for line in whole for piece in _pieces(_as_seen(line))]
        # Of what a carriage return overwrites, only the last is kept, however long the bar of progress runs.
        rest = rest[rest.rfind("\r", 0, -1) + 1 :]
        while len(rest) > LINE_MAX:
            lines.append(Line(part.task, stream, rest[:LINE_MAX]))
            rest = rest[LINE_MAX:]
        attempt.open[stream] = rest
    return lines


def _as_seen(line: str) -> str:
    """A line as a terminal leaves it: what stands behind the last carriage return."""
    return line.rstrip("\r").rpartition("\r")[2]


def _pieces(line: str) -> list[str]:
    return [line[start : start + LINE_MAX] for start in range(0, len(line), LINE_MAX)] or [""]
