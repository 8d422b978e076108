"""At debug a coordinator tells of each message what came of it, and at info it does not."""

import json
import signal
from typing import Any

import pytest

from tests.support.scenario import job, task
from tests.support.services import desk
from tests.support.stack import Servers, Service
from tests.support.waiting import until
from windlass.errors import NotFound
from windlass.eventlog.migrate import migrate
from windlass.messages.commands import CancelJob


@pytest.mark.parametrize("level", ["debug", "info"])
async def test_each_message_has_its_line(servers: Servers, database: str, prefix: str, level: str) -> None:
    migrate(database)
    environ = {"WINDLASS_NATS_URL": servers.nats.url, "WINDLASS_POSTGRES_DSN": database, "WINDLASS_SUBJECT_PREFIX": prefix}
    service = Service("coordinator", environ={**environ, "WINDLASS_LOG_LEVEL": level, "WINDLASS_LOG_FORMAT": "json"})
    try:
        async with desk(servers.nats.url, prefix) as at:
            await until("it owns shards", lambda: "shards_taken" in service.said, 30)
            name, other = await at.submit(job(task(queue="nobody"))), at.new()
            with pytest.raises(NotFound):
                await at.command(CancelJob(job=other))
            if level == "debug":
                await until("both are told", lambda: service.said.count("message_handled") >= 2)
    finally:
        assert service.end(signal.SIGTERM) == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in service.said.splitlines() if "message_handled" in line]
    told = {line["job"]: (line["type"], line["outcome"]) for line in lines}
    assert told == ({name: ("job.submit", "decided"), other: ("job.cancel", "not_found")} if level == "debug" else {})
    assert all(line["message_id"] and line["duration_ms"] >= 0 and line["service"] == "coordinator" for line in lines)
