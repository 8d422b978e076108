"""Text from bytes in pieces, and the end of it in errors."""

from hypothesis import given
from hypothesis import strategies as st

from windlass.secrets.redaction import NOTHING, REDACTED, Redactor
from windlass.worker.runtime import TAIL_LINES
from windlass.worker.words import LINE_CHARS_MAX, TAIL_CHARS, Tail, Words


class Kept:
    def __init__(self, redactor: Redactor = NOTHING) -> None:
        self.redactor = redactor
        self.text = ""

    def output(self, stream: str, text: str) -> None:
        assert text, "nothing was handed on"
        self.text += text

    def progress(self, value: float) -> None:
        raise AssertionError


@given(st.lists(st.binary(max_size=12), max_size=12))
def test_pieces_decode_like_the_whole(pieces: list[bytes]) -> None:
    sink = Kept()
    words = Words("out", sink, Tail())
    for piece in pieces:
        words.feed(piece)
    words.end()
    assert sink.text == b"".join(pieces).decode("utf-8", "replace").replace("\0", "")


def test_a_secret_is_gone_before_anything_is_cut() -> None:
    secret = "hunter2é" * 300
    sink, tail = Kept(Redactor([secret])), Tail()
    words = Words("err", sink, tail)
    for piece in f"with {secret}".encode(), b"\n", secret.encode()[:-1]:
        words.feed(piece)
    words.feed(secret.encode()[-1:])
    words.end()
    assert sink.text == f"with {REDACTED}\n{REDACTED}"
    assert tail.explain("exit code 1") == f"exit code 1: with {REDACTED}\n{REDACTED}"


def test_tail_has_the_last_lines_only() -> None:
    tail = Tail()
    for n in range(100):
        tail.add(f"{n}\n")
    assert tail.explain("exit code 1") == "exit code 1: " + "\n".join(str(n) for n in range(100 - TAIL_LINES, 100))


def test_tail_of_nothing_is_no_colon() -> None:
    assert Tail().explain("exit code 1") == "exit code 1"


def test_one_endless_line_stays_small() -> None:
    tail = Tail()
    for _ in range(50):
        tail.add("x" * (TAIL_CHARS // 2))
    assert tail.lines() == "…" + "x" * LINE_CHARS_MAX
