"""A sink: a destination for entries, with its own positions."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from wallet_engine.journal.feed import FeedEntry, FeedPosition


class Sink(Protocol):
    """One destination. Its follower calls it from one event loop, one call after the other.

    After any exception the sink is closed. After a pause it is opened again and asked for its positions, and
    it gets the entries again that it has not kept. Other sinks are not affected.
    """

    @property
    def name(self) -> str:
        """Its name in the tree and in metrics, valid for `check_name`."""
        ...

    async def start(self) -> None:
        """Connect. Called before anything else, also after a failure."""
        ...

    async def positions(self, partitions: Collection[int]) -> dict[int, FeedPosition]:
        """Its position in each partition, `START` if it has nothing. The next entries follow after these."""
        ...

    async def take(self, batch: Sequence[FeedEntry]) -> None:
        """Take entries of several partitions, those of each in order. They may be kept now or later.

        The sink keeps rows and position together, or can recognize entries that it keeps twice.
        """
        ...

    async def flush(self) -> None:
        """Return when all taken entries are kept, unless `resumes_after` says how far they are.

        Called when no more entries wait.
        """
        ...

    def resumes_after(self) -> Mapping[int, int] | None:
        """Partition -> durable seq after which a new process would read on; 0 if it is not there.

        None: after the last flushed entry. The journal may remove entries up to there. Called at any time, also
        after `close`.
        """
        ...

    async def caught_up(self, partitions: Collection[int], at_ms: int) -> None:
        """Everything in these partitions up to the time `at_ms` (Unix ms) is flushed. About once a second.

        Later entries have later times, except if they were long on their way to a journal copy.
        """
        ...

    async def close(self) -> None:
        """Release all resources. Also called when the sink could not be opened."""
        ...


@runtime_checkable
class Remade(Protocol):
    """A sink whose partitions may be made anew while it is followed."""

    async def stored(self, partitions: Collection[int]) -> dict[int, FeedPosition]:
        """The positions that are stored now. Changes nothing."""
        ...


@runtime_checkable
class Telling(Protocol):
    """A sink that works but may have a message for operators."""

    @property
    def trouble(self) -> str:
        """The message; empty when there is none."""
        ...
