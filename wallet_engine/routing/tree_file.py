"""The file under `FileTree`: its format, its atomic replacement and its `flock`s.

    {"format": 1, "nodes": {"/wallet/config": {"data": "{…}", "version": 0},
                            "/wallet/journals/j1": {"data": "{…}", "version": 0,
                                                    "owner": {"pid": 4711, "birth": "…", "tree": "…"}}}}

Every change is made under an exclusive `flock` of `<file>.lock` and replaces the file by an atomic rename, so
a reader needs no lock and sees one change or the next, whole. Data is UTF-8; other bytes are kept by
`surrogateescape`.
"""

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from wallet_engine.domain.errors import Corruption
from wallet_engine.routing.processes import birth_of
from wallet_engine.routing.tree import StoreUnavailable

T = TypeVar("T")

#: How long a change waits for the changes of other processes.
CHANGE_WAIT_S_MAX: Final = 10.0
_FLOCK_RETRY_S: Final = 0.005
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Owner:
    """The process, and the tree inside it, that an ephemeral node belongs to."""

    pid: int
    #: `processes.birth_of(pid)`.
    birth: str
    tree: str

    def alive(self) -> bool:
        return birth_of(self.pid) == self.birth


@dataclass(frozen=True, slots=True)
class Stored:
    """A node in the file; only ephemeral nodes have an `owner`."""

    data: bytes
    version: int = 0
    owner: Owner | None = None

    def visible(self) -> bool:
        """An ephemeral node counts only while its owner lives."""
        return self.owner is None or self.owner.alive()


class TreeFile:
    """Reads and replaces the file. Thread-safe. Raises `StoreUnavailable`, `Corruption` (damaged file)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = threading.Lock()
        self._nodes: Mapping[str, Stored] = {}
        self._file: BinaryIO | None = None

    def load(self) -> Mapping[str, Stored]:
        """All nodes, including dead owners'. Returns the same object until the file is replaced."""
        with self._mutex:
            try:
                self._refresh()
            except OSError as error:
                raise StoreUnavailable(f"cannot read {self.path}: {error.strerror}") from None
            return self._nodes

    def change(self, edit: Callable[[dict[str, Stored]], T]) -> T:
        """Let `edit` change the visible nodes and put the result on disk; nothing changes when it raises."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(f"{self.path}.lock", "ab") as lock:
                if not flock(lock, CHANGE_WAIT_S_MAX):
                    raise StoreUnavailable(f"{self.path} was locked for {CHANGE_WAIT_S_MAX:.0f} s by others")
                nodes = {path: stored for path, stored in self.load().items() if stored.visible()}
                result = edit(nodes)
                self._replace(_encode(nodes))
                return result
        except OSError as error:
            raise StoreUnavailable(f"cannot write {self.path}: {error.strerror}") from None

    def close(self) -> None:
        with self._mutex:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _refresh(self) -> None:
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            if self._file is not None:
                self._file.close()
                self._file, self._nodes = None, {}
            return
        if self._file is not None:
            had = os.fstat(self._file.fileno())
            if (had.st_dev, had.st_ino) == (now.st_dev, now.st_ino):
                return
        # The file stays open, so no other file can get its inode number. Comparing the numbers therefore
        # detects every replacement, however quick.
        file = open(self.path, "rb")  # noqa: SIM115
        try:
            self._nodes = _decode(file.read(), self.path)
        except BaseException:
            file.close()
            raise
        if self._file is not None:
            self._file.close()
        self._file = file

    def _replace(self, text: bytes) -> None:
        scratch = Path(f"{self.path}.new")
        try:
            with open(scratch, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, self.path)
        except BaseException:
            with suppress(OSError):
                scratch.unlink()
            raise
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def flock(file: BinaryIO, timeout_s: float) -> bool:
    """Lock an open file exclusively, until it is closed or the process dies. False when it took too long.

    `flock` belongs to the open file, not to the process, so it also keeps threads apart.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_FLOCK_RETRY_S)


def _encode(nodes: Mapping[str, Stored]) -> bytes:
    texts: dict[str, dict[str, Any]] = {}
    for path in sorted(nodes):
        stored = nodes[path]
        texts[path] = {"data": stored.data.decode("utf-8", "surrogateescape"), "version": stored.version}
        if stored.owner is not None:
            texts[path]["owner"] = asdict(stored.owner)
    return json.dumps({"format": _FORMAT, "nodes": texts}, indent=1).encode() + b"\n"


def _decode(text: bytes, path: Path) -> dict[str, Stored]:
    try:
        document = json.loads(text)
        if document["format"] != _FORMAT:
            raise Corruption(f"{path} has format {document['format']!r}, this program knows {_FORMAT}")
        return {
            name: Stored(
                fields["data"].encode("utf-8", "surrogateescape"),
                int(fields["version"]),
                Owner(**fields["owner"]) if "owner" in fields else None,
            )
            for name, fields in document["nodes"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corruption(f"{path} is not a tree file: {type(error).__name__}: {error}") from None
