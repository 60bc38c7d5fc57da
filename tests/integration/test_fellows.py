"""How far a quorum is, as one copy learns it from the others, over real sockets."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from integration.test_catch_up import Copy
from unit.journal.samples import append

from wallet_engine.journal import peers
from wallet_engine.recovery.fellows import Fellows
from wallet_engine.routing.directory import Directory, open_directory
from wallet_engine.routing.model import ClusterConfig, JournalInfo, Shard, spread

ENTRIES = 5
#: Much shorter than the time after which a stopped copy is given up in this test.
NEWS_S_MAX = 20.0
GIVEN_UP_S = 300.0


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with closing(open_directory(None, tmp_path / "map.json")) as made:
        config = ClusterConfig(partitions=1, journal_quorum=2)
        made.initialise(config, [Shard("s1", ("127.0.0.1:1",))], spread(1, ["s1"]))
        made.replace_members(made.members(), ("a", "b", "c"))
        yield made


def test_g9_a_copy_that_is_stopped_delays_no_news_of_the_others(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G9: its kernel still accepts connections. The copy asked all others together and waited for every answer, so
    streams were not trimmed, and followers got nothing new, in steps of seconds.
    """
    monkeypatch.setattr(peers, "CONNECT_S_MAX", GIVEN_UP_S)

    async def main() -> None:
        a, b = Copy(tmp_path / "a", "a"), Copy(tmp_path / "b", "b")
        host, port = await b.server.start("127.0.0.1", 0)
        with socket.create_server(("127.0.0.1", 0)) as stopped:
            addresses = {"b": f"{host}:{port}", "c": f"127.0.0.1:{stopped.getsockname()[1]}"}
            for name, address in addresses.items():
                directory.register_journal(JournalInfo(name, address, "/journal", 1, "host"))
            fellows = Fellows(directory, a.copy)
            asking = asyncio.create_task(fellows.run())
            try:
                async with asyncio.timeout(NEWS_S_MAX):
                    for seq in range(1, ENTRIES + 1):
                        for copy in (a, b):
                            append(copy.writer, 0, 1)
                            copy.writer.sync()
                        while fellows.quorum_seq(0) < seq:
                            await asyncio.sleep(0.05)
                assert fellows.on_disk() == {"b": {0: ENTRIES}, "c": None}
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                fellows.close()
                await b.server.close()
                for copy in (a, b):
                    copy.writer.close()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("ask ")]

    asyncio.run(main())
