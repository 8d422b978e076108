"""Who serves a queue: asked when a task is not taken, so that a person is told what it waits for."""

import shlex

import nats.errors
import nats.js.errors

from windlass.bus.connection import Bus
from windlass.bus.streams import Names
from windlass.errors import WindlassError
from windlass.local.client import Client
from windlass.messages.envelope import open_envelope
from windlass.messages.notices import NOTICES, NodeBeat

DEFAULT_QUEUE = "default"


async def slots(bus: Bus, client: Client) -> dict[str, int]:
    """The slots of every queue over all workers that are up.

    Raises:
        Unavailable: NATS or the API did not answer.
    """
    away = {node.id for node in await client.nodes() if node.status != "UP"}
    found: dict[str, int] = {}
    for beat in await _beats(bus):
        if beat.service == "worker" and beat.status == "UP" and beat.id not in away:
            for queue, number in beat.queues.items():
                found[queue] = found.get(queue, 0) + number
    return found


async def _beats(bus: Bus) -> list[NodeBeat]:
    """The newest heartbeat of every node."""
    stream, every = Names(bus.subjects).heartbeats, bus.subjects.heartbeats()
    found: list[NodeBeat] = []
    try:
        state = (await bus.jetstream.stream_info(stream, subjects_filter=every)).state
        for subject in state.subjects or {}:
            message = open_envelope((await bus.jetstream.get_last_msg(stream, subject)).data or b"")
            beat = NOTICES.decode(message.type, message.data)
            if isinstance(beat, NodeBeat):
                found.append(beat)
    except (nats.errors.Error, nats.js.errors.APIError, TimeoutError, WindlassError):
        return found  # a node that has just gone, or a server that is busy: what was found is what is known
    return found


def advice(queue: str, number: int, join: str) -> list[str]:
    """What to tell about a task that waits in a queue with so many slots; `join` precedes the command of one more worker."""
    if number:
        return [f"waits in queue {queue}: {'its only slot is' if number == 1 else f'all its {number} slots are'} taken"]
    lines = [
        f"waits: no worker serves queue {queue}. It runs as soon as one does; in another terminal:",
        f"{join}windlass worker --runtime auto --queue {shlex.quote(f'{queue}:1')}",
    ]
    if queue != DEFAULT_QUEUE:
        lines.append("Or cancel the job with Ctrl-C and give the task another queue.")
    return lines
