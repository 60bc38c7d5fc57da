"""The tree in one local file: the embedded mode uses it instead of ZooKeeper.

An ephemeral node counts only while its owner lives: a dead owner's nodes are invisible at once and leave the
file with the next change. Watches look at the file every `POLL_S`. Locks are `flock`s on files in
`<file>.locks`, which the kernel releases when their process dies; those files stay, because deleting one
would let two processes hold one lock.
"""

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from wallet_engine.domain.errors import ConfigError, WalletError
from wallet_engine.routing.processes import birth_of
from wallet_engine.routing.tree import (
    LOCK_TIMEOUT_S,
    HeldLock,
    LockTimeout,
    Node,
    NodeExists,
    NodeMissing,
    NodeNotEmpty,
    StoreUnavailable,
    TreeError,
    Version,
    VersionConflict,
    check_path,
    parents_of,
)
from wallet_engine.routing.tree_file import Owner, Stored, TreeFile, flock
from wallet_engine.routing.watches import Touch, WatchingTree

POLL_S: Final = 0.1


class FileTree(WatchingTree):
    """`Tree` in a file of this machine. A missing file is an empty tree; it is written at the first change.

    Raises `ConfigError` when the path cannot be a tree file, `Corruption` when the file is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__("file-tree-watches")
        self._file = TreeFile(Path(path).absolute())
        self._owner = Owner(os.getpid(), birth_of(os.getpid()) or "", uuid.uuid4().hex[:12])
        self._seen: tuple[Mapping[str, Stored], frozenset[Owner]] = ({}, frozenset())
        try:
            self._file.load()
        except StoreUnavailable as error:
            raise ConfigError(f"{error}: set --map-file") from None

    def __str__(self) -> str:
        return f"the map file {self._file.path}"

    def __repr__(self) -> str:
        state = "closed" if self._closing else "open"
        return f"<FileTree {self._file.path.name} {state} watches={len(self._watches)}>"

    @property
    def connected(self) -> bool:
        return not self._closing

    def get(self, path: str) -> Node | None:
        stored = self._load().get(check_path(path))
        return Node(stored.data, stored.version) if stored is not None and stored.visible() else None

    def children(self, path: str) -> list[str]:
        prefix = check_path(path).rstrip("/") + "/"
        below = (
            (name[len(prefix) :], stored) for name, stored in self._load().items() if name.startswith(prefix)
        )
        return sorted(name for name, stored in below if "/" not in name and stored.visible())

    def create(self, path: str, data: bytes, *, ephemeral: bool = False) -> None:
        check_path(path)
        self._check_open()

        def edit(nodes: dict[str, Stored]) -> None:
            if path in nodes or path == "/":
                raise NodeExists(f"{path} exists already")
            for parent in parents_of(path):
                if nodes.setdefault(parent, Stored(b"")).owner is not None:
                    raise TreeError(f"{parent} is ephemeral and cannot have children")
            nodes[path] = Stored(data, 0, self._owner if ephemeral else None)

        self._file.change(edit)
        self._wake()

    def set(self, path: str, data: bytes, version: int, *, beside: Version | None = None) -> int:
        check_path(path)
        self._check_open()

        def edit(nodes: dict[str, Stored]) -> int:
            if beside is not None:
                _expect(nodes, *beside)
            nodes[path] = replace(_expect(nodes, path, version), data=data, version=version + 1)
            return version + 1

        version = self._file.change(edit)
        self._wake()
        return version

    def delete(self, path: str, version: int | None = None) -> None:
        check_path(path)
        self._check_open()

        def edit(nodes: dict[str, Stored]) -> None:
            _expect(nodes, path, version)
            if any(name.startswith(path + "/") for name in nodes):
                raise NodeNotEmpty(f"{path} has children")
            del nodes[path]

        self._file.change(edit)
        self._wake()

    @contextmanager
    def lock(self, path: str, holder: str, *, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[HeldLock]:
        self._check_open()
        folder = Path(f"{self._file.path}.locks")
        lock_file = folder / f"{quote(check_path(path)[1:], safe='')}.lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = open(lock_file, "a+b", 0)  # noqa: SIM115 - a `with` here would also catch errors of the body
        except OSError as error:
            raise StoreUnavailable(f"cannot open {lock_file}: {error.strerror}") from None
        lock = _FileLock()
        with file:
            if not flock(file, timeout_s):
                file.seek(0)
                raise LockTimeout(
                    f"{path} is held by {file.read(200).decode('utf-8', 'replace') or 'another'}"
                )
            with suppress(OSError):  # a full disk: only the name of the holder is missing
                file.truncate(0)
                file.write(holder.encode())
            try:
                yield lock
            finally:
                lock.held = False
                with suppress(OSError):
                    file.truncate(0)

    def close(self) -> None:
        if self._closing:
            return
        self._stop_watching()

        def edit(nodes: dict[str, Stored]) -> None:
            for path in [path for path, stored in nodes.items() if stored.owner == self._owner]:
                del nodes[path]

        # If the file cannot be written now, the nodes stay until this process ends; then they do not count.
        with suppress(WalletError):
            if any(stored.owner == self._owner for stored in self._file.load().values()):
                self._file.change(edit)
        self._file.close()

    def _look_node(self, path: str, touch: Touch) -> Node | None:
        return self.get(path)

    def _look_children(self, path: str, touch: Touch) -> list[str]:
        return self.children(path)

    def _upkeep(self) -> bool:
        """Mark the watches when the file was replaced or an owner of ephemeral nodes died."""
        nodes = self._load()
        owners = {stored.owner for stored in nodes.values() if stored.owner is not None}
        alive = frozenset(owner for owner in owners if owner.alive())
        if nodes is not self._seen[0] or alive != self._seen[1]:
            self._seen = nodes, alive
            for watch in self._watches:
                watch.dirty = True
        return True

    def _pause_s(self, *, failed: bool) -> float | None:
        return POLL_S

    def _load(self) -> Mapping[str, Stored]:
        self._check_open()
        return self._file.load()

    def _check_open(self) -> None:
        if self._closing:
            raise StoreUnavailable(f"{self._file.path} was closed")


class _FileLock:
    """Held until the `with` block ends: a local lock has no session to lose."""

    def __init__(self) -> None:
        self.held = True


def _expect(nodes: Mapping[str, Stored], path: str, version: int | None) -> Stored:
    stored = nodes.get(path)
    if stored is None:
        raise NodeMissing(f"{path} does not exist")
    if version is not None and stored.version != version:
        raise VersionConflict(f"{path} is at version {stored.version}, not {version}")
    return stored
