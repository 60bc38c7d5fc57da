"""The torn tail: what a crash in the middle of a write leaves at the end of the last segment.

Only the last group can be torn, and it was never receipted: a group is receipted after its fsync. So a torn
tail is cut off, and a copy is kept as `<segment>.torn-<offset>`. Everything else is damage, and stops the
journal.

The tail (the bytes from the end of the last good frame to the end of the file) is torn when it is no longer
than a group can be and one of these holds:

* zeros: all bytes are zero, or all but a start that is shorter than a frame header and followed by at least
  16 zeros: the file grew, and the data was never written;
* a truncated header that agrees with the running hash as far as it goes;
* a truncated frame: its header agrees with the running hash and points past the end of the file. A complete
  frame with a damaged *length* looks the same, but its checksum still fits some shorter length;
* a lost sector: the frame is complete, its checksum is wrong, nothing but zeros follows it, and its part of
  one 512-byte sector of the file (at least 16 bytes of it) is all zeros. Entries are text, so no entry holds
  16 zeros.

In doubt (a lost sector with whole frames behind it) the tail counts as damage: a person decides, or another
copy supplies the entries.
"""

import os
import zlib
from pathlib import Path
from typing import Final

from wallet_engine.journal.format import (
    FRAME_HEADER_BYTES,
    FRAME_START_BYTES,
    GROUP_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    SECTOR_BYTES,
    frame_header_unpack,
)
from wallet_engine.journal.segments import fsync_directory

#: A run of zeros that neither an entry nor one damaged byte in it can explain.
ZEROS_MIN: Final = 16


def torn_reason(tail: bytes, offset: int, running_hash: bytes) -> str | None:
    """Why the tail counts as torn, or None when it is damage. The tail starts at `offset` of its file."""
    if len(tail) > GROUP_BYTES_MAX:
        return None
    written = len(tail.rstrip(b"\0"))
    if written == 0 or (written < FRAME_HEADER_BYTES and len(tail) - written >= ZEROS_MIN):
        return "zeros"
    hash_seen = tail[12:FRAME_HEADER_BYTES]
    if hash_seen != running_hash[: len(hash_seen)]:
        return None
    if len(tail) < FRAME_HEADER_BYTES:
        return "truncated header"
    length, checksum, *_ = frame_header_unpack(tail)
    if length > PAYLOAD_BYTES_MAX:
        return None
    end = FRAME_HEADER_BYTES + length
    if end > len(tail):
        return None if _shorter_frame_fits(tail, checksum) else "truncated frame"
    if written <= end and _has_zero_sector(tail[:end], offset):
        return "lost sector"
    return None


def _shorter_frame_fits(tail: bytes, checksum: int) -> bool:
    """Whether the checksum fits with a length that ends within the tail."""
    running = zlib.crc32(tail[FRAME_START_BYTES:FRAME_HEADER_BYTES])
    if running == checksum:
        return True
    for position in range(FRAME_HEADER_BYTES, min(len(tail), FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX)):
        running = zlib.crc32(tail[position : position + 1], running)
        if running == checksum:
            return True
    return False


def _has_zero_sector(frame: bytes, offset: int) -> bool:
    start = 0
    while start < len(frame):
        stop = start + SECTOR_BYTES - (offset + start) % SECTOR_BYTES
        piece = frame[start:stop]
        if len(piece) >= ZEROS_MIN and not any(piece):
            return True
        start = stop
    return False


def cut_tail(path: Path, offset: int) -> Path:
    """Cut the segment at `offset`, after copying what follows; both durable. Returns the copy."""
    with open(path, "r+b") as file:
        file.seek(offset)
        copy = _write_copy(path, offset, file.read())
        fsync_directory(path.parent)
        file.truncate(offset)
        os.fsync(file.fileno())
    return copy


def _write_copy(path: Path, offset: int, tail: bytes) -> Path:
    copy = path.with_name(f"{path.name}.torn-{offset}")
    attempt = 1
    while copy.exists():  # the same offset was torn before; that copy is evidence too
        attempt += 1
        copy = path.with_name(f"{path.name}.torn-{offset}-{attempt}")
    try:
        with open(copy, "xb") as file:
            file.write(tail)
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # a full disk: the tail stays where it is, and the next start copies it
        copy.unlink(missing_ok=True)
        raise
    return copy
