"""The service's connection to one journal copy.

After every loss it reconnects and asks for missed receipts.
"""

import asyncio
import random
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, cast

import msgspec

from wallet_engine.journal.link_wire import (
    Ask,
    Asks,
    CopyHello,
    CreditsFound,
    EntryText,
    FromService,
    MessageBuffer,
    MessageTooLong,
    NewEntries,
    NewEntry,
    Recover,
    ServiceHello,
    ServiceQuestion,
    Written,
    decode_from_journal,
    encode,
    notice_dead_peers,
)
from wallet_engine.journal.peer_tls import Impostor, NotSecured, check_copy, towards
from wallet_engine.journal.receipts_tracker import ReceiptTracker
from wallet_engine.telemetry.logging import get_logger

log = get_logger(__name__)

BACKOFF_S_MIN: Final = 0.05
BACKOFF_S_MAX: Final = 1.0
#: Maximum time for the connection and the copy's first message.
HELLO_S_MAX: Final = 5.0
#: Maximum unread bytes on the way to a copy; above it the connection is closed.
UNREAD_BYTES_MAX: Final = 8 * 1024 * 1024
#: Above this many unread bytes a copy is sent no entries any more: it fetches them when it can.
UNREAD_ENTRIES_BYTES_MAX: Final = 1024 * 1024
#: Bytes of entries in one message; the last entry may exceed it.
ENTRIES_BYTES_MAX: Final = 1024 * 1024


def _portions(entries: Sequence[NewEntry]) -> Iterator[Sequence[NewEntry]]:
    """The entries, divided into messages of about `ENTRIES_BYTES_MAX`."""
    size = start = 0
    for end, (_, header, columns) in enumerate(entries, 1):
        size += len(header) + len(columns)
        if size > ENTRIES_BYTES_MAX:
            yield entries[start:end]
            size, start = 0, end
    if start < len(entries):
        yield entries[start:]


class LinkClient:
    """Connects one copy with the tracker, for as long as it runs."""

    def __init__(
        self, journal_id: str, address: tuple[str, int], tracker: ReceiptTracker, *, service_id: str = ""
    ) -> None:
        """`address` and `tls` (as the copy announced it) may change at any time, for the next connection."""
        self.journal_id = journal_id
        self.address = address
        self.tracker = tracker
        self.service_id = service_id
        self.tls = ""
        #: Whether the client reconnects after a loss.
        self.listed = True
        self.refusal: str | None = None
        self._connection: _CopyConnection | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "connected" if self.connected else self.refusal or "connecting"
        return f"<LinkClient {self.journal_id} {self.address[0]}:{self.address[1]} {state}>"

    @property
    def connected(self) -> bool:
        """Whether the copy has said who it is, and receipts flow."""
        return self._connection is not None and self._connection.copy is not None

    def start(self) -> None:
        """Start connecting, and reconnect after every loss while `listed`."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(
                self._run(), name=f"receipts {self.journal_id}"
            )

    async def close(self) -> None:
        """End the connection for good."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            await asyncio.sleep(0)  # the transport closes in the next turn of the loop

    async def _run(self) -> None:
        backoff_s = BACKOFF_S_MIN
        while self.listed:
            self._connection = connection = _CopyConnection(self)
            try:
                try:
                    await self._connect(connection)
                    await connection.lost
                except (NotSecured, ssl.SSLError) as error:
                    self.refuse(str(error))
                except (OSError, TimeoutError):
                    pass
                except Exception:  # for example an address that is no name: the copy may announce another one
                    log.exception("no connection to a journal copy", journal=self.journal_id)
            finally:
                connection.abort()
            if connection.copy is not None:
                backoff_s = BACKOFF_S_MIN
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)
        self._task = None

    async def _connect(self, connection: "_CopyConnection") -> None:
        loop = asyncio.get_running_loop()
        host, port = self.address
        async with asyncio.timeout(HELLO_S_MAX):
            await loop.create_connection(lambda: connection, host, port, ssl=towards(self.tls))
            await connection.hello

    def refuse(self, why: str) -> None:
        """Note that the copy cannot be used, for a reason that does not pass by itself.

        Logs a new reason once.
        """
        if why != self.refusal:
            log.warning("a journal copy cannot be used", journal=self.journal_id, error=why)
        self.refusal = why


class _CopyConnection(asyncio.Protocol):
    """One connection to the copy; `copy` is set once it has said who it is."""

    def __init__(self, client: LinkClient) -> None:
        loop = asyncio.get_running_loop()
        self.copy: int | None = None
        self.hello: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._messages = MessageBuffer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._transport = transport
        notice_dead_peers(transport.get_extra_info("socket"))
        try:
            check_copy(self._client.journal_id, transport)
        except Impostor as error:
            self._client.refuse(str(error))
            self.abort()
            return
        self._send(ServiceHello(self._client.service_id))

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.tracker.disconnected(self._client.journal_id, self)
        if isinstance(exc, ssl.SSLError):  # a TLS 1.3 server refuses a certificate after the handshake
            self._client.refuse(str(exc))
        for waiter in (self.hello, self.lost):
            if not waiter.done():
                waiter.set_result(None)

    def abort(self) -> None:
        self._client.tracker.disconnected(self._client.journal_id, self)
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._messages.feed(data):
                message = decode_from_journal(body)
                if isinstance(message, CopyHello):
                    self._greet(message)
                elif isinstance(message, CreditsFound | EntryText):
                    self._client.tracker.answered(message)
                elif self.copy is not None:
                    self._client.tracker.receipts(self.copy, message.groups)
        except (MessageTooLong, msgspec.MsgspecError):
            self._client.refuse("not a journal copy")
            self.abort()

    def _greet(self, message: CopyHello) -> None:
        """Accept the copy if it has the expected id: a copy must not be counted under two names."""
        client = self._client
        if message.journal_id != client.journal_id:
            client.refuse(f"is journal {message.journal_id}")
            self.abort()
            return
        client.refusal = None
        if not self.hello.done():
            self.hello.set_result(None)
        self.copy = client.tracker.connected(client.journal_id, self, message.positions)

    def ask(self, asks: Sequence[Ask]) -> None:
        self._send(Asks(list(asks)))

    def find(self, question: ServiceQuestion) -> None:
        self._send(question)

    def recover(self, shard: str, reason: str) -> None:
        self._send(Recover(shard, reason))

    def written(self, entries: Sequence[NewEntry]) -> None:
        """Send the copy new entries, which it would otherwise fetch.

        If it reads too slowly, name only the partitions.
        """
        transport = self._transport
        if transport is None or transport.get_write_buffer_size() > UNREAD_ENTRIES_BYTES_MAX:
            self._send(Written([partition for partition, _, _ in entries]))
            return
        for some in _portions(entries):
            self._send(NewEntries(some))

    def _send(self, message: FromService) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(encode(message))
        if transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            transport.abort()
