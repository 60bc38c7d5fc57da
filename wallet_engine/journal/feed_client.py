"""Follows a cluster's journal over the port of its copies (`feed_wire`): one copy at a time, another when it
fails.

A copy sends the bytes of its files, with all partitions mixed, and the last final entry of each partition.
The client checks checksums and running hash. It neither gives nor keeps entries that are not final yet: it
reads them again once more is final, because a recovery may have taken them back meanwhile.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from wallet_engine.domain.errors import Outage, WalletError, text_of
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.feed import Feed, FeedEntry, FeedPosition, Followed, Reached, furthest
from wallet_engine.journal.feed_wire import (
    FEED_BYTES_MAX,
    BroughtAsk,
    BroughtBy,
    Ended,
    EndsAsk,
    FeedBytes,
    FollowerHello,
    Locate,
    Located,
    ReadAsk,
)
from wallet_engine.journal.format import KIND_ENTRY, SEGMENT_HEADER_BYTES
from wallet_engine.journal.peers import Peer
from wallet_engine.journal.scan import Scan
from wallet_engine.telemetry.logging import get_logger

#: Bytes asked for at once; for a larger frame it asks again with the largest size that a frame may have.
READ_BYTES: Final = 256 * 1024
#: Maximum time for an answer with bytes; the copy may first have to restore the segment from the archive.
READ_S_MAX: Final = 60.0
#: A copy that is alive answers a question for news within a second.
NEWS_S_MAX: Final = 10.0
#: Maximum bytes to read again for partitions whose entries wait to become final. If it would be more, their
#: place is located again once the entries are final.
AGAIN_BYTES_MAX: Final = 4 * 1024 * 1024
#: How long a copy may have nothing new before the client asks the other copies.
STALE_S: Final = 3.0
#: Wait between attempts to find a copy that answers.
RETRY_S_MIN: Final = 0.1
RETRY_S_MAX: Final = 2.0
#: Maximum damaged answers in a row: bytes read during a rewrite of the copy's segments look damaged.
DAMAGED_MAX: Final = 6


class CopyAddress(NamedTuple):
    """The address of a live copy, and what it announced about TLS."""

    address: str
    tls: str = ""


#: The live copies, by id.
Copies = Callable[[], Awaitable[Mapping[str, CopyAddress]]]

log = get_logger(__name__)


class _Behind(OSError):
    """Another copy has more final entries."""


class FeedClient(Feed):
    """See the module. Each `follow` has a connection of its own."""

    def __init__(self, copies: Copies, name: str) -> None:
        """`copies()` is called for each attempt to find a copy; the copies' logs show `name`."""
        self._copies = copies
        self._hello = FollowerHello(name)

    def __repr__(self) -> str:
        return f"<FeedClient {self._hello.name}>"

    async def answers(self) -> Mapping[str, Mapping[int, int]]:
        return {name: dict(ended.ends) for name, ended in (await self._asked()).items()}

    async def reached(self) -> Reached:
        asked = (await self._asked()).values()
        final = furthest({str(number): dict(ended.ends) for number, ended in enumerate(asked)})
        later = (end for ended in asked for end in ended.later)
        return Reached(final, frozenset(p for p, seq in later if seq > final.get(p, 0)))

    async def _asked(self) -> Mapping[str, Ended]:
        copies = await self._addresses()
        found = await asyncio.gather(
            *(self._ends_at(*copy) for copy in copies.items()), return_exceptions=True
        )
        answers = {name: ended for name, ended in zip(copies, found, strict=True) if isinstance(ended, Ended)}
        if not answers:
            raise Outage("journal_unavailable", f"none of {len(copies)} journal copies answers")
        return answers

    async def brought(self, partition: int, nonce: str) -> Mapping[str, Sequence[str]]:
        found: dict[str, Sequence[str]] = {}
        for name, address in (await self._addresses()).items():
            with suppress(OSError, TimeoutError):
                peer = await Peer.connect(name, address.address, self._hello, address.tls)
                try:
                    found[name] = (await peer.ask(BroughtAsk(partition, nonce), BroughtBy)).who
                finally:
                    peer.close()
        return {name: who for name, who in found.items() if who}

    async def _addresses(self) -> Mapping[str, CopyAddress]:
        try:
            return await self._copies()
        except WalletError as error:
            raise Outage("journal_unavailable", f"journal copies are not known: {text_of(error)}") from error

    async def _ends_at(self, journal_id: str, at: CopyAddress) -> Ended:
        peer = await Peer.connect(journal_id, at.address, self._hello, at.tls)
        try:
            return await peer.ask(EndsAsk(), Ended)
        finally:
            peer.close()

    async def follow(self, after: Mapping[int, FeedPosition]) -> AsyncGenerator[Sequence[FeedEntry], None]:
        followed = Followed(after)
        avoid: str | None = None
        damaged = 0
        delay_s = RETRY_S_MIN
        while True:
            peer = await self._connect(avoid)
            if peer is None:
                avoid = None
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
                delay_s = min(2 * delay_s, RETRY_S_MAX)
                continue
            why: WalletError | OSError
            try:
                async with aclosing(_Reading(peer, followed, self._ahead).batches()) as batches:
                    async for batch in batches:
                        damaged, delay_s, avoid = 0, RETRY_S_MIN, None
                        yield batch
            except Damaged as error:
                damaged += 1
                if damaged >= DAMAGED_MAX:
                    raise
                why = error
            except OSError as error:
                why = error
            finally:
                peer.close()
            avoid = peer.journal_id
            log.info("looks for another journal copy", instead_of=avoid, why=text_of(why))
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(2 * delay_s, RETRY_S_MAX)

    async def _connect(self, avoid: str | None) -> Peer | None:
        """Connect to any copy that answers; to `avoid` only when no other does."""
        try:
            copies = await self._addresses()
        except Outage as error:
            log.warning("waits for the journal", why=text_of(error))
            return None
        names = sorted(copies, key=lambda name: (name == avoid, random.random()))
        for name in names:
            with suppress(OSError):
                return await Peer.connect(name, copies[name].address, self._hello, copies[name].tls)
        return None

    async def _ahead(self, peer: Peer, followed: Followed) -> bool:
        """Whether another copy has more final entries of the followed partitions."""
        with suppress(OSError, WalletError):
            copies = {name: at for name, at in (await self._copies()).items() if name != peer.journal_id}
            for name, address in copies.items():
                with suppress(OSError):
                    ends = dict((await self._ends_at(name, address)).ends)
                    if any(ends.get(p, 0) > at.seq for p, at in followed.positions.items()):
                        return True
        return False


@dataclass(frozen=True, slots=True)
class _Place:
    """The place before a frame in one copy's files."""

    segment: int
    offset: int
    running_hash: bytes


class _Reading:
    """Reads one copy's entries from the follower's position on."""

    def __init__(
        self, peer: Peer, followed: Followed, ahead: Callable[[Peer, Followed], Awaitable[bool]]
    ) -> None:
        self._peer = peer
        self._followed = followed
        self._ahead = ahead
        self._ends: dict[int, int] = {}
        self._at = _Place(0, 0, b"")
        #: The place before the first entry that is not final yet, the bytes read since, and the partitions
        #: with such entries: their later entries are skipped until reading starts again from that place.
        self._held: _Place | None = None
        self._since_held = 0
        self._waiting: set[int] = set()
        #: Partitions for which that place is too far back: they are located again once more of them is final.
        self._parked: set[int] = set()

    def __repr__(self) -> str:
        return f"<_Reading {self._peer!r} {self._at} waiting={len(self._waiting)} parked={len(self._parked)}>"

    async def batches(self) -> AsyncGenerator[list[FeedEntry], None]:
        """Raises OSError, `Damaged`, `Fork`, `Corruption`."""
        loop = asyncio.get_running_loop()
        await self._locate()
        new_s = loop.time()
        size, news = READ_BYTES, False
        while True:
            answer = await self._peer.ask(
                ReadAsk(self._at.segment, self._at.offset, size, news),
                FeedBytes,
                NEWS_S_MAX if news else READ_S_MAX,
            )
            self._ends |= answer.ends
            before = self._at
            batch = self._take(answer.data)
            if batch:
                new_s = loop.time()
                yield batch
            news = False
            if answer.at_end:
                news = await self._turn_back()
                size = READ_BYTES
            elif self._at != before:
                size = READ_BYTES
            elif size < FEED_BYTES_MAX:
                size = FEED_BYTES_MAX
            else:
                raise Damaged(self._path(), self._at.offset, "ends in the middle")
            if news and loop.time() >= new_s + STALE_S:
                await self._give_up_if_stale()
                new_s = loop.time()

    async def _turn_back(self) -> bool:
        """At the end of the copy's data, go back to what must be read again.

        Returns whether only new entries can help.
        """
        missing = {p for p, at in self._followed.positions.items() if self._ends.get(p, 0) > at.seq}
        if self._held is not None and self._since_held <= AGAIN_BYTES_MAX:
            self._at = self._held
        else:
            self._parked |= self._waiting
            if missing:
                if not missing <= self._parked:
                    raise OSError(f"{self._peer.journal_id} did not send entries that it said it has")
                await self._locate()
                return False
        self._held, self._since_held = None, 0
        self._waiting.clear()
        return not missing

    async def _give_up_if_stale(self) -> None:
        """Raises `_Behind` if others have more and this copy, asked once more, still has nothing new."""
        if not await self._ahead(self._peer, self._followed):
            return
        ends = dict((await self._peer.ask(EndsAsk(), Ended)).ends)
        if not any(ends.get(p, 0) > at.seq for p, at in self._followed.positions.items()):
            raise _Behind(f"{self._peer.journal_id} is behind the others")

    async def _locate(self) -> None:
        seqs = self._followed.seqs()
        found = await self._peer.ask(Locate(list(seqs.items())), Located, READ_S_MAX)
        self._at = _Place(found.segment, found.offset, found.running_hash)
        self._ends = {}
        self._held, self._since_held = None, 0
        self._waiting.clear()
        self._parked.clear()

    def _path(self) -> Path:
        return Path(self._peer.journal_id) / f"{self._at.segment:08d}.wal"

    def _take(self, data: bytes) -> list[FeedEntry]:
        """The final, new entries in these bytes. Moves the place behind the last whole frame."""
        batch: list[FeedEntry] = []
        positions, ends, passed = self._followed.positions, self._ends, self._waiting | self._parked
        scan = Scan(self._path(), self._at.offset, self._at.running_hash, frames=None)
        before = self._at.running_hash
        for offset, partition, kind, payload in scan.frames_of(data):
            if kind == KIND_ENTRY and partition in positions and partition not in passed:
                try:
                    seq = int(payload[: payload.find(b" ")])
                except ValueError:
                    raise Damaged(scan.path, offset, f"not a journal entry: {payload[:120]!r}") from None
                if seq > positions[partition].seq:
                    if seq <= ends.get(partition, 0):
                        batch.append(self._followed.take(partition, payload))
                    else:
                        self._waiting.add(partition)
                        if self._held is None:
                            self._held = replace(self._at, offset=offset, running_hash=before)
            before = scan.running_hash
        if scan.problem is not None and not batch:  # else the next attempt finds it again
            raise scan.damaged()
        if self._held is not None:
            self._since_held += scan.offset - self._at.offset
        if scan.sealed:
            self._at = _Place(self._at.segment + 1, SEGMENT_HEADER_BYTES, scan.running_hash)
        else:
            self._at = replace(self._at, offset=scan.offset, running_hash=scan.running_hash)
        return batch
