"""Commands to the jobs: published to the shard's owner, answered when it has committed.

The broker's own ack is not waited for: the owner's answer says more. If none comes soon, the same command is published
again, this time with the broker's ack, so that a full or absent stream is known; the owner knows a command by its id and
carries it out once.
"""

import asyncio

import msgspec

from windlass import ids
from windlass.bus.connection import Bus
from windlass.clock import Clock
from windlass.errors import Unavailable, WindlassError, rebuild
from windlass.gateway.replies import Busy
from windlass.gateway.shapes import Committed
from windlass.ids import JobId
from windlass.messages.commands import ANSWERS, Answer, CancelJob, DeleteJob, How, PauseJob, RestartJob, ResumeJob, SubmitJob
from windlass.messages.envelope import encode, open_envelope
from windlass.messages.jobs import Job
from windlass.messages.sealing import seal_submission
from windlass.secrets.keys import Keys

WAITING_MAX = 5_000
"""Commands of one gateway without an answer; more are refused before they are sent."""
PATIENCE_S = 2.0
"""Without an answer for this long, a command is sent again; then after twice as long, and so on."""

Command = SubmitJob | CancelJob | RestartJob | PauseJob | ResumeJob | DeleteJob
_committed = msgspec.json.Decoder(Committed)


class Unknown(Unavailable):
    """The command was sent and nobody said what became of it."""

    code = "unknown"
    http = 503

    def __init__(self, seconds: float, hint: str) -> None:
        super().__init__(
            f"the outcome is unknown: no coordinator has answered within {seconds:g} s{hint}; "
            "repeating the request with the same Idempotency-Key is safe"
        )


class Commands:
    """Sends commands and waits for their answers."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        shards: int,
        timeout_s: float,
        patience_s: float = PATIENCE_S,
        chance: ids.Chance = ids.chance,
        keys: Keys | None = None,
    ) -> None:
        self._bus, self._clock, self._shards = bus, clock, shards
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._chance, self.keys = chance, keys
        self._subjects = [bus.subjects.jobs(shard) for shard in range(shards)]
        self._waiting = 0

    def new_id(self, user: str, key: str | None) -> JobId:
        """The id of a job to be; jobs of one key meet in one shard, whose owner sees that they are one."""
        return JobId(ids.new(self._clock.now(), None if key is None else ids.byte_for(user, key), self._chance))

    async def submit(
        self, job: JobId, definition: Job, user: str, key: str | None, digest: str | None, trace: str | None = None
    ) -> Committed:
        """Make a job; the committed one may be an earlier one of the same key.

        Raises:
            Invalid: the coordinator does not take it, or it has secrets and there is no key to seal them with.
            Conflict: the key was used with another body.
            Unavailable: nothing was sent, or the outcome is unknown.
        """
        command = SubmitJob(job=job, definition=definition, user=user, key=key, digest=digest)
        answer = await self._ask(seal_submission(command, self.keys), job, job, trace)
        assert isinstance(answer.body, msgspec.Raw), "an answer without error has a body"
        return _committed.decode(answer.body)

    async def cancel(self, job: JobId) -> None:
        """End a job.

        Raises:
            NotFound: there is no such job.
            Rejected: it has ended.
            Unavailable: nothing was sent, or the outcome is unknown.
        """
        key = ids.new(self._clock.now(), chance=self._chance)
        await self._ask(CancelJob(job=job, key=key), job, key)

    async def restart(self, job: JobId, how: How = "") -> None:
        """Go on with a job as `RestartJob` says.

        Raises:
            NotFound: there is no such job.
            Rejected: it cannot be restarted, and why.
            Unavailable: nothing was sent, or the outcome is unknown.
        """
        key = ids.new(self._clock.now(), chance=self._chance)
        await self._ask(RestartJob(job=job, key=key, how=how), job, key)

    async def pause(self, job: JobId, *, resume: bool = False) -> None:
        """Start nothing new of a job until it is resumed; or resume it.

        Raises:
            NotFound: there is no such job.
            Rejected: it has ended, or is part of another.
            Unavailable: nothing was sent, or the outcome is unknown.
        """
        key = ids.new(self._clock.now(), chance=self._chance)
        await self._ask((ResumeJob if resume else PauseJob)(job=job, key=key), job, key)

    async def delete(self, job: JobId) -> None:
        """Let nothing be left of a job that has ended.

        Raises:
            NotFound: there is no such job.
            Rejected: it has not ended, or is part of another.
            Unavailable: nothing was sent, or the outcome is unknown.
        """
        key = ids.new(self._clock.now(), chance=self._chance)
        await self._ask(DeleteJob(job=job, key=key), job, key)

    async def _ask(self, command: Command, job: JobId, message: str, trace: str | None = None) -> Answer:
        if self._waiting >= WAITING_MAX:
            raise Busy(f"{WAITING_MAX} requests wait for coordinators already; nothing was sent, ask again later")
        if not self._bus.connected:
            raise Unavailable("NATS does not answer; nothing was sent, ask again")
        self._waiting += 1
        try:
            answer = await self._first(command, job, message, trace)
        finally:
            self._waiting -= 1
        if answer.code is not None:
            raise rebuild(answer.code, answer.message or answer.code)
        return answer

    async def _first(self, command: Command, job: JobId, message: str, trace: str | None) -> Answer:
        """The first answer; each sending has an inbox of its own, since a new connection has a new one."""
        loop = asyncio.get_running_loop()
        subject = self._subjects[ids.shard_of(job, self._shards)]
        deadline, patience, hint = loop.time() + self._timeout_s, self._patience_s, ""
        at, sendings = self._clock.now(), 0
        while (left := deadline - loop.time()) > 0:
            inbox, future = self._bus.expect()
            timer = loop.call_later(min(patience, left), _give_up, future)
            try:
                payload = encode(command, id=message, at=at, reply=inbox, trace=trace)
                if sendings == 0:
                    await self._bus.tell(subject, payload)
                else:
                    hint = await self._again(subject, payload) or hint
                data = await future
            finally:
                timer.cancel()
                future.cancel()
            if data != _NOTHING:
                envelope = open_envelope(data)
                return ANSWERS.decode(envelope.type, envelope.data)
            sendings, patience = sendings + 1, patience * 2
        raise Unknown(self._timeout_s, hint)

    async def _again(self, subject: str, payload: bytes) -> str:
        """Publish with the broker's ack; what it said if it did not take the message."""
        try:
            await self._bus.publish(subject, payload, timeout_s=self._patience_s)
        except WindlassError as error:
            return f" ({error})"
        return ""


_NOTHING = b""


def _give_up(future: "asyncio.Future[bytes]") -> None:
    if not future.done():
        future.set_result(_NOTHING)
