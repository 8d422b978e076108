"""Output of tasks, put in order and cut into lines."""

from windlass.local.transcript import LINE_MAX, Line, Part, Transcript


def part(number: int, text: str, *streams: tuple[str, int], attempt: int = 1) -> Part:
    return Part("t", attempt, number, text, streams)


def out(*texts: str) -> list[Line]:
    return [Line("t", "out", text) for text in texts]


def test_a_line_may_come_in_several_parts() -> None:
    transcript = Transcript()
    assert transcript.take(part(1, "a\nb")) == out("a")
    assert transcript.take(part(2, "c\n")) == out("bc")


def test_parts_wait_for_earlier_ones_and_count_once() -> None:
    transcript = Transcript()
    assert transcript.take(part(2, "two\n")) == []
    assert transcript.with_gaps() == {"t"}
    assert transcript.take(part(1, "one\n")) == out("one", "two")
    assert transcript.with_gaps() == set()
    assert transcript.take(part(1, "one\n")) == []
    assert transcript.take(part(2, "two\n")) == []
    assert transcript.parts == 2
    assert transcript.has("t", 1, 2)
    assert not transcript.has("t", 1, 3)


def test_streams_have_lines_of_their_own() -> None:
    lines = Transcript().take(part(1, "ab1\n\nc\n", ("out", 2), ("err", 3), ("out", 2)))
    assert lines == [Line("t", "err", "1"), Line("t", "err", ""), Line("t", "out", "abc")]


def test_each_attempt_counts_from_one() -> None:
    transcript = Transcript()
    assert transcript.take(part(1, "a\n")) == out("a")
    assert transcript.take(part(1, "b\n", attempt=2)) == out("b")


def test_the_end_gives_what_is_left_and_tells_of_what_is_missing() -> None:
    transcript = Transcript()
    transcript.take(part(1, "a\nrest"))
    assert transcript.end("other") == []
    assert transcript.end("t") == out("rest")
    assert transcript.end("t") == []
    transcript.take(part(4, "z\n"))
    assert transcript.end("t") == [Line("t", "err", "[2 parts of output did not come]"), *out("z")]


def test_a_question_without_line_end_is_shown_once_it_stands_still() -> None:
    transcript = Transcript()
    transcript.take(part(1, "name? "))
    assert transcript.idle() == []
    assert transcript.idle() == out("name? ")
    assert transcript.idle() == []
    assert transcript.take(part(2, "Ann\n")) == out("Ann")


def test_a_row_of_dots_is_shown_while_it_grows() -> None:
    transcript = Transcript()
    transcript.take(part(1, "."))
    assert transcript.idle() == []
    transcript.take(part(2, "."))
    assert transcript.idle() == out("..")
    transcript.take(part(3, "."))
    assert transcript.idle() == []
    assert transcript.end("t") == out(".")


def test_a_bar_of_progress_is_shown_as_it_stood_last() -> None:
    transcript = Transcript()
    assert transcript.take(part(1, "10%\r50%\r100%\r\nwindows\r\n")) == out("100%", "windows")
    for number in range(2, 2000):
        transcript.take(part(number, f"\r{number} of 2000"))
    assert transcript.end("t") == out("1999 of 2000")


def test_endless_lines_are_cut() -> None:
    transcript = Transcript()
    lines = transcript.take(part(1, "x" * (2 * LINE_MAX + 5))) + transcript.end("t")
    assert [len(line.text) for line in lines] == [LINE_MAX, LINE_MAX, 5]
    assert [len(line.text) for line in transcript.take(part(2, "y" * (LINE_MAX + 1) + "\n"))] == [LINE_MAX, 1]
