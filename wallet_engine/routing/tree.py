"""The coordination store as the engine sees it: a small tree of versioned nodes, shaped like ZooKeeper's.

Two implementations behave alike (one conformance suite runs against both): `ZooKeeperTree` and, for the
embedded mode, `FileTree`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from wallet_engine.domain.errors import WalletError

LOCK_TIMEOUT_S: Final = 10.0

Unsubscribe = Callable[[], None]


class TreeError(WalletError):
    """Base of the store's errors; exceptions of the underlying libraries never leave the store."""


class NodeExists(TreeError):
    """There is a node at this path already."""


class NodeMissing(TreeError):
    """There is no node at this path."""


class NodeNotEmpty(TreeError):
    """The node has children and cannot be deleted."""


class VersionConflict(TreeError):
    """Another process changed the node since this version was read: read and decide again."""


class NotAllowed(TreeError):
    """Only other users may change or read this node."""


class LockTimeout(TreeError):
    """The lock stayed with another holder; the text names the holder."""


class StoreUnavailable(TreeError):
    """The store does not answer now. A change that raises this may have been made: read it back."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node as it was read; `version` counts its changes since it was created, from 0."""

    data: bytes
    version: int


class HeldLock(Protocol):
    """A lock inside its `with` block."""

    @property
    def held(self) -> bool:
        """Whether it is certain that the lock is still ours; False after a session loss.

        Ask before a step that two processes must never both make.
        """
        ...


class Version(NamedTuple):
    """A node at one version."""

    path: str
    version: int


class Tree(Protocol):
    """Synchronous and thread-safe. Every call is bounded in time and may raise `StoreUnavailable`.

    Paths are absolute, such as `/wallet/map`; a malformed path is a `ValueError`.
    """

    @property
    def connected(self) -> bool:
        """Whether the store answered last time; while False, watchers keep the last value they were given."""
        ...

    def get(self, path: str) -> Node | None: ...

    def create(self, path: str, data: bytes, *, ephemeral: bool = False) -> None:
        """Create a node and its missing parents. Raises `NodeExists`.

        An ephemeral node lasts as long as this tree is open and its process alive, across lost sessions.
        """
        ...

    def set(self, path: str, data: bytes, version: int, *, beside: Version | None = None) -> int:
        """Compare and set; the new version. `beside`: only while another node has this version.

        Raises `VersionConflict`, `NodeMissing`.
        """
        ...

    def delete(self, path: str, version: int | None = None) -> None:
        """Delete a node, any version if None. Raises `VersionConflict`, `NodeMissing`, `NodeNotEmpty`."""
        ...

    def children(self, path: str) -> list[str]:
        """The names of a node's children, sorted; empty when the node is missing."""
        ...

    def watch(self, path: str, callback: Callable[[Node | None], object]) -> Unsubscribe:
        """Call back with the present value soon, and after every change (changes close together: one call).

        One thread of the tree makes all calls of all its watches, one after the other: callbacks should be
        short. Watches outlive lost sessions. Never raises for an absent store: the
        first call comes when it is back.
        """
        ...

    def watch_children(self, path: str, callback: Callable[[list[str]], object]) -> Unsubscribe:
        """The same for `children(path)`; only names, not what the children hold."""
        ...

    def lock(
        self, path: str, holder: str, *, timeout_s: float = LOCK_TIMEOUT_S
    ) -> AbstractContextManager[HeldLock]:
        """Mutual exclusion between processes and threads; not reentrant. Raises `LockTimeout`.

        `holder` names the holder to waiting processes. The lock of a dead process is released automatically.
        """
        ...

    def close(self) -> None:
        """Drop the ephemeral nodes and stop the watches."""
        ...


def check_path(path: str) -> str:
    """The path, or `ValueError`."""
    if path != "/" and (not path.startswith("/") or "" in path[1:].split("/")):
        raise ValueError(f"not a path of the store: {path!r}")
    return path


def parents_of(path: str) -> list[str]:
    """`/a/b/c` -> `/a`, `/a/b`."""
    names = path.split("/")[1:-1]
    return ["/" + "/".join(names[: i + 1]) for i in range(len(names))]
