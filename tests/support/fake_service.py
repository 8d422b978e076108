"""A service as the supervisor sees it: answers /ready, says lines, ends as it is told. Run as a program.

Arguments: PORT NAME DIARY [dies=CODE] [stubborn] [says=LINE]. It notes in the file DIARY that it started and that it
was asked to stop.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path


async def serve(port: int, name: str, diary: Path, options: dict[str, str]) -> int:
    """Live until SIGTERM."""
    asked = asyncio.Event()

    def note(word: str) -> None:
        with diary.open("a") as file:
            file.write(f"{name} {word} {os.getpid()}\n")

    def ask() -> None:
        note("asked")
        if "stubborn" not in options:
            asked.set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"status":"UP","service":"fake","instance":"fake","last_progress_at":"2026-01-01T00:00:00Z"}'
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ask)
    note("started")
    print(options.get("says", "a line that is no JSON"), flush=True)
    if "dies" in options:
        return int(options["dies"])
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        await asked.wait()
    return 0


if __name__ == "__main__":
    words = dict(word.partition("=")[::2] for word in sys.argv[4:])
    sys.exit(asyncio.run(serve(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), words)))
