"""Checks whether journal copies hold the same entries, partition by partition, byte for byte.

16 bytes of SHA-256 are kept per entry and copy; a comparison needs that much memory.
"""

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wallet_engine.domain.errors import ConfigError, text_of
from wallet_engine.domain.paths import path_text
from wallet_engine.journal.copies_wire import (
    EntriesAsk,
    EntryTexts,
    More,
    Place,
    PlaceAsk,
    Standings,
    StateAsk,
)
from wallet_engine.journal.peers import Peer
from wallet_engine.journal.reader import read
from wallet_engine.routing.model import JournalInfo

#: How long one copy may take to send its next entries.
ENTRIES_S_MAX: Final = 60.0
_DIGEST_BYTES: Final = 16

#: partition -> digests of its entries, concatenated, from seq 1
Digests = Mapping[int, bytearray]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first entry of a partition at which a copy differs from the majority."""

    copy: str
    partition: int
    seq: int
    file: str
    offset: int


@dataclass(frozen=True, slots=True)
class CopiesCompared:
    """`entries`: copy -> how many it has; `behind`: copy -> entries that it lacks and another copy has."""

    entries: Mapping[str, int]
    behind: Mapping[str, int]
    differences: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        return not self.differences


def compare_directories(directories: Iterable[Path]) -> CopiesCompared:
    """Compare journal directories on this machine. Raises `Damaged` when one is damaged."""
    digests: dict[str, Digests] = {}
    for directory in directories:
        found: defaultdict[int, bytearray] = defaultdict(bytearray)
        for record in read(directory):
            found[record.partition] += _digest(record.payload)
        digests[path_text(directory)] = found
    return _result(
        digests,
        [
            Difference(copy, p, seq, *_place(Path(copy), p, seq))
            for copy, p, seq in _first_differences(digests)
        ],
    )


def _place(directory: Path, partition: int, seq: int) -> tuple[str, int]:
    record = next(read(directory, after={partition: seq - 1}, end={partition: seq}))
    return f"{record.segment:08d}.wal", record.offset


async def compare_live(copies: Iterable[JournalInfo]) -> CopiesCompared:
    """Compare live copies over the network. Raises `ConfigError` when one does not answer."""
    peers: list[Peer] = []
    try:
        for info in copies:
            try:
                peers.append(await Peer.connect(info.journal_id, info.address, "wallet-admin", info.tls))
            except (OSError, TimeoutError) as error:
                raise ConfigError(
                    f"journal copy {info.journal_id} at {info.address}: {text_of(error)}"
                ) from None
        digests = dict(
            zip([p.journal_id for p in peers], await asyncio.gather(*map(_fetched, peers)), strict=True)
        )
        by_name = {peer.journal_id: peer for peer in peers}
        differences = []
        for copy, partition, seq in _first_differences(digests):
            with _named(copy):
                place = await by_name[copy].ask(PlaceAsk(partition, seq), Place, ENTRIES_S_MAX)
            differences.append(Difference(copy, partition, seq, place.file, place.offset))
        return _result(digests, differences)
    finally:
        for peer in peers:
            peer.close()


@contextmanager
def _named(copy: str) -> Iterator[None]:
    """Turn the errors of questions to this copy into `ConfigError`."""
    try:
        yield
    except (OSError, TimeoutError) as error:
        raise ConfigError(f"journal copy {copy} stopped answering ({text_of(error)}): see its log") from None


async def _fetched(peer: Peer) -> Digests:
    found: defaultdict[int, bytearray] = defaultdict(bytearray)
    with _named(peer.journal_id):
        standings = (await peer.ask(StateAsk([]), Standings)).standings
        wants = [(standing.partition, 0, standing.seq) for standing in standings if standing.seq]
        answer = await peer.ask(EntriesAsk(wants), EntryTexts, ENTRIES_S_MAX)
        while True:
            for partition, payload in answer.entries:
                found[partition] += _digest(payload)
            if answer.done:
                return found
            answer = await peer.ask(More(), EntryTexts, ENTRIES_S_MAX)


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:_DIGEST_BYTES]


def _first_differences(digests: Mapping[str, Digests]) -> list[tuple[str, int, int]]:
    """(copy, partition, seq) of each copy in the minority; in a tie, of all copies."""
    differences = []
    for partition in sorted({partition for found in digests.values() for partition in found}):
        chains = {copy: found[partition] for copy, found in digests.items() if partition in found}
        index = _first_difference(list(chains.values()))
        if index is None:
            continue
        at = {
            copy: bytes(chain[index : index + _DIGEST_BYTES])
            for copy, chain in chains.items()
            if len(chain) > index
        }
        (most, count), *others = Counter(at.values()).most_common()
        tied = any(other == count for _, other in others)
        seq = index // _DIGEST_BYTES + 1
        differences += [(copy, partition, seq) for copy, digest in at.items() if tied or digest != most]
    return differences


def _first_difference(chains: list[bytearray]) -> int | None:
    """The lowest offset at which two chains have different entries; None without one."""
    longest = max(chains, key=len)
    found = []
    for chain in chains:
        if longest[: len(chain)] != chain:
            low, high = 0, len(chain) // _DIGEST_BYTES  # equal before low; different before high
            while high - low > 1:
                middle = (low + high) // 2
                same = longest[: middle * _DIGEST_BYTES] == chain[: middle * _DIGEST_BYTES]
                low, high = (middle, high) if same else (low, middle)
            found.append(low * _DIGEST_BYTES)
    return min(found, default=None)


def _result(digests: Mapping[str, Digests], differences: Iterable[Difference]) -> CopiesCompared:
    most = {p: max(len(found.get(p, b"")) for found in digests.values()) for f in digests.values() for p in f}
    behind = {
        copy: sum(length - len(found.get(p, b"")) for p, length in most.items()) // _DIGEST_BYTES
        for copy, found in digests.items()
    }
    entries = {copy: sum(map(len, found.values())) // _DIGEST_BYTES for copy, found in digests.items()}
    return CopiesCompared(entries, behind, tuple(differences))
