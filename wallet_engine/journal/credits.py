"""Looks up outcomes of credits in the segments, for debits older than the receiving partition remembers."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final, Protocol

from wallet_engine.domain.entry import parse_entry
from wallet_engine.domain.kinds import Id, kind_of
from wallet_engine.domain.limits import ISSUED_AGE_MS_MAX
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.journal.link_wire import Ask, CreditReference, CreditsFound, FindCredits
from wallet_engine.journal.reader import index_of_segment, read
from wallet_engine.journal.segments import segment_numbers
from wallet_engine.journal.threads import in_thread

#: Maximum searches that wait for the running one; each reads a partition's entries since a debit.
SEARCHES_WAITING_MAX: Final = 64
#: How long a search waits until a quorum has the named entry, and how often it looks. A service waits as long.
KNOWN_S_MAX: Final = 60.0
_LOOK_S: Final = 0.1
#: The debit's time comes from another node: how far the receiver's clock may be behind it.
CLOCK_MARGIN_MS: Final = ISSUED_AGE_MS_MAX


class Searchable(Protocol):
    """What a search needs of a `JournalCopy`."""

    @property
    def directory(self) -> Path: ...

    async def receipted(self, asks: Sequence[Ask]) -> list[bool]: ...


class CreditSearch:
    """Answers the services' questions about old credits, one at a time."""

    def __init__(self, journal: Searchable, quorum_seq: Callable[[int], int] | None = None) -> None:
        """`quorum_seq(partition)`: the last seq that a quorum of copies has. Without it, this copy is the
        quorum.

        A recovery may still discard an entry that only this copy has. The partition itself remembers so young
        a credit.
        """
        self._journal = journal
        self._quorum_seq = quorum_seq
        self._one = asyncio.Lock()
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<CreditSearch waiting={self._waiting}>"

    async def find(self, question: FindCredits) -> CreditsFound | None:
        """The credits that were decided. None when this copy cannot tell: it is busy, or still lacks
        the named entry after `KNOWN_S_MAX`.

        Raises `WalletError` when the journal cannot be read.
        """
        if self._waiting >= SEARCHES_WAITING_MAX:
            return None
        self._waiting += 1
        try:
            if not await self._reached(question):
                return None
            async with self._one:
                if not await self._has(question):
                    return None
                directory, since_ms = self._journal.directory, question.since_ms - CLOCK_MARGIN_MS
                end_seq = None if self._quorum_seq is None else self._quorum_seq(question.partition)
                found = await in_thread(
                    find_credits, directory, question.partition, since_ms, question.credits, end_seq
                )
                return CreditsFound(
                    question.request, [(*reference, outcome) for reference, outcome in found.items()]
                )
        finally:
            self._waiting -= 1

    async def _reached(self, question: FindCredits) -> bool:
        """Wait until the named entry is here and a quorum has it.

        The service knows that a quorum has it: the copies have told it so, and tell each other a little later.
        """
        try:
            async with asyncio.timeout(KNOWN_S_MAX):
                while not await self._has(question):
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            return False
        return True

    async def _has(self, question: FindCredits) -> bool:
        if self._quorum_seq is not None and self._quorum_seq(question.partition) < question.seq:
            return False
        return (await self._journal.receipted([(question.partition, question.seq, question.nonce)]))[0]


def find_credits(
    directory: Path,
    partition: int,
    since_ms: int,
    credits: Collection[CreditReference],
    end_seq: int | None = None,
) -> dict[CreditReference, str]:
    """The first outcome of each of these credits that was decided in the partition after `since_ms`.

    Entries behind `end_seq` are not read.

    Raises `Damaged`, and `Corruption` for an entry that cannot be read.
    """
    wanted = {(f"{p}.{seq}", str(idx)): (p, seq, idx) for p, seq, idx in credits}
    found: dict[CreditReference, str] = {}
    for record in read(
        directory,
        partitions={partition},
        after={partition: _seq_before(directory, partition, since_ms)},
        end=None if end_seq is None else {partition: end_seq},
    ):
        entry = parse_entry(record.payload)
        for outcome, operation in zip(entry.header.outcomes, entry.operations, strict=True):
            if kind_of(operation.kind).id is Id.CREDIT and outcome != Outcome.REPEATED:
                reference = wanted.get((operation.id, operation.other))
                if reference is not None:
                    found.setdefault(reference, outcome)
    return found


def _seq_before(directory: Path, partition: int, since_ms: int) -> int:
    """A seq of the partition; everything up to it was written before any clock reached `since_ms`.

    It comes from the segments' indexes, and takes the times of all partitions: this partition's clock may
    have been behind the debit's by any amount, but the credit's entry comes after the debit's.
    """
    seq = 0
    for number in segment_numbers(directory)[:-1]:
        index = index_of_segment(directory, number)
        if index is None or any(span.last_time_ms >= since_ms for span in index.partitions.values()):
            break
        if partition in index.partitions:
            seq = index.partitions[partition].last_seq
    return seq
