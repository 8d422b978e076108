"""Bells: one says that the log of a shard has something new, and saves a follower the wait for its next look."""

from collections.abc import Callable

from nats.aio.msg import Msg

from windlass import subjects
from windlass.bus.connection import Bus


async def listen(bus: Bus, name: str, ring: Callable[[int], None]) -> None:
    """Call `ring` with the shard of every bell of a name (`timed` or `hooked`) from now on."""

    async def rung(message: Msg) -> None:
        shard = subjects.rung(message.subject)
        if shard is not None:
            ring(shard)

    await bus.subscribe(bus.subjects.bells_of(name), rung)
