"""The interfaces that `link_server` needs: a copy, and the sessions that answer copies and followers."""

from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from wallet_engine.journal.chains import Position
from wallet_engine.journal.copies_wire import Answer, Question
from wallet_engine.journal.link_wire import Ask, ReceiptGroup


class Durable(Protocol):
    """What the server needs of a `JournalCopy`."""

    @property
    def journal_id(self) -> str: ...

    @property
    def directory(self) -> Path: ...

    def positions(self) -> Mapping[int, Position]: ...

    def remembers(self, ask: Ask) -> bool | None: ...

    async def receipted(self, asks: Sequence[Ask]) -> list[bool]: ...

    async def entries(self, asks: Sequence[tuple[Ask, int]]) -> list[bytes]: ...


class Session(Protocol):
    """What answers one other copy or follower, for as long as its connection lasts."""

    def answer(self, question: Question) -> Awaitable[Answer]: ...

    def close(self) -> None: ...


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
