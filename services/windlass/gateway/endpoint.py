"""The NATS side of the API: a request on `api.jobs` is answered as `POST /jobs` is."""

import asyncio

from nats.aio.msg import Msg

from windlass import log as logs
from windlass.bus.connection import Bus
from windlass.errors import WindlassError
from windlass.gateway.intake import Intake
from windlass.gateway.replies import Reply, error_reply, refusal
from windlass.messages.envelope import trace_of

QUEUE = "gateway"
"""All gateways share the requests."""
AT_ONCE_MAX = 1_000
"""Requests under way in one gateway; more are refused."""

log = logs.get()


class Endpoint:
    """Answers requests, each in a task of its own."""

    def __init__(self, bus: Bus, intake: Intake, group: asyncio.TaskGroup) -> None:
        self._bus, self._intake, self._group = bus, intake, group
        self._running: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Take requests from now on."""
        await self._bus.subscribe(self._bus.subjects.request("jobs"), self._on_request, QUEUE)

    def close(self) -> None:
        """Drop what is under way; its senders hear nothing and may ask again."""
        for task in self._running:
            task.cancel()

    async def _on_request(self, message: Msg) -> None:
        if len(self._running) >= AT_ONCE_MAX:
            await self._answer(message, refusal(503, f"{AT_ONCE_MAX} requests are under way already; ask again later"))
            return
        task = self._group.create_task(self._serve(message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _serve(self, message: Msg) -> None:
        try:
            trace = trace_of((message.headers or {}).get("traceparent"))
            reply = await self._intake.take(message.data, None, trace=trace)
        except WindlassError as error:
            reply = error_reply(error)
        except Exception:  # one request must not end the service
            log.exception("request_failed", subject=message.subject)
            reply = refusal(500, "Internal Server Error")
        await self._answer(message, reply)

    async def _answer(self, message: Msg, reply: Reply) -> None:
        if message.reply:
            headers = None if reply.status == 200 else {"Nats-Service-Error-Code": str(reply.status)}
            await self._bus.tell(message.reply, reply.body, headers)
