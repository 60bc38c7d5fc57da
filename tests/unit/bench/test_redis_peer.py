"""A connection of the peer Redis that the server closes."""

import asyncio

import pytest

from bench.peers.base import PeerFailed
from bench.peers.redis_server import _Caller


@pytest.mark.parametrize("before", [True, False], ids=["before a pipeline", "during a pipeline"])
def test_a_closed_connection_is_a_failure_and_not_a_wait_for_ever(before: bool) -> None:
    async def main() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not before:
                await reader.read(1)
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            _, caller = await asyncio.get_running_loop().create_connection(_Caller, host, port)
            assert caller.transport is not None
            while before and not caller.transport.is_closing():
                await asyncio.sleep(0.01)
            async with asyncio.timeout(10):
                with pytest.raises(PeerFailed, match="Redis closed the connection"):
                    await caller.pipeline(b"PING\r\n", 1)
            caller.transport.abort()

    asyncio.run(main())
