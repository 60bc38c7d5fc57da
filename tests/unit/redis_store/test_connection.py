"""The connection of the write path: order, limits, and that nothing is ever sent twice (redis-py#261)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import pytest

from wallet_engine.redis_store import connection as module
from wallet_engine.redis_store.connection import Connection, ConnectionLost, NotSent, pack

Answer = Callable[[int, asyncio.StreamWriter], None]


class FakeNode:
    """A node that records each command. `answer(number, writer)` answers it."""

    def __init__(self, answer: Answer) -> None:
        self.commands: list[list[bytes]] = []
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                self.commands.append(command)
                self._answer(len(self.commands), writer)
        writer.close()


@asynccontextmanager
async def connected(answer: Answer) -> AsyncIterator[tuple[FakeNode, Connection, list[Connection]]]:
    node, lost = FakeNode(answer), []
    server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = await Connection.open(f"127.0.0.1:{port}", lost.append)
    try:
        yield node, connection, lost
    finally:
        connection.close()
        server.close()
        await asyncio.sleep(0.01)


def ok(number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(b"+%d\r\n" % number)


def test_replies_come_in_the_order_of_the_commands() -> None:
    async def run() -> None:
        async with connected(ok) as (_, connection, _lost):
            replies = await asyncio.gather(*(connection.call("PING") for _ in range(500)))
            assert [int(reply) for reply in replies] == list(range(1, 501))
            assert connection.in_flight == 0

    asyncio.run(run())


def test_what_is_flushed_is_written_at_once_in_order_and_only_once() -> None:
    async def run() -> None:
        async with connected(ok) as (node, connection, _lost):
            written: list[bytes] = []
            troubles: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, trouble: troubles.append(trouble))
            transport = connection._transport
            assert transport is not None
            real_write = transport.write

            class Spy:
                def write(self, data: bytes) -> None:
                    written.append(data)
                    real_write(data)

                def __getattr__(self, name: str) -> Any:
                    return getattr(transport, name)

            connection._transport = Spy()  # type: ignore[assignment]
            replied: list[Any] = []
            connection.send(pack(("ECHO", "a")), replied.append)
            connection.flush()
            assert written == [pack(("ECHO", "a"))]
            connection.send(pack(("ECHO", "b")), replied.append)
            connection.send(pack(("ECHO", "c")), replied.append)
            assert len(written) == 1, "these wait for the end of the turn"
            await connection.call("ECHO", "d")
            assert len(written) == 2
            assert [command[1] for command in node.commands] == [b"a", b"b", b"c", b"d"]
            assert len(replied) == 3
            assert troubles == []

    asyncio.run(run())


def test_replies_may_arrive_in_pieces() -> None:
    def in_pieces(number: int, writer: asyncio.StreamWriter) -> None:
        for byte in b"$5\r\nhello\r\n":
            writer.write(bytes([byte]))

    async def run() -> None:
        async with connected(in_pieces) as (_, connection, _lost):
            assert await asyncio.gather(connection.call("A"), connection.call("B")) == [b"hello", b"hello"]

    asyncio.run(run())


def test_an_error_is_a_reply_and_breaks_nothing() -> None:
    def refuse(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-NOSCRIPT no\r\n" if number == 1 else b"+OK\r\n")

    async def run() -> None:
        async with connected(refuse) as (_, connection, _lost):
            with pytest.raises(hiredis.ReplyError, match="NOSCRIPT"):
                await connection.call("EVALSHA")
            assert await connection.call("PING") == b"OK"

    asyncio.run(run())


def test_what_was_sent_when_the_connection_broke_is_unknown_and_is_not_sent_again() -> None:
    def hang_up(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 3:
            writer.transport.abort()

    async def run() -> None:
        async with connected(hang_up) as (node, connection, lost):
            replies: list[Any] = []
            for _ in range(3):
                connection.send(hiredis.pack_command(("INCR", "x")), replies.append)
            while len(replies) < 3:
                await asyncio.sleep(0.01)
            assert all(isinstance(reply, ConnectionLost) for reply in replies)
            assert lost == [connection]
            assert not connection.is_open
            with pytest.raises(NotSent):
                connection.send(b"", replies.append)
            await asyncio.sleep(0.1)
            assert len(node.commands) == 3

    asyncio.run(run())


def test_g9_a_callback_that_fails_hides_the_loss_from_nobody() -> None:
    def hang_up(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 3:
            writer.transport.abort()

    def fails(_: Any) -> None:
        raise ValueError("a bug")

    async def run() -> None:
        async with connected(hang_up) as (_, connection, lost):
            replies: list[Any] = []
            for callback in (replies.append, fails, replies.append):
                connection.send(pack(("INCR", "x")), callback)
            async with asyncio.timeout(5):
                while connection.is_open:
                    await asyncio.sleep(0.01)
            assert [type(reply) for reply in replies] == [ConnectionLost, ConnectionLost]
            assert lost == [connection]

    asyncio.run(run())


def test_g10_commands_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMANDS_IN_FLIGHT_MAX", 10)

    async def run() -> None:
        async with connected(lambda number, writer: None) as (_, connection, _lost):
            for _ in range(10):
                connection.send(hiredis.pack_command(("PING",)), lambda reply: None)
            with pytest.raises(NotSent):
                connection.send(hiredis.pack_command(("PING",)), lambda reply: None)

    asyncio.run(run())


def test_g10_a_node_that_answers_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPLY_TIMEOUT_S", 0.2)

    async def run() -> None:
        async with connected(lambda number, writer: None) as (_, connection, lost):
            with pytest.raises(ConnectionLost):
                await asyncio.wait_for(connection.call("PING"), 5)
            assert lost == [connection]

    asyncio.run(run())


def test_bytes_that_are_not_redis_end_the_connection() -> None:
    async def run() -> None:
        async with connected(lambda number, writer: writer.write(b"HTTP/1.1 200\r\n")) as (
            _,
            connection,
            lost,
        ):
            with pytest.raises(ConnectionLost):
                await asyncio.wait_for(connection.call("PING"), 5)
            assert lost == [connection]

    asyncio.run(run())
