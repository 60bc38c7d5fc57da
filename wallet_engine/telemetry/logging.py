"""Logging to standard error: one JSON object per line, or a readable line when that is a terminal.

Records of libraries (uvicorn, kazoo, redis) use the same formatter, so a log has only one format.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from wallet_engine.telemetry.lean import without

# With rich, structlog would print tracebacks with all local variables, passwords too.
with without("rich"):
    import structlog
    from structlog.types import EventDict, Processor

#: Libraries whose INFO records are of no use to an operator.
_QUIET: Final = ("uvicorn", "uvicorn.error", "kazoo", "asyncio", "redis")

#: Id of the request that this context works for; empty without one.
_request_id: Final[ContextVar[str]] = ContextVar("request_id", default="")
#: Sets the request id that log lines of this context get.
log_with: Final = _request_id.set


def _say_request(_logger: object, _method: str, event: EventDict) -> EventDict:
    request_id = _request_id.get()
    if request_id:
        event.setdefault("request_id", request_id)
    return event


_SHARED: Final[list[Processor]] = [
    structlog.contextvars.merge_contextvars,
    _say_request,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def configure_logging(level: str = "info", json: bool | None = None) -> None:
    """Set up logging of the whole process. It may be called again.

    `level`: debug, info, warning or error; else raises `ValueError`. `json`: None means JSON unless standard error is a
    terminal.
    """
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ValueError(f"log level must be debug, info, warning or error, not {level!r}")
    as_json = not sys.stderr.isatty() if json is None else json
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=_rendering(as_json))
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def _rendering(as_json: bool) -> list[Processor]:
    drop_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if as_json:
        return [
            drop_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    coloured = not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "unknown")
    return [drop_meta, structlog.dev.ConsoleRenderer(colors=coloured)]


@contextmanager
def logged_with(request_id: str) -> Iterator[None]:
    """In the block, log lines have this request id."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose calls take an event and keyword fields: `log.info("moved", partition=12)`.

    Before `configure_logging` it uses the standard library's logger: structlog's own would print to standard output,
    where commands print their results.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name), wrapper_class=structlog.stdlib.BoundLogger
    )
    return logger
