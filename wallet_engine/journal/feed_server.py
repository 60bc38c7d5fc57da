"""Answers followers (`feed_wire`) from a copy's files: which entries are final, and the bytes of the files.

For a follower the copy only reads a file, in a separate thread, and checks the ends of its partitions; the
follower parses the frames. During payments, all followers together get a limited number of bytes per second.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from wallet_engine.journal.brought import Brought
from wallet_engine.journal.copies_wire import Answer, Question
from wallet_engine.journal.feed_wire import (
    FEED_BYTES_MAX,
    NEWS_S_MAX,
    BroughtAsk,
    BroughtBy,
    Ended,
    EndsAsk,
    FeedBytes,
    Locate,
    Located,
    ReadAsk,
)
from wallet_engine.journal.format import SEGMENT_HEADER_BYTES
from wallet_engine.journal.index import SegmentIndex, start_mark
from wallet_engine.journal.reader import index_of_segment
from wallet_engine.journal.segments import (
    read_segment_header,
    segment_file,
    segment_numbers,
    segment_path,
)
from wallet_engine.journal.threads import in_archive_thread, in_thread

#: Maximum age of the known ends.
ENDS_S_MAX: Final = 0.05
#: Maximum bytes per second for all followers together during payments: more than any follower processes, and
#: some hundredths of the time of a copy's loop.
BESIDE_BYTES_PER_S_MAX: Final = 32 * 1024 * 1024
#: How long after the last entry payments count as going on.
PAYMENTS_S: Final = 0.5
#: Partitions checked in one turn of the event loop.
_TURN_PARTITIONS_MAX: Final = 128


class Journaled(Protocol):
    """What the server needs of a `JournalWriter`."""

    @property
    def directory(self) -> Path: ...

    @property
    def durable_place(self) -> tuple[int, int]: ...

    def partitions(self) -> list[int]: ...

    def durable_seq(self, partition: int) -> int: ...

    def appended_seq(self, partition: int) -> int: ...

    def last_index(self) -> SegmentIndex: ...


class FeedServer:
    """The state that all followers of one copy share."""

    def __init__(
        self,
        journal: Journaled,
        quorum_seq: Callable[[int], int] | None = None,
        brought: Brought | None = None,
    ) -> None:
        """`quorum_seq(partition)`: the last seq that a quorum of the copies has now, 0 when unknown. Without
        it, this copy is the quorum.
        """
        self.journal = journal
        self.brought = brought or Brought()
        self._quorum_seq = quorum_seq
        #: partition -> seq of the last entry known to be final, and durable in this copy.
        self.ends: dict[int, int] = {}
        self._looked_s = self._news_s = self._free_s = float("-inf")
        self._looking = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<FeedServer partitions={len(self.ends)} entries={sum(self.ends.values())}>"

    async def look(self) -> None:
        """Update `ends` if they are old.

        Final entries stay final, even when copies are away or behind now.
        """
        loop = asyncio.get_running_loop()
        async with self._looking:
            if loop.time() < self._looked_s + ENDS_S_MAX:
                return
            for count, partition in enumerate(self.journal.partitions(), 1):
                own = self.journal.durable_seq(partition)
                known = self.ends.get(partition, 0)
                if own > known:
                    self._news_s = loop.time()
                    end = own if self._quorum_seq is None else min(own, self._quorum_seq(partition))
                    if end > known:
                        self.ends[partition] = end
                if not count % _TURN_PARTITIONS_MAX:
                    await asyncio.sleep(0)
            self._looked_s = loop.time()

    def later(self) -> list[tuple[int, int]]:
        """(partition, seq) of the last entry of each partition that has one behind its end."""
        journal, ends = self.journal, self.ends
        lasts = ((partition, journal.appended_seq(partition)) for partition in journal.partitions())
        return [(partition, seq) for partition, seq in lasts if seq > ends.get(partition, 0)]

    def rest_s(self) -> float:
        """Seconds until bytes may be sent again; 0 without payments."""
        return max(0.0, self._free_s - asyncio.get_running_loop().time()) if self._paying else 0.0

    def given(self, count: int) -> None:
        """Count bytes that were sent to a follower during payments: those of before need no rest now."""
        now_s = asyncio.get_running_loop().time()
        self._free_s = max(now_s, self._free_s) + count / BESIDE_BYTES_PER_S_MAX if self._paying else now_s

    @property
    def _paying(self) -> bool:
        return asyncio.get_running_loop().time() < self._news_s + PAYMENTS_S


class FeedSession:
    """One follower's connection."""

    def __init__(self, server: FeedServer) -> None:
        self._server = server
        self._told: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<FeedSession partitions={len(self._told)}>"

    async def answer(self, question: Question) -> Answer:
        """Answer one question. Raises `WalletError` and OSError, which end the connection."""
        await self._server.look()
        match question:
            case Locate(after):
                return await self._locate(dict(after))
            case ReadAsk():
                return await self._read(question)
            case BroughtAsk(partition, nonce):
                return BroughtBy(self._server.brought.by_whom(partition, nonce))
            case EndsAsk():
                return Ended(list(self._server.ends.items()), self._server.later())
            case _:
                raise OSError("not a question of a follower")

    async def _locate(self, after: dict[int, int]) -> Located:
        journal = self._server.journal
        self._told = dict.fromkeys(after, 0)
        behind = {partition: seq for partition, seq in after.items() if journal.durable_seq(partition) > seq}
        return await in_thread(locate, journal.directory, behind, journal.last_index())

    async def _read(self, ask: ReadAsk) -> FeedBytes:
        if ask.news:
            await self._news()
        ends = [
            (partition, end)
            for partition, told in self._told.items()
            if (end := self._server.ends.get(partition, 0)) > told
        ]
        self._told |= ends
        newest, durable_offset = self._server.journal.durable_place
        size = max(0, min(ask.bytes_max, FEED_BYTES_MAX))
        if ask.segment >= newest:
            size = max(0, min(size, durable_offset - ask.offset)) if ask.segment == newest else 0
        data = await self._bytes(ask, size) if size else b""
        at_end = ask.segment >= newest and ask.offset + len(data) >= durable_offset
        return FeedBytes(data, at_end, ends)

    async def _bytes(self, ask: ReadAsk, size: int) -> bytes:
        if rest_s := self._server.rest_s():
            await asyncio.sleep(rest_s)
        directory = self._server.journal.directory
        path = segment_path(directory, ask.segment)
        if not path.exists():
            path = await in_archive_thread(segment_file, directory, ask.segment)
        data = await in_thread(_read_bytes, path, ask.offset, size)
        self._server.given(len(data))
        return data

    async def _news(self) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + NEWS_S_MAX
        while True:
            ends = self._server.ends
            if any(ends.get(partition, 0) > told for partition, told in self._told.items()):
                return
            if loop.time() >= until_s:
                return
            await asyncio.sleep(ENDS_S_MAX)
            await self._server.look()

    def close(self) -> None:
        self._told = {}


def _read_bytes(path: Path, offset: int, size: int) -> bytes:
    """Read from a file that is opened anew each time, because a rewritten segment keeps its name."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, size, offset)
    finally:
        os.close(fd)


def locate(directory: Path, behind: Mapping[int, int], last: SegmentIndex) -> Located:
    """A place from which reading meets every entry of these partitions behind these seqs. Blocks.

    Each of the partitions must have such an entry. `last`: the index of the segment that is being written, as
    it would be now. Raises `Damaged`, `OSError`.
    """
    missing = dict(behind)
    start, start_index = last.segment, last
    for number in reversed(segment_numbers(directory)):
        if not missing or number > last.segment:
            break
        index = index_of_segment(directory, number, last)
        if index is None:
            start = number
            continue
        spans = index.partitions
        if any(spans[partition].last_seq > seq for partition, seq in missing.items() if partition in spans):
            start, start_index = number, index
        missing = {
            partition: seq
            for partition, seq in missing.items()
            if partition not in spans or spans[partition].first_seq > seq + 1
        }
    mark = None
    if start == start_index.segment:
        here = {partition: seq for partition, seq in behind.items() if partition in start_index.partitions}
        mark = start_mark(start_index, here)
    if mark is None:
        return Located(start, SEGMENT_HEADER_BYTES, read_segment_header(directory, start).start_hash)
    return Located(start, mark.offset, bytes.fromhex(mark.running_hash))
