"""The interface of a peer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from bench.ring import Request
from bench.workload import Pair

#: Sends a request for one caller: (its payload, the number for its fresh ids) -> (succeeded, declined) transfers.
#: Raises `PeerFailed`.
Send = Callable[[Any, int], Awaitable[tuple[int, int]]]


class PeerMissing(Exception):
    """This peer is not on this machine. The text says how to install it."""


class PeerFailed(Exception):
    """The peer gave an unexpected answer, or none."""


class Peer(Protocol):
    """One store under test. `start` is called first and `stop` last."""

    name: str
    #: What is on disk before a request is answered, in words.
    durability: str
    #: Batch size -> callers.
    callers: ClassVar[Mapping[int, int]]

    @property
    def version(self) -> str:
        """The version of the started server."""

    def start(self, folder: Path) -> None:
        """Start the server with its data in `folder`. Raises `PeerMissing` or `StartFailed`."""

    def stop(self) -> None:
        """End the server, if it was started."""

    def pids(self) -> list[int]:
        """The server's processes, for its CPU time."""

    def bytes_on_disk(self) -> int:
        """Bytes on disk. Only the growth matters, so it need not be the total."""

    async def fund(self, accounts: int) -> None:
        """Open the accounts of `bench.funding` with their money."""

    def requests(self, pairs: Sequence[Pair], batch: int) -> list[Request[Any]]:
        """Prepare requests of exactly `batch` transfers, before the measurement."""

    async def connect(self) -> Send:
        """Connect another caller."""

    async def disconnect(self) -> None:
        """Close all callers."""

    async def faults(self, accounts: int, succeeded: int) -> list[str]:
        """Check the books after `succeeded` transfers since the start: what is wrong, in words."""
