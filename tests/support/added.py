"""Entries that no script has decided, written to the end of a journal whose process is not running."""

from pathlib import Path

from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import RULES, parse_header
from wallet_engine.domain.operation import parse_operation
from wallet_engine.journal import read
from wallet_engine.journal.writer import JournalWriter


def add_entries(directory: Path, partition: int, *rows: str) -> int:
    """Write entries of one operation each after the partition's last one; returns the seq of the first."""
    last = [parse_header(record.payload) for record in read(directory, partitions={partition})][-1]
    writer = JournalWriter(directory, "j1")
    try:
        for number, row in enumerate(rows, 1):
            head = last._replace(
                seq=last.seq + number,
                prev_nonce=last.nonce if number == 1 else f"{number - 1:016x}",
                nonce=f"{number:016x}",
                outcomes=row[0],
                rules=RULES,
            )
            payload = f"{head.text()}\n".encode() + pack([parse_operation(row[2:])]).columns
            writer.append(partition, payload, parse_header(payload))
        writer.sync()
    finally:
        writer.close()
    return last.seq + 1
