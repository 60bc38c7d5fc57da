"""The keeper of a shard leaves no connection behind, however often it begins again."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from wallet_engine.recovery import keeper as module
from wallet_engine.recovery.keeper import ShardKeeper
from wallet_engine.redis_store.connection import Connection


def test_a_node_that_takes_no_second_connection_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a node does that is at its `maxclients`."""
    opened: list[Connection] = []

    async def take_one(address: str, on_lost: Any) -> Connection:
        if opened:
            raise ConnectionResetError("max number of clients reached")
        opened.append(await Connection.open(address, on_lost))
        return opened[0]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        shared: Any = SimpleNamespace(writer=None, recovered=lambda *_: None, forget_seq=None, behind=None)
        keeper = ShardKeeper("s1", shared, shared, shared, shared, shared)

        async def certified(*_: object) -> Any:
            return SimpleNamespace(
                map=None, partitions={}, refused=(), primary=SimpleNamespace(address=address)
            )

        monkeypatch.setattr(keeper._recovery, "run", certified)
        monkeypatch.setattr(module, "Connection", SimpleNamespace(open=take_one))
        with pytest.raises(ConnectionResetError):
            await keeper._recover_and_drain()
        async with asyncio.timeout(5):
            while opened[0].is_open:
                await asyncio.sleep(0.01)
        server.close()

    asyncio.run(run())
