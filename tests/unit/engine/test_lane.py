"""The connection to a shard comes back, whatever its node said before (G9), and leaves no connection behind."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import hiredis
import pytest

from wallet_engine.engine import lane as module
from wallet_engine.engine.lane import Lane

MYSELF = b"0f 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-16383\n"
TIME = b"*2\r\n$10\r\n1796000000\r\n$1\r\n5\r\n"

#: The reply to the n-th such command, from 0.
Reply = Callable[[int], bytes]


class Node:
    """A node that answers `CLUSTER NODES` and `TIME` as the test says."""

    def __init__(self, nodes: Reply, time: Reply) -> None:
        self._replies = {b"CLUSTER": nodes, b"TIME": time}
        self.asked = {b"CLUSTER": 0, b"TIME": 0}
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        parser = hiredis.Reader()
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    name = command[0]
                    if name == b"CLIENT":  # redis-py tells its name and version
                        writer.write(b"+OK\r\n")
                        continue
                    writer.write(self._replies[name](self.asked[name]))
                    self.asked[name] += 1
        except ConnectionError:
            pass
        finally:
            self.connections -= 1
            writer.close()


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


@asynccontextmanager
async def lane_to(node: Node, *others: str) -> AsyncIterator[tuple[Lane, asyncio.Event]]:
    ready = asyncio.Event()
    server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    lane = Lane("s1", (*others, address), lambda _: ready.set(), lambda _: None)
    lane.start()
    try:
        yield lane, ready
    finally:
        await lane.close()
        server.close()


def test_g9_a_node_that_names_no_node_of_its_own_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONNECT_S_MAX", 0.05)
    odd = (MYSELF.replace(b"myself,", b""), b"cut\n", b"\xff\n")

    async def run() -> None:
        node = Node(lambda count: bulk([*odd, MYSELF][min(count, len(odd))]), lambda _: TIME)
        async with lane_to(node) as (lane, ready):
            await asyncio.wait_for(ready.wait(), 10)
            assert lane.is_open
            assert node.asked[b"CLUSTER"] == len(odd) + 1

    asyncio.run(run())


def test_a_node_that_does_not_tell_its_clock_keeps_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONNECT_S_MAX", 0.05)
    refused = b"-NOPERM this user has no permissions to run the 'time' command\r\n"

    async def run() -> None:
        node = Node(lambda _: bulk(MYSELF), lambda count: refused if count < 5 else TIME)
        async with lane_to(node) as (lane, ready):
            await asyncio.wait_for(ready.wait(), 10)
            await asyncio.sleep(0.1)
            assert lane.is_open
            assert node.connections == 1

    asyncio.run(run())


@pytest.mark.parametrize("odd", [MYSELF.replace(b"myself,", b""), b"cut\n", b"\xff\n", None])
def test_g9_one_that_is_no_node_hides_no_primary(odd: bytes | None) -> None:
    """With None, its address cannot even be looked up."""

    async def run() -> None:
        other = Node(lambda _: bulk(odd or b""), lambda _: TIME)
        server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}" if odd else "host..svc:6379"
        async with lane_to(Node(lambda _: bulk(MYSELF), lambda _: TIME), address) as (lane, ready):
            await asyncio.wait_for(ready.wait(), 10)
            assert lane.is_open
        server.close()

    asyncio.run(run())
