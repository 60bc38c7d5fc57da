"""Read one segment frame by frame, and check what the format promises."""

import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.format import (
    BODY_START_BYTES,
    FRAME_HEADER_BYTES,
    FRAME_START_BYTES,
    GROUP_BYTES_MAX,
    KIND_BASE,
    KIND_ENTRY,
    KIND_FENCE,
    KIND_SEAL,
    PAYLOAD_BYTES_MAX,
    frame_header_unpack,
    hash_after,
    parse_seal,
)
from wallet_engine.journal.torn import torn_reason

CHUNK_BYTES: Final = 4 * 1024 * 1024

_KINDS = frozenset((KIND_ENTRY, KIND_SEAL, KIND_FENCE, KIND_BASE))


class Scan:
    """A pass over the frames of one segment from `offset`, where the running hash is `running_hash`.

    Iterating yields (offset, partition, kind, payload) of entries, fences and bases. It ends at the seal
    (`sealed`), at the end of the file, or at the first bytes that are not a good frame (`problem` says why).
    Then `offset` and `running_hash` are those behind the last good frame; during iteration, those behind the
    frame just yielded. Iterating again continues from there. `verify=False` trusts checksums and running
    hashes without computing them.
    """

    def __init__(
        self, path: Path, offset: int, running_hash: bytes, *, frames: int | None = 0, verify: bool = True
    ) -> None:
        """`frames`: how many precede `offset` in the segment; None when that is not known."""
        self.path = path
        self.offset = offset
        self.running_hash = running_hash
        self.frames = frames
        self.sealed = False
        self.problem: str | None = None
        self._verify = verify

    def __repr__(self) -> str:
        state = "sealed" if self.sealed else self.problem or "open"
        return f"<Scan {self.path.name} offset={self.offset} {state}>"

    def __iter__(self) -> Iterator[tuple[int, int, int, bytes]]:
        self.problem = None
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            chunk = b""
            while True:
                more = file.read(max(CHUNK_BYTES, FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX))
                if not more:
                    if chunk:
                        self.problem = "truncated frame"
                    return
                chunk += more
                base = self.offset
                if not (yield from self.frames_of(chunk)):
                    if self.sealed and (self.offset != base + len(chunk) or file.read(1)):
                        raise Damaged(self.path, self.offset, "bytes behind the seal")
                    return
                chunk = chunk[self.offset - base :]

    def frames_of(self, chunk: bytes) -> Generator[tuple[int, int, int, bytes], None, bool]:
        """Yield the complete frames of a chunk that starts at `self.offset`, as iterating does.

        Returns whether more bytes may complete another frame.
        """
        base = self.offset
        position = 0
        size = len(chunk)
        running_hash = self.running_hash
        verify = self._verify
        body = b""
        count = 0
        try:
            while size - position >= FRAME_HEADER_BYTES:
                length, checksum, partition, kind, found_hash = frame_header_unpack(chunk, position)
                end = position + FRAME_HEADER_BYTES + length
                if length > PAYLOAD_BYTES_MAX:
                    self.problem = f"payload length {length} is above {PAYLOAD_BYTES_MAX}"
                    return False
                if end > size:
                    return True
                found = chunk[position + FRAME_START_BYTES : end]
                if verify:
                    if zlib.crc32(found) != checksum:
                        self.problem = "frame does not match its checksum"
                        return False
                    if found_hash != running_hash:
                        self.problem = (
                            "running hash does not continue: a frame was edited, removed or exchanged"
                        )
                        return False
                    running_hash = hash_after(found)
                if kind not in _KINDS:
                    self.problem = f"frame of unknown kind {kind}"
                    return False
                body = found
                offset = base + position
                position = end
                count += 1
                if kind == KIND_SEAL:
                    self._check_seal(body[BODY_START_BYTES:], offset, count - 1)
                    self.sealed = True
                    return False
                self.offset = base + end
                self.running_hash = running_hash
                yield offset, partition, kind, body[BODY_START_BYTES:]
            return True
        finally:
            self.offset = base + position
            self.running_hash = running_hash if verify or not body else hash_after(body)
            if self.frames is not None:
                self.frames += count

    def _check_seal(self, payload: bytes, offset: int, frames: int) -> None:
        found = parse_seal(payload)
        before = None if self.frames is None else self.frames + frames
        if found is None or found[1] != offset or (before is not None and found[0] != before):
            raise Damaged(
                self.path, offset, f"seal {found} does not fit offset {offset}, {before} frames before it"
            )

    def tail_torn(self) -> str | None:
        """The reason why the tail is torn (see `torn`), "" when there is no tail, None when it is damage."""
        tail = self.tail()
        return torn_reason(tail, self.offset, self.running_hash) if tail else ""

    def tail(self) -> bytes:
        """The bytes after the last good frame, at most as many as `tail_torn` needs."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(GROUP_BYTES_MAX + 1)

    def damaged(self) -> Damaged:
        """The exception for the place where this scan stopped."""
        return Damaged(
            self.path, self.offset, self.problem or "segment ends without a seal but is not the last"
        )
