"""The oracle as a sink: what looks for differences beside it goes on after any error."""

import asyncio
import errno
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from unit.admin.made import txid
from unit.deciding.test_decider import PARTITIONS, Journal, opened, paid

from wallet_engine.deciding import decider
from wallet_engine.deciding import sink as sink_module
from wallet_engine.deciding.sink import OracleSink
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.file_tree import FileTree
from wallet_engine.routing.model import ClusterConfig, Shard, spread
from wallet_engine.telemetry.metrics import Metrics


def test_a_partition_without_a_checkpoint_is_read_again_from_its_first_entry(tmp_path: Path) -> None:
    """It differed before the first one; the journal was told that all its entries may go."""

    async def main() -> None:
        tree = FileTree(tmp_path / "map.json")
        sink = OracleSink(tmp_path / "oracle", Directory(tree), PARTITIONS, ends, origin, Metrics())
        await sink.start()
        journal = Journal()
        await sink.take(
            [*opened(journal, (0, "ann"), (1, "bob")), journal.entry(1, f"+ t {txid(1)} bob @fees 500 USD")]
        )
        assert sink.resumes_after() == dict.fromkeys(range(PARTITIONS), 0)
        await sink.close()
        assert sink.resumes_after() == dict.fromkeys(range(PARTITIONS), 0) | {0: 1}
        sink._checkpoints.close()
        another = OracleSink(tmp_path / "oracle", Directory(tree), PARTITIONS, ends, origin, Metrics())
        await another.start()
        found = await another.positions(range(PARTITIONS))
        assert {partition: at.seq for partition, at in found.items()} == sink.resumes_after()
        assert another.resumes_after() == sink.resumes_after()
        await another.close()
        another._checkpoints.close()
        tree.close()

    async def ends() -> tuple[Mapping[int, int], bool]:
        return {}, True

    async def origin(partition: int, seq: int) -> str:
        return f"{partition}.{seq}"

    asyncio.run(main())


def test_g14_an_unforeseen_error_does_not_end_the_search_for_missing_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended unseen: no partition was stopped from then on, and there was no checkpoint."""
    monkeypatch.setattr(decider, "GRACE_S", 0.0)
    asked = asyncio.Event()
    failed: list[str] = []

    async def ends() -> tuple[Mapping[int, int], bool]:
        if not failed:
            failed.append("once")
            raise KeyError("what nobody foresaw")
        asked.set()
        return {}, True

    async def origin(partition: int, seq: int) -> str:
        return f"{partition}.{seq}"

    async def main() -> None:
        tree = FileTree(tmp_path / "map.json")
        sink = OracleSink(tmp_path / "oracle", Directory(tree), PARTITIONS, ends, origin, Metrics())
        await sink.start()
        journal = Journal()
        made = opened(journal, (0, "ann"), (1, "bob"))
        debit, _credit, settle = paid(journal)
        await sink.take([*made, debit, settle])
        async with asyncio.timeout(10):
            await asked.wait()
        await sink.close()
        sink._checkpoints.close()
        tree.close()

    asyncio.run(main())
    assert list((tmp_path / "oracle").iterdir())


def test_g14_a_checkpoint_that_cannot_be_saved_is_told_and_not_tried_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk was full: `doctor` said that all was well, and the log got two lines a second."""
    monkeypatch.setattr(sink_module, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(sink_module, "LOOK_S", 0.01)
    tries: list[bool] = []
    tried = asyncio.Event()

    def full(data: bytes) -> None:
        tries.append(True)
        tried.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    async def ends() -> tuple[Mapping[int, int], bool]:
        return {}, True

    async def origin(partition: int, seq: int) -> str:
        return ""

    async def main() -> None:
        tree = FileTree(tmp_path / "map.json")
        sink = OracleSink(tmp_path / "oracle", Directory(tree), PARTITIONS, ends, origin, Metrics())
        save = sink._checkpoints.save_matching
        monkeypatch.setattr(sink._checkpoints, "save_matching", full)
        await sink.start()
        await sink.take(opened(Journal(), (0, "ann")))
        await sink.flush()
        async with asyncio.timeout(10):
            await tried.wait()
        await asyncio.sleep(0.2)
        assert len(tries) == 1
        assert sink.trouble == f"cannot save its checkpoint in {tmp_path / 'oracle'}: No space left on device"
        monkeypatch.setattr(sink._checkpoints, "save_matching", save)
        await sink.close()
        assert sink.trouble == ""
        assert sink.resumes_after()[0] == 1
        sink._checkpoints.close()
        tree.close()

    asyncio.run(main())


def test_g9_a_node_that_hangs_and_a_text_that_nobody_can_read_keep_no_partition_from_being_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes were asked one after the other, and what an operator had accepted of one partition stopped the oracle."""
    hangs, stopped = threading.Event(), asyncio.Event()

    def stop(directory: Directory, partition: int, why: str) -> str:
        if partition == 0:
            hangs.wait(10)
        else:
            stopped.set()
        return "live"

    monkeypatch.setattr(sink_module, "stop_partition", stop)

    async def ends() -> tuple[Mapping[int, int], bool]:
        return {}, True

    async def origin(partition: int, seq: int) -> str:
        return f"{partition}.{seq}"

    async def main() -> None:
        directory = Directory(FileTree(tmp_path / "map.json"))
        shards = [Shard(f"s{p}", (f"127.0.0.1:{p + 1}",)) for p in range(PARTITIONS)]
        placement = spread(PARTITIONS, [shard.name for shard in shards])
        directory.initialise(ClusterConfig(partitions=PARTITIONS), shards, placement)
        directory.tree.create("/wallet/accepted/0", b"many")
        sink = OracleSink(tmp_path / "oracle", directory, PARTITIONS, ends, origin, Metrics())
        await sink.start()
        journal = Journal()
        made = opened(journal, (0, "ann"), (1, "bob"))
        wrong = [f"+ t {txid(p)} {name} @fees 500 USD" for p, name in enumerate(("ann", "bob"))]
        await sink.take([*made, *(journal.entry(p, line) for p, line in enumerate(wrong))])
        async with asyncio.timeout(5):
            await stopped.wait()
        assert "partition 0: entry 2: " in sink.trouble
        assert "(not stopped yet: its node has not answered yet)" in sink.trouble
        assert "/wallet/accepted/0 is damaged" in sink.trouble
        hangs.set()
        await sink.close()
        sink._checkpoints.close()
        directory.close()

    asyncio.run(main())
