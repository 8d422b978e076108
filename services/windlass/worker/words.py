"""What a program prints, on its way to the sink and into error sentences."""

import codecs

from windlass.secrets.redaction import Stream
from windlass.worker.runtime import TAIL_LINES, Sink

TAIL_CHARS = 16 * 1024
"""How much of the end of the output is kept for errors; a program may print one endless line."""
LINE_CHARS_MAX = 1024
"""Longest line that an error quotes whole."""


class Tail:
    """The end of what was printed, both streams together."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, text: str) -> None:
        """Append, and forget what is too far back."""
        self._text = text[-TAIL_CHARS:] if len(text) >= TAIL_CHARS else (self._text + text)[-TAIL_CHARS:]

    def lines(self) -> str:
        """The last lines, long ones shortened at their beginning; empty when nothing was printed."""
        last = [line.rstrip("\r") for line in self._text.rstrip().split("\n")][-TAIL_LINES:]
        return "\n".join(line if len(line) <= LINE_CHARS_MAX else "…" + line[-LINE_CHARS_MAX:] for line in last)

    def explain(self, sentence: str) -> str:
        """The sentence of an error, followed by the last lines where there are any."""
        lines = self.lines()
        return f"{sentence}: {lines}" if lines else sentence


class Words:
    """Decodes one stream piece by piece: a character cut in two is put together, bad UTF-8 replaced, NUL removed.

    Secrets are taken out here, before anything is cut.
    """

    def __init__(self, stream: str, sink: Sink, tail: Tail) -> None:
        self._stream = stream
        self._sink = sink
        self._tail = tail
        self._clean = Stream(sink.redactor)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> None:
        """Hand on what came."""
        self._emit(self._clean.feed(_storable(self._decoder.decode(data))))

    def end(self) -> None:
        """Hand on what was waiting for its other half."""
        rest = self._clean.feed(_storable(self._decoder.decode(b"", final=True)))
        self._emit(rest + self._clean.close())

    def _emit(self, text: str) -> None:
        if text:
            self._tail.add(text)
            self._sink.output(self._stream, text)


def _storable(text: str) -> str:
    return text.replace("\0", "") if "\0" in text else text
