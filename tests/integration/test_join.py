"""How a journal copy joins another one, over real sockets and directories."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
from integration.test_catch_up import Copy, written

from wallet_engine.recovery.fellows import Fellows
from wallet_engine.recovery.join import _Joining
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.model import ClusterConfig, JournalInfo, PartitionMap, Shard, spread
from wallet_engine.routing.tree import VersionConflict

ENTRIES = 20


@pytest.mark.parametrize("when", ["before it looks", "after it has looked"])
def test_g5_a_copy_that_was_overtaken_while_it_joins_does_not_count_yet(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: it was stopped between the fence and the list of members. Another recovery has begun a newer epoch since,
    whose entries it lacks. Counted in place of a copy that has them, it would make them unheard of.
    """
    take_best = _Joining._take_best

    async def main() -> None:
        with closing(open_directory(None, tmp_path / "map.json")) as directory:
            directory.initialise(
                ClusterConfig(partitions=1), [Shard("s1", ("127.0.0.1:1",))], spread(1, ["s1"])
            )
            members = directory.replace_members(directory.members(), ("a",))
            a, b = Copy(tmp_path / "a", "a"), Copy(tmp_path / "b", "b")
            written(a, {0: ENTRIES})
            host, port = await a.server.start("127.0.0.1", 0)
            directory.register_journal(JournalInfo("a", f"{host}:{port}", "/journal", 1, "host"))
            joining = _Joining(directory, b.copy, b.commit, Fellows(directory, b.copy), None)

            async def overtaken(*words: object) -> None:
                await take_best(*words)  # type: ignore[arg-type]
                if when == "before it looks":
                    directory.raise_epochs([0])
                else:
                    monkeypatch.setattr(directory, "partition_map", looked)

            def looked() -> PartitionMap:
                monkeypatch.undo()
                found = directory.partition_map()
                directory.raise_epochs([0])
                return found

            try:
                monkeypatch.setattr(_Joining, "_take_best", overtaken)
                with pytest.raises(
                    (OSError, VersionConflict),
                    match=r"another recovery has begun|/map (was changed|is at version)",
                ):
                    await joining.run(members, directory.partition_map())
                monkeypatch.undo()
                assert directory.members().copies == ("a",)
                await joining.run(members, directory.partition_map())
                assert directory.members().copies == ("a", "b")
                assert b.seqs() == {0: ENTRIES}
            finally:
                await a.server.close()
                for copy in (a, b):
                    copy.writer.close()

    asyncio.run(asyncio.wait_for(main(), 60))
