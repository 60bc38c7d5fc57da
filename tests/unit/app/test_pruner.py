"""A failure to remove segments stops no payments: the pruner runs in the journal process."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from wallet_engine.app import pruner as module
from wallet_engine.app.pruner import Pruner
from wallet_engine.recovery.pruning import parse_keep


@pytest.mark.parametrize("printed", ["no JSON", '{"3": "x"}'])
def test_a_process_that_reads_snapshots_and_prints_something_else_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    reader = tmp_path / "reader"
    reader.write_text(f"#!/bin/sh\necho '{printed}'\n")
    reader.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(reader))
    told: list[str] = []
    unused: Any = None
    pruner = Pruner(tmp_path, parse_keep("1d"), unused, unused, unused, told.append)
    monkeypatch.setattr(pruner, "prune", pruner._good_snapshots)

    async def run() -> None:
        running = asyncio.create_task(pruner.run())
        try:
            async with asyncio.timeout(20):
                while len(told) < 2 and not running.done():
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            ended = (await asyncio.gather(running, return_exceptions=True))[0]
        assert isinstance(ended, asyncio.CancelledError)

    asyncio.run(run())
    assert len(told) >= 2
    assert all(what.startswith("prune: ") for what in told)
