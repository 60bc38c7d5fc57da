"""What a sweeper knows about open entries without a driver, and about the partitions they have to pay."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from math import inf
from typing import Final

#: Pause of a receiving partition after a failed credit there; it doubles after each further failure.
REST_S_MIN: Final = 1.0
REST_S_MAX: Final = 8.0
#: Pause of an entry's money for one receiving partition after a drive that did not end it.
RETRY_S: Final = 5.0
#: If more entries of all services are open towards one receiving partition, no more debits are made for it
#: (G10).
OPEN_PER_RECEIVER_MAX: Final = 2_000


class Standing:
    """One open entry.

    `owed`: receivers' partitions that have not yet taken or refused all of its money -> earliest time of the
    next drive (loop time).
    """

    __slots__ = ("nonce", "owed")

    def __init__(self, nonce: str, owed: Iterable[int]) -> None:
        self.nonce = nonce
        self.owed = dict.fromkeys(owed, 0.0)

    def later(self, q: int, retry_s: float) -> None:
        if q in self.owed:
            self.owed[q] = retry_s

    def __repr__(self) -> str:
        return f"<Standing {self.nonce} owed={sorted(self.owed)}>"


class Standings:
    """Open entries of all partitions, by partition and seq.

    An entry that owes nothing waits for its settle.
    """

    def __init__(self, on_owed: Callable[[int, int], None]) -> None:
        """`on_owed(q, entries)` is called when the entries open towards a partition cross the limit."""
        self._of: defaultdict[int, dict[int, Standing]] = defaultdict(dict)
        self._owed: Counter[int] = Counter()
        self._on_owed = on_owed

    def __repr__(self) -> str:
        return f"<Standings entries={sum(map(len, self._of.values()))} towards={dict(self._owed)}>"

    def get(self, partition: int, seq: int) -> Standing | None:
        return self._of[partition].get(seq)

    def seqs(self, partition: int) -> list[int]:
        return list(self._of[partition])

    def owed_by(self, partition: int) -> set[int]:
        """The partitions that entries of this one have to pay."""
        return {q for standing in self._of[partition].values() for q in standing.owed}

    def settled_late(self, partition: int) -> Iterator[int]:
        """Entries that owe nothing but are still open."""
        return (seq for seq, standing in self._of[partition].items() if not standing.owed)

    def due(self, partition: int, q: int, now_s: float, most: int) -> list[int]:
        """The oldest entries that owe something to q and may be driven now, at most `most`."""
        found = (seq for seq, standing in self._of[partition].items() if standing.owed.get(q, inf) <= now_s)
        return list(islice(found, most))

    def put(self, partition: int, seq: int, nonce: str, owed: Iterable[int]) -> None:
        """Keep an entry that was read; it replaces another one with this seq."""
        self.forget(partition, seq)
        standing = self._of[partition][seq] = Standing(nonce, owed)
        for q in standing.owed:
            self._count(q, 1)

    def paid(self, partition: int, seq: int, q: int) -> bool:
        """The entry owes nothing to q any more. Returns whether it now owes nothing at all."""
        standing = self._of[partition].get(seq)
        if standing is None or q not in standing.owed:
            return False
        del standing.owed[q]
        self._count(q, -1)
        return not standing.owed

    def forget(self, partition: int, seq: int) -> None:
        """The entry is no longer open, or was replaced by another one."""
        standing = self._of[partition].pop(seq, None)
        for q in () if standing is None else standing.owed:
            self._count(q, -1)

    def _count(self, q: int, change: int) -> None:
        before = self._owed[q]
        now = self._owed[q] = before + change
        if (before >= OPEN_PER_RECEIVER_MAX) != (now >= OPEN_PER_RECEIVER_MAX):
            self._on_owed(q, now)


class Receiver:
    """One receiving partition: whether it may be driven now."""

    __slots__ = ("_failures", "_rest_until_s", "drives")

    def __init__(self) -> None:
        self._failures = 0
        self._rest_until_s = 0.0
        #: Drives under way.
        self.drives = 0

    def __repr__(self) -> str:
        return f"<Receiver failures={self._failures} drives={self.drives}>"

    def may_be_driven(self, now_s: float, mine: int) -> bool:
        """After a failure only one drive at a time is allowed; `mine` of the drives are the asker's."""
        return now_s >= self._rest_until_s and (not self._failures or self.drives == mine)

    def failed(self, now_s: float) -> None:
        if now_s >= self._rest_until_s:  # failures of simultaneous drives count once
            self._rest_until_s = now_s + min(REST_S_MAX, REST_S_MIN * 2**self._failures)
            self._failures += 1

    def well(self) -> None:
        self._failures = 0
