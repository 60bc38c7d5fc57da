"""How many entries of each partition are open, and for how long the oldest: as far as this process has seen them.

One sees `open`, another the parts of groups; metrics tell both as one.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Final

from wallet_engine.engine.engine import Engine
from wallet_engine.telemetry.metrics import PartitionReading

#: A look is remembered when this part of the age so far has passed since the last one that is: by no more the age of
#: the next entry is told too low, once the oldest is mended.
AGE_PART: Final = 1 / 32

#: (when it was looked, the newest entry that was open)
Looks = deque[tuple[float, int]]


class OpenAges:
    """By the clock of this process, which does not step."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        #: Of each partition, the first one the first at which its oldest open entry was there.
        self._looks: defaultdict[int, Looks] = defaultdict(deque)

    def __repr__(self) -> str:
        return f"<OpenAges entries={self.total}>"

    @property
    def total(self) -> int:
        return sum(self._counts.values())

    def note(self, partition: int, seqs: Sequence[int], now_s: float) -> None:
        """The entries that are open there now, ascending."""
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
        """For how long its oldest open entry has been seen; 0 without one."""
        looks = self._looks[partition]
        return now_s - looks[0][0] if looks else 0.0


def readings(engine: Engine, *seen: OpenAges) -> Iterator[PartitionReading]:
    """See `Metrics.observe_partitions`."""
    now_s = engine.now_s()
    for accumulator in engine.cluster.accumulators:
        p = accumulator.partition
        count, oldest_s = sum(ages.count(p) for ages in seen), max(ages.oldest_s(p, now_s) for ages in seen)
        yield PartitionReading(p, accumulator.pending, count, oldest_s)
