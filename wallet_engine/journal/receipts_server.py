"""The journal's side: broadcasts what became durable, answers questions about what is."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, cast

import msgspec

from wallet_engine.domain.errors import WalletError
from wallet_engine.journal.chains import Position
from wallet_engine.journal.credits import CreditSearch
from wallet_engine.journal.receipts_wire import (
    ASKS_PER_MESSAGE_MAX,
    RECEIPTS_PER_MESSAGE_MAX,
    Ask,
    Asks,
    CopyHello,
    FindCredits,
    MessageBuffer,
    MessageTooLong,
    ReceiptGroup,
    Receipts,
    Recover,
    ServiceHello,
    Written,
    decode_from_service,
    encode,
    notice_dead_peers,
)
from wallet_engine.telemetry.logging import get_logger

#: What a service may leave unread. Past it the connection is dropped: it reconnects and asks.
UNREAD_BYTES_MAX: Final = 8 * 1024 * 1024
CONNECTIONS_MAX: Final = 1000

log = get_logger(__name__)


class Durable(Protocol):
    """What the server needs of a `JournalWriter`."""

    @property
    def journal_id(self) -> str: ...

    @property
    def directory(self) -> Path: ...

    def positions(self) -> Mapping[int, Position]: ...

    def holds(self, partition: int, seq: int, nonce: str) -> bool: ...


class ReceiptServer:
    """Sends receipts to every connected service."""

    def __init__(
        self,
        durable: Durable,
        on_recover: Callable[[str, str], None],
        on_written: Callable[[list[int]], None] = lambda partitions: None,
    ) -> None:
        """`on_recover(shard, reason)` is called when a service asks for recovery, `on_written(partitions)` when
        it has appended to their streams; neither may block.
        """
        self.durable = durable
        self.on_recover = on_recover
        self.on_written = on_written
        self.connections: set[_ServiceConnection] = set()
        self.dropped = 0
        self.search = CreditSearch(durable)
        self._searches: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        services = sorted(connection.service_id for connection in self.connections)
        return f"<ReceiptServer {self.durable.journal_id} services={services} dropped={self.dropped}>"

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; port 0 takes any. Returns the address. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _ServiceConnection(self), host, port)
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

    def publish(self, receipts: Sequence[tuple[int, str, int]]) -> None:
        """Tell every service that these (partition, nonce, seq), in journal order, are durable. Encoded
        once.
        """
        for start in range(0, len(receipts), RECEIPTS_PER_MESSAGE_MAX):
            message = encode(Receipts(group_receipts(receipts[start : start + RECEIPTS_PER_MESSAGE_MAX])))
            for connection in tuple(self.connections):
                connection.send(message)

    def find(self, question: FindCredits, send: Callable[[bytes], None]) -> None:
        """Look credits up in the segments; `send` gets the answer, if there is one."""

        async def search() -> None:
            try:
                found = await self.search.find(question)
            except (WalletError, OSError) as error:
                log.error("credits were not looked up", partition=question.partition, error=str(error))
                return
            if found is not None:
                send(encode(found))

        task = asyncio.get_running_loop().create_task(search(), name="credit-search")
        self._searches.add(task)
        task.add_done_callback(self._searches.discard)

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
            for connection in tuple(self.connections):
                connection.abort()
            await self._server.wait_closed()
            await asyncio.gather(*self._searches, return_exceptions=True)
            self._server = None
            await asyncio.sleep(0)


def group_receipts(receipts: Sequence[tuple[int, str, int]]) -> list[ReceiptGroup]:
    """(partition, nonce, seq) in journal order -> one group per partition."""
    nonces: dict[int, list[str]] = {}
    last_seqs: dict[int, int] = {}
    for partition, nonce, seq in receipts:
        if partition in nonces:
            nonces[partition].append(nonce)
        else:
            nonces[partition] = [nonce]
        last_seqs[partition] = seq
    return [(partition, group, last_seqs[partition]) for partition, group in nonces.items()]


class _ServiceConnection(asyncio.Protocol):
    """One connected service."""

    def __init__(self, server: ReceiptServer) -> None:
        self.service_id = "?"
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._messages = MessageBuffer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._transport = transport
        if len(self._server.connections) >= CONNECTIONS_MAX:
            transport.abort()
            return
        notice_dead_peers(transport.get_extra_info("socket"))
        durable = self._server.durable
        try:
            positions = durable.positions()
        except WalletError:
            transport.abort()
            return
        hello = [(partition, at.seq, at.nonce) for partition, at in positions.items()]
        self._server.connections.add(self)
        self.send(encode(CopyHello(durable.journal_id, hello)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

    def abort(self) -> None:
        self._server.connections.discard(self)
        if self._transport is not None:
            self._transport.abort()

    def send(self, message: bytes) -> None:
        """Write, unless the service reads too slowly: then drop it."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(message)
        if transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            self._server.dropped += 1
            self.abort()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._messages.feed(data):
                message = decode_from_service(body)
                if isinstance(message, Written):
                    self._server.on_written(message.partitions)
                elif isinstance(message, Asks):
                    self._answer(message.asks)
                elif isinstance(message, FindCredits):
                    self._server.find(message, self.send)
                elif isinstance(message, Recover):
                    self._server.on_recover(message.shard, message.reason)
                elif isinstance(message, ServiceHello):
                    self.service_id = message.service_id
        except (MessageTooLong, msgspec.MsgspecError, WalletError):
            self.abort()  # not a service of ours, or the writer has stopped: it will come again and ask

    def _answer(self, asks: list[Ask]) -> None:
        holds = self._server.durable.holds
        asks = sorted(asks[:ASKS_PER_MESSAGE_MAX])
        held = [(partition, nonce, seq) for partition, seq, nonce in asks if holds(partition, seq, nonce)]
        if held:
            self.send(encode(Receipts(group_receipts(held))))
