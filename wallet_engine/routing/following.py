"""The processes that follow the feed now, and the partitions that each has claimed.

    /wallet/following/<sink>/members/<id>     ephemeral: a process that follows for this sink
    /wallet/following/<sink>/claims/<group>   ephemeral: the process that has the group's partitions

A group has the partitions that are equal modulo `groups_of`. The positions of a sink are elsewhere, and
outlive the processes (`routing/followers.py`).
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from wallet_engine.domain.errors import Corruption
from wallet_engine.routing.model import Trouble, Versions, check_name
from wallet_engine.routing.roster import passing_over, read_roster
from wallet_engine.routing.tree import NodeExists, NodeMissing, Tree, Unsubscribe, VersionConflict

FOLLOWING: Final = "/wallet/following"
#: Maximum claims of one sink: each is a node that lives as long as its process.
GROUPS_MAX: Final = 16
#: Sinks that need all partitions in one process; other processes stand by.
WHOLE: Final = frozenset({"oracle"})
_ATTEMPTS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class FollowerInfo:
    """A live process that follows for one sink."""

    follower_id: str
    sink: str
    #: `host:port` of its metrics; empty without.
    address: str
    pid: int
    host: str
    troubles: tuple[Trouble, ...] = ()
    versions: Versions | None = None

    def __post_init__(self) -> None:
        check_name(self.follower_id, "follower id")
        check_name(self.sink, "name of a sink")


@dataclass(frozen=True, slots=True)
class SinkState:
    """One sink in the tree: processes by id, and group -> id of the process that claimed it."""

    members: dict[str, FollowerInfo]
    claims: dict[int, str]


class Following:
    """The processes that follow, in one tree. Calls are synchronous and may raise `StoreUnavailable`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def __repr__(self) -> str:
        return f"<Following {self._tree!r}>"

    def sinks(self, damaged: list[str] | None = None) -> dict[str, SinkState]:
        """Every sink that a process follows for, or once did; `damaged` as in `sink`."""
        return {name: self.sink(name, damaged) for name in self._tree.children(FOLLOWING)}

    def sink(self, sink: str, damaged: list[str] | None = None) -> SinkState:
        """One sink, without members and claims that cannot be read.

        `damaged` gets a sentence about each of these, else the log does.
        """
        folder = f"{FOLLOWING}/{check_name(sink, 'name of a sink')}"
        unreadable = passing_over(damaged)
        members = read_roster(self._tree, f"{folder}/members", FollowerInfo, unreadable)
        claims: dict[int, str] = {}
        for group, data in self._below(f"{folder}/claims").items():
            if group.isdecimal():
                claims[int(group)] = data.decode(errors="replace")
            else:
                unreadable(Corruption(f"{folder}/claims/{group} is not a group of partitions"))
        return SinkState(members, claims)

    def register(self, info: FollowerInfo) -> None:
        """Announce this process until it ends; a repeated call replaces the announcement."""
        self._own(f"{FOLLOWING}/{info.sink}/members/{info.follower_id}", msgspec.json.encode(info))

    def claim(self, sink: str, group: int, follower_id: str) -> bool:
        """Claim the group if it is free. Returns whether this process has it now."""
        path = f"{FOLLOWING}/{sink}/claims/{group}"
        with suppress(NodeExists):
            self._tree.create(path, follower_id.encode(), ephemeral=True)
            return True
        node = self._tree.get(path)
        return node is not None and node.data == follower_id.encode()

    def release(self, sink: str, group: int, follower_id: str) -> None:
        """Give up a claim; another process's claim stays."""
        path = f"{FOLLOWING}/{sink}/claims/{group}"
        node = self._tree.get(path)
        if node is not None and node.data == follower_id.encode():
            with suppress(NodeMissing, VersionConflict):
                self._tree.delete(path, node.version)

    def watch_members(self, sink: str, callback: Callable[[list[str]], object]) -> Unsubscribe:
        """Call back with the ids of the processes soon and whenever one comes or goes."""
        return self._tree.watch_children(f"{FOLLOWING}/{sink}/members", callback)

    def _below(self, folder: str) -> dict[str, bytes]:
        nodes = ((name, self._tree.get(f"{folder}/{name}")) for name in self._tree.children(folder))
        return {name: node.data for name, node in nodes if node is not None}

    def _own(self, path: str, data: bytes) -> None:
        for _attempt in range(_ATTEMPTS_MAX):
            node = self._tree.get(path)
            with suppress(NodeExists, NodeMissing, VersionConflict):
                if node is None:
                    self._tree.create(path, data, ephemeral=True)
                elif node.data != data:
                    self._tree.set(path, data, node.version)
                return


def groups_of(partitions: int) -> int:
    """The number of groups of a sink's partitions: partition p is in group p modulo this number."""
    return min(partitions, GROUPS_MAX)
