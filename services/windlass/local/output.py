"""The merged log of `up`: what its children print, a line each, readable or as JSON."""

import os
import re
from collections.abc import Mapping
from typing import IO, Any, Literal

import msgspec

from windlass.clock import Clock, system

Format = Literal["console", "json"]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "warn": 30, "error": 40, "critical": 50}
_DIM, _BOLD, _RED, _YELLOW, _OFF = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
_COLOURS = {
    "gateway": "\x1b[36m",
    "coordinator": "\x1b[35m",
    "worker": "\x1b[32m",
    "scheduler": "\x1b[34m",
    "webhooks": "\x1b[33m",
}
_NATS = re.compile(r"\[\d+\] \S+ \S+ \[(DBG|TRC|INF|WRN|ERR|FTL)\] (.*)")
_NATS_LEVELS = {"DBG": "debug", "TRC": "debug", "INF": "debug", "WRN": "warning", "ERR": "error", "FTL": "error"}
_POSTGRES = re.compile(r"(DEBUG\d?|INFO|NOTICE|LOG|STATEMENT|DETAIL|HINT|CONTEXT|WARNING|ERROR|FATAL|PANIC): +(.*)")
_POSTGRES_LEVELS = {"WARNING": "warning", "ERROR": "warning", "FATAL": "warning", "PANIC": "error"}
_EXPECTED = ("Plaintext passwords detected",)
"""What the servers warn of and is meant here: the file with the passwords is its owner's alone."""


def read_line(service: str, line: str) -> tuple[str, str]:
    """Level and text of a line that is not JSON: the servers' own ways of saying it, else information."""
    found = _NATS.match(line) if service == "nats" else None
    if found:
        return ("debug" if found[2].startswith(_EXPECTED) else _NATS_LEVELS[found[1]]), found[2]
    found = _POSTGRES.match(line) if service == "postgres" else None
    if found:
        # A connection refused while it starts or stops, say, is FATAL to that connection only: people need not run.
        return _POSTGRES_LEVELS.get(found[1], "debug"), found[2]
    return ("debug" if service in ("nats", "postgres") else "info"), line


def printable(text: str) -> str:
    """The text on one line, controls and the like shown as escapes, so that no child can write on the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Output:
    """Where the log goes. Once nobody reads it any more, it is dropped."""

    def __init__(
        self,
        stream: IO[str],
        log_format: Format,
        level: str = "info",
        environ: Mapping[str, str] = os.environ,
        clock: Clock = system,
    ) -> None:
        self._stream, self._format, self._clock = stream, log_format, clock
        self._threshold = _LEVELS.get(level, 20)
        self._colours = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self._broken = False

    def event(self, level: str, event: str, **values: Any) -> None:
        """Something that `up` itself did."""
        stamp = self._clock.now().isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._emit("up", "up", {"timestamp": stamp, "level": level, "event": event, **values})

    def line(self, service: str, instance: str, line: str) -> None:
        """One line that a child printed."""
        if line.startswith("{"):
            try:
                record = msgspec.json.decode(line)
            except msgspec.DecodeError:
                record = None
            if isinstance(record, dict) and "event" in record:
                self._emit(service, instance, record)
                return
        level, text = read_line(service, line)
        stamp = self._clock.now().isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._emit(service, instance, {"timestamp": stamp, "level": level, "event": text})

    def _emit(self, service: str, instance: str, record: dict[str, Any]) -> None:
        if _LEVELS.get(str(record.get("level", "info")), 20) < self._threshold:
            return
        record.setdefault("service", service)
        record.setdefault("instance", instance)
        self._write(msgspec.json.encode(record).decode() if self._format == "json" else self._readable(record, service, instance))

    def _write(self, text: str) -> None:
        if self._broken:
            return
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._broken = True

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_OFF}" if self._colours and colour else text

    def _readable(self, record: dict[str, Any], service: str, instance: str) -> str:
        taken = {"timestamp", "level", "event", "service", "instance", "exception"}
        level = str(record.get("level", "info"))
        number = _LEVELS.get(level, 20)
        tone = _RED if number >= 40 else _YELLOW if number >= 30 else ""
        parts = [
            self._paint(_DIM, str(record.get("timestamp", ""))[11:23].ljust(12)),
            self._paint(_COLOURS.get(service, _DIM), printable(instance).ljust(14)),
            self._paint(tone, {"warning": "warn"}.get(level, level).ljust(5)),
            self._paint(tone or _BOLD, printable(str(record["event"]))),
        ]
        parts += [
            f"{self._paint(_DIM, printable(key) + '=')}{_value(value)}" for key, value in record.items() if key not in taken
        ]
        return " ".join(parts) + "".join(f"\n    {line}" for line in _traceback(record.get("exception")))


def _value(value: object) -> str:
    """A word as it is, anything else as JSON, so that it can be told where a value ends."""
    is_word = isinstance(value, str) and value != "" and value.isprintable() and not set(value) & set(' "=')
    return str(value) if is_word else _json(value)


def _json(value: object) -> str:
    return printable(msgspec.json.encode(value).decode())


def _traceback(exception: object) -> list[str]:
    """Where an error came from, innermost last; the shape is structlog's `ExceptionDictTransformer`."""
    if isinstance(exception, str):
        return [printable(line) for line in exception.splitlines()]
    lines: list[str] = []
    for one in exception if isinstance(exception, list) else []:
        if not isinstance(one, dict):
            continue
        for frame in one.get("frames", []):
            lines.append(printable(f"{frame.get('filename')}:{frame.get('lineno')} in {frame.get('name')}"))
        lines.append(printable(f"{one.get('exc_type')}: {one.get('exc_value')}"))
    return lines
