"""When the event loop stands still, the thread that serves the metrics reports it."""

import asyncio
import threading
import time

import pytest

from wallet_engine.app import stall_watch
from wallet_engine.app.stall_watch import StallWatch
from wallet_engine.telemetry.metrics import Metrics


def test_it_is_said_while_everything_else_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall_watch, "TICK_S", 0.01)
    monkeypatch.setattr(stall_watch, "STALLED_S_MIN", 0.3)
    metrics, seen = Metrics(), threading.Event()

    def stalled_s() -> float:
        value = metrics.registry.get_sample_value("wallet_journal_disk_wait_seconds")
        assert value is not None
        return value

    def look() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not stalled_s() > 0.3:
            time.sleep(0.01)
        if stalled_s() > 0.3:
            seen.set()

    async def main() -> None:
        task = asyncio.create_task(StallWatch(metrics).run())
        await asyncio.sleep(0)
        looking = threading.Thread(target=look)
        looking.start()
        seen.wait(30)  # blocks the event loop, as a hanging disk does
        looking.join()
        deadline = time.monotonic() + 30
        while stalled_s() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert stalled_s() == 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert seen.is_set()
