"""The bounds of a message: partitions that exist, epochs that could come, lists that a cluster can need.

A message beyond them is refused before the copy acts on it.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from wallet_engine.journal.copies_wire import EntriesAsk, Follow, HeldAsk, PlaceAsk, Promise, StateAsk
from wallet_engine.journal.feed_wire import Locate, ReadAsk
from wallet_engine.journal.link_wire import (
    Asks,
    FindCredits,
    FindEntry,
    NewEntries,
    Recover,
    Written,
)

#: How far an epoch may be ahead of the map's that is known here: a recovery takes the next one that nobody has used.
EPOCH_AHEAD_MAX: Final = 2**32
#: Behind the end of any segment, and in front of where the system's calls end.
READ_OFFSET_MAX: Final = 2**40


class Bounds:
    """Those of one cluster, as the map says. `epochs`: by partition."""

    def __init__(self, epochs: Sequence[int], shards: Collection[str]) -> None:
        self.epochs = epochs
        self.shards = shards

    def __repr__(self) -> str:
        return f"<Bounds partitions={len(self.epochs)} shards={len(self.shards)}>"

    def why_not(self, message: Any) -> str | None:
        """Which bound the message breaks: `partition`, `epoch`, `length`, `place` or `shard`; None when none."""
        match message:
            case NewEntries(entries):
                return self._partitions(entry[0] for entry in entries)
            case Written(partitions):
                return self._partitions(partitions)
            case Asks(asks):
                return self._partitions(ask[0] for ask in asks)
            case FindCredits() | FindEntry() | PlaceAsk():
                return self._partitions((message.partition,))
            case Recover(shard, _):
                return None if shard in self.shards else "shard"
            case StateAsk(partitions):
                return self._each(partitions)
            case HeldAsk(asks):
                return self._each([ask[0] for ask in asks])
            case EntriesAsk(wants):
                return self._each([want[0] for want in wants])
            case Locate(after):
                return self._each([partition for partition, _ in after])
            case ReadAsk(segment, offset):
                return None if segment > 0 and 0 <= offset < READ_OFFSET_MAX else "place"
            case Promise(ballots):
                return self._each([partition for partition, _ in ballots]) or self._epochs(ballots)
            case Follow(_, _, targets):
                ballots = [(target.partition, target.epoch) for target in targets]
                return self._each([partition for partition, _ in ballots]) or self._epochs(ballots)
        return None

    def _partitions(self, partitions: Iterable[int]) -> str | None:
        count = len(self.epochs)
        return None if all(0 <= partition < count for partition in partitions) else "partition"

    def _each(self, partitions: Sequence[int]) -> str | None:
        """Each of them is named once at most."""
        return "length" if len(partitions) > len(self.epochs) else self._partitions(partitions)

    def _epochs(self, ballots: Iterable[tuple[int, int]]) -> str | None:
        known = all(0 < epoch <= self.epochs[p] + EPOCH_AHEAD_MAX for p, epoch in ballots)
        return None if known else "epoch"
