"""Take the orphaned ends of some partitions' chains out of a journal.

An entry is orphaned when a recovery chose a chain without it: only this copy had it, and this copy was
absent. No caller got an answer for it, and the other copies have other entries of the partition in its place.

All partitions share the segments and one running hash. So every segment from the first orphan on is rewritten
under the same number, without the orphans:

    orphaned-p3-105-107   the entries taken out, as text; evidence for a person, no program reads it
    00000002.wal.redo     the rewritten segments
    redo                  their numbers; once it exists the exchange is decided, and can always be finished
    rewrites              the first segment of each finished exchange, one a line: an archive may hold older
                          texts of the segments from there on, and tells the new ones apart by their names
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from wallet_engine.domain.entry import parse_header
from wallet_engine.domain.errors import Corruption, NewerFormat
from wallet_engine.journal.archive import REWRITES_NAME, read_rewrites
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.format import (
    KIND_BASE,
    KIND_ENTRY,
    KIND_SEAL,
    SEGMENT_HEADER_BYTES,
    epoch_payload,
    frame,
    hash_after,
    seal_payload,
    segment_header,
)
from wallet_engine.journal.index import index_path
from wallet_engine.journal.reader import Record, read
from wallet_engine.journal.scan import Scan
from wallet_engine.journal.segments import (
    fsync_directory,
    read_segment_header,
    segment_numbers,
    segment_path,
)
from wallet_engine.journal.snapshots import Snapshot, list_snapshots, stands_in

REDO_NAME: Final = "redo"


def set_aside(directory: Path, journal_id: str, after: Mapping[int, int]) -> dict[int, Path]:
    """Rewrite a journal without the entries of these partitions behind these seqs. No process may be writing
    it.

    Returns the files with the entries taken out, by partition. Raises `OSError` and `Damaged`.
    """
    orphans: dict[int, list[Record]] = {}
    for record in read(directory, partitions=after, after=after):
        orphans.setdefault(record.partition, []).append(record)
    kept = {partition: _keep(directory, partition, records) for partition, records in orphans.items()}
    if not kept:
        return kept
    first = min(records[0].segment for records in orphans.values())
    numbers = [number for number in segment_numbers(directory) if number >= first]
    running_hash = read_segment_header(directory, first).start_hash
    beyond: set[int] = set()
    for number in numbers:
        running_hash = _write_anew(directory, number, running_hash, journal_id, after, beyond)
    fsync_directory(directory)
    decided = directory / (REDO_NAME + ".tmp")
    _write(decided, "".join(f"{number}\n" for number in numbers).encode())
    os.rename(decided, directory / REDO_NAME)
    fsync_directory(directory)
    finish_rewrite(directory)
    return kept


def _keep(directory: Path, partition: int, orphans: Sequence[Record]) -> Path:
    first, last = (parse_header(record.payload).seq for record in (orphans[0], orphans[-1]))
    kept = _unused(directory / f"orphaned-p{partition}-{first}-{last}")
    _write(kept, b"".join(record.payload for record in orphans))
    return kept


def finish_rewrite(directory: Path) -> None:
    """Finish an exchange that was decided; remove an undecided one. Safe to repeat."""
    decision = directory / REDO_NAME
    if decision.exists():
        numbers = [int(word) for word in decision.read_text("ascii").split()]
        for number in numbers:
            path = segment_path(directory, number)
            redone = _redone(path)
            if redone.exists():
                index_path(path).unlink(missing_ok=True)
                os.rename(redone, path)
        fsync_directory(directory)
        _drop_snapshots(directory, numbers[0])
        # Only after the exchange: the older text must never get a name that says "rewritten". A crash between
        # this and the next step notes the rewrite twice; the same text is then archived under two names.
        _note_rewrite(directory, numbers[0])
        decision.unlink()
        fsync_directory(directory)
    for undecided in directory.glob("*.redo"):
        undecided.unlink()


def _note_rewrite(directory: Path, first: int) -> None:
    noted = "".join(f"{number:08d}\n" for number in (*read_rewrites(directory), first))
    unfinished = directory / f"{REWRITES_NAME}.tmp"
    _write(unfinished, noted.encode())
    os.rename(unfinished, directory / REWRITES_NAME)
    fsync_directory(directory)


def _drop_snapshots(directory: Path, first: int) -> None:
    """Drop snapshots of entries in rewritten segments: their bytes no longer exist. New ones can be made.

    A snapshot that cannot be read stays: nobody uses it.
    """
    for path in (path for paths in list_snapshots(directory).values() for path in paths):
        with suppress(Damaged, NewerFormat, FileNotFoundError), Snapshot(path) as snapshot:
            if snapshot.head.segment >= first and not stands_in(directory, snapshot.head):
                path.unlink()


def _write_anew(
    directory: Path,
    number: int,
    running_hash: bytes,
    journal_id: str,
    after: Mapping[int, int],
    beyond: set[int],
) -> bytes:
    """Write the `.redo` of one segment. `running_hash` is the hash before it; returns the one behind it.

    `beyond`: the partitions whose first orphan was already met; this segment's are added.
    """
    path = segment_path(directory, number)
    scan = Scan(path, SEGMENT_HEADER_BYTES, read_segment_header(directory, number).start_hash)
    frames, offset = 0, SEGMENT_HEADER_BYTES
    with open(_redone(path), "wb") as file:
        file.write(segment_header(number, running_hash, journal_id))

        def add(of: int, kind: int, payload: bytes) -> None:
            nonlocal running_hash, frames, offset
            start, body = frame(of, kind, running_hash, payload)
            file.write(start + body)
            running_hash = hash_after(body)
            frames += 1
            offset += len(start) + len(body)

        for _, of, kind, payload in scan:
            if kind == KIND_ENTRY and of in after and of not in beyond:
                header = parse_header(payload)
                if header.seq > after[of]:  # the chain before it is at least what its epoch began with
                    beyond.add(of)
                    add(of, KIND_BASE, epoch_payload(header.epoch))
            # A base mark behind an orphan is about a chain that holds the orphan.
            if not (of in beyond and kind in (KIND_ENTRY, KIND_BASE)):
                add(of, kind, payload)
        if scan.sealed:
            add(0, KIND_SEAL, seal_payload(frames, offset))
        elif scan.problem is not None:
            raise scan.damaged()
        file.flush()
        os.fsync(file.fileno())
    return running_hash


def _redone(path: Path) -> Path:
    return path.with_suffix(".wal.redo")


def _unused(path: Path) -> Path:
    for attempt in range(1, 1000):
        candidate = path if attempt == 1 else path.with_name(f"{path.name}-{attempt}")
        if not candidate.exists():
            return candidate
    raise Corruption(f"{path} and its like exist a thousand times")


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
