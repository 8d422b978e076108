"""The log: what goes wrong is told with where, and without what variables held."""

import json

import pytest
import structlog

from windlass import log as logs


def test_a_traceback_tells_where_and_not_what_variables_held(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        logs.configure("worker", "w", "json")
        held = "hunter2"
        try:
            raise ValueError(len(held))
        except ValueError:
            logs.get().exception("it_broke")
        line = capsys.readouterr().out
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    assert json.loads(line)["exception"][0]["exc_type"] == "ValueError"
    assert "hunter2" not in line
