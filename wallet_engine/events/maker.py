"""Makes the events of the entries that a follower gets, in the order of each partition.

Entries do not contain resulting balances. So the maker folds each of its partitions, from the first entry or
from a saved fold, and keeps the fold in memory: some 200 bytes for each account and currency. It folds
entries before the wanted place without making events.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from wallet_engine.domain.entry import Entry
from wallet_engine.domain.errors import Outage
from wallet_engine.domain.kinds import KINDS
from wallet_engine.domain.operation import Operation
from wallet_engine.events.event import Event
from wallet_engine.events.making import Place, events_of, wanted_of
from wallet_engine.history.book import Book
from wallet_engine.history.facts import Facts
from wallet_engine.history.fold import fold
from wallet_engine.history.pieces import in_pieces
from wallet_engine.history.step import APPLIED
from wallet_engine.journal.errors import Fork, Link
from wallet_engine.journal.feed import START, Feed, FeedEntry, FeedPosition

#: Maximum debits in memory that have not ended yet; the oldest are dropped, and read again when they end.
DEBITS_MAX: Final = 200_000
#: Maximum time to read a debit that is not in memory.
LOOK_UP_S_MAX: Final = 30.0
#: The kinds of debits.
_OPENS: Final = frozenset(letter for letter, kind in KINDS.items() if kind.opens)


class Made(NamedTuple):
    """An entry and its events, of which there may be none."""

    entry: FeedEntry
    events: list[Event]


class Start(NamedTuple):
    """Where a partition starts: the fold covers everything to `folded`; events are wanted behind `told`."""

    folded: FeedPosition
    book: Book
    told: FeedPosition


def from_first(told: FeedPosition = START) -> Start:
    """The start of a sink that has saved only its position."""
    return Start(START, Book(), told)


class Maker:
    """The folds of the partitions that one sink has."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.books: dict[int, Book] = {}
        self.folded: dict[int, FeedPosition] = {}
        self._told: dict[int, FeedPosition] = {}
        self._debits: OrderedDict[Place, Operation] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Maker partitions={len(self.books)} debits={len(self._debits)}>"

    def told(self, partition: int) -> FeedPosition:
        """The entry behind which the partition's events are wanted."""
        return self._told[partition]

    def knows(self, partition: int, told: FeedPosition) -> bool:
        """Whether the partition's fold is in memory, and not beyond `told`."""
        return partition in self.books and self.folded[partition].seq <= told.seq

    def begin(self, partition: int, start: Start) -> None:
        """Start a partition; its next entries must follow `folded`."""
        self.books[partition], self.folded[partition] = start.book, start.folded
        self._told[partition] = start.told

    def keep(self, partitions: Collection[int]) -> None:
        """Forget all partitions but these."""
        for gone in self.books.keys() - set(partitions):
            self._forget(gone)

    async def make(self, batch: Sequence[FeedEntry]) -> list[Made]:
        """The events of entries that continue the folds; entries not behind `told` get none.

        Raises `Corruption`, `Fork`, and `Outage` when a debit elsewhere cannot be read now: then call `begin`
        again.
        """
        entries: list[tuple[FeedEntry, Entry]] = []
        async for some in in_pieces(batch, lambda at: len(at.header.outcomes)):
            parsed = [(at, at.entry) for at in some]
            for at, entry in parsed:
                self._remember(at.partition, entry)
            entries += parsed
        made = []
        async for piece in in_pieces(entries, lambda item: len(item[1].operations)):
            for at, entry in piece:
                try:
                    made.append(Made(at, await self._events(at, entry)))
                except BaseException:
                    self._forget(at.partition)  # the book may contain half of an entry
                    raise
        return made

    async def _events(self, at: FeedEntry, entry: Entry) -> list[Event]:
        partition, told = at.partition, self._told[at.partition]
        facts = Facts()
        fold(partition, entry, self.books[partition], facts)
        self.folded[partition] = position = at.position
        if position.seq == told.seq and told.nonce not in (None, position.nonce):
            raise Fork(partition, Link(told.seq, told.nonce or "", 0), Link(at.seq, at.nonce, at.epoch))
        wanted = wanted_of(partition, entry)
        if position.seq <= told.seq:
            for _, place in wanted:
                self._debits.pop(place, None)
            return []
        debits = {}
        for idx, place in wanted:
            debit = self._debits.get(place)
            if debit is None:
                await self._look_up(place)
                debit = self._debits[place]
            debits[idx] = debit
        events = events_of(partition, entry, facts, debits)
        self._told[partition] = position
        for _, place in wanted:
            self._debits.pop(place, None)
        return events

    def _forget(self, partition: int) -> None:
        del self.books[partition], self.folded[partition], self._told[partition]

    def _remember(self, partition: int, entry: Entry) -> None:
        seq = entry.header.seq
        for idx, (operation, outcome) in enumerate(zip(entry.operations, entry.header.outcomes, strict=True)):
            if operation[0] in _OPENS and outcome == APPLIED:
                self._debits[partition, seq, idx] = operation
        while len(self._debits) > DEBITS_MAX:
            self._debits.popitem(last=False)

    async def _look_up(self, place: Place) -> None:
        """Read a debit that is not in memory: another process follows its partition, or it was dropped.

        Remembers all debits of the same batch.
        """
        partition, seq, _ = place
        position = START if seq == 1 else FeedPosition(seq - 1, None)
        try:
            async with (
                asyncio.timeout(LOOK_UP_S_MAX),
                aclosing(self._feed.follow({partition: position})) as found,
            ):
                batch = await anext(found)
        except TimeoutError:
            raise Outage(
                "journal_unavailable", f"entry {seq} of partition {partition} is not there"
            ) from None
        for at in batch:
            self._remember(partition, at.entry)
