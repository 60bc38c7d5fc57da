"""Waits until the last entry of a frozen partition is on the disks of `journal_quorum` copies."""

import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from wallet_engine.admin.moving.wire import Setback
from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.principals import principal_of
from wallet_engine.journal.link_wire import (
    CopyHello,
    MessageBuffer,
    MessageTooLong,
    Written,
    decode_from_journal,
    encode,
)
from wallet_engine.journal.peer_tls import check_principal, towards
from wallet_engine.routing.model import JournalInfo

_POLL_S: Final = 0.001
_READ_BYTES: Final = 64 * 1024


def wait_durable(
    journals: Iterable[JournalInfo], quorum: int, partition: int, seq: int, nonce: str, timeout_s: float
) -> None:
    """Return when this entry is the newest of the partition on `quorum` copies. Raises `Setback` after `timeout_s`.

    Each copy is asked by connecting: its first message says what it has of every partition on disk.
    """
    deadline_s = time.monotonic() + timeout_s
    waiting = deque(journals)
    durable = 0
    while seq and durable < quorum:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or durable + len(waiting) < quorum:
            raise Setback(f"entry {seq} is on {durable} journal copies, {quorum} are needed")
        # Each gets its share of the time: one that does not answer must not use up that of the others.
        info = waiting.popleft()
        if _newest(info, partition, left_s / (len(waiting) + 1)) == (seq, nonce):
            durable += 1
        else:
            waiting.append(info)
            time.sleep(_POLL_S)


@contextmanager
def _connected(info: JournalInfo, answer_s_max: float) -> Iterator[socket.socket]:
    """A connection to a copy that has proved its name, if it uses TLS. Raises OSError (`Impostor` is one)."""
    context = towards(info.tls)
    with socket.create_connection(split_address(info.address), timeout=answer_s_max) as plain:
        if context is None:
            yield plain
            return
        with context.wrap_socket(plain) as secured:
            check_principal(info.journal_id, principal_of(secured.getpeercert()))
            yield secured


def _newest(info: JournalInfo, partition: int, answer_s_max: float) -> tuple[int, str] | None:
    """seq and nonce of the partition's newest entry on the copy's disk; None when the copy does not say."""
    messages = MessageBuffer()
    try:
        with _connected(info, answer_s_max) as connection:
            connection.sendall(encode(Written([partition])))  # ask it to fetch now, not at the next poll
            while data := connection.recv(_READ_BYTES):
                for body in messages.feed(data):
                    message = decode_from_journal(body)
                    if isinstance(message, CopyHello) and message.journal_id == info.journal_id:
                        return next(
                            ((seq, nonce) for p, seq, nonce in message.positions if p == partition), None
                        )
                    return None
    except (OSError, MessageTooLong, msgspec.MsgspecError):
        return None
    return None
