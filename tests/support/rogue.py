"""An attacker that speaks the protocol of the journal's port, with any certificate or none."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from wallet_engine.domain.addresses import join_address, split_address
from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import EntryHeader
from wallet_engine.domain.operation import parse_operation
from wallet_engine.journal.copies_wire import Standing, Standings, StateAsk, decode_answer, decode_at_copy
from wallet_engine.journal.link_wire import (
    CopyHello,
    MessageBuffer,
    NewEntries,
    NewEntry,
    Receipts,
    decode_from_journal,
    encode,
)
from wallet_engine.telemetry.authority import Pair

#: For messages that normally come at once.
HEAR_S_MAX = 20.0


def client_context(ca: Path | None, pair: Pair | None) -> ssl.SSLContext:
    """Accepts every server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if ca is not None:
        context.load_verify_locations(ca)
    if pair is not None:
        context.load_cert_chain(*pair)
    return context


class Rogue:
    """One connection to a journal copy. With a `context` it speaks TLS."""

    def __init__(self, address: str, context: ssl.SSLContext | None = None) -> None:
        self._plain = socket.create_connection(split_address(address), timeout=HEAR_S_MAX)
        self._messages = MessageBuffer()
        self._heard: list[bytes] = []
        self._socket: socket.socket = self._plain
        #: The other end has closed the connection, or does not even shake hands.
        self.ended = False
        if context is not None:
            try:
                self._socket = context.wrap_socket(self._plain)
            except OSError:
                self.ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._plain.close()

    def say(self, *messages: msgspec.Struct) -> Self:
        return self.send(b"".join(map(encode, messages)))

    def send(self, data: bytes) -> Self:
        try:
            if not self.ended:
                self._socket.sendall(data)
        except OSError:
            self.ended = True
        return self

    def hear(self) -> Any:
        """The next message; None when the connection has ended."""
        while not self._heard and not self.ended:
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise AssertionError(
                    f"nothing comes within {HEAR_S_MAX:.0f} s, and it does not end"
                ) from None
            except OSError:
                data = b""
            self.ended = not data
            self._heard += map(bytes, self._messages.feed(data))
        if not self._heard:
            return None
        body = self._heard.pop(0)
        try:
            return decode_from_journal(body)
        except msgspec.ValidationError:
            return decode_answer(body)

    def answer(self, kind: type[Any]) -> Any:
        """The next message of that kind; None when the connection ends before."""
        while (message := self.hear()) is not None:
            if isinstance(message, kind):
                return message
        return None

    def refused(self) -> bool:
        """Whether the other end closes the connection; messages before that are ignored."""
        while self.hear() is not None:
            pass
        return self.ended


def standings(rogue: Rogue, partitions: Sequence[int] = ()) -> dict[int, Standing]:
    """A copy's standings, over a connection that has introduced itself as a copy."""
    answer = rogue.say(StateAsk(list(partitions))).answer(Standings)
    assert answer is not None, "it does not answer"
    return {each.partition: each for each in answer.standings}


def minted(at: Standing, account: str, cents: int) -> NewEntry:
    """An entry that no script has made: it continues the partition's chain and pays the account from `@bank`."""
    text = f"t AAAAAAAAAAAAAAAAAAAAAA @bank {account} {cents} USD"
    header = EntryHeader(
        at.seq + 1, at.nonce, f"{at.seq + 0xBAD:016x}", at.view, 1_800_000_000_000, 1, "+", 2, 0
    )
    return at.partition, header.text().encode(), pack([parse_operation(text)]).columns


class FalseCopy:
    """Claims to be a journal copy, and gives a receipt for every entry that it gets."""

    def __init__(self, journal_id: str, context: ssl.SSLContext | None = None) -> None:
        self._journal_id = journal_id
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.receipts = 0
        #: Set when any connection was made to it.
        self.called = threading.Event()

    @property
    def address(self) -> str:
        return join_address(*self._listener.getsockname()[:2])

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        thread = threading.Thread(target=self._accept)
        thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            thread.join()

    def _accept(self) -> None:
        threads = []
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.called.set()
                self._connections.append(connection)
                threads.append(threading.Thread(target=self._serve, args=(connection,)))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if self._context is not None:
                connection = stack.enter_context(self._context.wrap_socket(connection, server_side=True))
            connection.sendall(encode(CopyHello(self._journal_id, [])))
            messages = MessageBuffer()
            while data := connection.recv(65536):
                for body in messages.feed(data):
                    message = decode_at_copy(body)
                    if isinstance(message, NewEntries):
                        connection.sendall(encode(Receipts([_receipt(entry) for entry in message.entries])))
                        self.receipts += len(message.entries)


def _receipt(entry: NewEntry) -> tuple[int, list[str], int]:
    partition, header, _ = entry
    seq, _, nonce = header.split(b" ")[:3]
    return partition, [nonce.decode()], int(seq)
