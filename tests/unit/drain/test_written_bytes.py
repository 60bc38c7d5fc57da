"""The metric of written bytes is the growth of the journal's file."""

import asyncio
from pathlib import Path

from wallet_engine.drain.group_commit import GroupCommit
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.link_server import LinkServer
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.telemetry.metrics import Metrics


def test_bytes_on_disk_are_counted_once(tmp_path: Path) -> None:
    async def main() -> None:
        writer = JournalWriter(tmp_path / "j", "j1")
        copy, metrics = JournalCopy(writer), Metrics()
        server = LinkServer(copy, lambda shard, reason: None)
        commit = GroupCommit(copy, server, metrics)
        (segment,) = (tmp_path / "j").glob("*.wal")
        before = segment.stat().st_size
        for epoch in (1, 2):
            writer.mark_base(0, epoch)
            commit.sync()
        commit.sync()  # nothing new
        grown = segment.stat().st_size - before
        assert grown > 0
        assert f"wallet_journal_written_bytes_total {float(grown)}" in metrics.render().decode()
        writer.close()

    asyncio.run(main())
