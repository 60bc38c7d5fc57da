"""The keepers of a journal copy: what goes wrong with one shard stops no other."""

import asyncio
from typing import Any

import pytest

from wallet_engine.app import keepers as module
from wallet_engine.app.keepers import Keepers
from wallet_engine.domain.errors import NewerFormat
from wallet_engine.routing.model import Shard


def test_g9_a_bug_in_one_shard_ends_neither_the_process_nor_another_shard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The shard is served again after a pause. It ended the process, and each one after it."""
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    begun: list[str] = []

    class Keeper:
        def __init__(self, shard: str) -> None:
            self.shard = shard

        async def run(self) -> None:
            begun.append(self.shard)
            if begun.count("s1") == 1 and self.shard == "s1":
                raise ValueError("invalid literal for int()")
            if begun.count("s1") == 2 and self.shard == "s1":
                raise ExceptionGroup("", [KeyError(7)])
            if self.shard == "s3":
                raise NewerFormat("entry 7 is of rules", 9, 6)
            await asyncio.Event().wait()

    def make(shard: str) -> Any:
        return Keeper(shard)

    async def run() -> None:
        keepers = Keepers(make, lambda _: None)
        shards = {
            name: Shard(name, (f"127.0.0.1:{port}",)) for port, name in enumerate(("s1", "s2", "s3"), 1)
        }
        keepers.shards_changed({name: shards[name] for name in ("s1", "s2")})
        async with asyncio.timeout(5):
            while begun.count("s1") < 3:
                await asyncio.sleep(0)
                keepers.look()
        keepers.look()
        assert sorted(begun) == ["s1", "s1", "s1", "s2"]
        keepers.shards_changed(shards)
        await asyncio.sleep(0)
        with pytest.raises(NewerFormat):  # what the process must not go on with
            keepers.look()
        for task in keepers.tasks.values():
            task.cancel()

    asyncio.run(run())
