"""The life of a service, as a process of its own."""

import signal

from tests.support.stack import Service, wait_for

NOWHERE = {
    "WINDLASS_NATS_URL": "nats://nobody:secret@127.0.0.1:1",
    "WINDLASS_POSTGRES_DSN": "postgresql://nobody:secret@127.0.0.1:1/nothing",
}


def test_a_coordinator_that_waits_for_its_database_ends_without_a_word_when_it_is_asked_to() -> None:
    service = Service("coordinator", environ=NOWHERE)
    try:
        wait_for("it waits", lambda: "waiting_for_dependency" in service.said, 30)
        service.process.send_signal(signal.SIGTERM)
    finally:
        code = service.end()
    assert (code, "Traceback" in service.said) == (0, False)


def test_a_worker_without_a_broker_says_so_in_one_line_with_the_remedy() -> None:
    service = Service("worker", "--runtime", "shell", environ=NOWHERE)
    code = service.end()
    last = service.said.splitlines()[-1]
    assert (code, "Traceback" in service.said, "secret" in service.said) == (1, False, False)
    assert last.startswith("windlass worker: NATS at 127.0.0.1:1 does not answer")
    assert "WINDLASS_NATS_URL" in last
