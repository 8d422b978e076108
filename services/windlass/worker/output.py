"""A task's output on its way: numbered parts with both streams, in a bounded buffer that never holds the task up."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from windlass.ids import JobId, TaskId
from windlass.messages.notices import LogPart

PART_MAX = 64 * 1024
"""Characters of a part, at most."""
BUFFER_MAX = 4 * 1024 * 1024
"""Characters that may wait for the broker; what comes beyond is dropped, and the next part says how much."""
FLUSH_S = 0.1
"""How long output waits for company."""
CLOSE_S = 10.0
"""How long the last parts may take."""


class Output:
    """The sink of one attempt; `send` stores a part with the broker and says whether it did."""

    def __init__(self, job: JobId, task: TaskId, attempt: int, send: Callable[[LogPart], Awaitable[bool]]) -> None:
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

    async def close(self) -> None:
        """Send what is left; returns when the broker has it, or when it does not answer for long."""
        self._closed = True
        self._wake.set()
        if self._dropped:
            self._pieces.append(("err", f"\n[{self._dropped} characters dropped]\n"))
            self._shipper = self._shipper or asyncio.get_running_loop().create_task(self._ship())
        if self._shipper is not None:
            await asyncio.wait({self._shipper}, timeout=CLOSE_S)
            self._shipper.cancel()

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
        size = 0
        while self._pieces and size < PART_MAX:
            stream, text = self._pieces.popleft()
            room = PART_MAX - size
            if len(text) > room:
                self._pieces.appendleft((stream, text[room:]))
                text = text[:room]
            texts.append(text)
            size += len(text)
            if streams and streams[-1][0] == stream:
                streams[-1] = (stream, streams[-1][1] + len(text))
            else:
                streams.append((stream, len(text)))
        self._size -= size
        self._number += 1
        return LogPart(
            job=self._job,
            task=self._task,
            attempt=self._attempt,
            number=self._number,
            contents="".join(texts),
            streams=tuple(streams),
        )
