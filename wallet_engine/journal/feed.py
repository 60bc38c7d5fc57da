"""The feed: a journal's entries for its followers, each partition in the order of its seqs, for ever.

    async for batch in feed.follow({3: FeedPosition(1234, nonce), 17: START}):
        for entry in batch:                      # FeedEntry
            entry.partition, entry.seq, entry.nonce, entry.time_ms, entry.entry

The feed gives only final entries: those that `journal_quorum` copies have on disk, which no recovery takes back, also
from segments that are only in the archive. Only the follower remembers its position: it goes on where it stopped, at
any copy, after any time. It gets the next batch when it asks for it; no copy keeps entries for it in memory.

Two feeds: `FeedClient` (`feed_client`) asks the copies over their port, `DirectoryFeed` reads a journal's directory.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from wallet_engine.domain.entry import ZERO_NONCE, Entry, EntryHeader, parse_entry, parse_header
from wallet_engine.journal.errors import Fork, Link
from wallet_engine.journal.reader import ends_of, in_pages, read
from wallet_engine.journal.threads import in_thread

#: How soon a directory is looked at again in which there was nothing new.
POLL_S: Final = 0.1


class FeedPosition(NamedTuple):
    """How far a follower is with a partition: the last entry it has taken. Without a nonce any chain is followed."""

    seq: int
    nonce: str | None


START: Final = FeedPosition(0, ZERO_NONCE)


class FeedEntry(NamedTuple):
    """One entry of a partition. `payload` is its text as in `domain.entry`; `entry` reads all of it."""

    partition: int
    header: EntryHeader
    payload: bytes

    @property
    def seq(self) -> int:
        return self.header.seq

    @property
    def nonce(self) -> str:
        return self.header.nonce

    @property
    def epoch(self) -> int:
        return self.header.epoch

    @property
    def time_ms(self) -> int:
        """Unix milliseconds, of the Redis node's clock; never less than that of the partition's entry before."""
        return self.header.time_ms

    @property
    def entry(self) -> Entry:
        """Raises `Corruption`."""
        return parse_entry(self.payload)

    @property
    def position(self) -> FeedPosition:
        """That of a follower which has taken this entry."""
        return FeedPosition(self.header.seq, self.header.nonce)


class Feed(ABC):
    """See the module."""

    @abstractmethod
    def follow(self, after: Mapping[int, FeedPosition]) -> AsyncGenerator[Sequence[FeedEntry], None]:
        """The entries of these partitions behind these positions, in batches of about a mebibyte at most.

        Within a partition in order and without gaps; partitions come as they stand in the journal. All partitions in
        one call: the journal is read once for all of them. Waits at the end for what comes; a journal copy that dies
        is waited for, or another one asked. Use `contextlib.aclosing`, or end the task.

        Raises `Fork` when an entry does not continue what the follower has, which is of another chain then: no entry of
        the partition is given behind that, and it cannot be followed from there. `Damaged` when it cannot be read.
        """

    def entries(
        self, partition: int, after: int, *, nonce: str | None = None
    ) -> AsyncGenerator[Sequence[FeedEntry], None]:
        """`follow` of one partition, behind entry `after`, which has this nonce."""
        return self.follow({partition: FeedPosition(after, nonce if after else ZERO_NONCE)})

    async def positions(self) -> dict[int, int]:
        """partition -> seq of the last entry that can be followed now; those without any are left out.

        Raises `Outage` when no journal copy answers.
        """
        return furthest(await self.answers())

    async def brought(self, partition: int, nonce: str) -> Mapping[str, Sequence[str]]:
        """Who brought that entry, as each journal copy says it that answers and knows; of the last seconds."""
        return {}

    @abstractmethod
    async def answers(self) -> Mapping[str, Mapping[int, int]]:
        """The same as each journal copy says it that answers, by id."""


class Followed:
    """How far a follower is with each partition, and whether what comes continues it."""

    def __init__(self, after: Mapping[int, FeedPosition]) -> None:
        self.positions = dict(after)

    def __repr__(self) -> str:
        return f"<Followed partitions={len(self.positions)} entries={sum(at.seq for at in self.positions.values())}>"

    def seqs(self) -> dict[int, int]:
        return {partition: at.seq for partition, at in self.positions.items()}

    def take(self, partition: int, payload: bytes) -> FeedEntry:
        """The next entry of a partition. Raises `Fork` when it is not that, `Corruption` when it is none."""
        header = parse_header(payload)
        seq, nonce = self.positions[partition]
        if header.seq != seq + 1 or nonce not in (None, header.prev_nonce):
            raise Fork(
                partition, Link(seq + 1, nonce or "any", 0), Link(header.seq, header.prev_nonce, header.epoch)
            )
        self.positions[partition] = FeedPosition(header.seq, header.nonce)
        return FeedEntry(partition, header, payload)


class DirectoryFeed(Feed):
    """Follows what one journal directory holds, from any process, while it is being written or not.

    For a directory that is the truth: at rest, or the only copy. Of several copies one may have entries that no
    quorum has, and those come here too; a running cluster is followed by `FeedClient`.
    """

    def __init__(self, directory: Path, *, ends: bool = False) -> None:
        """`ends`: stop at the end of what is there, instead of waiting for more."""
        self.directory = directory
        self._ends = ends

    def __repr__(self) -> str:
        return f"<DirectoryFeed {self.directory}>"

    async def follow(self, after: Mapping[int, FeedPosition]) -> AsyncGenerator[Sequence[FeedEntry], None]:
        followed = Followed(after)
        while True:
            records = read(self.directory, partitions=frozenset(after), after=followed.seqs())
            async for page in in_pages(records):
                yield [followed.take(record.partition, record.payload) for record in page]
            if self._ends:
                return
            await asyncio.sleep(POLL_S)

    async def answers(self) -> Mapping[str, Mapping[int, int]]:
        """Raises `Damaged`."""
        return {"": await in_thread(ends_of, self.directory)}


def furthest(answers: Mapping[str, Mapping[int, int]]) -> dict[int, int]:
    """partition -> the highest seq that any of them says."""
    best: dict[int, int] = {}
    for ends in answers.values():
        for partition, seq in ends.items():
            best[partition] = max(seq, best.get(partition, 0))
    return best


def partitions_from_start(partitions: Iterable[int]) -> dict[int, FeedPosition]:
    """For a follower that has nothing yet of these partitions."""
    return dict.fromkeys(partitions, START)
