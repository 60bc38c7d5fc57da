"""The messages between a journal copy and a service: "these nonces are on my disk", and questions about it.

A message is a u32 (little-endian) length and that many bytes of MessagePack: an array whose first element
names the message.

    journal -> service
        ["copy", journal_id, [[partition, seq, nonce], …]]        first: who it is, all its durable positions
        ["receipts", [[partition, [nonce, …], last_seq], …]]      now durable; nonces in the order of their seqs
        ["credits", request, [[p, seq, idx, outcome], …]]         the answer to "find": those that were decided
        ["text", request, text]                                   the answer to "entry"; empty when this copy cannot say
    service -> journal
        ["service", service_id]                                   first: who it is
        ["ask", [[partition, seq, nonce], …]]                     answered by receipts for those that are durable;
                                                                  the copy fetches the others, as after "written",
                                                                  and broadcasts their receipts once durable
        ["find", request, partition, seq, nonce, since_ms, [[p, seq, idx], …]]
                                                                  which of these credits were decided in the
                                                                  partition, since that time? Only a copy that has
                                                                  the entry (seq, nonce) answers
        ["entry", request, partition, seq, nonce, wanted]         the text of entry `wanted` of the chain that has
                                                                  (seq, nonce), which this copy may receipt
        ["recover", shard, reason]                                this shard needs recovery
        ["new", [[partition, header, columns], …]]                what scripts have just appended to these streams, each
                                                                  partition in the order of its seqs. The copy takes an
                                                                  entry that continues its chain; if one does not,
                                                                  it fetches that partition's entries
        ["written", [partition, …]]                               the same without the entries: the copy fetches them.
                                                                  Both save polling and promise nothing

Every service gets all receipts without asking, and picks out its own.
"""

import socket
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

#: Maximum bytes of one message; a longer one ends the connection.
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
#: Pieces of a message of at least so many bytes are kept as they came.
PIECE_BYTES_MIN: Final = 4096
RECEIPTS_PER_MESSAGE_MAX: Final = 50_000
ASKS_PER_MESSAGE_MAX: Final = 10_000

#: How long a peer may be unreachable before the connection counts as lost.
UNREACHABLE_S_MAX: Final = 10

_PREFIX_BYTES: Final = 4

#: (partition, seq, idx) of the debit that a credit answers.
CreditReference = tuple[int, int, int]
#: (partition, seq, nonce)
Ask = tuple[int, int, str]
#: (partition, header, columns) of an entry, as the stream has it
NewEntry = tuple[int, bytes, bytes]
#: (partition, nonces in the order of their seqs, seq of the last of them)
ReceiptGroup = tuple[int, list[str], int]


class CopyHello(msgspec.Struct, tag="copy", array_like=True):
    journal_id: str
    positions: list[Ask]


class Receipts(msgspec.Struct, tag="receipts", array_like=True):
    groups: list[ReceiptGroup]


class CreditsFound(msgspec.Struct, tag="credits", array_like=True):
    request: int
    credits: list[tuple[int, int, int, str]]


class ServiceHello(msgspec.Struct, tag="service", array_like=True):
    service_id: str


class Asks(msgspec.Struct, tag="ask", array_like=True):
    asks: list[Ask]


class FindCredits(msgspec.Struct, tag="find", array_like=True):
    request: int
    partition: int
    seq: int
    nonce: str
    since_ms: int
    credits: list[CreditReference]


class FindEntry(msgspec.Struct, tag="entry", array_like=True):
    request: int
    partition: int
    seq: int
    nonce: str
    wanted: int


class EntryText(msgspec.Struct, tag="text", array_like=True):
    request: int
    text: bytes


class Recover(msgspec.Struct, tag="recover", array_like=True):
    shard: str
    reason: str


class NewEntries(msgspec.Struct, tag="new", array_like=True):
    entries: Sequence[NewEntry]


class Written(msgspec.Struct, tag="written", array_like=True):
    partitions: list[int]


#: Questions of a service that any one copy may answer, and the answers; `request` matches them.
ServiceQuestion = FindCredits | FindEntry
ServiceAnswer = CreditsFound | EntryText

FromJournal = CopyHello | Receipts | CreditsFound | EntryText
FromService = ServiceHello | Asks | FindCredits | FindEntry | Recover | NewEntries | Written

decode_from_journal = msgspec.msgpack.Decoder[FromJournal](FromJournal).decode
_encode = msgspec.msgpack.Encoder().encode


def encode(message: msgspec.Struct) -> bytes:
    """The message, preceded by its length."""
    body = _encode(message)
    return len(body).to_bytes(_PREFIX_BYTES, "little") + body


class MessageTooLong(Exception):
    """The peer announced a message longer than `MESSAGE_BYTES_MAX`."""


class MessageBuffer:
    """Cuts the bytes from a socket into messages."""

    def __init__(self) -> None:
        #: The pieces of an incomplete message, their bytes, and the bytes that the message needs.
        self._pieces: list[bytes | bytearray] = []
        self._waiting = 0
        self._wanted = _PREFIX_BYTES

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the incomplete message."""
        return self._waiting

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """The bodies of the messages that are now complete. Raises `MessageTooLong`."""
        if self._pieces:
            self._keep(data)
            if self._waiting < self._wanted:
                return
            data, self._pieces = b"".join(self._pieces), []
        self._waiting, self._wanted = 0, _PREFIX_BYTES
        view, size, position = memoryview(data), len(data), 0
        while size - position >= _PREFIX_BYTES:
            start = position + _PREFIX_BYTES
            length = int.from_bytes(view[position:start], "little")
            if length > MESSAGE_BYTES_MAX:
                raise MessageTooLong
            if size - start < length:
                self._wanted = _PREFIX_BYTES + length
                break
            yield view[start : start + length]
            position = start + length
        if position < size:
            self._keep(data[position:])

    def _keep(self, piece: bytes) -> None:
        """Keep a piece of an incomplete message.

        Small pieces are joined at once, large ones when it is complete.
        """
        self._waiting += len(piece)
        if len(piece) >= PIECE_BYTES_MIN:
            self._pieces.append(piece)
        elif self._pieces and isinstance(last := self._pieces[-1], bytearray):
            last += piece
        else:
            self._pieces.append(bytearray(piece))


def notice_dead_peers(sock: socket.socket) -> None:
    """Let the kernel end the connection when the peer's machine disappears without closing it."""
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", UNREACHABLE_S_MAX // 2),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", UNREACHABLE_S_MAX // 2),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", UNREACHABLE_S_MAX * 1000),
    ):
        if hasattr(socket, name):
            sock.setsockopt(level, getattr(socket, name), value)
