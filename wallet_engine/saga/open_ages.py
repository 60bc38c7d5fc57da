"""How many entries of each partition are open, and the age of the oldest, as far as this process has seen.

One object counts `open`, another the parts of groups; the metrics show both together.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Final

from wallet_engine.engine.engine import Engine
from wallet_engine.telemetry.metrics import PartitionReading

#: A look is kept when this part of the present age has passed since the last kept one. So when the oldest
#: entry ends, the reported age of the next one is too low by at most this part.
AGE_PART: Final = 1 / 32

#: (time of the look, the newest entry that was open then)
Looks = deque[tuple[float, int]]


class OpenAges:
    """Ages are by the monotonic clock of this process."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        #: For each partition; its first look is the first one that saw the oldest open entry.
        self._looks: defaultdict[int, Looks] = defaultdict(deque)

    def __repr__(self) -> str:
        return f"<OpenAges entries={self.total}>"

    @property
    def total(self) -> int:
        return sum(self._counts.values())

    def note(self, partition: int, seqs: Sequence[int], now_s: float) -> None:
        """Note the entries that are open there now, ascending."""
        self._counts[partition] = len(seqs)
        looks = self._looks[partition]
        if not seqs:
            looks.clear()
            return
        while looks and looks[0][1] < seqs[0]:
            looks.popleft()
        if not looks or now_s - looks[-1][0] >= (now_s - looks[0][0]) * AGE_PART:
            looks.append((now_s, seqs[-1]))

    def count(self, partition: int) -> int:
        return self._counts.get(partition, 0)

    def oldest_s(self, partition: int, now_s: float) -> float:
        """Seconds since the partition's oldest open entry was first seen; 0 without one."""
        looks = self._looks[partition]
        return now_s - looks[0][0] if looks else 0.0


def readings(engine: Engine, *seen: OpenAges) -> Iterator[PartitionReading]:
    """See `Metrics.observe_partitions`."""
    now_s = engine.now_s()
    for accumulator in engine.cluster.accumulators:
        p = accumulator.partition
        count, oldest_s = sum(ages.count(p) for ages in seen), max(ages.oldest_s(p, now_s) for ages in seen)
        yield PartitionReading(p, accumulator.pending, count, oldest_s)
