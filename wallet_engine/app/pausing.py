"""Keeps the gate of an API process informed whether the cluster is paused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from wallet_engine.http.gate import Gate
from wallet_engine.routing.directory import Directory, on_loop
from wallet_engine.routing.pausing import Pause
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics

log = get_logger(__name__)


@asynccontextmanager
async def watched_pause(directory: Directory, gate: Gate, metrics: Metrics) -> AsyncIterator[None]:
    """During the block, the gate takes payments or refuses them as the directory says."""

    def changed(pause: Pause | None) -> None:
        reason = "" if pause is None else pause.reason
        if reason != gate.paused:
            log.warning("no new payments are taken" if reason else "payments are taken", reason=reason)
        gate.paused = reason
        metrics.paused.set(bool(reason))

    # Read before the first caller is let in: the watch reports later changes.
    changed(await asyncio.to_thread(directory.pausing.get))
    unwatch = await asyncio.to_thread(directory.pausing.watch, on_loop(asyncio.get_running_loop(), changed))
    try:
        yield
    finally:
        unwatch()
