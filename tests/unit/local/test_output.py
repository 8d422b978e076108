"""The merged log: readable, safe on a terminal, or JSON."""

import io
import json

from windlass.local.output import Format, Output


class Terminal(io.StringIO):
    """Claims to be one."""

    def isatty(self) -> bool:
        return True


def render(
    line: str, service: str = "worker", log_format: Format = "console", level: str = "info", stream: io.StringIO | None = None
) -> str:
    stream = stream if stream is not None else io.StringIO()
    Output(stream, log_format, level, {}).line(service, f"{service}-1", line)
    return stream.getvalue()


RECORD = (
    '{"timestamp":"2026-11-24T21:36:22.619123Z","level":"info","event":"job_started","service":"worker","job":"ab","attempt":2}'
)


def test_a_record_is_time_instance_level_event_and_values() -> None:
    assert render(RECORD) == "21:36:22.619 worker-1       info  job_started job=ab attempt=2\n"


def test_colours_only_on_a_terminal() -> None:
    assert "\x1b[" in render(RECORD, stream=Terminal())
    assert "\x1b[" not in render(RECORD)


def test_json_keeps_the_record_and_adds_who_said_it() -> None:
    assert json.loads(render(RECORD, log_format="json")) == {**json.loads(RECORD), "instance": "worker-1"}


def test_controls_cannot_reach_the_terminal() -> None:
    for line in ("plain \x1b[2J \u202e text", '{"event":"\\u001b[2J","level":"info","what":"\\u202e\\n\\u001b"}'):
        shown = render(line)
        assert shown.count("\n") == 1
        assert shown[:-1].isprintable()


def test_below_the_level_nothing_is_shown() -> None:
    assert render('{"event":"e","level":"debug"}') == ""
    assert render('{"event":"e","level":"debug"}', level="debug") != ""


def test_servers_chat_is_left_out_and_their_warnings_are_not() -> None:
    assert render("[12] 2026/11/24 21:00:00.000000 [INF] Listening for client connections", "nats") == ""
    assert render("[12] 2026/11/24 21:00:00.000000 [WRN] Plaintext passwords detected, use nkeys or bcrypt", "nats") == ""
    assert "warn  Slow consumer" in render("[12] 2026/11/24 21:00:00.000000 [WRN] Slow consumer", "nats")
    assert render("LOG:  database system is ready to accept connections", "postgres") == ""
    assert "error could not write" in render("PANIC:  could not write", "postgres")


def test_an_error_comes_with_where_it_arose() -> None:
    frames = [{"filename": "a.py", "lineno": 3, "name": "f"}]
    record = {"event": "failed", "level": "error", "exception": [{"exc_type": "ValueError", "exc_value": "no", "frames": frames}]}
    assert render(json.dumps(record)).splitlines()[1:] == ["    a.py:3 in f", "    ValueError: no"]


def test_a_reader_that_is_gone_is_no_error() -> None:
    stream = io.StringIO()
    output = Output(stream, "console", "info", {})
    stream.close()
    output.event("info", "stopped")
    output.event("info", "stopped")
