"""Optional reports of requests beside the metrics: log lines at level debug, and OpenTelemetry traces."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple

import click

from wallet_engine.domain.errors import ConfigError
from wallet_engine.engine.engine import Engine
from wallet_engine.http.gate import MakeVisit, Visit
from wallet_engine.http.visits import LoggedVisit
from wallet_engine.telemetry.logging import get_logger

#: Variables of OpenTelemetry; a machine may have them for other programs.
_STANDARD_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NEEDED: Final = "traces need more packages: pip install 'wallet-engine[otel]'"

log = get_logger(__name__)


class Telling(NamedTuple):
    """The classes from which a service is built: plain, or with reports."""

    engine: type[Engine] = Engine
    visit: MakeVisit = Visit


def otlp_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--otlp-endpoint`, for `told`."""
    return click.option(
        "--otlp-endpoint",
        metavar="URL",
        help="Send OpenTelemetry traces there, by OTLP over HTTP (http://collector:4318). The variables OTEL_… count "
        "too.  [default: none]",
    )(command)


@asynccontextmanager
async def told(endpoint: str | None, service_id: str, log_level: str) -> AsyncIterator[Telling]:
    """During the block, traces are sent. Raises `ConfigError` when the packages for it are missing."""
    plain = Telling(visit=LoggedVisit) if log_level == "debug" else Telling()
    if endpoint is None and not any(map(os.environ.get, _STANDARD_VARIABLES)):
        yield plain
        return
    try:
        from wallet_engine.engine.traced import TracedEngine
        from wallet_engine.http.traced import TracedVisit
        from wallet_engine.telemetry.spans import Tracing
    except ModuleNotFoundError:
        if endpoint is not None:
            raise ConfigError(_NEEDED) from None
        log.warning("no traces are sent", why=_NEEDED)
        yield plain
        return
    tracing = Tracing.to(endpoint, service_id)
    try:
        yield Telling(TracedEngine, partial(TracedVisit, tracing))
    finally:
        await asyncio.to_thread(tracing.close)
