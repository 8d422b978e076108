"""Structured logs on stdout: JSON, or colours on a terminal.

An event is a constant in the past tense, values go into keys: `log.info("job_started", job=job)`.
"""

import logging
import sys
from typing import Literal

# Where something has brought rich along, structlog loads it to colour tracebacks: a tenth of a second of every start.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # what the import system takes for "not there"
import structlog  # noqa: E402

if sys.modules.get("rich") is None:
    del sys.modules["rich"]

_TRACEBACKS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
"""Without the values of variables, which may be anybody's secrets."""

Format = Literal["console", "json"]


def configure(service: str, instance: str, log_format: Format, level: str = "info") -> None:
    """Set up the process's log once, at its start."""
    number = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40}[level]
    last = (
        [structlog.processors.ExceptionRenderer(_TRACEBACKS), structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, instance=instance)
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s", force=True)


def silence() -> None:
    """Say nothing, in a command that tells its own story."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def get() -> structlog.typing.FilteringBoundLogger:
    """The log."""
    return structlog.get_logger()  # type: ignore[no-any-return]  # structlog types its proxy as Any
