"""Asks another journal copy: one connection, one question at a time (`copies_wire`)."""

import asyncio
import ssl
from typing import Final, TypeVar, cast

import msgspec

from wallet_engine.domain.addresses import split_address
from wallet_engine.journal.copies_wire import Answer, PeerHello, Question, decode_answer
from wallet_engine.journal.feed_wire import FollowerHello
from wallet_engine.journal.link_wire import (
    Ask,
    CopyHello,
    FromJournal,
    MessageBuffer,
    MessageTooLong,
    decode_from_journal,
    encode,
    notice_dead_peers,
)
from wallet_engine.journal.peer_tls import Impostor, check_copy, towards

#: Maximum time for the connection and the copy's first message.
CONNECT_S_MAX: Final = 2.0
#: Maximum time for an answer that needs no more than a sync at the copy.
ANSWER_S_MAX: Final = 5.0

A = TypeVar("A", bound=msgspec.Struct)


class Peer:
    """A connection to another copy. Any failure raises `OSError` or `TimeoutError`, and ends it."""

    def __init__(self, journal_id: str, hello: PeerHello | FollowerHello) -> None:
        self.journal_id = journal_id
        self._connection = _PeerConnection(journal_id, hello)

    def __repr__(self) -> str:
        return f"<Peer {self.journal_id}>"

    @property
    def receipted(self) -> list[Ask]:
        """The last entry of each partition that the copy had receipted when the connection began."""
        return self._connection.receipted

    @classmethod
    async def connect(
        cls, journal_id: str, address: str, asker: str | FollowerHello, tls: str = ""
    ) -> "Peer":
        """Connect to the copy with this id. `asker` is our own copy's id, or the hello of a follower.

        `tls` is what the copy announced about TLS.
        """
        peer = cls(journal_id, PeerHello(asker) if isinstance(asker, str) else asker)
        connection = peer._connection
        host, port = split_address(address)
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: connection, host, port, ssl=towards(tls))
                found = await connection.hello
        except TimeoutError:
            peer.close()
            raise TimeoutError(
                f"journal copy {journal_id} at {address} has not said who it is within {CONNECT_S_MAX:g} s"
            ) from None
        except BaseException:
            peer.close()
            raise
        if found != journal_id:
            peer.close()
            raise OSError(f"{address} is journal {found}, not {journal_id}")
        return peer

    async def ask(self, question: Question, kind: type[A], timeout_s: float = ANSWER_S_MAX) -> A:
        """The answer, which must be of type `kind`; else `OSError`."""
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._connection.ask(question)
        except BaseException as error:
            self.close()  # a late answer must not count as the next question's
            if isinstance(error, TimeoutError):
                asked = type(question).__name__
                raise TimeoutError(
                    f"journal copy {self.journal_id} has not answered {asked} within {timeout_s:g} s"
                ) from None
            raise
        if not isinstance(answer, kind):
            self.close()
            raise OSError(f"journal {self.journal_id} answered {type(question).__name__} with {answer!r}")
        return answer

    def close(self) -> None:
        self._connection.abort()


class _PeerConnection(asyncio.Protocol):
    def __init__(self, copy: str, hello: PeerHello | FollowerHello) -> None:
        loop = asyncio.get_running_loop()
        self.hello: asyncio.Future[str] = loop.create_future()
        self._copy = copy
        self._hello = hello
        self.receipted: list[Ask] = []
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None
        self._messages = MessageBuffer()

    async def ask(self, question: Question) -> Answer:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise OSError(f"journal copy {self._copy} has closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        transport.write(encode(question))
        return await self._answer

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._transport = transport
        notice_dead_peers(transport.get_extra_info("socket"))
        try:
            check_copy(self._copy, transport)
        except Impostor as error:
            self._fail(error)
            self.abort()
            return
        transport.write(encode(self._hello))

    def connection_lost(self, exc: Exception | None) -> None:
        # A TLS 1.3 server refuses a certificate after the handshake, and says why.
        why = f"refuses us: {exc}" if isinstance(exc, ssl.SSLError) else "is gone"
        self._fail(OSError(f"journal copy {self._copy} {why}"))

    def _fail(self, error: OSError) -> None:
        for waiter in (self.hello, self._answer):
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # there may be no waiter

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._messages.feed(data):
                self._take(body)
        except (MessageTooLong, msgspec.MsgspecError):
            self.abort()

    def _take(self, body: memoryview) -> None:
        if not self.hello.done():
            message: FromJournal = decode_from_journal(body)
            if isinstance(message, CopyHello):
                self.receipted = message.positions
                self.hello.set_result(message.journal_id)
            return
        try:
            answer = decode_answer(body)
        except msgspec.ValidationError:
            decode_from_journal(body)  # a receipt that the copy sent before our hello arrived
            return
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)
