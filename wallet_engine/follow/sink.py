"""What a sink is: somewhere that entries go, with its own positions."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from wallet_engine.journal.feed import FeedEntry, FeedPosition


class Sink(Protocol):
    """One destination. Its follower calls it from one event loop, one call after the other.

    Whatever any of these raises, the sink is closed, and a while later opened again and asked where it is: what it has
    not kept comes again. It stops no other sink.
    """

    @property
    def name(self) -> str:
        """Under which it is known in the tree and in metrics: a name as `check_name` takes it."""
        ...

    async def start(self) -> None:
        """Connect. Called before anything else, also behind a failure."""
        ...

    async def positions(self, partitions: Collection[int]) -> dict[int, FeedPosition]:
        """How far it is with each of these, `START` where it has nothing. What comes next begins behind them."""
        ...

    async def take(self, batch: Sequence[FeedEntry]) -> None:
        """Entries of several partitions, those of each in order. They may be kept when this returns, or later.

        Rows and position are kept together, or what is kept twice can be told.
        """
        ...

    async def flush(self) -> Mapping[int, int] | None:
        """Return when all that was taken is kept, or say up to which seqs. Asked as soon as nothing more waits."""
        ...

    async def caught_up(self, partitions: Collection[int], at_ms: int) -> None:
        """All that was durable in these partitions at that time (Unix ms) is kept. About once a second."""
        ...

    async def close(self) -> None:
        """Let go of everything. Called also when it could not be opened."""
        ...


@runtime_checkable
class Telling(Protocol):
    """A sink that may find what a person should know, although it works."""

    @property
    def trouble(self) -> str:
        """Empty when there is nothing."""
        ...
