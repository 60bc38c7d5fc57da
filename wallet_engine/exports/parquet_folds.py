"""Folds of the sink `parquet:`, beside its positions: a process that starts a partition continues from there.

    DIR/.folds/0003-0000000000001234     the fold of partition 3 behind its entry 1234

A fold can be used once its entry is in a file. Positions are up to an hour behind, so of each partition the
newest usable fold is kept, and the two newest that are not usable yet. A damaged fold is removed.
"""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec

from wallet_engine.domain.errors import Corruption
from wallet_engine.events.maker import Start
from wallet_engine.events.saved import load_book
from wallet_engine.journal.feed import FeedPosition
from wallet_engine.journal.segments import fsync_directory
from wallet_engine.telemetry.logging import get_logger

FOLDER: Final = ".folds"
#: Folds kept although their entries are in no file yet.
WAITING_MAX: Final = 2
#: An unfinished file that has not changed for this long is nobody's.
LEFT_S_MIN: Final = 3_600.0
_DIGEST_BYTES: Final = 16

log = get_logger(__name__)


class ParquetFolds:
    """The folds of one directory. Its methods block, and raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._folder = directory / FOLDER

    def __repr__(self) -> str:
        return f"<ParquetFolds {self._folder}>"

    def make(self) -> None:
        self._folder.mkdir(exist_ok=True)
        for left in self._folder.glob("writing-*"):  # from a process that died, unless another writes it now
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > LEFT_S_MIN:
                    left.unlink()

    def save(self, partition: int, at: FeedPosition, book: bytes, kept: int) -> None:
        """Save a fold. `kept` is the seq of the partition's last entry in a file."""
        data = msgspec.msgpack.encode((at.nonce, book))
        place = self._folder / f"{partition:04d}-{at.seq:016d}"
        beside = self._folder / f"writing-{uuid4().hex}"
        try:
            with beside.open("wb") as file:
                file.write(_digest(data) + data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(place)
            fsync_directory(self._folder)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        self._tidy(partition, kept)

    def _tidy(self, partition: int, kept: int) -> None:
        usable: list[Path] = []
        waiting: list[Path] = []
        for seq, path in self._of(partition):
            (usable if seq <= kept else waiting).append(path)
        for path in (*usable[:-1], *waiting[:-WAITING_MAX]):
            path.unlink(missing_ok=True)

    def load(self, partition: int, told: FeedPosition) -> Start | None:
        """The start of a partition from its newest good fold at or before `told`; None without one."""
        for seq, path in reversed(self._of(partition)):
            if seq > told.seq:
                continue
            try:
                data = path.read_bytes()
                if _digest(data[_DIGEST_BYTES:]) != data[:_DIGEST_BYTES]:
                    raise Corruption(f"{path} is damaged")
                nonce, book = msgspec.msgpack.decode(data[_DIGEST_BYTES:], type=tuple[str | None, bytes])
                return Start(FeedPosition(seq, nonce), load_book(book), told)
            except FileNotFoundError:  # another process has written a newer one
                continue
            except Corruption as error:
                log.warning("a damaged fold is removed", path=str(path), why=str(error))
                path.unlink(missing_ok=True)  # it must not pass for the newest that can be used
        return None

    def seqs(self) -> dict[int, list[int]]:
        """Partition -> seqs of its folds."""
        found: dict[int, list[int]] = {}
        for path in self._folder.glob("[0-9]*-*"):
            partition, _, seq = path.name.partition("-")
            found.setdefault(int(partition), []).append(int(seq))
        return found

    def _of(self, partition: int) -> list[tuple[int, Path]]:
        """(seq, path) of a partition's folds, in order."""
        found = self._folder.glob(f"{partition:04d}-*")
        return sorted((int(path.name.partition("-")[2]), path) for path in found)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
