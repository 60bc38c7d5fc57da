"""The bounds of a message: existing partitions, plausible epochs, and list lengths that a cluster can need.

The copy refuses a message that exceeds them before it acts on it.
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

#: How far an epoch may be ahead of the one in the known map: a recovery takes the next unused epoch.
EPOCH_AHEAD_MAX: Final = 2**32
#: Above the size of any segment, and below the limit of system calls.
READ_OFFSET_MAX: Final = 2**40


class Bounds:
    """The bounds of one cluster, from its map. `epochs`: by partition."""

    def __init__(self, epochs: Sequence[int], shards: Collection[str]) -> None:
        self.epochs = epochs
        self.shards = shards

    def __repr__(self) -> str:
        return f"<Bounds partitions={len(self.epochs)} shards={len(self.shards)}>"

    def why_not(self, message: Any) -> str | None:
        """The exceeded bound: `partition`, `epoch`, `length`, `place` or `shard`; else None."""
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
        """Check a list that names each partition at most once."""
        return "length" if len(partitions) > len(self.epochs) else self._partitions(partitions)

    def _epochs(self, ballots: Iterable[tuple[int, int]]) -> str | None:
        known = all(0 < epoch <= self.epochs[p] + EPOCH_AHEAD_MAX for p, epoch in ballots)
        return None if known else "epoch"
