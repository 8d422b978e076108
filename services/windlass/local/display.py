"""What a person sees of a job that runs: lines on standard error, so that standard output is its result alone."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TextIO

from windlass.local.client import Job, Task
from windlass.local.transcript import Line

NAME_MAX = 24
"""Characters of a task's name in front of its lines."""
ERROR_LINES_MAX = 20
"""Of what a task failed with."""
_DIM, _BOLD, _RED, _GREEN, _YELLOW, _CYAN, _OFF = (f"\x1b[{code}m" for code in (2, 1, 31, 32, 33, 36, 0))
_COLOURED = re.compile(r"\x1b\[[0-9;:]*m")
# Controls but tab, and what changes the direction of text, hides or breaks a line.
_HARMFUL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_WORDS = {"COMPLETED": ("completed", _GREEN), "FAILED": ("failed", _RED), "CANCELLED": ("cancelled", _YELLOW)}


def harmless(text: str) -> str:
    """A text that writes itself and does nothing else: colours are left out, controls shown as escapes."""
    return _HARMFUL.sub(lambda found: found[0].encode("unicode_escape").decode(), _COLOURED.sub("", text))


def span(start: datetime | None, end: datetime | None) -> str:
    """From one moment to another, for people."""
    if start is None or end is None:
        return ""
    seconds = max((end - start).total_seconds(), 0.0)
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Display:
    """Writes the story of one job, line by line; when nobody reads it any more, it goes on in silence."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str], names: Iterable[str]) -> None:
        self._stream = stream
        self._colours = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self._width = min(max((len(harmless(name)) for name in names), default=0), NAME_MAX)
        self._broken = False

    def note(self, text: str) -> None:
        """Something of Windlass itself."""
        self._write(self._paint(_DIM, harmless(text)))

    def warn(self, text: str, *more: str) -> None:
        """Something to do something about; further lines are indented."""
        self._write(self._paint(_YELLOW, harmless(text)))
        for line in more:
            self._write(f"  {harmless(line)}")

    def submitted(self, job: Job) -> None:
        """It is on its way."""
        self._write(f"{self._paint(_BOLD, f'job {harmless(job.name)}')} {self._paint(_DIM, job.id)}")

    def started(self, task: Task) -> None:
        """A task runs."""
        retry, detail = task.retry, ""
        if task.redelivered:
            detail = f" again, after its worker was lost ({task.redelivered})"
        elif retry is not None and retry.attempts:
            detail = f", try {retry.attempts + 1} of {retry.limit + 1}"
        self._task(task.name, self._paint(_CYAN, "started") + detail)

    def waiting(self, task: Task, text: str, *more: str) -> None:
        """A task is not taken by a worker."""
        self._task(task.name, self._paint(_YELLOW, harmless(text)))
        for line in more:
            self._write(f"    {harmless(line)}")

    def finished(self, task: Task) -> None:
        """A task has ended."""
        if task.state == "SKIPPED":
            self._task(task.name, self._paint(_DIM, "skipped, its `if` is false"))
            return
        word, colour = _WORDS.get(task.state, (task.state.lower(), _YELLOW))
        first, *more = harmless_lines(task.error) or [""]
        took = span(task.started_at, task.completed_at or task.failed_at)
        detail = (f" after {took}" if task.state == "FAILED" else f" in {took}") if took else ""
        self._task(task.name, self._paint(colour, word) + detail + (f": {first}" if first else ""))
        for line in more:
            self._task(task.name, f"  {line}")

    def lines(self, lines: Iterable[Line], names: Mapping[str, str]) -> None:
        """Output of tasks; `names` by their ids."""
        for line in lines:
            bar = self._paint(_RED if line.stream == "err" else _DIM, "|")
            self._task(names.get(line.task, line.task), f"{bar} {harmless(line.text)}".rstrip())

    def ended(self, job: Job) -> None:
        """How it went."""
        word, colour = _WORDS.get(job.state, (job.state.lower(), _YELLOW))
        took = span(job.created_at, job.completed_at or job.failed_at)
        detail = (f" after {took}" if job.state == "FAILED" else f" in {took}") if took else ""
        error = "".join(harmless_lines(job.error)[:1])
        self._write(
            f"{self._paint(_BOLD, f'job {harmless(job.name)}')} {self._paint(colour, word)}{detail}"
            + (f": {error}" if error else "")
        )

    def _task(self, name: str, text: str) -> None:
        shown = harmless(name)
        if len(shown) > NAME_MAX:
            shown = shown[: NAME_MAX - 1] + "…"
        self._write(f"  {self._paint(_BOLD, shown)}{' ' * (self._width - len(shown))}  {text}")

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_OFF}" if self._colours and text else text

    def _write(self, text: str) -> None:
        if self._broken:
            return
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._broken = True


def harmless_lines(text: str) -> list[str]:
    """The lines of a text that is shown in full up to a limit, without empty ones."""
    lines = [harmless(line) for line in text.splitlines() if line.strip()]
    return lines if len(lines) <= ERROR_LINES_MAX else [*lines[:ERROR_LINES_MAX], f"[{len(lines) - ERROR_LINES_MAX} more lines]"]
