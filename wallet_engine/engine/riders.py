"""Operations that nobody waits for.

They go with the next batch of their partition, or soon in a batch of their own.
"""

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.operation import Words
from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.batch import Batch


class _Nobody:
    """Ignores the outcome of a rider."""

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        pass

    def failed(self, outage: Outage) -> None:
        pass


_NOBODY = _Nobody()


class Riders:
    """The riders of one engine, by partition."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[Words]] = {}
        #: Partitions with riders that already waited in the last round.
        self._due: set[int] = set()

    def __repr__(self) -> str:
        return f"<Riders partitions={len(self.waiting)}>"

    def add(self, partition: int, operation: Words) -> None:
        waiting = self.waiting.get(partition)
        if waiting is None:
            self.waiting[partition] = [operation]
        else:
            waiting.append(operation)

    def board(self, accumulator: Accumulator, now_s: float) -> bool:
        """Queue the riders of this partition; False if it takes nothing, and then they are dropped."""
        try:
            for operation in self.waiting.pop(accumulator.partition, ()):
                accumulator.add(operation, _NOBODY, now_s)
        except Outage:
            return False
        return True

    def overdue(self) -> set[int]:
        """Partitions whose riders no batch has taken along since this was last asked."""
        overdue = self._due & self.waiting.keys()
        self._due = self.waiting.keys() - overdue
        return overdue
