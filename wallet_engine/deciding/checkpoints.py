"""Keeps the progress of a decider in a directory, so that a restart does not begin with the first entry.

    snapshots/00003-0000000000001234.snapshot   partition 3 after its entry 1234 (`journal.snapshots`)
    matching                                    money between partitions, up to which entries; differences
    lock                                        held by the process that uses the directory

Each file is independent: a snapshot may be of a later or an earlier entry than `matching`, and a start reads
on from the earlier one. The feed checks the nonce of that entry against the chain. A damaged file is set
aside; then more entries are read.
"""

import fcntl
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from wallet_engine.deciding.decider import Decider, Difference
from wallet_engine.domain.errors import ConfigError, Corruption, NewerFormat, text_of
from wallet_engine.domain.oracle_state import RedisImage, redis_image, state_of_image
from wallet_engine.domain.transit import Transit
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.feed import FeedPosition
from wallet_engine.journal.segments import fsync_directory
from wallet_engine.journal.snapshots import (
    Snapshot,
    SnapshotHead,
    list_snapshots,
    prune_snapshots,
    snapshots_directory,
    write_snapshot,
)
from wallet_engine.telemetry.logging import get_logger

#: Stands for a journal's id: the nonce binds these snapshots to a chain, not to the bytes of one copy.
OWN: Final = "oracle"
_VERSION: Final = 1

log = get_logger(__name__)


class _Matching(msgspec.Struct, array_like=True):
    version: int
    transit: bytes
    matched: dict[int, FeedPosition]
    differences: list[Difference]


class Checkpoints:
    """One directory. Its methods block."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock: BinaryIO | None = None
        #: A save whose caller was cancelled goes on in its thread; the next one waits for it.
        self._saving = threading.Lock()
        #: partition -> seq of its newest snapshot
        self.seqs: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Checkpoints {self.directory} partitions={len(self.seqs)}>"

    def open(self) -> None:
        """Raises `ConfigError` when the directory cannot be used, or another process does."""
        try:
            snapshots_directory(self.directory).mkdir(parents=True, exist_ok=True)
            self._lock = open(self.directory / "lock", "wb")  # noqa: SIM115  # held until `close`
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise ConfigError(f"another oracle uses {self.directory}") from None
        except OSError as error:
            self.close()
            raise ConfigError(f"the oracle cannot use {self.directory}: {error.strerror}") from error

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def load(self, partitions: int) -> Decider:
        """A decider that continues from these checkpoints, or from the first entries. Raises `OSError`."""
        decider = Decider(partitions)
        self._load_matching(decider)
        for partition, paths in list_snapshots(self.directory).items():
            if partition in decider.states:
                self._load_state(decider, partition, paths)
        return decider

    def _load_matching(self, decider: Decider) -> None:
        path = self.directory / "matching"
        try:
            found = msgspec.msgpack.decode(path.read_bytes(), type=_Matching)
            if found.version > _VERSION:
                raise NewerFormat(f"{path} has form", found.version, _VERSION)
            if found.version != _VERSION or len(found.matched) != decider.partitions:
                raise Corruption("of another version, or of another cluster")
            decider.transit = Transit.load(found.transit)
        except FileNotFoundError:
            return
        except (msgspec.MsgspecError, Corruption) as error:
            self._set_aside(path, text_of(error))
            return
        decider.matched = found.matched
        for difference in found.differences:
            decider.differences.setdefault(difference.partition, []).append(difference)

    def _load_state(self, decider: Decider, partition: int, paths: Iterable[Path]) -> None:
        """Load the newest snapshot that can be read."""
        for path in paths:
            try:
                with Snapshot(path) as snapshot:
                    head = snapshot.head
                    if (head.journal_id, head.partition) != (OWN, partition):
                        raise Damaged(path, 0, f"is one of partition {head.partition} of {head.journal_id}")
                    state = state_of_image(snapshot.image(), head.epoch)
            except Corruption as error:
                self._set_aside(path, text_of(error))
                continue
            decider.states[partition] = state
            self.seqs[partition] = state.seq
            return

    def _set_aside(self, path: Path, why: str) -> None:
        log.warning("checkpoint set aside", path=str(path), why=why)
        os.replace(path, path.with_name(path.name + ".damaged"))

    def save_matching(self, data: bytes) -> None:
        """Save the result of `matching_of`. Raises `OSError`."""
        fresh = self.directory / "matching.new"
        with self._saving:
            with open(fresh, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(self.directory / "matching")
            fsync_directory(self.directory)

    def save_state(self, head: SnapshotHead, image: RedisImage) -> None:
        """Save the result of `image_of`. Raises `OSError`."""
        with self._saving:
            write_snapshot(self.directory, head, image)
            prune_snapshots(list_snapshots(self.directory)[head.partition])
        self.seqs[head.partition] = head.seq


def matching_of(decider: Decider) -> bytes:
    """The matching state as bytes. Call it between two batches."""
    differences = [difference for each in decider.differences.values() for difference in each]
    return msgspec.msgpack.encode(_Matching(_VERSION, decider.transit.dump(), decider.matched, differences))


def image_of(decider: Decider, partition: int) -> tuple[SnapshotHead, RedisImage] | None:
    """The state of one partition; None when its entries are no longer decided."""
    state = decider.states.get(partition)
    if state is None:
        return None
    head = SnapshotHead(OWN, partition, state.seq, state.nonce, state.epoch, 0, 0, "")
    return head, redis_image(state)
