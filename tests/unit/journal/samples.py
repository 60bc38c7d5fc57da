"""Sample entries and journals: deterministic, and as small as a test needs."""

import asyncio
import hashlib
from pathlib import Path

from wallet_engine.domain.entry import ZERO_NONCE, EntryHeader, parse_header
from wallet_engine.journal import JournalWriter, Record, read
from wallet_engine.journal.copy import JournalCopy


def nonce(partition: int, seq: int, branch: str = "") -> str:
    """The nonce of entry `seq` in a partition's sample chain. Another `branch` gives another chain."""
    if seq == 0:
        return ZERO_NONCE
    return hashlib.sha256(f"{partition} {seq} {branch}".encode()).hexdigest()[:16]


def entry(
    partition: int, seq: int, *, epoch: int = 1, filling: int = 0, branch: str = "", prev: str | None = None
) -> tuple[bytes, EntryHeader]:
    """Entry `seq` of the sample chain. `filling`: characters that make it longer."""
    prev_nonce = nonce(partition, seq - 1, branch) if prev is None else prev
    txid = "AAAAAAAAAAAAAAAAAAAAAA"
    payload = (
        f"{seq} {prev_nonce} {nonce(partition, seq, branch)} {epoch} {1700000000000 + seq} 1 +\n"
        f"t {txid} alice{'x' * filling} bob {seq} USD\n"
    ).encode()
    return payload, parse_header(payload)


def append(writer: JournalWriter, partition: int, count: int, *, filling: int = 0, first: int = 0) -> None:
    """Append the next `count` sample entries of a partition. A new partition begins at seq 1, or at `first`."""
    start = first or writer.position(partition).seq + 1
    for seq in range(start, start + count):
        writer.append(partition, *entry(partition, seq, filling=filling))


def write(
    directory: Path, seqs: dict[int, int], *, filling: int = 0, segment_bytes_max: int = 1 << 28
) -> None:
    """Write and close a journal with entries 1 … seqs[p] of each partition, round robin, one group per round."""
    writer = JournalWriter(directory, "sample", segment_bytes_max=segment_bytes_max)
    for seq in range(1, max(seqs.values()) + 1):
        for partition, last in seqs.items():
            if seq <= last:
                writer.append(partition, *entry(partition, seq, filling=filling))
        writer.sync()
    writer.close()


def holds(writer: JournalWriter, partition: int, seq: int, text: str) -> bool:
    """Whether exactly this nonce is durable at this seq, at any age."""
    return asyncio.run(JournalCopy(writer).held([(partition, seq, text)]))[0]


def seqs_read(directory: Path, **options: object) -> dict[int, list[int]]:
    """Partition -> the seqs that `read` yields."""
    found: dict[int, list[int]] = {}
    record: Record
    for record in read(directory, **options):  # type: ignore[arg-type]
        found.setdefault(record.partition, []).append(parse_header(record.payload).seq)
    return found
