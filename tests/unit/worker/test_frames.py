"""The engine's frames come out the same, however the connection cuts them."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from windlass.worker.docker.frames import HEADER, Frames

NUMBERS = {"out": 1, "err": 2}
pieces = st.lists(st.tuples(st.sampled_from(["out", "err"]), st.binary(max_size=40)), max_size=12)


def wire(sent: list[tuple[str, bytes]]) -> bytes:
    return b"".join(HEADER.pack(NUMBERS[stream], len(data)) + data for stream, data in sent)


def joined(got: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Neighbours of one stream put together, nothing empty."""
    out: list[tuple[str, bytes]] = []
    for stream, data in got:
        if data and out and out[-1][0] == stream:
            out[-1] = (stream, out[-1][1] + data)
        elif data:
            out.append((stream, data))
    return out


@given(pieces, st.lists(st.integers(0, 600), max_size=20))
def test_any_cut_gives_the_same(sent: list[tuple[str, bytes]], cuts: list[int]) -> None:
    data = wire(sent)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    frames = Frames()
    got = [piece for begin, end in itertools.pairwise(places) for piece in frames.feed(data[begin:end])]
    assert joined(got) == joined(sent)


@given(pieces)
def test_byte_by_byte_gives_the_same(sent: list[tuple[str, bytes]]) -> None:
    frames = Frames()
    got = [piece for byte in wire(sent) for piece in frames.feed(bytes([byte]))]
    assert joined(got) == joined(sent)


def test_neighbours_are_joined() -> None:
    assert list(Frames().feed(wire([("out", b"a"), ("out", b"b"), ("err", b"c"), ("out", b"d")]))) == [
        ("out", b"ab"),
        ("err", b"c"),
        ("out", b"d"),
    ]
