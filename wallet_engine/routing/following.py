"""Who follows the journal, which partitions each has claimed, and how far every sink has got.

    /wallet/followers/<sink>/members/<id>     ephemeral: a process that follows for this sink
    /wallet/followers/<sink>/claims/<group>   ephemeral: whose partitions are those of the group
    /wallet/followers/<sink>/reached/<group>  partition -> seq that the sink has for good; outlives the process

A group is the partitions that are alike modulo `groups_of`. What a sink has reached is a promise to whoever prunes the
journal: nothing before it is needed by this sink any more, also when it dies.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.model import Trouble, check_name, decode
from wallet_engine.routing.tree import NodeExists, NodeMissing, Tree, Unsubscribe, VersionConflict

FOLLOWERS: Final = "/wallet/followers"
#: Claims of one sink at most: each is a node that lives and dies with a process.
GROUPS_MAX: Final = 16
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

    def __post_init__(self) -> None:
        check_name(self.follower_id, "follower id")
        check_name(self.sink, "name of a sink")


@dataclass(frozen=True, slots=True)
class SinkState:
    """One sink as the tree knows it: processes by id, group -> who has claimed it, partition -> seq reached."""

    members: dict[str, FollowerInfo]
    claims: dict[int, str]
    reached: dict[int, int]


class Followers:
    """The followers in one tree. Calls are synchronous and may raise `StoreUnavailable`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def __repr__(self) -> str:
        return f"<Followers {self._tree!r}>"

    def sinks(self) -> dict[str, SinkState]:
        """Every sink that has ever been followed for and was not forgotten."""
        return {name: self.sink(name) for name in self._tree.children(FOLLOWERS)}

    def sink(self, sink: str) -> SinkState:
        folder = f"{FOLLOWERS}/{check_name(sink, 'name of a sink')}"
        members = {
            name: decode(data, FollowerInfo, name) for name, data in self._below(f"{folder}/members").items()
        }
        claims = {int(group): data.decode() for group, data in self._below(f"{folder}/claims").items()}
        reached: dict[int, int] = {}
        for group, data in self._below(f"{folder}/reached").items():
            reached.update(decode(data, dict[int, int], f"{folder}/reached/{group}"))
        return SinkState(members, claims, reached)

    def register(self, info: FollowerInfo) -> None:
        """Announce this process until it ends, or what it announces now."""
        self._own(f"{FOLLOWERS}/{info.sink}/members/{info.follower_id}", msgspec.json.encode(info))

    def claim(self, sink: str, group: int, follower_id: str) -> bool:
        """Whether the group is this process's now: nobody else's claim stands."""
        path = f"{FOLLOWERS}/{sink}/claims/{group}"
        with suppress(NodeExists):
            self._tree.create(path, follower_id.encode(), ephemeral=True)
            return True
        node = self._tree.get(path)
        return node is not None and node.data == follower_id.encode()

    def release(self, sink: str, group: int, follower_id: str) -> None:
        """Give up a claim; that of another is left."""
        path = f"{FOLLOWERS}/{sink}/claims/{group}"
        node = self._tree.get(path)
        if node is not None and node.data == follower_id.encode():
            with suppress(NodeMissing, VersionConflict):
                self._tree.delete(path, node.version)

    def note_reached(self, sink: str, group: int, reached: Mapping[int, int]) -> None:
        """The sink has these for good. Nothing that was said before is taken back."""
        path = f"{FOLLOWERS}/{sink}/reached/{group}"
        for _attempt in range(_ATTEMPTS_MAX):
            node = self._tree.get(path)
            known = {} if node is None else decode(node.data, dict[int, int], path)
            merged = known | {p: max(seq, known.get(p, 0)) for p, seq in reached.items()}
            if merged == known:
                return
            with suppress(NodeExists, NodeMissing, VersionConflict):
                if node is None:
                    self._tree.create(path, msgspec.json.encode(merged))
                else:
                    self._tree.set(path, msgspec.json.encode(merged), node.version)
                return

    def watch_members(self, sink: str, callback: Callable[[list[str]], object]) -> Unsubscribe:
        """Call back with the ids of the processes soon and whenever one comes or goes."""
        return self._tree.watch_children(f"{FOLLOWERS}/{sink}/members", callback)

    def forget(self, sink: str) -> None:
        """The sink needs nothing of the journal any more. Raises `ConfigError` while somebody follows for it."""
        folder = f"{FOLLOWERS}/{check_name(sink, 'name of a sink')}"
        members = self._tree.children(f"{folder}/members")
        if members:
            raise ConfigError(f"{', '.join(members)} follows for {sink}: stop it first")
        for below in ("reached", "claims", "members"):
            for name in self._tree.children(f"{folder}/{below}"):
                with suppress(NodeMissing):
                    self._tree.delete(f"{folder}/{below}/{name}")
            with suppress(NodeMissing):
                self._tree.delete(f"{folder}/{below}")
        with suppress(NodeMissing):
            self._tree.delete(folder)

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
    """How many claims a sink's partitions make: partition p is in group p modulo so many."""
    return min(partitions, GROUPS_MAX)
