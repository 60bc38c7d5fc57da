"""The workers beside payments in a journal process: one that fails runs again, and operators see why it failed."""

import asyncio
from pathlib import Path

import pytest

from wallet_engine.app import journal
from wallet_engine.app.disk_watch import DiskWatch
from wallet_engine.app.troubles import Troubles


@pytest.mark.parametrize(
    "failure", [OSError(24, "Too many open files"), ValueError("what nobody foresaw")], ids=repr
)
def test_g9_a_worker_that_failed_once_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """It was stopped until the next start of the process; of an unforeseen failure nobody heard."""
    monkeypatch.setattr(journal, "WORKER_RETRY_S", 0.2)
    looks = 0

    async def main() -> None:
        troubles, looked_again = Troubles(), asyncio.Event()

        def free_bytes(_: Path) -> int:
            nonlocal looks
            looks += 1
            if looks == 1:
                raise failure
            looked_again.set()
            return 10**9

        watch = DiskWatch(tmp_path, troubles.teller("disk"), free_bytes)
        async with asyncio.timeout(10), journal._beside({"disk": watch}, troubles):
            await troubles.changed()
            (trouble,) = troubles.now()
            assert str(failure) in trouble.what
            await looked_again.wait()
            assert troubles.now() == ()

    asyncio.run(main())
