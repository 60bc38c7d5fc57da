"""Removes archived segments from the disk. `app.pruner` decides which ones.

A removed segment's index stays, without its marks: some hundred bytes for each partition in it. It says where
entries are, and its running hash proves what the archive gives back.
"""

import os
from pathlib import Path

from wallet_engine.domain.errors import ConfigError
from wallet_engine.journal.archive import archived_up_to
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.index import SegmentIndex, index_path, read_index, write_index
from wallet_engine.journal.segments import fsync_directory, read_seal, segment_path


def sealed_index(directory: Path, number: int) -> SegmentIndex:
    """The index of a sealed segment that is here. Raises `Damaged` when there is no good one."""
    path = segment_path(directory, number)
    index = read_index(path, read_seal(path)[2])
    if index is None:
        raise Damaged(
            index_path(path), 0, "not the index of its segment: the next start of the journal makes it anew"
        )
    return index


def remove_segment(directory: Path, number: int) -> int:
    """Remove an archived sealed segment; returns the bytes freed. A crash leaves it whole, or removed.

    Raises `ConfigError` when it is not archived, `Damaged`, `OSError`.
    """
    path = segment_path(directory, number)
    if number > archived_up_to(directory):
        raise ConfigError(f"{path} is not archived")
    index = sealed_index(directory, number)
    write_index(
        path,
        SegmentIndex(
            index.journal_id,
            index.segment,
            index.seal_offset,
            index.end_hash,
            index.partitions,
            index.fences,
            [],
            index.bases,
        ),
    )
    with open(index_path(path), "rb") as file:
        os.fsync(file.fileno())
    fsync_directory(directory)
    size = path.stat().st_size
    path.unlink()
    fsync_directory(directory)
    return size
