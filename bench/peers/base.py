"""What a peer has to offer to be measured."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from bench.ring import Request
from bench.workload import Pair

#: One caller's way to send: the request's payload and the number that makes its ids fresh go in, the numbers of
#: succeeded and of declined transfers come out. Raises `PeerFailed`.
Send = Callable[[Any, int], Awaitable[tuple[int, int]]]


class PeerMissing(Exception):
    """This peer is not on this machine, in words that say how to get it."""


class PeerFailed(Exception):
    """The peer gave an answer it must not give."""


class Peer(Protocol):
    """One store under test. `start` … `stop` brackets everything else."""

    name: str
    #: What has to be on disk, and how, before an answer counts.
    durability: str
    #: Batch size -> callers.
    callers: ClassVar[Mapping[int, int]]

    @property
    def version(self) -> str:
        """Of the server that was started."""

    def start(self, folder: Path) -> None:
        """Start the server with its data in `folder`. Raises `PeerMissing` or `StartFailed`."""

    def stop(self) -> None:
        """End what was started; nothing when nothing was."""

    def pids(self) -> list[int]:
        """Processes whose CPU is the server's."""

    def bytes_on_disk(self) -> int:
        """What its data take now; it only has to grow by what transfers add."""

    async def fund(self, accounts: int) -> None:
        """Open the accounts of `bench.funding` with their money."""

    def requests(self, pairs: Sequence[Pair], batch: int) -> list[Request[Any]]:
        """Requests made ready before the clock starts."""

    async def connect(self) -> Send:
        """A caller of its own."""

    async def disconnect(self) -> None:
        """Close all callers."""

    async def faults(self, accounts: int, succeeded: int) -> list[str]:
        """What is wrong with the books after `succeeded` transfers since the start, in words."""
