"""What a sweeper knows of open entries that nobody drives any more, and of the partitions that are to be paid."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from math import inf
from typing import Final

#: How long a receiving partition is left alone after a credit there has failed; twice as long after each that follows.
REST_S_MIN: Final = 1.0
REST_S_MAX: Final = 8.0
#: How long an entry's money for one receiving partition is left alone behind a drive that did not end it.
RETRY_S: Final = 5.0
#: Entries open towards one receiving partition, of all services, past which no more debits are made for it (G10).
OPEN_PER_RECEIVER_MAX: Final = 2_000


class Standing:
    """One open entry. `owed`: the receivers' partitions that have not had, or not refused, all of its money; each with
    the time before which it is not to be driven (loop time).
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
    """The open entries of all partitions, by partition and seq. An entry that owes nothing waits for its settle."""

    def __init__(self, on_owed: Callable[[int, int], None]) -> None:
        """`on_owed(q, entries)` is told when the entries open towards a partition reach the limit or leave it."""
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
        """The partitions that entries of this one are to pay."""
        return {q for standing in self._of[partition].values() for q in standing.owed}

    def settled_late(self, partition: int) -> Iterator[int]:
        """Entries that owe nothing and are still there."""
        return (seq for seq, standing in self._of[partition].items() if not standing.owed)

    def due(self, partition: int, q: int, now_s: float, most: int) -> list[int]:
        """The oldest that owe something to q and may be driven now."""
        found = (seq for seq, standing in self._of[partition].items() if standing.owed.get(q, inf) <= now_s)
        return list(islice(found, most))

    def put(self, partition: int, seq: int, nonce: str, owed: Iterable[int]) -> None:
        """An entry was read; what was known of another one with this seq is no more."""
        self.forget(partition, seq)
        standing = self._of[partition][seq] = Standing(nonce, owed)
        for q in standing.owed:
            self._count(q, 1)

    def paid(self, partition: int, seq: int, q: int) -> bool:
        """The entry owes nothing to q any more; whether it owes nothing to anybody now."""
        standing = self._of[partition].get(seq)
        if standing is None or q not in standing.owed:
            return False
        del standing.owed[q]
        self._count(q, -1)
        return not standing.owed

    def forget(self, partition: int, seq: int) -> None:
        """The entry is not open any more, or is another one."""
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
        #: Under way.
        self.drives = 0

    def __repr__(self) -> str:
        return f"<Receiver failures={self._failures} drives={self.drives}>"

    def may_be_driven(self, now_s: float, mine: int) -> bool:
        """One that has failed is tried by one drive at a time; `mine` of them are the asker's."""
        return now_s >= self._rest_until_s and (not self._failures or self.drives == mine)

    def failed(self, now_s: float) -> None:
        if now_s >= self._rest_until_s:  # those that were under way together count once
            self._rest_until_s = now_s + min(REST_S_MAX, REST_S_MIN * 2**self._failures)
            self._failures += 1

    def well(self) -> None:
        self._failures = 0
