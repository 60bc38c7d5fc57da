"""The journal's format on disk, version 1. This docstring is the specification.

A journal is a directory of segments `00000001.wal`, `00000002.wal`, … without gaps, beside a few small
files (last section). Integers are little-endian and unsigned. Nothing is aligned or padded: the bytes of a
frame follow those of the frame before it.

Segment header (128 bytes)::

    offset size
         0    8  magic 89 57 41 4C 0D 0A 1A 0A ("\\x89WAL\\r\\n\\x1a\\n"; shows a transfer in text mode)
         8    4  version, 1
        12    4  segment number, as in the file's name
        16   16  running hash at the start of the segment
        32   64  journal id, ASCII, filled up with zeros
        96   28  zeros
       124    4  CRC-32 (zlib) of bytes 0-123

Frame (28 bytes and the payload)::

    offset size
         0    4  payload length in bytes, at most 1 MiB
         4    4  checksum: CRC-32 (zlib) of everything after this field: bytes 8 … 28 + length
         8    2  partition (0 for a seal)
        10    2  kind: 1 entry, 2 seal, 3 fence
        12   16  running hash: hash of all frames before this one
        28    …  payload

Payload by kind::

    1 entry  the entry's text as in `wallet_engine.domain.entry`, verbatim
    2 seal   u64 number of frames before it in this segment, u64 its own offset; ends the segment
    3 fence  u64 epoch: this copy promised to refuse older epochs of the partition
    4 base   u64 epoch: the partition's chain up to here is what that epoch began with

Running hash. H(0) = the first 16 bytes of SHA-256("wallet journal " + journal id). After a frame,
H(n) = the first 16 bytes of SHA-256(bytes 8 … end of frame n), which contain H(n-1). The chain runs through all
frames, seals included, and on from one segment into the next. So

* a checksum that is wrong is bit rot (or a torn write, see `torn`),
* a checksum that is right with a running hash that is wrong is editing: a frame taken out, put in or
  exchanged,
* a segment without a seal that is not the last is truncation.

The length is outside checksum and hash; a wrong length shows as a wrong checksum, because it moves the end.

Worked example, `tests/golden/journal/00000001.wal` (journal id "golden")::

    0000  89 57 41 4c 0d 0a 1a 0a 01 00 00 00 01 00 00 00 magic, version 1, segment 1
    0010  53 7c ac 1a 9c c8 d0 16 ee f4 fb ad e5 68 2f 9a running hash: H(0)
    0020  67 6f 6c 64 65 6e 00 00 00 00 00 00 00 00 00 00 journal id
    0030  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    0040  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    0050  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    0060  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 zeros, CRC-32
    0070  00 00 00 00 00 00 00 00 00 00 00 00 c5 9f 6d be
    0080  79 00 00 00 55 e8 ee 8b                         length 121, checksum
    0088  00 00 01 00                                     partition 0, kind 1
    008c  53 7c ac 1a 9c c8 d0 16 ee f4 fb ad e5 68 2f 9a running hash, again H(0)
    009c  31 20 30 30 30 30 30 30 30 30 30 30 30 30 30 30 payload: 1 0000 ...
    00ac  30 30 20 30 30 30 30 30 30 30 30 30 30 30 30 30
    00bc  30 61 31 20 31 20 31 37 30 30 30 30 30 30 30 30
    ....
    0115  61 00 00 00 7f 3b a4 35                         length 97, checksum
    011d  07 00 01 00                                     partition 7, kind 1
    0121  93 02 c7 6e 0a bf 18 77 f5 b8 81 02 69 63 a8 3f running hash: H(1)
    ....
    0216  10 00 00 00 4b bf 12 a8                         length 16, checksum
    021e  00 00 02 00                                     partition 0, kind 2: seal
    0222  81 ef c5 b8 b1 dd 41 1d 41 a1 d4 70 d5 f9 65 a2 running hash: H(4)
    0232  04 00 00 00 00 00 00 00 16 02 00 00 00 00 00 00 4 frames before it, its offset 534

Rotation. When a group of frames makes a segment as large as `segment_bytes_max` or larger, the group ends
with a seal and the next segment is created: written under `<name>.tmp`, fsynced, renamed, directory fsynced,
and then noted in `head`. Names are never used again.

Other files of the directory::

    head                    8 digits and a newline: highest segment number ever created. The writer holds an
                            exclusive flock on it.
    00000001.idx            index of a sealed segment; can be rebuilt (see `index`)
    00000001.wal.torn-4711  what was cut off a segment at that offset (see `torn`)
    archived                the last segment that the archive command took (see `archive`)
    snapshots/              see `snapshots`
    restored/               segments that were brought back from the archive (see `restore`)

A segment up to that in `archived` may be absent: then its index is there, without marks (see `prune`).
"""

import hashlib
import struct
import zlib
from pathlib import Path
from typing import Final

from wallet_engine.domain.errors import ConfigError, NewerFormat
from wallet_engine.journal.errors import Damaged

MAGIC: Final = b"\x89WAL\r\n\x1a\n"
VERSION: Final = 1

SEGMENT_HEADER_BYTES: Final = 128
FRAME_HEADER_BYTES: Final = 28
SECTOR_BYTES: Final = 512

#: Bytes of one payload. Services cut batches that would be longer (`engine/batch.py`).
PAYLOAD_BYTES_MAX: Final = 1024 * 1024

#: Bytes of one group: what is written and not yet fsynced, hence the most that a crash can tear.
GROUP_BYTES_MAX: Final = 8 * 1024 * 1024

SEGMENT_BYTES_MAX: Final = 256 * 1024 * 1024

KIND_ENTRY: Final = 1
KIND_SEAL: Final = 2
KIND_FENCE: Final = 3
KIND_BASE: Final = 4

_segment_header = struct.Struct("<8sII16s64s28x")
_frame_start = struct.Struct("<II")
_body_start = struct.Struct("<HH16s")
_seal = struct.Struct("<QQ")
_fence = struct.Struct("<Q")

frame_header_unpack = struct.Struct("<IIHH16s").unpack_from
frame_start_pack = _frame_start.pack
body_start_pack = _body_start.pack
#: Bytes of a body before its payload: partition, kind, running hash.
BODY_START_BYTES: Final = _body_start.size
FRAME_START_BYTES: Final = _frame_start.size
SEAL_FRAME_BYTES: Final = FRAME_HEADER_BYTES + _seal.size


def hash_at_start(journal_id: str) -> bytes:
    """H(0): the running hash before the first frame of a journal."""
    return hashlib.sha256(b"wallet journal " + journal_id.encode("ascii")).digest()[:16]


def hash_after(body: bytes) -> bytes:
    """The running hash after a frame, from its bytes behind the checksum."""
    return hashlib.sha256(body).digest()[:16]


def frame(partition: int, kind: int, running_hash: bytes, payload: bytes) -> tuple[bytes, bytes]:
    """A frame in two pieces: length and checksum, and the body that both the checksum and the hash cover."""
    body = body_start_pack(partition, kind, running_hash) + payload
    return frame_start_pack(len(payload), zlib.crc32(body)), body


def seal_payload(frames: int, offset: int) -> bytes:
    return _seal.pack(frames, offset)


def epoch_payload(epoch: int) -> bytes:
    """Of a fence and of a base."""
    return _fence.pack(epoch)


def parse_seal(payload: bytes) -> tuple[int, int] | None:
    """(frames before the seal, offset of the seal), or None when it is not the payload of a seal."""
    if len(payload) != _seal.size:
        return None
    frames, offset = _seal.unpack(payload)
    return frames, offset


def parse_epoch(payload: bytes) -> int | None:
    """The epoch of a fence or base, or None when it is not the payload of one."""
    if len(payload) != _fence.size:
        return None
    epoch: int = _fence.unpack(payload)[0]
    return epoch


def check_journal_id(journal_id: str) -> str:
    """The id when it fits the segment header (1-64 printable ASCII characters), or `ConfigError`."""
    if not (0 < len(journal_id) <= 64 and all("!" <= c <= "~" for c in journal_id)):
        raise ConfigError(f"journal id {journal_id!r} must be 1-64 printable ASCII characters without spaces")
    return journal_id


def segment_header(number: int, running_hash: bytes, journal_id: str) -> bytes:
    """The first `SEGMENT_HEADER_BYTES` of a segment."""
    head = _segment_header.pack(MAGIC, VERSION, number, running_hash, journal_id.encode("ascii"))
    return head + zlib.crc32(head).to_bytes(4, "little")


def parse_segment_header(path: Path, head: bytes, number: int) -> tuple[bytes, str]:
    """(running hash at the start, journal id). Raises `Damaged` when it is not that of segment `number`."""
    if len(head) < SEGMENT_HEADER_BYTES:
        raise Damaged(path, 0, f"segment header is {len(head)} bytes instead of {SEGMENT_HEADER_BYTES}")
    if head[:8] != MAGIC:
        raise Damaged(path, 0, "not a journal segment")
    if zlib.crc32(head[:124]) != int.from_bytes(head[124:128], "little"):
        raise Damaged(path, 0, "segment header does not match its checksum")
    _, version, found, running_hash, journal_id = _segment_header.unpack(head[:124])
    if version > VERSION:
        raise NewerFormat(f"{path} has format", version, VERSION)
    if version != VERSION:
        raise Damaged(path, 8, f"format version {version}, this program knows {VERSION}")
    if found != number:
        raise Damaged(path, 12, f"holds segment {found}, the name says {number}")
    return running_hash, journal_id.rstrip(b"\0").decode("ascii", "replace")
