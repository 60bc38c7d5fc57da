"""The feed: a journal's entries for its followers, without end, each partition in the order of its seqs.

    async for batch in feed.follow({3: FeedPosition(1234, nonce), 17: START}):
        for entry in batch:                      # FeedEntry
            entry.partition, entry.seq, entry.nonce, entry.time_ms, entry.entry

The feed gives only final entries: those that `journal_quorum` copies have on disk. No recovery takes them
back. It also reads segments that are only in the archive. Only the follower remembers its position: it
continues where it stopped, at any copy, after any time. It gets the next batch when it asks for it; no copy
keeps entries for it in memory.

There are two feeds: `FeedClient` (`feed_client`) asks the copies over their port, `DirectoryFeed` reads a
directory.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from wallet_engine.domain.entry import ZERO_NONCE, Entry, EntryHeader, entry_of, parse_header
from wallet_engine.domain.errors import Corruption
from wallet_engine.journal.errors import Fork, Link, NoEntry
from wallet_engine.journal.reader import ends_of, in_pages, read
from wallet_engine.journal.threads import in_thread

#: How often a directory without new entries is read again.
POLL_S: Final = 0.1


class FeedPosition(NamedTuple):
    """The last entry that a follower has taken of a partition. With `nonce` None, any chain is accepted."""

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
        """Unix milliseconds of the Redis node's clock; never less than in the partition's previous entry."""
        return self.header.time_ms

    @property
    def entry(self) -> Entry:
        """Raises `NoEntry`, and `NewerFormat`."""
        try:
            return entry_of(self.header, self.payload)
        except (Corruption, KeyError, ValueError) as error:
            raise NoEntry(self.partition, f"entry {self.seq} cannot be read: {error}") from None

    @property
    def position(self) -> FeedPosition:
        """The position of a follower that has taken this entry."""
        return FeedPosition(self.header.seq, self.header.nonce)


class Reached(NamedTuple):
    """How far the journal is: the `positions` of a feed, and the partitions that have later entries, not final yet."""

    final: dict[int, int]
    under_way: frozenset[int]


class Feed(ABC):
    """See the module."""

    @abstractmethod
    def follow(self, after: Mapping[int, FeedPosition]) -> AsyncGenerator[Sequence[FeedEntry], None]:
        """The entries of these partitions behind these positions, in batches of about a mebibyte at most.

        Entries of one partition come in order and without gaps; partitions are mixed as in the journal. Name
        all partitions in one call: the journal is read once for all of them. At the end it waits for new
        entries. When a journal copy dies, it waits for it or asks another one. Use `contextlib.aclosing`, or
        end the task.

        Raises `Fork` when an entry does not continue the follower's entries, which then belong to another
        chain: it gives no further entry of the partition, which cannot be followed from there. Raises
        `Damaged` when the journal cannot be read.
        """

    def entries(
        self, partition: int, after: int, *, nonce: str | None = None
    ) -> AsyncGenerator[Sequence[FeedEntry], None]:
        """`follow` for one partition, behind entry `after` with this nonce."""
        return self.follow({partition: FeedPosition(after, nonce if after else ZERO_NONCE)})

    async def positions(self) -> dict[int, int]:
        """partition -> seq of the last entry that can be followed now; partitions without any are left out.

        Raises `Outage` when no journal copy answers.
        """
        return furthest(await self.answers())

    async def reached(self) -> Reached:
        """The `positions`, and what is known to be behind them. Raises `Outage` when no journal copy answers."""
        return Reached(await self.positions(), frozenset())

    async def brought(self, partition: int, nonce: str) -> Mapping[str, Sequence[str]]:
        """journal copy -> the services that brought it this entry.

        Copies know it only for the last seconds.
        """
        return {}

    @abstractmethod
    async def answers(self) -> Mapping[str, Mapping[int, int]]:
        """The `positions` that each answering journal copy reports, by its id."""


class Followed:
    """A follower's position in each partition; checks that each new entry continues it."""

    def __init__(self, after: Mapping[int, FeedPosition]) -> None:
        self.positions = dict(after)

    def __repr__(self) -> str:
        return f"<Followed partitions={len(self.positions)} entries={sum(at.seq for at in self.positions.values())}>"

    def seqs(self) -> dict[int, int]:
        return {partition: at.seq for partition, at in self.positions.items()}

    def take(self, partition: int, payload: bytes) -> FeedEntry:
        """Take the partition's next entry.

        Raises `Fork` if it does not continue, `Corruption` if it is no entry.
        """
        header = parse_header(payload)
        seq, nonce = self.positions[partition]
        if header.seq != seq + 1 or nonce not in (None, header.prev_nonce):
            raise Fork(
                partition, Link(seq + 1, nonce or "any", 0), Link(header.seq, header.prev_nonce, header.epoch)
            )
        self.positions[partition] = FeedPosition(header.seq, header.nonce)
        return FeedEntry(partition, header, payload)


class DirectoryFeed(Feed):
    """Follows one journal directory, from any process, whether or not it is being written.

    Use it for a directory at rest, or for the only copy. One of several copies may have entries that no
    quorum has, and this feed gives those too. Follow a running cluster with `FeedClient`.
    """

    def __init__(self, directory: Path, *, ends: bool = False) -> None:
        """`ends`: stop at the end of the journal instead of waiting for more."""
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
    """partition -> the highest seq in any answer."""
    best: dict[int, int] = {}
    for ends in answers.values():
        for partition, seq in ends.items():
            best[partition] = max(seq, best.get(partition, 0))
    return best


def partitions_from_start(partitions: Iterable[int]) -> dict[int, FeedPosition]:
    """The positions of a follower that has taken nothing yet."""
    return dict.fromkeys(partitions, START)
