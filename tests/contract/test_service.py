"""The life of a service, as a process of its own."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping

from tests.support.stack import wait_for

NOWHERE = {
    "WINDLASS_NATS_URL": "nats://nobody:secret@127.0.0.1:1",
    "WINDLASS_POSTGRES_DSN": "postgresql://nobody:secret@127.0.0.1:1/nothing",
}


class Service:
    """A service and what it says."""

    def __init__(self, name: str, environ: Mapping[str, str]) -> None:
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "windlass.cli", name],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def end(self) -> int:
        """Wait for its end; its exit code."""
        try:
            code = self.process.wait(30)
        finally:
            self.process.kill()
            self._reader.join(10)
            assert self.process.stdout is not None
            self.process.stdout.close()
        return code


def test_a_coordinator_that_waits_for_its_database_ends_without_a_word_when_it_is_asked_to() -> None:
    service = Service("coordinator", NOWHERE)
    try:
        wait_for("it waits", lambda: "waiting_for_dependency" in service.said, 30)
        service.process.send_signal(signal.SIGTERM)
    finally:
        code = service.end()
    assert (code, "Traceback" in service.said) == (0, False)


def test_a_worker_without_a_broker_says_so_in_one_line_with_the_remedy() -> None:
    service = Service("worker", {**NOWHERE, "TORK_RUNTIME_TYPE": "shell"})
    code = service.end()
    last = service.said.splitlines()[-1]
    assert (code, "Traceback" in service.said, "secret" in service.said) == (1, False, False)
    assert last.startswith("windlass worker: NATS at 127.0.0.1:1 does not answer")
    assert "WINDLASS_NATS_URL" in last
