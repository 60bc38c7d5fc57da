"""Snapshots: the state of one partition in a file, so that a rebuild need not read all its entries.

`snapshots/00003-0000000000001234.snapshot` in the journal's directory is partition 3 after its entry 1234. A
snapshot holds nothing that the journal does not hold; a damaged one, or one of another journal, is skipped.
The file is text::

    wallet snapshot 5
    {"journal_id": …}                       one line of JSON: `SnapshotHead`
    balance:USD 2 19 1c0ffee1               a part: key without its tag, fields, bytes, CRC-32
    alice<TAB>8766                          one line for each field
    bob<TAB>1234
    …
    end <SHA-256 of everything before this line, in hex>

The CRC-32 of a part covers its first line up to the CRC-32, and its fields.

The running hash behind the entry it stands for binds the snapshot to its journal, and so to every byte
before: a snapshot of entries that were lost in a crash before they were durable does not fit any more.

Every change of the meaning of a partition's field raises the version; older snapshots are then skipped.
"""

import hashlib
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from wallet_engine.domain.errors import NewerFormat
from wallet_engine.domain.oracle_state import RedisImage
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.format import (
    FRAME_HEADER_BYTES,
    FRAME_START_BYTES,
    KIND_ENTRY,
    PAYLOAD_BYTES_MAX,
    frame_header_unpack,
    hash_after,
)
from wallet_engine.journal.segments import (
    absent_index,
    fsync_directory,
    numbers_on_disk,
    segment_file,
    segment_numbers,
    segment_path,
)

SNAPSHOTS_NAME: Final = "snapshots"
#: File in it: the journal's end, `<segment> <offset>`, when the last complete round of snapshots began.
MADE_NAME: Final = "made"
#: Snapshots kept of each partition; the older one is used when the newest is damaged.
SNAPSHOTS_KEPT: Final = 2
#: Fields of one part. One call writes a part to Redis: 0.8 ms at 90 bytes a field (2.9 ms for 1000 fields).
PART_FIELDS_MAX: Final = 250
_LINE_BYTES_MAX: Final = 4096
#: Maximum bytes of a part of `PART_FIELDS_MAX` fields; a record of received credits can be long.
_PART_BYTES_MAX: Final = 64 * 1024 * 1024

SNAPSHOT_VERSION: Final = 5
_FIRST_LINE: Final = b"wallet snapshot %d\n" % SNAPSHOT_VERSION
_version_match: Final = re.compile(rb"wallet snapshot ([0-9]{1,9})\n").fullmatch
_name_match = re.compile(r"([0-9]{5})-([0-9]{16})\.snapshot\Z").match
_part_match = re.compile(rb"([!-~]+) ([0-9]{1,7}) ([0-9]{1,9}) ([0-9a-f]{8})\n").fullmatch


class SnapshotHead(msgspec.Struct, frozen=True):
    """The state after entry `seq`. Its frame is at `offset` of `segment`; `running_hash` is behind it."""

    journal_id: str
    partition: int
    seq: int
    nonce: str
    epoch: int
    segment: int
    offset: int
    running_hash: str


class Part(NamedTuple):
    """Fields of one hash (`key` without its tag): name, value, name, value …"""

    key: str
    words: list[bytes]


_decode_head = msgspec.json.Decoder(SnapshotHead).decode


def snapshots_directory(journal: Path) -> Path:
    return journal / SNAPSHOTS_NAME


def snapshot_path(journal: Path, partition: int, seq: int) -> Path:
    return snapshots_directory(journal) / f"{partition:05d}-{seq:016d}.snapshot"


def list_snapshots(journal: Path) -> dict[int, list[Path]]:
    """partition -> its snapshots, the newest first. Opens none."""
    found: dict[int, list[Path]] = {}
    try:
        names = sorted(os.listdir(snapshots_directory(journal)), reverse=True)
    except FileNotFoundError:
        return found
    for name in names:
        if match := _name_match(name):
            found.setdefault(int(match[1]), []).append(snapshots_directory(journal) / name)
    return found


def write_snapshot(journal: Path, head: SnapshotHead, image: RedisImage) -> Path:
    """Write the snapshot durably, whole or not at all. Raises `OSError`."""
    path = snapshot_path(journal, head.partition, head.seq)
    unfinished = path.with_suffix(".snapshot.tmp")
    try:
        with open(unfinished, "wb") as file:
            digest = hashlib.sha256()
            for piece in _pieces(head, image):
                digest.update(piece)
                file.write(piece)
            file.write(b"end %s\n" % digest.hexdigest().encode())
            file.flush()
            os.fsync(file.fileno())
        os.rename(unfinished, path)
    except BaseException:
        unfinished.unlink(
            missing_ok=True
        )  # the next snapshot has another name: on a full disk they would pile up
        raise
    fsync_directory(path.parent)
    return path


def _pieces(head: SnapshotHead, image: RedisImage) -> Iterator[bytes]:
    yield _FIRST_LINE
    yield msgspec.json.encode(head) + b"\n"
    for key, fields in sorted(image.items()):
        lines = [f"{name}\t{value}\n" for name, value in fields.items()]
        for start in range(0, len(lines), PART_FIELDS_MAX):
            some = lines[start : start + PART_FIELDS_MAX]
            body = "".join(some).encode()
            start_of_line = b"%s %d %d " % (key.encode(), len(some), len(body))
            yield start_of_line + b"%08x\n" % zlib.crc32(body, zlib.crc32(start_of_line))
            yield body


def prune_snapshots(paths: list[Path]) -> None:
    """Remove all but the newest `SNAPSHOTS_KEPT` of one partition's snapshots; `paths`: newest first."""
    for path in paths[SNAPSHOTS_KEPT:]:
        path.unlink(missing_ok=True)


class Snapshot:
    """An open snapshot. Use it in a `with`; it stays readable when the file is removed meanwhile."""

    def __init__(self, path: Path) -> None:
        """Read the head. Raises `Damaged`, `NewerFormat`, and `OSError` when there is no such file."""
        self.path = path
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115  # open as long as this object is
        try:
            first = self._file.readline(_LINE_BYTES_MAX)
            if (later := _version_match(first)) and int(later[1]) > SNAPSHOT_VERSION:
                raise NewerFormat(f"{path} is a snapshot of version", int(later[1]), SNAPSHOT_VERSION)
            if first != _FIRST_LINE:
                raise Damaged(path, 0, f"not a snapshot of version {SNAPSHOT_VERSION}")
            try:
                self.head = _decode_head(self._file.readline(_LINE_BYTES_MAX))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                raise Damaged(path, len(_FIRST_LINE), "snapshot head cannot be read") from None
        except BaseException:
            self._file.close()
            raise
        self._parts_from = self._file.tell()

    def __repr__(self) -> str:
        return f"<Snapshot p={self.head.partition} seq={self.head.seq} {self.path.name}>"

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def parts(self) -> Iterator[Part]:
        """Every part, checked; at most `PART_FIELDS_MAX` fields each. Raises `Damaged` with the offset.

        A snapshot is whole when this has come to its end: parts before a damaged place are good.
        """
        file, path = self._file, self.path
        file.seek(0)
        digest = hashlib.sha256(file.read(self._parts_from))
        while True:
            offset = file.tell()
            line = file.readline(_LINE_BYTES_MAX)
            if line.startswith(b"end "):
                if line != b"end %s\n" % digest.hexdigest().encode():
                    raise Damaged(path, offset, "snapshot does not match its SHA-256")
                if file.read(1):
                    raise Damaged(path, file.tell() - 1, "bytes behind the end of the snapshot")
                return
            match = _part_match(line)
            if match is None or int(match[3]) > _PART_BYTES_MAX:
                raise Damaged(path, offset, "snapshot breaks off" if not line else "not a part of a snapshot")
            body = file.read(int(match[3]))
            if zlib.crc32(body, zlib.crc32(line[: match.start(4)])) != int(match[4], 16):
                raise Damaged(path, offset, "part of a snapshot does not match its checksum")
            digest.update(line)
            digest.update(body)
            words = body[:-1].replace(b"\n", b"\t").split(b"\t")
            if len(words) != 2 * int(match[2]):
                raise Damaged(
                    path, offset, f"part of a snapshot has {len(words) // 2} fields, not {int(match[2])}"
                )
            yield Part(match[1].decode(), words)

    def check(self, journal: Path) -> None:
        """Read the whole snapshot, and prove that it belongs to this journal. Raises `Damaged`."""
        head = self.head
        if self.path.name != snapshot_path(journal, head.partition, head.seq).name:
            raise Damaged(self.path, len(_FIRST_LINE), f"holds partition {head.partition} at seq {head.seq}")
        for _ in self.parts():
            pass
        if not stands_in(journal, head):
            raise Damaged(
                self.path,
                len(_FIRST_LINE),
                f"stands for an entry at offset {head.offset} of segment {head.segment} that is not in this journal",
            )

    def image(self) -> RedisImage:
        """The whole state, as `redis_image` made it. Raises `Damaged`."""
        image: RedisImage = {}
        for key, words in self.parts():
            text = [word.decode() for word in words]
            image.setdefault(key, {}).update(zip(text[::2], text[1::2], strict=True))
        return image


def stands_in(journal: Path, head: SnapshotHead) -> bool:
    """Whether this journal has the snapshot's entry; its segment may be only in the archive."""
    index = None if segment_path(journal, head.segment).exists() else absent_index(journal, head.segment)
    span = None if index is None else index.partitions.get(head.partition)
    if (
        span is not None and span.last_seq == head.seq
    ):  # a nonce identifies one entry and all entries before it
        return span.last_nonce == head.nonce
    return hash_behind(journal, head.partition, head.segment, head.offset) == head.running_hash


def hash_behind(journal: Path, partition: int, segment: int, offset: int) -> str | None:
    """The running hash, in hex, behind the partition's entry at this place; None when no such entry is there."""
    try:
        with open(_readable(journal, segment), "rb") as file:
            file.seek(offset)
            start = file.read(FRAME_HEADER_BYTES)
            if len(start) < FRAME_HEADER_BYTES:
                return None
            length, checksum, found, kind, _ = frame_header_unpack(start)
            if found != partition or kind != KIND_ENTRY or length > PAYLOAD_BYTES_MAX:
                return None
            body = start[FRAME_START_BYTES:] + file.read(length)
    except FileNotFoundError:
        return None
    whole = len(body) == FRAME_HEADER_BYTES - FRAME_START_BYTES + length
    return hash_after(body).hex() if whole and zlib.crc32(body) == checksum else None


def _readable(journal: Path, segment: int) -> Path:
    try:
        return segment_file(journal, segment)
    except Damaged as error:
        raise FileNotFoundError(error.what) from error


def newest_usable(journal: Path, paths: list[Path]) -> tuple[Snapshot | None, list[Damaged]]:
    """The newest of one partition's snapshots that is whole and of this journal, open, and the faults of
    others.

    `paths`: newest first. Reads each snapshot that it opens completely.
    """
    refused: list[Damaged] = []
    for path in paths:
        try:
            snapshot = Snapshot(path)
        except Damaged as error:
            refused.append(error)
            continue
        except FileNotFoundError:  # pruned since it was listed
            continue
        try:
            snapshot.check(journal)
        except Damaged as error:
            snapshot.__exit__()
            refused.append(error)
            continue
        except BaseException:
            snapshot.__exit__()
            raise
        return snapshot, refused
    return None, refused


def check_known(journal: Path) -> None:
    """Raises `NewerFormat` when the version of a partition's newest snapshot is unknown to this program."""
    for paths in list_snapshots(journal).values():
        with suppress(Damaged, FileNotFoundError):
            Snapshot(paths[0]).__exit__()


def journal_end(journal: Path) -> tuple[int, int]:
    """(segment, offset)"""
    segment = segment_numbers(journal)[-1]
    return segment, segment_path(journal, segment).stat().st_size


def note_made(journal: Path, end: tuple[int, int]) -> None:
    """Note that the snapshots of all partitions cover the journal up to `end` at least."""
    (snapshots_directory(journal) / MADE_NAME).write_text("{} {}".format(*end), "ascii")


def bytes_since_made(journal: Path) -> int:
    """How many bytes were journaled since the last complete round of snapshots began.

    An interrupted round does not count: partitions without a snapshot would hold back what needs one.
    """
    try:
        segment, offset = map(int, (snapshots_directory(journal) / MADE_NAME).read_text("ascii").split())
    except (FileNotFoundError, ValueError):
        segment, offset = 1, 0
    return bytes_behind(journal, segment, offset)


def bytes_behind(journal: Path, segment: int, offset: int) -> int:
    """How many bytes were journaled behind this place."""
    total = 0
    for number in numbers_on_disk(journal):
        if number >= segment:
            total += segment_path(journal, number).stat().st_size - (offset if number == segment else 0)
    return max(0, total)
