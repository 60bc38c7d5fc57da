"""Requests made ready before the clock starts, and sent round and round under fresh transaction ids.

Building a request costs more than some engines take to answer it. So a run prepares some hundred thousand
transfers with random UUIDs once; each time a request is sent, one 32-bit part of its ids is replaced with a
number that no other sending has. Ids stay unique and as scattered as random ones.
"""

import os
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from bench.workload import REPEAT_EVERY, Pair

#: Transfers prepared for a run; requests hold a round number of them.
RING_TRANSFERS: Final = 200_000
#: The same for single transfers, where each request carries a head of its own.
RING_REQUESTS_MAX: Final = 100_000

_ODD: Final = 2654435761  # coprime to 2^32: counting in its multiples visits every number once
_MASK: Final = 2**32 - 1

T = TypeVar("T")


class Request(Generic[T]):
    """A request to send: what is sent, how many transfers it holds, how many of them must be declined."""

    __slots__ = ("declined", "payload", "transfers")

    def __init__(self, payload: T, transfers: int, declined: int) -> None:
        self.payload = payload
        self.transfers = transfers
        self.declined = declined


class Ring(Generic[T]):
    """Hands out requests in turn, each with a number for its fresh ids. `repeats`: one in 20 is to be sent again."""

    def __init__(self, requests: Sequence[Request[T]], *, repeats: bool) -> None:
        self._requests = requests
        self._sent = int.from_bytes(os.urandom(4))
        self._repeats = repeats
        self._position = -1

    def __repr__(self) -> str:
        return f"<Ring requests={len(self._requests)}>"

    def next(self) -> tuple[Request[T], int] | None:
        """A request and its number; None when the caller has to repeat its last one."""
        position = self._position = self._position + 1
        if self._repeats and position % REPEAT_EVERY == REPEAT_EVERY - 1:
            return None
        self._sent += 1
        return self._requests[position % len(self._requests)], self._sent * _ODD & _MASK


def ring_size(batch: int) -> int:
    """How many requests of `batch` transfers to prepare."""
    return max(16, min(RING_REQUESTS_MAX, RING_TRANSFERS // batch))


def chunks(pairs: Sequence[Pair], batch: int) -> list[Sequence[Pair]]:
    """The pairs in whole requests of `batch`."""
    return [pairs[start : start + batch] for start in range(0, len(pairs) - batch + 1, batch)]


def declined_of(pairs: Sequence[Pair]) -> int:
    """How many of them have to be declined."""
    return sum(pair.declined for pair in pairs)
