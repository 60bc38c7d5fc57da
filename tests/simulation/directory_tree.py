"""ZooKeeper in memory: one store, and for each process a tree that implements `routing.tree.Tree` on it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from simulation.world import Handle, ProcessLoop, World

from wallet_engine.routing.directory import MAP
from wallet_engine.routing.model import PartitionMap, encode_map
from wallet_engine.routing.tree import (
    HeldLock,
    LockTimeout,
    Node,
    NodeExists,
    NodeMissing,
    StoreUnavailable,
    Unsubscribe,
    Version,
    VersionConflict,
    check_path,
)

#: Epochs grow within these low bits; a restored tree begins above them.
EPOCH_BITS: Final = 32


class Keeper:
    """The ensemble. While `away` nothing answers and no watch is told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.nodes: dict[str, Node] = {}
        self.owners: dict[str, ProcessLoop] = {}
        self.locks: dict[str, ProcessLoop] = {}
        self.watches: list[_Watch] = []
        self.away = False
        #: Processes that are cut off from the ensemble.
        self.cut_off: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<Keeper nodes={len(self.nodes)} {'away' if self.away else 'here'}>"

    def changed(self) -> None:
        self.watches = [watch for watch in self.watches if watch.active and not watch.loop.dead]
        for watch in self.watches:
            watch.touch()

    def come_back(self) -> None:
        self.away = False
        self.changed()

    def lose(self) -> dict[str, Node]:
        """Lose all data and go on serving; returns the lost nodes. Sessions begin anew and create their own again."""
        lost = {path: node for path, node in self.nodes.items() if path not in self.owners}
        self.nodes = {path: self.nodes[path] for path in self.owners}
        self.changed()
        return lost

    def put_back(self, lost: Mapping[str, Node], placement: PartitionMap) -> None:
        """Put nodes back as `restore` does: each is a new node, and the map has epochs that were never in force."""
        epoch = (max(entry.epoch for entry in placement.partitions) >> EPOCH_BITS) + 1 << EPOCH_BITS
        raised = placement.with_epochs(dict.fromkeys(range(len(placement.partitions)), epoch))
        self.nodes |= {path: Node(node.data, 0) for path, node in lost.items()}
        self.nodes[MAP] = Node(encode_map(raised), 0)
        self.changed()

    def cut(self, processes: frozenset[str]) -> None:
        """These processes no longer reach the ensemble; an empty set connects all again."""
        self.cut_off = processes
        self.changed()

    def process_died(self, loop: ProcessLoop) -> None:
        """The process's session ends: its ephemeral nodes and locks go."""
        for path in [path for path, owner in self.owners.items() if owner is loop]:
            del self.owners[path], self.nodes[path]
        for name in [name for name, owner in self.locks.items() if owner is loop]:
            del self.locks[name]
        self.changed()

    def unlock(self, loop: ProcessLoop) -> None:
        """The session of a process that is stopped ends: others get its locks, and it goes on as if it had them."""
        if loop.paused:
            for name in [name for name, owner in self.locks.items() if owner is loop]:
                del self.locks[name]

    def children(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        return sorted({name[len(prefix) :].split("/")[0] for name in self.nodes if name.startswith(prefix)})


class _Watch:
    def __init__(
        self, keeper: Keeper, loop: ProcessLoop, look: Callable[[], Any], tell: Callable[[Any], object]
    ) -> None:
        self.keeper, self.loop, self.look, self.tell = keeper, loop, look, tell
        self.active = True
        self._due = False
        self._last: list[Any] = []

    def touch(self) -> None:
        if self._due:
            return
        self._due = True
        world = self.keeper.world
        delay_us = 200 + int(world.rng.random() ** 4 * 300_000)
        world.at(world.now_us + delay_us, self.loop, Handle(self._deliver, (), None))

    def _deliver(self) -> None:
        self._due = False
        if not self.active or self.keeper.away or self.loop.process in self.keeper.cut_off:
            return
        value = self.look()
        if self._last != [value]:
            self._last = [value]
            self.tell(value)


class SimTree:
    """The store as one process reaches it."""

    def __init__(self, keeper: Keeper, loop: ProcessLoop) -> None:
        self._keeper = keeper
        self._loop = loop

    def __repr__(self) -> str:
        return f"<SimTree {self._loop.name}>"

    @property
    def connected(self) -> bool:
        return not self._keeper.away and self._loop.process not in self._keeper.cut_off

    @property
    def _nodes(self) -> dict[str, Node]:
        if not self.connected or self._loop.dead:
            raise StoreUnavailable("ZooKeeper does not answer")
        return self._keeper.nodes

    def get(self, path: str) -> Node | None:
        return self._nodes.get(check_path(path))

    def create(self, path: str, data: bytes, *, ephemeral: bool = False) -> None:
        nodes = self._nodes
        if path in nodes:
            raise NodeExists(path)
        nodes[path] = Node(data, 0)
        if ephemeral:
            self._keeper.owners[path] = self._loop
        self._keeper.changed()

    def set(self, path: str, data: bytes, version: int, *, beside: Version | None = None) -> int:
        if beside is not None:
            other = self.get(beside.path)
            if other is None or other.version != beside.version:
                raise VersionConflict(beside.path)
        node = self.get(path)
        if node is None:
            raise NodeMissing(path)
        if node.version != version:
            raise VersionConflict(path)
        self._nodes[path] = Node(data, version + 1)
        self._keeper.changed()
        return version + 1

    def delete(self, path: str, version: int | None = None) -> None:
        node = self.get(path)
        if node is None:
            raise NodeMissing(path)
        if version not in (None, node.version):
            raise VersionConflict(path)
        del self._nodes[path]
        self._keeper.owners.pop(path, None)
        self._keeper.changed()

    def children(self, path: str) -> list[str]:
        self._nodes  # noqa: B018  # raises when the store is away
        return self._keeper.children(path)

    def watch(self, path: str, callback: Callable[[Node | None], object]) -> Unsubscribe:
        return self._watch(lambda: self._keeper.nodes.get(path), callback)

    def watch_children(self, path: str, callback: Callable[[list[str]], object]) -> Unsubscribe:
        return self._watch(lambda: self._keeper.children(path), callback)

    def _watch(self, look: Callable[[], Any], callback: Callable[[Any], object]) -> Unsubscribe:
        watch = _Watch(self._keeper, self._loop, look, callback)
        self._keeper.watches.append(watch)
        watch.touch()

        def stop() -> None:
            watch.active = False

        return stop

    @contextmanager
    def lock(self, path: str, holder: str, *, timeout_s: float = 0.0) -> Iterator[HeldLock]:
        """Nothing can wait inside one thread: a lock that is held raises `LockTimeout` at once."""
        self._nodes  # noqa: B018
        locks = self._keeper.locks
        if path in locks:
            raise LockTimeout(f"{path} is held by {locks[path].name}")
        locks[path] = self._loop
        try:
            yield _Held()
        finally:
            if locks.get(path) is self._loop:
                del locks[path]

    def close(self) -> None:
        self._keeper.process_died(self._loop)


class _Held:
    held = True
