"""Faults of a journal: a damaged file, or an entry that does not continue its chain."""

import errno
from pathlib import Path
from typing import Final, NamedTuple

from wallet_engine.domain.errors import Corruption, WalletError


class Damaged(Corruption):
    """A segment holds bytes that the journal never wrote. `path` and `offset` (bytes) say where."""

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(f"{path} at offset {offset}: {what}")
        self.path = path
        self.offset = offset
        self.what = what


class NotRestored(WalletError):
    """A segment is only in the archive and was not restored; the text says why, and what to do."""


class Link(NamedTuple):
    """How an entry joins its partition's chain. As an expectation, `epoch` is the lowest that is accepted."""

    seq: int
    prev_nonce: str
    epoch: int


class Fork(Corruption):
    """An entry does not continue its partition's chain; nothing of it was written (G7)."""

    def __init__(self, partition: int, expected: Link, found: Link) -> None:
        super().__init__(
            f"partition {partition} forks: expected seq {expected.seq} after nonce {expected.prev_nonce} "
            f"in epoch {expected.epoch} or later, "
            f"found seq {found.seq} after nonce {found.prev_nonce} in epoch {found.epoch}"
        )
        self.partition = partition
        self.expected = expected
        self.found = found


class NoEntry(Corruption):
    """A durable entry whose operations cannot be read; the entries of other partitions can."""

    def __init__(self, partition: int, why: str) -> None:
        super().__init__(f"partition {partition}: {why}")
        self.partition = partition


_WHAT_TO_DO: Final = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "raise its quota or free space there",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EROFS: "mount it writable",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
    errno.EIO: "the disk fails: look at the kernel's log and copy the directory to another one",
}


def disk_failure(directory: Path, error: OSError) -> str:
    """One line: the journal directory, the system's error, and what to do.

    No answered entry is lost: the entries of the failed write were never receipted.
    """
    what = _WHAT_TO_DO.get(error.errno or 0, "mend that")
    return f"journal directory {directory}: {error.strerror or error}: {what}, then start this journal again"


class Fenced(Fork):
    """An entry continues the chain, but comes from an epoch that this copy promised to refuse."""
