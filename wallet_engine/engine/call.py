"""One call of the apply script: the batches that several partitions of a shard send together."""

from collections.abc import Iterable
from typing import Final

from wallet_engine.domain.limits import SCRIPT_OPERATIONS_MAX
from wallet_engine.engine.accumulator import EARLY_OPERATIONS_MIN, Accumulator
from wallet_engine.engine.batch import Batch
from wallet_engine.redis_store.apply_call import apply_command
from wallet_engine.redis_store.scripts import load_script

_SHA: Final = {extended: load_script("apply", extended=extended).sha for extended in (False, True)}

#: Calls of one shard that still have room; the key says whether they use the extended text of the script.
Filling = dict[bool, "Call"]


class Call:
    """Batches of different partitions, in the order of their answers. All take the same text of the script."""

    __slots__ = ("_cost", "_parts", "batches", "extended", "operations", "sent_s", "shard")

    def __init__(self, shard: str, extended: bool) -> None:
        self.shard = shard
        self.extended = extended
        self.batches: list[tuple[Accumulator, Batch]] = []
        self.operations = 0
        self.sent_s = 0.0
        self._parts: list[bytes] = []
        self._cost = 0

    def __repr__(self) -> str:
        return f"<Call {self.shard} partitions={len(self.batches)} operations={self.operations}>"

    def takes(self, batch: Batch) -> bool:
        """Whether the batch fits into this call. A call may be as long as one batch may be."""
        return self._cost + batch.cost <= SCRIPT_OPERATIONS_MAX

    @property
    def is_good(self) -> bool:
        """Whether it has enough operations to go at once; waiting for more would leave the node idle."""
        return self._cost >= EARLY_OPERATIONS_MIN

    def add(self, accumulator: Accumulator, batch: Batch, part: bytes) -> None:
        self.batches.append((accumulator, batch))
        self._parts.append(part)
        self.operations += len(batch.operations)
        self._cost += batch.cost

    def take_over(self, other: "Call") -> bool:
        """Take all batches of a call for the plain text, if both together fit into one call.

        Returns whether it did.
        """
        if self._cost + other._cost > SCRIPT_OPERATIONS_MAX:
            return False
        self.batches += other.batches
        self.operations += other.operations
        self._parts += other._parts
        self._cost += other._cost
        return True

    def command(self, window_ms: int, stream_entries_max: int, issued_age_ms_max: int) -> bytes:
        """The packed call."""
        return apply_command(
            _SHA[self.extended],
            self._parts,
            window_ms=window_ms,
            stream_entries_max=stream_entries_max,
            issued_age_ms_max=issued_age_ms_max,
        )


def joined(filling: Filling) -> Iterable[Call]:
    """The calls to send: one if possible, because the extended text decides every kind."""
    if len(filling) == 2 and filling[True].take_over(filling[False]):
        return (filling[True],)
    return filling.values()
