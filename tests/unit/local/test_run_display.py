"""What a person sees of a running job."""

import io
from datetime import UTC, datetime, timedelta

from windlass.local.client import Job, Retry, Task
from windlass.local.display import Display, harmless, span
from windlass.local.staffing import advice
from windlass.local.transcript import Line

START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + timedelta(seconds=1.5)


class Terminal(io.StringIO):
    """Claims to be one."""

    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO | None = None, environ: dict[str, str] | None = None) -> tuple[Display, io.StringIO]:
    stream = stream if stream is not None else io.StringIO()
    return Display(stream, environ or {}, ["fetch", "t"]), stream


def test_tasks_states_and_output_stand_in_columns() -> None:
    display, stream = shown()
    display.started(Task(id="1", name="t"))
    display.lines([Line("1", "out", "hello")], {"1": "t"})
    display.finished(Task(id="1", name="t", state="COMPLETED", started_at=START, completed_at=END))
    display.finished(Task(id="2", name="fetch", state="SKIPPED"))
    assert stream.getvalue().splitlines() == [
        "  t      started",
        "  t      | hello",
        "  t      completed in 1.50 s",
        "  fetch  skipped, its `if` is false",
    ]


def test_another_try_and_another_worker_are_told() -> None:
    display, stream = shown()
    display.started(Task(id="1", name="t", retry=Retry(limit=2, attempts=1)))
    display.started(Task(id="1", name="t", redelivered=1))
    assert "started, try 2 of 3" in stream.getvalue()
    assert "started again, after its worker was lost (1)" in stream.getvalue()


def test_an_error_is_told_whole_for_the_task_and_by_its_first_line_for_the_job() -> None:
    display, stream = shown()
    display.finished(Task(id="1", name="t", state="FAILED", started_at=START, failed_at=END, error="exit code 3\nwhy"))
    display.ended(Job(id="j", name="job", state="FAILED", created_at=START, failed_at=END, error="t: exit code 3\nwhy"))
    assert stream.getvalue().splitlines() == [
        "  t      failed after 1.50 s: exit code 3",
        "  t        why",
        "job job failed after 1.50 s: t: exit code 3",
    ]


def test_a_long_error_has_an_end() -> None:
    display, stream = shown()
    display.finished(Task(id="1", name="t", state="FAILED", error="\n".join(map(str, range(1000)))))
    assert len(stream.getvalue().splitlines()) == 21
    assert "[980 more lines]" in stream.getvalue()


def test_colours_only_on_a_terminal_that_wants_them() -> None:
    for stream, environ, coloured in (
        (io.StringIO(), {}, False),
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
    ):
        display, written = shown(stream, environ)
        display.started(Task(id="1", name="t"))
        assert ("\x1b[" in written.getvalue()) is coloured


def test_nothing_of_a_job_does_anything_to_a_terminal() -> None:
    ugly = "\x1b[31mred\x1b[0m\x1b]0;title\x07\r\x08\u202e\u2028\x9b2J\ttab"
    assert harmless(ugly) == "red\\x1b]0;title\\x07\\r\\x08\\u202e\\u2028\\x9b2J\ttab"
    display, stream = shown(Terminal(), {"NO_COLOR": "1"})
    display.submitted(Job(id="j", name=ugly, created_at=START))
    display.lines([Line("1", "out", ugly)], {"1": ugly})
    display.finished(Task(id="1", name=ugly, state="FAILED", error=ugly))
    display.ended(Job(id="j", name=ugly, state="FAILED", created_at=START, error=ugly))
    assert all(character.isprintable() or character in "\n\t" for character in stream.getvalue())


def test_it_goes_on_when_nobody_reads_any_more() -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    display, _ = shown(Closed())
    display.note("a")
    display.note("b")


def test_times_are_for_people() -> None:
    for seconds, text in ((0.0, "0.00 s"), (12.34, "12.3 s"), (75, "1 min 15 s"), (3700, "1 h 1 min"), (-1, "0.00 s")):
        assert span(START, START + timedelta(seconds=seconds)) == text
    assert span(None, END) == ""


def test_who_waits_for_a_worker_is_told_what_to_do() -> None:
    first, command, *_ = advice("gpu", 0, 'eval "$(windlass env worker)"; ')
    assert "no worker serves queue gpu" in first
    assert command == 'eval "$(windlass env worker)"; windlass worker --runtime auto --queue gpu:1'
    assert advice("gpu", 4, "") == ["waits in queue gpu: all its 4 slots are taken"]
    assert "'a b:1'" in advice("a b", 0, "")[1]
