"""A task's output on its way: numbered parts with both streams, in a bounded buffer that never holds the task up."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from windlass.ids import JobId, TaskId
from windlass.messages.notices import LogPart
from windlass.secrets.redaction import NOTHING, Redactor

PART_MAX = 64 * 1024
"""Bytes of a part in a message, at most: a character takes up to six, as an escape sequence does."""
CHARACTER_BYTES = 6
RUN_BYTES = 24
"""What a piece adds to the list of streams, and its quotation marks."""
BUFFER_MAX = 4 * 1024 * 1024
"""Characters that may wait for the broker; what comes beyond is dropped, and the next part says how much."""
FLUSH_S = 0.1
"""How long output waits for company."""
CLOSE_S = 10.0
"""How long a task's outcome waits for its last parts."""

_encode = msgspec.json.Encoder().encode


class Output:
    """The sink of one attempt; `send` stores a part with the broker and says whether it did."""

    def __init__(
        self,
        job: JobId,
        task: TaskId,
        attempt: int,
        send: Callable[[LogPart], Awaitable[bool]],
        redactor: Redactor = NOTHING,
    ) -> None:
        self.redactor = redactor
        self._job, self._task, self._attempt, self._send = job, task, attempt, send
        self._pieces: deque[tuple[str, str]] = deque()
        self._size = 0
        self._dropped = 0
        self._number = 0
        self._closed = False
        self._wake = asyncio.Event()
        self._shipper: asyncio.Task[None] | None = None
        self.on_progress: Callable[[float], None] = lambda value: None

    def output(self, stream: str, text: str) -> None:
        """See `Sink`."""
        if self._size + len(text) > BUFFER_MAX:
            self._dropped += len(text)
            return
        if self._dropped:
            note = f"\n[{self._dropped} characters dropped]\n"
            self._dropped = 0
            self._pieces.append(("err", note))
            self._size += len(note)
        self._pieces.append((stream, text))
        self._size += len(text)
        if self._shipper is None:
            self._shipper = asyncio.get_running_loop().create_task(self._ship())
        if self._size >= PART_MAX:
            self._wake.set()

    def progress(self, value: float) -> None:
        """See `Sink`."""
        self.on_progress(value)

    async def close(self, within_s: float = CLOSE_S) -> asyncio.Task[None] | None:
        """Send what is left; what the broker does not take for long goes on being sent, by the task that is returned."""
        self._closed = True
        self._wake.set()
        if self._dropped:
            self._pieces.append(("err", f"\n[{self._dropped} characters dropped]\n"))
            self._shipper = self._shipper or asyncio.get_running_loop().create_task(self._ship())
        if self._shipper is not None:
            await asyncio.wait({self._shipper}, timeout=within_s)
            if not self._shipper.done():
                return self._shipper
        return None

    async def _ship(self) -> None:
        while self._pieces or not self._closed:
            if not self._closed and self._size < PART_MAX:
                try:
                    async with asyncio.timeout(FLUSH_S if self._pieces else None):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
            if self._pieces:
                part = self._part()
                while not await self._send(part):
                    await asyncio.sleep(0.5)

    def _part(self) -> LogPart:
        texts: list[str] = []
        streams: list[tuple[str, int]] = []
        room = PART_MAX
        while self._pieces and room > RUN_BYTES + CHARACTER_BYTES:
            stream, text = self._pieces.popleft()
            room -= RUN_BYTES
            piece, size = _fitting(text, room)
            if len(piece) < len(text):
                self._pieces.appendleft((stream, text[len(piece) :]))
            texts.append(piece)
            room -= size
            self._size -= len(piece)
            if streams and streams[-1][0] == stream:
                streams[-1] = (stream, streams[-1][1] + len(piece))
            else:
                streams.append((stream, len(piece)))
        self._number += 1
        return LogPart(
            job=self._job,
            task=self._task,
            attempt=self._attempt,
            number=self._number,
            contents="".join(texts),
            streams=tuple(streams),
        )


def _fitting(text: str, room: int) -> tuple[str, int]:
    """The longest beginning, or nearly so, that takes at most `room` bytes in a message, and how many it takes."""
    piece = text[:room]
    while (size := len(_encode(piece))) > room:
        piece = piece[: max(1, len(piece) * room // size)]
    return piece, size
