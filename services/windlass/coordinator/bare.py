"""What people publish by hand, on the bare words: each document becomes a command, each captured report goes to its shard.

A message is acknowledged once the shard's stream has what it became. The id of a job comes from the stream's own stamp and
number, so that a redelivery makes no second job.
"""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import msgspec

from windlass import ids
from windlass import log as logs
from windlass.bus.connection import Bus
from windlass.bus.consume import Jetstream
from windlass.coordinator.records import Records
from windlass.documents.reading import read_job, read_task
from windlass.errors import Invalid, WindlassError
from windlass.ids import JobId, byte_for, is_id, shard_of
from windlass.messages.commands import JOB_COMMANDS, CancelJob, Fence, JobCommand, RestartJob, SubmitJob
from windlass.messages.envelope import encode, open_envelope, trace_of
from windlass.messages.jobs import Job
from windlass.messages.sealing import digest_of, seal_submission
from windlass.secrets.keys import Keys

log = logs.get()

USER = "nats"
"""The user in whose name jobs run that were published by hand."""
RETRY_S = 1.0


class Forwarder:
    """Takes the bare words, shared by all coordinators."""

    def __init__(self, bus: Bus, records: Records, shards: int, keys: Keys | None = None) -> None:
        self._bus, self._records, self._shards, self._keys = bus, records, shards, keys
        self._tasks: set[asyncio.Task[Any]] = set()
        self.incarnation = ""

    def take(self, delivery: Jetstream) -> None:
        """A message on a bare word came."""
        self._spawn(self._forward(delivery))

    async def _forward(self, delivery: Jetstream) -> None:
        try:
            subject, payload = self._translate(delivery)
        except Invalid as error:
            self._records.quarantine(delivery, str(error))
            return
        try:
            await self._bus.publish(subject, payload)
        except WindlassError as error:
            log.warning("forwarding_postponed", error=str(error))
            await delivery.nak(RETRY_S)
        else:
            await delivery.ack()
            log.debug("message_forwarded", subject=subject, body_bytes=len(payload))

    def _translate(self, delivery: Jetstream) -> tuple[str, bytes]:
        """Where a message goes, and as what."""
        word = self._bus.subjects.place(delivery.subject).word
        subjects, key = self._bus.subjects, (delivery.headers or {}).get("Nats-Msg-Id")
        match word:
            case "jobs" | "pending":
                job = read_job(delivery.payload).job if word == "jobs" else read_task(delivery.payload)
                return self._submit(job, key, delivery)
            case "jobs.cancel" | "jobs.restart":
                name = JobId(delivery.payload.decode(errors="replace").strip().strip('"'))
                if not is_id(name):
                    raise Invalid(f"{name[:64]!r} is not the id of a job: 32 hex digits")
                kind = CancelJob if word == "jobs.cancel" else RestartJob
                request = f"{self.incarnation}-{delivery.sequence}" if key is None else ids.named(word, key)
                command = kind(job=name, key=request)
                return subjects.jobs(shard_of(name, self._shards)), self._message(command, delivery)
            case "started" | "completed" | "error" | "progress":
                message = open_envelope(delivery.payload)
                report = JOB_COMMANDS.decode(message.type, message.data)
                if not isinstance(report, Fence) or not is_id(report.job) or not ids.WORKER.fullmatch(report.worker):
                    raise Invalid(f"{message.type} is no worker's report")
                return subjects.report(word, shard_of(report.job, self._shards), report.worker), delivery.payload
            case _:
                raise Invalid(f"{word} is not built yet")

    def _submit(self, job: Job, key: str | None, delivery: Jetstream) -> tuple[str, bytes]:
        at = datetime.fromtimestamp(delivery.stamp_ns / 1e9, UTC)
        name = (self.incarnation, delivery.sequence) if key is None else (USER, key)
        identifier = JobId(ids.derive(at, None if key is None else byte_for(USER, key), *name))
        digest = None if key is None else digest_of(msgspec.json.encode(job), job, self._keys)
        command = SubmitJob(job=identifier, definition=job, user=USER, key=key, digest=digest)
        sealed = seal_submission(command, self._keys)  # the stream of the shards stores it
        return self._bus.subjects.jobs(shard_of(identifier, self._shards)), self._message(sealed, delivery)

    def _message(self, command: JobCommand, delivery: Jetstream) -> bytes:
        at = datetime.fromtimestamp(delivery.stamp_ns / 1e9, UTC)
        trace = trace_of((delivery.headers or {}).get("traceparent"))
        return encode(command, id=f"{USER}-{delivery.sequence}", at=at, trace=trace)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
