"""Requests that are prepared before the measurement, and sent again and again with fresh transaction ids.

To build a request costs more than some engines need to answer it. So a run prepares some hundred thousand transfers
with random UUIDs once. Each time a request is sent, 32 bits of its ids are replaced by a number that no other sending
has. So the ids are unique, and scattered like random ones.
"""

import os
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from bench.workload import REPEAT_EVERY, Pair

#: Maximum transfers prepared for a run (but at least 16 requests).
RING_TRANSFERS: Final = 200_000
#: Maximum requests prepared for a run: each has its own head.
RING_REQUESTS_MAX: Final = 100_000

_ODD: Final = 2654435761  # coprime to 2^32, so its multiples modulo 2^32 visit every number once
_MASK: Final = 2**32 - 1

T = TypeVar("T")


class Request(Generic[T]):
    """A prepared request: its payload, its number of transfers, and how many of them must be declined."""

    __slots__ = ("declined", "payload", "transfers")

    def __init__(self, payload: T, transfers: int, declined: int) -> None:
        self.payload = payload
        self.transfers = transfers
        self.declined = declined


class Ring(Generic[T]):
    """Gives out requests in turn, each with a number for its fresh ids. `repeats`: every 20th is a repetition."""

    def __init__(self, requests: Sequence[Request[T]], *, repeats: bool) -> None:
        self._requests = requests
        self._sent = int.from_bytes(os.urandom(4))
        self._repeats = repeats
        self._position = -1

    def __repr__(self) -> str:
        return f"<Ring requests={len(self._requests)}>"

    def next(self) -> tuple[Request[T], int] | None:
        """The next request and its number; None when the caller must repeat its last request."""
        position = self._position = self._position + 1
        if self._repeats and position % REPEAT_EVERY == REPEAT_EVERY - 1:
            return None
        self._sent += 1
        return self._requests[position % len(self._requests)], self._sent * _ODD & _MASK


def ring_size(batch: int) -> int:
    """The number of requests with `batch` transfers to prepare."""
    return max(16, min(RING_REQUESTS_MAX, RING_TRANSFERS // batch))


def chunks(pairs: Sequence[Pair], batch: int) -> list[Sequence[Pair]]:
    """The pairs in groups of exactly `batch`; a rest is left out."""
    return [pairs[start : start + batch] for start in range(0, len(pairs) - batch + 1, batch)]


def declined_of(pairs: Sequence[Pair]) -> int:
    """The number of transfers that must be declined."""
    return sum(pair.declined for pair in pairs)
