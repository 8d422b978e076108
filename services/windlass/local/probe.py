"""Asking a service how it is."""

import asyncio
from contextlib import suppress

import msgspec

from windlass.local.ports import LOOPBACK

ANSWER_BYTES_MAX = 65536


class Answer(msgspec.Struct):
    """What `/ready` says."""

    status: str = "DOWN"
    last_progress_at: str | None = None
    broken: dict[str, str] = {}
    is_ready: bool = False


async def ready(port: int, timeout_s: float = 1.0) -> Answer:
    """Ask the service that answers on this port; one that does not answer is not ready."""
    writer = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(f"GET /ready HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read(ANSWER_BYTES_MAX)
            while b"}" not in answer and (more := await reader.read(ANSWER_BYTES_MAX)):
                answer += more
        head, _, body = answer.partition(b"\r\n\r\n")
        found = msgspec.json.decode(body[body.index(b"{") : body.rindex(b"}") + 1], type=Answer)  # also out of a chunk
        found.is_ready = head.split(b" ", 2)[1] == b"200"
        return found
    except TimeoutError:
        return Answer(broken={"answer": f"none within {timeout_s:g} s"})
    except (OSError, ValueError, IndexError, msgspec.MsgspecError) as error:
        return Answer(broken={"answer": str(error) or type(error).__name__})
    finally:
        if writer is not None:
            with suppress(OSError):
                writer.close()


async def accepts(port: int, timeout_s: float = 1.0) -> bool:
    """Whether something listens on this port."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
