"""Decides which sealed segments may be removed from disk, and why the others must stay.

A segment may go when it is archived, older than the time to keep, and not needed soon: each of its entries is
final, every journal copy has it, every follower has taken it, and a checked snapshot replaces it. Segments go
from the oldest on, without gaps, so the first that must stay keeps all later ones.

    python -m wallet_engine.recovery.pruning DIRECTORY     which snapshots are good: partition -> seq, as JSON
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from wallet_engine.domain.errors import WalletError, WrongUsage, text_of
from wallet_engine.journal.archive import archived_up_to
from wallet_engine.journal.index import PartitionSpan, SegmentIndex
from wallet_engine.journal.prune import sealed_index
from wallet_engine.journal.segments import numbers_on_disk, segment_path
from wallet_engine.journal.snapshots import list_snapshots, newest_usable

_NICENESS: Final = 19
_UNITS_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_UNITS_BYTES: Final = {"": 1, "B": 1} | {
    f"{letter}{i}B": (1024 if i else 1000) ** power
    for power, letter in enumerate(("K", "M", "G", "T"), 1)
    for i in ("", "i")
}
_keep_match = re.compile(r"([0-9]{1,15})([A-Za-z]{0,3})\Z").match


@dataclass(frozen=True, slots=True)
class Keep:
    """What stays on disk in any case: the newest `bytes` bytes, or entries younger than `ms` milliseconds."""

    text: str
    bytes: int | None = None
    ms: int | None = None


def parse_keep(text: str) -> Keep:
    """`7d`, `12h`, `200GB`, `64GiB`, `1000000` (bytes). Raises `WrongUsage`."""
    match = _keep_match(text)
    if match is not None:
        count, unit = int(match[1]), match[2]
        if unit in _UNITS_MS:
            return Keep(text, ms=count * _UNITS_MS[unit])
        if unit in _UNITS_BYTES:
            return Keep(text, bytes=count * _UNITS_BYTES[unit])
    raise WrongUsage(
        f"--keep {text[:40]!r} is neither a duration such as 7d, 12h or 30m nor a size such as 500MB, 200GB or 64GiB"
    )


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about the need for a copy's segments; each mapping is partition -> seq.

    final      the last entry that is final and that this copy has
    snapshots  the entry of the newest snapshot that was found good
    followers  sink -> the last entry it has taken
    copies     every other copy that counts: journal id -> the last entry on its disk, None if it does not
    answer
    """

    final: Mapping[int, int]
    snapshots: Mapping[int, int]
    followers: Mapping[str, Mapping[int, int]]
    copies: Mapping[str, Mapping[int, int] | None]


@dataclass(frozen=True, slots=True)
class Pruning:
    """`numbers`: the segments that may go, oldest first.

    `held`: why the next may not; "" if `Keep` keeps it.
    """

    numbers: tuple[int, ...]
    bytes: int
    held: str


def beyond_keep(directory: Path, keep: Keep, now_ms: int) -> Iterator[tuple[int, int, SegmentIndex]]:
    """(number, bytes, index) of the sealed segments that `keep` does not cover, oldest first.

    Raises `Damaged`.
    """
    numbers = numbers_on_disk(directory)
    sizes = {number: segment_path(directory, number).stat().st_size for number in numbers}
    left = sum(sizes.values())
    for number in numbers[:-1]:
        left -= sizes[number]
        if keep.bytes is not None and left < keep.bytes:
            return
        index = sealed_index(directory, number)
        newest_ms = max((span.last_time_ms for span in index.partitions.values()), default=0)
        if keep.ms is not None and newest_ms > now_ms - keep.ms:
            return
        yield number, sizes[number], index


def plan_pruning(directory: Path, keep: Keep, facts: Facts, now_ms: int) -> Pruning:
    """Which segments may go now. Raises `Damaged`."""
    numbers: list[int] = []
    size = 0
    archived = archived_up_to(directory)
    for number, segment_bytes, index in beyond_keep(directory, keep, now_ms):
        name = segment_path(directory, number).name
        if number > archived:
            return Pruning(tuple(numbers), size, f"{name} is not archived yet")
        for partition, span in index.partitions.items():
            held = _holder(partition, span, facts)
            if held:
                last = f"its last entry of partition {partition} is {span.last_seq}"
                return Pruning(tuple(numbers), size, f"{name}: {last}, {held}")
        numbers.append(number)
        size += segment_bytes
    return Pruning(tuple(numbers), size, "")


def _holder(partition: int, span: PartitionSpan, facts: Facts) -> str:
    """Why entries of this partition are still needed up to the end of the span; "" if they are not."""
    if facts.final.get(partition, 0) < span.last_seq:
        return f"and no quorum is known to have more than {facts.final.get(partition, 0)}"
    for name, has in facts.copies.items():
        if has is None:
            return f"and journal copy {name} does not answer: start it, or replace it"
        if has.get(partition, 0) < span.last_seq:
            return f"and journal copy {name} has {has.get(partition, 0)}"
    if partition not in facts.snapshots:
        return "and there is no good snapshot of the partition: wallet-admin snapshot"
    if facts.snapshots[partition] < span.last_seq:
        return f"and the newest good snapshot is of entry {facts.snapshots[partition]}: wallet-admin snapshot"
    for sink, taken in facts.followers.items():
        if taken.get(partition, 0) < span.last_seq:
            return f"and follower {sink} has taken {taken.get(partition, 0)}"
    return ""


def good_snapshots(
    directory: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[int, int]:
    """partition -> seq of its newest snapshot that is whole and of this journal. Reads each completely.

    `progress(partitions_done, partitions)` is called before each.
    """
    found: dict[int, int] = {}
    listed = list_snapshots(directory)
    for done, (partition, paths) in enumerate(listed.items()):
        progress(done, len(listed))
        snapshot, _ = newest_usable(directory, paths)
        if snapshot is not None:
            with snapshot:
                found[partition] = snapshot.head.seq
    return found


def main(journal: Path) -> int:
    """Print `good_snapshots` as JSON. Returns the exit status."""
    os.nice(_NICENESS)
    try:
        print(msgspec.json.encode(good_snapshots(journal)).decode())
    except (WalletError, OSError) as error:
        print(text_of(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
